"""Money, phones, identities, time: the small values everything else rests on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import Identity, Money, e164
from hub.clock import format_duration, parse_duration_ms, parse_time_ms, rfc3339


@given(st.integers(-(10**12), 10**12), st.sampled_from(["EUR", "USD", "TRY", "JPY", "KWD"]))
def test_money_survives_being_written_and_read(minor: int, currency: str) -> None:
    money = Money(amount_minor=minor, currency=currency)
    assert Money.parse(str(money)) == money


@given(st.decimals(0, 10**6, places=2))
def test_money_counts_cents_exactly(amount: Decimal) -> None:
    assert Money.of(amount, "EUR").amount_minor == int(amount * 100)


@pytest.mark.parametrize("text", ["50", "EUR 50", "50.001 EUR", "1.5 JPY", "nan EUR", "50 eur", "1e3 EUR"])
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"money|decimals"):
        Money.parse(text)


def test_phones_become_e164_or_nothing() -> None:
    assert e164("+90 532 123 45 67") == "+905321234567"
    assert e164("0532 123 45 67", "TR") == "+905321234567"
    assert e164("12") is None
    assert e164("ada@example.com") is None


def test_identity_keys_are_normalised_and_strongest_first() -> None:
    someone = Identity(email=" Ada@Example.COM ", phone="+1 415 555 0100", vendor="77")
    assert someone.keys("shop") == [("id:shop", "77"), ("email", "ada@example.com"), ("phone", "+14155550100")]
    assert Identity(email="no address", phone="none").keys("shop") == []


@pytest.mark.parametrize(
    ("text", "ms"),
    [("24h", 86_400_000), ("1d 12h", 129_600_000), ("-3d", -259_200_000), ("500ms", 500), ("90 s", 90_000)],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "24", "h", "1y", "1.5h", "24 hours please"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["5300w", "99999999999d", "-99999999999d"])
def test_a_duration_that_no_date_outlasts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration_ms(text)


@given(st.integers(0, 4 * 10**12))
def test_instants_survive_being_written_and_read(ms: int) -> None:
    assert parse_time_ms(rfc3339(ms)) == ms


def test_lengths_of_time_read_well() -> None:
    assert [format_duration(ms) for ms in (0, 900, 90_000, 86_400_000, 90_061_000)] == [
        "0ms",
        "900ms",
        "1m 30s",
        "1d",
        "1d 1h",
    ]


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        parse_time_ms("2026-11-22T10:00:00")
