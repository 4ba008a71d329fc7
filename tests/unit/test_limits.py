"""Budgets in memory."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hub import Concurrency, Rate
from hub.limits import DEFAULT_CONCURRENCY, Limits
from tests.acme import acme


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_no_more_calls_in_flight_than_declared() -> None:
    limits, two = Limits(Time()), replace(acme, budgets=[Concurrency(2)])
    assert limits.take("c", two, 1) == 0
    assert limits.take("c", two, 1) == 0
    assert limits.take("c", two, 1) > 0
    limits.release("c")
    assert limits.take("c", two, 1) == 0


def test_without_a_declaration_there_is_a_default() -> None:
    limits, plain = Limits(Time()), replace(acme, budgets=[])
    assert [limits.take("c", plain, 1) for _ in range(DEFAULT_CONCURRENCY + 1)].count(0) == DEFAULT_CONCURRENCY


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), min_size=1, max_size=80))
def test_in_no_window_more_than_the_bucket_and_its_refill(asks: list[tuple[float, int]]) -> None:
    time, rate = Time(), Rate(10, per_s=2)
    limits, connector = Limits(time), replace(acme, budgets=[rate, Concurrency(10_000)])
    granted: list[tuple[float, int]] = []
    for pause, cost in asks:
        time.now += pause
        if limits.take("c", connector, cost) == 0:
            granted.append((time.now, cost))
    for start, _ in granted:
        for end in [at for at, _ in granted if at >= start]:
            used = sum(cost for at, cost in granted if start <= at <= end)
            assert used <= rate.limit + rate.per_s * (end - start) + 1e-6


def test_waiting_as_long_as_told_is_enough() -> None:
    time = Time()
    limits, connector = Limits(time), replace(acme, budgets=[Rate(1, per_s=0.5)])
    assert limits.take("c", connector, 1) == 0
    wait = limits.take("c", connector, 1)
    time.now += wait + 0.001
    assert limits.take("c", connector, 1) == 0


def test_the_vendor_s_word_holds_for_its_connection_only() -> None:
    time = Time()
    limits = Limits(time)
    limits.push("c", 30)
    assert limits.take("c", acme, 1) > 29
    assert limits.take("d", acme, 1) == 0
    assert limits.full() == ["c"]
    time.now += 31
    assert limits.take("c", acme, 1) == 0
