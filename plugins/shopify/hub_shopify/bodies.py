"""From the bodies of Shopify's webhooks to payloads.

Most have the shape of Shopify's REST resources, those of events about one customer a shape of their own. Any field may be
missing: contact data of customers are left out where the app has no approval for them. (shopify.dev "Webhooks", API
version 2026-07, read 2026-11-22)
"""

from __future__ import annotations

from datetime import datetime

from hub import Delivery, Money, PayloadError, e164
from hub.events import Json
from hub_shopify.client import rest_id
from hub_shopify.payloads import (
    Cart,
    Checkout,
    ConsentChanged,
    Customer,
    LineItem,
    Order,
    PersonRequest,
    Refund,
    Variant,
)


def told_by(delivery: Delivery) -> str:
    """What tells one happening from the next where the body does not: the same over retries and doubled subscriptions."""
    headers = delivery.request.headers
    for name in ("shopify-event-id", "shopify-triggered-at"):
        if told := headers.get(f"x-{name}") or headers.get(name):
            return told
    return ""


def triggered_at(delivery: Delivery) -> datetime | None:
    """When Shopify says that it happened, however late it is told; None when it does not say so readably."""
    headers = delivery.request.headers
    said = headers.get("x-shopify-triggered-at") or headers.get("shopify-triggered-at") or ""
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return None
    return at if at.tzinfo else None


def order(raw: Json) -> Order:
    customer, address = raw.get("customer") or {}, raw.get("billing_address") or {}
    return Order(
        order_id=raw.get("id"),
        name=raw.get("name"),
        email=raw.get("email") or customer.get("email"),
        phone=_phone(address, raw.get("phone"), customer.get("phone")),
        customer_id=customer.get("id"),
        first_name=customer.get("first_name") or address.get("first_name"),
        last_name=customer.get("last_name") or address.get("last_name"),
        language=raw.get("customer_locale"),
        checkout_id=raw.get("checkout_id"),
        checkout_token=raw.get("checkout_token"),
        cart_token=raw.get("cart_token"),
        total=_money(raw, "total_price", raw.get("currency")),
        discount_codes=_codes(raw),
        line_items=_line_items(raw),
        tags=_tags(raw),
        accepts_email_marketing=raw.get("buyer_accepts_marketing") is True,
        cancelled_at=raw.get("cancelled_at"),
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def checkout(raw: Json) -> Checkout:
    customer, address = raw.get("customer") or {}, raw.get("billing_address") or {}
    return Checkout(
        checkout_id=raw.get("id"),
        checkout_token=raw.get("token"),
        cart_token=raw.get("cart_token"),
        email=raw.get("email") or customer.get("email"),
        phone=_phone(address, raw.get("phone"), customer.get("phone"), raw.get("sms_marketing_phone")),
        customer_id=customer.get("id"),
        first_name=customer.get("first_name") or address.get("first_name"),
        last_name=customer.get("last_name") or address.get("last_name"),
        language=raw.get("customer_locale"),
        total=_money(raw, "total_price", raw.get("currency")),
        recovery_url=raw.get("abandoned_checkout_url"),
        discount_codes=_codes(raw),
        line_items=_line_items(raw),
        accepts_email_marketing=raw.get("buyer_accepts_marketing") is True,
        accepts_sms_marketing=raw.get("buyer_accepts_sms_marketing") is True,
        sms_marketing_phone=_phone(address, raw.get("sms_marketing_phone")),
        completed_at=raw.get("completed_at"),
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def cart(raw: Json) -> Cart:
    lines, sums = [], []
    for item in raw.get("line_items") or ():
        unit, line = _shop_money(item, "original_price_set", "price_set"), _shop_money(item, "line_price_set")
        lines.append(
            LineItem(
                title=item.get("title"),
                quantity=item.get("quantity"),
                price=unit,
                product_id=item.get("product_id"),
                variant_id=item.get("variant_id"),
                sku=item.get("sku"),
            )
        )
        sums.append(line)
    total = Money(amount_minor=sum(m.amount_minor for m in sums), currency=sums[0].currency) if sums else None
    return Cart(
        cart_token=raw.get("token") or raw.get("id"),
        line_items=lines,
        total=total,
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def customer(raw: Json) -> Customer:
    email, sms = raw.get("email_marketing_consent") or {}, raw.get("sms_marketing_consent") or {}
    return Customer(
        customer_id=raw.get("id"),
        email=raw.get("email"),
        phone=_phone(raw.get("default_address") or {}, raw.get("phone")),
        first_name=raw.get("first_name"),
        last_name=raw.get("last_name"),
        tags=_tags(raw),
        email_consent=email.get("state"),
        email_consented_at=email.get("consent_updated_at"),
        sms_consent=sms.get("state"),
        sms_consented_at=sms.get("consent_updated_at"),
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def refund(raw: Json) -> Refund:
    """The money of its transactions that went through; one that only took goods back has none."""
    moved = [t for t in raw.get("transactions") or () if t.get("kind") == "refund" and t.get("status") == "success"]
    sums = [_money(t, "amount", t.get("currency")) for t in moved]
    same = len({m.currency for m in sums}) == 1
    total = Money(amount_minor=sum(m.amount_minor for m in sums), currency=sums[0].currency) if same else None
    return Refund(
        refund_id=raw.get("id"),
        order_id=raw.get("order_id"),
        total=total,
        note=raw.get("note"),
        processed_at=raw.get("processed_at") or raw.get("created_at"),
    )


def email_consent(raw: Json) -> ConsentChanged:
    consent = raw.get("email_marketing_consent") or {}
    return ConsentChanged(
        customer_id=raw.get("customer_id"),
        channel="email",
        email=raw.get("email_address"),
        state=consent.get("state"),
        opt_in_level=consent.get("opt_in_level"),
        consented_at=consent.get("consent_updated_at"),
    )


def sms_consent(raw: Json) -> ConsentChanged:
    consent = raw.get("sms_marketing_consent") or {}
    return ConsentChanged(
        customer_id=raw.get("id"),
        channel="sms",
        phone=_phone({}, raw.get("phone")),
        state=consent.get("state"),
        opt_in_level=consent.get("opt_in_level"),
        consented_at=consent.get("consent_updated_at"),
    )


def variant(raw: Json) -> Variant:
    return Variant(
        variant_id=raw.get("id"),
        product_id=raw.get("product_id"),
        title=raw.get("title"),
        sku=raw.get("sku"),
        price=raw.get("price"),
        quantity=raw.get("inventory_quantity"),
        updated_at=raw.get("updated_at"),
    )


def person_request(raw: Json, orders: str, told: str) -> PersonRequest:
    """`customer` may hold nothing but an e-mail address. (shopify.dev "Privacy law compliance", read 2026-11-22)"""
    about = raw.get("customer") or {}
    return PersonRequest(
        request_id=(raw.get("data_request") or {}).get("id"),
        customer_id=about.get("id"),
        email=about.get("email"),
        phone=_phone({}, about.get("phone")),
        order_ids=raw.get(orders) or [],
        told=told,
    )


def customer_of(raw: Json, field: str) -> str:
    """The id of the customer an event is about, of the REST shape. Raises PayloadError."""
    given = raw.get(field)
    if not isinstance(given, str) or not rest_id(given):
        raise PayloadError(f"`{field}` is missing, or is no id")
    return rest_id(given)


# -- parts -------------------------------------------------------------------------------------------------------------


def _money(raw: Json, field: str, currency: Json) -> Money:
    amount = raw.get(field)
    if not (isinstance(amount, str) and isinstance(currency, str)):
        raise PayloadError(f"`{field}` or `currency` is missing, or is no text")
    return Money.of(amount, currency)


def _shop_money(raw: Json, *fields: str) -> Money:
    for field in fields:
        if amount := (raw.get(field) or {}).get("shop_money"):
            return _money(amount, "amount", amount.get("currency_code"))
    raise PayloadError(f"`{fields[-1]}` is missing")


def _phone(address: Json, *numbers: Json) -> str | None:
    """The first number that is one. The address's country helps those written without it."""
    parsed = (e164(number, address.get("country_code")) for number in numbers if isinstance(number, str))
    return next((number for number in parsed if number), None)


def _codes(raw: Json) -> list[str]:
    return [applied["code"] for applied in raw.get("discount_codes") or () if applied.get("code")]


def _tags(raw: Json) -> list[str]:
    return [tag.strip() for tag in (raw.get("tags") or "").split(",") if tag.strip()]


def _line_items(raw: Json) -> list[LineItem]:
    return [
        LineItem(
            title=item.get("title"),
            quantity=item.get("quantity"),
            price=_money(item, "price", raw.get("currency")),
            product_id=item.get("product_id"),
            variant_id=item.get("variant_id"),
            sku=item.get("sku"),
        )
        for item in raw.get("line_items") or ()
    ]
