"""Sending pictures and other files with a text message."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hub import ActionContext, Chosen, Effect, Message
from hub_twilio.actions.fields import MOST_CHARACTERS, Input, MediaUrls, Phone, SentMessage, ServiceSid, ValidityS
from hub_twilio.client import Form
from hub_twilio.connector import twilio
from hub_twilio.finding import Wanted, find
from hub_twilio.segments import segments
from hub_twilio.sending import SENDERS, callback, check_country, media, pretended, send, sender


class SendMms(Input):
    """Up to ten files to one person, with or without a text."""

    to: Phone
    body: str = Field("", max_length=MOST_CHARACTERS)
    media_urls: Annotated[MediaUrls, Field(min_length=1)]
    from_number: Annotated[str, Chosen("numbers")] | None = Field(None, min_length=1)
    messaging_service_sid: ServiceSid | None = None
    validity_s: ValidityS | None = None


@twilio.action(
    "send_mms",
    title="Send an MMS",
    input=SendMms,
    output=SentMessage,
    effect=Effect.RECONCILABLE,
    # To the person it is a text message: the consent is the same.
    message=Message(channel="sms", to=lambda mms: mms.to, senders=SENDERS, default_senders=SENDERS),
    provides="mms.send",
    # So that a cap in segments holds it, too.
    units={"segments": lambda mms: segments(mms.body), "mms": lambda mms: 1},
)
async def send_mms(ctx: ActionContext, input: SendMms) -> SentMessage:
    """Send an MMS."""
    check_country(ctx.settings, input.to)
    return await send(ctx, "sms", input.to, request_form(ctx, input))


@send_mms.lookup
async def sent_before(ctx: ActionContext, input: SendMms) -> SentMessage | None:
    """The message that an earlier call sent. Without a text it is never told from others by Twilio's list."""
    from_ = sender(ctx.settings, input.from_number, input.messaging_service_sid)
    wanted = Wanted(to=input.to, sender=from_, text=input.body or None, media=len(input.media_urls))
    return await find(ctx, input.to, wanted)


@send_mms.simulate
def pretend(input: SendMms, now_ms: int) -> SentMessage:
    """An accepted message whose id follows from recipient and content."""
    made = pretended(input.to, input.body, *input.media_urls, service=input.messaging_service_sid)
    return made.model_copy(update={"from_number": input.from_number})


@send_mms.describe
def describe(input: SendMms) -> str:
    """Who would get what."""
    files = "1 file" if len(input.media_urls) == 1 else f"{len(input.media_urls)} files"
    return f"MMS with {files} to {input.to}" + (f": {input.body}" if input.body else "")


def request_form(ctx: ActionContext, input: SendMms) -> Form:
    """The parameters of `POST /Messages.json`. Raises Rejected when there is no sender."""
    form = {"To": input.to, **sender(ctx.settings, input.from_number, input.messaging_service_sid)}
    if input.body:
        form["Body"] = input.body
    if input.validity_s is not None:
        form["ValidityPeriod"] = str(input.validity_s)
    return [*(form | callback(ctx)).items(), *media(input.media_urls)]
