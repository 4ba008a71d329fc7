"""Questions to the shop: who a customer is, what they ordered, how a checkout stands. They change nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from hub import ActionContext, Effect, Money, parse_duration_ms
from hub_shopify import nodes
from hub_shopify.actions.inputs import CustomerId, Duration, Input, PhoneText
from hub_shopify.api.checkouts import CHECKOUT_PAGE
from hub_shopify.api.customers import CUSTOMER_BY
from hub_shopify.api.orders import ORDER_PAGE, ORDERS_A_PAGE
from hub_shopify.client import OBJECT, call, gid, rest_id, rfc3339, search_term
from hub_shopify.connector import shopify
from hub_shopify.payloads import Checkout, Order

# An order with ten lines is about 60 points, see `hub_shopify.api.orders`.
_PAGE_COST = 60 * ORDERS_A_PAGE


class Whom(Input):
    """Somebody by their id, e-mail address or phone number; the first that is given counts."""

    customer_id: CustomerId | None = None
    email: str | None = Field(None, pattern=r"^\S+@\S+$")
    phone: PhoneText | None = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not (self.customer_id or self.email or self.phone):
            raise ValueError("give customer_id, email or phone")
        return self


# -- a customer --------------------------------------------------------------------------------------------------------


class FoundCustomer(BaseModel):
    """Empty but for `found` when there is no such customer. The consent states are Shopify's words."""

    found: bool
    customer_id: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    tags: list[str] = []
    email_consent: str | None = None
    sms_consent: str | None = None
    orders: int = 0
    spent: Money | None = None


@shopify.action(
    "find_customer",
    title="Find a customer",
    input=Whom,
    output=FoundCustomer,
    effect=Effect.IDEMPOTENT,
    scopes=["read_customers"],
    cost=5 * OBJECT,
)
async def find_customer(ctx: ActionContext, input: Whom) -> FoundCustomer:
    """Who has this id, e-mail address or phone number."""
    identifier: dict[str, Any] = {"phoneNumber": input.phone}
    if input.customer_id:
        identifier = {"id": gid("Customer", input.customer_id)}
    elif input.email:
        identifier = {"emailAddress": input.email}
    node = (await call(ctx, CUSTOMER_BY, {"identifier": identifier})).customer_by_identifier
    if node is None:
        return FoundCustomer(found=False)
    known = nodes.customer(node).model_dump(exclude={"created_at", "updated_at"})
    return FoundCustomer(found=True, orders=node.number_of_orders, spent=node.amount_spent.money, **known)


@find_customer.simulate
def _pretend_customer(input: Whom, now_ms: int) -> FoundCustomer:
    return FoundCustomer(found=False)


@find_customer.describe
def _describe_customer(input: Whom) -> str:
    return "look up a customer"


# -- their orders ------------------------------------------------------------------------------------------------------


class OrdersInput(Input):
    customer_id: CustomerId = Field(description="The customer's id: {{ trigger.customer_id }}")
    within: Duration | None = Field(None, description="Only orders of the last: 90d")


class FoundOrders(BaseModel):
    """The newest eight, newest first; `more` says whether there are others."""

    count: int
    more: bool
    orders: list[Order]


@shopify.action(
    "find_orders",
    title="Find the orders of a customer",
    input=OrdersInput,
    output=FoundOrders,
    effect=Effect.IDEMPOTENT,
    scopes=["read_orders"],
    cost=_PAGE_COST,
)
async def find_orders(ctx: ActionContext, input: OrdersInput) -> FoundOrders:
    """The newest orders of a customer. Without an approval of its own an app sees those of the last 60 days."""
    query = search_term("customer_id", rest_id(input.customer_id))
    if input.within:
        since_ms = ctx.now_ms - parse_duration_ms(input.within)
        query += f" created_at:>='{rfc3339(datetime.fromtimestamp(since_ms / 1000, UTC))}'"
    variables = {"query": query, "first": ORDERS_A_PAGE, "after": None, "sort": "CREATED_AT", "reverse": True}
    page = (await call(ctx, ORDER_PAGE, variables)).orders
    # Shopify searches all text for a term it does not know: believe only what the orders say themselves.
    found = [order for order in map(nodes.order, page.nodes) if order.customer_id == rest_id(input.customer_id)]
    return FoundOrders(count=len(found), more=page.page_info.has_next_page, orders=found)


@find_orders.simulate
def _pretend_orders(input: OrdersInput, now_ms: int) -> FoundOrders:
    return FoundOrders(count=0, more=False, orders=[])


@find_orders.describe
def _describe_orders(input: OrdersInput) -> str:
    return f"look up the orders of customer {input.customer_id}"


# -- a checkout --------------------------------------------------------------------------------------------------------


class CheckoutInput(Input):
    checkout_id: str = Field(pattern=r"^[0-9]+$", description="{{ trigger.checkout_id }}")


class FoundCheckout(BaseModel):
    """How a checkout stands. Shopify lists it once its buyer said how to reach them."""

    found: bool
    completed: bool = False
    checkout: Checkout | None = None


@shopify.action(
    "find_checkout",
    title="Find an abandoned checkout",
    input=CheckoutInput,
    output=FoundCheckout,
    effect=Effect.IDEMPOTENT,
    scopes=["read_orders"],
    cost=60 * OBJECT,
)
async def find_checkout(ctx: ActionContext, input: CheckoutInput) -> FoundCheckout:
    """Whether a checkout was completed meanwhile, and what is in it now."""
    variables = {"query": search_term("id", input.checkout_id), "first": 1, "after": None}
    page = (await call(ctx, CHECKOUT_PAGE, variables)).abandoned_checkouts
    found = [checkout for checkout in map(nodes.checkout, page.nodes) if checkout.checkout_id == input.checkout_id]
    if not found:
        return FoundCheckout(found=False)
    return FoundCheckout(found=True, completed=found[0].completed_at is not None, checkout=found[0])


@find_checkout.simulate
def _pretend_checkout(input: CheckoutInput, now_ms: int) -> FoundCheckout:
    return FoundCheckout(found=False)


@find_checkout.describe
def _describe_checkout(input: CheckoutInput) -> str:
    return f"look up checkout {input.checkout_id}"
