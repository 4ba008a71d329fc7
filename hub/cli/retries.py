"""Commands that take failed runs up again: `hub runs retry`, `hub runs answer`."""

from __future__ import annotations

import getpass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.inspect import runs
from hub.cli.output import AsJson, confirm, counted, note, print_json, say, show_table

if TYPE_CHECKING:
    from hub.process import Hub
    from hub.retries import Preview, Retried

_COLUMNS = {"run": "run", "contact": "contact", "step": "step", "next": "next", "to": "to", "input": "with", "note": ""}
_TIME = "RFC 3339, or a duration such as 2h: so long ago."


class Outcome(StrEnum):
    """Why runs may be retried."""

    FAILED = "failed"
    UNKNOWN = "unknown"
    POISON = "poison"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the group `hub runs`, which is there already."""
    runs.command("retry")(retry)
    runs.command("answer")(answer)


def retry(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One run; else all that fit the options.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Of this recipe only.")] = None,
    version: Annotated[int | None, typer.Option(help="Of this version only.")] = None,
    step: Annotated[str | None, typer.Option(help="That ended at this step (its id, or its path).")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="Whose reason contains this.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="That ended so only.")] = None,
    started_after: Annotated[str | None, typer.Option(metavar="TIME", help=_TIME)] = None,
    started_before: Annotated[str | None, typer.Option(metavar="TIME", help=_TIME)] = None,
    finished_after: Annotated[str | None, typer.Option(metavar="TIME", help=_TIME)] = None,
    finished_before: Annotated[str | None, typer.Option(metavar="TIME", help=_TIME)] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="As new runs; what was done before counts as done.")
    ] = False,
    newest: Annotated[
        bool, typer.Option("--newest", help="On the newest version, not the one each run began with.")
    ] = False,
    include_unknown: Annotated[
        bool, typer.Option("--include-unknown", help="Also calls of which nobody knows whether they were made.")
    ] = False,
    repeat_effects: Annotated[
        bool, typer.Option("--repeat-effects", help="With --from-start: do again what was done before.")
    ] = False,
    first: Annotated[int | None, typer.Option(min=1, help="Only the oldest so many; the rest stays as it is.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take up runs that failed, were set aside as poison, or have an effect whose outcome is not known.

    Shows first what would be called. By default each run goes on from the step it failed at, on the version it began with;
    what was done is never done again, and consent is asked again before each message.
    """
    from hub.retries import How
    from hub.store.retries import Selection

    if repeat_effects and not from_start:
        raise typer.BadParameter("--repeat-effects belongs to --from-start")
    how = How(from_start=from_start, newest=newest, include_unknown=include_unknown, repeat_effects=repeat_effects)

    async def select(hub: Hub) -> Selection:
        from hub.retries import instant_ms

        await hub.time.sync()
        now_ms = hub.clock.now_ms()
        return Selection(
            run=run_id,
            recipe=recipe,
            version=version,
            step=step,
            error=error,
            outcome=outcome.value if outcome else None,
            started_after_ms=instant_ms(started_after, now_ms),
            started_before_ms=instant_ms(started_before, now_ms),
            finished_after_ms=instant_ms(finished_after, now_ms),
            finished_before_ms=instant_ms(finished_before, now_ms),
        )

    async def look(hub: Hub) -> Preview:
        return await hub.retries.preview(await select(hub), how, first=first)

    async def act(hub: Hub) -> Retried:
        done = await hub.retries.retry(await select(hub), how, first=first, who=getpass.getuser())
        hub.ring()
        return done

    found = with_hub(look)
    if dry_run and as_json:
        print_json(vars(found))
        return
    if not as_json:
        _show(found)
    if dry_run or not found.selected:
        return
    confirm("Retry them?", yes=yes)
    done = with_hub(act)
    if as_json:
        print_json(vars(done))
        return
    say(f"retrying {counted(len(done.runs), 'run')}")
    if first is not None and len(done.runs) == first:
        note(
            "the others stay as they are: look at these with `hub runs show`, then run the same command without --first"
        )


def _show(found: Preview) -> None:
    if not found.selected:
        note("there is no such run to retry")
        return
    show_table(found.rows, _COLUMNS)
    if found.selected > len(found.rows):
        note(f"and {found.selected - len(found.rows)} more")
    for action, count in sorted(found.actions.items()):
        say(f"{count} × {action}")
    if found.doubts:
        say(f"{found.doubts} may be done twice", style="bold yellow")
    for reason, count in sorted(found.left.items()):
        say(f"{count} left: {reason}")


def answer(
    run_id: Annotated[str, typer.Argument(metavar="ID")],
    done: Annotated[bool | None, typer.Option("--done/--not-done", help="Whether the call was made.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a run that asks (`on_unknown: ask`) whether its last call was made: it goes on, or may call again."""
    if done is None:
        raise typer.BadParameter("say --done or --not-done, after looking at the vendor")

    async def act(hub: Hub) -> None:
        await hub.time.sync()
        await hub.retries.answer(run_id, done=bool(done), who=getpass.getuser())
        hub.ring()

    with_hub(act)
    if as_json:
        print_json({"run": run_id, "status": "ready"})
    else:
        say("the run goes on" if done else "the run may call again")
