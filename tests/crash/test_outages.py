"""C24-C26: Redis and PostgreSQL killed, frozen, emptied, filled and cut off while people come in."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import asyncpg
import pytest

from tests.crash.invariants import rest_and_check
from tests.crash.load import Vendor, numbers, people
from tests.crash.stage import meanwhile, shown_when_wrong
from tests.crash.world import World, opened_world

CROWD = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("world")) as opened:
        yield opened


@pytest.fixture(scope="module")
def take() -> Callable[[int], int]:
    return numbers()


async def _redis_killed(world: World) -> None:
    world.redis.kill()
    await asyncio.sleep(1)
    world.redis.start()


async def _redis_emptied(world: World) -> None:
    for _ in range(20):
        world.redis.client().flushall()
        await asyncio.sleep(0.05)


async def _redis_full(world: World) -> None:
    client = world.redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    await asyncio.sleep(2)
    client.config_set("maxmemory", "0")


async def _redis_stalled(world: World) -> None:
    world.redis.send(signal.SIGSTOP)
    await asyncio.sleep(7)  # longer than the bell's own limit of 5 s
    world.redis.send(signal.SIGCONT)


async def _postgres_stopped(world: World) -> None:
    await asyncio.to_thread(world.postgres.stop_at_once)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(world.postgres.start)


async def _postgres_read_only(world: World) -> None:
    await asyncio.to_thread(world.postgres.read_only, True)
    await asyncio.sleep(2)
    # Read-only is also what would take it back: a session may say otherwise for itself.
    connection = await asyncpg.connect(world.postgres.url, server_settings={"default_transaction_read_only": "off"})
    await connection.execute("alter system set default_transaction_read_only = off")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


async def _connections_reset(world: World) -> None:
    broken = 0
    for _ in range(5):
        broken += world.wire.reset()
        await asyncio.sleep(0.3)
    assert broken


async def _commits_cut(world: World) -> None:
    cut = world.wire.cut
    world.wire.commits_to_cut = 12
    for _ in range(100):
        await asyncio.sleep(0.05)
        if not world.wire.commits_to_cut:
            break
    world.wire.commits_to_cut = 0
    assert world.wire.cut > cut + 3


async def _half_open(world: World) -> None:
    assert world.wire.swallow()


FAULTS: dict[str, Callable[[World], Awaitable[None]]] = {
    "redis-killed": _redis_killed,
    "redis-emptied": _redis_emptied,
    "redis-full": _redis_full,
    "redis-stalled": _redis_stalled,
    "postgres-stopped": _postgres_stopped,
    "postgres-read-only": _postgres_read_only,
    "connections-reset": _connections_reset,
    "commits-cut": _commits_cut,
    "half-open": _half_open,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_outage_loses_and_doubles_nothing(
    world: World, session: aiohttp.ClientSession, take: Callable[[int], int], fault: str
) -> None:
    stage = world.stage
    vendor, crowd = Vendor(session, stage), people(fault, CROWD, take(CROWD), leaving=True)
    # given people who come in a few at a time
    async with shown_when_wrong(stage), meanwhile(vendor.click(crowd)):
        coming = asyncio.gather(vendor.come_in(crowd, over_s=3.0), vendor.leave(crowd))
        await asyncio.sleep(0.5)
        # when it happens
        await FAULTS[fault](world)
        # then all of them get everything, once
        await coming
        await rest_and_check(stage, session, vendor, crowd)
