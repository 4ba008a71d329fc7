"""Purposes, and what an address's ledger permits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import RecipeErrors
from hub.events import ConsentState
from hub.purposes import LedgerEntry, LegalClass, Purpose, load_purposes, permits

CART = Purpose("cart", "sms", LegalClass.MARKETING)
ORDER = Purpose("order", "sms", LegalClass.TRANSACTIONAL)
ANSWER = Purpose("answer", "sms", LegalClass.SERVICE)

GRANTED, REVOKED, BLOCKED = ConsentState.GRANTED, ConsentState.REVOKED, ConsentState.BLOCKED


def entry(state: ConsentState, at_ms: int, purpose: str = "*", reason: str = "form") -> LedgerEntry:
    return LedgerEntry(state, purpose, reason, at_ms)


def test_an_empty_ledger_permits_what_needs_no_consent() -> None:
    assert not permits([], CART).allowed
    assert permits([], CART).reason == "no_consent"
    assert permits([], ORDER).allowed
    assert permits([], ANSWER).allowed


@pytest.mark.parametrize("purpose", ["*", "cart"])
def test_a_consent_for_all_or_for_the_purpose_permits_marketing(purpose: str) -> None:
    assert permits([entry(GRANTED, 1, purpose)], CART).reason == "consent given"


def test_a_consent_for_another_purpose_does_not_count() -> None:
    assert permits([entry(GRANTED, 1, "newsletter")], CART).reason == "no_consent"


def test_the_last_word_on_a_purpose_counts() -> None:
    # given a consent, taken back and given again
    words = [entry(GRANTED, 1), entry(REVOKED, 2, reason="unsubscribed"), entry(GRANTED, 3, "cart")]
    # then each moment has its answer
    assert permits(words[:1], CART).allowed
    assert permits(words[:2], CART).reason == "no_consent: revoked (unsubscribed)"
    assert permits(words, CART).allowed


def test_a_revocation_of_another_purpose_leaves_this_one() -> None:
    assert permits([entry(GRANTED, 1), entry(REVOKED, 2, "newsletter")], CART).allowed


def test_a_revocation_leaves_messages_about_the_persons_own_business() -> None:
    assert permits([entry(REVOKED, 1)], ORDER).allowed
    assert permits([entry(REVOKED, 1)], ANSWER).allowed


@pytest.mark.parametrize("purpose", [CART, ORDER, ANSWER])
def test_stop_blocks_everything_until_start(purpose: Purpose) -> None:
    stopped = [entry(GRANTED, 1), entry(BLOCKED, 2, reason="stop")]
    assert permits(stopped, purpose).reason == "suppressed: stop"
    assert not permits([*stopped, entry(GRANTED, 3, reason="ticked a box")], purpose).allowed
    assert permits([*stopped, entry(GRANTED, 3, reason="start")], purpose).allowed


def test_start_does_not_lift_an_erasure() -> None:
    ledger = [entry(BLOCKED, 1, reason="erasure"), entry(BLOCKED, 2, reason="stop"), entry(GRANTED, 3, reason="start")]
    assert permits(ledger, ORDER).reason == "suppressed: erasure"


def test_a_stop_in_the_same_millisecond_as_a_start_stands() -> None:
    ledger = [entry(BLOCKED, 1, reason="stop"), entry(GRANTED, 1, reason="start")]
    assert not permits(ledger, ORDER).allowed


entries = st.builds(
    LedgerEntry,
    state=st.sampled_from(ConsentState),
    purpose=st.sampled_from(["*", "cart", "order"]),
    reason=st.sampled_from(["start", "stop", "form", "bounce", "erasure"]),
    at_ms=st.integers(0, 20),
)
ledgers = st.lists(entries, max_size=12)
purposes = st.sampled_from([CART, ORDER, ANSWER])


@given(ledgers, purposes)
def test_the_order_of_rows_does_not_matter_when_their_times_differ(ledger: list[LedgerEntry], purpose: Purpose) -> None:
    unique = list({e.at_ms: e for e in ledger}.values())
    assert permits(unique, purpose) == permits(unique[::-1], purpose)


@given(ledgers, purposes)
def test_nothing_leaves_after_a_block_without_a_later_start(ledger: list[LedgerEntry], purpose: Purpose) -> None:
    blocked = [*ledger, entry(BLOCKED, 21, reason="stop")]
    assert not permits(blocked, purpose).allowed
    assert not permits([*blocked, entry(GRANTED, 22)], purpose).allowed


@given(ledgers)
def test_what_marketing_may_send_the_other_classes_may_too(ledger: list[LedgerEntry]) -> None:
    if permits(ledger, CART).allowed:
        assert permits(ledger, ORDER).allowed
        assert permits(ledger, ANSWER).allowed


@given(ledgers)
def test_marketing_is_permitted_only_with_a_grant_in_the_ledger(ledger: list[LedgerEntry]) -> None:
    if permits(ledger, CART).allowed:
        assert any(e.state is GRANTED and e.purpose in ("*", "cart") for e in ledger)


def test_a_purposes_file_is_read() -> None:
    found = load_purposes("cart: {channel: sms, class: marketing}\norder: {class: transactional}\n")
    assert found == {"cart": CART, "order": Purpose("order", None, LegalClass.TRANSACTIONAL)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "cart: {channel: sms, class: markting}",
            "line 1, at cart/class: 'markting' is no class; did you mean marketing?",
        ),
        ("cart: {channel: sms}", "line 1, at cart: class is missing"),
        (
            "a: {class: service}\ncart: {klass: marketing}",
            "line 2, at cart/klass: unknown field klass; did you mean class?",
        ),
        ("cart: {class: service, caps: 3}", "caps is not part of this release"),
        ("Cart: {class: service}", "'Cart' is no name of a purpose"),
        ("cart: marketing", "say what cart is"),
        ("cart: {class: service, channel: 5}", "channel is a word"),
        ("- cart", "a list of purposes is expected"),
    ],
)
def test_a_wrong_purposes_file_is_refused_with_its_place(source: str, message: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load_purposes(source)
    assert message in str(caught.value)
    assert "purposes.yaml, line" in str(caught.value)
