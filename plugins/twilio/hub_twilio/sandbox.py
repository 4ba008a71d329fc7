"""A stand-in for Twilio's messaging: takes messages over the real paths, reports on them, and lets people answer.

It knows every account and sender; what it refuses is set with the attributes below. Lists filter by `To` and `From` only.
"""

from __future__ import annotations

import binascii
import json
import re
import uuid
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from hub.clock import Clock, to_datetime
from hub.testing.sandbox import Sandbox
from hub_twilio.segments import segments
from hub_twilio.triggers import HELP_WORDS, START_WORDS, STOP_WORDS
from hub_twilio.webhook import SIGNATURE_HEADER, TOKEN_HEADER, sign

API = "/2010-04-01"
_ADDRESS = re.compile(r"(?:\w+:)?\+[1-9]\d{6,14}")
_API_KEY = re.compile(r"SK[0-9a-fA-F]{32}")
_TEXT_FIELDS = ("address", "account", "from_number", "to_number", "body")
_REFUSALS = {400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 404: web.HTTPNotFound}


class Texted(NamedTuple):
    """A message that a person sent: its id, and what the webhook answered (0: nobody did)."""

    sid: str
    status: int


@dataclass(kw_only=True)
class _Message:
    sid: str
    account: str
    to: str
    from_number: str | None
    service: str | None
    body: str
    direction: str
    status: str
    created_ms: int
    sent_ms: int | None = None
    segments: int = 0
    error_code: int | None = None

    def as_json(self) -> dict[str, object]:
        """The Message resource as the API shows it."""
        uri = f"{API}/Accounts/{self.account}/Messages/{self.sid}"
        created = _rfc2822(self.created_ms)
        return {
            "sid": self.sid,
            "account_sid": self.account,
            "messaging_service_sid": self.service,
            "from": self.from_number,
            "to": self.to,
            "body": self.body,
            "status": self.status,
            "direction": self.direction,
            "num_segments": str(self.segments),
            "num_media": "0",
            "price": None,
            "price_unit": "USD",
            "error_code": self.error_code,
            "error_message": None,
            "date_created": created,
            "date_updated": created,
            "date_sent": _rfc2822(self.sent_ms) if self.sent_ms is not None else None,
            "api_version": "2010-04-01",
            "uri": f"{uri}.json",
            "subresource_uris": {"media": f"{uri}/Media.json"},
        }


class TwilioSandbox(Sandbox):
    """Twilio over real HTTP, for the account of any sandbox connection.

    `refuse` maps a `To` or `From` to the error code its messages are refused with; `undeliverable` maps a `To` to the
    error code its status callback ends with; `pools` maps a Messaging Service to the number it sends from (one is made up
    for a service seen first). Opting out works as at Twilio: per sender and person, by the words they text.
    """

    connector = "twilio"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.refuse: dict[str, int] = {}
        self.undeliverable: dict[str, int] = {}
        self.pools: dict[str, str] = {}
        self.opted_out: set[tuple[str, str]] = set()
        self._messages: dict[str, dict[str, _Message]] = defaultdict(dict)

    def routes(self) -> Iterable[web.RouteDef]:
        account = f"{API}/Accounts/{{account}}"
        return [
            web.get(f"{account}.json", self._account),
            web.post(f"{account}/Messages.json", self._create),
            web.get(f"{account}/Messages.json", self._list),
            web.get(f"{account}/Messages/{{sid}}.json", self._fetch),
            web.post("/_sandbox/text", self._text),
        ]

    def throttled(self) -> web.Response:
        body = _error_body(429, 20429, "Too Many Requests")
        return web.json_response(body, status=429, headers={"Twilio-Concurrent-Requests": "100"})

    async def text(self, address: str, account: str, from_number: str, to_number: str, body: str) -> Texted:
        """A person texts one of our numbers: opt-out words take effect, `address` is told by a signed call."""
        keyword = body.strip().upper()
        services = [service for service, number in self.pools.items() if number == to_number]
        pairs = {(sender, from_number) for sender in (to_number, *services)}
        if keyword in STOP_WORDS:
            self.opted_out |= pairs
        elif keyword in START_WORDS:
            self.opted_out -= pairs
        message = _Message(
            sid=f"SM{uuid.uuid4().hex}",
            account=account,
            to=to_number,
            from_number=from_number,
            service=services[0] if services else None,
            body=body,
            direction="inbound",
            status="received",
            created_ms=self.clock.now_ms(),
            segments=segments(body),
        )
        self._messages[account][message.sid] = message
        return Texted(message.sid, await self._call(address, account, _inbound_params(message)))

    # -- what the API does ---------------------------------------------------------------------------------------------

    async def _account(self, request: web.Request) -> web.Response:
        account = self._authorised(request)
        return web.json_response(
            {
                "sid": account,
                "owner_account_sid": account,
                "friendly_name": "Sandbox",
                "status": "active",
                "type": "Full",
                "uri": f"{API}/Accounts/{account}.json",
            }
        )

    async def _create(self, request: web.Request) -> web.Response:
        account = self._authorised(request)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self._check(form)
        to, body, service = form["To"], form["Body"], form.get("MessagingServiceSid")
        if service:
            self.pools.setdefault(service, f"+1415555{9000 + len(self.pools)}")
        message = _Message(
            sid=f"SM{uuid.uuid4().hex}",
            account=account,
            to=to,
            from_number=form.get("From"),
            service=service,
            body=body,
            direction="outbound-api",
            status="accepted" if service else "queued",
            created_ms=self.clock.now_ms(),
            segments=0 if service else segments(body),
        )
        self._messages[account][message.sid] = message
        self.record("send_sms", account, to=to, body=body, sid=message.sid, sender=message.from_number or service)
        self.send_soon(self._deliver(message, form.get("StatusCallback")))
        return web.json_response(message.as_json(), status=201)

    def _check(self, form: Mapping[str, str]) -> None:
        """Refuse what Twilio refuses, in its order of required things: recipient, text, sender."""
        to, senders = form.get("To", ""), [form[name] for name in ("From", "MessagingServiceSid") if form.get(name)]
        if not to:
            raise _refusal(400, 21604, "A 'To' phone number is required.")
        if not _ADDRESS.fullmatch(to):
            raise _refusal(400, 21211, f"Invalid 'To' Phone Number: {to}")
        if not form.get("Body"):
            raise _refusal(400, 21602, "Message body is required.")
        if len(form["Body"]) > 1600:
            raise _refusal(400, 21617, "The concatenated message body exceeds the 1600 character limit.")
        if not senders:
            raise _refusal(400, 21603, "A 'From' phone number is required.")
        if form.get("From") and _channel(form["From"]) != _channel(to):
            raise _refusal(400, 21910, "'From' and 'To' are not of the same channel.")
        if (callback := form.get("StatusCallback")) and not _is_callable(callback):
            raise _refusal(400, 21609, "The 'StatusCallback' URL is not a valid URL.")
        for address in (to, *senders):
            if code := self.refuse.get(address):
                raise _refusal(400, code, f"The message from {senders[0]} to {to} was refused.")
        if any((sender, to) in self.opted_out for sender in senders):
            raise _refusal(400, 21610, "Attempt to send to unsubscribed recipient")

    async def _list(self, request: web.Request) -> web.Response:
        account = self._authorised(request)
        query = dict(request.query)
        size, page = min(int(query.get("PageSize", "50")), 1000), int(query.get("Page", "0"))
        # Newest first; of one instant the one created last.
        found = [
            message
            for message in reversed(self._messages[account].values())
            if query.get("To") in (None, message.to) and query.get("From") in (None, message.from_number)
        ]
        shown = found[page * size : (page + 1) * size]

        def uri(number: int) -> str:
            return f"{API}/Accounts/{account}/Messages.json?{urlencode({**query, 'Page': number})}"

        return web.json_response(
            {
                "messages": [message.as_json() for message in shown],
                "first_page_uri": uri(0),
                "previous_page_uri": uri(page - 1) if page else None,
                "next_page_uri": uri(page + 1) if (page + 1) * size < len(found) else None,
                "uri": uri(page),
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": page * size + max(0, len(shown) - 1),
            }
        )

    async def _fetch(self, request: web.Request) -> web.Response:
        message = self._messages[self._authorised(request)].get(request.match_info["sid"])
        if message is None:
            raise _refusal(404, 20404, f"The requested resource {request.path} was not found")
        return web.json_response(message.as_json())

    async def _text(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if set(fields) != set(_TEXT_FIELDS):
            return web.json_response({"error": f"needed are exactly: {', '.join(_TEXT_FIELDS)}"}, status=400)
        return web.json_response((await self.text(**fields))._asdict())

    def _authorised(self, request: web.Request) -> str:
        """The account in the path, if the caller knows its token or an API key of it."""
        account = request.match_info["account"]
        user, password = _basic(request.headers.get("Authorization", ""))
        known = {account: "auth_token"}
        if _API_KEY.fullmatch(user):
            known[user] = "api_key_secret"
        if user not in known or password != self.secret(account, known[user]):
            raise _refusal(401, 20003, "Authenticate")
        return account

    # -- what it tells -------------------------------------------------------------------------------------------------

    async def _deliver(self, message: _Message, callback: str | None) -> None:
        """Send the message on: `sent`, then what became of it; each told to the callback, in order."""
        error_code = self.undeliverable.get(message.to)
        # A code below 30000 is a refusal by Twilio itself, the others come from the carrier.
        last = "delivered" if error_code is None else "failed" if error_code < 30_000 else "undelivered"
        if message.service and message.from_number is None:
            message.from_number = self.pools[message.service]
        message.segments, message.sent_ms = segments(message.body), self.clock.now_ms()
        for status in ("sent", last):
            message.status = status
            message.error_code = error_code if status == last else None
            if callback:
                await self._call(callback, message.account, _status_params(message))

    async def _call(self, address: str, account: str, params: Mapping[str, str]) -> int:
        """One webhook, signed, repeated as the address asks in its fragment; the last status."""
        wishes = dict(parse_qsl(urlsplit(address).fragment))
        repeat_when = wishes.get("rp", "ct").split(",")
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            SIGNATURE_HEADER: sign(address, params.items(), self.secret(account, "auth_token")),
            TOKEN_HEADER: str(uuid.uuid4()),
        }
        status = 0
        for _ in range(1 + int(wishes.get("rc", "1"))):
            status = await self.post(address, urlencode(params).encode(), headers)
            if not (status == 0 or (status >= 500 and "5xx" in repeat_when)):
                break
        return status


def _inbound_params(message: _Message) -> dict[str, str]:
    params = dict.fromkeys(("ToCity", "ToState", "ToZip", "FromCity", "FromState", "FromZip"), "")
    params |= {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "SmsMessageSid": message.sid,
        "AccountSid": message.account,
        "From": message.from_number or "",
        "To": message.to,
        "Body": message.body,
        "NumMedia": "0",
        "NumSegments": str(message.segments),
        "SmsStatus": "received",
        "ApiVersion": "2010-04-01",
    }
    if message.service:
        params["MessagingServiceSid"] = message.service
        # Only services say what they took a message for (Advanced Opt-Out).
        if meaning := _meaning(message.body):
            params["OptOutType"] = meaning
    return params


def _status_params(message: _Message) -> dict[str, str]:
    params = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "AccountSid": message.account,
        "From": message.from_number or "",
        "To": message.to,
        "MessageStatus": message.status,
        "SmsStatus": message.status,
        "ApiVersion": "2010-04-01",
    }
    if message.service:
        params["MessagingServiceSid"] = message.service
    if message.error_code is not None:
        params["ErrorCode"] = str(message.error_code)
    return params


def _meaning(body: str) -> str | None:
    words = {"STOP": STOP_WORDS, "START": START_WORDS, "HELP": HELP_WORDS}
    return next((meaning for meaning, known in words.items() if body.strip().upper() in known), None)


def _channel(address: str) -> str:
    return address.rpartition(":")[0]


def _is_callable(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or "_"
    return parts.scheme in ("http", "https") and "_" not in host and len(url) <= 4000


def _basic(header: str) -> tuple[str, str]:
    """User and password of a Basic header; empty when there are none."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, _, password = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (user, password) if scheme == "Basic" else ("", "")


def _rfc2822(ms: int) -> str:
    return format_datetime(to_datetime(ms))


def _error_body(status: int, code: int, message: str) -> dict[str, object]:
    link = f"https://www.twilio.com/docs/errors/{code}"
    return {"code": code, "message": message, "more_info": link, "status": status}


def _refusal(status: int, code: int, message: str) -> web.HTTPException:
    body = json.dumps(_error_body(status, code, message))
    return _REFUSALS[status](text=body, content_type="application/json")
