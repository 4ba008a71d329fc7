"""C1-C19: the process that passes a named place dies there by SIGKILL; what it leaves behind is carried to its end, once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import aiohttp
import pytest

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
