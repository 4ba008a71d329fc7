"""Orders: searched, paged, tagged by others, with their notes and refunds."""

from __future__ import annotations

from hub.clock import parse_time_ms
from hub.events import Json
from hub_shopify.sandbox.ids import gid, plain
from hub_shopify.sandbox.resolvers.catalogue import product_node
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, UserError, found, money, page, person, unknown
from hub_shopify.sandbox.shop import PAID, Fields, SandboxShop

_SORTED_BY = {"CREATED_AT": "created_at", "UPDATED_AT": "updated_at"}


def _orders(asked: Asked) -> Json:
    shop, args = asked.shop, asked.args
    hits = found(asked, shop.orders.values(), _meets)
    key = _SORTED_BY.get(args.get("sortKey", ""), "created_at")
    oldest_first = sorted(hits, key=lambda order: parse_time_ms(order[key]))
    return page([order_node(shop, order) for order in oldest_first], args)


def _meets(order: Fields, term: Term) -> bool:
    if term.field == "customer_id":
        return str((order.get("customer") or {}).get("id")) == term.value
    if term.field in {"checkout_token", "cart_token", "email"}:
        return term.holds(order.get(term.field))
    raise unknown("orders", term)


def order_node(shop: SandboxShop, order: Fields) -> Fields:
    address = order.get("billing_address") or {}
    codes = [applied["code"] for applied in order.get("discount_codes") or ()]
    return {
        "__typename": "Order",
        "id": gid("Order", order["id"]),
        "name": order["name"],
        "note": order.get("note"),
        "createdAt": order["created_at"],
        "updatedAt": order["updated_at"],
        "cancelledAt": order.get("cancelled_at"),
        "email": order.get("email"),
        "phone": order.get("phone") or None,
        "customerLocale": order.get("customer_locale"),
        "customerAcceptsMarketing": order.get("buyer_accepts_marketing") is True,
        "fullyPaid": order.get("financial_status") in PAID,
        "displayFulfillmentStatus": (order.get("fulfillment_status") or "unfulfilled").upper(),
        "checkoutToken": order.get("checkout_token"),
        "cartToken": order.get("cart_token"),
        "discountCodes": codes,
        "tags": [tag.strip() for tag in (order.get("tags") or "").split(",") if tag.strip()],
        "billingAddress": {
            "firstName": address.get("first_name"),
            "lastName": address.get("last_name"),
            "phone": address.get("phone"),
            "countryCodeV2": address.get("country_code"),
        }
        if address
        else None,
        "customer": person(order.get("customer")),
        "totalPriceSet": money(shop, order["total_price"]),
        "currencyCode": order.get("currency", shop.currency),
        "presentmentCurrencyCode": order.get("presentment_currency") or order.get("currency", shop.currency),
        "lineItems": lines(shop, order),
        "refunds": [refund_node(shop, refund) for refund in shop.refunds.values() if refund["order_id"] == order["id"]],
        "suggestedRefund": _suggested(shop, order),
        "transactions": [
            {"kind": "SALE", "status": "SUCCESS", "processedAt": at}
            for at in order.get("paid_in_parts") or [order.get("processed_at", order["created_at"])]
        ],
        "fulfillments": [
            {"createdAt": at}
            for at in order.get("sent_in_parts") or [order.get("fulfilled_at", order["updated_at"])]
            if order.get("fulfillment_status")
        ],
    }


def lines(shop: SandboxShop, of: Fields) -> Json:
    """The first ten lines of an order or checkout."""
    return {
        "nodes": [
            {
                "title": line["title"],
                "quantity": line["quantity"],
                "sku": line.get("sku"),
                "originalUnitPriceSet": money(shop, line["price"]),
                "product": {"id": gid("Product", line["product_id"])} if line.get("product_id") else None,
                "variant": {"id": gid("ProductVariant", line["variant_id"])} if line.get("variant_id") else None,
            }
            for line in (of.get("line_items") or ())[:10]
        ]
    }


def refund_node(shop: SandboxShop, refund: Fields) -> Fields:
    """A refund without its order."""
    total = sum(float(transaction["amount"]) for transaction in refund["transactions"])
    return {
        "__typename": "Refund",
        "id": gid("Refund", refund["id"]),
        "processedAt": refund["processed_at"],
        "note": refund.get("note"),
        "totalRefundedSet": money(shop, total),
    }


def _suggested(shop: SandboxShop, order: Fields) -> Fields:
    left = shop.refundable(order)
    payment = {
        "gateway": "bogus",
        "parentTransaction": {"id": gid("OrderTransaction", order["id"])},
        "amountSet": money(shop, left),
    }
    return {"maximumRefundableSet": money(shop, left), "suggestedTransactions": [payment] if left else []}


def _order(asked: Asked) -> Json:
    order = asked.shop.orders.get(plain(asked.args["id"]))
    return order_node(asked.shop, order) if order else None


def _nodes(asked: Asked) -> Json:
    """Things of any kind by their global ids, in their order; None for what is not there."""
    found_nodes: list[Json] = []
    for one in asked.args["ids"]:
        if "/Customer/" in one:
            found_nodes.append(person(asked.shop.customers.get(plain(one))))
            continue
        if "/Product/" in one:
            product = asked.shop.products.get(plain(one))
            found_nodes.append(product_node(asked.shop, product) if product else None)
            continue
        refund = asked.shop.refunds.get(plain(one))
        order = asked.shop.orders.get(str(refund["order_id"])) if refund else None
        whole = order and refund and refund_node(asked.shop, refund) | {"order": order_node(asked.shop, order)}
        found_nodes.append(whole)
    return found_nodes


def _update_order(asked: Asked) -> Json:
    wanted = asked.args["input"]
    order = asked.shop.orders.get(plain(wanted["id"]))
    if order is None:
        raise UserError(["id"], "Order does not exist")
    order |= {name: wanted[name] for name in ("note",) if name in wanted} | {"updated_at": asked.now}
    asked.record("update_order", asked.shop.domain, **wanted)
    return {"order": order_node(asked.shop, order)}


QUERIES: dict[str, Resolver] = {"orders": _orders, "order": _order, "nodes": _nodes}
MUTATIONS: dict[str, Resolver] = {"orderUpdate": _update_order}
