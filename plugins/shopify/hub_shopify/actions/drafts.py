"""Draft orders: an offer put together for a customer, and its invoice sent by the shop."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from hub import ActionContext, Chosen, Effect, Message, Money
from hub_shopify.actions.inputs import (
    CustomerId,
    DraftId,
    Input,
    MoneyText,
    Tag,
    begun_at,
    check_currency,
    digits,
    not_found,
)
from hub_shopify.api.drafts import DRAFT, DRAFT_CREATE, DRAFTS, INVOICE_SEND, DraftNode
from hub_shopify.client import MUTATION, OBJECT, call, gid, rest_id, search_term
from hub_shopify.connector import shopify

# How far Shopify's clock may be behind the hub's.
_CLOCKS = timedelta(minutes=2)

# -- the draft ---------------------------------------------------------------------------------------------------------


class DraftLine(Input):
    """Either a variant of the shop, or a title and a price of one's own."""

    variant_id: Annotated[str, Chosen("variants")] | None = None
    title: str | None = Field(None, max_length=255)
    price: MoneyText | None = Field(None, description="Of one piece: 5.00 EUR")
    quantity: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.variant_id is None) == (self.title is None) or (self.title is None) != (self.price is None):
            raise ValueError("give either variant_id, or title and price")
        return self


class DraftInput(Input):
    customer_id: CustomerId | None = None
    email: str | None = Field(None, pattern=r"^\S+@\S+$")
    lines: list[DraftLine] = Field(min_length=1, max_length=250)
    discount_code: Annotated[str, Chosen("discounts")] | None = Field(None, description="A code of the shop")
    note: str | None = Field(None, max_length=1000)
    tags: list[Tag] = Field([], max_length=200)


class DraftOutput(BaseModel):
    """`invoice_url` leads to a checkout of the draft; empty while Shopify has none."""

    draft_order_id: str
    name: str
    invoice_url: str | None = None
    total: Money


@shopify.action(
    "create_draft_order",
    title="Create a draft order",
    input=DraftInput,
    output=DraftOutput,
    effect=Effect.RECONCILABLE,
    scopes=["write_draft_orders"],
    cost=MUTATION + 4 * OBJECT,
)
async def create_draft_order(ctx: ActionContext, input: DraftInput) -> DraftOutput:
    """Put a draft order together. Nobody is told of it; `send_invoice` does that. Raises Rejected."""
    await check_currency(ctx, "prices are", *(line.price for line in input.lines))
    answer = await call(ctx, DRAFT_CREATE, {"input": _draft(ctx, input)})
    return _drafted(answer.draft_order_create.draft_order)


@create_draft_order.lookup
async def find_draft(ctx: ActionContext, input: DraftInput) -> DraftOutput | None:
    """The draft that an earlier attempt made, by its tag."""
    mark = draft_mark(ctx.reference)
    answer = await call(ctx, DRAFTS, {"query": search_term("tag", mark)})
    found = (node for node in (*answer.tagged.nodes, *answer.newest.nodes) if mark in node.tags)
    return next(map(_drafted, found), None)


@create_draft_order.simulate
def _pretend_draft(input: DraftInput, now_ms: int) -> DraftOutput:
    return DraftOutput(draft_order_id="0", name="#D0", total=Money(amount_minor=0, currency="EUR"))


@create_draft_order.describe
def _describe_draft(input: DraftInput) -> str:
    pieces = sum(line.quantity for line in input.lines)
    return f"create a draft order of {pieces} piece{'s' if pieces > 1 else ''}"


def draft_mark(reference: str) -> str:
    """The tag that names the effect; short, for Shopify bounds the length of tags."""
    return f"hub-{hashlib.sha256(reference.encode()).hexdigest()[:20]}"


def _draft(ctx: ActionContext, input: DraftInput) -> dict[str, Any]:  # the mutation's input, as JSON
    wanted: dict[str, Any] = {"lineItems": [_line(line) for line in input.lines]}
    wanted["tags"] = [*input.tags, draft_mark(ctx.reference)]
    if input.customer_id:
        wanted["purchasingEntity"] = {"customerId": gid("Customer", input.customer_id)}
    if input.email:
        wanted["email"] = input.email
    if input.discount_code:
        wanted["discountCodes"] = [input.discount_code]
    if input.note:
        wanted["note"] = input.note
    return wanted


def _line(line: DraftLine) -> dict[str, Any]:  # as JSON
    if line.variant_id:
        return {"variantId": gid("ProductVariant", line.variant_id), "quantity": line.quantity}
    price = {"amount": digits(line.price), "currencyCode": Money.parse(line.price or "").currency}
    return {"title": line.title, "quantity": line.quantity, "originalUnitPriceWithCurrency": price}


def _drafted(node: DraftNode) -> DraftOutput:
    return DraftOutput(
        draft_order_id=rest_id(node.id),
        name=node.name,
        invoice_url=node.invoice_url,
        total=node.total_price_set.money,
    )


# -- its invoice -------------------------------------------------------------------------------------------------------


class InvoiceInput(Input):
    draft_order_id: DraftId = Field(description="{{ steps.draft.draft_order_id }}")
    email: str = Field(pattern=r"^\S+@\S+$", description="Where to: {{ contact.email }}")
    subject: str | None = Field(None, max_length=255)
    message: str | None = Field(None, max_length=5000, description="What stands above the offer")


class InvoiceOutput(BaseModel):
    draft_order_id: str
    invoice_url: str | None = None
    sent_at: AwareDatetime | None = None


@shopify.action(
    "send_invoice",
    title="Send the invoice of a draft order",
    input=InvoiceInput,
    output=InvoiceOutput,
    effect=Effect.RECONCILABLE,
    message=Message(channel="email", to=lambda invoice: invoice.email),
    scopes=["write_draft_orders"],
    cost=MUTATION + OBJECT,
)
async def send_invoice(ctx: ActionContext, input: InvoiceInput) -> InvoiceOutput:
    """Let the shop e-mail a draft order with a link to pay it. Raises Rejected."""
    email = {"to": input.email, "subject": input.subject, "customMessage": input.message}
    variables = {
        "id": gid("DraftOrder", input.draft_order_id),
        "email": {name: value for name, value in email.items() if value is not None},
    }
    node = (await call(ctx, INVOICE_SEND, variables)).draft_order_invoice_send.draft_order
    return InvoiceOutput(
        draft_order_id=input.draft_order_id, invoice_url=node.invoice_url, sent_at=node.invoice_sent_at
    )


@send_invoice.lookup
async def find_invoice(ctx: ActionContext, input: InvoiceInput) -> InvoiceOutput | None:
    """Whether the invoice was sent since the first attempt; None when it was not."""
    node = (await call(ctx, DRAFT, {"id": gid("DraftOrder", input.draft_order_id)})).draft_order
    if node is None:
        raise not_found(ctx, f"draft order {input.draft_order_id}")
    sent: datetime | None = node.invoice_sent_at
    if sent is None or sent < begun_at(ctx) - _CLOCKS:
        return None
    return InvoiceOutput(draft_order_id=input.draft_order_id, invoice_url=node.invoice_url, sent_at=sent)


@send_invoice.simulate
def _pretend_invoice(input: InvoiceInput, now_ms: int) -> InvoiceOutput:
    return InvoiceOutput(draft_order_id=input.draft_order_id)


@send_invoice.describe
def _describe_invoice(input: InvoiceInput) -> str:
    return f"e-mail the invoice of draft order {input.draft_order_id}"
