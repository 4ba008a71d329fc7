"""Polls and histories of messages: what no webhook told, and what happened before the hub was there.

Both read Twilio's message list, and name facts as the webhooks do. A poll leaves alone what is so young that a webhook may
still tell it: the webhook says more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from pydantic import BaseModel

from hub import ActionContext, Page
from hub_twilio.client import Message, media_of, messages_since
from hub_twilio.connector import twilio
from hub_twilio.triggers import messages, statuses
from hub_twilio.triggers.messages import SmsReceived
from hub_twilio.triggers.statuses import STATUS_RANK, SmsStatus

# Twilio's call and its three repeats take at most 15 s each (Webhooks connection overrides, read 2026-11).
WEBHOOK_TAKES_MS = 120_000

INBOUND_EVERY_S, STATUS_EVERY_S = 900, 3600
# What the list shows late, or a clock that is slow, is made up for.
OVERLAP_S = 600
# How long after it was made a message may still change: it may wait for ten hours in Twilio's queue, and receipts come late.
CHANGES_WITHIN_MS = 12 * 3_600_000

_AT_ONCE = 100
_END = "end"

P = TypeVar("P", bound=BaseModel)
Tell = Callable[[ActionContext, Message], Awaitable[P | None]]


async def _received(wanted: Callable[[SmsReceived], bool], ctx: ActionContext, message: Message) -> SmsReceived | None:
    """What a person sent, if it is wanted; files are asked for only then."""
    if message.direction != "inbound" or not message.from_number:
        return None
    found = messages.listed(message)
    if not wanted(found):
        return None
    return messages.listed(message, await media_of(ctx, message.sid)) if found.num_media else found


async def _status(wanted: Callable[[SmsStatus], bool], ctx: ActionContext, message: Message) -> SmsStatus | None:
    """What became of a message, if it is wanted. What Twilio has in hand is no news: it was in the answer to the sender."""
    if message.direction == "inbound" or STATUS_RANK.get(message.status, 0) < STATUS_RANK["sent"]:
        return None
    found = statuses.listed(message)
    return found if wanted(found) else None


async def _recent(
    tell: Tell[P], reach_ms: int, ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[P]]:
    """Pages of a poll: what changed since, oldest message first, among those made up to `reach_ms` earlier.

    There is no cursor: Twilio's list is read from its newest end each time.
    """
    settled = [
        message
        async for page in messages_since(ctx, since_ms - reach_ms)
        for message in page.messages
        if since_ms <= _changed_ms(message) <= ctx.now_ms - WEBHOOK_TAKES_MS
    ]
    settled.reverse()
    for start in range(0, len(settled), _AT_ONCE):
        told = [await tell(ctx, message) for message in settled[start : start + _AT_ONCE]]
        yield Page([one for one in told if one is not None], cursor="")


async def _past(tell: Tell[P], ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[P]]:
    """Pages of the past, newest first; the cursor is Twilio's own address of the next page."""
    if cursor == _END:
        return
    async for page in messages_since(ctx, since_ms, cursor):
        told = [await tell(ctx, message) for message in page.messages]
        yield Page([one for one in told if one is not None], cursor=page.next_page_uri or _END)


def _changed_ms(message: Message) -> float:
    at = message.date_updated or message.date_created
    return at.timestamp() * 1000 if at else 0


def _declare(trigger: str, tell: Tell[P], every_s: int, reach_ms: int) -> None:
    twilio.poll(trigger, every_s=every_s, overlap_s=OVERLAP_S)(partial(_recent, tell, reach_ms))
    twilio.history(trigger)(partial(_past, tell))


for _name, _kind in messages.KINDS.items():
    _declare(_name, partial(_received, _kind), INBOUND_EVERY_S, 0)
for _name, _wanted in statuses.KINDS.items():
    _declare(_name, partial(_status, _wanted), STATUS_EVERY_S, CHANGES_WITHIN_MS)
