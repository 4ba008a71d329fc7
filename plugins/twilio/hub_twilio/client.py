"""Calls of Twilio's REST API (2010-04-01): messages, the account, and what its error codes mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    ConnectorError,
    OutcomeUnknown,
    Rejected,
    Response,
    RetryableError,
    VendorUnavailable,
)

ORIGIN = "https://api.twilio.com"
_PAGE_SIZE = 100
_MAX_PAGES = 5

M = TypeVar("M", bound=BaseModel)


class OptedOut(Rejected):
    """The person has opted out of messages from this sender at Twilio. Only they can lift it, by writing START."""


def _rfc2822(value: object) -> object:
    if not isinstance(value, str):
        return value
    moment = parsedate_to_datetime(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Message(BaseModel):
    """A message as Twilio describes it. `from_number` is empty until a Messaging Service has chosen the sender."""

    sid: str = Field(min_length=1)
    status: str
    from_number: str | None = Field(None, validation_alias="from")
    messaging_service_sid: str | None = None
    body: str | None = None
    direction: str = ""
    num_segments: Annotated[int, BeforeValidator(lambda value: value or 0)] = 0
    date_created: Annotated[datetime | None, BeforeValidator(_rfc2822)] = None

    @property
    def text(self) -> str:
        """The body without blanks around it."""
        return (self.body or "").strip()

    def is_since(self, since_ms: int) -> bool:
        """Whether it was created at that time or later; True where Twilio does not say."""
        return self.date_created is None or self.date_created.timestamp() * 1000 >= since_ms


class _MessagePage(BaseModel):
    messages: list[Message]
    next_page_uri: str | None = None


class _AccountAnswer(BaseModel):
    sid: str
    friendly_name: str | None = None


async def create_message(ctx: ActionContext, form: dict[str, str]) -> Message:
    """Ask Twilio to send; not idempotent. Raises OptedOut and the errors of `Http.request`."""
    return _read(Message, await ctx.http.request("POST", "/Messages.json", form=form))


async def messages_to(ctx: ActionContext, to: str, since_ms: int) -> list[Message]:
    """The account's messages to one address created at or after `since_ms`. Raises OutcomeUnknown when they are too many.

    Pages are read until one holds an older message. That the list comes newest first is not documented.
    """
    found: list[Message] = []
    # Not filtered by DateSent: a message in the queue has none, and may be hidden by the filter.
    answer = await ctx.http.request("GET", "/Messages.json", params={"To": to, "PageSize": str(_PAGE_SIZE)})
    for _ in range(_MAX_PAGES):
        page = _read(_MessagePage, answer)
        recent = [message for message in page.messages if message.is_since(since_ms)]
        found += recent
        if page.next_page_uri is None or len(recent) < len(page.messages):
            return found
        answer = await ctx.http.request("GET", ORIGIN + page.next_page_uri)
    raise OutcomeUnknown(f"more than {_MAX_PAGES * _PAGE_SIZE} messages went to this address since: too many to tell")


async def whoami(ctx: ActionContext) -> Account:
    """The account behind the credentials. A restricted API key may not read it and is refused."""
    account = _read(_AccountAnswer, await ctx.http.request("GET", ".json"))
    return Account(id=account.sid, title=account.friendly_name or account.sid)


def _read(model: type[M], answer: Response) -> M:
    # As with no JSON at all: Twilio did something, and what it answered does not say what.
    try:
        return model.model_validate(answer.json())
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer: numbers and texts of people.
        raise OutcomeUnknown(f"Twilio's answer cannot be read: {fields}", status=answer.status) from None


# -- what an error code means ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    error: type[ConnectorError]
    sentence: str
    retry_after_s: float | None = None


def _configure(sentence: str) -> _Meaning:
    return _Meaning(Rejected, f"Twilio is not configured for this: {sentence}")


# Codes and causes: Twilio error dictionary, read 2026-11. Not listed because the shared status table says the same:
# 20404 (not found) and 20429 (too many calls at once; never processed, so always safe to repeat).
# Twilio's own words are never passed on: they hold the number.
_MEANINGS = {
    20003: _Meaning(
        AuthExpired,
        "Twilio does not accept these credentials for this account: check the Account SID, that the token or key is live "
        "and belongs to the same (sub)account, then connect again with `hub connections add`",
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
    21703: _configure("the Messaging Service has no sender that can be used; add a number to its sender pool"),
    21704: _configure("the Messaging Service has no senders; add a number to its sender pool"),
    21705: _configure("the Messaging Service does not exist or is not usable; check messaging_service_sid"),
    21910: _configure("sender and recipient are on different channels; use an SMS sender"),
    30034: _configure("the US number is not registered for A2P 10DLC; register it in the console"),
    30450: _Meaning(Rejected, "Twilio took this for SMS pumping and blocked it: check who signs up with such numbers"),
}


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
