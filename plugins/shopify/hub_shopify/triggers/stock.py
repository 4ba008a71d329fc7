"""Variants that can be bought again."""

from __future__ import annotations

from collections.abc import Iterable

from hub import Delivery
from hub_shopify import bodies
from hub_shopify.connector import shopify
from hub_shopify.payloads import Variant


@shopify.trigger(
    "product_back_in_stock",
    payload=Variant,
    topic="variants/in_stock",
    sample="product_back_in_stock.json",
    fact=lambda variant: f"{variant.variant_id}:{variant.updated_at.isoformat()}",
    occurred_at=lambda variant: variant.updated_at,
    correlate=["variant_id", "product_id"],
    scopes=["read_products"],
)
def product_back_in_stock(delivery: Delivery) -> Iterable[Variant]:
    """A variant of a product can be bought again."""
    return [bodies.variant(delivery.json())]
