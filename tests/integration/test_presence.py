"""Processes show themselves, learn of each other, and are forgotten when they are dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.clock import Clock
from hub.presence import present
from hub.process import here
from hub.store import processes
from hub.store.processes import DEAD_AFTER_MS, Process
from hub.store.session import Store


def _process(id_: str, kind: str = "worker") -> Process:
    return Process(id_, kind, "1.0", 5)


async def _there(store: Store) -> list[dict[str, Any]]:
    async with store.read() as c:
        return [dict(row) for row in await c.all("select * from process order by id")]


async def test_the_living_know_how_many_of_them_make_calls(store: Store) -> None:
    heard: list[int] = []
    clock = Clock()
    async with (
        present(store, clock, _process("a", "api"), slots=0),
        present(store, clock, _process("b"), slots=150, busy=lambda: 7, heard=heard.append),
        present(store, clock, _process("c", "up"), slots=150, heard=heard.append),
    ):
        assert heard == [1, 2]
        [_, worker, _] = await _there(store)
        assert (worker["kind"], worker["version"], worker["busy"], worker["slots"]) == ("worker", "1.0", 7, 150)
    assert await _there(store) == []


async def test_who_has_been_silent_for_long_is_dead(store: Store) -> None:
    async with store.write() as c:
        await processes.beat(c, _process("killed"), busy=0, slots=1, now_ms=1_000)
        assert await processes.beat(c, _process("alive"), busy=0, slots=1, now_ms=1_000 + DEAD_AFTER_MS) == 2
        assert await processes.beat(c, _process("alive"), busy=0, slots=1, now_ms=1_001 + DEAD_AFTER_MS) == 1
    assert [row["id"] for row in await _there(store)] == ["alive"]


async def test_a_clock_that_jumps_makes_nobody_look_dead(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.hub.clock.offset_ms += 10 * DEAD_AFTER_MS
        async with here(it.hub, "api"):
            assert {row["kind"] for row in await _there(it.hub.store)} == {"worker", "api"}


async def test_a_hub_at_work_tells_its_limits_how_many_share_them(
    running: Callable[..., Any], postgres_url: str
) -> None:
    async with running(postgres_url) as it:
        assert it.hub.limits.processes == 1
        async with here(it.hub, "worker"):
            assert it.hub.limits.processes == 2
