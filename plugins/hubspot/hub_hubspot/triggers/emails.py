"""What became of e-mails: opened, clicked, bounced, reported as spam. There is no webhook for it: the events are asked for.

(developers.hubspot.com "Email events API", v1; it has no later version, read 2026-11-22)
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Identity, Page
from hub_hubspot.client import Answer, read
from hub_hubspot.connector import CONTENT, hubspot
from hub_hubspot.paths import path
from hub_hubspot.reading import ENDED
from hub_hubspot.triggers.changes import Moment, Payload, at

# Events arrive late at times: look again at the last hour.
_EVERY_S, _OVERLAP_S = 300, 3600
_AT_ONCE = 1000


class _SentBy(Answer):
    id: str


class _EmailEvent(Answer):
    id: str
    created: int
    recipient: str
    email_campaign_id: str | None = None
    sent_by: _SentBy | None = None


class _EventPage(Answer):
    events: list[_EmailEvent]
    has_more: bool
    offset: str = ""


class EmailEvent(Payload):
    """Something that became of an e-mail to one address. Whether a person or a machine opened it, HubSpot does not tell here."""

    event_id: str
    happened_at: Moment
    email: str
    campaign_id: str | None = None
    sent_event_id: str | None = None
    """The event of its sending, by which everything about one e-mail belongs together."""
    blocks: bool = False
    """Whether nothing more may be sent to this address; see the setting `bounces_block`."""


def _said(event: EmailEvent) -> Iterable[ConsentSignal]:
    if event.blocks:
        yield ConsentSignal("email", event.email, ConsentState.BLOCKED, "bounce")


def _complained(event: EmailEvent) -> Iterable[ConsentSignal]:
    if event.blocks:
        yield ConsentSignal("email", event.email, ConsentState.BLOCKED, "complaint")


def _declare(
    name: str,
    title: str,
    type_: str,
    provides: str | None,
    consent: Callable[[EmailEvent], Iterable[ConsentSignal]] | None = None,
) -> None:
    """One trigger with its poll and history: `type_` is HubSpot's word for what happened."""

    @hubspot.trigger(
        name,
        title=title,
        payload=EmailEvent,
        sample=f"{name}.json",
        # An id alone may come again. (public connectors, read 2026-11-22)
        fact=lambda event: f"{event.event_id}:{at(event.happened_at)}",
        subject=lambda event: Identity(email=event.email),
        occurred_at=lambda event: event.happened_at,
        correlate=("campaign_id", "sent_event_id", "email"),
        consent=consent,
        provides=provides,
        scopes=[CONTENT],
    )
    def parse(delivery: Delivery) -> Iterable[EmailEvent]:
        return [EmailEvent.model_validate(delivery.json())]

    @hubspot.poll(name, every_s=_EVERY_S, overlap_s=_OVERLAP_S)
    async def fetch(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[EmailEvent]]:
        async for made, _ in _events(ctx, type_, since_ms, ctx.now_ms):
            yield Page(made, "")

    @hubspot.history(name)
    async def past(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[EmailEvent]]:
        if cursor == ENDED:
            return
        # The offset counts within what was asked for first, which new events must not move.
        until_ms, offset = json.loads(cursor) if cursor else (ctx.now_ms, "")
        async for made, after in _events(ctx, type_, since_ms, until_ms, offset):
            yield Page(made, ENDED if after is None else json.dumps([until_ms, after]))


_declare("email_opened", "E-mail opened", "OPEN", "email.opened")
_declare("email_clicked", "Link in an e-mail clicked", "CLICK", "email.clicked")
_declare("email_bounced", "E-mail bounced", "BOUNCE", "email.bounced", _said)
_declare("email_reported", "E-mail reported as spam", "SPAMREPORT", "email.complained", _complained)


async def _events(
    ctx: ActionContext, type_: str, since_ms: int, until_ms: int, offset: str = ""
) -> AsyncIterator[tuple[list[EmailEvent], str | None]]:
    """Pages of what happened between two instants, from an offset on; with each the offset after it, None at the end."""
    blocks = type_ == "SPAMREPORT" or (type_ == "BOUNCE" and ctx.settings.get("bounces_block", "yes") == "yes")
    query = {
        "startTimestamp": str(max(0, since_ms)),
        "endTimestamp": str(until_ms),
        "eventType": type_,
        "limit": str(_AT_ONCE),
    }
    while True:
        asked = query | ({"offset": offset} if offset else {})
        page = read(_EventPage, await ctx.http.request("GET", path(ctx.settings, "email_events"), params=asked))
        made = [_made(event, blocks) for event in sorted(page.events, key=lambda event: event.created)]
        yield made, page.offset if page.has_more else None
        if not page.has_more:
            return
        offset = page.offset


def _made(event: _EmailEvent, blocks: bool) -> EmailEvent:
    return EmailEvent(
        event_id=event.id,
        happened_at=event.created,
        email=event.recipient,
        campaign_id=event.email_campaign_id,
        sent_event_id=event.sent_by.id if event.sent_by else None,
        blocks=blocks,
    )
