"""Messages that Twilio keeps and sends by itself at a time. A recipe's own `wait` is better where things may change.

What happens in between is not looked at: who opts out meanwhile is refused by Twilio alone. Nothing says that Twilio lists
what is scheduled, so that after a lost answer nobody can tell: these are done at most once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, Field

from hub import ActionContext, Effect, Message, Rejected
from hub_twilio.actions.fields import MOST_CHARACTERS, Input, MediaUrls, Phone, SentMessage, ServiceSid
from hub_twilio.actions.whatsapp import Whatsapp, content_form, summary
from hub_twilio.connector import twilio
from hub_twilio.segments import segments
from hub_twilio.sending import callback, check_country, media, pretended, send, service_only

_SERVICE = ("messaging_service_sid",)
# The window of Twilio's error 35115 (page of 2026-04-27): more than 300 s and at most 35 days ahead.
SOONEST, LATEST = timedelta(seconds=300), timedelta(days=35)


class ScheduleSms(Input):
    """A text message, with or without files, for later. It leaves through a Messaging Service."""

    to: Phone
    body: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    send_at: AwareDatetime
    media_urls: MediaUrls = Field(default_factory=list)
    messaging_service_sid: ServiceSid | None = None


class ScheduleWhatsapp(Whatsapp):
    """A WhatsApp message for later; a template is checked only when it is sent. It leaves through a Messaging Service."""

    send_at: AwareDatetime


@twilio.action(
    "schedule_sms",
    title="Schedule an SMS",
    input=ScheduleSms,
    output=SentMessage,
    effect=Effect.AT_MOST_ONCE,
    message=Message(channel="sms", to=lambda sms: sms.to, senders=_SERVICE, default_senders=_SERVICE),
    provides="sms.schedule",
    units={"segments": lambda sms: segments(sms.body), "mms": lambda sms: int(bool(sms.media_urls))},
)
async def schedule_sms(ctx: ActionContext, input: ScheduleSms) -> SentMessage:
    """Schedule an SMS."""
    check_country(ctx.settings, input.to)
    when = _schedule(ctx, input.send_at, input.messaging_service_sid)
    form = [("To", input.to), ("Body", input.body), *when.items(), *callback(ctx).items(), *media(input.media_urls)]
    return await send(ctx, "sms", input.to, form)


@schedule_sms.simulate
def pretend_sms(input: ScheduleSms, now_ms: int) -> SentMessage:
    """A scheduled message whose id follows from recipient, time and text."""
    content = (input.send_at.isoformat(), input.body, *input.media_urls)
    return pretended(input.to, *content, status="scheduled", service=input.messaging_service_sid)


@schedule_sms.describe
def describe_sms(input: ScheduleSms) -> str:
    """Who would get which text, and when."""
    return f"SMS to {input.to} at {_written(input.send_at)}: {input.body}"


@twilio.action(
    "schedule_whatsapp",
    title="Schedule a WhatsApp message",
    input=ScheduleWhatsapp,
    output=SentMessage,
    effect=Effect.AT_MOST_ONCE,
    message=Message(channel="whatsapp", to=lambda message: message.to, senders=_SERVICE, default_senders=_SERVICE),
    provides="whatsapp.schedule",
    units={"whatsapp": lambda message: 1},
)
async def schedule_whatsapp(ctx: ActionContext, input: ScheduleWhatsapp) -> SentMessage:
    """Schedule a WhatsApp message."""
    check_country(ctx.settings, input.to)
    when = _schedule(ctx, input.send_at, input.messaging_service_sid)
    form = [*content_form(input), *when.items(), *callback(ctx).items()]
    return await send(ctx, "whatsapp", input.to, form)


@schedule_whatsapp.simulate
def pretend_whatsapp(input: ScheduleWhatsapp, now_ms: int) -> SentMessage:
    """A scheduled message whose id follows from recipient, time and content."""
    content = (input.send_at.isoformat(), summary(input))
    return pretended(input.to, *content, status="scheduled", service=input.messaging_service_sid)


@schedule_whatsapp.describe
def describe_whatsapp(input: ScheduleWhatsapp) -> str:
    """Who would get what, and when."""
    return f"WhatsApp to {input.to} at {_written(input.send_at)}: {summary(input)}"


def _schedule(ctx: ActionContext, at: datetime, service: str | None) -> dict[str, str]:
    """The parameters that schedule. Raises Rejected for a time that Twilio would refuse, and without a service."""
    ahead = at - datetime.fromtimestamp(ctx.now_ms / 1000, UTC)
    if not SOONEST < ahead <= LATEST:
        raise Rejected("nothing was scheduled: `send_at` must be more than 5 minutes and at most 35 days ahead")
    return {
        "MessagingServiceSid": service_only(ctx.settings, service, "only a Messaging Service schedules messages"),
        "ScheduleType": "fixed",
        "SendAt": _written(at),
    }


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
