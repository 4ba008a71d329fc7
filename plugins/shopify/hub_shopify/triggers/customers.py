"""Customers: created, changed, tagged, in and out of segments, and what they say about marketing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from hub import ActionContext, Delivery, e164
from hub_shopify import bodies, nodes
from hub_shopify.api.customers import PEOPLE
from hub_shopify.client import call, gid, rest_id
from hub_shopify.connector import shopify
from hub_shopify.payloads import (
    About,
    ConsentChanged,
    Customer,
    SegmentChanged,
    TagsChanged,
    changed,
    person,
    reached,
    stated,
)

AboutT = TypeVar("AboutT", bound=About)


@shopify.trigger(
    "customer_created",
    payload=Customer,
    topic="customers/create",
    sample="customer_created.json",
    fact=lambda customer: customer.customer_id,
    subject=person,
    occurred_at=lambda customer: customer.created_at,
    correlate=["customer_id"],
    consent=stated,
    scopes=["read_customers"],
)
def customer_created(delivery: Delivery) -> Iterable[Customer]:
    """A customer was created."""
    return [bodies.customer(delivery.json())]


@shopify.trigger(
    "customer_updated",
    payload=Customer,
    topic="customers/update",
    sample="customer_updated.json",
    fact=lambda customer: f"{customer.customer_id}:{customer.updated_at.isoformat()}",
    subject=person,
    occurred_at=lambda customer: customer.updated_at,
    correlate=["customer_id"],
    consent=stated,
    scopes=["read_customers"],
)
def customer_updated(delivery: Delivery) -> Iterable[Customer]:
    """A customer was changed: name, address, tags or marketing consent."""
    return [bodies.customer(delivery.json())]


@shopify.trigger(
    "consent_changed",
    payload=ConsentChanged,
    topic=["customers_email_marketing_consent/update", "customers_marketing_consent/update"],
    sample="consent_changed.json",
    fact=lambda consent: (
        f"{consent.channel}:{consent.customer_id}:{consent.state}:"
        f"{consent.consented_at.isoformat() if consent.consented_at else ''}"
    ),
    subject=reached,
    occurred_at=lambda consent: consent.consented_at,
    correlate=["customer_id"],
    consent=changed,
    scopes=["read_customers"],
)
def consent_changed(delivery: Delivery) -> Iterable[ConsentChanged]:
    """A customer's consent to marketing by e-mail or SMS was given, withdrawn or asked for."""
    # The topic without a channel's name is that of SMS.
    read = bodies.email_consent if "email" in delivery.topic else bodies.sms_consent
    return [read(delivery.json())]


@shopify.trigger(
    "tags_changed",
    payload=TagsChanged,
    topic=["customer.tags_added", "customer.tags_removed"],
    sample="tags_changed.json",
    fact=lambda change: (
        f"{change.customer_id}:{change.occurred_at.isoformat()}:"
        f"{','.join(sorted(change.added))}:{','.join(sorted(change.removed))}"
    ),
    subject=person,
    occurred_at=lambda change: change.occurred_at,
    correlate=["customer_id"],
    scopes=["read_customers"],
)
def tags_changed(delivery: Delivery) -> Iterable[TagsChanged]:
    """A customer got or lost tags."""
    raw = delivery.json()
    which = "removed" if delivery.topic.endswith("removed") else "added"
    return [
        TagsChanged.model_validate(
            {
                "customer_id": bodies.customer_of(raw, "customerId"),
                which: raw.get("tags"),
                "occurred_at": raw.get("occurredAt"),
            }
        )
    ]


def _segment_change(delivery: Delivery) -> SegmentChanged:
    raw = delivery.json()
    return SegmentChanged(
        customer_id=bodies.customer_of(raw, "customer_id"),
        segment_id=rest_id(raw.get("segment_id") or ""),
        told=bodies.told_by(delivery),
    )


def _segment_fact(change: SegmentChanged) -> str:
    return f"{change.customer_id}:{change.segment_id}:{change.told}"


@shopify.trigger(
    "segment_joined",
    payload=SegmentChanged,
    topic="customer.joined_segment",
    sample="segment_joined.json",
    fact=_segment_fact,
    subject=person,
    correlate=["customer_id", "segment_id"],
    scopes=["read_customers"],
)
def segment_joined(delivery: Delivery) -> Iterable[SegmentChanged]:
    """A customer came into a segment."""
    return [_segment_change(delivery)]


@shopify.trigger(
    "segment_left",
    payload=SegmentChanged,
    topic="customer.left_segment",
    sample="segment_left.json",
    fact=_segment_fact,
    subject=person,
    correlate=["customer_id", "segment_id"],
    scopes=["read_customers"],
)
def segment_left(delivery: Delivery) -> Iterable[SegmentChanged]:
    """A customer fell out of a segment."""
    return [_segment_change(delivery)]


async def who_it_is(ctx: ActionContext, changes: Sequence[AboutT]) -> Sequence[AboutT]:
    """Name, e-mail and phone of customers whose id came alone; protected fields stay empty without an approval."""
    ids = sorted({gid("Customer", change.customer_id) for change in changes})
    found = await call(ctx, PEOPLE, {"ids": ids})
    known = {rest_id(one.id): one for one in found.nodes if one}
    filled = []
    for change in changes:
        one = known.get(change.customer_id)
        told = {
            "email": nodes.email_of(one),
            "phone": e164(number) if (number := nodes.phone_of(one)) else None,
            "first_name": one.first_name if one else None,
            "last_name": one.last_name if one else None,
        }
        filled.append(change.model_copy(update=told))
    return filled


tags_changed.enrich(who_it_is)
segment_joined.enrich(who_it_is)
segment_left.enrich(who_it_is)
