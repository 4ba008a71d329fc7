"""What a recipe's author may choose from in an account: numbers, Messaging Services, templates, WhatsApp senders."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery, Rejected, Response
from hub_twilio.client import CONTENT, MESSAGING, ORIGIN, Meta, NumberPage, ServicePage, read
from hub_twilio.connector import twilio

_AT_ONCE = "100"


class _ShortCode(BaseModel):
    short_code: str
    friendly_name: str | None = None


class _ShortCodePage(BaseModel):
    short_codes: list[_ShortCode]
    next_page_uri: str | None = None


class _Template(BaseModel):
    sid: str
    friendly_name: str | None = None
    language: str | None = None


class _TemplatePage(BaseModel):
    contents: list[_Template]
    meta: Meta


class _Profile(BaseModel):
    name: str | None = None


class _Sender(BaseModel):
    sender_id: str
    status: str | None = None
    profile: _Profile | None = None


class _SenderPage(BaseModel):
    senders: list[_Sender]
    meta: Meta


@twilio.choose("numbers")
async def _numbers(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Phone numbers, then short codes, by the name they have at Twilio; the id is the number itself."""
    base = f"{ORIGIN}/2010-04-01/Accounts/{ctx.account}"
    long_, short = f"{base}/IncomingPhoneNumbers.json", f"{base}/SMS/ShortCodes.json"
    if query.cursor is None or query.cursor.startswith(long_):
        page = read(NumberPage, await _ask(ctx, long_, query))
        every = [
            Choice(n.phone_number, n.friendly_name or n.phone_number, n.phone_number)
            for n in page.incoming_phone_numbers
        ]
        # The short codes come after the numbers.
        return ChoicePage(_fitting(every, query), ORIGIN + page.next_page_uri if page.next_page_uri else short)
    codes = read(_ShortCodePage, await _ask(ctx, short, query))
    found = [Choice(one.short_code, one.friendly_name or one.short_code, one.short_code) for one in codes.short_codes]
    return ChoicePage(_fitting(found, query), ORIGIN + codes.next_page_uri if codes.next_page_uri else None)


@twilio.choose("messaging_services")
async def _services(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Messaging Services, by name."""
    page = read(ServicePage, await _ask(ctx, f"{MESSAGING}/v1/Services", query))
    return ChoicePage(
        _fitting([Choice(one.sid, one.friendly_name or one.sid) for one in page.services], query),
        page.meta.next_page_url,
    )


@twilio.choose("templates")
async def _templates(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Content templates, by name; the hint is their language. Whether WhatsApp approved one is not asked."""
    page = read(_TemplatePage, await _ask(ctx, f"{CONTENT}/v1/Content", query))
    every = [Choice(one.sid, one.friendly_name or one.sid, one.language or "") for one in page.contents]
    return ChoicePage(_fitting(every, query), page.meta.next_page_url)


@twilio.choose("whatsapp_senders")
async def _whatsapp_senders(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Numbers registered for WhatsApp, by the name that people see; the id is the number."""
    page = read(_SenderPage, await _ask(ctx, f"{MESSAGING}/v2/Channels/Senders", query, Channel="whatsapp"))
    every = []
    for one in page.senders:
        number = one.sender_id.rpartition(":")[2]
        every.append(
            Choice(number, (one.profile and one.profile.name) or number, f"{number} {one.status or ''}".strip())
        )
    return ChoicePage(_fitting(every, query), page.meta.next_page_url)


async def _ask(ctx: ActionContext, url: str, query: ChoiceQuery, **asked: str) -> Response:
    """The first page, or the one that a cursor of ours names."""
    if query.cursor is None or query.cursor == url:
        return await ctx.http.request("GET", url, params={"PageSize": _AT_ONCE, **asked})
    if not query.cursor.startswith(f"{url}?"):
        raise Rejected("the cursor is none of these choices; begin without one")
    return await ctx.http.request("GET", query.cursor)


def _fitting(every: Iterable[Choice], query: ChoiceQuery) -> list[Choice]:
    """Twilio does not search by parts of a name: a page may hold nothing that fits, and yet go on."""
    searched = query.search.lower()
    return [one for one in every if searched in one.label.lower() or searched in one.hint.lower()]
