"""A machine whose clock is five minutes off: hub time is the database's, so that true signatures are believed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest
import time_machine
from sqlalchemy import make_url

from hub.cli.checkup_store import in_database
from hub.clock import Clock
from hub.connector import Hmac, sandbox_secret
from hub.errors import StoreUnavailable
from hub.ingest import Refused
from hub.process import open_hub, receiving, working
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


# -- the database's clock ----------------------------------------------------------------------------------------------

_HOUR_MS = 3_600_000
_CLOCK = """
create schema told;
create table told.clock (ahead_s float8);
insert into told.clock values (0);
create function told.clock_timestamp() returns timestamptz language sql volatile as
$$ select pg_catalog.clock_timestamp() + make_interval(secs => ahead_s) from told.clock $$;
"""
SetClock = Callable[[float], Awaitable[object]]


@pytest.fixture
async def set_clock(postgres_url: str) -> AsyncIterator[SetClock]:
    """Sets how far the database's clock is ahead: its own function of a name is found before PostgreSQL's."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(_CLOCK)
    name = make_url(postgres_url).database
    await admin.execute(f"alter database {name} set search_path = told, pg_catalog, public")

    async def set_(ahead_s: float) -> None:
        await admin.execute("update told.clock set ahead_s = $1", ahead_s)

    yield set_
    await admin.close()


def _read_every(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in ("hub.timetravel", "hub.worker.pump"):
        monkeypatch.setattr(f"{module}.SKEW_EVERY_S", seconds)


LATER = """
recipe: later
on: {event: acme.carted}
steps:
  - wait: 2h
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:later"}}
"""


@pytest.mark.parametrize(("off_s", "said"), [(-3600, "behind this machine's"), (3600, "ahead of this machine's")])
async def test_runs_go_on_when_the_database_s_clock_is_set(
    running: Callable[..., Any],
    postgres_url: str,
    set_clock: SetClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    off_s: int,
    said: str,
) -> None:
    _read_every(monkeypatch, 1.0)
    async with running(postgres_url, lease_s=2) as it:
        await it.publish(TWO_NOTES)
        await it.publish(LATER)
        for id_ in ("waits", "held"):
            await it.deliver("carted", {"id": id_, "email": f"{id_}@example.com"})
        await it.rest()
        # given one that a process holds which is gone
        lease_ends = it.hub.clock.now_ms() + 2000
        async with it.hub.store.write() as c:
            [held] = await c.all("""select id from run where trigger_data like '%"held"%'""")
            await c.run("update work set owner = 'w-gone', due_at = :at where ref = :id", at=lease_ends, **held)
        # when the database's clock is an hour off from one moment to the next
        with caplog.at_level(logging.WARNING, logger="hub.timetravel"):
            await set_clock(off_s)
            for n in range(20):
                await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
            async with asyncio.timeout(30):
                while await _open(it) != {None}:  # noqa: ASYNC110  (runs ring no bell)
                    await asyncio.sleep(0.05)
        # then everything is done, once, and what was held by a process that is gone is free; the log and the doctor say why
        assert len(it.sandbox.log) == 40
        [jump] = [r for r in caplog.records if getattr(r, "what", "") == "clock_jumped"]
        assert abs(jump.by_ms - off_s * 1000) < 5000  # type: ignore[attr-defined]  (what the line is about)
        found = [one async for one in in_database(it.settings, it.hub.store, it.hub.plugins) if one.check == "clock"]
        assert [said in one.message for one in found] == [True]
        # and those that wait do so by the database's clock
        assert abs(it.hub.clock.now_ms() - time.time() * 1000 - off_s * 1000) < 5000
        await it.advance(2 * _HOUR_MS - off_s * 1000 - 60_000)
        assert len(it.sandbox.log) == 40
        await it.advance(60_000)
        assert len(it.sandbox.log) == 42
        assert await _open(it) == set()


async def _open(it: Any) -> set[str | None]:
    """Who holds the runs that are not finished; nobody, those that wait."""
    async with it.hub.store.read() as c:
        rows = await c.all("select owner, due_at from work where kind = 'run'")
    now_ms = it.hub.clock.now_ms()
    return {row["owner"] if row["owner"] or row["due_at"] > now_ms else "nobody yet" for row in rows}


async def test_a_clock_that_could_not_be_read_is_read_when_the_database_is_back(
    running: Callable[..., Any], postgres_url: str, set_clock: SetClock
) -> None:
    async with running(postgres_url, work=False) as it:
        # given a database that is away when its clock is to be read, and has another one when it is back
        it.hub.time._skew_read = float("-inf")
        with patch.object(it.hub.store, "read", side_effect=StoreUnavailable("away")), pytest.raises(StoreUnavailable):
            await it.hub.time.sync()
        await set_clock(3600)
        await it.hub.time.sync()
        assert it.hub.clock.now_ms() - time.time() * 1000 > _HOUR_MS - 5000


TEXT = """
recipe: text
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "{{ trigger.id }}"}, as: sms}
"""


@pytest.mark.parametrize("off_s", [-3600, 3600])
async def test_nobody_takes_what_another_process_holds_when_the_database_s_clock_is_set(
    running: Callable[..., Any],
    postgres_url: str,
    set_clock: SetClock,
    monkeypatch: pytest.MonkeyPatch,
    off_s: int,
) -> None:
    _read_every(monkeypatch, 6.0)
    monkeypatch.setattr(acme_plugin.acme.actions["send_text"], "timeout_s", 9)
    async with (
        running(postgres_url, lease_s=10) as it,
        open_hub(it.settings, plugins=it.hub.plugins, clock=Clock()) as other,
    ):
        await it.publish(TEXT)
        # given a process with a call in hand, and another one that has nothing to do
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA, "phone": "+14155550123"})
        async with asyncio.timeout(10):
            while not it.sandbox.arrived:  # noqa: ASYNC110  (nor do calls)
                await asyncio.sleep(0.01)
        held = await _epochs(it)
        async with working(other):
            # when the clock is set, and first the one notices to whom leases look as if they had ended, or whose look so
            first, late = (other, it.hub) if off_s > 0 else (it.hub, other)
            await set_clock(off_s)
            first.time._skew_read, late.time._skew_read = float("-inf"), time.monotonic()
            first.ring()
            await asyncio.sleep(3.5)
            # then nobody else has taken or called what the first one holds; and when all have noticed, work goes on
            assert await _epochs(it) == held != []
            it.sandbox.hold.set()
            await it.deliver("signed_up", {"id": "s-2", **ADA, "phone": "+14155550124"})
            async with asyncio.timeout(20):
                while [r["status"] for r in await it.runs()] != ["done", "done"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert sorted(text["body"] for text in it.sandbox.texts) == ["s-1", "s-2"]
        assert it.sandbox.arrived == 2


async def test_a_process_that_starts_after_the_database_s_clock_was_set_takes_nothing_that_another_holds(
    running: Callable[..., Any], postgres_url: str, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read_every(monkeypatch, 6.0)
    monkeypatch.setattr(acme_plugin.acme.actions["send_text"], "timeout_s", 9)
    async with running(postgres_url, lease_s=10) as it:
        await it.publish(TEXT)
        # given a process with a call in hand that has not noticed that the clock was set forward
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA, "phone": "+14155550123"})
        async with asyncio.timeout(10):
            while not it.sandbox.arrived:  # noqa: ASYNC110  (nor do calls)
                await asyncio.sleep(0.01)
        held = await _epochs(it)
        it.hub.time._skew_read = time.monotonic()
        await set_clock(3600)
        # when another one starts
        async with open_hub(it.settings, plugins=it.hub.plugins, clock=Clock()) as other, working(other):
            await asyncio.sleep(2.5)
            holding = await _epochs(it)
            it.sandbox.hold.set()
            # then it leaves that to its holder; and when all have noticed, work goes on
            assert holding == held != []
            await it.deliver("signed_up", {"id": "s-2", **ADA, "phone": "+14155550124"})
            async with asyncio.timeout(30):
                while [r["status"] for r in await it.runs()] != ["done", "done"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert sorted(text["body"] for text in it.sandbox.texts) == ["s-1", "s-2"]
        assert it.sandbox.arrived == 2


async def _epochs(it: Any) -> list[Any]:
    """Who holds which runs, under which claim."""
    async with it.hub.store.read() as c:
        return list(await c.all("select ref, owner, epoch from work where kind = 'run' and owner is not null"))


@pytest.mark.parametrize("off_s", [-3600, 3600])
async def test_a_call_in_hand_is_not_made_again_when_its_machine_s_clock_is_set(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    monkeypatch.setattr(acme_plugin.acme.actions["send_text"], "timeout_s", 12)
    async with running(database_url, lease_s=20) as it:
        await it.publish(TEXT)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        async with asyncio.timeout(10):
            while not it.sandbox.arrived:  # noqa: ASYNC110  (nor do calls)
                await asyncio.sleep(0.01)
        held = await _epochs(it)
        with time_machine.travel(time.time() + off_s, tick=True):
            await asyncio.sleep(2.5)
            assert await _epochs(it) == held != []
            it.sandbox.hold.set()
            await it.deliver("signed_up", {"id": "s-2", **ADA})
            async with asyncio.timeout(20):
                while [r["status"] for r in await it.runs()] != ["done", "done"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert [text["body"] for text in it.sandbox.texts] == ["s-1", "s-2"]


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
