"""Writing a campaign and sending it to an audience or a segment of it, once.

The campaign's title at Mailchimp ends with the reference of its effect. What an earlier attempt left as a draft is found
by it and finished; what is on its way is left alone. (Swagger 3.0.55, `/campaigns`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub import ActionContext, Chosen, Effect, Json, Rejected, RetryableError
from hub_mailchimp.addresses import Email
from hub_mailchimp.marketing.client import Answer, pages, read, rfc3339
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.members import ListId

# How long a campaign may take to appear in the list. Nothing is documented; calls themselves are given up after 20 s.
APPEARS_WITHIN_MS = 60_000
_CLOCK_SKEW_MS = 60_000
_DRAFT = "save"


class CampaignInput(BaseModel):
    """A campaign: its content is either `html` or a template. Without a segment the whole audience gets it."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    list_id: ListId = Field(description="The audience")
    segment_id: Annotated[str | None, Chosen("segments", ("list_id",))] = Field(
        None, description="A saved segment or tag"
    )
    subject: str = Field(min_length=1, max_length=998)
    preview: str | None = None
    title: str = Field("Tetik Hub", min_length=1, max_length=120, description="Its name at Mailchimp")
    from_name: str = Field(min_length=1)
    reply_to: Email
    html: str | None = None
    template_id: Annotated[str | None, Chosen("templates")] = None
    sections: dict[str, str] = Field(default={}, description="What fills the template's regions, by their names")

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if (self.html is None) == (self.template_id is None):
            raise ValueError("give either html or template_id")
        return self


class CampaignOutput(BaseModel):
    """The campaign: `status` is `sending` at first."""

    campaign_id: str
    status: str


class _Settings(Answer):
    title: str = ""


class _Campaign(Answer):
    id: str
    status: str
    settings: _Settings = _Settings()


class _Item(Answer):
    type: str = ""
    heading: str = ""


class _Checklist(Answer):
    is_ready: bool
    items: Sequence[_Item] = ()


@mailchimp.action(
    "send_campaign",
    title="Send a campaign to a segment",
    input=CampaignInput,
    output=CampaignOutput,
    effect=Effect.RECONCILABLE,
    timeout_s=60.0,
)
async def send_campaign(ctx: ActionContext, input: CampaignInput) -> CampaignOutput:
    """Write a campaign and send it. Raises Rejected with what Mailchimp's checklist names."""
    found = await _find(ctx)
    if found is not None and found.status != _DRAFT:
        return CampaignOutput(campaign_id=found.id, status=found.status)
    if found is None:
        found = read(_Campaign, await ctx.http.request("POST", "/campaigns", json=_campaign(ctx, input)))
    path = f"/campaigns/{found.id}"
    await ctx.http.request("PUT", f"{path}/content", json=_content(input))
    checklist = read(_Checklist, await ctx.http.request("GET", f"{path}/send-checklist"))
    if not checklist.is_ready:
        wrong = "; ".join(item.heading for item in checklist.items if item.type == "error")
        raise Rejected(f"Mailchimp will not send the campaign: {wrong or 'its checklist says why'}")
    await ctx.http.request("POST", f"{path}/actions/send")
    return CampaignOutput(campaign_id=found.id, status="sending")


@send_campaign.lookup
async def sent_before(ctx: ActionContext, input: CampaignInput) -> CampaignOutput | None:
    """The campaign that an earlier call sent; None for a draft, which is as good as none.

    Raises RetryableError when it is too early to say that there is none.
    """
    found = await _find(ctx)
    if found is not None:
        return None if found.status == _DRAFT else CampaignOutput(campaign_id=found.id, status=found.status)
    wait_ms = ctx.intended_at_ms + APPEARS_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that Mailchimp has no such campaign", retry_after_s=wait_ms / 1000)
    return None


@send_campaign.simulate
def _pretend(input: CampaignInput, now_ms: int) -> CampaignOutput:
    return CampaignOutput(campaign_id="rehearsal", status="sending")


@send_campaign.describe
def _describe(input: CampaignInput) -> str:
    whom = (
        f"segment {input.segment_id} of audience {input.list_id}" if input.segment_id else f"audience {input.list_id}"
    )
    return f"send the campaign “{' '.join(input.subject.split())}” to {whom}"


def _mark(ctx: ActionContext) -> str:
    return f"[{ctx.reference}]"


async def _find(ctx: ActionContext) -> _Campaign | None:
    """The campaign of this effect, if an earlier attempt made it."""
    since = {"since_create_time": rfc3339((ctx.intended_at_ms or ctx.now_ms) - _CLOCK_SKEW_MS)}
    async for campaigns in pages(ctx, "/campaigns", "campaigns", _Campaign, since):
        for campaign in campaigns:
            if campaign.settings.title.endswith(_mark(ctx)):
                return campaign
    return None


def _campaign(ctx: ActionContext, input: CampaignInput) -> Json:
    recipients: dict[str, Json] = {"list_id": input.list_id}
    if input.segment_id is not None:
        recipients["segment_opts"] = {"saved_segment_id": _number(input.segment_id, "segment_id")}
    settings = {
        "subject_line": input.subject,
        "title": f"{input.title} {_mark(ctx)}",
        "from_name": input.from_name,
        "reply_to": input.reply_to,
        **({"preview_text": input.preview} if input.preview else {}),
    }
    tracking = {"opens": True, "html_clicks": True}
    return {"type": "regular", "recipients": recipients, "settings": settings, "tracking": tracking}


def _content(input: CampaignInput) -> Json:
    if input.html is not None:
        return {"html": input.html}
    return {"template": {"id": _number(input.template_id, "template_id"), "sections": dict(input.sections)}}


def _number(id: str | None, field: str) -> int:
    """An id as the number that Mailchimp wants. Raises Rejected for a name that nobody looked up."""
    if id is None or not id.isdecimal():
        raise Rejected(f"{field} is no number; write the id that Mailchimp shows")
    return int(id)
