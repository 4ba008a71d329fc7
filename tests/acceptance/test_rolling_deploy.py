"""A rolling deploy: workers with and without a new plugin side by side, one replaced by the other, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import asyncpg

from tests.acceptance.processes import Api, Process, command, distributed, started, until_live
from tests.acme import signed
from tests.conftest import free_port

PEOPLE = 12
ROOT = Path(__file__).parents[2]
RECIPE = """
recipe: journey
on: {event: acme.carted}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:begun"}}
  - wait_for: {clicked: {event: acme.clicked, match: {event.cart: "{{ trigger.cart }}"}}}
    timeout: 1d
    clicked:
      - {do: acme.put_note, with: {key: "{{ trigger.id }}:clicked"}}
"""


def _with_acme(settings: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Settings of a process that has the plugin, as if it were installed."""
    about = folder / "site" / "acme-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[hub]\nacme = tests.acme\n")
    paths = [str(folder / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**settings, "PYTHONPATH": os.pathsep.join(paths)}


async def _send(session: aiohttp.ClientSession, url: str, topic: str, n: int) -> None:
    body, headers = signed(topic, {"id": f"{topic}-{n}", "cart": f"cart-{n}"}, delivery=f"{topic}-{n}")
    async with session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def _until(database_url: str, statement: str, count: int) -> None:
    """Wait until a statement counts so many."""
    connection = await asyncpg.connect(database_url)
    try:
        end = time.monotonic() + 60
        while (found := await connection.fetchval(statement)) != count:
            assert time.monotonic() < end, f"{statement}: {found}, not {count}"
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def test_workers_with_and_without_a_plugin_share_the_work(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    port, sandbox_port = free_port(), free_port()
    old = distributed(tmp_path, postgres_url, redis_url, port, sandbox_port)
    new = _with_acme(old, tmp_path)
    key = json.loads(command(["api-keys", "create", "test", "--scope", "write", "--json"], new, tmp_path))["key"]
    sandbox = Process("sandbox", ["sandbox", "--port", str(sandbox_port)], new, tmp_path)
    api = Process("api", ["api"], new, tmp_path)
    without = Process("worker-without", ["worker"], old, tmp_path)
    async with aiohttp.ClientSession() as session:
        with started(sandbox, api, without):
            await until_live(session, f"http://127.0.0.1:{port}/health/ready", api)
            await until_live(session, f"http://127.0.0.1:{sandbox_port}/acme/_sandbox/log", sandbox)
            it = Api(session, f"http://127.0.0.1:{port}", key)
            fields = {"account": "main"}
            connection = await it.call(
                "POST", "/api/v1/connections", {"connector": "acme", "name": "acme", "sandbox": True, "fields": fields}
            )
            await it.call("POST", "/api/v1/recipes", {"source": RECIPE, "publish": True})
            url = connection["webhook_url"]
            # given a worker without the plugin, which sets aside what came in
            await asyncio.gather(*(_send(session, url, "carted", n) for n in range(PEOPLE)))
            await _until(postgres_url, "select count(*) from event where stage = 'plugin'", PEOPLE)
            # when one comes that has it, and both are at work for a while
            having = Process("worker-with", ["worker"], new, tmp_path)
            with started(having):
                await _until(postgres_url, "select count(*) from run where status = 'waiting'", PEOPLE)
                await asyncio.gather(*(_send(session, url, "clicked", n) for n in range(PEOPLE // 2)))
                # and the old one is told to go
                without.send(signal.SIGTERM)
                assert without.wait() == 0
                await asyncio.gather(*(_send(session, url, "clicked", n) for n in range(PEOPLE // 2, PEOPLE)))
                # then every run ends by what it waited for, and every call was made once
                await _until(postgres_url, "select count(*) from run where status = 'done'", PEOPLE)
                async with session.get(f"http://127.0.0.1:{sandbox_port}/acme/_sandbox/log") as answer:
                    made = [call["data"]["key"] for call in await answer.json()]
                assert sorted(made) == sorted(
                    f"carted-{n}:{what}" for n in range(PEOPLE) for what in ("begun", "clicked")
                )
                assert "work_failed" not in having.log.read_text() + without.log.read_text()
