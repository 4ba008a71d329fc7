"""Messages that people send to our numbers: texts, pictures, WhatsApp, and what they mean for consent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from hub import ConsentSignal, ConsentState, Delivery, Identity
from hub_twilio.client import Medium, Message
from hub_twilio.connector import twilio
from hub_twilio.triggers.reading import address, required

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

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


class Media(BaseModel):
    """A file that came with a message. Twilio may want the account's credentials of whoever fetches it."""

    url: str
    content_type: str | None


class SmsReceived(BaseModel):
    """A message that a person sent. Numbers are bare; `channel` says where (`sms`, `whatsapp`)."""

    message_id: str
    channel: str
    from_number: str
    to_number: str
    messaging_service_sid: str | None
    body: str
    keyword: str | None
    """The first word in capitals, without punctuation around it: `YES` of "Yes, please!"."""
    opt_out: OptOut | None
    """What it means for consent, by Twilio's own word for it or else by the words that Twilio acts on."""
    num_media: int
    media: list[Media] = Field(default_factory=list)
    profile_name: str | None = None
    """How the person calls themselves on WhatsApp."""
    button_text: str | None = None
    """The button of a WhatsApp template that they pressed, and what it stands for."""
    button_payload: str | None = None
    sent_at: datetime | None = None
    """Twilio's time of it, which a poll knows and a webhook does not."""


def is_received(message: SmsReceived) -> bool:
    """Any message, of any channel."""
    return True


def is_mms(message: SmsReceived) -> bool:
    """One with files, not by WhatsApp."""
    return message.channel == "sms" and message.num_media > 0


def is_whatsapp(message: SmsReceived) -> bool:
    """One by WhatsApp."""
    return message.channel == "whatsapp"


def is_opt_out(message: SmsReceived) -> bool:
    """One that wants no more messages."""
    return message.opt_out == "STOP"


def is_opt_in(message: SmsReceived) -> bool:
    """One that wants messages again."""
    return message.opt_out == "START"


KINDS: Mapping[str, Callable[[SmsReceived], bool]] = {
    "sms_received": is_received,
    "mms_received": is_mms,
    "whatsapp_received": is_whatsapp,
    "opted_out": is_opt_out,
    "opted_in": is_opt_in,
}
"""The triggers, and which messages each of them is about."""


def _consent(message: SmsReceived) -> Iterable[ConsentSignal]:
    if is_opt_out(message):
        yield ConsentSignal(message.channel, message.from_number, ConsentState.BLOCKED, "stop")
    elif is_opt_in(message):
        yield ConsentSignal(message.channel, message.from_number, ConsentState.GRANTED, "start")


def _declare(name: str, title: str, provides: str, *, consent: bool = False) -> None:
    wanted = KINDS[name]

    def parse(delivery: Delivery) -> Iterable[SmsReceived]:
        if wanted(message := _told(delivery)):
            yield message

    parse.__doc__ = wanted.__doc__
    twilio.trigger(
        name,
        title=title,
        payload=SmsReceived,
        topic="message",
        sample=f"{name}.txt",
        fact=lambda message: message.message_id,
        subject=lambda message: Identity(phone=message.from_number),
        occurred_at=lambda message: message.sent_at,
        correlate=("from_number", "to_number", "keyword"),
        # Once for each message, whichever triggers it is an event of.
        consent=_consent if consent else None,
        provides=provides,
    )(parse)


_declare("sms_received", "Message received", "sms.received", consent=True)
_declare("mms_received", "MMS received", "mms.received")
_declare("whatsapp_received", "WhatsApp message received", "whatsapp.received")
_declare("opted_out", "Opted out of messages", "sms.opted_out")
_declare("opted_in", "Opted in to messages again", "sms.opted_in")


def listed(message: Message, media: Sequence[Medium] = ()) -> SmsReceived:
    """The same of a message in Twilio's list, which does not say what Twilio took it for, nor who pressed which button."""
    channel, from_number = address(message.from_number or "")
    return SmsReceived(
        message_id=message.sid,
        channel=channel,
        from_number=from_number,
        to_number=address(message.to)[1],
        messaging_service_sid=message.messaging_service_sid,
        body=message.body or "",
        keyword=keyword(message.body or ""),
        opt_out=meaning(message.body or ""),
        num_media=message.num_media,
        media=[Media(url=one.url, content_type=one.content_type) for one in media],
        sent_at=message.date_sent or message.date_created,
    )


def keyword(body: str) -> str | None:
    """The first word, in capitals, in one spelling, without punctuation around it; None of an empty text."""
    words = unicodedata.normalize("NFKC", body).split(maxsplit=1)
    # A word of signs alone, such as an emoji, stays as it is.
    return (_EDGES.sub("", words[0]) or words[0]).upper() if words else None


def meaning(body: str) -> OptOut | None:
    """What Twilio takes a text for that is nothing but one of its words."""
    return _MEANINGS.get(body.strip().upper())


def _told(delivery: Delivery) -> SmsReceived:
    params = delivery.params
    channel, from_number = address(required(params, "From"))
    body, count = params.get("Body", ""), int(params.get("NumMedia") or 0)
    files = [(params.get(f"MediaUrl{n}"), params.get(f"MediaContentType{n}")) for n in range(count)]
    return SmsReceived(
        message_id=required(params, "MessageSid"),
        channel=channel,
        from_number=from_number,
        to_number=address(required(params, "To"))[1],
        messaging_service_sid=params.get("MessagingServiceSid") or None,
        body=body,
        keyword=keyword(body),
        opt_out=_MEANINGS.get(params.get("OptOutType", "")) or meaning(body),
        num_media=count,
        media=[Media(url=url, content_type=type_) for url, type_ in files if url],
        profile_name=params.get("ProfileName") or None,
        button_text=params.get("ButtonText") or None,
        button_payload=params.get("ButtonPayload") or None,
    )
