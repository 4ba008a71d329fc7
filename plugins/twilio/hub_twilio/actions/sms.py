"""Sending a text message."""

from __future__ import annotations

from pydantic import Field

from hub import ActionContext, Effect, Message
from hub_twilio.actions.fields import MOST_CHARACTERS, Input, Phone, SentMessage, ServiceSid, ValidityS
from hub_twilio.client import Form
from hub_twilio.connector import twilio
from hub_twilio.finding import Wanted, find
from hub_twilio.segments import segments
from hub_twilio.sending import SENDERS, callback, check_country, pretended, send, sender, service_only


class SendSms(Input):
    """A text message to one person. Without a sender of its own it leaves from the connection's default."""

    to: Phone
    body: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    from_number: str | None = Field(None, min_length=1)
    messaging_service_sid: ServiceSid | None = None
    validity_s: ValidityS | None = None
    shorten_links: bool = Field(
        False, description="Put short links in the place of long ones, and tell of clicks; needs a Messaging Service"
    )


@twilio.action(
    "send_sms",
    title="Send an SMS",
    input=SendSms,
    output=SentMessage,
    effect=Effect.RECONCILABLE,
    message=Message(channel="sms", to=lambda sms: sms.to, senders=SENDERS, default_senders=SENDERS),
    provides="sms.send",
    units={"segments": lambda sms: segments(sms.body)},
)
async def send_sms(ctx: ActionContext, input: SendSms) -> SentMessage:
    """Send an SMS."""
    check_country(ctx.settings, input.to)
    return await send(ctx, "sms", input.to, request_form(ctx, input))


@send_sms.lookup
async def sent_before(ctx: ActionContext, input: SendSms) -> SentMessage | None:
    """The message that an earlier call sent: by our reference in a callback, else by its text in Twilio's list."""
    from_ = _sender(ctx, input)
    return await find(ctx, input.to, Wanted(to=input.to, sender=from_, text=input.body, shortened=input.shorten_links))


@send_sms.simulate
def pretend(input: SendSms, now_ms: int) -> SentMessage:
    """An accepted message whose id follows from recipient and text."""
    made = pretended(input.to, input.body, service=input.messaging_service_sid)
    return made.model_copy(update={"from_number": input.from_number})


@send_sms.describe
def describe(input: SendSms) -> str:
    """Who would get which text."""
    return f"SMS to {input.to}: {input.body}"


def request_form(ctx: ActionContext, input: SendSms) -> Form:
    """The parameters of `POST /Messages.json`. Raises Rejected when there is no sender."""
    form = {"To": input.to, "Body": input.body, **_sender(ctx, input)}
    if input.validity_s is not None:
        form["ValidityPeriod"] = str(input.validity_s)
    if input.shorten_links:
        form["ShortenUrls"] = "true"
    return list((form | callback(ctx)).items())


def _sender(ctx: ActionContext, input: SendSms) -> dict[str, str]:
    found = sender(ctx.settings, input.from_number, input.messaging_service_sid)
    if input.shorten_links:
        # The step's number stays: with both, the service sends from it.
        service = service_only(ctx.settings, input.messaging_service_sid, "only a Messaging Service shortens links")
        found["MessagingServiceSid"] = service
    return found
