"""A whole hub with servers of its own: PostgreSQL behind a wire that can be cut, Redis, processes, a vendor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from sqlalchemy import make_url

from tests.conftest import migrated
from tests.crash.servers import OwnPostgres, OwnRedis, Wire
from tests.crash.stage import Stage


@dataclass
class World:
    """A hub and the servers it needs, all of the test's own."""

    stage: Stage
    postgres: OwnPostgres
    redis: OwnRedis
    wire: Wire


@contextmanager
def opened_world(folder: Path, make: type[Stage] = Stage) -> Iterator[World]:
    """Start everything; end it afterwards. `make` says which stage."""
    with ExitStack() as stack:
        postgres = OwnPostgres()
        stack.callback(postgres.close)
        redis = OwnRedis(folder)
        stack.callback(redis.close)
        wire = Wire(postgres.socket)
        stack.callback(wire.close)
        asyncio.run(migrated(postgres.url))
        base = make_url(postgres.url)
        through = base.set(host="127.0.0.1", port=wire.port, query={}).render_as_string(hide_password=False)
        stage = make(folder, through, redis.url, looked_at=postgres.url)
        stack.callback(stage.close)
        asyncio.run(opened(stage))
        yield World(stage, postgres, redis, wire)


@contextmanager
def opened_embedded(folder: Path) -> Iterator[Stage]:
    """`hub up` on a SQLite file."""
    database_url = f"sqlite:///{folder / 'hub.db'}"
    asyncio.run(migrated(database_url))
    stage = Stage(folder, database_url)
    try:
        asyncio.run(opened(stage))
        yield stage
    finally:
        stage.close()


async def opened(stage: Stage) -> None:
    """Start the processes of a stage."""
    async with aiohttp.ClientSession() as session:
        await stage.open(session)
