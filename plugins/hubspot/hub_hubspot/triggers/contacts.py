"""What happens to contacts: created, changed, unsubscribed, deleted, erased."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

from pydantic import Field

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Identity, Page, Privacy
from hub.events import Json
from hub_hubspot.client import WITH_HISTORY_AT_ONCE, Record, read_records
from hub_hubspot.connector import CONTACTS_READ, SEARCH, hubspot
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

OPTED_OUT = "hs_email_optout"
"""The property that is true of whoever has unsubscribed from all e-mail."""


class ContactChange(Person, Change):
    """Something that happened to a contact."""

    contact_id: str = Field(alias="objectId")


class ContactCreated(ContactChange):
    """A new contact."""


class ContactChanged(ContactChange):
    """A property has a new value: recipes filter by `property_name`. An empty value means that it was cleared."""

    property_name: str = Field(alias="propertyName")
    property_value: str = Field("", alias="propertyValue")


class ContactGone(Change):
    """A contact that is no more; nothing but its id is left to tell."""

    contact_id: str = Field(alias="objectId")


C = TypeVar("C", bound=ContactChange)


def _change_fact(changed: ContactChanged) -> str:
    return fact(
        changed.portal_id,
        changed.contact_id,
        changed.property_name,
        changed.property_value,
        at(changed.occurred_at),
    )


def _gone_fact(gone: ContactGone) -> str:
    return f"{gone.contact_id}:{at(gone.occurred_at)}"


def _opted_out(changed: ContactChanged) -> Iterable[ConsentSignal]:
    if changed.email:
        yield ConsentSignal("email", changed.email, ConsentState.REVOKED, "unsubscribe")


# -- declared ----------------------------------------------------------------------------------------------------------


@hubspot.trigger(
    "contact_created",
    title="Contact created",
    topic=TOPIC,
    payload=ContactCreated,
    sample="contact_created.json",
    fact=lambda created: created.contact_id,
    subject=identity,
    occurred_at=lambda created: created.occurred_at,
    account=lambda created: created.portal_id,
    correlate=("contact_id",),
    provides="crm.contact_created",
    scopes=[CONTACTS_READ],
)
def contact_created(delivery: Delivery) -> Iterable[ContactCreated]:
    """A contact was created."""
    return [ContactCreated.model_validate(event) for event in told(delivery, "contact", "creation")]


@hubspot.trigger(
    "contact_changed",
    title="Contact changed",
    topic=TOPIC,
    payload=ContactChanged,
    sample="contact_changed.json",
    fact=_change_fact,
    subject=identity,
    occurred_at=lambda changed: changed.occurred_at,
    account=lambda changed: changed.portal_id,
    correlate=("contact_id", "property_name"),
    scopes=[CONTACTS_READ],
)
def contact_changed(delivery: Delivery) -> Iterable[ContactChanged]:
    """A property of a contact has a new value."""
    return [ContactChanged.model_validate(event) for event in told(delivery, "contact", "propertyChange")]


@hubspot.trigger(
    "email_unsubscribed",
    title="Unsubscribed from e-mail",
    topic=TOPIC,
    payload=ContactChanged,
    sample="email_unsubscribed.json",
    fact=_change_fact,
    subject=identity,
    occurred_at=lambda changed: changed.occurred_at,
    account=lambda changed: changed.portal_id,
    correlate=("contact_id",),
    consent=_opted_out,
    provides="email.unsubscribed",
    scopes=[CONTACTS_READ],
)
def email_unsubscribed(delivery: Delivery) -> Iterable[ContactChanged]:
    """A contact has unsubscribed from all e-mail."""
    changes = [ContactChanged.model_validate(event) for event in told(delivery, "contact", "propertyChange")]
    return [c for c in changes if c.property_name == OPTED_OUT and _is_true(c.property_value)]


@hubspot.trigger(
    "contact_deleted",
    title="Contact deleted",
    topic=TOPIC,
    payload=ContactGone,
    sample="contact_deleted.json",
    fact=_gone_fact,
    subject=lambda gone: Identity(vendor=gone.contact_id),
    occurred_at=lambda gone: gone.occurred_at,
    account=lambda gone: gone.portal_id,
    correlate=("contact_id",),
    scopes=[CONTACTS_READ],
)
def contact_deleted(delivery: Delivery) -> Iterable[ContactGone]:
    """A contact was deleted; HubSpot may restore it."""
    return [ContactGone.model_validate(event) for event in told(delivery, "contact", "deletion")]


@hubspot.trigger(
    "contact_erased",
    title="Contact erased for privacy",
    topic=TOPIC,
    payload=ContactGone,
    sample="contact_erased.json",
    fact=_gone_fact,
    subject=lambda gone: Identity(vendor=gone.contact_id),
    occurred_at=lambda gone: gone.occurred_at,
    account=lambda gone: gone.portal_id,
    privacy=Privacy.ERASE_PERSON,
    scopes=[CONTACTS_READ],
)
def contact_erased(delivery: Delivery) -> Iterable[ContactGone]:
    """A contact was deleted for good because of a privacy request; the ordinary deletion comes, too."""
    return [ContactGone.model_validate(event) for event in told(delivery, "contact", "privacyDeletion")]


# -- filled in ---------------------------------------------------------------------------------------------------------


async def fill_in(ctx: ActionContext, changes: Sequence[C]) -> Sequence[C]:
    """The contacts as they are now, all by one call; those that are gone meanwhile stay as they are."""
    records = await read_records(ctx, "contacts", [c.contact_id for c in changes], contact_properties(ctx.settings))
    known = {record.id: of_contact(record, ctx.settings) for record in records}
    return [change.model_copy(update=known.get(change.contact_id, {})) for change in changes]


contact_created.enrich(fill_in)
contact_changed.enrich(fill_in)
email_unsubscribed.enrich(fill_in)


# -- asked for ---------------------------------------------------------------------------------------------------------


def _created(record: Record, ctx: ActionContext) -> ContactCreated:
    known: dict[str, Json] = of_contact(record, ctx.settings)
    return ContactCreated.model_validate(
        {**known, "portal_id": ctx.account, "objectId": record.id, "occurred_at": record.created_at}
    )


@hubspot.poll("contact_created", every_s=600, overlap_s=SEARCH_OVERLAP_S, draws=SEARCH)
async def recent_contacts(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ContactCreated]]:
    """Contacts that no webhook told of, oldest first."""
    async for records in found_since(ctx, "contacts", "createdate", contact_properties(ctx.settings), since_ms):
        yield Page([_created(record, ctx) for record in records], "")


@hubspot.poll("contact_changed", every_s=900, overlap_s=SEARCH_OVERLAP_S, cost=2, draws=SEARCH)
async def missed_changes(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ContactChanged]]:
    """Changes of contacts that no webhook told of, where the connection asks for them."""
    wanted, usual = missed(ctx.settings, "contact"), contact_properties(ctx.settings)
    async for records in changed_since(ctx, "contacts", "lastmodifieddate", wanted, usual, since_ms):
        made = [change for record in records for change in _changes(record, ctx, since_ms)]
        yield Page(sorted(made, key=lambda changed: changed.occurred_at), "")


@hubspot.poll("email_unsubscribed", every_s=900, overlap_s=SEARCH_OVERLAP_S, cost=2, draws=SEARCH)
async def missed_opt_outs(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ContactChanged]]:
    """Who unsubscribed though no webhook told it: whoever was modified since, is opted out, and became so since.

    Asked in any case, as it is a consent withdrawn: told twice it is still withdrawn.
    """
    usual = contact_properties(ctx.settings)
    async for found in found_since(ctx, "contacts", "lastmodifieddate", [OPTED_OUT], since_ms):
        out = [record.id for record in found if _is_true(record.properties.get(OPTED_OUT))]
        records = await read_records(ctx, "contacts", out, usual, history=[OPTED_OUT])
        yield Page(_opt_outs(records, ctx, since_ms), "")


def _opt_outs(records: Iterable[Record], ctx: ActionContext, since_ms: int) -> Sequence[ContactChanged]:
    """When each of these contacts opted out, since an instant."""
    made = [change for record in records for change in _changes(record, ctx, since_ms)]
    leaving = [change for change in made if _is_true(change.property_value)]
    return sorted(leaving, key=lambda changed: changed.occurred_at)


def _is_true(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _changes(record: Record, ctx: ActionContext, since_ms: int) -> Iterable[ContactChanged]:
    known = {**of_contact(record, ctx.settings), "portal_id": ctx.account, "objectId": record.id}
    for name, past in values_since(record, since_ms):
        yield ContactChanged.model_validate({**known, "propertyName": name, **value_of(past)})


@hubspot.history("contact_created")
async def past_contacts(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ContactCreated]]:
    """Every contact that was created since, in the order of HubSpot's list, which can be gone on with anywhere."""
    async for page in past_records(ctx, "contacts", {"properties": contact_properties(ctx.settings)}, cursor):
        yield Page([_created(record, ctx) for record in page.items if is_since(record, since_ms)], page.cursor)


@hubspot.history("email_unsubscribed")
async def past_opt_outs(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ContactChanged]]:
    """Who opted out since and is out now; who came back is not told, for the ledger would take them for gone."""
    wanted = {"properties": [*contact_properties(ctx.settings), OPTED_OUT], "propertiesWithHistory": [OPTED_OUT]}
    async for page in past_records(ctx, "contacts", wanted, cursor, limit=WITH_HISTORY_AT_ONCE):
        out = [record for record in page.items if _is_true(record.properties.get(OPTED_OUT))]
        yield Page(_opt_outs(out, ctx, since_ms), page.cursor)
