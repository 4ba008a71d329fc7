"""Whose turn it is: places in a rota of a connection, each given once, and to the same effect again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.errors import PermanentError
from hub.process import open_store
from hub.settings import load_settings
from hub.store import connections as connection_rows
from hub.store import rota
from hub.store.session import Store
from tests.integration.conftest import Cli

DAY = 86_400_000


async def _take(store: Store, reference: str, *, connection: str = "c-1", name: str = "sales", at_ms: int = 0) -> int:
    async with store.write() as c:
        return await rota.take(c, connection, name, reference, at_ms)


async def test_workers_that_ask_at_once_never_get_the_same_place(store: Store) -> None:
    # given four workers, and every effect asked for by two of them at the same moment, as after a lease that ran out
    asked = [f"effect-{n}" for n in range(40)] * 2
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_store(load_settings(database_url=store.url))) for _ in range(3)]
        workers = [store, *opened]
        # (eighty asked of four: each pair of an effect's falls to different ones)
        found = await asyncio.gather(*(_take(workers[(n + n // 40) % 4], one) for n, one in enumerate(asked)))
    # then each effect has one place, and the places are the first forty
    places: dict[str, set[int]] = {}
    for reference, place in zip(asked, found, strict=True):
        places.setdefault(reference, set()).add(place)
    assert all(len(some) == 1 for some in places.values())
    assert sorted(place for some in places.values() for place in some) == list(range(40))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(["c-1", "c-2"]), st.sampled_from(["sales", "care"]), st.integers(0, 8)), max_size=40
    )
)
async def test_every_rota_counts_for_itself_and_a_repeat_gets_its_place_again(
    store: Store, asked: list[tuple[str, str, int]]
) -> None:
    async with store.write() as c:
        await c.run("delete from rota")
        await c.run("delete from rota_place")
    expected: dict[tuple[str, str], dict[int, int]] = {}
    for connection, name, effect in asked:
        known = expected.setdefault((connection, name), {})
        place = known.setdefault(effect, len(known))
        assert await _take(store, f"e-{effect}", connection=connection, name=name) == place


async def test_only_an_effect_has_a_place(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        acme = await it.hub.connections.by_name("acme")
        first = await it.hub.connections.context(acme, reference="r-1")
        second = await it.hub.connections.context(acme, reference="r-2")
        assert [await ctx.rota("sales") for ctx in (first, second, first)] == [0, 1, 0]
        # a poll's or an enrichment's context has no reference, by which a repeat would be recognised
        with pytest.raises(PermanentError, match="rota"):
            await (await it.hub.connections.context(acme)).rota("sales")


async def test_places_go_with_their_runs_and_a_rota_with_its_connection(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        acme = await it.hub.connections.by_name("acme")
        now_ms, kept = it.hub.clock.now_ms(), it.hub.settings.keep_runs_days
        await _take(it.hub.store, "old", connection=acme.id, at_ms=now_ms - (kept + 1) * DAY)
        await _take(it.hub.store, "young", connection=acme.id, at_ms=now_ms)
        removed = await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        assert removed["rota places"] == 1
        # then the count goes on, and who is young keeps its place
        assert [await _take(it.hub.store, r, connection=acme.id) for r in ("young", "new")] == [1, 2]
        async with it.hub.store.write() as c:
            await connection_rows.remove(c, acme.id, acme.name)
        async with it.hub.store.read() as c:
            assert Counter(row["connection_id"] for row in await c.all("select connection_id from rota")) == {}


def test_an_action_that_is_tried_takes_its_turn(cli: Cli) -> None:
    # given a sandbox connection, and who shall be assigned
    command = ("connections", "add", "hubspot", "crm", "--set", "portal_id=62515", "--sandbox")
    assert cli(*command).exit_code == 0
    given = '{"record": "1", "team": "9"}'
    for _ in range(2):
        # when it is tried on the sandbox, where nobody is yet: the turn is used up all the same
        tried = cli(
            "plugins", "try", "hubspot.assign_owner", "--connection", "crm", "--input", "-", "--json", input=given
        )
        assert json.loads(tried.stdout)["then"] == "given up", tried.output
    # then
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        assert database.execute("select name, given from rota").fetchall() == [("team 9", 2)]
    database.close()
