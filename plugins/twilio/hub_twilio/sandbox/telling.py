"""How the sandbox calls: its own signatures, the parameters of each call, repeats and losses.

Nothing here is the connector's: what it signs is checked by Twilio's own package.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from hub_twilio.sandbox.account import Message

# What Twilio takes a whole message for, in any case.
MEANINGS = {
    "STOP": ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"),
    "START": ("START", "UNSTOP"),
    "HELP": ("HELP", "INFO"),
}

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]


def meaning(body: str) -> str | None:
    """What Twilio takes a text for: STOP, START, HELP, or nothing."""
    word = body.strip().upper()
    return next((name for name, words in MEANINGS.items() if word in words), None)


def signature(url: str, params: Mapping[str, str], token: str) -> str:
    """What Twilio puts into X-Twilio-Signature."""
    mac = hmac.new(token.encode(), digestmod="sha1")
    mac.update(url.split("#")[0].encode())
    for name in sorted(params):
        mac.update(f"{name}{params[name]}".encode())
    return base64.b64encode(mac.digest()).decode()


@dataclass(kw_only=True)
class Faults:
    """What may go wrong with calls, as it does in the world."""

    redeliver: int = 0
    """Each call comes so many times more, under the same idempotency token."""
    duplicate: int = 0
    """Each call comes so many times more, under others, as if it were subscribed to more than once."""
    lose: int = 0
    """The next so many calls never leave."""
    reorder: bool = False
    """What became of a message is told backwards."""


@dataclass(frozen=True)
class Teller:
    """Makes calls through `post`, which says what they were answered with (0: nobody did)."""

    post: Post
    faults: Faults

    async def form(self, address: str, params: Mapping[str, str], token: str) -> int:
        """One call with a form."""
        signed = signature(address, params, token)
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "X-Twilio-Signature": signed}
        return await self._send(address, urlencode(params).encode(), headers)

    async def events(self, address: str, events: Sequence[Mapping[str, object]], token: str) -> int:
        """One call of Event Streams: a list of CloudEvents, whose hash stands in the address."""
        body = json.dumps(list(events)).encode()
        joint = "&" if "?" in address else "?"
        # Event Streams knows no wishes for repeats (page "Webhook quickstart", read 2026-11).
        url = f"{address.partition('#')[0]}{joint}bodySHA256={hashlib.sha256(body).hexdigest()}"
        headers = {"Content-Type": "application/json", "X-Twilio-Signature": signature(url, {}, token)}
        return await self._send(url, body, headers)

    async def _send(self, address: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The call, as often as the faults say; the status of the first that left."""
        if self.faults.lose > 0:
            self.faults.lose -= 1
            return 0
        statuses = []
        for _ in range(1 + self.faults.duplicate):
            named = {**headers, "I-Twilio-Idempotency-Token": str(uuid.uuid4())}
            statuses += [await self._persist(address, body, named) for _ in range(1 + self.faults.redeliver)]
        return statuses[0]

    async def _persist(self, address: str, body: bytes, headers: Mapping[str, str]) -> int:
        """One call, repeated as the address asks in its fragment; the last status."""
        wishes = dict(parse_qsl(urlsplit(address).fragment))
        repeat_when = wishes.get("rp", "ct").split(",")
        status = 0
        for _ in range(1 + int(wishes.get("rc", "1"))):
            status = await self.post(address, body, headers)
            if not (status == 0 or (status >= 500 and "5xx" in repeat_when)):
                break
        return status


def inbound_params(message: Message, more: Mapping[str, str]) -> dict[str, str]:
    """What Twilio says of a message that a person sent."""
    params = dict.fromkeys(("ToCity", "ToState", "ToZip", "FromCity", "FromState", "FromZip"), "")
    params |= {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "SmsMessageSid": message.sid,
        "AccountSid": message.account,
        "From": message.from_number or "",
        "To": message.to,
        "Body": message.body,
        "NumMedia": str(len(message.media)),
        "NumSegments": str(message.segments),
        "SmsStatus": "received",
        "ApiVersion": "2010-04-01",
    }
    for number, (_, type_) in enumerate(message.media):
        params[f"MediaUrl{number}"] = f"https://api.twilio.com{message.media_uri(number)}"
        params[f"MediaContentType{number}"] = type_
    if message.service:
        params["MessagingServiceSid"] = message.service
        # Only services say what they took a message for (Advanced Opt-Out).
        if found := meaning(message.body):
            params["OptOutType"] = found
    return params | dict(more)


def status_params(message: Message, status: str, error_code: int | None) -> dict[str, str]:
    """What Twilio says of a message's new status."""
    params = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "AccountSid": message.account,
        "From": message.from_number or "",
        "To": message.to,
        "MessageStatus": status,
        "SmsStatus": status,
        "ApiVersion": "2010-04-01",
    }
    if message.service:
        params["MessagingServiceSid"] = message.service
    if error_code is not None:
        params["ErrorCode"] = str(error_code)
    return params


def click_event(message: Message, short: str, at: str) -> dict[str, object]:
    """What Event Streams says of a click on a short link."""
    return {
        "specversion": "1.0",
        "type": "com.twilio.daptbt.link-shortening.link-clicked",
        "source": message.account,
        "id": f"NO{uuid.uuid4().hex}",
        "dataschema": "https://events-schemas.twilio.com/DapTbt.LinkClicked/3",
        "datacontenttype": "application/json",
        "time": at,
        "data": {
            "message_sid": message.sid,
            "account_sid": message.account,
            "messaging_service_sid": message.service,
            "to": message.to,
            "from": message.from_number,
            "link": message.links[short],
            "shortened_link": short,
            "link_create_time": at,
            "click_time": at,
            "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)",
        },
    }
