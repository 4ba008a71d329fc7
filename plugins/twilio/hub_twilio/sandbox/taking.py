"""Whether a message is taken, and what Twilio makes of it: checks in Twilio's order, templates, short links, times."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from hub_twilio.sandbox.account import Account
from hub_twilio.sandbox.refusing import missing, refusal

_ADDRESS = re.compile(r"(?:\w+:)?\+[1-9]\d{6,14}")
_LINK = re.compile(r"https?://\S+")
# What goes into septets: a letter of the basic table, or an escape and a letter of the other. (3GPP TS 23.038, 6.2.1)
_BASIC = re.compile(r"[@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà]")
_ESCAPED = re.compile(r"[\f^{}\\\[~\]|€]")
_WINDOW_MS = (300_000, 35 * 24 * 3600 * 1000)


def check(form: Mapping[str, str], media: Sequence[str]) -> None:
    """Refuse what Twilio refuses, in its order of required things: recipient, content, sender."""
    to, senders = form.get("To", ""), [form[name] for name in ("From", "MessagingServiceSid") if form.get(name)]
    if not to:
        raise refusal(400, 21604, "A 'To' phone number is required.")
    if not _ADDRESS.fullmatch(to):
        raise refusal(400, 21211, f"Invalid 'To' Phone Number: {to}")
    if not (form.get("Body") or form.get("ContentSid") or media):
        raise refusal(400, 21602, "Message body is required.")
    if len(form.get("Body", "")) > 1600:
        raise refusal(400, 21617, "The concatenated message body exceeds the 1600 character limit.")
    if any(urlsplit(url).scheme not in ("http", "https") for url in media):
        raise refusal(400, 21620, "Invalid media URL(s)")
    if not senders:
        raise refusal(400, 21603, "A 'From' phone number is required.")
    if form.get("From") and channel(form["From"]) != channel(to):
        raise refusal(400, 21910, "'From' and 'To' are not of the same channel.")
    if (callback := form.get("StatusCallback")) and not _is_callable(callback):
        raise refusal(400, 21609, "The 'StatusCallback' URL is not a valid URL.")


def scheduled_ms(form: Mapping[str, str], now_ms: int) -> int | None:
    """When a message is to be sent; None for now."""
    if form.get("ScheduleType") is None:
        return None
    if not form.get("MessagingServiceSid"):
        raise refusal(400, 35118, "A MessagingServiceSid is required to schedule a message.")
    if not form.get("SendAt"):
        raise refusal(400, 35111, "SendAt is required to schedule a message.")
    at = datetime.strptime(form["SendAt"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    at_ms = round(at.timestamp() * 1000)
    if not _WINDOW_MS[0] < at_ms - now_ms <= _WINDOW_MS[1]:
        raise refusal(400, 35114, "SendAt is not in the permitted time.")
    return at_ms


def text_of(form: Mapping[str, str], account: Account) -> str:
    """The text: the given one, or the template's with its variables."""
    if not (sid := form.get("ContentSid")):
        return form.get("Body", "")
    if sid not in account.templates:
        raise missing(f"/v1/Content/{sid}")
    return account.templates[sid].filled(json.loads(form.get("ContentVariables", "{}")))


def shortened(text: str) -> tuple[str, dict[str, str]]:
    """The text with short links in the place of long ones, and which is which."""
    links: dict[str, str] = {}

    def short(match: re.Match[str]) -> str:
        made = f"https://twil.example/{uuid.uuid4().hex[:10]}"
        links[made] = match[0]
        return made

    return _LINK.sub(short, text), links


def channel(address: str) -> str:
    """`whatsapp`, or empty for SMS."""
    return address.rpartition(":")[0]


def _is_callable(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or "_"
    return parts.scheme in ("http", "https") and "_" not in host and len(url) <= 4000


def parts(text: str) -> int:
    """How many parts a text goes in: counted on what is sent, septets or UTF-16 units, cut where nothing is torn apart."""
    if not _BASIC.sub("", _ESCAPED.sub("", text)):
        septets = _ESCAPED.sub(lambda found: "\x1b" + found[0], text)
        return _cut(septets, 160, 153, lambda unit: unit == "\x1b")
    coded = text.encode("utf-16-be")
    units = "".join(chr(int.from_bytes(coded[at : at + 2])) for at in range(0, len(coded), 2))
    return _cut(units, 70, 67, lambda unit: 0xD800 <= ord(unit) < 0xDC00)


def _cut(units: str, alone: int, together: int, leads: Callable[[str], bool]) -> int:
    if len(units) <= alone:
        return 1
    count, at = 0, 0
    while at < len(units):
        at += together - (at + together <= len(units) and leads(units[at + together - 1]))
        count += 1
    return count
