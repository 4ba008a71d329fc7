"""What every message to a person goes through: may it go there, from which sender, and where Twilio reports on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

import phonenumbers

from hub import ActionContext, ConsentSignal, ConsentState, Rejected, SkipStep
from hub_twilio import client
from hub_twilio.actions.fields import SentMessage
from hub_twilio.client import Form
from hub_twilio.errors import OptedOut

# Asks Twilio to repeat a callback up to 3 times also when it was slow or answered 5xx; by default it repeats once, and
# only when no connection was made (Webhooks connection overrides, read 2026-11). The fragment is neither sent nor signed.
REPEAT_CALLBACKS = "#rc=3&rp=ct,rt,5xx"

WHATSAPP = "whatsapp:"

_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")


async def send(ctx: ActionContext, channel: str, to: str, form: Form) -> SentMessage:
    """Send a message; not idempotent. Raises SkipStep, which blocks the address, when the person has opted out."""
    try:
        message = await client.create_message(ctx, form)
    except OptedOut as error:
        signal = ConsentSignal(channel, to, ConsentState.BLOCKED, "stop")
        raise SkipStep("no_consent", str(error), signals=[signal]) from error
    return sent(message, to)


def sent(message: client.Message, to: str) -> SentMessage:
    """A message of Twilio's as the output of an action."""
    return SentMessage(
        message_id=message.sid,
        status=message.status,
        to=to,
        from_number=bare(message.from_number),
        messaging_service_sid=message.messaging_service_sid,
        segments=message.num_segments,
    )


def pretended(to: str, *what: str, status: str = "accepted", service: str | None = None) -> SentMessage:
    """What a rehearsal takes for sent: the id follows from recipient and content."""
    digest = hashlib.sha256("\0".join((to, *what)).encode()).hexdigest()
    return SentMessage(message_id=f"SM{digest[:32]}", status=status, to=to, messaging_service_sid=service)


def bare(address: str | None) -> str | None:
    """An address without its channel."""
    return address.rpartition(":")[2] if address else None


# -- may it go there ---------------------------------------------------------------------------------------------------


def check_country(settings: Mapping[str, str], number: str) -> None:
    """Raise Rejected when the number is of a country that the connection does not allow; without the setting all are.

    A number of no country, such as one of a satellite network, is not allowed by any.
    """
    allowed = {code.strip() for code in settings.get("allowed_countries", "").split(",")} - {""}
    if not allowed:
        return
    country = phonenumbers.region_code_for_number(phonenumbers.parse(number, None))
    if country not in allowed:
        raise Rejected(
            f"nothing was sent: the recipient's number is of {country or 'no country'}, and this connection sends to "
            f"{', '.join(sorted(allowed))} only; if that is wrong, change its allowed_countries"
        )


# -- from whom ---------------------------------------------------------------------------------------------------------


SENDERS = ("from_number", "messaging_service_sid")
"""Who sends: fields of the step, and of the connection for steps that say nothing."""


def sender(settings: Mapping[str, str], number: str | None, service: str | None) -> dict[str, str]:
    """`From` and `MessagingServiceSid`, of the step or else of the connection. Raises Rejected when there is neither."""
    if not (number or service):
        number, service = settings.get("from_number"), settings.get("messaging_service_sid")
    if not (number or service):
        raise Rejected(
            "there is no sender: set from_number or messaging_service_sid in the step, or as default of the connection"
        )
    return _named(number, service)


def whatsapp_sender(settings: Mapping[str, str], number: str | None, service: str | None) -> dict[str, str]:
    """The same for WhatsApp, whose default number is another one. Raises Rejected when there is none."""
    if not (number or service):
        number = settings.get("whatsapp_from")
        # A number is one that is known to be on WhatsApp; of a service that is not known.
        service = None if number else settings.get("messaging_service_sid")
    if not (number or service):
        raise Rejected(
            "there is no WhatsApp sender: set from_number or messaging_service_sid in the step, or whatsapp_from of the "
            "connection"
        )
    return _named(WHATSAPP + number.removeprefix(WHATSAPP) if number else None, service)


def service_only(settings: Mapping[str, str], service: str | None, why: str) -> str:
    """The Messaging Service of the step or the connection. Raises Rejected with `why` when there is none."""
    if found := service or settings.get("messaging_service_sid"):
        return _named(None, found)["MessagingServiceSid"]
    raise Rejected(f"{why}: set messaging_service_sid in the step, or as default of the connection")


def _named(number: str | None, service: str | None) -> dict[str, str]:
    if service and not _SERVICE.fullmatch(service):
        raise Rejected("messaging_service_sid is no SID: write MG and 32 hexadecimal digits, or the service's name")
    return {name: value for name, value in (("From", number), ("MessagingServiceSid", service)) if value}


# -- the form ----------------------------------------------------------------------------------------------------------


def callback(ctx: ActionContext) -> dict[str, str]:
    """Where Twilio reports on the message, with our reference; nothing without a public URL."""
    if not ctx.callback_url:
        return {}
    joint = "&" if "?" in ctx.callback_url else "?"
    return {"StatusCallback": f"{ctx.callback_url}{joint}{urlencode({'reference': ctx.reference})}{REPEAT_CALLBACKS}"}


def media(urls: Iterable[str]) -> Form:
    """A parameter for each file."""
    return [("MediaUrl", url) for url in urls]
