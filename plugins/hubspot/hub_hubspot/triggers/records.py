"""What happens to deals and tickets, and whose they are: the first contact that belongs to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import Field

from hub import ActionContext, Delivery, Page
from hub.events import Json
from hub_hubspot.client import WITH_HISTORY_AT_ONCE, Record, first_associated, read_records
from hub_hubspot.connector import CONTACTS_READ, DEALS_READ, SEARCH, TICKETS, hubspot
from hub_hubspot.reading import SEARCH_OVERLAP_S, changed_since, found_since, is_since, past_records, values_since
from hub_hubspot.triggers.changes import (
    TOPIC,
    Change,
    Person,
    at,
    contact_properties,
    fact,
    identity,
    missed,
    of_contact,
    told,
    value_of,
)

DEAL_PROPERTIES = {
    "deal_name": "dealname",
    "pipeline": "pipeline",
    "amount": "amount",
    "deal_owner_id": "hubspot_owner_id",
}
TICKET_PROPERTIES = {
    "subject": "subject",
    "pipeline": "hs_pipeline",
    "stage": "hs_pipeline_stage",
    "ticket_owner_id": "hubspot_owner_id",
}
_MODIFIED = "hs_lastmodifieddate"


class DealStageChanged(Person, Change):
    """A deal is in a new stage, by its internal id. Person and names are filled in."""

    deal_id: str = Field(alias="objectId")
    stage: str = Field(alias="propertyValue")
    deal_name: str | None = None
    pipeline: str | None = None
    amount: str | None = None
    """In the deal's own currency, as HubSpot writes it."""
    deal_owner_id: str | None = None


class TicketCreated(Person, Change):
    """A new ticket. Person, subject, pipeline and stage are filled in."""

    ticket_id: str = Field(alias="objectId")
    subject: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    ticket_owner_id: str | None = None


class TicketChanged(TicketCreated):
    """A property of a ticket has a new value; `hs_pipeline_stage` is its stage."""

    property_name: str = Field(alias="propertyName")
    property_value: str = Field("", alias="propertyValue")


T = TypeVar("T", bound=TicketCreated)


def _stage_fact(deal: DealStageChanged) -> str:
    return f"{deal.deal_id}:{deal.stage}:{at(deal.occurred_at)}"


def _ticket_fact(ticket: TicketChanged) -> str:
    return fact(ticket.portal_id, ticket.ticket_id, ticket.property_name, ticket.property_value, at(ticket.occurred_at))


# -- declared ----------------------------------------------------------------------------------------------------------


@hubspot.trigger(
    "deal_stage_changed",
    title="Deal stage changed",
    topic=TOPIC,
    payload=DealStageChanged,
    sample="deal_stage_changed.json",
    fact=_stage_fact,
    subject=identity,
    occurred_at=lambda deal: deal.occurred_at,
    account=lambda deal: deal.portal_id,
    correlate=("deal_id", "contact_id"),
    scopes=[DEALS_READ, CONTACTS_READ],
)
def deal_stage_changed(delivery: Delivery) -> Iterable[DealStageChanged]:
    """A deal has moved to another stage."""
    changes = told(delivery, "deal", "propertyChange")
    return [DealStageChanged.model_validate(event) for event in changes if event.get("propertyName") == "dealstage"]


@hubspot.trigger(
    "ticket_created",
    title="Ticket created",
    topic=TOPIC,
    payload=TicketCreated,
    sample="ticket_created.json",
    fact=lambda ticket: ticket.ticket_id,
    subject=identity,
    occurred_at=lambda ticket: ticket.occurred_at,
    account=lambda ticket: ticket.portal_id,
    correlate=("ticket_id", "contact_id"),
    provides="ticket.opened",
    scopes=[TICKETS, CONTACTS_READ],
)
def ticket_created(delivery: Delivery) -> Iterable[TicketCreated]:
    """A ticket was created."""
    return [TicketCreated.model_validate(event) for event in told(delivery, "ticket", "creation")]


@hubspot.trigger(
    "ticket_changed",
    title="Ticket changed",
    topic=TOPIC,
    payload=TicketChanged,
    sample="ticket_changed.json",
    fact=_ticket_fact,
    subject=identity,
    occurred_at=lambda ticket: ticket.occurred_at,
    account=lambda ticket: ticket.portal_id,
    correlate=("ticket_id", "contact_id", "property_name"),
    scopes=[TICKETS, CONTACTS_READ],
)
def ticket_changed(delivery: Delivery) -> Iterable[TicketChanged]:
    """A property of a ticket has a new value."""
    return [TicketChanged.model_validate(event) for event in told(delivery, "ticket", "propertyChange")]


# -- filled in ---------------------------------------------------------------------------------------------------------


@deal_stage_changed.enrich
async def fill_in_deals(ctx: ActionContext, deals: Sequence[DealStageChanged]) -> Sequence[DealStageChanged]:
    """Names, amounts and the first contact of each deal as they are now; the stage stays what it became then."""
    known = await _known(ctx, "deals", [deal.deal_id for deal in deals], DEAL_PROPERTIES)
    return [deal.model_copy(update=known.get(deal.deal_id, {})) for deal in deals]


async def fill_in_tickets(ctx: ActionContext, tickets: Sequence[T]) -> Sequence[T]:
    """Subject, stage and the first contact of each ticket as they are now."""
    known = await _known(ctx, "tickets", [ticket.ticket_id for ticket in tickets], TICKET_PROPERTIES)
    return [ticket.model_copy(update=known.get(ticket.ticket_id, {})) for ticket in tickets]


ticket_created.enrich(fill_in_tickets)
ticket_changed.enrich(fill_in_tickets)


async def _known(
    ctx: ActionContext, kind: str, ids: Sequence[str], names: Mapping[str, str]
) -> dict[str, dict[str, Json]]:
    """By id what is known of records and their first contacts, in three calls."""
    records = await read_records(ctx, kind, ids, list(names.values()))
    people = await people_of(ctx, kind, [record.id for record in records])
    return {record.id: {**_fields(record, names), **people.get(record.id, {})} for record in records}


def _fields(record: Record, names: Mapping[str, str]) -> dict[str, Json]:
    return {name: record.properties.get(property_) for name, property_ in names.items()}


async def people_of(ctx: ActionContext, kind: str, ids: Sequence[str]) -> dict[str, dict[str, Json]]:
    """By record what is known of its first contact; those without one are left out."""
    if not ids:
        return {}
    owners = await first_associated(ctx, kind, ids, "contacts")
    contacts = await read_records(ctx, "contacts", owners.values(), contact_properties(ctx.settings))
    found = {contact.id: of_contact(contact, ctx.settings) for contact in contacts}
    return {record: found[contact] for record, contact in owners.items() if contact in found}


# -- asked for ---------------------------------------------------------------------------------------------------------


@hubspot.poll("ticket_created", every_s=600, overlap_s=SEARCH_OVERLAP_S, draws=SEARCH)
async def recent_tickets(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[TicketCreated]]:
    """Tickets that no webhook told of: of those changed lately the ones that are new."""
    names = list(TICKET_PROPERTIES.values())
    async for records in found_since(ctx, "tickets", _MODIFIED, names, since_ms):
        yield Page(await _tickets(ctx, records, since_ms), "")


async def _tickets(ctx: ActionContext, records: Iterable[Record], since_ms: int) -> list[TicketCreated]:
    """Those of the tickets that were created since an instant, with who they are of."""
    new = [record for record in records if is_since(record, since_ms)]
    people = await people_of(ctx, "tickets", [record.id for record in new])
    return [_ticket(ctx, record, people.get(record.id, {})) for record in new]


def _ticket(ctx: ActionContext, record: Record, person: Mapping[str, Json]) -> TicketCreated:
    known = {**_fields(record, TICKET_PROPERTIES), **person}
    known |= {"portal_id": ctx.account, "objectId": record.id, "occurred_at": record.created_at}
    return TicketCreated.model_validate(known)


@hubspot.history("ticket_created")
async def past_tickets(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[TicketCreated]]:
    """Every ticket that was created since, in the order of HubSpot's list."""
    wanted = {"properties": list(TICKET_PROPERTIES.values())}
    async for page in past_records(ctx, "tickets", wanted, cursor):
        yield Page(await _tickets(ctx, page.items, since_ms), page.cursor)


@hubspot.poll("deal_stage_changed", every_s=900, overlap_s=SEARCH_OVERLAP_S, cost=2, draws=SEARCH)
async def missed_stages(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[DealStageChanged]]:
    """Stages that no webhook told of, where the connection asks for them."""
    wanted = missed(ctx.settings, "deal")
    async for records in changed_since(ctx, "deals", _MODIFIED, wanted, list(DEAL_PROPERTIES.values()), since_ms):
        people = await _people_of_changed(ctx, "deals", records, since_ms)
        made = [stage for record in records for stage in _stages(ctx, record, people.get(record.id, {}), since_ms)]
        yield Page(sorted(made, key=lambda deal: deal.occurred_at), "")


@hubspot.poll("ticket_changed", every_s=900, overlap_s=SEARCH_OVERLAP_S, cost=2, draws=SEARCH)
async def missed_tickets(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[TicketChanged]]:
    """Changes of tickets that no webhook told of, where the connection asks for them."""
    wanted = missed(ctx.settings, "ticket")
    async for records in changed_since(ctx, "tickets", _MODIFIED, wanted, list(TICKET_PROPERTIES.values()), since_ms):
        people = await _people_of_changed(ctx, "tickets", records, since_ms)
        made = [
            TicketChanged.model_validate(
                {
                    **_fields(record, TICKET_PROPERTIES),
                    **people.get(record.id, {}),
                    "portal_id": ctx.account,
                    "objectId": record.id,
                    "propertyName": name,
                    **value_of(past),
                }
            )
            for record in records
            for name, past in values_since(record, since_ms)
        ]
        yield Page(sorted(made, key=lambda ticket: ticket.occurred_at), "")


async def _people_of_changed(
    ctx: ActionContext, kind: str, records: Sequence[Record], since_ms: int
) -> dict[str, dict[str, Json]]:
    """Who belongs to those of the records that have something to tell."""
    return await people_of(ctx, kind, [record.id for record in records if any(values_since(record, since_ms))])


@hubspot.history("deal_stage_changed")
async def past_stages(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[DealStageChanged]]:
    """Every stage that each deal came into since, as HubSpot remembers it."""
    wanted = {"properties": list(DEAL_PROPERTIES.values()), "propertiesWithHistory": ["dealstage"]}
    async for page in past_records(ctx, "deals", wanted, cursor, limit=WITH_HISTORY_AT_ONCE):
        people = await people_of(ctx, "deals", [record.id for record in page.items])
        made = [stage for record in page.items for stage in _stages(ctx, record, people.get(record.id, {}), since_ms)]
        yield Page(made, page.cursor)


def _stages(
    ctx: ActionContext, record: Record, person: Mapping[str, Json], since_ms: int
) -> Iterable[DealStageChanged]:
    known = {**_fields(record, DEAL_PROPERTIES), **person, "portal_id": ctx.account, "objectId": record.id}
    for _, past in values_since(record, since_ms):
        if past.value:
            yield DealStageChanged.model_validate({**known, **value_of(past)})
