"""What became of the messages that were sent: left, delivered, failed, read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypedDict

from pydantic import BaseModel

from hub import ConsentSignal, ConsentState, Delivery, Identity
from hub_twilio.client import Message
from hub_twilio.connector import twilio
from hub_twilio.errors import PERMANENT, Reason, reason_of
from hub_twilio.triggers.reading import address, required

# Callbacks may arrive late and out of order; a status of lower rank is older news.
STATUS_RANK = {"accepted": 0, "scheduled": 0, "queued": 1, "sending": 2, "sent": 3, "partially_delivered": 3}
STATUS_RANK |= dict.fromkeys(("delivered", "undelivered", "failed", "canceled"), 4) | {"read": 5}

_FAILED = ("failed", "undelivered")


class SmsStatus(BaseModel):
    """What became of a message that was sent. `reference` names the step that sent it, if the hub did and a call told it."""

    message_id: str
    channel: str
    from_number: str | None
    to_number: str
    messaging_service_sid: str | None
    status: str
    final: bool
    """Nothing is to come but perhaps `read`."""
    error_code: str | None
    reason: Reason | None = None
    """Why it failed, in a word; None unless it did."""
    permanent: bool = False
    """Whether another message to this address on this channel would fail as well."""
    reference: str | None
    changed_at: datetime | None = None
    """Twilio's time of it, which a poll knows and a webhook does not."""


def is_status(message: SmsStatus) -> bool:
    """A message that was sent has a new status."""
    return True


def is_sent(message: SmsStatus) -> bool:
    """A message left Twilio."""
    return message.status == "sent"


def is_delivered(message: SmsStatus) -> bool:
    """The carrier confirmed that a message reached the handset."""
    return message.status == "delivered"


def is_failed(message: SmsStatus) -> bool:
    """A message could not be sent or delivered."""
    return message.status in _FAILED


def is_read(message: SmsStatus) -> bool:
    """A person opened a WhatsApp message."""
    return message.channel == "whatsapp" and message.status == "read"


KINDS: Mapping[str, Callable[[SmsStatus], bool]] = {
    "sms_status": is_status,
    "sms_sent": is_sent,
    "sms_delivered": is_delivered,
    "sms_failed": is_failed,
    "whatsapp_read": is_read,
}
"""The triggers, and which statuses each of them is about."""


def _failed_consent(message: SmsStatus) -> Iterable[ConsentSignal]:
    # With a Messaging Service the refusal may come only after the message was accepted.
    if reason_of(message.error_code) == "opted_out":
        yield ConsentSignal(message.channel, message.to_number, ConsentState.BLOCKED, "stop")


def _declare(name: str, title: str, provides: str | None = None, *, consent: bool = False) -> None:
    wanted = KINDS[name]

    def parse(delivery: Delivery) -> Iterable[SmsStatus]:
        if wanted(message := _told(delivery)):
            yield message

    parse.__doc__ = wanted.__doc__
    twilio.trigger(
        name,
        title=title,
        payload=SmsStatus,
        topic="status",
        sample=f"{name}.txt",
        fact=lambda message: f"{message.message_id}:{message.status}",
        subject=lambda message: Identity(phone=message.to_number),
        occurred_at=lambda message: message.changed_at,
        cause=lambda message: message.reference,
        correlate=("message_id", "reference"),
        consent=_failed_consent if consent else None,
        provides=provides,
    )(parse)


_declare("sms_status", "Message status changed")
_declare("sms_sent", "Message sent", "sms.sent")
_declare("sms_delivered", "Message delivered", "sms.delivered")
_declare("sms_failed", "Message failed", "sms.failed", consent=True)
_declare("whatsapp_read", "WhatsApp message read", "whatsapp.read")


def listed(message: Message) -> SmsStatus:
    """The same of a message in Twilio's list, which does not show the address that holds our reference."""
    channel, to_number = address(message.to)
    return SmsStatus(
        message_id=message.sid,
        channel=channel,
        from_number=address(message.from_number or "")[1] or None,
        to_number=to_number,
        messaging_service_sid=message.messaging_service_sid,
        status=message.status,
        final=is_final(message.status),
        **_failure(message.status, str(message.error_code) if message.error_code else None),
        reference=None,
        changed_at=message.date_updated or message.date_sent or message.date_created,
    )


def is_final(status: str) -> bool:
    """Whether nothing is to come but perhaps `read`."""
    return STATUS_RANK.get(status, 0) >= STATUS_RANK["delivered"]


class _Failure(TypedDict):
    error_code: str | None
    reason: Reason | None
    permanent: bool


def _failure(status: str, code: str | None) -> _Failure:
    reason = reason_of(code) if status in _FAILED else None
    return {"error_code": code, "reason": reason, "permanent": reason in PERMANENT}


def _told(delivery: Delivery) -> SmsStatus:
    params = delivery.params
    channel, to_number = address(required(params, "To"))
    status = required(params, "MessageStatus")
    return SmsStatus(
        message_id=required(params, "MessageSid"),
        channel=channel,
        from_number=address(params.get("From", ""))[1] or None,
        to_number=to_number,
        messaging_service_sid=params.get("MessagingServiceSid") or None,
        status=status,
        final=is_final(status),
        **_failure(status, params.get("ErrorCode") or None),
        # Only from the address, where the action put it: the body holds what others chose.
        reference=dict(delivery.request.query).get("reference"),
    )
