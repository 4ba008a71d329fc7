"""Many runs that wait: one that is meant is woken at once, and those that are due together all go on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from bench.fill import Copies, multiply

MANY, DUE = 5_000, 500
SLEEPING = """
recipe: sleeping
on: {event: acme.carted}
exit_on: [{event: acme.purchased}]
steps:
  - wait: 30d
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""


async def _until(done: Callable[[], Awaitable[bool]], limit_s: float) -> float:
    """Wait until it says yes; returns how long it took in seconds."""
    began = time.monotonic()
    while not await done():
        assert time.monotonic() - began < limit_s, f"it took longer than {limit_s} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _many_asleep(it: Any) -> str:
    """Runs that sleep for weeks; returns the one that was multiplied."""
    await it.publish(SLEEPING)
    await it.deliver("carted", {"id": "template", "email": "template@example.com"}, delivery="template")
    await it.rest()
    [run] = await it.runs()
    await multiply(it.hub.store, run["id"], Copies(MANY, "template"))
    return str(run["id"])


async def test_an_exit_reaches_one_sleeper_of_many_at_once(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # given very many who sleep for weeks
        await _many_asleep(it)
        # when one of them buys
        await it.deliver("purchased", {"id": "p", "email": "template-77@example.com"})

        async def ended() -> bool:
            async with it.hub.store.read() as c:
                row = await c.first("select trigger_data, ended_by from run where finished_at is not null")
            return row is not None and "template-77@" in row["trigger_data"] and row["ended_by"] == "acme.purchased"

        # then that run ends long before its time, and nobody else's
        await _until(ended, 10)
        async with it.hub.store.read() as c:
            assert await c.first("select count(*) as n from run where finished_at is null") == {"n": MANY}
            assert await c.first("select count(*) as n from work where kind = 'run'") == {"n": MANY}


async def test_all_who_wait_for_one_instant_go_on_once_each(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # given very many who sleep, some hundreds of them until one and the same instant
        template = await _many_asleep(it)
        due_ms = it.hub.clock.now_ms() + 3_600_000
        await multiply(it.hub.store, template, Copies(DUE, "template", due_ms=due_ms, first=MANY + 1))
        # when it comes
        await it.advance(3_700_000)
        # then they all do what they waited for, and the others sleep on
        assert Counter(Counter(r.data["key"] for r in it.sandbox.log).values()) == {1: DUE}
        async with it.hub.store.read() as c:
            assert await c.first("select count(*) as n from run where finished_at is null") == {"n": MANY + 1}
