"""Discount codes."""

from __future__ import annotations

from hub.clock import parse_time_ms
from hub.events import Json
from hub_shopify.sandbox.ids import gid, plain
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, UserError, found, page, unknown
from hub_shopify.sandbox.shop import Fields


def _discount_by_code(asked: Asked) -> Json:
    return asked.shop.discounts.get(asked.args["code"].lower())


def _discounts(asked: Asked) -> Json:
    every = [
        {"title": node["codeDiscount"]["title"], "updated_at": asked.now, **node}
        for node in asked.shop.discounts.values()
    ]
    hits = found(asked, every, _meets)
    return page([{"id": node["id"], "discount": node["codeDiscount"]} for node in hits], asked.args)


def _meets(node: Fields, term: Term) -> bool:
    if term.field == "title":
        return any(term.holds(word) for word in node["title"].split())
    raise unknown("discounts", term)


def _create_discount(asked: Asked) -> Json:
    shop, wanted = asked.shop, asked.args["basicCodeDiscount"]
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
    if not all(plain(customer) in shop.customers for customer in customers):
        raise UserError([at, "context", "customers", "add"], "Customer is invalid", "INVALID")
    segments = (wanted["context"].get("customerSegments") or {}).get("add") or []
    if not all(plain(segment) in shop.segments for segment in segments):
        raise UserError([at, "context", "customerSegments", "add"], "Segment is invalid", "INVALID")
    if wanted["code"].lower() in shop.discounts:
        raise UserError([at, "code"], "Code must be unique. Please try a different code.", "TAKEN")
    codes = {"nodes": [{"code": wanted["code"]}]}
    discount = {"__typename": "DiscountCodeBasic", "endsAt": None, "usageLimit": None, "codes": codes} | wanted
    node = {"id": gid("DiscountCodeNode", shop.next_id()), "codeDiscount": discount}
    shop.discounts[wanted["code"].lower()] = node
    asked.record("create_discount", shop.domain, **wanted)
    return {"codeDiscountNode": node}


QUERIES: dict[str, Resolver] = {"codeDiscountNodeByCode": _discount_by_code, "discountNodes": _discounts}
MUTATIONS: dict[str, Resolver] = {"discountCodeBasicCreate": _create_discount}
