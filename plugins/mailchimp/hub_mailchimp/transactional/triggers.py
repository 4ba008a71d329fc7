"""What became of single e-mails: sent, opened, clicked, bounced, refused, complained of.

One call holds up to 1000 events as JSON in a form field; there are no ids of deliveries or events. (django-anymail 15.2;
field names of the official guide, read 2026-08.) Events without `event`, of lists of refused addresses, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic_core import from_json

from hub import ConsentSignal, ConsentState, Delivery, Identity, Json, PayloadError
from hub_mailchimp.opens import Opener, opener
from hub_mailchimp.transactional.connector import mandrill
from hub_mailchimp.transactional.webhook import EVENTS_FIELD, TOPIC

RUN = "hub_run"
"""The metadata that names the effect an e-mail came of."""
MACHINE_WITHIN_S = 10.0
"""An open so soon after the e-mail left is a machine's."""


class Emailed(BaseModel):
    """One e-mail to one person. `reference` names the step that sent it, if the hub did."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message_id: str
    email: str
    sender: str | None = None
    subject: str | None = None
    template: str | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    reference: str | None = None
    occurred_at: AwareDatetime


class Opened(Emailed):
    """Somebody, or something, fetched its images."""

    ip: str | None = None
    user_agent: str | None = None
    by: Opener


class Clicked(Emailed):
    """A link of it was followed; link scanners do so, too."""

    url: str
    ip: str | None = None
    user_agent: str | None = None


class Bounced(Emailed):
    """It could not be delivered; `description` is the vendor's word, such as `bad_mailbox`."""

    description: str | None = None


E = TypeVar("E", bound=Emailed)


# -- from a call to payloads -------------------------------------------------------------------------------------------


def _events(delivery: Delivery, kind: str) -> Iterator[Mapping[str, Json]]:
    """The events of one kind. Raises PayloadError."""
    try:
        found = from_json(delivery.params[EVENTS_FIELD])
    except ValueError as error:
        raise PayloadError(f"{EVENTS_FIELD} is no JSON") from error
    if not isinstance(found, list) or not all(isinstance(event, dict) for event in found):
        raise PayloadError(f"{EVENTS_FIELD} is no list of events")
    return (event for event in found if event.get("event") == kind)


def _fields(event: Mapping[str, Json]) -> dict[str, Json]:
    """As fields of every payload. Raises PayloadError."""
    message = event.get("msg")
    if not isinstance(message, dict):
        raise PayloadError("`msg` is missing")
    metadata = message.get("metadata")
    # Without any metadata it may be an empty list.
    told = {name: str(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {}
    return {
        "message_id": event.get("_id") or message.get("_id"),
        "email": message.get("email"),
        "sender": message.get("sender"),
        "subject": message.get("subject"),
        "template": message.get("template"),
        "tags": message.get("tags") or [],
        "metadata": told,
        "reference": told.get(RUN),
        "occurred_at": datetime.fromtimestamp(float(event["ts"]), UTC),
    }


def _opened(event: Mapping[str, Json]) -> Opened:
    message = event.get("msg") or {}
    left_at = message.get("ts")
    by = opener(
        after_s=float(event["ts"]) - float(left_at) if left_at else None,
        machine_within_s=MACHINE_WITHIN_S,
        clicked=bool(message.get("clicks")),
        bounced=message.get("state") == "bounced",
        user_agent=event.get("user_agent"),
    )
    return Opened.model_validate(
        {**_fields(event), "ip": event.get("ip"), "user_agent": event.get("user_agent"), "by": by}
    )


def _clicked(event: Mapping[str, Json]) -> Clicked:
    more = {name: event.get(name) for name in ("url", "ip", "user_agent")}
    return Clicked.model_validate({**_fields(event), **more})


def _bounced(event: Mapping[str, Json]) -> Bounced:
    return Bounced.model_validate({**_fields(event), "description": event["msg"].get("bounce_description")})


def _emailed(event: Mapping[str, Json]) -> Emailed:
    return Emailed.model_validate(_fields(event))


# -- what they say about consent ---------------------------------------------------------------------------------------


def _blocked(reason: str) -> Callable[[Emailed], Iterable[ConsentSignal]]:
    return lambda emailed: [ConsentSignal("email", emailed.email, ConsentState.BLOCKED, reason)]


def _revoked(emailed: Emailed) -> Iterable[ConsentSignal]:
    return [ConsentSignal("email", emailed.email, ConsentState.REVOKED, "mandrill_unsubscribed")]


# -- the triggers ------------------------------------------------------------------------------------------------------


def _fact(emailed: Emailed) -> str:
    """Message and time: two of one kind in the same second are one. A click is told by its address, too."""
    url = f":{sha256(emailed.url.encode()).hexdigest()[:16]}" if isinstance(emailed, Clicked) else ""
    return f"{emailed.message_id}:{int(emailed.occurred_at.timestamp())}{url}"


def _declare(
    name: str,
    kind: str,
    title: str,
    payload: type[E],
    make: Callable[[Mapping[str, Json]], E],
    *,
    provides: str | None = None,
    consent: Callable[[Emailed], Iterable[ConsentSignal]] | None = None,
) -> None:
    """Declare the trigger of one kind of event."""

    @mandrill.trigger(
        name,
        title=title,
        payload=payload,
        topic=TOPIC,
        sample=f"{name}.txt",
        fact=_fact,
        subject=lambda emailed: Identity(email=emailed.email),
        occurred_at=lambda emailed: emailed.occurred_at,
        correlate=("message_id", "reference"),
        cause=lambda emailed: emailed.reference,
        provides=provides,
        consent=consent,
    )
    def parse(delivery: Delivery) -> Iterable[E]:
        return [make(event) for event in _events(delivery, kind)]


_declare("email_sent", "send", "E-mail sent", Emailed, _emailed)
_declare("email_opened", "open", "E-mail opened", Opened, _opened, provides="email.opened")
_declare("email_clicked", "click", "Link in an e-mail clicked", Clicked, _clicked, provides="email.clicked")
_declare(
    "email_hard_bounced",
    "hard_bounce",
    "E-mail bounced for good",
    Bounced,
    _bounced,
    provides="email.bounced",
    consent=_blocked("hard_bounce"),
)
_declare("email_soft_bounced", "soft_bounce", "E-mail bounced for now", Bounced, _bounced)
_declare("email_marked_spam", "spam", "E-mail marked as spam", Emailed, _emailed, consent=_blocked("complaint"))
_declare(
    "email_unsubscribed",
    "unsub",
    "Unsubscribed by a link in an e-mail",
    Emailed,
    _emailed,
    provides="email.unsubscribed",
    consent=_revoked,
)
_declare("email_rejected", "reject", "E-mail refused by the vendor", Emailed, _emailed)
