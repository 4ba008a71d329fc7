"""A machine whose clock is five minutes off: hub time is the database's, so that true signatures are believed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
import time_machine

from hub.connector import Hmac, sandbox_secret
from hub.ingest import Refused
from hub.process import receiving
from tests import acme as acme_plugin
from tests.integration.test_runs import ADA, TWO_NOTES

_OFF_S = 300
_TIMED = Hmac(header="X-Acme-Signature", encoding="hex", topic="X-Acme-Topic", timestamp="X-Acme-Time", tolerance_s=60)


async def _deliver(it: Any, signed_at_s: int) -> int:
    body = json.dumps({"id": f"s-{signed_at_s}"}).encode()
    signature = _TIMED.sign(body, sandbox_secret("acme", "main", "webhook_secret"), str(signed_at_s))
    headers = {"x-acme-signature": signature, "x-acme-topic": "signed_up", "x-acme-time": str(signed_at_s)}
    key = (await it.hub.connections.by_name("acme")).inbound_key
    reply = await it.hub.ingest.receive("acme", key, method="POST", query="", headers=headers, body=body)
    return int(reply.status)


@pytest.mark.parametrize("off_s", [-_OFF_S, _OFF_S])
async def test_a_process_that_takes_calls_follows_the_database_when_its_clock_is_set(
    running: Callable[..., Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    monkeypatch.setattr(acme_plugin.acme, "webhook", _TIMED)
    async with running(postgres_url, work=False) as it, receiving(it.hub):
        true_s = int(time.time())
        assert await _deliver(it, true_s) == 200
        # when this machine's clock is five minutes off from one moment to the next
        with time_machine.travel(time.time() + off_s, tick=True):
            assert abs(time.time() - true_s - off_s) < 30
            async with asyncio.timeout(20):
                while abs(it.hub.clock.now_ms() / 1000 - true_s) > 30:  # noqa: ASYNC110  (a clock rings no bell)
                    await asyncio.sleep(0.05)
            # then calls that are signed now are believed, and older ones are not
            assert await _deliver(it, true_s + 1) == 200
            with pytest.raises(Refused, match="check the clocks"):
                await _deliver(it, true_s + off_s)


async def test_a_process_that_starts_with_a_wrong_clock_has_the_database_s_time(
    running: Callable[..., Any], postgres_url: str
) -> None:
    true_ms = time.time() * 1000
    with time_machine.travel(time.time() - _OFF_S, tick=True):
        async with running(postgres_url, work=False) as it:
            assert abs(it.hub.clock.now_ms() - true_ms) < 30_000


@pytest.mark.parametrize("off_s", [-3600, 3600])
async def test_runs_go_on_when_the_clock_of_their_process_jumps_by_an_hour(
    running: Callable[..., Any], postgres_url: str, off_s: int
) -> None:
    async with running(postgres_url, lease_s=2) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "before", **ADA})
        await it.rest()
        # when this machine's clock is an hour off from one moment to the next
        with time_machine.travel(time.time() + off_s, tick=True):
            for n in range(20):
                await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
            async with asyncio.timeout(30):
                while len(ended := [r for r in await it.runs() if r["status"] == "done"]) < 21:  # noqa: ASYNC110  (nor do runs)
                    await asyncio.sleep(0.05)
        # then everything is done, once, and nothing is left behind
        assert len(ended) == 21
        assert len(it.sandbox.log) == 42
        async with it.hub.store.read() as c:
            assert await c.all("select * from work where kind = 'run'") == []


async def test_runs_go_on_while_a_transaction_is_open_elsewhere(running: Callable[..., Any], postgres_url: str) -> None:
    held = await asyncpg.connect(postgres_url)
    try:
        async with running(postgres_url) as it:
            await it.publish(TWO_NOTES)
            # given a snapshot from before, which keeps every dead row of the queue from being removed
            await held.execute("begin isolation level repeatable read")
            await held.fetch("select count(*) from work")
            # when runs come and go
            for n in range(200):
                await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
            await it.rest()
            # then all of them end, and what is due is still found by its index
            assert len(it.sandbox.log) == 400
            async with it.hub.store.read() as c:
                assert await c.all("select id from run where status <> 'done'") == []
                await c.run("analyze work")
                pick = "select ctid from work where due_at <= 1 order by due_at limit 100 for update skip locked"
                plan = "\n".join(row["QUERY PLAN"] for row in await c.all(f"explain {pick}"))
            assert "Seq Scan" not in plan, plan
    finally:
        await held.close()
