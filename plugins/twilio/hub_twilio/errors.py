"""What Twilio's error codes mean, and what to do about each: in answers to calls, and of messages that failed later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hub import (
    AuthExpired,
    ConnectorError,
    OutcomeUnknown,
    Rejected,
    Response,
    RetryableError,
    VendorUnavailable,
)


class OptedOut(Rejected):
    """The person has opted out of messages from this sender at Twilio. Only they can lift it, by writing START."""


class NotCancelable(Rejected):
    """The message is no longer scheduled, or never was, so that it cannot be cancelled."""


@dataclass(frozen=True)
class _Meaning:
    error: type[ConnectorError]
    sentence: str
    retry_after_s: float | None = None


def _configure(sentence: str) -> _Meaning:
    return _Meaning(Rejected, f"Twilio is not configured for this: {sentence}")


_WINDOW = "`send_at` must be more than 5 minutes and at most 35 days ahead"

# Codes and causes: Twilio error dictionary, read 2026-11. Not listed because the shared status table says the same:
# 20404 (not found) and 20429 (too many calls at once; never processed, so always safe to repeat).
# Twilio's own words are never passed on: they hold the number.
_MEANINGS = {
    20003: _Meaning(
        AuthExpired,
        "Twilio does not accept these credentials for this account: check the Account SID, that the token or key is live "
        "and belongs to the same (sub)account, then give those that do with `hub connections reauthorise`",
    ),
    21211: _Meaning(Rejected, "the recipient's number is not valid: correct the contact's phone"),
    21408: _configure("allow messages to the recipient's country (Messaging > Geo permissions in the console)"),
    21602: _Meaning(Rejected, "the message has no text: set `body`"),
    21603: _configure("there is no sender; set from_number or messaging_service_sid"),
    21604: _Meaning(Rejected, "there is no recipient: set `to`"),
    21606: _configure(
        "from_number may not send to this recipient; use a number of this account that can send SMS there"
    ),
    21212: _configure("from_number is not a sender; write a number of this account with its country code"),
    21608: _configure("a trial account reaches verified numbers only; verify the recipient or upgrade the account"),
    21609: _configure("the hub's public URL is not one that Twilio calls; use https, a host without underscores"),
    21610: _Meaning(OptedOut, "the recipient has opted out of messages from this sender (they wrote STOP)"),
    21611: _Meaning(
        VendorUnavailable,
        "the queue of this sender is more than ten hours long; use a Messaging Service with more senders",
        retry_after_s=3600,
    ),
    21612: _Meaning(Rejected, "the recipient cannot be reached by SMS from this sender"),
    21614: _Meaning(Rejected, "the recipient's number is not a mobile number"),
    21617: _Meaning(Rejected, "the text is longer than 1600 characters: shorten `body`"),
    21620: _Meaning(
        Rejected, "an address in `media_urls` is not one that Twilio can fetch; use https and a public host"
    ),
    21703: _configure("the Messaging Service has no sender that can be used; add a number to its sender pool"),
    21704: _configure("the Messaging Service has no senders; add a number to its sender pool"),
    21705: _configure("the Messaging Service does not exist or is not usable; check messaging_service_sid"),
    21910: _configure("sender and recipient are on different channels; use a sender of the recipient's channel"),
    30034: _configure("the US number is not registered for A2P 10DLC; register it in the console"),
    30409: _Meaning(NotCancelable, "the message is no longer scheduled"),
    30450: _Meaning(Rejected, "Twilio took this for SMS pumping and blocked it: check who signs up with such numbers"),
    35111: _Meaning(Rejected, "a scheduled message needs a time: set `send_at`"),
    35114: _Meaning(Rejected, _WINDOW),
    35115: _Meaning(Rejected, _WINDOW),
    35117: _Meaning(Rejected, _WINDOW),
    35118: _configure("only a Messaging Service schedules messages; set messaging_service_sid"),
    35125: _Meaning(Rejected, "the account has as many scheduled messages as Twilio allows (500,000)"),
    63003: _Meaning(Rejected, "the recipient is not on WhatsApp"),
    63016: _Meaning(
        Rejected,
        "the person has not written within 24 hours, so WhatsApp takes an approved template only: set `template`",
    ),
    63018: _Meaning(VendorUnavailable, "the WhatsApp sender has reached its limit", retry_after_s=60),
    63024: _Meaning(Rejected, "the recipient cannot be reached on WhatsApp"),
}


Reason = Literal[
    "account_suspended",
    "blocked",
    "filtered",
    "landline",
    "litigator",
    "no_such_number",
    "not_on_whatsapp",
    "not_reachable",
    "not_registered",
    "opted_out",
    "other",
    "pumping",
    "queue_full",
    "quiet_hours",
    "template_needed",
    "too_fast",
    "unknown",
    "unreachable_now",
]
"""Why a message failed after Twilio had taken it, in a word. Twilio refines its codes over time: a new one is `other`."""

_REASONS: dict[str, Reason] = {
    "21211": "no_such_number",
    "21610": "opted_out",
    "21612": "not_reachable",
    "21614": "landline",
    "30001": "queue_full",
    "30002": "account_suspended",
    "30003": "unreachable_now",
    "30004": "blocked",
    "30005": "no_such_number",
    "30006": "landline",
    "30007": "filtered",
    "30008": "unknown",
    "30034": "not_registered",
    "30450": "pumping",
    "30610": "quiet_hours",
    "30640": "litigator",
    "63003": "not_on_whatsapp",
    "63016": "template_needed",
    "63018": "too_fast",
    "63024": "not_on_whatsapp",
}
PERMANENT: frozenset[Reason] = frozenset(
    {"blocked", "landline", "litigator", "no_such_number", "not_on_whatsapp", "not_reachable", "opted_out"}
)
"""The reasons that stay: another message to the same address on this channel fails as well."""


def reason_of(code: str | None) -> Reason:
    """Why a message failed, by the code of its status callback."""
    return _REASONS.get(code or "", "other")


def classify(response: Response) -> ConnectorError | None:
    """The error that an answer stands for; None = it is none, or the shared status table says it as well.

    An unknown code with a status of refusal is Rejected with the code and where to read about it.
    """
    if response.status < 400 or (code := _code(response)) is None:
        return None
    meaning = _MEANINGS.get(code)
    if meaning is None:
        if response.status not in (400, 403):
            return None
        link = f"https://www.twilio.com/docs/api/errors/{code}"
        return Rejected(f"Twilio refused it with error {code}: see {link}", status=response.status, code=str(code))
    text = f"{meaning.sentence} (Twilio {code})"
    if issubclass(meaning.error, RetryableError):
        return meaning.error(text, retry_after_s=meaning.retry_after_s, status=response.status, code=str(code))
    return meaning.error(text, status=response.status, code=str(code))


def _code(response: Response) -> int | None:
    try:
        body = response.json()
    except OutcomeUnknown:
        return None  # an error page of something in between; its status says all there is to know
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else None
