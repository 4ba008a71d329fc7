"""Tickets of a contact."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from hub import ActionContext, Chosen, Effect
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Input, Properties, texts
from hub_hubspot.actions.making import contact_id, made_before, referenced
from hub_hubspot.connector import CONTACTS_READ, TICKETS, hubspot

# HubSpot's own association type. (developers.hubspot.com "Associations v4", read 2026-11-22)
_TICKET_TO_CONTACT = 16


class TicketInput(Input):
    """A ticket for a contact. The pipeline that every account has is `0`, its first stage `1`."""

    contact: Contact
    subject: str = Field(min_length=1, max_length=250)
    pipeline: Annotated[str, Chosen("ticket_pipelines")] = "0"
    stage: Annotated[str, Chosen("ticket_stages", within=("pipeline",))] = "1"
    owner: Annotated[str | None, Chosen("owners")] = None
    properties: Properties = Field(default_factory=dict)


class TicketOutput(BaseModel):
    ticket_id: str
    contact_id: str


@hubspot.action(
    "create_ticket",
    title="Open a ticket",
    input=TicketInput,
    output=TicketOutput,
    effect=Effect.RECONCILABLE,
    provides="ticket.open",
    scopes=[TICKETS, CONTACTS_READ],
    cost=2,
)
async def create_ticket(ctx: ActionContext, input: TicketInput) -> TicketOutput:
    """Open a ticket for a contact."""
    contact = await contact_id(ctx, input.contact)
    properties = texts(
        input.properties,
        subject=input.subject,
        hs_pipeline=input.pipeline,
        hs_pipeline_stage=input.stage,
        hubspot_owner_id=input.owner,
    )
    made = await client.create_record(
        ctx, "tickets", referenced(ctx, properties, "subject"), [(contact, _TICKET_TO_CONTACT)]
    )
    return TicketOutput(ticket_id=made.id, contact_id=contact)


@create_ticket.lookup
async def _find(ctx: ActionContext, input: TicketInput) -> TicketOutput | None:
    found = await made_before(ctx, input.contact, "tickets", "subject")
    return TicketOutput(ticket_id=found.id, contact_id=await contact_id(ctx, input.contact)) if found else None


@create_ticket.simulate
def _pretend(input: TicketInput, now_ms: int) -> TicketOutput:
    return TicketOutput(ticket_id="1", contact_id="1" if "@" in input.contact else input.contact)


@create_ticket.describe
def _describe(input: TicketInput) -> str:
    return f"open the ticket {input.subject!r} for the contact {input.contact}"
