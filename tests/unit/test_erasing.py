"""Finding somebody's addresses in whatever others write, hashing identities, and telling a withdrawal from its repetition."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.errors import ConfigError
from hub.pepper import Pepper
from hub.store.sweeping import MASK, needles, scrubbed
from hub.withdrawals import Withdrawals

_LOCAL = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+_-ü", min_size=1, max_size=12)
_EMAILS = st.builds(
    lambda local, domain: f"{local}@{domain}.example", _LOCAL, st.from_regex(r"[a-z]{1,8}", fullmatch=True)
)
_PHONES = st.from_regex(r"\+[1-9][0-9]{7,13}", fullmatch=True)
_WRITTEN = st.sampled_from(
    [str, quote, lambda v: quote(v, safe=""), lambda v: json.dumps(v)[1:-1], str.upper, lambda v: f"x{v}y"]
)


@given(email=_EMAILS, phone=_PHONES, write=_WRITTEN, around=st.text(max_size=20))
def test_an_address_is_found_however_it_is_written(email: str, phone: str, write: Any, around: str) -> None:
    wanted = needles([("email", email), ("phone", phone), ("id:shop", "77")])
    text = f"{around}{write(email)} {write(phone)}{around}"
    clean = scrubbed(text, wanted)
    assert MASK in clean
    assert not [needle for needle in wanted if needle in clean.lower()]


@given(text=st.text(max_size=40), email=_EMAILS)
def test_a_text_without_the_address_stays_as_it_is(text: str, email: str) -> None:
    assert scrubbed(text, needles([("email", email)])) == text


def test_a_short_number_and_a_vendors_id_are_not_looked_for() -> None:
    assert needles([("phone", "+49110"), ("id:shop", "77")]) == []


def test_an_identity_is_hashed_by_kind_and_secret_and_a_record_opens_for_its_owner_only() -> None:
    one, other = Pepper(b"a" * 32), Pepper(b"b" * 32)
    assert one.hash("email", "ada@example.com") == one.hash("email", "ada@example.com")
    assert len({one.hash("email", "x"), one.hash("phone", "x"), other.hash("email", "x"), one.hash("emailx", "")}) == 4
    sealed = one.seal({"keys": "ada@example.com"}, "e-1")
    assert "ada" not in sealed
    assert one.open(sealed, "e-1") == {"keys": "ada@example.com"}
    for pepper, owner in ((one, "e-2"), (other, "e-1")):
        with pytest.raises(ConfigError):
            pepper.open(sealed, owner)


_STATEMENTS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["granted", "revoked", "blocked"])),
    max_size=6,
    unique_by=lambda s: s[0],
)


@given(statements=_STATEMENTS)
def test_a_withdrawal_counts_once_and_only_while_it_is_the_last_word(statements: list[tuple[int, str]]) -> None:
    # given a ledger in its order, of which one statement after the other arrives
    withdrawals = Withdrawals(None, Catalogue({}), Clock())  # type: ignore[arg-type]  # "*" asks no library for its purpose
    ledger: list[dict[str, Any]] = []
    counted = []
    for at, state in statements:
        row = {"at": at, "state": state, "purpose": "*", "event_id": f"e-{at}"}
        ledger = sorted([*ledger, row], key=lambda row: row["at"])
        if state != "granted" and withdrawals._is_new(ledger, at, row["event_id"]):
            counted.append(at)
            # then nothing newer was said, and what was said before was a yes or nothing
            earlier = [row for row in ledger if row["at"] < at]
            assert ledger[-1]["at"] == at
            assert not earlier or earlier[-1]["state"] == "granted"
    # and of statements that arrive in order each change to no counts
    if statements == sorted(statements):
        states = ["granted", *(state for _, state in statements)]
        turns = [after for before, after in pairwise(states) if before == "granted" != after]
        assert len(counted) == len(turns)


def test_of_withdrawals_of_one_instant_the_first_counts() -> None:
    withdrawals = Withdrawals(None, Catalogue({}), Clock())  # type: ignore[arg-type]
    ledger = [
        {"at": 1, "state": "granted", "purpose": "*", "event_id": "e-1"},
        *({"at": 2, "state": "revoked", "purpose": "*", "event_id": f"e-{n}"} for n in (2, 3, 4)),
    ]
    assert [n for n in (2, 3, 4) if withdrawals._is_new(ledger, 2, f"e-{n}")] == [2]
