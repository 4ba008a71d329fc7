"""Sandboxes in a process of their own are where their hub is in time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.processes import Api, Process, command, distributed, environment, started, until_live
from tests.conftest import free_port

SHOP = "some-shop.myshopify.com"
_DAYS_S = 3 * 24 * 3600


async def _ahead_s(session: aiohttp.ClientSession, sandboxes: str) -> float:
    """How far ahead of this machine's clock a sandbox dates what happens there."""
    customer = {"shop": SHOP, "id": 1, "email": "ada@example.com"}
    async with session.post(f"{sandboxes}/shopify/_sandbox/customer", json=customer) as answer:
        assert answer.status < 300, await answer.text()
        made = await answer.json()
    return datetime.fromisoformat(made["sent"]["updated_at"]).timestamp() - time.time()


def _hub(settings: Mapping[str, str], folder: Path, *, embedded: bool) -> list[Process]:
    commands = [["up", "--no-sandbox"]] if embedded else [["api"], ["worker"]]
    return [Process(arguments[0], arguments, settings, folder) for arguments in commands]


@pytest.mark.parametrize("embedded", [True, False], ids=["sqlite", "postgresql"])
async def test_a_sandbox_of_its_own_process_follows_the_clock_of_a_development_hub(
    postgres_url: str, redis_url: str, tmp_path: Path, embedded: bool
) -> None:
    # given sandboxes that come up before there is a hub
    port, sandbox_port = free_port(), free_port()
    settings = distributed(tmp_path, postgres_url, redis_url, port, sandbox_port)
    if embedded:
        settings = environment(
            tmp_path, port=str(port), sandbox_url=f"http://127.0.0.1:{sandbox_port}", development="true"
        )
    sandboxes, url = f"http://127.0.0.1:{sandbox_port}", f"http://127.0.0.1:{port}"
    vendors = Process("sandbox", ["sandbox", "--port", str(sandbox_port)], settings, tmp_path)
    # A command takes longer than a server keeps an idle connection.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        with started(vendors):
            await until_live(session, f"{sandboxes}/shopify/_sandbox/log", vendors)
            assert abs(await _ahead_s(session, sandboxes)) < 60
            hub = _hub(settings, tmp_path, embedded=embedded)
            with started(*hub):
                await until_live(session, f"{url}/health/ready", hub[0])
                made = command(["api-keys", "create", "test", "--scope", "write", "--json"], settings, tmp_path)
                it = Api(session, url, json.loads(made)["key"])
                # when the hub's clock is advanced
                await it.call("POST", "/api/v1/clock/advance", {"by": "3d"})
                # then it is three days later at the vendors too, in the very next call
                assert abs(await _ahead_s(session, sandboxes) - _DAYS_S) < 60
