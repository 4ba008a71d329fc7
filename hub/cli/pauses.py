"""Commands that stop calls and let them go on: `hub pause`, `hub resume`, `hub pauses`. They need no running hub."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import hub_clock, open_existing_store, run
from hub.cli.output import AsJson, confirm, counted, print_json, say, show_list

if TYPE_CHECKING:
    from hub.events import Json
    from hub.pauses import Ended, Pauses
    from hub.store.pauses import Held, Pause

_PANEL = "Operate"

All = Annotated[bool, typer.Option("--all", help="Every call of this hub.")]
Recipe = Annotated[str | None, typer.Option(metavar="NAME", help="The calls of this recipe's runs.")]
Connection = Annotated[str | None, typer.Option(metavar="NAME", help="The calls to this connection.")]
Channel = Annotated[str | None, typer.Option(metavar="NAME", help="Messages by this channel, such as sms.")]
Purpose = Annotated[str | None, typer.Option(metavar="NAME", help="Messages for this purpose.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel=_PANEL)(pause)
    app.command(rich_help_panel=_PANEL)(resume)
    app.command("pauses", rich_help_panel=_PANEL)(list_pauses)


def pause(
    reason: Annotated[str, typer.Option(help="Why; whoever finds the runs waiting reads it.")],
    everything: All = False,
    recipe: Recipe = None,
    connection: Connection = None,
    channel: Channel = None,
    purpose: Purpose = None,
    as_json: AsJson = False,
) -> None:
    """Make no more calls, in any process, from two seconds on at the latest; events are still taken in and waits still end.

    Runs go on to their next call and wait there until `hub resume`. `hub recipes pause` is something else: it starts no
    new runs and lets those inside go on.
    """
    kind, target = _one(everything, recipe, connection, channel, purpose)

    from hub.pauses import view

    async def act() -> Pause:
        async with _pauses() as pauses:
            return await pauses.pause(kind, target, reason=reason, who=getpass.getuser())

    made = run(act())
    if as_json:
        print_json(view(made))
        return
    say(f"{made.about} is paused: no call begins later than two seconds from now; `hub resume` lets them go on")


def resume(
    everything: All = False,
    recipe: Recipe = None,
    connection: Connection = None,
    channel: Channel = None,
    purpose: Purpose = None,
    expire_older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Runs that waited longer, such as 2h, skip that call and go on."),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/UNIT", help="So many per s, min or h become due, such as 100/min.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let paused calls go on, after saying how many wait and how many have waited too long."""
    from hub.pauses import every_ms, view

    kind, target = _one(everything, recipe, connection, channel, purpose)
    older_ms = _duration_ms(expire_older_than)
    apart_ms = every_ms(rate) if rate else None

    async def look() -> tuple[Pause, Held]:
        async with _pauses() as pauses:
            found = await pauses.find(kind, target)
            return found, await pauses.held(found, expire_older_ms=older_ms)

    async def act(found: Pause) -> Ended:
        async with _pauses() as pauses:
            return await pauses.resume(found, expire_older_ms=older_ms, every_ms=apart_ms)

    found, held = run(look())
    if dry_run and as_json:
        print_json({**view(found), **vars(held)})
        return
    if not as_json:
        say(*_described(found, held, expire_older_than, apart_ms))
    if dry_run:
        return
    confirm("Let them go on?", yes=yes)
    ended = run(act(found))
    if as_json:
        print_json({**view(found), "released": ended.released, "late": ended.late})
        return
    say(f"{found.about} goes on: {ended.released} released, {ended.late} of them too late for their call")


def list_pauses(as_json: AsJson = False) -> None:
    """What is paused, by whom, why, and how much waits."""

    from hub.pauses import view

    async def find() -> list[dict[str, Json]]:
        async with _pauses() as pauses:
            return [{**view(one), **vars(await pauses.held(one))} for one in await pauses.known.current()]

    columns = {"about": "paused", "who": "by", "reason": "why", "at": "since (UTC)", "runs": "runs waiting"}
    show_list(run(find()), columns, as_json=as_json, empty="nothing is paused")


def _one(
    everything: bool, recipe: str | None, connection: str | None, channel: str | None, purpose: str | None
) -> tuple[str, str]:
    """The kind and name of the one thing that is meant."""
    given = [("all", "")] if everything else []
    named = {"recipe": recipe, "connection": connection, "channel": channel, "purpose": purpose}
    given += [(kind, name) for kind, name in named.items() if name is not None]
    if len(given) != 1:
        raise typer.BadParameter("say exactly one of --all, --recipe, --connection, --channel, --purpose")
    return given[0]


def _described(pause: Pause, held: Held, older_than: str | None, apart_ms: float | None) -> list[str]:
    from hub.pauses import view

    lines = [
        f"{pause.about} is paused since {view(pause)['at']} by {pause.who}: {pause.reason}",
        f"{counted(held.runs, 'run')} {'waits' if held.runs == 1 else 'wait'}, each for one call; "
        f"of these calls past their valid_for: {held.expired}",
    ]
    if held.batches:
        lines.append(f"{held.batches} calls for many at once were begun and will be repeated as they were")
    if older_than:
        waited = f"{held.late} {'has' if held.late == 1 else 'have'} waited longer than {older_than}"
        lines.append(f"{waited}: that call is skipped, and the run goes on")
    if apart_ms:
        from hub.clock import format_duration

        lines.append(f"they become due over {format_duration(max(1000, int(apart_ms * held.runs)))}, oldest first")
    return lines


def _duration_ms(text: str | None) -> int | None:
    from hub.pauses import older_ms

    return None if text is None else older_ms(text)


@asynccontextmanager
async def _pauses() -> AsyncIterator[Pauses]:
    from hub.pauses import Pauses

    async with open_existing_store() as store:
        yield Pauses(store, await hub_clock(store))
