"""Calls of Twilio's APIs: messages, numbers, services, templates, calls, the account; how their lists are paged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from hub import Account, ActionContext, AuthExpired, OutcomeUnknown, PermanentError, Rejected, Response

ORIGIN = "https://api.twilio.com"
MESSAGING = "https://messaging.twilio.com"
CONTENT = "https://content.twilio.com"
LOOKUPS = "https://lookups.twilio.com"

_PAGE_SIZE = 100
_MAX_PAGES = 5
# As many as Twilio gives at once (OpenAPI document 2.6.7): what is read whole takes fewer calls.
_LONGEST_PAGE = 1000

M = TypeVar("M", bound=BaseModel)
Form = Sequence[tuple[str, str]]
"""The parameters of a call, in order; a name may come more than once."""


def _rfc2822(value: object) -> object:
    if not isinstance(value, str):
        return value
    moment = parsedate_to_datetime(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Numbers come as text, and are null or empty where there are none.
_Number = Annotated[int, BeforeValidator(lambda value: value or 0)]
_Instant = Annotated[datetime | None, BeforeValidator(_rfc2822)]


class Message(BaseModel):
    """A message as Twilio describes it. `from_number` is empty until a Messaging Service has chosen the sender."""

    sid: str = Field(min_length=1)
    status: str
    to: str = ""
    from_number: str | None = Field(None, validation_alias="from")
    messaging_service_sid: str | None = None
    body: str | None = None
    direction: str = ""
    num_segments: _Number = 0
    num_media: _Number = 0
    error_code: int | None = None
    date_created: _Instant = None
    date_updated: _Instant = None
    date_sent: _Instant = None

    @property
    def text(self) -> str:
        """The body without blanks around it."""
        return (self.body or "").strip()

    def is_since(self, since_ms: int) -> bool:
        """Whether it was created at that time or later; True where Twilio does not say."""
        return self.date_created is None or self.date_created.timestamp() * 1000 >= since_ms


class Medium(BaseModel):
    """A file of a message. `uri` is its description's; the file itself is there without `.json`."""

    uri: str
    content_type: str | None = None

    @property
    def url(self) -> str:
        """Where the file can be fetched, with the account's credentials where it enforces that."""
        return ORIGIN + self.uri.removesuffix(".json")


class Call(BaseModel):
    """A telephone call as Twilio describes it. Either side may be a SIP address or a client instead of a number."""

    sid: str = Field(min_length=1)
    status: str
    direction: str = ""
    from_address: str = Field("", validation_alias="from")
    to: str = ""
    duration: _Number = 0
    start_time: _Instant = None
    end_time: _Instant = None
    answered_by: str | None = None


class Number(BaseModel):
    """A phone number of the account. With an application it is the application's addresses that are called."""

    sid: str
    phone_number: str
    friendly_name: str | None = None
    sms_url: str | None = None
    sms_application_sid: str | None = None


class Service(BaseModel):
    """A Messaging Service. Where its numbers have the say, their addresses are called instead of its own."""

    sid: str
    friendly_name: str | None = None
    inbound_request_url: str | None = None
    use_inbound_webhook_on_number: bool | None = None


class MessagePage(BaseModel):
    """A page of the message list."""

    messages: list[Message]
    next_page_uri: str | None = None


class _CallPage(BaseModel):
    calls: list[Call]
    next_page_uri: str | None = None


class _MediaPage(BaseModel):
    media_list: list[Medium]


class NumberPage(BaseModel):
    """A page of the account's numbers."""

    incoming_phone_numbers: list[Number]
    next_page_uri: str | None = None


class Meta(BaseModel):
    """Where the next page of the newer APIs' lists is."""

    next_page_url: str | None = None


class ServicePage(BaseModel):
    """A page of Messaging Services."""

    services: list[Service]
    meta: Meta


class _AccountAnswer(BaseModel):
    sid: str
    friendly_name: str | None = None


# -- messages ----------------------------------------------------------------------------------------------------------


async def create_message(ctx: ActionContext, form: Form) -> Message:
    """Ask Twilio to send; not idempotent. Raises OptedOut and the errors of `Http.request`."""
    return read(Message, await ctx.http.request("POST", "/Messages.json", form=list(form)))


async def fetch_message(ctx: ActionContext, sid: str) -> Message:
    """A message as it stands. Raises NotFound."""
    return read(Message, await ctx.http.request("GET", f"/Messages/{quote(sid, safe='')}.json"))


async def cancel_message(ctx: ActionContext, sid: str) -> Message:
    """Cancel a scheduled message. Raises NotCancelable when it is not scheduled any more, also if it was cancelled before."""
    path = f"/Messages/{quote(sid, safe='')}.json"
    return read(Message, await ctx.http.request("POST", path, form=[("Status", "canceled")]))


async def messages_to(ctx: ActionContext, to: str, since_ms: int) -> list[Message]:
    """The account's messages to one address created at or after `since_ms`. Raises OutcomeUnknown when they are too many.

    Pages are read until one holds an older message. That the list comes newest first is not documented.
    """
    found: list[Message] = []
    # Not filtered by DateSent: a message in the queue has none, and may be hidden by the filter.
    answer = await ctx.http.request("GET", "/Messages.json", params={"To": to, "PageSize": str(_PAGE_SIZE)})
    for _ in range(_MAX_PAGES):
        page = read(MessagePage, answer)
        recent = [message for message in page.messages if message.is_since(since_ms)]
        found += recent
        if page.next_page_uri is None or len(recent) < len(page.messages):
            return found
        answer = await ctx.http.request("GET", ORIGIN + page.next_page_uri)
    raise OutcomeUnknown(f"more than {_MAX_PAGES * _PAGE_SIZE} messages went to this address since: too many to tell")


async def messages_since(ctx: ActionContext, since_ms: int, uri: str | None = None) -> AsyncIterator[MessagePage]:
    """Pages of the account's messages, newest first, until a whole one is older than `since_ms`; from `uri` on if given."""
    if uri is None:
        answer = await ctx.http.request("GET", "/Messages.json", params={"PageSize": str(_LONGEST_PAGE)})
    else:
        answer = await ctx.http.request("GET", ORIGIN + uri)
    while True:
        page = read(MessagePage, answer)
        recent = [message for message in page.messages if message.is_since(since_ms)]
        further = page.next_page_uri if recent else None
        yield MessagePage(messages=recent, next_page_uri=further)
        if further is None:
            return
        answer = await ctx.http.request("GET", ORIGIN + further)


async def media_of(ctx: ActionContext, sid: str) -> list[Medium]:
    """The files of a message; there are ten at most."""
    return read(_MediaPage, await ctx.http.request("GET", f"/Messages/{quote(sid, safe='')}/Media.json")).media_list


# -- calls, numbers, services, the account -----------------------------------------------------------------------------


async def calls_since(ctx: ActionContext, since_ms: int) -> list[Call]:
    """Completed calls that ended at or after `since_ms`, those that ended first first.

    Twilio filters by whole days, in UTC (OpenAPI document 2.6.7); the rest is done here.
    """
    day = datetime.fromtimestamp(since_ms / 1000, UTC).date().isoformat()
    asked = {"Status": "completed", "EndTime>": day, "PageSize": str(_LONGEST_PAGE)}
    answer, found = await ctx.http.request("GET", "/Calls.json", params=asked), list[Call]()
    while True:
        page = read(_CallPage, answer)
        found += page.calls
        if page.next_page_uri is None:
            # Times are whole seconds; of one second the later call is listed first.
            ended = [(call.end_time.timestamp() * 1000, call) for call in reversed(found) if call.end_time]
            return [call for at_ms, call in sorted(ended, key=lambda pair: pair[0]) if at_ms >= since_ms]
        answer = await ctx.http.request("GET", ORIGIN + page.next_page_uri)


async def numbers(ctx: ActionContext, only: str | None = None) -> AsyncIterator[Number]:
    """The account's numbers; with a number only that one, if it is the account's."""
    asked = {"PageSize": str(_LONGEST_PAGE), **({"PhoneNumber": only} if only else {})}
    answer = await ctx.http.request("GET", "/IncomingPhoneNumbers.json", params=asked)
    while True:
        page = read(NumberPage, answer)
        for number in page.incoming_phone_numbers:
            if only in (None, number.phone_number):
                yield number
        if page.next_page_uri is None:
            return
        answer = await ctx.http.request("GET", ORIGIN + page.next_page_uri)


async def services(ctx: ActionContext) -> AsyncIterator[Service]:
    """The account's Messaging Services."""
    url: str | None = f"{MESSAGING}/v1/Services?PageSize={_LONGEST_PAGE}"
    while url is not None:
        page = read(ServicePage, await ctx.http.request("GET", url))
        for service in page.services:
            yield service
        url = page.meta.next_page_url


async def whoami(ctx: ActionContext) -> Account:
    """The account behind the credentials; of a key that may read its messages alone, those tell that it is one of it."""
    try:
        account = read(_AccountAnswer, await ctx.http.request("GET", ".json"))
    except PermanentError:
        await ctx.http.request("GET", "/Messages.json", params={"PageSize": "1"})
        account = _AccountAnswer(sid=ctx.settings["account_sid"])
    return Account(id=account.sid, title=account.friendly_name or account.sid)


@contextmanager
def allowed_to(what: str) -> Iterator[None]:
    """Where a key may be restricted: being refused says nothing about the connection. Raises Rejected for AuthExpired."""
    try:
        yield
    except AuthExpired as error:
        raise Rejected(
            f"Twilio does not let the connection {what}: give its API key that permission, or correct its credentials if "
            "other calls fail as well",
            code=error.code,
        ) from error


def read(model: type[M], answer: Response) -> M:
    """An answer as a model. Raises OutcomeUnknown when it is none."""
    # As with no JSON at all: Twilio did something, and what it answered does not say what.
    try:
        return model.model_validate(answer.json())
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer: numbers and texts of people.
        raise OutcomeUnknown(f"Twilio's answer cannot be read: {fields}", status=answer.status) from None
