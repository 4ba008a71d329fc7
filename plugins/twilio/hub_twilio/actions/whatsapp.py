"""Sending a WhatsApp message: an approved template at any time, free text within 24 hours of the person's last one."""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import Field, model_validator

from hub import ActionContext, Chosen, Effect, Message, Rejected
from hub_twilio.actions.fields import MOST_CHARACTERS, Input, MediaUrls, Phone, SentMessage, ServiceSid
from hub_twilio.client import Form
from hub_twilio.connector import twilio
from hub_twilio.finding import Wanted, find
from hub_twilio.sending import SENDERS, WHATSAPP, callback, check_country, media, pretended, send, whatsapp_sender

_TEMPLATE = re.compile(r"HX[0-9a-fA-F]{32}")


class Whatsapp(Input):
    """What a WhatsApp message says: a template with its variables, or text and files of its own."""

    to: Phone
    template: Annotated[str, Chosen("templates")] | None = Field(None, description="A content template")
    variables: dict[str, str] = Field(
        default_factory=dict, description='The template\'s, by name or number: {"1": "Jane"}'
    )
    body: str | None = Field(None, min_length=1, max_length=MOST_CHARACTERS)
    media_urls: MediaUrls = Field(default_factory=list)
    messaging_service_sid: ServiceSid | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Whatsapp:
        own = self.body is not None or bool(self.media_urls)
        if own == (self.template is not None):
            raise ValueError("write either template, with its variables, or body and media_urls")
        if self.variables and self.template is None:
            raise ValueError("variables are a template's: write template, or put them into body")
        return self


class SendWhatsapp(Whatsapp):
    """A WhatsApp message to one person. Without a sender of its own it leaves from the connection's default."""

    from_number: Annotated[str, Chosen("whatsapp_senders")] | None = Field(None, min_length=1)


@twilio.action(
    "send_whatsapp",
    title="Send a WhatsApp message",
    input=SendWhatsapp,
    output=SentMessage,
    effect=Effect.RECONCILABLE,
    message=Message(
        channel="whatsapp",
        to=lambda message: message.to,
        senders=SENDERS,
        default_senders=("whatsapp_from", "messaging_service_sid"),
    ),
    provides="whatsapp.send",
    units={"whatsapp": lambda message: 1},
)
async def send_whatsapp(ctx: ActionContext, input: SendWhatsapp) -> SentMessage:
    """Send a WhatsApp message."""
    check_country(ctx.settings, input.to)
    return await send(ctx, "whatsapp", input.to, request_form(ctx, input))


@send_whatsapp.lookup
async def sent_before(ctx: ActionContext, input: SendWhatsapp) -> SentMessage | None:
    """The message that an earlier call sent.

    The list shows what Twilio made of a template, not which one it was: a template is found by our reference in a callback,
    and any other message to the same person leaves it open.
    """
    from_ = whatsapp_sender(ctx.settings, input.from_number, input.messaging_service_sid)
    wanted = Wanted(to=WHATSAPP + input.to, sender=from_, text=input.body, media=len(input.media_urls))
    return await find(ctx, input.to, wanted)


@send_whatsapp.simulate
def pretend(input: SendWhatsapp, now_ms: int) -> SentMessage:
    """An accepted message whose id follows from recipient and content."""
    made = pretended(input.to, *_content(input), service=input.messaging_service_sid)
    return made.model_copy(update={"from_number": input.from_number})


@send_whatsapp.describe
def describe(input: SendWhatsapp) -> str:
    """Who would get what."""
    return f"WhatsApp to {input.to}: {summary(input)}"


def summary(input: Whatsapp) -> str:
    """What it says, in a few words."""
    if input.template is None:
        files = f" with {len(input.media_urls)} file(s)" if input.media_urls else ""
        return f"{input.body or 'no text'}{files}"
    given = ", ".join(f"{name}={value}" for name, value in input.variables.items())
    return f"template {input.template}" + (f" ({given})" if given else "")


def request_form(ctx: ActionContext, input: SendWhatsapp) -> Form:
    """The parameters of `POST /Messages.json`. Raises Rejected when there is no sender."""
    from_ = whatsapp_sender(ctx.settings, input.from_number, input.messaging_service_sid)
    return [*from_.items(), *content_form(input), *callback(ctx).items()]


def content_form(input: Whatsapp) -> Form:
    """The parameters for whom it is and what it says. Raises Rejected when the template's SID is none."""
    form = {"To": WHATSAPP + input.to}
    if input.template is not None:
        if not _TEMPLATE.fullmatch(input.template):
            raise Rejected("template is no SID: write HX and 32 hexadecimal digits, or the template's name")
        form["ContentSid"] = input.template
        if input.variables:
            form["ContentVariables"] = json.dumps(input.variables, ensure_ascii=False)
    elif input.body is not None:
        form["Body"] = input.body
    return [*form.items(), *media(input.media_urls)]


def _content(input: Whatsapp) -> list[str]:
    return [input.template or "", json.dumps(input.variables, sort_keys=True), input.body or "", *input.media_urls]
