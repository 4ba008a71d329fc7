"""Commands that ask something of a connection: its settings, what can be chosen there, its past."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.fields import pair
from hub.cli.output import AsJson, console, counted, note, print_json, say, show_list, show_table

if TYPE_CHECKING:
    from hub import shown
    from hub.process import Hub

Name = Annotated[str, typer.Argument(metavar="NAME", help="A connection.")]
_LOOK_S = 0.5
# So long nothing may be read before somebody is told that a hub has to run.
_NOBODY_S = 5.0
_BACKFILL = {
    "event": "event",
    "state": "state",
    "since": "since",
    "pages": "pages",
    "items": "items",
    "new": "new",
    "oldest": "oldest",
    "newest": "newest",
}


def add_to(group: typer.Typer) -> None:
    """Add these commands to `hub connections`."""
    group.command("set")(set_)
    group.command("choices")(choices)
    group.command("backfill")(backfill)


def set_(
    name: Name,
    given: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE…", help="Settings that are no secret.")],
    as_json: AsJson = False,
) -> None:
    """Change settings of a connection, such as the version of its vendor's API; its credentials stay."""
    values = dict(pair(one, "FIELD=VALUE") for one in given)

    async def change(hub: Hub) -> shown.Connection:
        from hub.api.connections import view

        await hub.connections.change(name, values)
        return await view(hub, name)

    changed = with_hub(change)
    if as_json:
        print_json(changed)
        return
    say(f"{name} now has {', '.join(f'{field}={value}' for field, value in values.items())}")


# -- choices -----------------------------------------------------------------------------------------------------------


def choices(
    name: Name,
    what: Annotated[
        str | None, typer.Argument(metavar="[CHOICES]", help="Such as lists; left out: what there is.")
    ] = None,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Labels that hold this only.")] = "",
    within: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=ID", help="What they depend on; as often as needed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 200,
    as_json: AsJson = False,
) -> None:
    """What can be chosen at the vendor, with ids: lists, templates, owners. Recipes may write the label."""
    if what is None:
        offered = with_hub(lambda hub: hub.choosing.offered(name))
        if as_json:
            print_json(offered)
            return
        rows = [{"name": one, "fields": fields} for one, fields in offered.items()]
        show_list(
            rows, {"name": "choices", "fields": "taken by"}, as_json=False, empty=f"{name} has nothing to choose from"
        )
        return
    given = dict(pair(one, "--within FIELD=ID") for one in within or ())
    found = with_hub(lambda hub: _choices(hub, name, what, search, given, limit))
    columns = {"id": "id", "label": "label"} | ({"hint": "hint"} if any(one["hint"] for one in found) else {})
    show_list(found[:limit], columns, as_json=as_json, empty=f"{name} has none of these {what}")
    if len(found) > limit and not as_json:
        note("there are more: --limit N shows more, --search TEXT fewer of them")


async def _choices(
    hub: Hub, name: str, what: str, search: str, within: dict[str, str], most: int
) -> list[shown.Choice]:
    """One more than `most`, where there are more."""
    found: list[shown.Choice] = []
    cursor = None
    while len(found) <= most:
        page = await hub.choosing.page(name, what, search=search, cursor=cursor, within=within)
        found += [{"id": one.id, "label": one.label, "hint": one.hint} for one in page.items]
        if page.cursor is None or page.cursor == cursor:
            break
        cursor = page.cursor
    return found[: most + 1]


# -- the past ----------------------------------------------------------------------------------------------------------


def backfill(
    name: Name,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="How far back: 24mo, 2y, 90d, or a date such as 2024-11-22.")
    ] = "24mo",
    only: Annotated[
        list[str] | None, typer.Option(metavar="TRIGGER", help="Of this event only; as often as needed.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was read so far back already.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for its end.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only tell how far it has come.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Give it up; what was stored stays.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a connection's past: people, what they did, what they agreed to. It starts, wakes and ends no run.

    A running hub reads, page by page and beside everything else; what is cut off goes on where it was.
    """

    async def act(hub: Hub) -> list[shown.Backfill]:
        await hub.time.sync()
        if stop:
            await hub.backfills.stop(name, only=only or ())
        if stop or status:
            return await hub.backfills.status(name)
        begun = await hub.backfills.begin(name, since_ms=_since(hub, since), only=only or (), again=again)
        return begun if detach else await _follow(hub, name)

    found = with_hub(act)
    if as_json:
        print_json(found)
        return
    rows = [
        {**one, "since": _day(one["since_at"]), "oldest": _day(one["oldest_at"]), "newest": _day(one["newest_at"])}
        for one in found
    ]
    show_table(rows, _BACKFILL | ({"again_at": "again (UTC)"} if any(one["again_at"] for one in found) else {}))
    for one in found:
        if one["problem"] and one["state"] != "done":
            say(f"{one['event']}: {one['problem']}", style="yellow")


def _day(instant: str | None) -> str | None:
    return None if instant is None else instant[:10]


def _since(hub: Hub, since: str) -> int:
    from hub.clock import DAY_MS, parse_since_ms

    try:
        since_ms = parse_since_ms(since, hub.clock.now_ms())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    kept = hub.settings.keep_events_days
    if since_ms < hub.clock.now_ms() - kept * DAY_MS:
        note(
            f"events are kept for {kept} days after they came (HUB_KEEP_EVENTS_DAYS): what is read now goes then, and is "
            "known no longer; people and what they agreed to stay"
        )
    return since_ms


async def _follow(hub: Hub, name: str) -> list[shown.Backfill]:
    """Show how it goes until everything is read, or waits for a person."""
    began, told = time.monotonic(), False
    with _bars() as update:
        while True:
            found = await hub.backfills.status(name)
            update(found)
            going = [one for one in found if one["state"] in {"reading", "waiting"}]
            if not going:
                return found
            if not told and time.monotonic() - began > _NOBODY_S and not any(one["pages"] for one in going):
                note("nothing is read yet; `hub up` or a `hub worker` has to run, which reads it")
                told = True
            await asyncio.sleep(_LOOK_S)


@contextmanager
def _bars() -> Iterator[Callable[[Sequence[shown.Backfill]], None]]:
    """A line for each event type on standard error, where somebody looks at it. How much there is, no vendor says."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    tasks = {}
    ended = False
    try:
        with Progress(*columns, console=console(error=True), transient=True, disable=not sys.stderr.isatty()) as bar:

            def update(found: Sequence[shown.Backfill]) -> None:
                nonlocal ended
                for one in found:
                    if one["state"] == "never":
                        continue
                    if one["event"] not in tasks:
                        tasks[one["event"]] = bar.add_task(one["event"], total=None, told="")
                    whole = 1 if one["state"] == "done" else None
                    bar.update(tasks[one["event"]], told=_line(one), total=whole, completed=whole)
                ended = not any(one["state"] in {"reading", "waiting"} for one in found)

            yield update
    finally:
        if not ended:
            note("it goes on while a hub runs; `hub connections backfill NAME --status` tells how far it has come")


def _line(one: shown.Backfill) -> str:
    reached = f", {one['oldest_at'][:10]} to {one['newest_at'][:10]}" if one["oldest_at"] and one["newest_at"] else ""
    waits = f", {one['state']}" if one["state"] in {"waiting", "parked"} else ""
    return f"{counted(one['items'], 'item')} in {counted(one['pages'], 'page')}{reached}{waits}"
