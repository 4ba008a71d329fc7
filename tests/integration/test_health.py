"""Alive, ready, degraded; and a process whose pump is gone does not stay."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub import vitals
from hub.process import working
from hub.vault import generate_key
from hub.worker.pump import PumpEnded
from tests.conftest import free_port
from tests.integration.conftest import Cli, Process
from tests.integration.test_api import web as web
from tests.integration.test_metrics import samples

# A defect that ends the loop which keeps leases, in a process that is otherwise the real one.
_WITH_A_DEFECT = """
from hub.worker.pump import Pump

async def dies(self):
    raise ValueError("ada@example.com")

Pump._renewing = dies
from hub.cli import main
main()
"""


async def _get(w: Any, path: str) -> tuple[int, Any]:
    async with w.session.get(w.url + path) as answer:
        return answer.status, await answer.json()


async def test_a_hub_that_works_is_alive_and_ready(web: Callable[..., Any], database_url: str) -> None:
    async with web(database_url) as w:
        assert await _get(w, "/health/live") == (200, {"status": "ok"})
        assert (await _get(w, "/health/ready"))[1]["status"] == "ok"


async def test_a_process_without_a_pump_is_alive(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        assert await _get(w, "/health/live") == (200, {"status": "ok"})


async def test_a_pump_that_hangs_is_not_alive(
    web: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a look that never comes back
    monkeypatch.setattr(vitals, "SILENT_S", 3.0)
    async with web(sqlite_url) as w:
        over = asyncio.Event()

        async def hang() -> int:
            await over.wait()
            return 0

        monkeypatch.setattr(w.it.hub.pump._router, "route", hang)

        # Then the process says so, soon
        until = time.monotonic() + 30
        while (answer := await _get(w, "/health/live"))[0] == 200 and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        over.set()
    assert answer[0] == 503
    assert "restart this process" in answer[1]["reason"]


async def test_without_redis_a_hub_is_ready_but_degraded(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False, redis_url=f"redis://127.0.0.1:{free_port()}/0") as w:
        status, said = await _get(w, "/health/ready")
    assert (status, said["status"]) == (200, "degraded")
    assert "Redis does not answer" in said["reasons"][0]


async def test_with_redis_a_hub_is_ready(web: Callable[..., Any], sqlite_url: str, redis_url: str) -> None:
    async with web(sqlite_url, work=False, redis_url=redis_url) as w:
        assert (await _get(w, "/health/ready"))[1]["status"] == "ok"


async def test_an_old_schema_is_not_ready(web: Callable[..., Any], database_url: str) -> None:
    async with web(database_url, work=False) as w:
        async with w.it.hub.store.write() as c:
            await c.run("update alembic_version set version_num = '0001'")
        status, said = await _get(w, "/health/ready")
    assert (status, said["status"]) == (503, "unavailable")
    assert "hub db upgrade" in said["reason"]


async def test_a_pump_that_ends_by_itself_is_an_error(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url, work=False) as it:
        # Given a loop of the pump that fails
        async def dies() -> None:
            raise ValueError("a defect")

        monkeypatch.setattr(it.hub.pump, "_renewing", dies)

        # Then whoever runs it is told at once, and gets the reason at the end
        ended = asyncio.Event()
        with pytest.raises(PumpEnded) as caught:
            async with working(it.hub, ended=ended.set):
                async with asyncio.timeout(10):
                    await ended.wait()
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_process_whose_pump_ends_ends_with_an_error(empty_cli: Cli, postgres_url: str, tmp_path: Path) -> None:
    # Given the embedded hub and a worker with a defect in the pump
    distributed = {"HUB_DATABASE_URL": postgres_url, "HUB_KEYS": generate_key()}
    for arguments, settings in ((["up", "--port", "0"], {}), (["worker"], distributed)):
        # When it is started
        done = subprocess.run(
            [sys.executable, "-c", _WITH_A_DEFECT, *arguments],
            env={**os.environ, **settings},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        # Then it ends by itself, says why for people and for operators, and repeats nobody's address
        assert done.returncode == 1
        assert "error: The pump ended by itself" in done.stderr
        [line] = [
            json.loads(line) for line in done.stderr.splitlines() if line.startswith("{") and "pump_ended" in line
        ]
        assert line["level"] == "CRITICAL"
        assert "in dies" in line["traceback"]
        assert "ValueError" in line["traceback"]
        assert "ada@example.com" not in done.stderr


def _fetch(url: str, key: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_answers_for_itself_where_it_is_told_to(
    empty_cli: Cli, started: Callable[..., Process], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker with a port for its health
    port = free_port()
    settings = {"HUB_DATABASE_URL": postgres_url, "HUB_KEYS": generate_key(), "HUB_METRICS_PORT": str(port)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    worker = started("worker")
    worker.wait_for("health and metrics at")

    # Then it says how it is, and counts for those with a key
    url = f"http://127.0.0.1:{port}"
    assert _fetch(f"{url}/health/live") == (200, '{"status":"ok"}')
    status, said = _fetch(f"{url}/health/ready")
    assert (status, json.loads(said)["status"]) == (200, "ok")
    assert _fetch(f"{url}/metrics")[0] == 401
    key = empty_cli.json("api-keys", "create", "prometheus", "--scope", "read")["key"]
    status, text = _fetch(f"{url}/metrics", key)
    assert status == 200
    assert samples(text)["hub_slots"] == 150

    # And nothing else
    assert _fetch(f"{url}/api/v1/counts", key)[0] == 404
    assert worker.end() == 0
