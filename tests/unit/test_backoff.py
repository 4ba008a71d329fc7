"""The retry schedule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.backoff import GIVE_UP_MS, MIN_ATTEMPTS, backoff_s, is_over

draws = st.floats(0, 1)


@given(st.integers(1, 10_000), draws)
def test_a_retry_comes_within_an_hour_and_not_at_once(attempts: int, draw: float) -> None:
    assert 0.1 <= backoff_s(attempts, draw) <= min(3600, 2.0 ** min(attempts, 12))


@given(st.integers(1, 40))
def test_the_jitter_is_full(attempts: int) -> None:
    assert backoff_s(attempts, 0.0) == 0.1
    assert backoff_s(attempts, 1.0) == min(3600, 2.0**attempts)


@given(st.integers(1, 40), draws, st.floats(0.1, 86_400))
def test_the_vendor_s_word_is_kept(attempts: int, draw: float, told_s: float) -> None:
    assert told_s <= backoff_s(attempts, draw, told_s) <= told_s * 1.1


@given(st.integers(1, 40), draws, st.floats(86_400))
def test_a_vendor_that_asks_for_more_than_a_day_is_asked_again_after_one(
    attempts: int, draw: float, told_s: float
) -> None:
    assert 86_400 <= backoff_s(attempts, draw, told_s) <= 86_400 * 1.1


@given(st.lists(draws, min_size=200, max_size=200))
def test_an_outage_is_waited_out_for_three_days(drawn: list[float]) -> None:
    now_ms, attempts = 0, 0
    while not is_over(attempts, 0, now_ms):
        attempts += 1
        # A draw of nothing again and again would be no jitter.
        now_ms += int(backoff_s(attempts, max(0.3, drawn[attempts % len(drawn)])) * 1000)
    assert attempts >= MIN_ATTEMPTS
    assert GIVE_UP_MS < now_ms <= GIVE_UP_MS + 3_600_000
