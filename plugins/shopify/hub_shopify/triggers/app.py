"""The app itself: that the shop removed it."""

from __future__ import annotations

from collections.abc import Iterable

from hub import Delivery
from hub_shopify import bodies
from hub_shopify.connector import shopify
from hub_shopify.payloads import Uninstalled


@shopify.trigger(
    "app_uninstalled",
    payload=Uninstalled,
    topic="app/uninstalled",
    sample="app_uninstalled.json",
    fact=lambda uninstalled: f"{uninstalled.shop}:{uninstalled.told}",
    occurred_at=lambda uninstalled: uninstalled.removed_at,
    correlate=["shop"],
    ends_access=True,
)
def app_uninstalled(delivery: Delivery) -> Iterable[Uninstalled]:
    """The app was removed from the shop: its tokens are void, and Shopify calls no more."""
    return [
        Uninstalled(
            shop=delivery.json().get("myshopify_domain") or delivery.account,
            told=bodies.told_by(delivery),
            removed_at=bodies.triggered_at(delivery),
        )
    ]
