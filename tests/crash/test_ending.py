"""C29, C22, C31: processes that are told to stop at every named place, one with a wrong clock, and some killed with a new token."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

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
            draining = await stage.arm(session, place, "drain")
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
    await until(lambda: stage.has_said(process, "working"), 20, f"{process.name} has not begun")


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
        # given a connection whose token nobody has asked for yet; the first who does, if only for a poll, dies with the answer
        armed = await stage.arm(session, "token.answered", "kill")
        fields = {"shop": SHOP, "client_id": "c"}
        shop = {"connector": "shopify", "name": "shop", "sandbox": True, "fields": fields}
        await api.call("POST", "/api/v1/connections", shop | {"auth": "client_credentials"})
        # when there is something to do over it
        await api.call("POST", "/api/v1/recipes", {"source": TAG, "publish": True})
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


GREET = """
recipe: {recipe}
on: {{event: acme.carted, where: {{event.id: {recipe}}}}}
connections: {{club: {recipe}}}
steps:
  - {{do: club.greet, with: {{who: "{{{{ trigger.id }}}}"}}}}
"""


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
@pytest.mark.parametrize("how", ["strict", "lenient"])
async def test_a_process_killed_with_a_refresh_token_that_is_not_stored(
    stage: Stage, session: aiohttp.ClientSession, how: str
) -> None:
    club, api = stage.vendor_url.removesuffix("/acme") + "/club/_sandbox", stage.api(session)

    async def greeted() -> list[str]:
        async with session.get(f"{club}/log") as answer:
            return [entry["data"]["who"] for entry in await answer.json() if entry["data"]["who"] == how]

    async def let(**server: object) -> None:
        async with session.post(f"{club}/oauth", json=server) as answer:
            assert answer.status == 200

    async def its_run() -> Any:
        [run] = (await api.call("GET", f"/api/v1/runs?recipe={how}"))["items"]
        return run

    async def stands() -> tuple[str, str]:
        [connection] = [c for c in await api.call("GET", "/api/v1/connections") if c["name"] == how]
        return connection["health"], (await its_run())["status"]

    async def attempts() -> list[int]:
        return [e["attempts"] for e in (await api.call("GET", f"/api/v1/runs/{(await its_run())['id']}"))["effects"]]

    async with shown_when_wrong(stage):
        # given an account whose token is over by its next call, and a refresh token that is good once, or for ever
        await let(expires_in_s=1, rotates=True, keeps_spent=how == "lenient")
        ours = {"connector": "club", "name": f"app-{how}", "fields": {"client_id": how, "client_secret": "s"}}
        await api.call("POST", "/api/v1/apps", ours)
        new = {"connector": "club", "name": how, "app": f"app-{how}", "sandbox": True}
        await _authorise(await api.call("POST", "/api/v1/authorisations", new), how)
        await api.call("POST", "/api/v1/recipes", {"source": GREET.format(recipe=how), "publish": True})
        # when who renews it dies with the answer
        armed = await stage.arm(session, "token.answered", "kill")
        await Vendor(session, stage).tell("carted", {"id": how, "email": f"{how}@example.com"}, f"carted-{how}")
        assert await until_ended(armed) == -signal.SIGKILL
        await let(expires_in_s=1800)
        await stage.mend(session)
        if how == "strict":
            # then the connection asks for a person, and the run waits without trying any more
            await _until_so(stands, ("needs re-authorisation", "parked"))
            assert await greeted() == []
            tried = await attempts()
            await asyncio.sleep(2)
            assert await attempts() == tried
            # and goes on by itself when the account is authorised again
            await _authorise(await api.call("POST", f"/api/v1/connections/{how}/authorise", {}), how)
        # then it is done, once
        await _until_so(stands, ("ok", "done"))
        assert await greeted() == [how]


async def _authorise(begun: Any, account: str) -> None:
    """Somebody opens the address in a browser and allows it."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(begun["url"], allow_redirects=False) as first:
            page = first.headers["Location"]
        async with browser.get(f"{page}&as={account}") as last:
            assert last.status == 200, await last.text()


async def _until_so(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Wait until what is looked at is as wanted. Raises AssertionError with what it is."""
    for _ in range(600):
        if (found := await look()) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found} is not {wanted}")
