"""Carts of the online store: what lies in them, before anybody says who they are."""

from __future__ import annotations

from collections.abc import Iterable

from hub import Delivery
from hub_shopify import bodies
from hub_shopify.connector import shopify
from hub_shopify.payloads import Cart


@shopify.trigger(
    "cart_created",
    payload=Cart,
    topic="carts/create",
    sample="cart_created.json",
    fact=lambda cart: cart.cart_token,
    occurred_at=lambda cart: cart.created_at,
    correlate=["cart_token"],
    scopes=["read_orders"],
)
def cart_created(delivery: Delivery) -> Iterable[Cart]:
    """Somebody began a cart."""
    return [bodies.cart(delivery.json())]


@shopify.trigger(
    "cart_updated",
    payload=Cart,
    topic="carts/update",
    sample="cart_updated.json",
    fact=lambda cart: f"{cart.cart_token}:{cart.updated_at.isoformat()}",
    occurred_at=lambda cart: cart.updated_at,
    correlate=["cart_token"],
    scopes=["read_orders"],
)
def cart_updated(delivery: Delivery) -> Iterable[Cart]:
    """Something was put into a cart, or taken out."""
    return [bodies.cart(delivery.json())]
