"""What became of a campaign's e-mails: opened, clicked, bounced, and not opened for a while. There are no webhooks for it.

`/reports` says cheaply which campaigns have news; only of those `/reports/{id}/email-activity` is read. Its `since` is
exclusive and leaves out events, not recipients. How far a campaign was read is kept campaign by campaign, and moves only
when all its pages were read; each reading goes back ten minutes, as events may come late (live probes of GitHub
estuary/connectors, source-mailchimp-native, 2026-06 and 07; airbytehq/airbyte#14673).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Literal, TypeVar

from pydantic import BaseModel

from hub import ActionContext, Delivery, Identity, Page, parse_duration_ms
from hub_mailchimp.marketing.client import Answer, pages, rfc3339
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.reports import Report, reports
from hub_mailchimp.marketing.triggers import Moment, Text
from hub_mailchimp.opens import Opener, opener

_EVERY_S, _OVERLAP_S = 600, 600
_LATE = timedelta(seconds=_OVERLAP_S)
# Bounces are told by their number alone; mail servers try for up to five days (RFC 5321 § 4.5.4.1).
_BOUNCES_COME_FOR = timedelta(days=5)
_FORGOTTEN_AFTER_MS = 30 * 86_400_000
# A click that so closely follows an open, or goes before it, is of whoever opened.
_CLICK_SOON = timedelta(minutes=30)

_ONCE = "?"
"""Ends the mark of a report whose news were read only once."""

Action = Literal["open", "click", "bounce"]
P = TypeVar("P", bound=BaseModel)


# -- payloads ----------------------------------------------------------------------------------------------------------


class _Activity(Answer):
    campaign_id: str
    list_id: str
    email: str
    email_id: str
    occurred_at: Moment


class Opened(_Activity):
    """Somebody, or something, fetched the images of a campaign's e-mail."""

    ip: Text = None
    by: Opener


class Clicked(_Activity):
    """A link of a campaign's e-mail was followed; link scanners do so, too."""

    url: str
    ip: Text = None


class Bounced(_Activity):
    """A campaign's e-mail could not be delivered; `kind` is `hard` or `soft`."""

    kind: Text = None


class NotOpened(_Activity):
    """A campaign's e-mail that was delivered and not opened for `after`; `occurred_at` is when that time was over."""

    after: str


# -- what Mailchimp answers --------------------------------------------------------------------------------------------


class _Event(Answer):
    action: str
    timestamp: Moment
    url: Text = None
    ip: Text = None
    type: Text = None


class _Recipient(Answer):
    campaign_id: str
    list_id: str
    email_id: str
    email_address: str
    activity: Sequence[_Event] = ()

    def fields(self, event: _Event) -> dict[str, object]:
        """As fields of every payload."""
        return _fields(self, event.timestamp)


class _SentTo(Answer):
    campaign_id: str
    list_id: str
    email_id: str
    email_address: str
    status: str
    open_count: int = 0


def _fields(one: _Recipient | _SentTo, at: Moment) -> dict[str, object]:
    return {
        "campaign_id": one.campaign_id,
        "list_id": one.list_id,
        "email": one.email_address,
        "email_id": one.email_id,
        "occurred_at": at,
    }


# -- the triggers ------------------------------------------------------------------------------------------------------


def _fact(payload: Opened | Clicked | Bounced) -> str:
    """Campaign, person and time: two of one kind in the same second are one. A click is told by its address, too."""
    url = f":{sha256(payload.url.encode()).hexdigest()[:16]}" if isinstance(payload, Clicked) else ""
    return f"{payload.campaign_id}:{payload.email_id}:{int(payload.occurred_at.timestamp())}{url}"


def _recipient(payload: _Activity) -> Identity:
    return Identity(email=payload.email)


_MATCHED = ("campaign_id", "list_id")


@mailchimp.trigger(
    "email_opened",
    payload=Opened,
    sample="email_opened.json",
    fact=_fact,
    subject=_recipient,
    occurred_at=lambda opened: opened.occurred_at,
    correlate=_MATCHED,
)
def email_opened(delivery: Delivery) -> Iterable[Opened]:
    """A campaign's e-mail was opened."""
    return [Opened.model_validate(delivery.json())]


@mailchimp.trigger(
    "email_clicked",
    payload=Clicked,
    sample="email_clicked.json",
    fact=_fact,
    subject=_recipient,
    occurred_at=lambda clicked: clicked.occurred_at,
    correlate=_MATCHED,
)
def email_clicked(delivery: Delivery) -> Iterable[Clicked]:
    """A link of a campaign's e-mail was followed."""
    return [Clicked.model_validate(delivery.json())]


@mailchimp.trigger(
    "email_bounced",
    payload=Bounced,
    sample="email_bounced.json",
    fact=_fact,
    subject=_recipient,
    occurred_at=lambda bounced: bounced.occurred_at,
    correlate=_MATCHED,
)
def email_bounced(delivery: Delivery) -> Iterable[Bounced]:
    """A campaign's e-mail bounced."""
    # No consent follows: an address that bounced for good is cleaned, which has a trigger of its own.
    return [Bounced.model_validate(delivery.json())]


@mailchimp.trigger(
    "email_not_opened",
    payload=NotOpened,
    sample="email_not_opened.json",
    fact=lambda silent: f"{silent.campaign_id}:{silent.email_id}:{silent.after}",
    subject=_recipient,
    occurred_at=lambda silent: silent.occurred_at,
    correlate=_MATCHED,
)
def email_not_opened(delivery: Delivery) -> Iterable[NotOpened]:
    """A campaign's e-mail was not opened for a while."""
    return [NotOpened.model_validate(delivery.json())]


_Make = Callable[[ActionContext, Report, _Recipient, _Event], P]
"""What makes a payload of one event of a recipient's activity."""


# -- reading activity --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """How far one campaign was read: what the report said then, and when that was."""

    mark: str
    at_ms: int


def _marks(cursor: str | None) -> dict[str, _Read]:
    return {campaign: _Read(*read) for campaign, read in json.loads(cursor or "{}").items()}


def _cursor(marks: Mapping[str, _Read], now_ms: int) -> str:
    kept = {c: [read.mark, read.at_ms] for c, read in marks.items() if read.at_ms > now_ms - _FORGOTTEN_AFTER_MS}
    return json.dumps(kept, separators=(",", ":"))


def _mark(report: Report, action: Action) -> tuple[str, Moment | None]:
    """What changes in a report when there is more of an action, and until when more may come of it; None if none did."""
    if action == "bounce":
        bounces = report.bounces
        count = bounces.hard_bounces + bounces.soft_bounces + bounces.syntax_errors
        until = report.send_time + _BOUNCES_COME_FOR if report.send_time else None
        return (str(count), until) if count else ("", None)
    last = report.opens.last_open if action == "open" else report.clicks.last_click
    return (last.isoformat(), last + _LATE) if last else ("", None)


async def _news(
    action: Action, make: _Make[P], ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[P]]:
    """Events of one kind since, of the campaigns that have any."""
    marks = _marks(cursor)
    for report in await reports(ctx):
        mark, until = _mark(report, action)
        known = marks.get(report.id)
        if until is None or until.timestamp() * 1000 < since_ms:
            continue
        if known and known.mark == mark:
            continue
        since = since_ms if known is None else known.at_ms - _OVERLAP_S * 1000
        async for items, _ in _activity(action, make, ctx, report, since):
            yield Page(items, _cursor(marks, ctx.now_ms))
        # A report may know of more than the activity does yet: what has news is read once more at the next poll.
        read_twice = known is not None and known.mark == f"{mark}{_ONCE}"
        marks[report.id] = _Read(mark if read_twice else f"{mark}{_ONCE}", ctx.now_ms)
        yield Page([], _cursor(marks, ctx.now_ms))


async def _activity(
    action: Action, make: _Make[P], ctx: ActionContext, report: Report, since_ms: int, offset: int = 0
) -> AsyncIterator[tuple[list[P], int]]:
    """What a campaign's recipients did, page by page; with it how many of them are read by then."""
    params = {"since": rfc3339(max(0, since_ms))}
    path = f"/reports/{report.id}/email-activity"
    async for found in pages(ctx, path, "emails", _Recipient, params, offset=offset):
        offset += len(found)
        yield (
            [make(ctx, report, one, event) for one in found for event in one.activity if event.action == action],
            offset,
        )


class _Reached(BaseModel):
    """Where the past is gone on with: campaigns before `campaign` are read, and of this one so many recipients."""

    campaign: str = ""
    recipients: int = 0
    whole: bool = False
    """Whether this campaign is read to its end."""


async def _past(
    action: Action, make: _Make[P], ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[Page[P]]:
    """All events of one kind of the campaigns sent since; the cursor is a `_Reached`, as JSON."""
    reached = _Reached.model_validate_json(cursor) if cursor else _Reached()
    for report in sorted(await reports(ctx, since_ms), key=_sent_order):
        campaign = _sent_order(report)
        if campaign < reached.campaign or (campaign == reached.campaign and reached.whole):
            continue
        # Who got it stays as it was when it was sent, and so does their order.
        begin = reached.recipients if campaign == reached.campaign else 0
        async for items, read in _activity(action, make, ctx, report, since_ms, begin):
            if read > begin:
                yield Page(items, _Reached(campaign=campaign, recipients=read).model_dump_json())
        yield Page([], _Reached(campaign=campaign, whole=True).model_dump_json())


def _sent_order(report: Report) -> str:
    return f"{report.send_time.isoformat() if report.send_time else ''} {report.id}"


# -- what is told of it ------------------------------------------------------------------------------------------------


def _opened(ctx: ActionContext, report: Report, one: _Recipient, event: _Event) -> Opened:
    others = one.activity
    by = opener(
        after_s=(event.timestamp - report.send_time).total_seconds() if report.send_time else None,
        machine_within_s=float(ctx.settings.get("machine_open_s", "10")),
        clicked=any(o.action == "click" and abs(o.timestamp - event.timestamp) <= _CLICK_SOON for o in others),
        bounced=any(o.action == "bounce" and o.type == "hard" for o in others),
    )
    return Opened.model_validate({**one.fields(event), "ip": event.ip, "by": by})


def _clicked(ctx: ActionContext, report: Report, one: _Recipient, event: _Event) -> Clicked:
    return Clicked.model_validate({**one.fields(event), "url": event.url or "", "ip": event.ip})


def _bounced(ctx: ActionContext, report: Report, one: _Recipient, event: _Event) -> Bounced:
    return Bounced.model_validate({**one.fields(event), "kind": event.type})


def _declare(trigger: str, action: Action, make: _Make[P]) -> None:
    """The poll and the history of one kind of activity."""
    mailchimp.poll(trigger, every_s=_EVERY_S, overlap_s=_OVERLAP_S)(partial(_news, action, make))
    mailchimp.history(trigger)(partial(_past, action, make))


_declare("email_opened", "open", _opened)
_declare("email_clicked", "click", _clicked)
_declare("email_bounced", "bounce", _bounced)


# -- who did not open --------------------------------------------------------------------------------------------------


@mailchimp.poll("email_not_opened", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def silent_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[NotOpened]]:
    """Who has not opened the campaigns of which a time was over since; the cursor names campaign and time of what is done."""
    waits = {after: parse_duration_ms(after) for after in ctx.settings.get("not_opened_after", "24h").split()}
    done: dict[str, int] = json.loads(cursor or "{}")
    done = {key: due_ms for key, due_ms in done.items() if due_ms >= since_ms}
    for report in await reports(ctx, max(0, since_ms - max(waits.values()) - 1000)):
        if report.send_time is None:
            continue
        for after, wait_ms in waits.items():
            key, due = f"{report.id}:{after}", report.send_time + timedelta(milliseconds=wait_ms)
            due_ms = int(due.timestamp() * 1000)
            if key in done or not since_ms <= due_ms <= ctx.now_ms:
                continue
            async for found in pages(ctx, f"/reports/{report.id}/sent-to", "sent_to", _SentTo):
                silent = [
                    NotOpened.model_validate({**_fields(one, due), "after": after})
                    for one in found
                    if one.status == "sent" and one.open_count == 0
                ]
                yield Page(silent, json.dumps(done))
            done[key] = due_ms
            yield Page([], json.dumps(done))
