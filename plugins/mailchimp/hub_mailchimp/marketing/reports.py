"""The reports of campaigns that were sent: what became of them in short, and the campaigns that no webhook told of."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hub import ActionContext, Page
from hub_mailchimp.marketing.client import Answer, everything, rfc3339
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.triggers import CampaignSent, MaybeMoment, Text

_EVERY_S, _OVERLAP_S = 900, 600
_ENDED = "ended"


class _Last(Answer):
    last_open: MaybeMoment = None
    last_click: MaybeMoment = None


class _Bounces(Answer):
    hard_bounces: int = 0
    soft_bounces: int = 0
    syntax_errors: int = 0


class Report(Answer):
    """A campaign that was sent, and the latest that became of it."""

    id: str
    list_id: str
    subject_line: Text = None
    send_time: MaybeMoment = None
    opens: _Last = _Last()
    clicks: _Last = _Last()
    bounces: _Bounces = _Bounces()


async def reports(ctx: ActionContext, since_send_ms: int | None = None) -> list[Report]:
    """The reports of campaigns to the connection's audiences, of those sent after an instant if one is given."""
    chosen = ctx.settings.get("lists", "").split()
    params = {"since_send_time": rfc3339(since_send_ms)} if since_send_ms is not None else {}
    every = await everything(ctx, "/reports", "reports", Report, params)
    return [report for report in every if not chosen or report.list_id in chosen]


async def _sent(ctx: ActionContext, since_ms: int) -> list[CampaignSent]:
    return [
        CampaignSent(campaign_id=one.id, list_id=one.list_id, subject=one.subject_line, occurred_at=one.send_time)
        # The filter leaves out the second that it names.
        for one in await reports(ctx, max(0, since_ms - 1000))
        if one.send_time is not None and one.send_time.timestamp() * 1000 >= since_ms
    ]


@mailchimp.poll("campaign_sent", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def sent_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[CampaignSent]]:
    """Campaigns that were sent since."""
    yield Page(await _sent(ctx, since_ms), "")


@mailchimp.history("campaign_sent")
async def sent_before(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[CampaignSent]]:
    """Every campaign that was sent since, in one page: there are no more than people write."""
    if cursor != _ENDED:
        yield Page(await _sent(ctx, since_ms), _ENDED)
