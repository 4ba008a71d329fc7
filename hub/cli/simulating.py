"""`hub recipes simulate`: events through a recipe on a clock that jumps, and what came of it, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import run, with_hub
from hub.cli.finding import NameOrFile, find, find_without_hub
from hub.cli.output import AsJson, console, counted, note, print_json, say, show_record, show_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hub.cli.finding import Found
    from hub.process import Hub
    from hub.simulation import Path as Way
    from hub.simulation import Played, Recorded, Simulation

_PATH = {"at": "at (UTC)", "path": "step", "kind": "kind", "outcome": "outcome", "reason": "reason"}
_SUMMARY = {
    "events": "events played",
    "entered": "entered",
    "people": "people",
    "inside": "still inside",
    "not_entered": "did not enter",
    "sent": "would be sent",
    "done": "would be done",
    "held_back": "held back",
    "ended": "ended by",
}


def add_to(app: typer.Typer) -> None:
    """Add this command to the group."""
    app.command("simulate")(simulate)


def simulate(
    name: NameOrFile,
    events: Annotated[
        Path | None, typer.Option("--events", help="A file of events: JSON lines, or one JSON list.")
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="The events that this hub stored.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --stored: those of so long, such as 7d.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="No events before this instant.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="No events from this instant on.")] = None,
    most: Annotated[int, typer.Option("--most", min=0, help="How many people's paths to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Play events through a recipe on a clock of its own; nothing leaves the machine.

    Decisions are made as they are live. Waits take no time, and the clock goes on until nothing is due any more.
    """
    if (events is None) == (not stored):
        raise typer.BadParameter("say which events: --events FILE, or --stored")
    if since is not None and (not stored or start is not None):
        raise typer.BadParameter("--since goes with --stored, and instead of --from", param_hint="--since")
    from_ms, to_ms, since_ms = _instant(start, "--from"), _instant(end, "--to"), _length(since)
    if events is not None:
        found, given = _of_file(name, events, from_ms, to_ms)
    else:
        found, given = with_hub(lambda hub: _of_hub(hub, name, since_ms, from_ms, to_ms))
    simulated = run(_play(found, given))
    if as_json:
        print_json(asdict(simulated))
    else:
        _show(simulated, most)


def _instant(text: str | None, option: str) -> int | None:
    from hub.clock import parse_time_ms

    try:
        return parse_time_ms(text) if text is not None else None
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no instant; write it as 2026-01-05T09:00:00Z", param_hint=option
        ) from None


def _length(since: str | None) -> int | None:
    from hub.clock import parse_duration_ms

    try:
        return parse_duration_ms(since) if since is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def _of_file(
    name: str, file: Path, from_ms: int | None, to_ms: int | None
) -> tuple[Found, Recorded | Sequence[Played]]:
    from hub.plugins import load_plugins
    from hub.simulation import read_events

    found = find_without_hub(name)
    played = read_events(file, load_plugins(quarantine=True).catalogue)
    wanted = [
        one for one in played if (from_ms is None or one.at_ms >= from_ms) and (to_ms is None or one.at_ms < to_ms)
    ]
    if not wanted:
        note(f"none of {counted(len(played), 'event')} of {file} lies between --from and --to")
    return found, wanted


async def _of_hub(
    hub: Hub, name: str, since_ms: int | None, from_ms: int | None, to_ms: int | None
) -> tuple[Found, Recorded | Sequence[Played]]:
    from hub.documents import read
    from hub.simulation import recorded

    found = await find(hub, name)
    now_ms = hub.clock.now_ms()
    if since_ms is not None:
        from_ms = now_ms - since_ms
    value = read(found.source, file=found.file).value
    recipe = str(value.get("recipe")) if isinstance(value, dict) else name
    given = await recorded(hub, recipe, from_ms or 0, to_ms if to_ms is not None else now_ms + 1)
    if not given.played:
        note("the hub stored no events in this time; `hub events list` shows what there is")
    return found, given


async def _play(found: Found, given: Recorded | Sequence[Played]) -> Simulation:
    from hub.plugins import load_plugins
    from hub.simulation import simulate as play

    plugins = load_plugins(quarantine=True)
    with _progress() as progress:
        return await play(found.source, given, plugins, purposes=found.purposes, file=found.file, progress=progress)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while events are played, where somebody looks at it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(error=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("events", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


# -- telling -----------------------------------------------------------------------------------------------------------


def _show(found: Simulation, most: int) -> None:
    for way in found.paths[:most]:
        _show_path(way)
    if found.not_entered and most:
        rows = [asdict(replace(one, person=one.person or "nobody")) for one in found.not_entered[:most]]
        show_table(
            rows,
            {"at": "at (UTC)", "person": "person", "outcome": "outcome", "reason": "reason"},
            title="Did not enter",
        )
    shown = min(most, max(len(found.paths), len(found.not_entered)))
    if max(len(found.paths), len(found.not_entered)) > shown:
        note(f"the first {shown} of each are shown: --most N shows more, --json all")
    say("", found.recipe)
    summary = asdict(found.summary)
    show_record({key: _words(value) for key, value in summary.items()}, _SUMMARY)


def _show_path(way: Way) -> None:
    show_table([asdict(step) for step in way.steps], _PATH, title=f"{way.person or 'nobody'}, entered {way.started_at}")
    if way.ended_by is None:
        say(f"still inside: {way.reason}")
    else:
        say(f"ended by {way.ended_by} at {way.ended_at}: {way.reason}")


def _words(value: int | dict[str, int]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number:,} {word}" for word, number in value.items())
    return f"{value:,}"
