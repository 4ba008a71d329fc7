"""Makes records that have no natural key, and finds again what an earlier attempt made.

The step's reference goes into the record; afterwards the records of the same contact are read, which unlike a search sees
what was just written (HubSpot keeps no idempotency keys for these).
"""

from __future__ import annotations

from collections.abc import Mapping

from hub import ActionContext, NotFound
from hub_hubspot import client

# How far HubSpot's clock may be behind ours before a record seems older than its own intention.
_CLOCK_SKEW_MS = 60_000


def marked(ctx: ActionContext, text: str) -> str:
    """A text that ends with the step's reference."""
    return f"{text} {_mark(ctx)}"


def _mark(ctx: ActionContext) -> str:
    return f"[{ctx.reference}]"


def referenced(ctx: ActionContext, properties: Mapping[str, str], name: str) -> dict[str, str]:
    """Properties with the reference: in the connection's property for it, else at the end of the record's name."""
    if own := ctx.settings.get("reference_property"):
        return {**properties, own: ctx.reference}
    return {**properties, name: marked(ctx, properties[name])}


async def contact_id(ctx: ActionContext, contact: str) -> str:
    """The id of a contact that is named by id or address. Raises NotFound."""
    if "@" not in contact:
        return contact
    return (await client.get_contact(ctx, contact, ["email"])).id


async def made_before(ctx: ActionContext, contact: str, kind: str, name: str) -> client.Record | None:
    """The record of this contact that bears the step's reference; None when there is certainly none.

    `name` is the property that ends with the reference where the connection has no property for it. Raises OutcomeUnknown
    when the contact has too many records.
    """
    try:
        owner = await contact_id(ctx, contact)
        ids = await client.associated(ctx, "contacts", owner, kind)
    except NotFound:
        return None  # without the contact it could not be made
    own = ctx.settings.get("reference_property") if kind in ("tickets", "deals") else None
    wanted = [own or name]
    for record in await client.read_records(ctx, kind, ids, wanted):
        if record.created_at.timestamp() * 1000 < ctx.intended_at_ms - _CLOCK_SKEW_MS:
            continue
        value = record.properties.get(wanted[0], "")
        if value == ctx.reference if own else value.endswith(_mark(ctx)):
            return record
    return None
