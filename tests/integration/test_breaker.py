"""The breaker: a vendor that fails is left alone by all processes, tried by one call, and let go on slowly."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from hub import NotSent, OutcomeUnknown, RateLimited, Rejected, VendorUnavailable
from hub.breaker import MIN_CALLS, Breakers, Ring, rest_ms
from hub.clock import Clock, parse_duration_ms
from hub.errors import StoreUnavailable
from hub.limits import Limits
from hub.store import breakers as stored
from hub.store.session import Connection, Store
from tests.acme import acme
from tests.integration.test_runs import ADA, one_step


class Hand:
    """Breakers of some processes on one database, on a clock that only moves when told to."""

    def __init__(self, store: Store, processes: int) -> None:
        self.clock = Clock()
        self.all = [Breakers(store, self.clock, monotonic=self.now) for _ in range(processes)]

    def now(self) -> float:
        return 1000.0 + self.clock.offset_ms / 1000

    async def sync(self) -> None:
        for breakers in self.all:
            await breakers.sync()

    async def pass_s(self, seconds: float) -> None:
        self.clock.offset_ms += int(seconds * 1000)
        await self.sync()

    async def fail(self, which: int = 0, calls: int = MIN_CALLS) -> None:
        for _ in range(calls):
            self.all[which].noted("acme", "it broke", time.monotonic())
        await self.sync()


def test_only_the_last_minute_counts() -> None:
    ring = Ring()
    for second in range(200):
        ring.add(second, failed=second % 2 == 0)
    assert ring.sums(199) == (60, 30)
    assert ring.sums(300) == (0, 0)


async def test_too_few_or_too_rare_failures_stop_nobody(store: Store) -> None:
    it = Hand(store, 1)
    await it.fail(calls=MIN_CALLS - 1)
    assert await it.all[0].admits("acme")
    for _ in range(MIN_CALLS + 20):
        it.all[0].noted("acme", None, time.monotonic())
    await it.fail(calls=MIN_CALLS)
    assert it.all[0].rest("acme") is None


@pytest.mark.parametrize(
    ("problem", "counts"),
    [
        (VendorUnavailable(), True),
        (NotSent(), True),
        (OutcomeUnknown(status=500), True),
        (Rejected(status=422), False),
        (RateLimited(status=429), False),
        (None, False),
    ],
)
async def test_what_counts_as_an_outage(store: Store, problem: Exception | None, counts: bool) -> None:
    breakers = Breakers(store, Clock())
    limits = Limits(time.monotonic, breakers=breakers)
    for _ in range(MIN_CALLS):
        limits.noted("acme", acme, None, problem, time.monotonic())
    assert (breakers.rest("acme") is not None) is counts
    assert ((await limits.take("acme", acme, 1)) is not None) is counts


async def test_all_processes_stop_and_one_gives_the_alarm(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    it = Hand(store, 3)
    # Two find out at the same moment.
    for which in (0, 1):
        for _ in range(MIN_CALLS):
            it.all[which].noted("acme", "it broke", time.monotonic())
    await it.sync()
    for breakers in it.all:
        rest = breakers.rest("acme")
        assert rest is not None
        assert 29 < rest[0] <= 30
        assert rest[1] == "10 of 10 calls failed within a minute, the last one: it broke"
        assert not await breakers.admits("acme")
    assert [r.__dict__["what"] for r in caplog.records if r.levelno == logging.WARNING] == ["breaker_open"]


async def test_one_call_of_all_processes_tries_it_and_failing_doubles_the_rest(store: Store) -> None:
    it = Hand(store, 4)
    await it.fail()
    for trips in range(1, 8):
        await it.pass_s(rest_ms(trips) / 1000 + 0.01)
        admitted = [await breakers.admits("acme") for breakers in it.all for _ in range(3)]
        assert admitted.count(True) == 1
        prober = it.all[admitted.index(True) // 3]
        # The others ask again in a moment and not when the try would be over at its latest.
        await it.sync()
        for breakers in it.all:
            assert (breakers.rest("acme") or (99,))[0] <= 1
        # What began before the try says nothing about it.
        prober.noted("acme", None, 0.0)
        await it.sync()
        assert prober.rest("acme") is not None
        prober.noted("acme", "still broken", time.monotonic())
        await it.sync()
        rest = it.all[0].rest("acme")
        assert rest is not None
        assert rest[0] == pytest.approx(rest_ms(trips + 1) / 1000, abs=1)
    assert rest_ms(99) == parse_duration_ms("15m")


async def test_when_the_try_works_all_go_on_and_few_calls_at_first(store: Store) -> None:
    it = Hand(store, 2)
    await it.fail()
    await it.pass_s(31)
    assert await it.all[1].admits("acme")
    it.all[1].noted("acme", None, time.monotonic())
    # The first one reads before the second one has written.
    await it.sync()
    await it.sync()
    for breakers in it.all:
        assert breakers.rest("acme") is None
        assert await breakers.admits("acme")
        assert breakers.ramp("acme") == 0.0
    await it.pass_s(5)
    assert it.all[0].ramp("acme") == pytest.approx(0.5)
    limits = Limits(it.now, breakers=it.all[0])
    assert [await limits.take("acme", acme, 1) for _ in range(60)].count(None) == 50
    await it.pass_s(6)
    assert it.all[0].ramp("acme") == 1.0
    # The failures of before are forgotten.
    it.all[0].noted("acme", "once more", time.monotonic())
    assert it.all[0].rest("acme") is None


async def test_a_process_that_dies_over_its_try_does_not_hold_the_others_for_ever(store: Store) -> None:
    it = Hand(store, 2)
    await it.fail()
    await it.pass_s(31)
    assert await it.all[0].admits("acme")
    await it.pass_s(20)
    assert not await it.all[1].admits("acme")
    await it.pass_s(11)
    assert await it.all[1].admits("acme")


async def test_an_answer_to_a_try_that_took_too_long_ends_no_rest(store: Store) -> None:
    it = Hand(store, 2)
    await it.fail()
    await it.pass_s(31)
    assert await it.all[0].admits("acme")
    # given a second try, after the first one was given up, which failed
    await it.pass_s(31)
    assert await it.all[1].admits("acme")
    it.all[1].noted("acme", "still broken", time.monotonic())
    await it.sync()
    # when the first one is answered at last
    it.all[0].noted("acme", None, time.monotonic())
    await it.sync()
    for breakers in it.all:
        assert (breakers.rest("acme") or (0,))[0] > 55


async def test_a_call_that_was_no_try_says_nothing_about_a_later_rest(store: Store) -> None:
    it = Hand(store, 2)
    # given a process whose try was given up, while another one's worked
    await it.fail()
    await it.pass_s(31)
    assert await it.all[0].admits("acme")
    await it.pass_s(31)
    assert await it.all[1].admits("acme")
    it.all[1].noted("acme", None, time.monotonic())
    await it.sync()
    await it.sync()
    # when a call of the first one comes back after the others found out that the vendor fails again
    began = time.monotonic()
    await it.fail(which=1)
    await it.sync()
    it.all[0].noted("acme", None, began)
    assert it.all[0].rest("acme") is not None


async def test_failures_from_before_a_rest_are_forgotten_by_those_too_who_did_not_find_out(store: Store) -> None:
    it = Hand(store, 2)
    await it.fail(which=0, calls=MIN_CALLS - 1)
    await it.fail(which=1)
    await it.sync()
    await it.pass_s(31)
    assert await it.all[1].admits("acme")
    it.all[1].noted("acme", None, time.monotonic())
    await it.sync()
    await it.sync()
    it.all[0].noted("acme", "once more", time.monotonic())
    assert it.all[0].rest("acme") is None


async def test_what_was_found_out_while_the_database_was_away_is_told_when_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Hand(store, 2)

    async def away(*_: Any, **__: Any) -> bool:
        raise StoreUnavailable

    with monkeypatch.context() as while_away:
        while_away.setattr("hub.store.breakers.open_", away)
        with pytest.raises(StoreUnavailable):
            await it.fail()
    assert it.all[1].rest("acme") is None
    await it.sync()
    assert it.all[1].rest("acme") is not None


async def test_what_is_found_out_while_the_others_are_read_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Hand(store, 1)
    everything = stored.everything

    async def slowly(c: Connection) -> dict[str, stored.Rest]:
        found = await everything(c)
        for _ in range(MIN_CALLS):
            it.all[0].noted("acme", "it broke", time.monotonic())
        return found

    monkeypatch.setattr(stored, "everything", slowly)
    await it.sync()
    assert it.all[0].rest("acme") is not None


async def test_those_of_one_process_who_would_try_at_once_cost_one_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Hand(store, 1)
    await it.fail()
    await it.pass_s(31)
    asked = 0
    probe = stored.probe

    async def counting(*given: Any, **how: Any) -> bool:
        nonlocal asked
        asked += 1
        return await probe(*given, **how)

    monkeypatch.setattr(stored, "probe", counting)
    admitted = await asyncio.gather(*[it.all[0].admits("acme") for _ in range(20)])
    assert (admitted.count(True), asked) == (1, 1)


# -- in a hub at work --------------------------------------------------------------------------------------------------


async def test_runs_wait_for_a_dead_vendor_without_spending_attempts_and_go_on_by_themselves(
    running: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database_url, slots=20) as it:
        await it.publish(one_step("acme.put_note"))
        it.sandbox.status["/notes"] = 503
        for n in range(40):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        await it.advance(parse_duration_ms("10m"))
        # Ten or so calls found it out, the others were tries, one at a time.
        assert 10 <= it.sandbox.arrived <= 45
        [shown] = list((await it.hub.connections.healths()).items())
        assert shown[0] == "acme"
        assert shown[1][0] == "resting"
        waiting = [run for run in await it.runs() if run["finished_at"] is None]
        assert len(waiting) == 40
        assert sum(e["attempts"] for run in waiting for e in run["effects"]) == it.sandbox.arrived
        alarms = [r for r in caplog.records if r.__dict__.get("what") == "breaker_open"]
        assert len(alarms) == 1
        # when it works again
        it.sandbox.status.clear()
        await it.advance(parse_duration_ms("2h"))
        assert {run["status"] for run in await it.runs()} == {"done"}
        assert sorted(r.data["key"] for r in it.sandbox.log) == sorted(f"s-{n}" for n in range(40))
        assert await it.hub.connections.healths() == {}


async def test_an_exit_ends_a_run_whose_connection_rests(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(
            """
recipe: left
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""
        )
        for _ in range(MIN_CALLS):
            it.hub.limits.noted("acme", acme, None, VendorUnavailable(), time.monotonic())
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        for _ in range(200):
            await asyncio.sleep(0.02)
            found = await it.runs()
            if found and "resting" in (found[0]["reason"] or ""):
                break
        assert "acme is resting" in found[0]["reason"]
        await it.deliver("purchased", {"id": "p-1", **ADA})
        for _ in range(200):
            await asyncio.sleep(0.02)
            [run] = await it.runs()
            if run["finished_at"]:
                break
        assert run["ended_by"] == "acme.purchased"
        assert it.sandbox.arrived == 0
