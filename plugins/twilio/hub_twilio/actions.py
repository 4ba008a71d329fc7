"""What can be done with Twilio: send a text message, and find out whether one was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hub import (
    ActionContext,
    ConsentSignal,
    ConsentState,
    Effect,
    OutcomeUnknown,
    Rejected,
    RetryableError,
    SkipStep,
    e164,
)
from hub import Message as MessageTo
from hub_twilio import client
from hub_twilio.connector import twilio
from hub_twilio.segments import segments
from hub_twilio.triggers import STATUS_RANK, SmsStatus

# Asks Twilio to repeat a callback up to 3 times also when it was slow or answered 5xx; by default it repeats once, and
# only when no connection was made (Webhooks connection overrides, read 2026-11). The fragment is neither sent nor signed.
REPEAT_CALLBACKS = "#rc=3&rp=ct,rt,5xx"

# How far Twilio's clock may be behind ours before a message seems older than its own intention.
CLOCK_SKEW_MS = 60_000
# How long a message may take to appear in the list. Twilio documents nothing; calls themselves are given up after 20 s.
APPEARS_WITHIN_MS = 30_000


def _phone(text: str) -> str:
    # `whatsapp:+1…` is another channel, with a consent of its own.
    if ":" in text or (number := e164(text)) is None:
        raise ValueError("write a phone number with its country code, such as +14155550100")
    return number


class SendSms(BaseModel):
    """A text message to one person. Without a sender of its own it leaves from the connection's default."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[str, AfterValidator(_phone)]
    body: str = Field(min_length=1, max_length=1600)
    from_number: str | None = Field(None, min_length=1)
    messaging_service_sid: str | None = Field(None, pattern=r"^MG[0-9a-fA-F]{32}$")
    validity_s: int | None = Field(None, ge=1, le=36_000)
    """How long it may wait in Twilio's queue before it is dropped."""


class SentSms(BaseModel):
    """The message as Twilio took it. `segments` is 0 and `from_number` None while Twilio does not know them."""

    message_id: str
    status: str
    to: str
    from_number: str | None = None
    messaging_service_sid: str | None = None
    segments: int = 0


@twilio.action(
    "send_sms",
    title="Send an SMS",
    input=SendSms,
    output=SentSms,
    effect=Effect.RECONCILABLE,
    message=MessageTo(channel="sms", to=lambda sms: sms.to),
    provides="sms.send",
    units={"segments": lambda sms: segments(sms.body)},
)
async def send_sms(ctx: ActionContext, input: SendSms) -> SentSms:
    """Send an SMS."""
    try:
        message = await client.create_message(ctx, request_form(ctx, input))
    except client.OptedOut as error:
        signal = ConsentSignal("sms", input.to, ConsentState.BLOCKED, "stop")
        raise SkipStep("no_consent", str(error), signals=[signal]) from error
    return _sent(message, input)


@send_sms.lookup
async def sent_before(ctx: ActionContext, input: SendSms) -> SentSms | None:
    """The message that an earlier call sent: by our reference in a callback, else by its text in Twilio's list.

    Raises OutcomeUnknown when several messages could be it, RetryableError when it is too early to say that there is none.
    """
    sighted = await ctx.sightings(f"{twilio.name}.sms_status") if ctx.sightings else ()
    if sighted:
        return _sighted([SmsStatus.model_validate(payload) for payload in sighted])
    form = request_form(ctx, input)
    found = await client.messages_to(ctx, input.to, ctx.intended_at_ms - CLOCK_SKEW_MS)
    candidates = [m for m in found if m.direction == "outbound-api" and _is_from(m, form)]
    text = input.body.strip()
    ours = [m for m in candidates if m.text == text]
    # A trial account's messages begin with a notice, redacted ones are blank: such a one may be ours.
    alike = [m for m in candidates if not m.text or m.text.endswith(text)]
    if len(ours) == 1:
        return _sent(ours[0], input)
    if alike:
        raise OutcomeUnknown(
            f"Twilio's list has messages that may be this one or another ({len(alike)}): compare them in the console; "
            "a hub with a public URL is told by Twilio's callbacks"
        )
    wait_ms = ctx.intended_at_ms + APPEARS_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that Twilio has no such message", retry_after_s=wait_ms / 1000)
    return None


@send_sms.simulate
def pretend(input: SendSms, now_ms: int) -> SentSms:
    """An accepted message whose id follows from recipient and text."""
    digest = hashlib.sha256(f"{input.to}\0{input.body}".encode()).hexdigest()
    return SentSms(
        message_id=f"SM{digest[:32]}",
        status="accepted",
        to=input.to,
        from_number=input.from_number,
        messaging_service_sid=input.messaging_service_sid,
    )


@send_sms.describe
def describe(input: SendSms) -> str:
    """Who would get which text."""
    return f"SMS to {input.to}: {input.body}"


def request_form(ctx: ActionContext, input: SendSms) -> dict[str, str]:
    """The parameters of `POST /Messages.json`. Raises Rejected when there is no sender."""
    form = {"To": input.to, "Body": input.body, **_sender(ctx.settings, input)}
    if input.validity_s is not None:
        form["ValidityPeriod"] = str(input.validity_s)
    if ctx.callback_url:
        joint = "&" if "?" in ctx.callback_url else "?"
        form["StatusCallback"] = f"{ctx.callback_url}{joint}{urlencode({'reference': ctx.reference})}{REPEAT_CALLBACKS}"
    return form


def _sender(settings: Mapping[str, str], input: SendSms) -> dict[str, str]:
    number, service = input.from_number, input.messaging_service_sid
    if not (number or service):
        number, service = settings.get("from_number"), settings.get("messaging_service_sid")
    if not (number or service):
        raise Rejected(
            "there is no sender: set from_number or messaging_service_sid in the step, or as default of the connection"
        )
    return {name: value for name, value in (("From", number), ("MessagingServiceSid", service)) if value}


def _is_from(message: client.Message, form: Mapping[str, str]) -> bool:
    number, service = form.get("From"), form.get("MessagingServiceSid")
    if service is None:
        return message.from_number == number
    # Until the service has chosen a sender there is none to compare.
    return message.messaging_service_sid == service and (number is None or message.from_number in (None, number))


def _sent(message: client.Message, input: SendSms) -> SentSms:
    return SentSms(
        message_id=message.sid,
        status=message.status,
        to=input.to,
        from_number=message.from_number,
        messaging_service_sid=message.messaging_service_sid,
        segments=message.num_segments,
    )


def _sighted(payloads: list[SmsStatus]) -> SentSms:
    latest = max(payloads, key=lambda payload: STATUS_RANK.get(payload.status, 0))
    return SentSms(
        message_id=latest.message_id,
        status=latest.status,
        to=latest.to_number,
        from_number=latest.from_number,
        messaging_service_sid=latest.messaging_service_sid,
    )
