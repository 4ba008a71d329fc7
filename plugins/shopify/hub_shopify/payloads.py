"""What events carry: orders, checkouts, carts, customers and the rest, whose they are, and what they say about consent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from hub import ConsentSignal, ConsentState, Identity, Money

Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
"""Shopify sends an empty string as readily as null for what is not known."""


class Payload(BaseModel):
    """The ground of all payloads; ids are text."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class LineItem(Payload):
    """One line of an order, checkout or cart; a custom item has no product, variant or SKU."""

    title: str
    quantity: int
    price: Money
    """Of one piece, before discounts."""
    product_id: Text = None
    variant_id: Text = None
    sku: Text = None


class Order(Payload):
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
    checkout_id: Text = None
    """Only in what came by webhook: the API does not tell it."""
    checkout_token: Text = None
    cart_token: Text = None
    total: Money
    discount_codes: list[str] = []
    line_items: list[LineItem] = []
    tags: list[str] = []
    accepts_email_marketing: bool = False
    paid_at: Moment | None = None
    fulfilled_at: Moment | None = None
    """Both only where the API was asked for payments and shipments: a webhook comes at the time and does not tell it."""
    cancelled_at: Moment | None = None
    created_at: Moment
    updated_at: Moment


class Redemption(Payload):
    """A discount code that was used for an order. Codes are in capitals, for the shop does not tell cases apart."""

    code: str
    order_id: str
    name: str
    email: Text = None
    phone: str | None = None
    customer_id: Text = None
    total: Money
    created_at: Moment


class Refund(Payload):
    """Money that went back for an order, or goods that came back without."""

    refund_id: str
    order_id: str
    name: Text = None
    total: Money | None = None
    """In the shop's currency; of the payment itself until the API was asked."""
    note: Text = None
    email: Text = None
    phone: str | None = None
    customer_id: Text = None
    processed_at: Moment


class Checkout(Payload):
    """A checkout; amounts are in the shop's own currency."""

    checkout_id: Text = None
    checkout_token: str
    """The token; where only the API told of the checkout, which gives no token, its id."""
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

    @property
    def known_by(self) -> str:
        """What names it in webhooks and in the API alike."""
        return self.checkout_id or self.checkout_token


class Cart(Payload):
    """A cart of the online store; it says nothing of whose it is. Its token is that of the later checkout and order."""

    cart_token: str
    line_items: list[LineItem] = []
    total: Money | None = None
    """The sum of the lines, in the shop's currency; an empty cart has none."""
    created_at: Moment
    updated_at: Moment


class Customer(Payload):
    """A customer. The consent states are Shopify's words (`subscribed`, `unsubscribed`, `pending`, …)."""

    customer_id: str
    email: Text = None
    phone: str | None = None
    first_name: Text = None
    last_name: Text = None
    tags: list[str] = []
    email_consent: Text = None
    email_consented_at: Moment | None = None
    """When they last said so: the same with every later change of anything else."""
    sms_consent: Text = None
    sms_consented_at: Moment | None = None
    created_at: Moment
    updated_at: Moment


class About(Payload):
    """Something about a customer that came with their id alone; the rest is asked for."""

    customer_id: str
    email: Text = None
    phone: str | None = None
    first_name: Text = None
    last_name: Text = None


class TagsChanged(About):
    """Tags that a customer got or lost."""

    added: list[str] = []
    removed: list[str] = []
    occurred_at: Moment


class SegmentChanged(About):
    """A customer joined or left a segment. `told` tells one joining from the next: Shopify gives no time of it."""

    segment_id: str
    told: str = ""


class ConsentChanged(Payload):
    """What a customer now says about marketing on one channel, in Shopify's word (`subscribed`, `unsubscribed`, …)."""

    customer_id: str
    channel: Literal["email", "sms"]
    email: Text = None
    phone: str | None = None
    state: Text = None
    opt_in_level: Text = None
    consented_at: Moment | None = None


class Variant(Payload):
    """A product's variant that can be bought again."""

    variant_id: str
    product_id: Text = None
    title: Text = None
    sku: Text = None
    price: Text = None
    """An amount in the shop's currency, which is not told."""
    quantity: int | None = None
    updated_at: Moment


class Uninstalled(Payload):
    """The app was removed from the shop."""

    shop: str
    told: str = ""
    removed_at: Moment | None = None


class PersonRequest(Payload):
    """A person asked the shop for their data, or for their erasure. `order_ids` are the orders it is about."""

    request_id: Text = None
    customer_id: Text = None
    email: Text = None
    phone: str | None = None
    order_ids: list[str] = []
    told: str = ""


class ShopRequest(Payload):
    """Everything of a shop is to be erased, two days after it removed the app."""

    shop: str
    told: str = ""


# -- whose it is -------------------------------------------------------------------------------------------------------


def buyer(payload: Order | Checkout) -> Identity:
    """Who placed or began it."""
    return Identity(
        email=payload.email,
        phone=payload.phone,
        vendor=payload.customer_id,
        first_name=payload.first_name,
        last_name=payload.last_name,
        language=payload.language,
    )


def person(payload: Customer | About) -> Identity:
    """Whom it is about."""
    return Identity(
        email=payload.email,
        phone=payload.phone,
        vendor=payload.customer_id,
        first_name=payload.first_name,
        last_name=payload.last_name,
    )


def reached(payload: Redemption | Refund | ConsentChanged | PersonRequest) -> Identity:
    """Whom it is about, where no name comes with it."""
    return Identity(email=payload.email, phone=payload.phone, vendor=payload.customer_id)


# -- what they agreed to -----------------------------------------------------------------------------------------------


def ticked(payload: Order | Checkout) -> Iterator[ConsentSignal]:
    """A ticked box grants; one left empty says nothing, for it may have been ticked long ago.

    It may have been ticked as early as when it all began, and is told again with every change since: whoever left in
    between has left.
    """
    if payload.accepts_email_marketing and payload.email:
        yield ConsentSignal("email", payload.email, ConsentState.GRANTED, "shopify_checkout", at=payload.created_at)
    if isinstance(payload, Checkout) and payload.accepts_sms_marketing and payload.sms_marketing_phone:
        number = payload.sms_marketing_phone
        yield ConsentSignal("sms", number, ConsentState.GRANTED, "shopify_checkout", at=payload.created_at)


_CONSENT_STATES = {"subscribed": ConsentState.GRANTED, "unsubscribed": ConsentState.REVOKED}


def consent_signal(
    channel: str, address: str | None, state: str | None, said_at: datetime | None
) -> Iterator[ConsentSignal]:
    """What Shopify knows of an address; states in between (`pending`, `not_subscribed`) say nothing."""
    if address and state and (meaning := _CONSENT_STATES.get(state.lower())):
        yield ConsentSignal(channel, address, meaning, "shopify_customer", at=said_at)


def stated(payload: Customer) -> Iterator[ConsentSignal]:
    """What Shopify knows of a customer, on both channels. A yes without a time is as old as the customer, a no is news."""
    told = [
        ("email", payload.email, payload.email_consent, payload.email_consented_at),
        ("sms", payload.phone, payload.sms_consent, payload.sms_consented_at),
    ]
    for channel, address, state, said_at in told:
        is_yes = state is not None and state.lower() == "subscribed"
        yield from consent_signal(channel, address, state, said_at or (payload.created_at if is_yes else None))


def changed(payload: ConsentChanged) -> Iterator[ConsentSignal]:
    """What Shopify knows of a customer, on the channel that changed."""
    address = payload.email if payload.channel == "email" else payload.phone
    yield from consent_signal(payload.channel, address, payload.state, payload.consented_at)
