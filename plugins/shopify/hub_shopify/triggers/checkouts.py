"""What happens in a shop: checkouts, orders and customers, and the checkout that was left behind.

Bodies of webhooks have the shape of Shopify's REST resources; any field may be missing, for contact data of customers are
left out where the app has no approval for them. (shopify.dev "Webhooks", API version 2026-07, read 2026-11-22)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Identity, Money, PayloadError, e164
from hub.events import Json
from hub_shopify.client import ORDERS, call, rfc3339, search_term
from hub_shopify.connector import shopify

QUIET_S = 30 * 60

Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
"""Shopify sends an empty string as readily as null for what is not known."""


# -- payloads ----------------------------------------------------------------------------------------------------------


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class LineItem(_Payload):
    """One line of an order or checkout; a custom item has no product, variant or SKU."""

    title: str
    quantity: int
    price: Money
    """Of one piece, before discounts."""
    product_id: Text = None
    variant_id: Text = None
    sku: Text = None


class Order(_Payload):
    """An order; amounts are in the shop's own currency."""

    order_id: str
    name: str
    """As people see it: `#1017`."""
    email: Text = None
    phone: str | None = None
    customer_id: Text = None
    first_name: Text = None
    last_name: Text = None
    language: Text = None
    checkout_token: Text = None
    cart_token: Text = None
    total: Money
    discount_codes: list[str] = []
    line_items: list[LineItem] = []
    tags: list[str] = []
    accepts_email_marketing: bool = False
    created_at: Moment
    updated_at: Moment


class Checkout(_Payload):
    """A checkout; amounts are in the shop's own currency."""

    checkout_token: str
    cart_token: Text = None
    email: Text = None
    phone: str | None = None
    customer_id: Text = None
    first_name: Text = None
    last_name: Text = None
    language: Text = None
    total: Money
    recovery_url: Text = None
    """Leads the buyer back into this checkout."""
    discount_codes: list[str] = []
    line_items: list[LineItem] = []
    accepts_email_marketing: bool = False
    accepts_sms_marketing: bool = False
    sms_marketing_phone: str | None = None
    completed_at: Moment | None = None
    created_at: Moment
    updated_at: Moment


class Customer(_Payload):
    """A customer. The consent states are Shopify's words (`subscribed`, `unsubscribed`, `pending`, …)."""

    customer_id: str
    email: Text = None
    phone: str | None = None
    first_name: Text = None
    last_name: Text = None
    tags: list[str] = []
    email_consent: Text = None
    sms_consent: Text = None
    created_at: Moment
    updated_at: Moment


# -- from Shopify's fields to ours -------------------------------------------------------------------------------------


def _order(raw: Json) -> Order:
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
        checkout_token=raw.get("checkout_token"),
        cart_token=raw.get("cart_token"),
        total=_money(raw, "total_price", raw.get("currency")),
        discount_codes=_codes(raw),
        line_items=_line_items(raw),
        tags=_tags(raw),
        accepts_email_marketing=raw.get("buyer_accepts_marketing") is True,
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def _checkout(raw: Json) -> Checkout:
    customer, address = raw.get("customer") or {}, raw.get("billing_address") or {}
    return Checkout(
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


def _customer(raw: Json) -> Customer:
    return Customer(
        customer_id=raw.get("id"),
        email=raw.get("email"),
        phone=_phone(raw.get("default_address") or {}, raw.get("phone")),
        first_name=raw.get("first_name"),
        last_name=raw.get("last_name"),
        tags=_tags(raw),
        email_consent=(raw.get("email_marketing_consent") or {}).get("state"),
        sms_consent=(raw.get("sms_marketing_consent") or {}).get("state"),
        created_at=raw.get("created_at"),
        updated_at=raw.get("updated_at"),
    )


def _money(raw: Json, field: str, currency: Json) -> Money:
    amount = raw.get(field)
    if not (isinstance(amount, str) and isinstance(currency, str)):
        raise PayloadError(f"`{field}` or `currency` is missing, or is no text")
    return Money.of(amount, currency)


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


# -- whose it is, and what they agreed to ------------------------------------------------------------------------------


def _buyer(payload: Order | Checkout) -> Identity:
    return Identity(
        email=payload.email,
        phone=payload.phone,
        vendor=payload.customer_id,
        first_name=payload.first_name,
        last_name=payload.last_name,
        language=payload.language,
    )


def _person(payload: Customer) -> Identity:
    return Identity(
        email=payload.email,
        phone=payload.phone,
        vendor=payload.customer_id,
        first_name=payload.first_name,
        last_name=payload.last_name,
    )


def _ticked(payload: Order | Checkout) -> Iterator[ConsentSignal]:
    """A ticked box grants; one left empty says nothing, for it may have been ticked long ago."""
    if payload.accepts_email_marketing and payload.email:
        yield ConsentSignal("email", payload.email, ConsentState.GRANTED, "shopify_checkout")
    if isinstance(payload, Checkout) and payload.accepts_sms_marketing and payload.sms_marketing_phone:
        yield ConsentSignal("sms", payload.sms_marketing_phone, ConsentState.GRANTED, "shopify_checkout")


_CONSENT_STATES = {"subscribed": ConsentState.GRANTED, "unsubscribed": ConsentState.REVOKED}


def _stated(payload: Customer) -> Iterator[ConsentSignal]:
    """What Shopify knows of the customer; states in between (`pending`, `not_subscribed`) say nothing."""
    said = (("email", payload.email, payload.email_consent), ("sms", payload.phone, payload.sms_consent))
    for channel, address, state in said:
        if address and state and (meaning := _CONSENT_STATES.get(state.lower())):
            yield ConsentSignal(channel, address, meaning, "shopify_customer")


# -- the triggers ------------------------------------------------------------------------------------------------------


@shopify.trigger(
    "order_created",
    payload=Order,
    topic="orders/create",
    sample="order_created.json",
    fact=lambda order: order.order_id,
    subject=_buyer,
    occurred_at=lambda order: order.created_at,
    correlate=["order_id", "checkout_token"],
    consent=_ticked,
)
def order_created(delivery: Delivery) -> Iterable[Order]:
    """An order was placed."""
    return [_order(delivery.json())]


@shopify.trigger(
    "order_paid",
    payload=Order,
    topic="orders/paid",
    sample="order_paid.json",
    fact=lambda order: order.order_id,
    subject=_buyer,
    occurred_at=lambda order: order.updated_at,
    correlate=["order_id", "checkout_token"],
    consent=_ticked,
)
def order_paid(delivery: Delivery) -> Iterable[Order]:
    """An order was paid in full."""
    return [_order(delivery.json())]


def _checkout_state(checkout: Checkout) -> str:
    return f"{checkout.checkout_token}:{checkout.updated_at.isoformat()}"


@shopify.trigger(
    "checkout_updated",
    payload=Checkout,
    topic=["checkouts/create", "checkouts/update"],
    sample="checkout_updated.json",
    fact=_checkout_state,
    subject=_buyer,
    occurred_at=lambda checkout: checkout.updated_at,
    correlate=["checkout_token"],
    consent=_ticked,
)
def checkout_updated(delivery: Delivery) -> Iterable[Checkout]:
    """A checkout was started or changed, and is not completed."""
    checkout = _checkout(delivery.json())
    return [] if checkout.completed_at else [checkout]


@shopify.trigger(
    "checkout_completed",
    payload=Checkout,
    topic=["checkouts/create", "checkouts/update"],
    sample="checkout_completed.json",
    fact=lambda checkout: checkout.checkout_token,
    subject=_buyer,
    occurred_at=lambda checkout: checkout.completed_at,
    correlate=["checkout_token"],
    consent=_ticked,
)
def checkout_completed(delivery: Delivery) -> Iterable[Checkout]:
    """A checkout became an order."""
    checkout = _checkout(delivery.json())
    return [checkout] if checkout.completed_at else []


@shopify.trigger(
    "customer_created",
    payload=Customer,
    topic="customers/create",
    sample="customer_created.json",
    fact=lambda customer: customer.customer_id,
    subject=_person,
    occurred_at=lambda customer: customer.created_at,
    correlate=["customer_id"],
    consent=_stated,
)
def customer_created(delivery: Delivery) -> Iterable[Customer]:
    """A customer was created."""
    return [_customer(delivery.json())]


@shopify.trigger(
    "customer_updated",
    payload=Customer,
    topic="customers/update",
    sample="customer_updated.json",
    fact=lambda customer: f"{customer.customer_id}:{customer.updated_at.isoformat()}",
    subject=_person,
    occurred_at=lambda customer: customer.updated_at,
    correlate=["customer_id"],
    consent=_stated,
)
def customer_updated(delivery: Delivery) -> Iterable[Customer]:
    """A customer was changed: name, address, tags or marketing consent."""
    return [_customer(delivery.json())]


# -- the checkout that was left behind ---------------------------------------------------------------------------------


def _watched(data: Mapping[str, Json]) -> str | None:
    """The checkout to watch, or to stop watching; an open one of nobody we could reach is left out."""
    ends_the_watch = "order_id" in data or data.get("completed_at") is not None
    reachable = data.get("email") or data.get("phone") or data.get("customer_id")
    return data.get("checkout_token") if ends_the_watch or reachable else None


checkout_abandoned = shopify.quiet_trigger(
    "checkout_abandoned",
    title="A checkout was left behind",
    payload=Checkout,
    # Once per checkout: who comes back to it and leaves again has not abandoned a second one.
    fact=lambda checkout: checkout.checkout_token,
    source=["checkout_updated"],
    cancel=["checkout_completed", "order_created", "order_paid"],
    key=_watched,
    after_s=QUIET_S,
    subject=_buyer,
    correlate=["checkout_token"],
)


@checkout_abandoned.confirm
async def still_abandoned(ctx: ActionContext, checkout: Checkout) -> bool:
    """Whether neither this checkout nor, since it began, its buyer has led to an order."""
    of_checkout = await call(ctx, ORDERS, {"query": search_term("checkout_token", checkout.checkout_token)})
    # Shopify searches all text for a term it does not know: believe only what the orders say themselves.
    if any(order.checkout_token == checkout.checkout_token for order in of_checkout.orders.nodes):
        return False
    if checkout.customer_id:
        buyer = search_term("customer_id", checkout.customer_id)
    elif checkout.email:
        buyer = search_term("email", checkout.email)
    else:
        return True
    by_buyer = await call(ctx, ORDERS, {"query": f"{buyer} created_at:>='{rfc3339(checkout.created_at)}'"})
    return not by_buyer.orders.nodes
