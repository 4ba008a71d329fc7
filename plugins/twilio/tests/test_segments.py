"""Segments as they are billed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_twilio.actions.sms import SendSms, send_sms
from hub_twilio.sandbox.taking import parts
from hub_twilio.segments import segments


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Hi", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        # a euro sign that would be torn apart goes into the next segment
        ("a" * 152 + "€" + "a" * 153, 3),
        ("ş" * 70, 1),
        ("ş" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_a_text_has_the_segments_of_its_alphabet(body: str, expected: int) -> None:
    assert segments(body) == expected


def _runs(letters: str) -> st.SearchStrategy[str]:
    """Texts long enough to be cut, of runs of the same letter."""
    run = st.builds(str.__mul__, st.sampled_from(letters), st.integers(1, 170))
    return st.lists(run, max_size=4).map("".join)


@given(_runs("aé\n€{") | _runs("aş😀€") | st.text(max_size=200))
def test_the_sandbox_counts_by_itself_and_alike(body: str) -> None:
    assert parts(body) == segments(body)


def test_a_spending_cap_may_count_them() -> None:
    assert send_sms.spends("segments", SendSms(to="+14155550100", body="ş" * 71)) == 2
    assert (send_sms.spends("messages", SendSms(to="+14155550100", body="x")), send_sms.spends("EUR", None)) == (1, 0)  # type: ignore[arg-type]
