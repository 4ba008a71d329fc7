"""Budgets in one process: what is granted, who has to wait and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import Concurrency, Connector, Rate, RateLimited, Response, Throttle
from hub.errors import PluginError
from hub.http import Answer
from hub.limits import DEFAULT_CONCURRENCY, Limits, Refusal, rates
from hub.limits.turns import HORIZON_S, Turns
from hub.store.lanes import Lane, Rank
from tests.acme import acme


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits(time: Time | None = None, draw: float = 0.5) -> Limits:
    return Limits(time or Time(), draw=lambda: draw)


async def grants(limits: Limits, connector: Connector, count: int, cost: float = 1) -> int:
    return [await limits.take("c", connector, cost) for _ in range(count)].count(None)


async def later_grants(limits: Limits, connector: Connector, count: int) -> int:
    return [await limits.take("c", connector, 1, waited=True) for _ in range(count)].count(None)


async def test_no_more_calls_in_flight_than_declared() -> None:
    made, two = limits(), replace(acme, budgets=[Concurrency(2)])
    assert await grants(made, two, 3) == 2
    made.release("c")
    assert await grants(made, two, 3) == 1


async def test_who_is_refused_for_the_rate_holds_no_slot() -> None:
    made = limits()
    assert await grants(made, replace(acme, budgets=[Rate(1, per_s=1), Concurrency(10)]), 3) == 1
    assert made.in_flight() == {"c": 1}


# -- a slot right before the call --------------------------------------------------------------------------------------


class Call:
    """One call that was granted without a slot and takes one; it is made until told to end."""

    def __init__(self, limits: Limits, rank: Rank = Rank.TRANSACTIONAL) -> None:
        self.refused: Refusal | None = None
        self.made, self._end = False, asyncio.Event()
        self.task = asyncio.create_task(self._run(limits, rank))

    async def _run(self, limits: Limits, rank: Rank) -> None:
        async with limits.slot("c", rank) as self.refused:
            if self.refused is None:
                self.made = True
                await self._end.wait()
                self.made = False

    async def end(self) -> None:
        self._end.set()
        await self.task


async def test_one_connection_never_has_all_that_a_process_can_do() -> None:
    made, wide = Limits(Time(), in_hand=8), replace(acme, budgets=[Concurrency(200)])
    # given a vendor that would take two hundred calls and answers none
    calls = [Call(made) for _ in range(5)]
    assert await grants(made, wide, 9) == 2
    await asyncio.sleep(0)
    # then a quarter is called and as many wait, and there is room for nobody else
    assert made.in_flight() == {"c": 2}
    assert made.outlook("c").room == 0
    refused = await made.take("c", wide, 1, hold=False)
    assert refused is not None
    assert "in flight" in refused.why
    for call in calls:
        call.task.cancel()


async def granted(made: Limits, connector: Connector) -> Refusal | None:
    return await made.take("c", connector, 1, hold=False)


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_call_that_ends_leaves_its_slot_to_the_waiting_one_of_the_first_rank() -> None:
    made, two = limits(), replace(acme, budgets=[Concurrency(2)])
    assert await granted(made, two) is None
    calls = [Call(made), Call(made), Call(made, Rank.BULK), Call(made, Rank.TRANSACTIONAL)]
    await a_moment()
    assert [c.made for c in calls] == [True, True, False, False]
    assert made.in_flight() == {"c": 2}
    # For who comes after very many that wait, nothing need be written.
    late = [Call(made) for _ in range(4)]
    await a_moment()
    assert await granted(made, two) == Refusal(0.05, "all calls to c are in flight")
    for call in late:
        call.task.cancel()
    await calls[0].end()
    await a_moment()
    assert [c.made for c in calls] == [False, True, False, True]
    await calls[1].end()
    await a_moment()
    assert [c.made for c in calls] == [False, False, True, True]
    await asyncio.gather(calls[2].end(), calls[3].end())
    assert made.in_flight() == {}


async def test_a_slot_that_was_taken_away_meanwhile_is_left_to_nobody() -> None:
    made, two = limits(), replace(acme, budgets=[Concurrency(2)])
    assert await granted(made, two) is None
    calls = [Call(made) for _ in range(3)]
    await a_moment()
    assert [c.made for c in calls] == [True, True, False]
    # given that other processes have one of the two by now
    made._uses["c"].concurrency = 1
    await calls[0].end()
    await a_moment()
    assert [c.made for c in calls] == [False, True, False]
    await calls[1].end()
    await a_moment()
    assert [c.made for c in calls] == [False, False, True]
    await calls[2].end()
    assert made.in_flight() == {}


async def test_nobody_waits_long_for_a_slot() -> None:
    made, one = limits(), replace(acme, budgets=[Concurrency(1)])
    assert await granted(made, one) is None
    slow, late = Call(made), Call(made)
    await late.task
    assert late.refused == Refusal(0.05, "all calls to c are in flight")
    await slow.end()
    assert made.in_flight() == {}


async def test_who_waited_for_a_slot_hears_what_the_call_before_was_told() -> None:
    made, one = limits(), replace(acme, budgets=[Concurrency(1)])
    assert await granted(made, one) is None
    first, second = Call(made), Call(made)
    await a_moment()
    await made.push("c", 30)
    await first.end()
    await second.task
    assert second.refused is not None
    assert second.refused.why == "c asked to wait"
    assert made.in_flight() == {}


@settings(deadline=None)
@given(st.lists(st.sampled_from(["call", "end", "cancel", "wait"]), max_size=40), st.integers(1, 3))
async def test_slots_are_neither_lost_nor_made(steps: list[str], most: int) -> None:
    made, connector = limits(), replace(acme, budgets=[Concurrency(most)])
    assert await granted(made, connector) is None
    calls: list[Call] = []
    for n, step in enumerate(steps):
        if step == "call":
            calls.append(Call(made))
        elif step == "wait":
            await a_moment()
        elif calls:
            call = calls.pop(n % len(calls))
            if step == "cancel":
                call.task.cancel()
            else:
                call._end.set()
        assert made.in_flight().get("c", 0) <= most
        assert sum(c.made for c in calls) <= most
    for call in calls:
        call.task.cancel()
    # Those that were to end may have the slot one after the other.
    for _ in steps:
        await a_moment()
    assert made.in_flight() == {}
    assert await grants(made, connector, most) == most


async def test_without_a_declaration_there_is_a_default() -> None:
    assert await grants(limits(), replace(acme, budgets=[]), DEFAULT_CONCURRENCY + 1) == DEFAULT_CONCURRENCY


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), min_size=1, max_size=80))
async def test_in_no_window_more_than_the_bucket_and_its_refill(asks: list[tuple[float, int]]) -> None:
    time, rate = Time(), Rate(10, per_s=2)
    made, connector = limits(time), replace(acme, budgets=[rate, Concurrency(10_000)])
    granted: list[tuple[float, int]] = []
    for pause, cost in asks:
        time.now += pause
        if await made.take("c", connector, cost, waited=True) is None:
            granted.append((time.now, cost))
    require_within(rate, granted)
    # The first one finds a full bucket.
    assert granted


def require_within(rate: Rate, granted: Sequence[tuple[float, float]]) -> None:
    for start, _ in granted:
        for end in [at for at, _ in granted if at >= start]:
            used = sum(cost for at, cost in granted if start <= at <= end)
            assert used <= rate.limit + rate.per_s * (end - start) + 1e-6


async def test_waiting_as_long_as_told_is_enough() -> None:
    time = Time()
    made, connector = limits(time), replace(acme, budgets=[Rate(1, per_s=0.5)])
    assert await made.take("c", connector, 1) is None
    refused = await made.take("c", connector, 1)
    assert refused is not None
    assert refused.why == "waiting for the budget of c"
    time.now += refused.wait_s + 0.001
    assert await made.take("c", connector, 1, waited=True) is None


async def test_a_shorter_word_of_the_vendor_s_takes_nothing_back_from_a_longer_one() -> None:
    made = limits()
    await made.push("c", 30)
    await made.push("c", 5)
    assert made.held() == {"c": 30}


async def test_a_call_dearer_than_the_bucket_is_made_when_that_is_full() -> None:
    time = Time()
    made, connector = limits(time), replace(acme, budgets=[Rate(2, per_s=1)])
    assert await made.take("c", connector, 5) is None
    assert await made.take("c", connector, 1, waited=True) is not None
    time.now += 5.1
    assert await made.take("c", connector, 5, waited=True) is None


async def test_all_rates_of_a_connection_hold() -> None:
    time = Time()
    made = limits(time)
    connector = replace(acme, budgets=[Rate(5, per_s=5, name="second"), Rate(6, per_s=0.1, name="minute")])
    assert await later_grants(made, connector, 9) == 5
    time.now += 60
    assert await later_grants(made, connector, 9) == 5
    time.now += 20.1
    assert await later_grants(made, connector, 9) == 3


async def test_a_rate_that_is_kept_apart_holds_for_what_draws_on_it_alone() -> None:
    time = Time()
    made = limits(time)
    connector = replace(acme, budgets=[Rate(100, per_s=100), Rate(1, per_s=4, name="searches", apart=True)])

    async def granted(count: int, **draws: float) -> int:
        return [await made.take("c", connector, 1, draws=draws, waited=True) for _ in range(count)].count(None)

    # in no second more than one at once and four that flow in, whatever else is done meanwhile
    assert await granted(3, searches=1) == 1
    found = 0
    for _ in range(8):
        time.now += 0.125
        found += await granted(2, searches=1)
        assert await granted(1) == 1
    assert found == 4
    # a look-up, which takes no slot and none of the other calls, has the same ones
    assert (await made.draw("c", connector, {"searches": 1}, waited=True)) is not None
    time.now += 0.25
    assert (await made.draw("c", connector, {"searches": 1}, waited=True)) is None
    refused = await made.draw("c", connector, {"searches": 1}, waited=True)
    assert refused is not None
    assert (refused.wait_s > 0, refused.why) == (True, "waiting for the searches of c")
    assert await made.draw("another", connector, {"searches": 1}) is None
    # and what no one declared is told as the plugin's fault
    with pytest.raises(PluginError, match="searches"):
        await made.draw("third", replace(acme, budgets=[Rate(5, per_s=5, name="searches")]), {"searches": 1})


async def test_a_call_that_is_refused_by_a_rate_apart_leaves_slot_and_calls() -> None:
    time = Time()
    made = limits(time)
    connector = replace(
        acme, budgets=[Concurrency(2), Rate(2, per_s=0.01), Rate(1, per_s=0.01, name="searches", apart=True)]
    )
    found = [await made.take("c", connector, 1, draws={"searches": 1}) for _ in range(5)]
    assert [one is None for one in found] == [True, False, False, False, False]
    assert await made.take("c", connector, 1) is None


async def test_the_vendor_s_word_holds_for_its_connection_only() -> None:
    time = Time()
    made = limits(time)
    await made.push("c", 30)
    refused = await made.take("c", acme, 1)
    assert refused is not None
    assert refused.wait_s >= 29
    assert refused.why == "c asked to wait"
    assert await made.take("d", acme, 1) is None
    assert made.held() == {"c": 30}
    assert made.outlook("c").room == 0
    time.now += 31
    assert await made.take("c", acme, 1) is None


async def test_a_vendor_that_names_no_time_is_left_alone_longer_each_time() -> None:
    time = Time()
    made = limits(time)
    holds = []
    for _ in range(8):
        await made.push("c", None)
        # Calls that were in flight together say the same thing once more.
        await made.push("c", None)
        holds.append(made.held()["c"])
        time.now += holds[-1] + 0.001
    assert holds == [1, 2, 4, 8, 16, 32, 60, 60]
    made.noted("c", acme, Answer(200, {}, b"{}"), None, 0.0)
    await made.push("c", None)
    assert made.held()["c"] == pytest.approx(1)


async def test_no_vendor_can_hold_a_connection_for_ever() -> None:
    made = limits()
    await made.push("c", 1e12)
    assert made.held()["c"] <= 86_400


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_those_who_wait_come_back_one_after_the_other_at_the_rate() -> None:
    made, connector = limits(), replace(acme, budgets=[Rate(10, per_s=10), Concurrency(1000)])
    assert await grants(made, connector, 10) == 10
    waits = [r.wait_s for r in [await made.take("c", connector, 1) for _ in range(50)] if r]
    assert len(waits) == 50
    assert waits == pytest.approx([(n + 1) / 10 for n in range(50)])


async def test_who_comes_new_does_not_overtake_those_who_wait() -> None:
    time = Time()
    made, connector = limits(time), replace(acme, budgets=[Rate(10, per_s=10), Concurrency(1000)])
    await grants(made, connector, 15)
    time.now += 0.1001
    assert await made.take("c", connector, 1) is not None
    assert await made.take("c", connector, 1, waited=True) is None


async def test_transactional_calls_go_before_marketing_which_still_gets_a_tenth() -> None:
    time = Time()
    connector = replace(acme, budgets=[Rate(10, per_s=10), Concurrency(1000)])
    lucky, unlucky = limits(time, draw=0.05), limits(time, draw=0.5)
    for made in (lucky, unlucky):
        await grants(made, connector, 10)
        assert await made.take("c", connector, 1, Rank.MARKETING) is not None
        assert await made.take("c", connector, 1, Rank.TRANSACTIONAL) is not None
    time.now += 0.095
    time.now += 0.0049
    assert await unlucky.take("c", connector, 1, Rank.MARKETING, waited=True) is not None
    time.now += 0.0002
    assert await unlucky.take("c", connector, 1, Rank.TRANSACTIONAL, waited=True) is None
    assert await lucky.take("c", connector, 1, Rank.MARKETING, waited=True) is None


def test_nobody_is_sent_further_away_than_the_horizon() -> None:
    turns = Turns()
    waits = [turns.give(Rank.TRANSACTIONAL, 0.0, 0.0, 1.0, 0.5) for _ in range(100)]
    assert max(waits) <= HORIZON_S
    assert waits[:5] == [0, 1, 2, 3, 4]


async def test_of_those_who_wait_only_so_many_are_worth_claiming_as_there_are_tokens() -> None:
    time = Time()
    made, connector = limits(time), replace(acme, budgets=[Rate(10, per_s=10), Concurrency(1000)])
    await grants(made, connector, 30)
    assert made.crowded
    assert made.outlook("c").room == 0
    assert made.outlook("c").again_s == pytest.approx(0.1)
    time.now += 0.55
    assert made.outlook("c").room == 5


# -- what vendors say about their own count ----------------------------------------------------------------------------


def _left(response: Response) -> Throttle | None:
    left = response.headers.get("X-Left")
    return Throttle(available=float(left), limit=20, per_s=4) if left else None


async def test_what_the_vendor_says_is_left_is_never_exceeded() -> None:
    time = Time()
    made = limits(time)
    connector = replace(acme, budgets=[Rate(10, per_s=2), Concurrency(1000)], throttle=_left)
    assert await made.take("c", connector, 1) is None
    made.noted("c", connector, Answer(200, {"X-Left": "3"}, b""), None, 0.0)
    assert await grants(made, connector, 9) == 3
    # It refills as fast as the vendor says, up to what the vendor says.
    time.now += 100
    assert await later_grants(made, connector, 99) == 20


async def test_an_old_word_of_the_vendor_s_gives_nothing_back() -> None:
    rate = Rate(10, per_s=2)
    made = limits()
    connector = replace(
        acme,
        budgets=[rate, Concurrency(1000)],
        throttle=lambda answer: Throttle(available=9, limit=rate.limit, per_s=rate.per_s),
    )
    # given eight calls, and what the vendor said when it had seen one of them
    assert await grants(made, connector, 8) == 8
    made.noted("c", connector, Answer(200, {}, b""), None, 0.0)
    assert await grants(made, connector, 9) == 2


async def test_a_connector_that_cannot_read_its_throttle_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made, connector = limits(), replace(acme, throttle=lambda response: Throttle(available=float("x")))
    made.noted("c", connector, Answer(200, {}, b""), None, 0.0)
    made.noted("c", connector, Answer(429, {}, b""), RateLimited(), 0.0)
    assert {record.__dict__["what"] for record in caplog.records} == {"throttle_failed"}
    assert await made.take("c", connector, 1) is None


# -- several processes that cannot ask each other ----------------------------------------------------------------------


async def test_processes_that_cannot_ask_each_other_keep_to_their_share() -> None:
    time, rate = Time(), Rate(100, per_s=10)
    connector = replace(acme, budgets=[rate, Concurrency(10)])
    each = [Limits(time, alone=False) for _ in range(4)]
    for made in each:
        made.heard(4)
    assert [await grants(made, connector, 50) for made in each] == [2, 2, 2, 2]
    wide = replace(acme, budgets=[rate, Concurrency(10_000)])
    each = [Limits(time, alone=False) for _ in range(4)]
    for made in each:
        made.heard(4)
    assert sum([await grants(made, wide, 200) for made in each]) == 80


# -- batches of tokens -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.3), st.integers(1, 3)), min_size=1, max_size=120),
    st.sampled_from([Rate(20, per_s=50), Rate(10, per_s=100), Rate(50, per_s=30), Rate(8, per_s=400)]),
)
def test_tokens_kept_by_processes_never_add_up_to_more_than_the_limit(
    asks: list[tuple[int, float, int]], rate: Rate
) -> None:
    kept = rates.keep_back([rate], dearest=3)
    [burst] = rates.bursts([rate], kept)
    now, full_at = 0.0, {rate.name: 0.0}
    tokens = dict.fromkeys(range(4), (0.0, 0.0))
    used: list[tuple[float, float]] = []
    for process, pause, cost in asks:
        now += pause
        left, until = tokens[process]
        if left < cost or until <= now:
            there = burst - max(0.0, full_at[rate.name] - now) * rate.per_s
            if there < cost:
                continue
            left = min(max(cost, kept), there)
            full_at[rate.name] = max(full_at[rate.name], now) + left / rate.per_s
            until = now + rates.HOLD_S
        tokens[process] = (left - cost, until)
        used.append((now, cost))
    require_within(rate, used)


def test_small_rates_are_not_taken_in_batches() -> None:
    assert rates.keep_back([Rate(40, per_s=2)], dearest=1) == 0
    assert rates.keep_back([Rate(100, per_s=100)], dearest=1) == 10
    assert rates.keep_back([Rate(100, per_s=100)], dearest=100) == 0


# -- lanes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lane", [Lane("welcome"), Lane("welcome", "shop", Rank.MARKETING), Lane("", "shop", Rank.BULK)]
)
def test_a_lane_is_read_back_from_its_text(lane: Lane) -> None:
    assert Lane.of(str(lane)) == lane
