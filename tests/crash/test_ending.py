"""C29, C22, C31: processes that are told to stop at every named place, one with a wrong clock, and one killed with a new token."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import aiohttp
import pytest

from tests.acceptance.processes import Process
from tests.crash.invariants import rest_and_check
from tests.crash.load import Person, Vendor, people
from tests.crash.stage import Stage, meanwhile, shown_when_wrong, until, until_ended
from tests.crash.test_points import POINTS

CROWD = 6


async def test_a_process_told_to_stop_at_any_place_ends_well_and_leaves_nothing_undone(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int]
) -> None:
    vendor, everybody = Vendor(session, stage), list[Person]()
    async with shown_when_wrong(stage):
        # Every other place on one database, the others on the other one: a stop is the same on both.
        for point, place in list(POINTS.items())[stage.distributed :: 2]:
            crowd = people(f"drain-{point}", CROWD, take(CROWD))
            everybody += crowd
            draining = await stage.arm(session, place, "drain", drain_s="10")
            async with meanwhile(vendor.click(crowd)), meanwhile(vendor.sign_up(crowd)):
                assert await until_ended(draining) == 0, f"{point}: {stage.said(draining)}"
                await stage.mend(session)
                await vendor.sign_up(crowd)
        async with meanwhile(vendor.click(everybody)):
            await rest_and_check(stage, session, vendor, everybody)


@pytest.mark.parametrize("how", ["a second signal", "the limit is over"])
async def test_a_process_that_cannot_finish_in_time_is_ended_and_its_work_taken_over(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int], how: str
) -> None:
    vendor, crowd = Vendor(session, stage), people(f"drain-{how.split()[-1]}", CROWD, take(CROWD))
    async with shown_when_wrong(stage):
        # given a process with calls in hand that are answered late
        ending = await stage.arm(session, "sleep.registered#1000", "kill", drain_s="0.2")
        await stage.faults(session, answer_after_s=0.8)
        async with meanwhile(vendor.click(crowd)), meanwhile(vendor.sign_up(crowd)):
            await vendor.until_done("charge", crowd)
            # when it is told to stop
            ending.send(signal.SIGTERM)
            if how == "a second signal":
                await asyncio.sleep(0.05)
                ending.send(signal.SIGTERM)
            assert await until_ended(ending) in ({128 + signal.SIGTERM, 0} if how == "a second signal" else {0})
            await stage.faults(session, answer_after_s=0)
            # then others go on, once
            await stage.mend(session)
            await rest_and_check(stage, session, vendor, crowd)


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
@pytest.mark.parametrize("ahead_s", ["300", "-300"])
async def test_a_worker_whose_clock_is_five_minutes_off_does_as_the_others_do(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int], ahead_s: str
) -> None:
    vendor, crowd = Vendor(session, stage), people(f"clock{ahead_s}", 2 * CROWD, take(2 * CROWD))
    async with shown_when_wrong(stage):
        stage.relieve(CRASH_CLOCK_AHEAD_S=ahead_s)
        await _at_work(stage, stage.at_work)
        async with meanwhile(vendor.click(crowd)):
            await vendor.sign_up(crowd)
            await rest_and_check(stage, session, vendor, crowd)
        stage.kill(stage.at_work)
        await stage.mend(session)


async def _at_work(stage: Stage, process: Process) -> None:
    await until(lambda: "working" in stage.said(process), 20, f"{process.name} has not begun")


TAG = """
recipe: tag
on: {event: acme.carted}
steps:
  - {do: shopify.tag_customer, with: {customer_id: "{{ trigger.id }}", tags: [thanked]}}
"""
SHOP = "some-shop.myshopify.com"


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
async def test_a_process_killed_with_a_token_that_is_not_stored_asks_for_another(
    stage: Stage, session: aiohttp.ClientSession
) -> None:
    async with shown_when_wrong(stage):
        api = stage.api(session)
        sandbox = stage.vendor_url.removesuffix("/acme") + "/shopify/_sandbox"
        async with session.post(f"{sandbox}/customer", json={"shop": SHOP, "id": 7, "email": "j@example.com"}) as made:
            assert made.status == 200
        # given a connection whose token nobody has asked for yet
        fields = {"shop": SHOP, "client_id": "c"}
        shop = {"connector": "shopify", "name": "shop", "sandbox": True, "fields": fields}
        await api.call("POST", "/api/v1/connections", shop | {"auth": "client_credentials"})
        await api.call("POST", "/api/v1/recipes", {"source": TAG, "publish": True})
        # when who asks for it dies with the answer
        armed = await stage.arm(session, "token.answered", "kill")
        vendor = Vendor(session, stage)
        await vendor.tell("carted", {"id": "7", "email": "j@example.com"}, "carted-7")
        assert await until_ended(armed) == -signal.SIGKILL
        await stage.mend(session)
        # then another one is asked for, once the dead process's turn at it is over, and used
        tagged: list[object] = []
        for _ in range(900):
            async with session.get(f"{sandbox}/log") as answer:
                tagged = [e for e in await answer.json() if e["operation"] == "tag_customer"]
            if tagged:
                break
            await asyncio.sleep(0.05)
        assert len(tagged) == 1
        [connection] = [c for c in await api.call("GET", "/api/v1/connections") if c["name"] == "shop"]
        assert connection["health"] == "ok"
