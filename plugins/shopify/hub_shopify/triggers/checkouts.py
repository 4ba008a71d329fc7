"""Checkouts: begun or changed, completed, and left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub import ActionContext, Delivery
from hub.events import Json
from hub_shopify import bodies
from hub_shopify.api.checkouts import CHECKOUT_PAGE
from hub_shopify.api.orders import ORDERS, FoundOrder
from hub_shopify.client import call, rest_id, rfc3339, search_term
from hub_shopify.connector import shopify
from hub_shopify.payloads import Checkout, buyer, ticked

QUIET_S = 30 * 60
_MATCHED = ["checkout_token", "checkout_id", "cart_token"]


def _checkout_state(checkout: Checkout) -> str:
    return f"{checkout.known_by}:{checkout.updated_at.isoformat()}"


@shopify.trigger(
    "checkout_updated",
    payload=Checkout,
    topic=["checkouts/create", "checkouts/update"],
    sample="checkout_updated.json",
    fact=_checkout_state,
    subject=buyer,
    occurred_at=lambda checkout: checkout.updated_at,
    correlate=_MATCHED,
    consent=ticked,
    scopes=["read_orders"],
)
def checkout_updated(delivery: Delivery) -> Iterable[Checkout]:
    """A checkout was started or changed, and is not completed."""
    checkout = bodies.checkout(delivery.json())
    return [] if checkout.completed_at else [checkout]


@shopify.trigger(
    "checkout_completed",
    payload=Checkout,
    topic=["checkouts/create", "checkouts/update"],
    sample="checkout_completed.json",
    fact=lambda checkout: checkout.known_by,
    subject=buyer,
    occurred_at=lambda checkout: checkout.completed_at,
    correlate=_MATCHED,
    consent=ticked,
    scopes=["read_orders"],
)
def checkout_completed(delivery: Delivery) -> Iterable[Checkout]:
    """A checkout became an order."""
    checkout = bodies.checkout(delivery.json())
    return [checkout] if checkout.completed_at else []


# -- the checkout that was left behind ---------------------------------------------------------------------------------


def _watched(data: Mapping[str, Json]) -> str | None:
    """The checkout to watch, or to stop watching; an open one of nobody we could reach is left out."""
    ends_the_watch = "order_id" in data or data.get("completed_at") is not None
    reachable = data.get("email") or data.get("phone") or data.get("customer_id")
    return data.get("checkout_id") or data.get("checkout_token") if ends_the_watch or reachable else None


checkout_abandoned = shopify.quiet_trigger(
    "checkout_abandoned",
    title="A checkout was left behind",
    payload=Checkout,
    # Once per checkout: who comes back to it and leaves again has not abandoned a second one.
    fact=lambda checkout: checkout.known_by,
    source=["checkout_updated"],
    cancel=["checkout_completed", "order_created", "order_paid"],
    key=_watched,
    after_s=QUIET_S,
    subject=buyer,
    correlate=_MATCHED,
    scopes=["read_orders"],
)


@checkout_abandoned.confirm
async def still_abandoned(ctx: ActionContext, checkout: Checkout) -> bool:
    """Whether neither this checkout nor, since it began, its buyer has led to an order."""
    return not (await _was_completed(ctx, checkout) or await _has_ordered_since(ctx, checkout))


async def _was_completed(ctx: ActionContext, checkout: Checkout) -> bool:
    if checkout.checkout_token == checkout.checkout_id:  # known by its id alone
        variables = {"query": search_term("id", checkout.known_by), "first": 1, "after": None}
        found = (await call(ctx, CHECKOUT_PAGE, variables)).abandoned_checkouts.nodes
        return any(rest_id(one.id) == checkout.known_by and one.completed_at for one in found)
    of_checkout = await call(ctx, ORDERS, {"query": search_term("checkout_token", checkout.checkout_token)})
    # Shopify searches all text for a term it does not know: believe only what the orders say themselves.
    return any(order.checkout_token == checkout.checkout_token for order in of_checkout.orders.nodes)


async def _has_ordered_since(ctx: ActionContext, checkout: Checkout) -> bool:
    if checkout.customer_id:
        buyer = search_term("customer_id", checkout.customer_id)
    elif checkout.email:
        buyer = search_term("email", checkout.email)
    else:
        return False
    by_buyer = await call(ctx, ORDERS, {"query": f"{buyer} created_at:>='{rfc3339(checkout.created_at)}'"})
    return any(_is_theirs(order, checkout) for order in by_buyer.orders.nodes)


def _is_theirs(order: FoundOrder, checkout: Checkout) -> bool:
    """Whether an order is of a checkout's buyer and no older, whatever it was found by.

    One whose e-mail address Shopify keeps from the app is taken for what was searched for: who bought is not to be asked why
    they did not.
    """
    # The search knows whole seconds.
    if order.created_at < checkout.created_at.replace(microsecond=0):
        return False
    if checkout.customer_id:
        return order.customer is not None and rest_id(order.customer.id) == checkout.customer_id
    return order.email is None or order.email.lower() == (checkout.email or "").lower()
