"""C1-C19: the process that passes a named place dies there by SIGKILL; what it leaves behind is carried to its end, once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest

from hub.fresh import FRESH_S
from tests.acceptance.processes import command
from tests.crash.invariants import check_left, rest_and_check
from tests.crash.load import Vendor, people
from tests.crash.stage import Stage, meanwhile, shown_when_wrong, until_ended

CROWD = 12
LEAVE_AT_ONCE = 8
# Where people are with a call or a batch in hand.
IN_HAND = {"C12", "C14", "C15", "batch-frozen", "batch-answered"}
POINTS = {
    "C1": "ingest.commit",
    "C2": "ingest.committed",
    "C3": "ingest.answered",
    "C4": "ingest.commit#2",
    "C7": "route.commit",
    "C8": "route.committed",
    "C11": "run.claimed",
    "C12": "call.intended#3",
    "C14": "call.answered#9",
    "C15": "run.committed#2",
    "C16": "run.commit#2",
    "C17": "wait.registered#2",
    "C18": "sleep.registered",
    "C19": "run.finished",
    "batch-frozen": "batch.frozen",
    "batch-answered": "batch.answered",
    "batch-settled": "batch.settled",
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_process_killed_there_loses_and_doubles_nothing(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int], point: str
) -> None:
    vendor, crowd = Vendor(session, stage), people(point, CROWD, take(CROWD), leaving=True)
    async with shown_when_wrong(stage):
        # given a process that dies where the point says
        armed = await stage.arm(session, POINTS[point], "kill")
        # when people come in, more than once
        async with meanwhile(vendor.click(crowd)), meanwhile(vendor.sign_up(crowd)):
            assert await until_ended(armed) == -signal.SIGKILL
            # and some of those with a call in hand leave before anybody goes on
            log = await stage.log(session)
            left = await vendor.leave_at_once(crowd[:LEAVE_AT_ONCE]) if point in IN_HAND else []
            # then whoever is there carries everything to its end, while others leave
            await stage.mend(session)
            await vendor.leave([person for person in crowd if person not in left])
            await rest_and_check(stage, session, vendor, crowd)
            await check_left(stage, log, left)


async def test_a_process_killed_while_a_vendor_holds_its_answer_loses_and_doubles_nothing(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int]
) -> None:
    vendor, crowd = Vendor(session, stage), people("C13", CROWD, take(CROWD), leaving=True)
    async with shown_when_wrong(stage):
        working = await stage.alone()
        # given a vendor that has done it and holds its answer
        await stage.faults(session, answer_after_s=0.6)
        async with meanwhile(vendor.click(crowd)), meanwhile(vendor.sign_up(crowd)):
            await vendor.until_done("charge", crowd)
            # when who asked dies
            stage.kill(working)
            await stage.faults(session, answer_after_s=0)
            # and some leave before anybody goes on
            log = await stage.log(session)
            left = await vendor.leave_at_once(crowd[:LEAVE_AT_ONCE])
            # then
            await stage.mend(session)
            await vendor.leave([person for person in crowd if person not in left])
            await rest_and_check(stage, session, vendor, crowd)
            await check_left(stage, log, left)
            assert left


CAPPED = """
recipe: capped
on: {event: acme.carted}
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "{{ trigger.id }}:capped"}, as: sms}
"""
MOST = 5


async def test_a_process_killed_in_a_call_that_a_cap_counts_spends_no_more_than_that(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int]
) -> None:
    vendor, crowd, api = Vendor(session, stage), people("capped", 2 * MOST, take(2 * MOST)), stage.api(session)

    async def until_they_are(**wanted: int) -> None:
        end = time.monotonic() + 30
        while (found := Counter(run["status"] for run in await runs())) != wanted:
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)

    async def runs() -> list[dict[str, str]]:
        return list((await api.call("GET", "/api/v1/runs?recipe=capped"))["items"])

    async def sent() -> int:
        texts = [e["data"]["body"] for e in await stage.log(session) if e["operation"] == "send_text"]
        return sum(text.endswith(":capped") for text in texts)

    async with shown_when_wrong(stage):
        # given a recipe that may send five texts
        await api.call("POST", "/api/v1/recipes", {"source": CAPPED, "publish": True})
        cap = {"kind": "recipe", "target": "capped", "per": "month", "unit": "messages"}
        await api.call("POST", "/api/v1/caps", {**cap, "most": MOST})
        await asyncio.sleep(FRESH_S)
        # when who makes the third call dies before it, on one of the databases, and after it on the other one
        place = "call.intended#3" if stage.distributed else "call.answered#3"
        armed = await stage.arm(session, place, "kill")
        coming = asyncio.gather(*(vendor.tell("carted", person.signup, f"carted-{person.id}") for person in crowd))
        assert await until_ended(armed) == -signal.SIGKILL
        await stage.mend(session)
        await coming
        # then five are sent, and the others wait
        await until_they_are(done=MOST, parked=len(crowd) - MOST)
        assert await sent() == MOST
        # and go on when there may be more; what is counted is what was sent
        await api.call("POST", "/api/v1/caps", {**cap, "most": 100})
        await until_they_are(done=len(crowd))
        assert await sent() == len(crowd)
        await rest_and_check(stage, session, vendor, [])


PAST = 12
NEWCOMER = """
recipe: newcomer
on: {event: depot.registered}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:newcomer"}}
"""


async def test_a_process_killed_while_it_reads_the_past_leaves_no_page_out_and_starts_no_run(
    stage: Stage, session: aiohttp.ClientSession
) -> None:
    api, depot = stage.api(session), stage.vendor_url.removesuffix("/acme") + "/depot/_sandbox"

    async def read() -> list[dict[str, object]]:
        return list(await api.call("GET", "/api/v1/connections/depot/backfill"))

    async with shown_when_wrong(stage):
        # given two pasts of four pages each, and a recipe that starts by what happens
        for kind in ("registered", "ordered"):
            past = [{"id": f"{kind}-{n}", "email": f"{kind}-{n}@example.com"} for n in range(PAST)]
            async with session.post(f"{depot}/past", json={kind: past}) as answer:
                assert answer.status == 200
        new = {"connector": "depot", "name": "depot", "sandbox": True, "fields": {"account": "main"}}
        await api.call("POST", "/api/v1/connections", new)
        await api.call("POST", "/api/v1/recipes", {"source": NEWCOMER, "publish": True})
        # when who reads them dies with a page that is written and not committed, or committed and nothing more
        place = "history.commit#4" if stage.distributed else "history.committed#4"
        armed = await stage.arm(session, place, "kill")
        command(["connections", "backfill", "depot", "--detach"], stage.settings, stage.folder)
        assert await until_ended(armed) == -signal.SIGKILL
        await stage.mend(session)
        # then another one goes on, to the end
        end = time.monotonic() + 30
        found = await read()
        while any(one["state"] != "done" for one in found):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)
            found = await read()
        # and everything is there once, with its person; none but the page that was cut off was asked for again
        assert {(one["items"], one["new"]) for one in found} == {(PAST, PAST)}
        events = await api.call("GET", "/api/v1/events?type=depot.registered&limit=100")
        assert len({event["contact"] for event in events["items"] if event["contact"]}) == len(events["items"]) == PAST
        async with session.get(f"{depot}/asked") as answer:
            asked = Counter(await answer.json())
        assert sum(asked.values()) - len(asked) <= 2
        assert (await api.call("GET", "/api/v1/runs?recipe=newcomer"))["items"] == []
        assert not [e for e in await stage.log(session) if str(e["data"].get("key")).endswith(":newcomer")]
