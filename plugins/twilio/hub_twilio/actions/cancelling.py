"""Cancelling a message that was scheduled."""

from __future__ import annotations

from pydantic import BaseModel, Field

from hub import ActionContext, Effect
from hub_twilio import client
from hub_twilio.actions.fields import Input
from hub_twilio.connector import twilio
from hub_twilio.errors import NotCancelable


class CancelMessage(Input):
    """The scheduled message: the `message_id` of the step that scheduled it."""

    message_id: str = Field(pattern=r"^(SM|MM)[0-9a-fA-F]{32}$")


class CancelledMessage(BaseModel):
    """What became of the message: `canceled` is false where it was sent already."""

    message_id: str
    canceled: bool
    status: str


@twilio.action(
    "cancel_message",
    title="Cancel a scheduled message",
    input=CancelMessage,
    output=CancelledMessage,
    effect=Effect.IDEMPOTENT,
)
async def cancel_message(ctx: ActionContext, input: CancelMessage) -> CancelledMessage:
    """Cancel a scheduled message; one that was cancelled before stays so, and one that left is not called back."""
    try:
        message = await client.cancel_message(ctx, input.message_id)
    except NotCancelable:
        message = await client.fetch_message(ctx, input.message_id)
    canceled = message.status == "canceled"
    return CancelledMessage(message_id=message.sid, canceled=canceled, status=message.status)


@cancel_message.simulate
def pretend(input: CancelMessage, now_ms: int) -> CancelledMessage:
    """Cancelled in time."""
    return CancelledMessage(message_id=input.message_id, canceled=True, status="canceled")


@cancel_message.describe
def describe(input: CancelMessage) -> str:
    """Which message would not be sent."""
    return f"Cancel the scheduled message {input.message_id}"
