"""Telephone calls that ended, asked for: what Twilio's own calls about them say is not known well enough to read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from pydantic import BaseModel

from hub import ActionContext, Delivery, Identity, Page, e164
from hub_twilio.client import Call, allowed_to, calls_since
from hub_twilio.connector import twilio

# Whoever looked just before Twilio finished describing a call finds it the next time.
_OVERLAP_S = 600


class CallCompleted(BaseModel):
    """A call that was answered and has ended. `phone` is the number of the other side, if it has one."""

    call_id: str
    direction: str
    """`inbound`, `outbound-api` or `outbound-dial`, or of a SIP trunk `trunking-…`."""
    from_address: str
    to_address: str
    phone: str | None
    duration_s: int
    started_at: datetime | None
    ended_at: datetime | None
    answered_by: str | None
    """`human` or `machine`, where Twilio was asked to find out."""


@twilio.trigger(
    "call_completed",
    title="Call completed",
    payload=CallCompleted,
    sample="call_completed.json",
    fact=lambda call: call.call_id,
    # A side that is no number, such as a client, is nobody the hub knows.
    subject=lambda call: Identity(phone=call.phone),
    occurred_at=lambda call: call.ended_at,
    correlate=("call_id", "phone"),
    provides="call.completed",
)
def call_completed(delivery: Delivery) -> Iterable[CallCompleted]:
    """A telephone call was answered and has ended."""
    call = Call.model_validate(delivery.json())
    if call.status == "completed":
        yield _told(call)


@twilio.poll("call_completed", every_s=300, overlap_s=_OVERLAP_S)
async def recent_calls(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[CallCompleted]]:
    """The calls that ended since, unless the connection does not want to know."""
    if ctx.settings.get("poll_calls", "yes") == "yes":
        yield Page(await _calls(ctx, since_ms), cursor="")


@twilio.history("call_completed")
async def past_calls(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[CallCompleted]]:
    """All calls that ended since, in one page: Twilio lists them in no order that it names."""
    if cursor is None:
        yield Page(await _calls(ctx, since_ms), cursor="end")


async def _calls(ctx: ActionContext, since_ms: int) -> list[CallCompleted]:
    with allowed_to("list calls (or set poll_calls to no)"):
        return [_told(call) for call in await calls_since(ctx, since_ms)]


def _told(call: Call) -> CallCompleted:
    other = call.from_address if call.direction == "inbound" else call.to
    return CallCompleted(
        call_id=call.sid,
        direction=call.direction,
        from_address=call.from_address,
        to_address=call.to,
        phone=e164(other),
        duration_s=call.duration,
        started_at=call.start_time,
        ended_at=call.end_time,
        answered_by=call.answered_by or None,
    )
