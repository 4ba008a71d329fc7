"""What an account of the sandbox holds, and how Twilio's API shows each of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TypeVar
from urllib.parse import urlencode

API = "/2010-04-01"

T = TypeVar("T")
Shown = dict[str, object]


def new_sid(prefix: str) -> str:
    """An id as Twilio makes them."""
    return f"{prefix}{uuid.uuid4().hex}"


def rfc2822(ms: int | None) -> str | None:
    """A time as the API of 2010 writes it."""
    return None if ms is None else format_datetime(datetime.fromtimestamp(ms / 1000, UTC))


@dataclass(kw_only=True)
class Message:
    """A message in either direction; addresses with their channel. `media` are addresses and types of files."""

    sid: str
    account: str
    to: str
    from_number: str | None
    service: str | None
    body: str
    direction: str
    status: str
    created_ms: int
    updated_ms: int
    sent_ms: int | None = None
    segments: int = 0
    error_code: int | None = None
    media: Sequence[tuple[str, str]] = ()
    template: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    """Short links that stand in the text, and the long ones they stand for."""
    send_at_ms: int | None = None
    callback: str | None = None

    @property
    def channel(self) -> str:
        """`whatsapp`, or empty for SMS."""
        return self.to.rpartition(":")[0]

    def shown(self) -> Shown:
        """The Message resource."""
        uri = f"{API}/Accounts/{self.account}/Messages/{self.sid}"
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
            "num_media": str(len(self.media)),
            "price": None,
            "price_unit": "USD",
            "error_code": self.error_code,
            "error_message": None,
            "date_created": rfc2822(self.created_ms),
            "date_updated": rfc2822(self.updated_ms),
            "date_sent": rfc2822(self.sent_ms),
            "api_version": "2010-04-01",
            "uri": f"{uri}.json",
            "subresource_uris": {"media": f"{uri}/Media.json"},
        }

    def media_uri(self, number: int) -> str:
        """Where a file of it is described, without `.json`."""
        return f"{API}/Accounts/{self.account}/Messages/{self.sid}/Media/ME{number:032x}"

    def media_shown(self) -> list[Shown]:
        """Its files."""
        created = rfc2822(self.created_ms)
        return [
            {
                "sid": f"ME{number:032x}",
                "account_sid": self.account,
                "parent_sid": self.sid,
                "content_type": type_,
                "date_created": created,
                "date_updated": created,
                "uri": f"{self.media_uri(number)}.json",
            }
            for number, (_, type_) in enumerate(self.media)
        ]


@dataclass(kw_only=True)
class Number:
    """A phone number of the account."""

    sid: str
    account: str
    phone_number: str
    name: str
    sms_url: str = ""
    sms_method: str = "POST"
    application: str | None = None

    def shown(self) -> Shown:
        """The IncomingPhoneNumber resource, as far as it concerns messages."""
        return {
            "sid": self.sid,
            "account_sid": self.account,
            "phone_number": self.phone_number,
            "friendly_name": self.name,
            "sms_url": self.sms_url,
            "sms_method": self.sms_method,
            "sms_fallback_url": "",
            "sms_fallback_method": "POST",
            "sms_application_sid": self.application or "",
            "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
            "uri": f"{API}/Accounts/{self.account}/IncomingPhoneNumbers/{self.sid}.json",
        }


@dataclass(kw_only=True)
class Service:
    """A Messaging Service, which sends from `number`."""

    sid: str
    account: str
    name: str
    number: str
    inbound_url: str | None = None
    inbound_method: str = "POST"
    numbers_decide: bool = False

    def shown(self) -> Shown:
        """The Service resource."""
        return {
            "sid": self.sid,
            "account_sid": self.account,
            "friendly_name": self.name,
            "inbound_request_url": self.inbound_url,
            "inbound_method": self.inbound_method,
            "fallback_url": None,
            "fallback_method": "POST",
            "status_callback": None,
            "use_inbound_webhook_on_number": self.numbers_decide,
            "validity_period": 36000,
            "url": f"https://messaging.twilio.com/v1/Services/{self.sid}",
        }


@dataclass(kw_only=True)
class Call:
    """A telephone call that has ended."""

    sid: str
    account: str
    from_address: str
    to: str
    direction: str
    status: str
    started_ms: int
    ended_ms: int

    def shown(self) -> Shown:
        """The Call resource."""
        answered = self.status == "completed"
        return {
            "sid": self.sid,
            "account_sid": self.account,
            "from": self.from_address,
            "to": self.to,
            "direction": self.direction,
            "status": self.status,
            "start_time": rfc2822(self.started_ms),
            "end_time": rfc2822(self.ended_ms) if answered else None,
            "duration": str((self.ended_ms - self.started_ms) // 1000) if answered else "",
            "answered_by": None,
            "uri": f"{API}/Accounts/{self.account}/Calls/{self.sid}.json",
        }


@dataclass(kw_only=True)
class Template:
    """A content template; `body` holds its variables as `{{1}}`."""

    sid: str
    account: str
    name: str
    body: str
    language: str = "en"

    def shown(self) -> Shown:
        """The Content resource."""
        return {
            "sid": self.sid,
            "account_sid": self.account,
            "friendly_name": self.name,
            "language": self.language,
            "variables": {},
            "types": {"twilio/text": {"body": self.body}},
            "url": f"https://content.twilio.com/v1/Content/{self.sid}",
        }

    def filled(self, variables: Mapping[str, str]) -> str:
        """The text with its variables."""
        text = self.body
        for name, value in variables.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return text


@dataclass(kw_only=True)
class Account:
    """All that one account has. Messages stand in the order in which they were made."""

    sid: str
    messages: dict[str, Message] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    short_codes: dict[str, str] = field(default_factory=dict)
    """Short codes, and their names."""
    services: dict[str, Service] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    whatsapp: dict[str, str] = field(default_factory=dict)
    """Numbers registered for WhatsApp, and the names that people see."""
    calls: list[Call] = field(default_factory=list)

    def number(self, phone_number: str) -> Number:
        """A number of the account, which is made up when it is seen first."""
        for one in self.numbers.values():
            if one.phone_number == phone_number:
                return one
        made = Number(sid=new_sid("PN"), account=self.sid, phone_number=phone_number, name=f"Line {phone_number[-4:]}")
        self.numbers[made.sid] = made
        return made

    def service(self, sid: str, number: str | None = None) -> Service:
        """A service of the account, which is made up when it is seen first, with a number to send from."""
        if sid not in self.services:
            sender = number or f"+1415555{9000 + len(self.services)}"
            self.services[sid] = Service(sid=sid, account=self.sid, name=f"Service {sid[-4:]}", number=sender)
        return self.services[sid]

    def inbound_url(self, to: str) -> str:
        """Where messages to an address of ours are told: to its service's address, or to its own."""
        phone_number = to.rpartition(":")[2]
        for service in self.services.values():
            if service.number == phone_number and not service.numbers_decide:
                return service.inbound_url or ""
        return self.number(phone_number).sms_url


def page_of_2010(
    items: Sequence[T], key: str, path: str, query: Mapping[str, str], show: Callable[[T], Shown]
) -> Shown:
    """A page of a list as the API of 2010 gives it."""
    size, page = min(int(query.get("PageSize", "50")), 1000), int(query.get("Page", "0"))

    def uri(number: int) -> str:
        return f"{path}?{urlencode({**query, 'Page': number})}"

    shown = [show(one) for one in items[page * size : (page + 1) * size]]
    return {
        key: shown,
        "first_page_uri": uri(0),
        "previous_page_uri": uri(page - 1) if page else None,
        "next_page_uri": uri(page + 1) if (page + 1) * size < len(items) else None,
        "uri": uri(page),
        "page": page,
        "page_size": size,
        "start": page * size,
        "end": page * size + max(0, len(shown) - 1),
    }


def page_with_meta(items: Sequence[Shown], key: str, url: str, query: Mapping[str, str]) -> Shown:
    """A page of a list as the newer APIs give it."""
    size, page = min(int(query.get("PageSize", "50")), 1000), int(query.get("Page", "0"))

    def at(number: int) -> str:
        return f"{url}?{urlencode({**query, 'PageSize': size, 'Page': number})}"

    meta: Shown = {
        "key": key,
        "page": page,
        "page_size": size,
        "first_page_url": at(0),
        "previous_page_url": at(page - 1) if page else None,
        "next_page_url": at(page + 1) if (page + 1) * size < len(items) else None,
        "url": at(page),
    }
    return {"meta": meta, key: list(items[page * size : (page + 1) * size])}
