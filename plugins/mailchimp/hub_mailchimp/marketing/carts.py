"""Carts and orders of a store at Mailchimp: putting them there, and noticing a cart that was left behind.

A store is bound to one audience; its products must exist before a cart or an order names them. Their ids are the shop's
own, so that one that is there already is changed instead. (Swagger 3.0.55, `/ecommerce`.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hub import ActionContext, Chosen, Delivery, Effect, Identity, Json, Money, NotFound, Page, Rejected
from hub_mailchimp.marketing.client import Answer, everything, pages, part, read
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.triggers import MaybeMoment, Moment, Text

QUIET_S = 3600
_EVERY_S, _OVERLAP_S = 600, 600


# -- the cart that was left behind -------------------------------------------------------------------------------------


class CartLine(Answer):
    """One line of a cart."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    product_id: str
    product_variant_id: Text = None
    title: Text = Field(None, validation_alias="product_title")
    quantity: int = 1
    price: str
    """Of one piece, in the cart's currency, as Mailchimp writes it."""


class Cart(Answer):
    """An open cart of a store."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    store_id: str
    cart_id: str
    customer_id: str
    email: str
    first_name: Text = None
    last_name: Text = None
    checkout_url: Text = None
    currency: str
    total: str
    """In `currency`, as Mailchimp writes it."""
    lines: Sequence[CartLine] = ()
    campaign_id: Text = None
    updated_at: Moment


class _Customer(Answer):
    id: str
    email_address: str = ""
    first_name: Text = None
    last_name: Text = None


class _Found(Answer):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str
    customer: _Customer
    checkout_url: Text = None
    currency_code: str
    order_total: str
    lines: Sequence[CartLine] = ()
    campaign_id: Text = None
    updated_at: Moment


class _Store(Answer):
    id: str
    list_id: str = ""


class _Order(Answer):
    processed_at_foreign: MaybeMoment = None


def _cart(store: str, found: _Found) -> Cart:
    return Cart(
        store_id=store,
        cart_id=found.id,
        customer_id=found.customer.id,
        email=found.customer.email_address,
        first_name=found.customer.first_name,
        last_name=found.customer.last_name,
        checkout_url=found.checkout_url,
        currency=found.currency_code,
        total=found.order_total,
        lines=found.lines,
        campaign_id=found.campaign_id,
        updated_at=found.updated_at,
    )


def _buyer(cart: Cart) -> Identity:
    return Identity(email=cart.email, first_name=cart.first_name, last_name=cart.last_name)


@mailchimp.trigger(
    "cart_updated",
    payload=Cart,
    sample="cart_updated.json",
    fact=lambda cart: f"{cart.store_id}:{cart.cart_id}:{int(cart.updated_at.timestamp())}",
    subject=_buyer,
    occurred_at=lambda cart: cart.updated_at,
    correlate=["store_id", "cart_id"],
)
def cart_updated(delivery: Delivery) -> Iterable[Cart]:
    """A cart was filled or changed."""
    return [Cart.model_validate(delivery.json())]


@mailchimp.poll("cart_updated", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def carts_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Cart]]:
    """Carts that changed since, of the stores of the connection's audiences. Mailchimp lists carts whole, unfiltered."""
    chosen = ctx.settings.get("lists", "").split()
    for store in await everything(ctx, "/ecommerce/stores", "stores", _Store):
        if chosen and store.list_id not in chosen:
            continue
        async for found in pages(ctx, f"/ecommerce/stores/{part(store.id)}/carts", "carts", _Found):
            yield Page([_cart(store.id, one) for one in found if one.updated_at.timestamp() * 1000 > since_ms], "")


def _watched(data: Mapping[str, Json]) -> str | None:
    return f"{data['store_id']}:{data['cart_id']}" if data.get("email") else None


cart_abandoned = mailchimp.quiet_trigger(
    "cart_abandoned",
    title="A cart was left behind",
    payload=Cart,
    # Once per cart: who comes back to it and leaves again has not abandoned a second one.
    fact=lambda cart: f"{cart.store_id}:{cart.cart_id}",
    source=["cart_updated"],
    key=_watched,
    after_s=QUIET_S,
    subject=_buyer,
    correlate=["store_id", "cart_id"],
)


@cart_abandoned.confirm
async def still_abandoned(ctx: ActionContext, cart: Cart) -> bool:
    """Whether the cart is still there, unchanged, and its buyer has ordered nothing since: shops delete what was bought."""
    store = f"/ecommerce/stores/{part(cart.store_id)}"
    try:
        found = read(_Found, await ctx.http.request("GET", f"{store}/carts/{part(cart.cart_id)}"))
    except NotFound:
        return False
    if found.updated_at != cart.updated_at:
        return False
    async for orders in pages(ctx, f"{store}/orders", "orders", _Order, {"customer_id": cart.customer_id}):
        if any(o.processed_at_foreign and o.processed_at_foreign >= cart.updated_at for o in orders):
            return False
    return True


# -- putting carts and orders there ------------------------------------------------------------------------------------


def _money(value: Any) -> Any:  # the input of a validator may be anything
    return Money.parse(value) if isinstance(value, str) else value


MoneyText = Annotated[Money, BeforeValidator(_money)]
# It becomes part of an address.
ShopId = Annotated[str, Field(max_length=50, pattern=r"^[A-Za-z0-9_:-][A-Za-z0-9_.:-]*$")]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Line(_Input):
    """One line; `line_id` is the shop's own id of it."""

    line_id: ShopId
    product_id: ShopId
    product_variant_id: ShopId
    quantity: int = Field(1, ge=1)
    price: MoneyText = Field(description="Of one piece: 19.90 EUR")


class _Basket(_Input):
    store_id: Annotated[str, Field(min_length=1), Chosen("stores")]
    customer_id: ShopId = Field(description="The shop's id of the customer")
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    first_name: str | None = None
    last_name: str | None = None
    total: MoneyText = Field(description="What is to be paid: 59.80 EUR")
    lines: list[Line] = Field(min_length=1)
    campaign_id: str | None = Field(None, description="The campaign that led here")

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        if {line.price.currency for line in self.lines} != {self.total.currency}:
            raise ValueError(f"the lines are not priced in {self.total.currency}, the currency of the total")
        return self


class CartInput(_Basket):
    """A cart as it is now."""

    cart_id: ShopId
    checkout_url: str | None = Field(None, description="Leads the buyer back; Mailchimp's own cart mail needs it")


class OrderInput(_Basket):
    """An order as it is now. With `cart_id` the cart that it came of is taken away."""

    order_id: ShopId
    cart_id: ShopId | None = None
    financial_status: str | None = Field(None, description="Such as paid, pending, refunded, cancelled")
    fulfillment_status: str | None = None
    processed_at: AwareDatetime | None = None


class PutThere(BaseModel):
    """What is at Mailchimp now."""

    store_id: str
    id: str


async def _put(ctx: ActionContext, path: str, id: str, body: dict[str, Json]) -> None:
    """Create by the shop's id; what is there already is changed. Raises the refusal of the creation where it is not."""
    try:
        await ctx.http.request("POST", path, json=body)
    except Rejected as refused:
        # An id that is taken is refused with 400, in words that may change: try instead of reading them.
        if refused.status != 400:
            raise
        try:
            await ctx.http.request("PATCH", f"{path}/{id}", json=_changes(body))
        except NotFound:
            raise refused from None


def _changes(body: Mapping[str, Json]) -> dict[str, Json]:
    """The same without what cannot be changed: ids, and whose it is."""
    changed = {name: value for name, value in body.items() if name != "id"}
    changed["customer"] = {n: v for n, v in body["customer"].items() if n not in ("id", "email_address")}
    changed["lines"] = [{name: value for name, value in line.items() if name != "id"} for line in body["lines"]]
    return changed


def _basket(input: _Basket, id: str) -> dict[str, Json]:
    names = {"first_name": input.first_name, "last_name": input.last_name}
    customer = {"id": input.customer_id, "email_address": input.email, **_given(names)}
    return {
        "id": id,
        # False makes no subscriber of them, and leaves who is one as they are.
        "customer": {**customer, "opt_in_status": False},
        "currency_code": input.total.currency,
        "order_total": _number(input.total),
        "lines": [
            {
                "id": line.line_id,
                "product_id": line.product_id,
                "product_variant_id": line.product_variant_id,
                "quantity": line.quantity,
                "price": _number(line.price),
            }
            for line in input.lines
        ],
        **_given({"campaign_id": input.campaign_id}),
    }


def _given(values: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in values.items() if value is not None}


def _number(money: Money) -> float:
    return float(Decimal(str(money).split()[0]))


@mailchimp.action("upsert_cart", title="Put a cart", input=CartInput, output=PutThere, effect=Effect.IDEMPOTENT)
async def upsert_cart(ctx: ActionContext, input: CartInput) -> PutThere:
    """Put a cart into a store, or change the one of this id."""
    body = {**_basket(input, input.cart_id), **_given({"checkout_url": input.checkout_url})}
    await _put(ctx, f"/ecommerce/stores/{part(input.store_id)}/carts", input.cart_id, body)
    return PutThere(store_id=input.store_id, id=input.cart_id)


@upsert_cart.simulate
def _pretend_cart(input: CartInput, now_ms: int) -> PutThere:
    return PutThere(store_id=input.store_id, id=input.cart_id)


@upsert_cart.describe
def _describe_cart(input: CartInput) -> str:
    return f"put cart {input.cart_id} of {input.total} into store {input.store_id}"


@mailchimp.action("upsert_order", title="Put an order", input=OrderInput, output=PutThere, effect=Effect.IDEMPOTENT)
async def upsert_order(ctx: ActionContext, input: OrderInput) -> PutThere:
    """Put an order into a store, or change the one of this id, and take the cart away that it came of."""
    more = {
        "financial_status": input.financial_status,
        "fulfillment_status": input.fulfillment_status,
        "processed_at_foreign": input.processed_at.isoformat() if input.processed_at else None,
    }
    store = f"/ecommerce/stores/{part(input.store_id)}"
    await _put(ctx, f"{store}/orders", input.order_id, {**_basket(input, input.order_id), **_given(more)})
    if input.cart_id:
        with suppress(NotFound):  # it may have been taken away before
            await ctx.http.request("DELETE", f"{store}/carts/{input.cart_id}")
    return PutThere(store_id=input.store_id, id=input.order_id)


@upsert_order.simulate
def _pretend_order(input: OrderInput, now_ms: int) -> PutThere:
    return PutThere(store_id=input.store_id, id=input.order_id)


@upsert_order.describe
def _describe_order(input: OrderInput) -> str:
    return f"put order {input.order_id} of {input.total} into store {input.store_id}"
