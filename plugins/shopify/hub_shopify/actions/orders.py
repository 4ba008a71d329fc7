"""Orders: tags and notes."""

from __future__ import annotations

from pydantic import BaseModel, Field

from hub import ActionContext, Effect
from hub_shopify.actions.inputs import Input, OrderId, Tag, not_found
from hub_shopify.api.customers import TAGS_ADD
from hub_shopify.api.orders import ORDER_NOTE, ORDER_UPDATE
from hub_shopify.client import MUTATION, OBJECT, call, gid
from hub_shopify.connector import shopify


class OrderTagInput(Input):
    order_id: OrderId = Field(description="The order's id: {{ trigger.order_id }}")
    tags: list[Tag] = Field(min_length=1, max_length=250)


class OrderTagOutput(BaseModel):
    order_id: str
    tags: list[str]


@shopify.action(
    "tag_order",
    title="Tag an order",
    input=OrderTagInput,
    output=OrderTagOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_orders"],
    cost=MUTATION,
)
async def tag_order(ctx: ActionContext, input: OrderTagInput) -> OrderTagOutput:
    """Add tags to those the order has. Raises NotFound or Rejected when there is no such order."""
    answer = await call(ctx, TAGS_ADD, {"id": gid("Order", input.order_id), "tags": input.tags})
    if answer.tags_add.node is None:
        raise not_found(ctx, f"order {input.order_id}")
    return OrderTagOutput(order_id=input.order_id, tags=input.tags)


@tag_order.simulate
def _pretend_tags(input: OrderTagInput, now_ms: int) -> OrderTagOutput:
    return OrderTagOutput(order_id=input.order_id, tags=input.tags)


@tag_order.describe
def _describe_tags(input: OrderTagInput) -> str:
    return f"tag order {input.order_id} with {', '.join(input.tags)}"


class NoteInput(Input):
    order_id: OrderId = Field(description="The order's id: {{ trigger.order_id }}")
    note: str = Field(min_length=1, max_length=1000)


class NoteOutput(BaseModel):
    order_id: str


@shopify.action(
    "add_order_note",
    title="Add to an order's note",
    input=NoteInput,
    output=NoteOutput,
    effect=Effect.IDEMPOTENT,
    scopes=["write_orders"],
    cost=MUTATION + 2 * OBJECT,
)
async def add_order_note(ctx: ActionContext, input: NoteInput) -> NoteOutput:
    """Add a line to an order's note, unless it stands there. What the buyer or the shop wrote stays.

    Raises NotFound when there is no such order. What somebody writes at the same moment may be lost: Shopify takes the
    note only as a whole.
    """
    order = (await call(ctx, ORDER_NOTE, {"id": gid("Order", input.order_id)})).order
    if order is None:
        raise not_found(ctx, f"order {input.order_id}")
    if input.note not in (order.note or "").splitlines() and input.note != order.note:
        note = f"{order.note}\n{input.note}" if order.note else input.note
        await call(ctx, ORDER_UPDATE, {"input": {"id": order.id, "note": note}})
    return NoteOutput(order_id=input.order_id)


@add_order_note.simulate
def _pretend_note(input: NoteInput, now_ms: int) -> NoteOutput:
    return NoteOutput(order_id=input.order_id)


@add_order_note.describe
def _describe_note(input: NoteInput) -> str:
    return f"add {len(input.note)} characters to the note of order {input.order_id}"
