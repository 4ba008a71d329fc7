"""The clock that jumps: what waits for a vendor costs no real time, and work in hand is never jumped over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hub.store import views
from tests.integration.test_runs import ADA, TEXT, one_step

BOB = {"email": "bob@example.com", "phone": "+14155550199", "first_name": "Bob", "sms_ok": True}


async def test_a_vendor_that_asks_for_patience_is_waited_for_in_hub_time_only(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + 45_000
        began = time.monotonic()

        # Acme answers "not for 30 s"; Bob comes while the hub keeps to that, due at once and not to be claimed.
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(5_000)
        await it.deliver("signed_up", {"id": "s-2", **BOB})
        await it.advance(600_000)

        assert time.monotonic() - began < 15
        assert sorted(text["to"] for text in it.sandbox.texts) == [ADA["phone"], BOB["phone"]]


async def test_events_that_wait_to_be_filled_in_hold_the_clock_no_longer_than_their_vendor(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # Given an event of ids only, of a vendor that takes no calls for 45 s
        it.sandbox.leads = {"l-1": {"email": "ada@example.com"}}
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + 45_000
        began = time.monotonic()
        await it.deliver("lead", {"id": "l-1"})

        # When hub time passes, also in steps that end before the vendor's time is up
        await it.advance(5_000)
        async with it.hub.store.read() as c:
            assert [event["stage"] for event in await views.list_events(c)] == ["enrich"]
        await it.advance(600_000)

        # Then it was filled in, and the wait cost no real time
        assert time.monotonic() - began < 15
        async with it.hub.store.read() as c:
            assert [event["stage"] for event in await views.list_events(c)] == ["routed"]


async def test_a_call_in_hand_is_finished_before_the_clock_jumps(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA})

        jumping = asyncio.create_task(it.advance(3_600_000))
        before_ms = it.hub.clock.now_ms()
        await asyncio.sleep(0.5)
        assert not jumping.done()
        assert it.hub.clock.now_ms() - before_ms < 5_000
        it.sandbox.hold.set()
        await jumping

        assert [entry.operation for entry in it.sandbox.log] == ["put_note"]
        [run] = await it.runs()
        assert run["effects"][0]["attempts"] == 1
