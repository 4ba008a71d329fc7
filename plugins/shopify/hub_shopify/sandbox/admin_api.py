"""The Admin API's operations over a sandbox shop, with the refusals that Shopify has for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from hub.clock import parse_time_ms
from hub.events import Json
from hub_shopify.client import gid
from hub_shopify.sandbox.graphql import Selection, pick
from hub_shopify.sandbox.shop import Fields, SandboxShop

_TERM = re.compile(r"""(\w+):(?:>=)?(?:"((?:\\.|[^"\\])*)"|'([^']*)'|(\S+))""")

Args = Mapping[str, Json]


class Record(Protocol):
    def __call__(self, operation: str, account: str, **data: Json) -> None: ...


class UserError(Exception):
    """The vendor's no to an input: an entry of `userErrors`."""

    def __init__(self, field: list[str], message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.shown = {"field": field, "message": message, "code": code}


def execute(kind: str, selections: list[Selection], shop: SandboxShop, record: Record) -> Json:
    """The `data` of an operation. Raises ValueError for what does not fit the API, as far as the sandbox knows it."""
    return {s.alias: pick(s.fields, _resolve(kind, s, shop, record)) for s in selections}


def _resolve(kind: str, selection: Selection, shop: SandboxShop, record: Record) -> Json:
    resolver = (_MUTATIONS if kind == "mutation" else _QUERIES).get(selection.name)
    if resolver is None:
        raise ValueError(f"Field '{selection.name}' doesn't exist on type '{kind.title()}', or not in the sandbox")
    try:
        value = resolver(shop, selection.args, record)
    except KeyError as error:
        raise ValueError(f"Field '{selection.name}' is missing required arguments: {error.args[0]}") from error
    except UserError as error:
        return dict.fromkeys((f.name for f in selection.fields), None) | {"userErrors": [error.shown]}
    return value | {"userErrors": []} if kind == "mutation" else value


def _shop(shop: SandboxShop, args: Args, record: Record) -> Json:
    return {
        "id": gid("Shop", "1"),
        "name": shop.domain.partition(".")[0].replace("-", " ").title(),
        "myshopifyDomain": shop.domain,
        "currencyCode": shop.currency,
        "ianaTimezone": shop.zone,
    }


def _orders(shop: SandboxShop, args: Args, record: Record) -> Json:
    found_terms = _TERM.finditer(args.get("query") or "")
    terms = [(t[1], re.sub(r"\\(.)", r"\1", t[2]) if t[2] else t[3] or t[4] or "") for t in found_terms]
    found = [order for order in shop.orders.values() if all(_matches(order, *term) for term in terms)]
    newest_first = sorted(found, key=lambda order: parse_time_ms(order["created_at"]), reverse=True)
    return {"nodes": [_order_node(order) for order in newest_first[: args["first"]]]}


def _matches(order: Fields, name: str, value: str) -> bool:
    """Whether an order matches one term of a search; `created_at` is only ever asked for as *since*."""
    if name == "created_at":
        return parse_time_ms(order["created_at"]) >= parse_time_ms(value)
    if name == "customer_id":
        return str((order.get("customer") or {}).get("id")) == value
    if name in {"checkout_token", "cart_token", "email"}:
        return (order.get(name) or "").lower() == value.lower()
    raise ValueError(f"the sandbox does not search orders by {name}")


def _order_node(order: Fields) -> Fields:
    customer = order.get("customer")
    return {
        "id": gid("Order", str(order["id"])),
        "name": order["name"],
        "createdAt": order["created_at"],
        "email": order.get("email"),
        "checkoutToken": order.get("checkout_token"),
        "cartToken": order.get("cart_token"),
        "customer": {"id": gid("Customer", str(customer["id"]))} if customer else None,
    }


def _discount_by_code(shop: SandboxShop, args: Args, record: Record) -> Json:
    return shop.discounts.get(args["code"].lower())


def _create_discount(shop: SandboxShop, args: Args, record: Record) -> Json:
    wanted = args["basicCodeDiscount"]
    at = "basicCodeDiscount"
    for name in ("title", "code", "startsAt", "customerGets", "context"):
        if not wanted.get(name):
            raise UserError([at, name], f"{name} can't be blank", "BLANK")
    value = wanted["customerGets"].get("value") or {}
    if not 0 <= value.get("percentage", 0) <= 1:
        raise UserError([at, "customerGets", "value"], "Value must be between 0.0 and 1.0", "VALUE_OUTSIDE_RANGE")
    ends_at = wanted.get("endsAt")
    if ends_at and parse_time_ms(ends_at) <= parse_time_ms(wanted["startsAt"]):
        raise UserError([at, "endsAt"], "Ends at must be after starts at", "END_DATE_BEFORE_START_DATE")
    customers = (wanted["context"].get("customers") or {}).get("add") or []
    if not all(_rest_id(customer) in shop.customers for customer in customers):
        raise UserError([at, "context", "customers", "add"], "Customer is invalid", "INVALID")
    if wanted["code"].lower() in shop.discounts:
        raise UserError([at, "code"], "Code must be unique. Please try a different code.", "TAKEN")
    discount = {"__typename": "DiscountCodeBasic", "endsAt": None, "usageLimit": None} | wanted
    node = {"id": gid("DiscountCodeNode", str(shop.next_id())), "codeDiscount": discount}
    shop.discounts[wanted["code"].lower()] = node
    record("create_discount", shop.domain, **wanted)
    return {"codeDiscountNode": node}


def _add_tags(shop: SandboxShop, args: Args, record: Record) -> Json:
    customer = shop.customers.get(_rest_id(args["id"]))
    if customer is None:
        raise UserError(["id"], "Customer does not exist")
    # As Shopify does: a comma splits, and a tag that is there stays once.
    new = [tag.strip() for text in args["tags"] for tag in text.split(",")]
    had = [tag for tag in customer.get("tags", "").split(", ") if tag]
    customer["tags"] = ", ".join(dict.fromkeys([*had, *new]))
    record("tag_customer", shop.domain, customer_id=_rest_id(args["id"]), tags=args["tags"])
    return {"node": {"id": args["id"]}}


def _webhooks(shop: SandboxShop, args: Args, record: Record) -> Json:
    every, start = list(shop.subscriptions.values()), int(args.get("after") or 0)
    end = start + args["first"]
    more = end < len(every)
    return {"nodes": every[start:end], "pageInfo": {"hasNextPage": more, "endCursor": str(end) if more else None}}


def _create_webhook(shop: SandboxShop, args: Args, record: Record) -> Json:
    topic, uri = args["topic"], args["webhookSubscription"].get("uri")
    if not uri:
        raise UserError(["webhookSubscription", "uri"], "Address can't be blank")
    if any((s["topic"], s["uri"]) == (topic, uri) for s in shop.subscriptions.values()):
        raise UserError(["webhookSubscription", "uri"], "Address for this topic has already been taken")
    made = {"id": gid("WebhookSubscription", str(shop.next_id())), "topic": topic, "uri": uri}
    shop.subscriptions[made["id"]] = made
    return {"webhookSubscription": made}


def _delete_webhook(shop: SandboxShop, args: Args, record: Record) -> Json:
    if shop.subscriptions.pop(args["id"], None) is None:
        raise UserError(["id"], "Webhook subscription does not exist")
    return {"deletedWebhookSubscriptionId": args["id"]}


def _rest_id(global_id: str) -> str:
    return global_id.rpartition("/")[2]


Resolver = Callable[[SandboxShop, Args, Record], Json]

_QUERIES: dict[str, Resolver] = {
    "shop": _shop,
    "orders": _orders,
    "codeDiscountNodeByCode": _discount_by_code,
    "webhookSubscriptions": _webhooks,
}
_MUTATIONS: dict[str, Resolver] = {
    "discountCodeBasicCreate": _create_discount,
    "tagsAdd": _add_tags,
    "webhookSubscriptionCreate": _create_webhook,
    "webhookSubscriptionDelete": _delete_webhook,
}
