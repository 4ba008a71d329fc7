"""Checkouts that were begun: those whose buyer said how to reach them, completed ones included."""

from __future__ import annotations

from hub.clock import parse_time_ms
from hub.events import Json
from hub_shopify.sandbox.ids import gid
from hub_shopify.sandbox.resolvers.orders import lines
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, found, money, page, person, unknown
from hub_shopify.sandbox.shop import Fields


def _checkouts(asked: Asked) -> Json:
    shop = asked.shop
    reachable = [one for one in shop.checkouts.values() if one.get("email") or one.get("phone") or one.get("customer")]
    hits = sorted(found(asked, reachable, _meets), key=lambda checkout: parse_time_ms(checkout["created_at"]))
    nodes = [
        {
            "id": gid("AbandonedCheckout", one["id"]),
            "createdAt": one["created_at"],
            "updatedAt": one["updated_at"],
            "completedAt": one["completed_at"],
            "abandonedCheckoutUrl": one["abandoned_checkout_url"],
            "discountCodes": [applied["code"] for applied in one.get("discount_codes") or ()],
            "billingAddress": None,
            "customer": person(one.get("customer")),
            "totalPriceSet": money(shop, one["total_price"]),
            "lineItems": lines(shop, one),
        }
        for one in hits
    ]
    return page(nodes, asked.args)


def _meets(checkout: Fields, term: Term) -> bool:
    if term.field == "id":
        return term.holds(checkout["id"])
    if term.field == "status":
        return (term.value == "open") == (checkout["completed_at"] is None)
    raise unknown("checkouts", term)


QUERIES: dict[str, Resolver] = {"abandonedCheckouts": _checkouts}
MUTATIONS: dict[str, Resolver] = {}
