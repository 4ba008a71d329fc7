"""Refunds, each once for its key, and store credit."""

from __future__ import annotations

from hub.events import Json
from hub_shopify.sandbox.ids import gid, plain
from hub_shopify.sandbox.resolvers.orders import refund_node
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, UserError, amount


def _refund(asked: Asked) -> Json:
    shop, wanted = asked.shop, asked.args["input"]
    key = str((asked.directives.get("idempotent") or {}).get("key") or "").strip()
    if not key:
        raise ValueError("The @idempotent directive is required for this mutation")
    if key in shop.refund_keys:
        return {"refund": refund_node(shop, shop.refunds[shop.refund_keys[key]])}
    order = shop.orders.get(plain(wanted["orderId"]))
    if order is None:
        raise UserError(["orderId"], "Order does not exist")
    total = sum(float(one["amount"]) for one in wanted.get("transactions") or ())
    if total > shop.refundable(order):
        raise UserError(["transactions"], "Refund amount is more than what can be refunded")
    refund = shop.refund(order, [one["amount"] for one in wanted["transactions"]], wanted.get("note"), asked.now)
    shop.refund_keys[key] = str(refund["id"])
    shop.tell("refunds/create", refund)
    asked.record("refund", shop.domain, **wanted)
    return {"refund": refund_node(shop, refund)}


def _credit(asked: Asked) -> Json:
    shop, owner, wanted = asked.shop, plain(asked.args["id"]), asked.args["creditInput"]
    if owner not in shop.customers:
        raise UserError(["id"], "Owner does not exist", "OWNER_NOT_FOUND")
    if float(wanted["creditAmount"]["amount"]) <= 0:
        raise UserError(["creditInput", "creditAmount"], "Amount must be positive", "NEGATIVE_OR_ZERO_AMOUNT")
    if wanted["creditAmount"]["currencyCode"] != shop.currency:
        raise UserError(["creditInput", "creditAmount"], "Currency is not supported", "UNSUPPORTED_CURRENCY")
    shop.credit[owner] = shop.credit.get(owner, 0.0) + float(wanted["creditAmount"]["amount"])
    asked.record("give_credit", shop.domain, customer_id=owner, **wanted)
    made = {"id": gid("StoreCreditAccountCreditTransaction", shop.next_id())}
    return {"storeCreditAccountTransaction": made | {"balanceAfterTransaction": amount(shop, shop.credit[owner])}}


QUERIES: dict[str, Resolver] = {}
MUTATIONS: dict[str, Resolver] = {"refundCreate": _refund, "storeCreditAccountCredit": _credit}
