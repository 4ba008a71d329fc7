"""Deals of a contact."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from hub import ActionContext, Chosen, Effect
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Input, Properties, RecordId, texts
from hub_hubspot.actions.making import contact_id, made_before, referenced
from hub_hubspot.connector import CONTACTS_READ, DEALS_WRITE, hubspot

# HubSpot's own association type. (developers.hubspot.com "Associations v4", read 2026-11-22)
_DEAL_TO_CONTACT = 3

Amount = Annotated[str | None, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", description="In the deal's currency: 49.90")]
OwnerId = Annotated[str | None, Chosen("owners")]


class DealInput(Input):
    """A deal with a contact."""

    contact: Contact
    name: str = Field(min_length=1, max_length=250)
    pipeline: Annotated[str, Chosen("deal_pipelines")] = "default"
    stage: Annotated[str, Chosen("deal_stages", within=("pipeline",)), Field(min_length=1)]
    amount: Amount = None
    owner: OwnerId = None
    properties: Properties = Field(default_factory=dict)


class DealChange(Input):
    """What is to be set of a deal; what is left out stays."""

    deal_id: RecordId
    pipeline: Annotated[str | None, Chosen("deal_pipelines")] = None
    stage: Annotated[str | None, Chosen("deal_stages", within=("pipeline",))] = None
    amount: Amount = None
    owner: OwnerId = None
    properties: Properties = Field(default_factory=dict)


class DealOutput(BaseModel):
    deal_id: str


@hubspot.action(
    "create_deal",
    title="Create a deal",
    input=DealInput,
    output=DealOutput,
    effect=Effect.RECONCILABLE,
    provides="deal.create",
    scopes=[DEALS_WRITE, CONTACTS_READ],
    cost=2,
)
async def create_deal(ctx: ActionContext, input: DealInput) -> DealOutput:
    """Create a deal with a contact."""
    contact = await contact_id(ctx, input.contact)
    properties = texts(
        input.properties,
        dealname=input.name,
        pipeline=input.pipeline,
        dealstage=input.stage,
        amount=input.amount,
        hubspot_owner_id=input.owner,
    )
    made = await client.create_record(
        ctx, "deals", referenced(ctx, properties, "dealname"), [(contact, _DEAL_TO_CONTACT)]
    )
    return DealOutput(deal_id=made.id)


@create_deal.lookup
async def _find(ctx: ActionContext, input: DealInput) -> DealOutput | None:
    found = await made_before(ctx, input.contact, "deals", "dealname")
    return DealOutput(deal_id=found.id) if found else None


@create_deal.simulate
def _pretend(input: DealInput, now_ms: int) -> DealOutput:
    return DealOutput(deal_id="1")


@create_deal.describe
def _describe(input: DealInput) -> str:
    return f"create the deal {input.name!r} in stage {input.stage} with the contact {input.contact}"


@hubspot.action(
    "update_deal",
    title="Change a deal",
    input=DealChange,
    output=DealOutput,
    effect=Effect.IDEMPOTENT,
    scopes=[DEALS_WRITE],
)
async def update_deal(ctx: ActionContext, input: DealChange) -> DealOutput:
    """Set the stage, amount, owner or other properties of a deal. Raises NotFound, Rejected."""
    record = await client.update_record(ctx, "deals", input.deal_id, _changed(input))
    return DealOutput(deal_id=record.id)


def _changed(input: DealChange) -> dict[str, str]:
    return texts(
        input.properties,
        pipeline=input.pipeline,
        dealstage=input.stage,
        amount=input.amount,
        hubspot_owner_id=input.owner,
    )


@update_deal.simulate
def _pretend_change(input: DealChange, now_ms: int) -> DealOutput:
    return DealOutput(deal_id=input.deal_id)


@update_deal.describe
def _describe_change(input: DealChange) -> str:
    return f"set {', '.join(sorted(_changed(input))) or 'nothing'} of the deal {input.deal_id}"
