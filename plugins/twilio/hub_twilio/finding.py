"""Whether a message was sent, after its answer was lost: by our reference in a callback, else by Twilio's list."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from hub import ActionContext, OutcomeUnknown, RetryableError
from hub_twilio import client
from hub_twilio.actions.fields import SentMessage
from hub_twilio.connector import twilio
from hub_twilio.sending import sent
from hub_twilio.triggers.statuses import STATUS_RANK, SmsStatus

# How far Twilio's clock may be behind ours before a message seems older than its own intention.
CLOCK_SKEW_MS = 60_000
# How long a message may take to appear in the list. Twilio documents nothing; calls themselves are given up after 20 s.
APPEARS_WITHIN_MS = 30_000

_LINK = re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+(?:\.[\w-]+)+/\S+")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a message that was perhaps sent must look like. Without `text` nobody knows what Twilio made of it."""

    to: str
    """The address, with its channel."""
    sender: Mapping[str, str]
    """`From` and `MessagingServiceSid`, as they were sent."""
    text: str | None
    media: int = 0
    shortened: bool = False
    """Twilio put other links in the place of ours."""

    def is_from(self, message: client.Message) -> bool:
        number, service = self.sender.get("From"), self.sender.get("MessagingServiceSid")
        if service is None:
            return message.from_number == number
        # Until the service has chosen a sender there is none to compare.
        return message.messaging_service_sid == service and (number is None or message.from_number in (None, number))

    def is_certain(self, message: client.Message) -> bool:
        """Whether it says exactly what was asked for."""
        if not self.text or message.num_media != self.media:
            return False
        given, wanted = message.text, self.text.strip()
        return _unlinked(given) == _unlinked(wanted) if self.shortened else given == wanted

    def is_possible(self, message: client.Message) -> bool:
        """Whether it may be ours, rewritten: a trial account's begin with a notice, redacted ones are blank, a service
        may replace characters (smart encoding), links, and files by links."""
        return self.text is None or not message.text or _skeleton(self.text) in _skeleton(message.text)


async def find(ctx: ActionContext, to: str, wanted: Wanted) -> SentMessage | None:
    """The message that an earlier call sent; None when there is certainly none.

    Raises OutcomeUnknown when one or several may be it, RetryableError when it is too early to say that there is none.
    """
    sighted = await ctx.sightings(f"{twilio.name}.sms_status") if ctx.sightings else ()
    if sighted:
        return _sighted([SmsStatus.model_validate(payload) for payload in sighted])
    found = await client.messages_to(ctx, wanted.to, ctx.intended_at_ms - CLOCK_SKEW_MS)
    candidates = [message for message in found if message.direction == "outbound-api" and wanted.is_from(message)]
    ours = [message for message in candidates if wanted.is_certain(message)]
    if len(ours) == 1:
        return sent(ours[0], to)
    alike = [message for message in candidates if wanted.is_possible(message)]
    if alike:
        raise OutcomeUnknown(
            f"Twilio's list has messages that may be this one or another ({len(alike)}): compare them in the console; "
            "a hub with a public URL is told by Twilio's callbacks"
        )
    wait_ms = ctx.intended_at_ms + APPEARS_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that Twilio has no such message", retry_after_s=wait_ms / 1000)
    return None


def _sighted(payloads: list[SmsStatus]) -> SentMessage:
    latest = max(payloads, key=lambda payload: STATUS_RANK.get(payload.status, 0))
    return SentMessage(
        message_id=latest.message_id,
        status=latest.status,
        to=latest.to_number,
        from_number=latest.from_number,
        messaging_service_sid=latest.messaging_service_sid,
    )


def _unlinked(text: str) -> str:
    return _LINK.sub("…", text)


def _skeleton(text: str) -> str:
    """What is left of a text when its characters are replaced by others that look alike: plain letters and digits."""
    plain = unicodedata.normalize("NFKD", _unlinked(text)).casefold()
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
