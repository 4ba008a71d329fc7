"""What the hub relies on in its broker; an upgrade of Dramatiq that changes it is noticed here."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.worker.bell import Bell
from hub.worker.broker import QUEUE, make_broker
from tests.crash.servers import OwnRedis
from tests.integration.test_runs import ADA, TWO_NOTES


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis server to kill, freeze and empty."""
    server = OwnRedis(tmp_path)
    yield server
    server.send(signal.SIGCONT)
    server.close()


async def _heard_after_s(bell: Bell, heard: asyncio.Event) -> float:
    began = time.monotonic()
    bell.ring()
    async with asyncio.timeout(10):
        await heard.wait()
    return time.monotonic() - began


@pytest.mark.parametrize("with_redis", [True, False])
async def test_an_idle_worker_hears_a_ring_in_a_fraction_of_a_look(with_redis: bool, redis_url: str) -> None:
    bell, heard = Bell(redis_url if with_redis else None), asyncio.Event()
    bell.listen(heard.set)
    try:
        await asyncio.sleep(1)  # longer than any look at an empty queue
        took_s = []
        for _ in range(5):
            heard.clear()
            took_s.append(await _heard_after_s(bell, heard))
            await asyncio.sleep(0.1)
        # Dramatiq's default takes half a second on average; one slow one may be the machine's.
        assert sorted(took_s)[2] < 0.25
    finally:
        await bell.close()


async def test_ringing_a_broker_that_is_down_raises_nothing_into_the_loop(own_redis: OwnRedis) -> None:
    own_redis.kill()
    bell = Bell(own_redis.url)
    for _ in range(100):
        bell.ring()
    await asyncio.sleep(0.2)
    own_redis.start()
    heard = asyncio.Event()
    bell.listen(heard.set)
    async with asyncio.timeout(20):
        while not heard.is_set():
            bell.ring()
            await asyncio.sleep(0.1)
    await bell.close()


async def test_ringing_a_broker_that_says_nothing_does_not_hold_the_loop(own_redis: OwnRedis) -> None:
    bell = Bell(own_redis.url)
    own_redis.send(signal.SIGSTOP)
    began = time.monotonic()
    bell.ring()
    await asyncio.sleep(0)
    assert time.monotonic() - began < 0.5
    own_redis.send(signal.SIGCONT)
    await bell.close()


async def test_a_message_that_nobody_fetched_is_kept_for_who_comes_later(own_redis: OwnRedis) -> None:
    ringing = Bell(own_redis.url)
    ringing.ring()
    async with asyncio.timeout(10):
        while not own_redis.client().llen(f"tetik-hub:{QUEUE}"):  # noqa: ASYNC110  (Redis tells nobody)
            await asyncio.sleep(0.01)
    heard = asyncio.Event()
    later = Bell(own_redis.url)
    later.listen(heard.set)
    async with asyncio.timeout(10):
        await heard.wait()
    await ringing.close()
    await later.close()


async def test_dropping_every_message_loses_no_work(
    running: Callable[..., Any], postgres_url: str, own_redis: OwnRedis
) -> None:
    async with running(postgres_url, redis_url=own_redis.url) as it:
        await it.publish(TWO_NOTES)

        async def empty_it() -> None:
            while True:
                own_redis.client().flushall()
                await asyncio.sleep(0.005)

        emptying = asyncio.ensure_future(empty_it())
        try:
            for n in range(20):
                await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
            async with asyncio.timeout(20):
                while len(it.sandbox.log) < 40:  # noqa: ASYNC110  (the vendor tells nobody)
                    await asyncio.sleep(0.02)
        finally:
            emptying.cancel()
        assert len({entry.data["key"] for entry in it.sandbox.log}) == 40


def test_the_broker_repeats_nothing_and_keeps_no_results(redis_url: str) -> None:
    for broker in (make_broker(redis_url), make_broker(None)):
        assert [type(m).__name__ for m in broker.middleware] == []
        broker.close()
