"""C20: a process that stands still for longer than its lease wakes up as a zombie, and touches nothing of what others took."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import aiohttp
import pytest

from tests.crash.invariants import rest_and_check
from tests.crash.load import Vendor, people
from tests.crash.stage import LEASE_S, Stage, meanwhile, shown_when_wrong, until_frozen

CROWD = 6
POINTS = {
    "C11": "run.claimed",
    # By then everybody has a note and is keyed: it is a charge, or a text, that must not be made a second time.
    "C12": "call.intended#15",
    "C12-later": "call.intended#21",
    "C14": "call.answered#15",
    "C15": "run.committed#2",
    "C17": "wait.registered",
    "batch-frozen": "batch.frozen",
    "batch-answered": "batch.answered",
}


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
@pytest.mark.parametrize("point", POINTS)
async def test_a_frozen_worker_wakes_up_and_touches_nothing_of_what_others_took(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int], point: str
) -> None:
    vendor, crowd = Vendor(session, stage), people(f"frozen-{point}", CROWD, take(CROWD))
    later = people(f"thawed-{point}", CROWD, take(CROWD))
    async with shown_when_wrong(stage):
        frozen = await stage.arm(session, POINTS[point], "freeze")
        async with meanwhile(vendor.click([*crowd, *later])), meanwhile(vendor.sign_up(crowd)):
            await until_frozen(frozen)
            # when another worker has carried on with everything the frozen one held
            await stage.mend(session)
            await rest_and_check(stage, session, vendor, crowd)
            stage.spare.send(signal.SIGSTOP)
            # then the frozen one wakes up, is of use again, and has done nothing of it a second time
            frozen.send(signal.SIGCONT)
            await vendor.sign_up(later)
            await rest_and_check(stage, session, vendor, [*crowd, *later])
            await stage.mend(session)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", ["C11", "C12", "C14", "C15", "C17"])
async def test_a_frozen_hub_wakes_up_among_leases_of_its_own_that_have_ended(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int], point: str
) -> None:
    vendor, crowd = Vendor(session, stage), people(f"frozen-{point}", CROWD, take(CROWD))
    async with shown_when_wrong(stage):
        frozen = await stage.arm(session, POINTS[point], "freeze")
        async with meanwhile(vendor.click(crowd)), meanwhile(vendor.sign_up(crowd)):
            await until_frozen(frozen)
            await asyncio.sleep(LEASE_S + 0.5)  # nobody else is there: the leases have to end by themselves
            frozen.send(signal.SIGCONT)
            await rest_and_check(stage, session, vendor, crowd)


async def test_a_process_frozen_while_a_vendor_thinks_does_not_ask_again(
    stage: Stage, session: aiohttp.ClientSession, take: Callable[[int], int]
) -> None:
    vendor, crowd = Vendor(session, stage), people("frozen-C13", CROWD, take(CROWD))
    later = people("thawed-C13", CROWD, take(CROWD))
    async with shown_when_wrong(stage):
        working = await stage.alone()
        # given a vendor that has done it and holds its answer
        await stage.faults(session, answer_after_s=0.6)
        async with meanwhile(vendor.click([*crowd, *later])), meanwhile(vendor.sign_up(crowd)):
            await vendor.until_done("charge", crowd)
            working.send(signal.SIGSTOP)
            await stage.faults(session, answer_after_s=0)
            if stage.distributed:
                await stage.mend(session)
                await rest_and_check(stage, session, vendor, crowd)
                stage.spare.send(signal.SIGSTOP)
            else:
                await asyncio.sleep(LEASE_S + 0.5)
            working.send(signal.SIGCONT)
            await vendor.sign_up(later)
            await rest_and_check(stage, session, vendor, [*crowd, *later])
            await stage.mend(session)
