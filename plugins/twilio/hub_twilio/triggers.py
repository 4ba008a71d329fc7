"""What Twilio tells: messages that people send to our numbers, and what became of the messages we sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from hub import ConsentSignal, ConsentState, Delivery, Identity, PayloadError
from hub_twilio.connector import twilio

OptOut = Literal["STOP", "START", "HELP"]

# The words that Twilio itself acts on, as the whole message in any case (Advanced Opt-Out page, read 2026-11). Its YES is
# left out: people answer YES to questions that have nothing to do with consent. With Advanced Opt-Out Twilio says itself
# what it took the message for.
STOP_WORDS = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START_WORDS = frozenset({"START", "UNSTOP"})
HELP_WORDS = frozenset({"HELP", "INFO"})
_MEANINGS: dict[str, OptOut] = {
    **dict.fromkeys(STOP_WORDS, "STOP"),
    **dict.fromkeys(START_WORDS, "START"),
    **dict.fromkeys(HELP_WORDS, "HELP"),
}

# Callbacks may arrive late and out of order; a status of lower rank is older news.
STATUS_RANK = {"accepted": 0, "scheduled": 0, "queued": 1, "sending": 2, "sent": 3, "partially_delivered": 3}
STATUS_RANK |= dict.fromkeys(("delivered", "undelivered", "failed", "canceled"), 4) | {"read": 5}

_OPTED_OUT = "21610"


class SmsReceived(BaseModel):
    """A message that a person sent. Numbers are bare; `channel` says where (`sms`, `whatsapp`)."""

    message_id: str
    channel: str
    from_number: str
    to_number: str
    messaging_service_sid: str | None
    body: str
    keyword: str | None
    """The upper-cased body if it is a single word."""
    opt_out: OptOut | None
    """What it means for consent, by Twilio's own word for it or else by the words that Twilio acts on."""
    num_media: int


class SmsStatus(BaseModel):
    """What became of a message that was sent. `reference` names the step that sent it, if the hub did."""

    message_id: str
    channel: str
    from_number: str | None
    to_number: str
    messaging_service_sid: str | None
    status: str
    final: bool
    """Nothing is to come but perhaps `read`."""
    error_code: str | None
    reference: str | None


def _received_consent(message: SmsReceived) -> Iterable[ConsentSignal]:
    if message.opt_out == "STOP":
        yield ConsentSignal(message.channel, message.from_number, ConsentState.BLOCKED, "stop")
    elif message.opt_out == "START":
        yield ConsentSignal(message.channel, message.from_number, ConsentState.GRANTED, "start")


def _failed_consent(message: SmsStatus) -> Iterable[ConsentSignal]:
    # With a Messaging Service the refusal may come only after the message was accepted.
    if message.error_code == _OPTED_OUT:
        yield ConsentSignal(message.channel, message.to_number, ConsentState.BLOCKED, "stop")


def _status_fact(message: SmsStatus) -> str:
    return f"{message.message_id}:{message.status}"


def _recipient(message: SmsStatus) -> Identity:
    return Identity(phone=message.to_number)


@twilio.trigger(
    "sms_received",
    title="Message received",
    payload=SmsReceived,
    topic="message",
    sample="sms_received.txt",
    fact=lambda message: message.message_id,
    subject=lambda message: Identity(phone=message.from_number),
    correlate=("from_number", "to_number"),
    consent=_received_consent,
    provides="sms.received",
)
def sms_received(delivery: Delivery) -> Iterable[SmsReceived]:
    """A person sent a message to one of our numbers."""
    params = delivery.params
    channel, from_number = _address(_required(params, "From"))
    body = params.get("Body", "")
    keyword = _keyword(body)
    yield SmsReceived(
        message_id=_required(params, "MessageSid"),
        channel=channel,
        from_number=from_number,
        to_number=_address(_required(params, "To"))[1],
        messaging_service_sid=params.get("MessagingServiceSid") or None,
        body=body,
        keyword=keyword,
        opt_out=_MEANINGS.get(params.get("OptOutType", "")) or _MEANINGS.get(keyword or ""),
        num_media=int(params.get("NumMedia") or 0),
    )


@twilio.trigger(
    "sms_status",
    title="Message status changed",
    payload=SmsStatus,
    topic="status",
    sample="sms_status.txt",
    fact=_status_fact,
    subject=_recipient,
    cause=lambda message: message.reference,
    correlate=("message_id", "reference"),
)
def sms_status(delivery: Delivery) -> Iterable[SmsStatus]:
    """A message that was sent has a new status."""
    yield _status(delivery)


@twilio.trigger(
    "sms_delivered",
    title="Message delivered",
    payload=SmsStatus,
    topic="status",
    sample="sms_delivered.txt",
    fact=_status_fact,
    subject=_recipient,
    cause=lambda message: message.reference,
    correlate=("message_id", "reference"),
    provides="sms.delivered",
)
def sms_delivered(delivery: Delivery) -> Iterable[SmsStatus]:
    """The carrier confirmed that a message reached the handset."""
    if (message := _status(delivery)).status == "delivered":
        yield message


@twilio.trigger(
    "sms_failed",
    title="Message failed",
    payload=SmsStatus,
    topic="status",
    sample="sms_failed.txt",
    fact=_status_fact,
    subject=_recipient,
    cause=lambda message: message.reference,
    correlate=("message_id", "reference"),
    consent=_failed_consent,
    provides="sms.failed",
)
def sms_failed(delivery: Delivery) -> Iterable[SmsStatus]:
    """A message could not be sent or delivered."""
    if (message := _status(delivery)).status in ("failed", "undelivered"):
        yield message


def _status(delivery: Delivery) -> SmsStatus:
    params = delivery.params
    channel, to_number = _address(_required(params, "To"))
    status = _required(params, "MessageStatus")
    return SmsStatus(
        message_id=_required(params, "MessageSid"),
        channel=channel,
        from_number=_address(params.get("From", ""))[1] or None,
        to_number=to_number,
        messaging_service_sid=params.get("MessagingServiceSid") or None,
        status=status,
        final=STATUS_RANK.get(status, 0) >= STATUS_RANK["delivered"],
        error_code=params.get("ErrorCode") or None,
        # Only from the address, where `send_sms` put it: the body holds what others chose.
        reference=dict(delivery.request.query).get("reference"),
    )


def _address(text: str) -> tuple[str, str]:
    """`whatsapp:+14155550100` as ("whatsapp", "+14155550100"); without a channel it is SMS."""
    channel, _, address = text.rpartition(":")
    return channel or "sms", address


def _keyword(body: str) -> str | None:
    words = body.split()
    return words[0].upper() if len(words) == 1 else None


def _required(params: dict[str, str], name: str) -> str:
    if not (value := params.get(name)):
        raise PayloadError(f"the parameter {name} is missing")
    return value
