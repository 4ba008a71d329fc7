"""What Mailchimp tells of members and campaigns, as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from hub import ConsentSignal, ConsentState, Delivery, Event, Identity, PayloadError
from hub_mailchimp import mailchimp

from .conftest import FIXTURES

Delivered = Callable[..., Delivery]


@pytest.fixture
def event(delivered: Delivered) -> Callable[..., Event]:
    """The one event of a sample, or of another body."""

    def make(sample: str, body: bytes | None = None) -> Event:
        parsed = mailchimp.parse(delivered(mailchimp, body or (FIXTURES / "marketing" / sample).read_bytes()))
        assert parsed
        [made] = parsed
        return made

    return make


def test_a_subscription_tells_who_with_nested_merge_fields(event: Callable[..., Event]) -> None:
    made = event("member_subscribed.txt")
    assert made.type == "mailchimp.member_subscribed"
    assert made.subject == Identity(email="Ada@example.test", first_name="Ada", last_name="Lovelace")
    assert made.data["merge_fields"]["ADDRESS"]["city"] == "Torino"
    assert made.data["email_id"] == "28ae5bf8fa0cde12855e61ac303859cc"  # of the lower-case address
    assert made.data["occurred_at"] == "2026-11-20T10:15:30Z"
    assert made.consents == (ConsentSignal("email", "Ada@example.test", ConsentState.GRANTED, "mailchimp_subscribed"),)


@pytest.mark.parametrize(
    ("action", "reason", "state"),
    [
        ("unsub", "manual", ConsentState.REVOKED),
        ("unsub", "abuse", ConsentState.BLOCKED),
        ("delete", "abuse", ConsentState.BLOCKED),
        ("delete", "manual", None),
    ],
)
def test_leaving_revokes_a_complaint_blocks_and_being_taken_out_says_nothing(
    event: Callable[..., Event], action: str, reason: str, state: ConsentState | None
) -> None:
    body = (FIXTURES / "marketing" / "member_unsubscribed.txt").read_bytes()
    body = body.replace(b"action%5D=unsub", f"action%5D={action}".encode())
    body = body.replace(b"reason%5D=manual", f"reason%5D={reason}".encode())
    made = event("", body)
    assert [signal.state for signal in made.consents] == ([state] if state else [])
    assert (made.data["action"], made.data["reason"], made.correlate["campaign_id"]) == (action, reason, "cb398d21d2")


@pytest.mark.parametrize(("reason", "why"), [("hard", "hard_bounce"), ("abuse", "complaint")])
def test_a_cleaned_address_is_blocked(event: Callable[..., Event], reason: str, why: str) -> None:
    body = (FIXTURES / "marketing" / "member_cleaned.txt").read_bytes()
    made = event("", body.replace(b"reason%5D=hard", f"reason%5D={reason}".encode()))
    assert made.consents == (ConsentSignal("email", "gone@example.test", ConsentState.BLOCKED, why),)


def test_a_new_address_is_the_subject_and_the_old_one_is_told(event: Callable[..., Event]) -> None:
    made = event("email_changed.txt")
    assert made.subject == Identity(email="ada.king@example.test")
    assert made.data["old_email"] == "ada@example.test"


def test_only_a_campaign_that_was_sent_is_one(delivered: Delivered, event: Callable[..., Event]) -> None:
    assert event("campaign_sent.txt").fact_id == "campaign_sent:cb398d21d2"
    body = (FIXTURES / "marketing" / "campaign_sent.txt").read_bytes().replace(b"=sent", b"=canceled")
    assert mailchimp.parse(delivered(mailchimp, body)) == []


@pytest.mark.parametrize(
    ("sample", "same", "other"),
    [
        ("member_subscribed.txt", "10%3A19%3A59", "10%3A20%3A00"),
        ("member_updated.txt", "10%3A20%3A59", "10%3A21%3A00"),
        ("member_unsubscribed.txt", None, "11%3A00%3A01"),
        ("member_cleaned.txt", None, "12%3A00%3A01"),
    ],
)
def test_joining_and_changing_are_one_fact_within_a_span_and_leaving_is_not(
    event: Callable[..., Event], sample: str, same: str | None, other: str
) -> None:
    body = (FIXTURES / "marketing" / sample).read_bytes().decode()
    fired_at = body.split("fired_at=")[1].split("&")[0].split("+")[1]
    first = event("", body.encode())
    assert event("", body.replace(fired_at, other).encode()).fact_id != first.fact_id
    if same:
        assert event("", body.replace(fired_at, same).encode()).fact_id == first.fact_id


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "subscribe"},
        {"type": "subscribe", "fired_at": "yesterday", "data[list_id]": "a", "data[email]": "x@example.test"},
        {"type": "subscribe", "fired_at": "2026-11-20 10:00:00", "data[list_id]": "a", "data[email]": "nobody"},
        {"type": "subscribe", "fired_at": "2026-11-20 10:00:00", "data[email]": "x@example.test"},
        {"type": "subscribe", "fired_at": "2026-11-20 10:00:00", "data": "x@example.test"},
        {"type": "upemail", "fired_at": "2026-11-20 10:00:00", "data[list_id]": "a"},
    ],
)
def test_what_cannot_be_read_is_said_without_the_person(delivered: Delivered, fields: dict[str, str]) -> None:
    with pytest.raises(PayloadError) as caught:
        mailchimp.parse(delivered(mailchimp, urlencode(fields).encode()))
    assert "x@example.test" not in str(caught.value)


def test_an_unknown_kind_of_call_is_nobodys(delivered: Delivered) -> None:
    assert mailchimp.parse(delivered(mailchimp, b"type=something")) is None


def test_what_a_marketing_account_lacks_is_said_with_what_to_connect() -> None:
    assert "mandrill" in mailchimp.lacks["email.send"]
    provided: set[Any] = {action.provides for action in mailchimp.actions.values()}
    provided |= {trigger.provides for trigger in mailchimp.triggers.values()}
    assert {"email.unsubscribe", "audience.add", "audience.remove", "email.unsubscribed"} <= provided
    assert not provided & set(mailchimp.lacks)
