"""The database goes away under load and the process is killed with deliveries in its spool: acknowledged is stored, once."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from sqlalchemy import make_url

from tests.acceptance.processes import Api, Process, command, distributed, environment, started, until_live
from tests.acceptance.shop import SHOP, send_order
from tests.conftest import free_port
from tests.proxy import Proxy

_LIMIT_S = 40.0
# Shopify waits for an answer for five seconds.
_VENDOR_WAITS_S = 5.0


async def _connect(it: Api) -> str:
    """A sandbox connection to the shop; returns the address of its webhooks."""
    given = {"connector": "shopify", "name": "shop", "sandbox": True, "fields": {"shop": SHOP}}
    return str((await it.call("POST", "/api/v1/connections", given))["webhook_url"])


@asynccontextmanager
async def _calling(session: aiohttp.ClientSession, url: str, acked: list[int]) -> AsyncIterator[None]:
    """Orders come in all the time, over eight connections; `acked` is which of them were answered 200."""
    stop = asyncio.Event()

    async def caller(first: int) -> None:
        for n in range(first, 1_000_000, 8):
            if stop.is_set():
                return
            began = time.monotonic()
            try:
                if await send_order(session, url, n) == 200:
                    acked.append(n)
                    assert time.monotonic() - began < _VENDOR_WAITS_S
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)  # the process is dead: not acknowledged, so nobody's loss
            await asyncio.sleep(0.01)

    callers = [asyncio.create_task(caller(n)) for n in range(8)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def _waiting(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/health/ready") as answer:
        found: dict[str, Any] = await answer.json()
        return {"status": answer.status, **found.get("spool", {"records": -1})}


async def _until_spool(session: aiohttp.ClientSession, url: str, least: int, most: int) -> dict[str, Any]:
    until = time.monotonic() + _LIMIT_S
    while True:
        found = await _waiting(session, url)
        if least <= found["records"] <= most:
            return found
        assert time.monotonic() < until, found
        await asyncio.sleep(0.05)


def _once_each(stored: Iterable[str], acked: Iterable[int]) -> None:
    """Every acknowledged order is among the stored ones, and none is there twice."""
    orders = [json.loads(data)["order_id"] for data in stored]
    assert len(orders) == len(set(orders))
    assert {str(9000 + n) for n in acked} <= set(map(str, orders))


async def test_killed_with_deliveries_in_the_spool_while_the_database_is_out_of_reach(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    acked: list[int] = []
    async with Proxy.to(postgres_url) as network, aiohttp.ClientSession() as session:
        port = free_port()
        settings = distributed(tmp_path, network.url, redis_url, port, free_port())
        settings["HUB_SPOOL_DIR"] = str(tmp_path / "spool")
        url = f"http://127.0.0.1:{port}"
        made = await asyncio.to_thread(
            command, ["api-keys", "create", "test", "--scope", "write", "--json"], settings, tmp_path
        )
        first = Process("api-1", ["api"], settings, tmp_path)
        with started(first):
            await until_live(session, f"{url}/health/ready", first)
            address = await _connect(Api(session, url, json.loads(made)["key"]))
            # when the network freezes under load, deliveries are still taken, and the process says that it is ready
            async with _calling(session, address, acked):
                await _until(lambda: len(acked) >= 20)
                network.freeze()
                found = await _until_spool(session, url, 40, 1_000_000)
                assert found["status"] == 200
                # when the process is killed in the middle of it
                first.send(signal.SIGKILL)
                first.wait()
        network.mend()
        # then the next one stores what was acknowledged, once
        second = Process("api-2", ["api"], settings, tmp_path)
        with started(second):
            await until_live(session, f"{url}/health/ready", second)
            await _until_spool(session, url, 0, 0)
    plain = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    database = await asyncpg.connect(plain)
    try:
        stored = [row["data"] for row in await database.fetch("select data from event")]
    finally:
        await database.close()
    _once_each(stored, acked)


@pytest.mark.parametrize("place", ["spool.written#30", "spool.replaying", "spool.replayed"])
async def test_killed_while_the_spool_is_written_and_replayed(tmp_path: Path, place: str) -> None:
    acked: list[int] = []
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = environment(tmp_path, port=str(port), development="true", seam=f"{place}=kill")
    file = tmp_path / "data" / "hub.db"
    async with aiohttp.ClientSession() as session:
        first = Process("up-1", ["up", "--no-sandbox"], settings, tmp_path)
        with started(first):
            await until_live(session, f"{url}/health/ready", first)
            address = await _connect(Api(session, url, (tmp_path / "data" / "api-key").read_text().strip()))
            # given a database that another process holds locked, and more deliveries than one replay takes at once
            with closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("begin immediate")
                async with _calling(session, address, acked):
                    await _until(lambda: not first.running or len(acked) >= 300)
                other.execute("rollback")
            # when the process dies at the place
            assert await asyncio.to_thread(first.wait) == -signal.SIGKILL
        del settings["HUB_SEAM"]
        second = Process("up-2", ["up", "--no-sandbox"], settings, tmp_path)
        with started(second):
            await until_live(session, f"{url}/health/ready", second)
            await _until_spool(session, url, 0, 0)
            # then all that was acknowledged is stored, once, and the vendor's repeats change nothing
            for n in acked[:5]:
                assert await send_order(session, address, n) == 200
    with closing(sqlite3.connect(file)) as database:
        _once_each([data for (data,) in database.execute("select data from event")], acked)
    assert len(acked) >= 20


@pytest.mark.parametrize("place", ["ingest.commit#3", "ingest.committed#3", "ingest.answered#3"])
async def test_killed_around_the_commit_and_the_answer(tmp_path: Path, place: str) -> None:
    acked: list[int] = []
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = environment(tmp_path, port=str(port), development="true", seam=f"{place}=kill")
    file = tmp_path / "data" / "hub.db"
    async with aiohttp.ClientSession() as session:
        first = Process("up-1", ["up", "--no-sandbox"], settings, tmp_path)
        with started(first):
            await until_live(session, f"{url}/health/ready", first)
            address = await _connect(Api(session, url, (tmp_path / "data" / "api-key").read_text().strip()))
            async with _calling(session, address, acked):
                await _until(lambda: not first.running)
        assert await asyncio.to_thread(first.wait) == -signal.SIGKILL
        del settings["HUB_SEAM"]
        second = Process("up-2", ["up", "--no-sandbox"], settings, tmp_path)
        with started(second):
            await until_live(session, f"{url}/health/ready", second)
            # when the vendor repeats everything, the answered and the unanswered alike
            # (each caller may have had one more on its way than was answered)
            sent = range(max(acked, default=0) + 9)
            assert {await send_order(session, address, n) for n in sent} == {200}
            # then each is there once, and is routed although nobody may have rung for it
            with closing(sqlite3.connect(file)) as database:
                await _until(lambda: not database.execute("select 1 from event where stage <> 'routed'").fetchall())
                stored = [data for (data,) in database.execute("select data from event")]
    _once_each(stored, sent)
    assert len(stored) == len(sent)
