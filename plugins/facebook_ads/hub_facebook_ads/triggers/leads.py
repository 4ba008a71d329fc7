"""Leads: people who filled in a form of an ad or a Page.

The webhook brings ids alone; the answers are fetched before recipes see the event. What no webhook brought is found by
asking the Page's forms. (Meta "Retrieving leads", v26.0, read 2026-11-22)
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Identity, NotFound, Page, e164
from hub_facebook_ads.client import Named, Node, call, edge, edge_page
from hub_facebook_ads.connector import facebook_ads

logger = logging.getLogger(__name__)

_LEAD_FIELDS = (
    "id,created_time,ad_id,ad_name,adset_id,adset_name,campaign_id,campaign_name,form_id,is_organic,platform,"
    "partner_name,retailer_item_id,custom_disclaimer_responses,field_data"
)
# Leads are gone after that. (secondary sources only; asking for older ones finds none)
_KEPT_DAYS = 90
_DAY_MS = 86_400_000
# A Page's budget for leads counts each call, so that few pages with many leads are asked for.
_LEADS_A_PAGE = "100"
_TOGETHER_FROM = 3
_PAGES_TOGETHER = 3
_GRANTS = re.compile(r"([^=\s]+)=([a-z]+)(?::([a-z0-9_-]+))?")


def _instant(value: object) -> object:
    """Unix seconds of a webhook, or `2026-11-22T10:00:00+0000` of the API."""
    if isinstance(value, str) and not value.isdecimal():
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(int(value), UTC) if isinstance(value, int | str) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_instant), AfterValidator(lambda moment: moment.astimezone(UTC))]


# -- payload -----------------------------------------------------------------------------------------------------------


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Granted(_Payload):
    """What a ticked box allows, as the connection's `consent_checkboxes` says."""

    channel: str
    purpose: str = "*"


class Lead(_Payload):
    """A filled-in form. Until it is fetched, and where Meta has it no longer, only the ids are there."""

    leadgen_id: str
    page_id: str
    form_id: str | None = None
    ad_id: str | None = None
    ad_name: str | None = None
    adset_id: str | None = None
    adset_name: str | None = None
    campaign_id: str | None = None
    campaign_name: str | None = None
    platform: str | None = None
    """`fb` or `ig`."""
    is_organic: bool = False
    partner_name: str | None = None
    retailer_item_id: str | None = None
    email: str | None = None
    phone: str | None = None
    full_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    answers: dict[str, str] = {}
    """All answers by the question's key; several of one question are joined by a comma."""
    ticked: list[str] = []
    """The keys of the ticked boxes of the form's disclaimer."""
    granted: list[Granted] = []
    retrieved: bool = False
    """Whether the answers were fetched."""
    created_at: Moment


# -- Meta's shapes -----------------------------------------------------------------------------------------------------


class _Answered(_Payload):
    name: str
    values: list[str] = []


class _Box(_Payload):
    checkbox_key: str
    is_checked: str | bool = ""

    @property
    def is_ticked(self) -> bool:
        # A text in the specification, "1" in examples.
        return str(self.is_checked).lower() in {"1", "true"}


class _GraphLead(Node):
    """A lead as the API tells it; it does not name its Page."""

    created_time: Moment
    form_id: str | None = None
    ad_id: str | None = None
    ad_name: str | None = None
    adset_id: str | None = None
    adset_name: str | None = None
    campaign_id: str | None = None
    campaign_name: str | None = None
    platform: str | None = None
    is_organic: bool = False
    partner_name: str | None = None
    retailer_item_id: str | None = None
    field_data: tuple[_Answered, ...] = ()
    custom_disclaimer_responses: tuple[_Box, ...] = ()

    def of_page(self, page_id: str, settings: Mapping[str, str]) -> Lead:
        """The payload, with what the ticked boxes allow."""
        answers = {one.name: ", ".join(one.values) for one in self.field_data if one.values}
        ticked = [box.checkbox_key for box in self.custom_disclaimer_responses if box.is_ticked]
        return Lead(
            **self.model_dump(exclude={"id", "created_time", "field_data", "custom_disclaimer_responses"}),
            leadgen_id=self.id,
            page_id=page_id,
            email=answers.get("email"),
            phone=e164(answers.get("phone_number", "")),
            full_name=answers.get("full_name"),
            first_name=answers.get("first_name"),
            last_name=answers.get("last_name"),
            answers=answers,
            ticked=ticked,
            granted=[grant for key, grant in _grants(settings) if key in ticked],
            retrieved=True,
            created_at=self.created_time,
        )


def _grants(settings: Mapping[str, str]) -> list[tuple[str, Granted]]:
    found = _GRANTS.finditer(settings.get("consent_checkboxes", ""))
    return [(match[1], Granted(channel=match[2], purpose=match[3] or "*")) for match in found]


# -- the trigger -------------------------------------------------------------------------------------------------------


def _person(lead: Lead) -> Identity:
    return Identity(email=lead.email, phone=lead.phone, first_name=lead.first_name, last_name=lead.last_name)


def _consents(lead: Lead) -> Iterator[ConsentSignal]:
    """A ticked box grants what the connection says it does; one left empty says nothing."""
    for grant in lead.granted:
        if address := lead.email if grant.channel == "email" else lead.phone:
            yield ConsentSignal(grant.channel, address, ConsentState.GRANTED, "facebook_lead_form", grant.purpose)


@facebook_ads.trigger(
    "lead_submitted",
    payload=Lead,
    topic="leadgen",
    sample="lead_submitted.json",
    fact=lambda lead: lead.leadgen_id,
    subject=_person,
    occurred_at=lambda lead: lead.created_at,
    correlate=["leadgen_id", "form_id", "ad_id", "campaign_id"],
    consent=_consents,
    account=lambda lead: lead.page_id,
    provides="lead.submitted",
)
def lead_submitted(delivery: Delivery) -> Iterable[Lead]:
    """Somebody filled in a lead form."""
    return [
        Lead(
            leadgen_id=value["leadgen_id"],
            page_id=value.get("page_id") or entry["id"],
            form_id=value.get("form_id"),
            ad_id=value.get("ad_id"),
            created_at=value["created_time"],
        )
        for entry in delivery.json()["entry"]
        for change in entry.get("changes") or ()
        if change.get("field") == "leadgen"
        for value in [change["value"]]
    ]


@lead_submitted.enrich
async def fetched(ctx: ActionContext, leads: Sequence[Lead]) -> list[Lead]:
    """The leads with their answers. One that Meta has no more stays as it came.

    Several of one form are read together, for each call counts against the Page's allowance. Raises what the first lead
    that cannot be told to be gone was refused for.
    """
    found: dict[str, _GraphLead] = {}
    for form in {lead.form_id for lead in leads if lead.form_id}:
        of_form = [lead for lead in leads if lead.form_id == form]
        if len(of_form) >= _TOGETHER_FROM:
            found |= await _read_together(ctx, form, of_form)
    for lead in leads:
        if lead.leadgen_id not in found and (alone := await _read_alone(ctx, lead)):
            found[lead.leadgen_id] = alone
    return [_filled(ctx, lead, found.get(lead.leadgen_id)) for lead in leads]


def _filled(ctx: ActionContext, lead: Lead, found: _GraphLead | None) -> Lead:
    if found is None:
        return lead
    known = found.of_page(lead.page_id, ctx.settings)
    return known.model_copy(update={"form_id": known.form_id or lead.form_id, "ad_id": known.ad_id or lead.ad_id})


async def _read_together(ctx: ActionContext, form: str, leads: Sequence[Lead]) -> dict[str, _GraphLead]:
    """Those of a form's leads that are among its newest, by id."""
    wanted = {lead.leadgen_id for lead in leads}
    since_s = int(min(lead.created_at for lead in leads).timestamp()) - 1
    params = {"fields": _LEAD_FIELDS, "limit": _LEADS_A_PAGE, "filtering": _created_after(since_s)}
    found: dict[str, _GraphLead] = {}
    after: str | None = None
    for _ in range(_PAGES_TOGETHER):
        page, after = await edge_page(ctx, f"/{form}/leads", _GraphLead, params=params, after=after)
        found |= {lead.id: lead for lead in page}
        if after is None or wanted <= found.keys():
            break
    return {lead.id: lead for lead in found.values() if lead.id in wanted}


async def _read_alone(ctx: ActionContext, lead: Lead) -> _GraphLead | None:
    """A lead, or None for one that is gone.

    One that cannot be seen looks the same whether it is gone or the token lost its permission: the form's others tell.
    """
    try:
        return await call(ctx, "GET", f"/{lead.leadgen_id}", _GraphLead, params={"fields": _LEAD_FIELDS})
    except NotFound:
        if lead.form_id is None:
            raise
        await edge_page(ctx, f"/{lead.form_id}/leads", Node, params={"fields": "id", "limit": "1"})
        logger.warning(
            "a lead is not at Meta any more",
            extra={"what": "lead_gone", "connection_id": ctx.connection_id, "leadgen_id": lead.leadgen_id},
        )
        return None


# -- what no webhook brought -------------------------------------------------------------------------------------------


@facebook_ads.poll("lead_submitted", every_s=600, overlap_s=1800)
async def missed_leads(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Lead]]:
    """The leads of all forms of the connection's Page since then; nothing for an ad account without one."""
    async for page in _leads(ctx, since_ms, _At()):
        yield page


@facebook_ads.history("lead_submitted")
async def past_leads(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Lead]]:
    """The same, from a form and a page of it on; Meta keeps leads for 90 days."""
    since_ms = max(since_ms, ctx.now_ms - _KEPT_DAYS * _DAY_MS)
    async for page in _leads(ctx, since_ms, _At.model_validate_json(cursor) if cursor else _At()):
        yield page


class _At(BaseModel):
    """Where reading goes on: forms before `form` are read, of this one the pages before `after`."""

    form: str = ""
    after: str | None = None
    whole: bool = False
    """Whether this form is read to its end."""


async def _leads(ctx: ActionContext, since_ms: int, at: _At) -> AsyncIterator[Page[Lead]]:
    page_id = ctx.settings.get("page_id")
    if not page_id:
        return
    params = {"fields": _LEAD_FIELDS, "limit": _LEADS_A_PAGE, "filtering": _created_after(since_ms // 1000 - 1)}
    for form in await _forms(ctx, page_id):
        if form < at.form or (form == at.form and at.whole):
            continue
        start = at.after if form == at.form else None
        async for found, after in edge(ctx, f"/{form}/leads", _GraphLead, params=params, after=start):
            reached = _At(form=form, after=after, whole=after is None)
            yield Page([lead.of_page(page_id, ctx.settings) for lead in found], reached.model_dump_json())


async def _forms(ctx: ActionContext, page_id: str) -> list[str]:
    """The ids of the Page's forms in an order that stays; also of those that are archived, whose ads may still run out."""
    path, params = f"/{page_id}/leadgen_forms", {"fields": "id,name", "limit": "100"}
    return sorted([form.id async for page, _ in edge(ctx, path, Named, params=params) for form in page])


def _created_after(second: int) -> str:
    return json.dumps([{"field": "time_created", "operator": "GREATER_THAN", "value": max(0, second)}])
