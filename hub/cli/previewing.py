"""`hub recipes preview`: what a recipe would say to a real person, for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.finding import NameOrFile, find
from hub.cli.output import AsJson, note, print_json, say

if TYPE_CHECKING:
    from hub.previews import MessagePreview, Preview, StepPreview
    from hub.process import Hub


def add_to(app: typer.Typer) -> None:
    """Add this command to the group."""
    app.command("preview")(preview)


def preview(
    name: NameOrFile,
    contact: Annotated[
        str, typer.Option("--contact", metavar="ID|EMAIL|PHONE", help="The person to write the texts for.")
    ],
    event: Annotated[
        str | None, typer.Option("--event", metavar="ID", help="A stored event instead of made-up trigger data.")
    ] = None,
    step: Annotated[str | None, typer.Option("--step", metavar="STEP", help="This action only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every text and input of a recipe's actions for a real person, with consent, purpose and address; sends nothing.

    What comes from steps that have not run stands as its name in brackets, such as steps.mail.id.
    """
    found = with_hub(lambda hub: _previewed(hub, name, contact, event, step))
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


async def _previewed(hub: Hub, name: str, contact: str, event: str | None, step: str | None) -> Preview:
    from hub.cli.finding import is_file
    from hub.previews import Previewer

    found = await find(hub, name)
    previous = None if is_file(name) else await hub.library.published_definition(name)
    previewer = Previewer(hub.store, hub.connections, hub.plugins.catalogue, hub.clock)
    return await previewer.preview(
        found.source,
        found.purposes,
        contact=contact,
        event=event,
        step=step,
        file=found.file or name,
        previous=previous,
    )


def _show(found: Preview) -> None:
    about = f"with the event {found.event}" if found.event else f"with a made-up {found.trigger}"
    say(f"{found.recipe} for {found.contact}, {about}", style="bold")
    for one in found.notes:
        note(one)
    for step in found.steps:
        _show_step(step)
    if not found.steps:
        note("this recipe calls nothing")


def _show_step(step: StepPreview) -> None:
    by = f" ({step.action})" if step.does != step.action else ""
    say("", f"{step.step}: {step.does}{by} over {step.connection}")
    if step.message is not None:
        _show_message(step.message)
    for name, value in step.input.items():
        say(f"  {name}: {value}")
    if step.open:
        say(f"  open until earlier steps have run: {', '.join(step.open)}", style="dim")
    for problem in step.problems:
        say(f"  would fail: {problem}", style="red")


def _show_message(message: MessagePreview) -> None:
    to = message.to or "nobody yet"
    word = {True: "would be sent", False: "would not be sent", None: "not known yet"}[message.allowed]
    style = {True: "green", False: "yellow", None: "dim"}[message.allowed]
    say(f"  {message.channel} to {to} for {message.purpose}: {word}, {message.reason}", style=style)
