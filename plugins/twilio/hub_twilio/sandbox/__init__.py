"""A stand-in for Twilio: takes messages over the real paths, reports on them, and lets people answer, click and call.

It knows every account; numbers and services are made up when they are seen first. What it refuses, and what goes wrong with
its calls, is set with the attributes below. Message lists filter by `To` and `From`, call lists by `Status` and `EndTime>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

import phonenumbers
from aiohttp import web

from hub.clock import Clock
from hub.testing.sandbox import Sandbox
from hub_twilio.sandbox import taking, telling
from hub_twilio.sandbox.account import (
    API,
    Account,
    Call,
    Message,
    Service,
    Shown,
    Template,
    new_sid,
    page_of_2010,
    page_with_meta,
)
from hub_twilio.sandbox.refusing import basic, error_body, missing, refusal
from hub_twilio.sandbox.telling import Faults, Teller

__all__ = ["Account", "Call", "Faults", "Message", "Template", "Texted", "TwilioSandbox", "new_sid"]

_API_KEY = re.compile(r"SK[0-9a-fA-F]{32}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")
_NUMBER = re.compile(r"\+[1-9]\d{6,14}")
_TEXT_FIELDS = {"address", "account", "from_number", "to_number", "body"}
_SESSION_MS = 24 * 3600 * 1000


class Texted(NamedTuple):
    """A message that a person sent: its id, and what the webhook answered (0: nobody did)."""

    sid: str
    status: int


class TwilioSandbox(Sandbox):
    """Twilio over real HTTP, for the account of any sandbox connection.

    `refuse` maps a `To` or `From` to the error code its messages are refused with; `undeliverable` maps a `To` to the
    error code its status callback ends with; `pools` maps a Messaging Service to the number it sends from; `readers` are the
    WhatsApp addresses whose people read what they get. `landlines` are the numbers that a look-up
    finds to be no mobile ones.
    `faults` says what goes wrong with calls. Opting out works as at Twilio: per sender and person, by the words they text.
    """

    connector = "twilio"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.refuse: dict[str, int] = {}
        self.undeliverable: dict[str, int] = {}
        self.pools: dict[str, str] = {}
        self.readers: set[str] = set()
        self.landlines: set[str] = set()
        self.opted_out: set[tuple[str, str]] = set()
        self.faults = Faults()
        self._accounts: dict[str, Account] = {}
        self._teller = Teller(self.post, self.faults)

    def routes(self) -> Iterable[web.RouteDef]:
        account = f"{API}/Accounts/{{account}}"
        return [
            web.get(f"{account}.json", self._account),
            web.post(f"{account}/Messages.json", self._create),
            web.get(f"{account}/Messages.json", self._list),
            web.get(f"{account}/Messages/{{sid}}.json", self._fetch),
            web.post(f"{account}/Messages/{{sid}}.json", self._update),
            web.get(f"{account}/Messages/{{sid}}/Media.json", self._media),
            web.get(f"{account}/Calls.json", self._calls),
            web.get(f"{account}/IncomingPhoneNumbers.json", self._numbers),
            web.post(f"{account}/IncomingPhoneNumbers/{{sid}}.json", self._set_number),
            web.get(f"{account}/SMS/ShortCodes.json", self._short_codes),
            web.get("/v1/Services", self._services),
            web.get("/v1/Services/{sid}", self._service),
            web.post("/v1/Services/{sid}", self._set_service),
            web.get("/v1/Content", self._templates),
            web.get("/v2/Channels/Senders", self._senders),
            web.get("/v2/PhoneNumbers/{number}", self._lookup),
            web.post("/_sandbox/text", self._text_by_hand),
            web.post("/_sandbox/click", self._click_by_hand),
            web.post("/_sandbox/call", self._call_by_hand),
            web.post("/_sandbox/due", self._due_by_hand),
            web.post("/_sandbox/telling", self._telling_by_hand),
        ]

    def throttled(self) -> web.Response:
        body = error_body(429, 20429, "Too Many Requests")
        return web.json_response(body, status=429, headers={"Twilio-Concurrent-Requests": "100"})

    def account(self, sid: str) -> Account:
        """An account with all that it has; made up when it is seen first."""
        return self._accounts.setdefault(sid, Account(sid=sid))

    # -- what people do ------------------------------------------------------------------------------------------------

    async def text(
        self,
        address: str,
        account: str,
        from_number: str,
        to_number: str,
        body: str,
        media: Sequence[tuple[str, str]] = (),
        **more: str,
    ) -> Texted:
        """A person texts one of our numbers: opt-out words take effect, `address` is told by a signed call.

        Without an address it is told where the number or its service says. Numbers of WhatsApp carry their channel; `more`
        are further parameters, such as `ButtonPayload`.
        """
        found = self.account(account)
        pooled = [service for service, number in self.pools.items() if number == to_number.rpartition(":")[2]]
        services = pooled or [one.sid for one in found.services.values() if one.number == to_number]
        pairs = {(sender, from_number) for sender in (to_number, *services)}
        match telling.meaning(body):
            case "STOP":
                self.opted_out |= pairs
            case "START":
                self.opted_out -= pairs
        now_ms = self.clock.now_ms()
        message = Message(
            sid=new_sid("MM" if media else "SM"),
            account=account,
            to=to_number,
            from_number=from_number,
            service=services[0] if services else None,
            body=body,
            direction="inbound",
            status="received",
            created_ms=now_ms,
            updated_ms=now_ms,
            sent_ms=now_ms,
            segments=taking.parts(body),
            media=tuple(media),
        )
        found.messages[message.sid] = message
        if not (told := address or found.inbound_url(to_number)):
            return Texted(message.sid, 0)
        params = telling.inbound_params(message, more)
        return Texted(message.sid, await self._teller.form(told, params, self.secret(account, "auth_token")))

    async def click(self, address: str, account: str, sid: str) -> int:
        """A person opens the first short link of a message: a sink of Event Streams at `address` is told."""
        message = self.account(account).messages[sid]
        at = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")
        event = telling.click_event(message, next(iter(message.links)), at.replace("+00:00", "Z"))
        return await self._teller.events(address, [event], self.secret(account, "auth_token"))

    def called(self, account: str, from_number: str, to: str, *, seconds: int = 60, status: str = "completed") -> Call:
        """A person called one of our numbers, and hung up just now."""
        now_ms = self.clock.now_ms()
        call = Call(
            sid=new_sid("CA"),
            account=account,
            from_address=from_number,
            to=to,
            direction="inbound",
            status=status,
            started_ms=now_ms - seconds * 1000,
            ended_ms=now_ms,
        )
        self.account(account).calls.append(call)
        return call

    def age(self, account: str, by_ms: int) -> None:
        """Let everything that has happened in an account have happened earlier."""
        for message in self.account(account).messages.values():
            message.created_ms -= by_ms
            message.updated_ms -= by_ms
            message.sent_ms = message.sent_ms and message.sent_ms - by_ms
        for call in self.account(account).calls:
            call.started_ms, call.ended_ms = call.started_ms - by_ms, call.ended_ms - by_ms

    # -- messages ------------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        account = self._authorised(request)
        given = await request.post()
        form, media = (
            {name: str(value) for name, value in given.items()},
            [str(u) for u in given.getall("MediaUrl", [])],
        )
        taking.check(form, media)
        self._refuse(form)
        service = self._service_of(account, form["MessagingServiceSid"]) if form.get("MessagingServiceSid") else None
        now_ms = self.clock.now_ms()
        send_at_ms = taking.scheduled_ms(form, now_ms)
        text = taking.text_of(form, account)
        text, links = taking.shortened(text) if service and form.get("ShortenUrls") == "true" else (text, {})
        message = Message(
            sid=new_sid("MM" if media else "SM"),
            account=account.sid,
            to=form["To"],
            from_number=form.get("From"),
            service=service.sid if service else None,
            body=text,
            direction="outbound-api",
            status="scheduled" if send_at_ms else "accepted" if service else "queued",
            created_ms=now_ms,
            updated_ms=now_ms,
            segments=0 if service else taking.parts(text),
            media=tuple((url, "image/jpeg") for url in media),
            template=form.get("ContentSid"),
            links=links,
            send_at_ms=send_at_ms,
            callback=form.get("StatusCallback"),
        )
        account.messages[message.sid] = message
        sender = message.from_number or message.service
        self.record(_operation(message), account.sid, to=message.to, body=text, sid=message.sid, sender=sender)
        if send_at_ms is None:
            self.send_soon(self._deliver(message))
        return web.json_response(message.shown(), status=201)

    def _refuse(self, form: Mapping[str, str]) -> None:
        """Refuse what was told to be refused, and who opted out."""
        to, senders = form["To"], [form[name] for name in ("From", "MessagingServiceSid") if form.get(name)]
        for address in (to, *senders):
            if code := self.refuse.get(address):
                raise refusal(400, code, f"The message from {senders[0]} to {to} was refused.")
        if any((sender, to) in self.opted_out for sender in senders):
            raise refusal(400, 21610, "Attempt to send to unsubscribed recipient")

    async def _update(self, request: web.Request) -> web.Response:
        message = self._message(request)
        form = await request.post()
        if form.get("Status") == "canceled":
            if message.status != "scheduled":
                raise refusal(400, 30409, "This message cannot be canceled")
            message.status, message.updated_ms = "canceled", self.clock.now_ms()
            self.record("cancel_message", message.account, sid=message.sid)
        return web.json_response(message.shown())

    async def _list(self, request: web.Request) -> web.Response:
        account, query = self._authorised(request), dict(request.query)
        # Newest first: they stand in the order in which they were made.
        found = [
            message
            for message in reversed(account.messages.values())
            if query.get("To") in (None, message.to) and query.get("From") in (None, message.from_number)
        ]
        path = f"{API}/Accounts/{account.sid}/Messages.json"
        return web.json_response(page_of_2010(found, "messages", path, query, Message.shown))

    async def _fetch(self, request: web.Request) -> web.Response:
        return web.json_response(self._message(request).shown())

    async def _media(self, request: web.Request) -> web.Response:
        message = self._message(request)
        path = f"{API}/Accounts/{message.account}/Messages/{message.sid}/Media.json"
        shown = message.media_shown()
        return web.json_response(page_of_2010(shown, "media_list", path, dict(request.query), lambda one: one))

    def _message(self, request: web.Request) -> Message:
        message = self._authorised(request).messages.get(request.match_info["sid"])
        if message is None:
            raise missing(request.path)
        return message

    # -- numbers, services, templates, calls ---------------------------------------------------------------------------

    async def _account(self, request: web.Request) -> web.Response:
        account = self._authorised(request).sid
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

    async def _calls(self, request: web.Request) -> web.Response:
        account, query = self._authorised(request), dict(request.query)
        day = datetime.fromisoformat(query.get("EndTime>", "1970-01-01")).replace(tzinfo=UTC).timestamp() * 1000
        found = [
            call
            for call in reversed(account.calls)
            if query.get("Status") in (None, call.status) and call.ended_ms >= day
        ]
        path = f"{API}/Accounts/{account.sid}/Calls.json"
        return web.json_response(page_of_2010(found, "calls", path, query, Call.shown))

    async def _numbers(self, request: web.Request) -> web.Response:
        account, query = self._authorised(request), dict(request.query)
        wanted = query.get("PhoneNumber")
        if wanted and _NUMBER.fullmatch(wanted):
            account.number(wanted)
        found = [one for one in account.numbers.values() if wanted in (None, one.phone_number)]
        path = f"{API}/Accounts/{account.sid}/IncomingPhoneNumbers.json"
        shown = [one.shown() for one in found]
        return web.json_response(page_of_2010(shown, "incoming_phone_numbers", path, query, lambda one: one))

    async def _set_number(self, request: web.Request) -> web.Response:
        account, form = self._authorised(request), await request.post()
        number = account.numbers.get(request.match_info["sid"])
        if number is None:
            raise missing(request.path)
        number.sms_url = str(form.get("SmsUrl", number.sms_url))
        number.sms_method = str(form.get("SmsMethod", number.sms_method))
        return web.json_response(number.shown())

    async def _short_codes(self, request: web.Request) -> web.Response:
        account = self._authorised(request)
        found: list[Shown] = [{"short_code": code, "friendly_name": name} for code, name in account.short_codes.items()]
        path = f"{API}/Accounts/{account.sid}/SMS/ShortCodes.json"
        return web.json_response(page_of_2010(found, "short_codes", path, dict(request.query), lambda one: one))

    async def _services(self, request: web.Request) -> web.Response:
        shown = [one.shown() for one in self._by_credentials(request).services.values()]
        url = "https://messaging.twilio.com/v1/Services"
        return web.json_response(page_with_meta(shown, "services", url, dict(request.query)))

    async def _service(self, request: web.Request) -> web.Response:
        return web.json_response(self._service_of(self._by_credentials(request), request.match_info["sid"]).shown())

    async def _set_service(self, request: web.Request) -> web.Response:
        account, form = self._by_credentials(request), await request.post()
        service = self._service_of(account, request.match_info["sid"])
        service.inbound_url = str(form.get("InboundRequestUrl", service.inbound_url or "")) or None
        service.inbound_method = str(form.get("InboundMethod", service.inbound_method))
        return web.json_response(service.shown())

    async def _templates(self, request: web.Request) -> web.Response:
        shown = [one.shown() for one in self._by_credentials(request).templates.values()]
        url = "https://content.twilio.com/v1/Content"
        return web.json_response(page_with_meta(shown, "contents", url, dict(request.query)))

    async def _senders(self, request: web.Request) -> web.Response:
        account, query = self._by_credentials(request), dict(request.query)
        if query.get("Channel") != "whatsapp":
            raise refusal(400, 20001, "Channel is required")
        shown: list[Shown] = [
            {"sid": f"XE{n:032x}", "status": "ONLINE", "sender_id": f"whatsapp:{number}", "profile": {"name": name}}
            for n, (number, name) in enumerate(account.whatsapp.items())
        ]
        url = "https://messaging.twilio.com/v2/Channels/Senders"
        return web.json_response(page_with_meta(shown, "senders", url, query))

    async def _lookup(self, request: web.Request) -> web.Response:
        self._by_credentials(request)
        given, query = unquote(request.match_info["number"]), request.query
        try:
            number = phonenumbers.parse(given, query.get("CountryCode", "US"))
            valid = phonenumbers.is_possible_number(number)
        except phonenumbers.NumberParseException:
            number, valid = phonenumbers.PhoneNumber(), False
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if valid else given
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL) if valid else None
        kind = "landline" if e164 in self.landlines else "mobile"
        asked = "line_type_intelligence" in query.get("Fields", "").split(",")
        return web.json_response(
            {
                "calling_country_code": str(number.country_code) if valid else None,
                "country_code": phonenumbers.region_code_for_number(number) if valid else None,
                "phone_number": e164,
                "national_format": national,
                "valid": valid,
                "validation_errors": [] if valid else ["NOT_A_NUMBER"],
                "line_type_intelligence": {"type": kind, "carrier_name": "Example Mobile"} if asked and valid else None,
                "url": f"https://lookups.twilio.com/v2/PhoneNumbers/{e164}",
            }
        )

    def _service_of(self, account: Account, sid: str) -> Service:
        """A service, which sends from the number that `pools` names."""
        if not _SERVICE.fullmatch(sid):
            raise refusal(400, 21705, "The Messaging Service Sid is invalid.")
        service = account.service(sid, self.pools.get(sid))
        service.number = self.pools.setdefault(sid, service.number)
        return service

    # -- who asks ------------------------------------------------------------------------------------------------------

    def _authorised(self, request: web.Request) -> Account:
        """The account in the path, if the caller knows its token or an API key of it."""
        account = request.match_info["account"]
        user, password = basic(request.headers.get("Authorization", ""))
        known = {account: "auth_token"}
        if _API_KEY.fullmatch(user):
            known[user] = "api_key_secret"
        if user not in known or password != self.secret(account, known[user]):
            raise refusal(401, 20003, "Authenticate")
        return self.account(account)

    def _by_credentials(self, request: web.Request) -> Account:
        """The account whose token or API key it is, where the path names none. A key's must have been seen before."""
        user, password = basic(request.headers.get("Authorization", ""))
        if _API_KEY.fullmatch(user):
            found = [sid for sid in self._accounts if self.secret(sid, "api_key_secret") == password]
        else:
            found = [user] if user and self.secret(user, "auth_token") == password else []
        if not found:
            raise refusal(401, 20003, "Authenticate")
        return self.account(found[0])

    # -- what it tells -------------------------------------------------------------------------------------------------

    async def send_due(self) -> int:
        """Send the scheduled messages whose time has come; says how many."""
        now_ms, due = self.clock.now_ms(), list[Message]()
        for account in self._accounts.values():
            scheduled = [one for one in account.messages.values() if one.status == "scheduled"]
            due += [one for one in scheduled if (one.send_at_ms or 0) <= now_ms]
        for message in due:
            await self._deliver(message)
        return len(due)

    async def _deliver(self, message: Message) -> None:
        """Send a message on, and tell its callback of each status, in order unless the faults say otherwise."""
        if message.service and message.from_number is None:
            number = self._service_of(self.account(message.account), message.service).number
            message.from_number = f"{message.channel}:{number}" if message.channel else number
        message.segments = 0 if message.channel else taking.parts(message.body)
        told = []
        for status, error_code in self._course(message):
            message.status, message.error_code, message.updated_ms = status, error_code, self.clock.now_ms()
            if status == "sent":
                message.sent_ms = message.updated_ms
            told.append(telling.status_params(message, status, error_code))
        if not message.callback:
            return
        for params in reversed(told) if self.faults.reorder else told:
            await self._teller.form(message.callback, params, self.secret(message.account, "auth_token"))

    def _course(self, message: Message) -> list[tuple[str, int | None]]:
        """The statuses that a message goes through from now on, each with its error code."""
        code = self.undeliverable.get(message.to)
        if code is None and message.channel == "whatsapp" and not message.template and not self._in_session(message):
            return [("failed", 63016)]
        if code is not None:
            # A code below 30000 is a refusal by Twilio itself, the others come from the carrier.
            return [("sent", None), ("failed" if code < 30_000 else "undelivered", code)]
        read = [("read", None)] if message.to in self.readers else []
        return [("sent", None), ("delivered", None), *read]

    def _in_session(self, message: Message) -> bool:
        """Whether the person wrote within 24 hours."""
        since = self.clock.now_ms() - _SESSION_MS
        theirs = self.account(message.account).messages.values()
        return any(m.direction == "inbound" and m.from_number == message.to and m.created_ms >= since for m in theirs)

    # -- by hand -------------------------------------------------------------------------------------------------------

    async def _text_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if set(fields) - {"media"} != _TEXT_FIELDS:
            return _needed(*sorted(_TEXT_FIELDS))
        return web.json_response((await self.text(**fields))._asdict())

    async def _click_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if set(fields) != {"address", "account", "sid"}:
            return _needed("account", "address", "sid")
        return web.json_response({"status": await self.click(**fields)})

    async def _call_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if set(fields) != {"account", "from_number", "to"}:
            return _needed("account", "from_number", "to")
        return web.json_response({"sid": self.called(**fields).sid})

    async def _due_by_hand(self, request: web.Request) -> web.Response:
        return web.json_response({"sent": await self.send_due()})

    async def _telling_by_hand(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if not set(fields) <= set(vars(self.faults)):
            return _needed(*sorted(vars(self.faults)))
        for name, value in fields.items():
            setattr(self.faults, name, value)
        return web.json_response(vars(self.faults))


def _needed(*names: str) -> web.Response:
    return web.json_response({"error": f"needed are exactly: {', '.join(names)}"}, status=400)


def _operation(message: Message) -> str:
    """What is noted in the log."""
    if message.status == "scheduled":
        return "schedule_message"
    return "send_whatsapp" if message.channel == "whatsapp" else "send_mms" if message.media else "send_sms"
