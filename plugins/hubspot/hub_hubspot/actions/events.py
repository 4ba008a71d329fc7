"""Custom events on a contact's timeline."""

from __future__ import annotations

from pydantic import BaseModel, Field

from hub import ActionContext, Effect
from hub.clock import rfc3339
from hub.events import Json
from hub_hubspot.actions.fields import KEY_WINDOW_S, Contact, Input, Properties, texts
from hub_hubspot.connector import CUSTOM_EVENTS, hubspot
from hub_hubspot.paths import path


class EventInput(Input):
    """An occurrence of an event that was defined at HubSpot."""

    contact: Contact
    event: str = Field(pattern=r"^[a-z0-9_-]+$", description="The event's internal name: order_shipped")
    properties: Properties = Field(default_factory=dict)


class EventOutput(BaseModel):
    """The name that HubSpot knows it by."""

    event: str


@hubspot.action(
    "send_event",
    title="Send a custom event",
    input=EventInput,
    output=EventOutput,
    effect=Effect.KEYED,
    key_window_s=KEY_WINDOW_S,
    scopes=[CUSTOM_EVENTS],
)
async def send_event(ctx: ActionContext, input: EventInput) -> EventOutput:
    """Send a custom event; HubSpot takes each `uuid`, which is the step's own key, for one occurrence."""
    # HubSpot puts the account before the name that was given. (Custom events API, read 2026-11-22)
    own = f"pe{ctx.account}_"
    name = input.event if input.event.startswith(own) else own + input.event
    asked: dict[str, Json] = {
        "eventName": name,
        "uuid": ctx.idempotency_key,
        "occurredAt": rfc3339(ctx.intended_at_ms),
        "properties": texts(input.properties),
        ("email" if "@" in input.contact else "objectId"): input.contact,
    }
    await ctx.http.request("POST", path(ctx.settings, "custom_events"), json=asked)
    return EventOutput(event=name)


@send_event.simulate
def _pretend(input: EventInput, now_ms: int) -> EventOutput:
    return EventOutput(event=input.event)


@send_event.describe
def _describe(input: EventInput) -> str:
    return f"send the event {input.event} of the contact {input.contact}"
