"""What Mailchimp's own automations start by: a member's events, and steps of customer journeys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, Field

from hub import ActionContext, Effect, Json, NotFound, RetryableError
from hub_mailchimp.addresses import Email
from hub_mailchimp.marketing.client import Answer, pages
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.members import Input, Whose
from hub_mailchimp.marketing.triggers import Moment

RUN = "hub_run"
"""The property of an event that names the effect it came of."""
# How long an event may take to appear in the list. Nothing is documented; calls themselves are given up after 20 s.
APPEARS_WITHIN_MS = 60_000


class EventInput(Whose):
    name: str = Field(min_length=2, max_length=30, description="What kind of event: cart_abandoned")
    properties: dict[str, str] = Field(default={}, description="More about it, as texts")
    occurred_at: AwareDatetime | None = Field(None, description="When; without it: when it is sent")
    quietly: bool = Field(False, description="Start none of Mailchimp's own automations")


class EventOutput(BaseModel):
    list_id: str
    email: str
    name: str


class _Event(Answer):
    name: str = ""
    occurred_at: Moment
    properties: Mapping[str, Json] | Sequence[Json] = {}
    """An empty list stands for no properties at vendors that are written in PHP; nothing is documented."""

    @property
    def run(self) -> Json:
        """The effect it came of."""
        return self.properties.get(RUN) if isinstance(self.properties, Mapping) else None


@mailchimp.action(
    "add_event", title="Add an event to a member", input=EventInput, output=EventOutput, effect=Effect.RECONCILABLE
)
async def add_event(ctx: ActionContext, input: EventInput) -> EventOutput:
    """Add an event to a member, by which Mailchimp's own automations can start."""
    body: Json = {
        "name": input.name,
        "properties": {**input.properties, RUN: ctx.reference},
        "is_syncing": input.quietly,
        "occurred_at": _occurred_at(ctx, input).isoformat(),
    }
    await ctx.http.request("POST", f"{input.path}/events", json=body)
    return _event(input, 0)


@add_event.lookup
async def added_before(ctx: ActionContext, input: EventInput) -> EventOutput | None:
    """The event that an earlier call added, by our reference in its properties."""
    try:
        async for found in pages(ctx, f"{input.path}/events", "events", _Event):
            if any(one.name == input.name and one.run == ctx.reference for one in found):
                return _event(input, 0)
    except NotFound:
        return None  # nobody of that name could have got an event
    wait_ms = ctx.intended_at_ms + APPEARS_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that Mailchimp has no such event", retry_after_s=wait_ms / 1000)
    return None


@add_event.simulate
def _event(input: EventInput, now_ms: int) -> EventOutput:
    return EventOutput(list_id=input.list_id, email=input.email, name=input.name)


@add_event.describe
def _describe_event(input: EventInput) -> str:
    return f"add the event {input.name} to {input.email} in audience {input.list_id}"


def _occurred_at(ctx: ActionContext, input: EventInput) -> datetime:
    """When it happened: of an event without a time when the first attempt was made, the same at each repeat."""
    at_ms = ctx.intended_at_ms or ctx.now_ms
    return input.occurred_at or datetime.fromtimestamp(at_ms // 1000, UTC)


class JourneyInput(Input):
    """A step of a journey that begins with "Customer Journeys API"; both ids stand in its settings at Mailchimp."""

    journey_id: int = Field(gt=0)
    step_id: int = Field(gt=0)
    email: Email = Field(description="Must be in the journey's audience")


class JourneyOutput(BaseModel):
    journey_id: int
    step_id: int
    email: str


@mailchimp.action(
    "start_journey_step", title="Start a step of a customer journey", input=JourneyInput, output=JourneyOutput
)
async def start_journey_step(ctx: ActionContext, input: JourneyInput) -> JourneyOutput:
    """Start a step of a customer journey for a person. Whether it was started cannot be looked up: at most once."""
    path = f"/customer-journeys/journeys/{input.journey_id}/steps/{input.step_id}/actions/trigger"
    await ctx.http.request("POST", path, json={"email_address": input.email})
    return _started(input, 0)


@start_journey_step.simulate
def _started(input: JourneyInput, now_ms: int) -> JourneyOutput:
    return JourneyOutput(journey_id=input.journey_id, step_id=input.step_id, email=input.email)


@start_journey_step.describe
def _describe_journey(input: JourneyInput) -> str:
    return f"start step {input.step_id} of journey {input.journey_id} for {input.email}"
