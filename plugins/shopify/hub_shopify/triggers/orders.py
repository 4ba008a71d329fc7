"""Orders: placed, paid, cancelled, fulfilled, refunded, and the codes that were used for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hub import ActionContext, Delivery
from hub_shopify import bodies, nodes
from hub_shopify.api.orders import REFUNDS
from hub_shopify.client import call, gid, rest_id
from hub_shopify.connector import shopify
from hub_shopify.payloads import Order, Redemption, Refund, buyer, reached, ticked

_MATCHED = ["order_id", "checkout_id", "checkout_token", "cart_token"]


@shopify.trigger(
    "order_created",
    payload=Order,
    topic="orders/create",
    sample="order_created.json",
    fact=lambda order: order.order_id,
    subject=buyer,
    occurred_at=lambda order: order.created_at,
    correlate=_MATCHED,
    consent=ticked,
    scopes=["read_orders"],
)
def order_created(delivery: Delivery) -> Iterable[Order]:
    """An order was placed."""
    return [bodies.order(delivery.json())]


@shopify.trigger(
    "order_paid",
    payload=Order,
    topic="orders/paid",
    sample="order_paid.json",
    fact=lambda order: order.order_id,
    subject=buyer,
    occurred_at=lambda order: order.paid_at or order.updated_at,
    correlate=_MATCHED,
    consent=ticked,
    scopes=["read_orders"],
)
def order_paid(delivery: Delivery) -> Iterable[Order]:
    """An order was paid in full."""
    return [bodies.order(delivery.json())]


@shopify.trigger(
    "order_cancelled",
    payload=Order,
    topic="orders/cancelled",
    sample="order_cancelled.json",
    fact=lambda order: order.order_id,
    subject=buyer,
    occurred_at=lambda order: order.cancelled_at or order.updated_at,
    correlate=_MATCHED,
    scopes=["read_orders"],
)
def order_cancelled(delivery: Delivery) -> Iterable[Order]:
    """An order was cancelled."""
    return [bodies.order(delivery.json())]


@shopify.trigger(
    "order_fulfilled",
    payload=Order,
    topic="orders/fulfilled",
    sample="order_fulfilled.json",
    fact=lambda order: order.order_id,
    subject=buyer,
    occurred_at=lambda order: order.fulfilled_at or order.updated_at,
    correlate=_MATCHED,
    scopes=["read_orders"],
)
def order_fulfilled(delivery: Delivery) -> Iterable[Order]:
    """Everything of an order was sent out."""
    return [bodies.order(delivery.json())]


@shopify.trigger(
    "order_refunded",
    payload=Refund,
    topic="refunds/create",
    sample="order_refunded.json",
    fact=lambda refund: refund.refund_id,
    subject=reached,
    occurred_at=lambda refund: refund.processed_at,
    correlate=["order_id"],
    scopes=["read_orders"],
)
def order_refunded(delivery: Delivery) -> Iterable[Refund]:
    """Money of an order went back, or goods came back."""
    return [bodies.refund(delivery.json())]


@order_refunded.enrich
async def of_whom(ctx: ActionContext, refunds: Sequence[Refund]) -> Sequence[Refund]:
    """Whose refunds they are and how much in the shop's currency: the webhook tells neither."""
    lacking = [refund.refund_id for refund in refunds if refund.name is None]
    if not lacking:
        return refunds
    found = await call(ctx, REFUNDS, {"ids": [gid("Refund", one) for one in lacking]})
    known = {rest_id(node.id): nodes.refund(node, node.order) for node in found.nodes if node}
    return [known.get(refund.refund_id, refund) for refund in refunds]


@shopify.trigger(
    "discount_redeemed",
    payload=Redemption,
    topic="orders/create",
    sample="discount_redeemed.json",
    fact=lambda redemption: f"{redemption.order_id}:{redemption.code}",
    subject=reached,
    occurred_at=lambda redemption: redemption.created_at,
    correlate=["code", "order_id"],
    scopes=["read_orders"],
)
def discount_redeemed(delivery: Delivery) -> Iterable[Redemption]:
    """A discount code was used for an order."""
    return redemptions(bodies.order(delivery.json()))


def redemptions(order: Order) -> list[Redemption]:
    """The codes of an order; each once, in capitals, for the shop does not tell cases apart."""
    about = order.model_dump(include=set(Redemption.model_fields) - {"code"})
    return [Redemption(code=code, **about) for code in dict.fromkeys(code.upper() for code in order.discount_codes)]
