"""What Mailchimp tells of audiences: who joined, changed, left or bounced off, and that a campaign was sent.

Fields of subscribe and unsubscribe follow the official guide (asyncapi, read 2026-08-13), those of the other calls older
pages of it, so that these are read leniently. `fired_at` names no zone and is taken for UTC.

One fact may be told by a webhook and found by the poll, and the two name its time each in its own way: when it was
fired, and when the member changed. Joining and changing are therefore the same fact within a span. Leaving is not: of
two that leave so close to each other none may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from hub import ConsentSignal, ConsentState, Delivery, Identity, Json, PayloadError
from hub_mailchimp.marketing.client import member_id
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.webhook import nested

JOINED_SPAN_S = 600
CHANGED_SPAN_S = 60


def _utc(value: Any) -> Any:  # the input of a validator may be anything
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is no time") from error
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


Moment = Annotated[AwareDatetime, BeforeValidator(_utc), AfterValidator(lambda moment: moment.astimezone(UTC))]
MaybeMoment = Annotated[Moment | None, BeforeValidator(lambda value: value or None)]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
"""Mailchimp sends an empty string where something is not known."""


# -- payloads ----------------------------------------------------------------------------------------------------------


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Member(_Payload):
    """A member of an audience. `merge_fields` are by tag (`FNAME`), addresses as objects of their parts."""

    list_id: str
    email: str
    email_id: str
    """The MD5 of the lower-case address: the member's id in the audience."""
    first_name: Text = None
    last_name: Text = None
    merge_fields: dict[str, Json] = {}
    occurred_at: Moment


class Leaver(Member):
    """A member who left. `reason` is `manual` or `abuse`, `action` `unsub` or `delete`; a poll knows neither."""

    action: Text = None
    reason: Text = None
    campaign_id: Text = None


class Cleaned(_Payload):
    """An address that Mailchimp writes to no more. `reason` is `hard` or `abuse`; a poll does not know it."""

    list_id: str
    email: str
    email_id: str
    reason: Text = None
    campaign_id: Text = None
    occurred_at: Moment


class EmailChanged(_Payload):
    """A member with a new address."""

    list_id: str
    old_email: str
    email: str
    email_id: str
    occurred_at: Moment


class CampaignSent(_Payload):
    """A campaign that was sent to its audience."""

    campaign_id: str
    list_id: Text = None
    subject: Text = None
    occurred_at: Moment


# -- from a call to payloads -------------------------------------------------------------------------------------------


def _call(delivery: Delivery) -> tuple[Mapping[str, Json], Json]:
    """A call's data, and when it was fired. Raises PayloadError."""
    body = nested(delivery.request.form)
    data = body.get("data")
    if not isinstance(data, dict) or "fired_at" not in body:
        raise PayloadError("`data` or `fired_at` is missing")
    return data, body["fired_at"]


def _email(data: Mapping[str, Json], field: str = "email") -> str:
    email = data.get(field)
    if not isinstance(email, str) or "@" not in email:
        raise PayloadError(f"`data[{field}]` is no e-mail address")
    return email


def member_fields(list_id: Json, email: str, merge_fields: Json, at: Json) -> dict[str, Json]:
    """What webhooks and polls know of a member alike, as fields of `Member`."""
    merges = dict(merge_fields) if isinstance(merge_fields, dict) else {}
    return {
        "list_id": list_id,
        "email": email,
        "email_id": member_id(email),
        "first_name": merges.get("FNAME"),
        "last_name": merges.get("LNAME"),
        "merge_fields": merges,
        "occurred_at": at,
    }


def _member(delivery: Delivery) -> Member:
    data, fired_at = _call(delivery)
    return Member.model_validate(member_fields(data.get("list_id"), _email(data), data.get("merges"), fired_at))


def _person(member: Member) -> Identity:
    return Identity(email=member.email, first_name=member.first_name, last_name=member.last_name)


def span_fact(member: Member, span_s: int) -> str:
    """Names a change of a member, the same for all of a span."""
    return f"{member.list_id}:{member.email_id}:{int(member.occurred_at.timestamp()) // span_s}"


def _moment_fact(payload: Leaver | Cleaned) -> str:
    return f"{payload.list_id}:{payload.email_id}:{int(payload.occurred_at.timestamp())}"


# -- what they agreed to -----------------------------------------------------------------------------------------------


def _joined_consent(member: Member) -> Iterator[ConsentSignal]:
    yield ConsentSignal("email", member.email, ConsentState.GRANTED, "mailchimp_subscribed")


def _left_consent(member: Leaver) -> Iterator[ConsentSignal]:
    """A complaint blocks; who was taken out of the audience by somebody else said nothing."""
    if member.reason == "abuse":
        yield ConsentSignal("email", member.email, ConsentState.BLOCKED, "complaint")
    elif member.action != "delete":
        yield ConsentSignal("email", member.email, ConsentState.REVOKED, "mailchimp_unsubscribed")


def _cleaned_consent(member: Cleaned) -> Iterator[ConsentSignal]:
    reason = "complaint" if member.reason == "abuse" else "hard_bounce"
    yield ConsentSignal("email", member.email, ConsentState.BLOCKED, reason)


# -- the triggers ------------------------------------------------------------------------------------------------------


@mailchimp.trigger(
    "member_subscribed",
    payload=Member,
    topic="subscribe",
    sample="member_subscribed.txt",
    fact=lambda member: span_fact(member, JOINED_SPAN_S),
    subject=_person,
    occurred_at=lambda member: member.occurred_at,
    correlate=["list_id"],
    consent=_joined_consent,
)
def member_subscribed(delivery: Delivery) -> Iterable[Member]:
    """Somebody joined an audience."""
    return [_member(delivery)]


@mailchimp.trigger(
    "member_unsubscribed",
    payload=Leaver,
    topic="unsubscribe",
    sample="member_unsubscribed.txt",
    fact=_moment_fact,
    subject=_person,
    occurred_at=lambda member: member.occurred_at,
    correlate=["list_id", "campaign_id"],
    consent=_left_consent,
    provides="email.unsubscribed",
)
def member_unsubscribed(delivery: Delivery) -> Iterable[Leaver]:
    """Somebody left an audience."""
    data, _ = _call(delivery)
    said = {name: data.get(name) for name in ("action", "reason", "campaign_id")}
    return [Leaver.model_validate({**_member(delivery).model_dump(), **said})]


@mailchimp.trigger(
    "member_updated",
    payload=Member,
    topic="profile",
    sample="member_updated.txt",
    fact=lambda member: span_fact(member, CHANGED_SPAN_S),
    subject=_person,
    occurred_at=lambda member: member.occurred_at,
    correlate=["list_id"],
)
def member_updated(delivery: Delivery) -> Iterable[Member]:
    """A member's profile was changed."""
    return [_member(delivery)]


@mailchimp.trigger(
    "member_cleaned",
    payload=Cleaned,
    topic="cleaned",
    sample="member_cleaned.txt",
    fact=_moment_fact,
    subject=lambda member: Identity(email=member.email),
    occurred_at=lambda member: member.occurred_at,
    correlate=["list_id", "campaign_id"],
    consent=_cleaned_consent,
)
def member_cleaned(delivery: Delivery) -> Iterable[Cleaned]:
    """An address was taken out of use, for it bounced or its owner complained."""
    data, fired_at = _call(delivery)
    email = _email(data)
    return [
        Cleaned(
            list_id=data.get("list_id"),
            email=email,
            email_id=member_id(email),
            reason=data.get("reason"),
            campaign_id=data.get("campaign_id"),
            occurred_at=fired_at,
        )
    ]


@mailchimp.trigger(
    "email_changed",
    payload=EmailChanged,
    topic="upemail",
    sample="email_changed.txt",
    fact=lambda change: (
        f"{change.list_id}:{sha256(change.old_email.encode()).hexdigest()[:16]}:{change.email_id}:"
        f"{int(change.occurred_at.timestamp())}"
    ),
    subject=lambda change: Identity(email=change.email),
    occurred_at=lambda change: change.occurred_at,
    correlate=["list_id"],
)
def email_changed(delivery: Delivery) -> Iterable[EmailChanged]:
    """A member has a new address."""
    data, fired_at = _call(delivery)
    email = _email(data, "new_email")
    return [
        EmailChanged(
            list_id=data.get("list_id"),
            old_email=_email(data, "old_email"),
            email=email,
            email_id=member_id(email),
            occurred_at=fired_at,
        )
    ]


@mailchimp.trigger(
    "campaign_sent",
    payload=CampaignSent,
    topic="campaign",
    sample="campaign_sent.txt",
    fact=lambda campaign: campaign.campaign_id,
    occurred_at=lambda campaign: campaign.occurred_at,
    correlate=["campaign_id", "list_id"],
)
def campaign_sent(delivery: Delivery) -> Iterable[CampaignSent]:
    """A campaign was sent."""
    data, fired_at = _call(delivery)
    if data.get("status") != "sent":
        return []
    return [
        CampaignSent(
            campaign_id=data.get("id"), list_id=data.get("list_id"), subject=data.get("subject"), occurred_at=fired_at
        )
    ]
