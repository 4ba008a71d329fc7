"""What the law lets people and shops ask for. Shopify sends these to the address in the app's own configuration.

They are answered like any webhook (401 to a bad signature) and carried out by the hub when they are routed; thirty days is
what Shopify gives for it. (shopify.dev "Privacy law compliance", read 2026-11-22)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hub import Delivery, Privacy
from hub_shopify import bodies
from hub_shopify.connector import shopify
from hub_shopify.payloads import PersonRequest, ShopRequest, reached


def _request_fact(request: PersonRequest) -> str:
    """Which request it is, without anybody's address: who asked before may ask again."""
    told = request.told or hashlib.sha256((request.email or "").lower().encode()).hexdigest()[:16]
    return ":".join((request.request_id or "", request.customer_id or "", *sorted(request.order_ids), told))


@shopify.trigger(
    "data_requested",
    payload=PersonRequest,
    topic="customers/data_request",
    sample="data_requested.json",
    fact=_request_fact,
    subject=reached,
    privacy=Privacy.EXPORT_PERSON,
)
def data_requested(delivery: Delivery) -> Iterable[PersonRequest]:
    """A customer wants to see what is known of them."""
    return [bodies.person_request(delivery.json(), "orders_requested", bodies.told_by(delivery))]


@shopify.trigger(
    "erasure_requested",
    payload=PersonRequest,
    topic="customers/redact",
    sample="erasure_requested.json",
    fact=_request_fact,
    subject=reached,
    privacy=Privacy.ERASE_PERSON,
)
def erasure_requested(delivery: Delivery) -> Iterable[PersonRequest]:
    """A customer is to be forgotten."""
    return [bodies.person_request(delivery.json(), "orders_to_redact", bodies.told_by(delivery))]


@shopify.trigger(
    "shop_erasure_requested",
    payload=ShopRequest,
    topic="shop/redact",
    sample="shop_erasure_requested.json",
    fact=lambda request: f"{request.shop}:{request.told}",
    privacy=Privacy.ERASE_ACCOUNT,
)
def shop_erasure_requested(delivery: Delivery) -> Iterable[ShopRequest]:
    """Everything of the shop is to be forgotten, two days after it removed the app."""
    return [ShopRequest(shop=delivery.json().get("shop_domain") or delivery.account, told=bodies.told_by(delivery))]
