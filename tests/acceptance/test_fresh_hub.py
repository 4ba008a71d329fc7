"""A fresh hub whose past was read: every recipe of `recipes/` is published, and nobody hears of it."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from hub.clock import Clock, rfc3339, to_ms
from hub.connections import Connection
from hub.connector import ActionContext, History, Page, Trigger
from hub.documents import read
from hub.errors import NotSent
from hub.events import Json
from hub.ids import new_id
from hub.library import PURPOSES_FILE, recipe_files
from hub.playing import connections_named
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, working
from hub.samples import PERSON, sample
from hub.settings import load_settings
from hub.store.events import Incoming, NewEvent, ingest
from hub.vault import generate_key

RECIPES = Path(__file__).parents[2] / "recipes"
PAGE, LIMIT_S = 500, 120.0
DAY_MS = 24 * 3_600_000
PEOPLE = {"sqlite": 10_000, "postgresql": 1_500}


async def test_a_fresh_hub_with_ten_thousand_people_of_the_past_starts_nothing_and_sends_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    plugins, clock = load_plugins(), Clock()
    settings = load_settings(
        database_url=database_url, keys=[generate_key()], data_dir=tmp_path, development=True, loop_entries=10_000
    )
    async with open_hub(settings, plugins=plugins, clock=clock) as hub, working(hub):
        # Given every recipe that there is, published, over connections that can call nobody
        monkeypatch.setattr(hub.connections, "context", _nobody)
        hub.library.choosing = None
        published = await _publish_everything(hub)
        assert len(published) >= 3
        types = await _types_of(hub, published)
        people = PEOPLE[hub.store.dialect]

        # When the past of everything that they start by, wait for or leave on is read, a day of it from just now
        for number, type_ in enumerate(types):
            trigger = plugins.catalogue.trigger(type_)
            assert trigger is not None, "it is of a published recipe"
            connector = plugins.catalogue.connectors[trigger.connector]
            made = [_happened(trigger, n) for n in range(number, people, len(types))]
            monkeypatch.setitem(connector.histories, trigger.name, _history(trigger, made))
        since_ms = to_ms(datetime.now(UTC) - timedelta(days=730))
        for connection in await hub.connections.all():
            if mine := [type_ for type_ in types if type_.partition(".")[0] == connection.connector]:
                await hub.backfills.begin(connection.name, since_ms=since_ms, only=mine)
        await _advance(hub, 0)
        for connection in await hub.connections.all():
            states = {one["state"] for one in await hub.backfills.status(connection.name) if one["event"] in types}
            assert states <= {"done"}, connection.name
        assert await _count(hub, "event") == people
        assert await _count(hub, "contact") >= people // 2

        # Then nothing starts and nothing is sent, neither now nor in the weeks after
        await _advance(hub, 60 * DAY_MS)
        for table in ("run", "effect", "message", "verdict", "entry"):
            assert await _count(hub, table) == 0, table
        assert await _count(hub, "work where kind <> 'upkeep'") == 0

        # While somebody who comes now is met
        await _happen(hub, types)
        await _advance(hub, 0)
        assert await _count(hub, "run") > 0
    assert time.monotonic() - began < LIMIT_S


async def _nobody(connection: Connection, *, reference: str = "", **_: Any) -> ActionContext:
    if reference:
        raise NotSent("nobody is called here")
    return cast("ActionContext", None)


async def _publish_everything(hub: Hub) -> list[str]:
    files = recipe_files([RECIPES])
    sources = {file: file.read_text(encoding="utf-8") for file in files if file.name != PURPOSES_FILE}
    for connector, names in connections_named(sources.values(), hub.plugins.catalogue).items():
        for name in sorted(names):
            await hub.connections.pretend(connector, name)
    await hub.library.apply_purposes((RECIPES / PURPOSES_FILE).read_text(encoding="utf-8"))
    for file, source in sources.items():
        await hub.library.apply(source, file=str(file), publish=True)
    return [str(read(source).value["recipe"]) for source in sources.values()]


async def _types_of(hub: Hub, recipes: list[str]) -> list[str]:
    """The event types that these recipes start by, leave on or wait for."""
    found: set[str] = set()
    for name in recipes:
        program = await hub.library.program(name, 1)
        found |= set(program.event_types) | set(program.exit_types)
        steps = (node.step for node in program.nodes.values())
        found |= {type_ for step in steps for types in getattr(step, "types", {}).values() for type_ in types}
    return sorted(found)


_AT_MS = 1_700_000_000_000


@cache
def _sample(type_: str) -> dict[str, Json]:
    trigger = load_plugins().catalogue.trigger(type_)
    assert trigger is not None, "it is of a published recipe"
    return sample(trigger, _AT_MS)


def _happened(trigger: Trigger[Any], n: int) -> Any:
    """Something that happened to the n-th person, in the last two years; every tenth of them yesterday."""
    at = datetime.now(UTC) - (timedelta(hours=20) if n % 10 == 0 else timedelta(days=n % 700))
    own = {
        str(PERSON["email"]): f"person{n}@example.com",
        str(PERSON["phone"]): f"+1415{n + 5_550_000:07d}",
        rfc3339(_AT_MS): at.isoformat(),
    }
    return trigger.payload.model_validate(_own(_sample(trigger.type), own, n))


def _own(value: Json, own: Mapping[str, str], n: int) -> Json:
    """A made-up payload with somebody's own values in it; its ids end in -1 at first."""
    if isinstance(value, dict):
        return {name: _own(one, own, n) for name, one in value.items()}
    if isinstance(value, list):
        return [_own(one, own, n) for one in value]
    return own.get(value) or re.sub(r"-1$", f"-{n}", value) if isinstance(value, str) else value


def _history(trigger: Trigger[Any], made: list[Any]) -> History[Any]:
    async def fetch(_: Any, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Any]]:
        assert since_ms > 0
        for start in range(int(cursor or 0), len(made), PAGE):
            yield Page(made[start : start + PAGE], str(start + PAGE))

    return History(trigger=trigger.name, fetch=fetch)


def _new(hub: Hub, types: list[str], connections: dict[str, list[str]]) -> Iterator[tuple[str, Any]]:
    for type_ in types:
        trigger = hub.plugins.catalogue.trigger(type_)
        assert trigger is not None
        name = connections[trigger.connector][0]
        yield name, trigger.event(_happened(trigger, 99_990), hub.clock.now_ms())


async def _happen(hub: Hub, types: list[str]) -> None:
    """One event of each type, of today, as if it came through the door."""
    async with hub.store.write() as c:
        for name, event in _new(hub, types, await hub.connections.names()):
            connection = await hub.connections.by_name(name)
            new = NewEvent(event, connection.id, name, id=new_id())
            await ingest(c, [Incoming(connection.id, None, [new], hub.clock.now_ms())])


async def _advance(hub: Hub, by_ms: int) -> None:
    await hub.time.advance(hub.clock.now_ms() + by_ms, ring=hub.ring)


async def _count(hub: Hub, table: str) -> int:
    async with hub.store.read() as c:
        row = await c.first(f"select count(*) as n from {table}")
    assert row is not None, "an aggregate always has a row"
    return int(row["n"])
