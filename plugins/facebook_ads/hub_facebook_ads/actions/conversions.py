"""Conversion events: what became of people whom ads brought, told to Meta from here (Conversions API).

Shapes, limits and what is required: "Conversions API: using the API" and "Server event", v25.0, read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hub import ActionContext, Batch, Chosen, ConnectorError, Effect, Json, Money, OutcomeUnknown, Rejected
from hub_facebook_ads.client import call, node
from hub_facebook_ads.connector import facebook_ads
from hub_facebook_ads.matching import Identifiers, hashed, normalised
from hub_facebook_ads.money import amount

# Meta takes so many in one call, and refuses all of them for one that is wrong.
_MOST = 1000
_LINGER_S = 5.0
# How often a refused call is halved at most: enough for several wrong events among a thousand.
_MOST_REFUSALS = 50
_OLDEST = timedelta(days=7)
_OLDEST_IN_SHOPS = timedelta(days=62)
# An event that comes again within 48 hours counts once; a repeat must arrive before that.
_REPEATABLE_S = 47 * 3600

_HASHED = {
    "EMAIL": "em", "PHONE": "ph", "GEN": "ge", "LN": "ln", "FN": "fn", "CT": "ct", "ST": "st", "ZIP": "zp",
    "COUNTRY": "country", "EXTERN_ID": "external_id",
}  # fmt: skip


def _money(value: Any) -> Any:  # the input of a validator may be anything
    return Money.parse(value) if isinstance(value, str) else value


class Content(BaseModel):
    """One product of the event."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    id: str
    quantity: int = Field(1, ge=1)
    item_price: Annotated[Money, BeforeValidator(_money)] | None = None


class ConversionEvent(Identifiers):
    """What a person did. `event_id` names it, so that it counts once however often it is told: an order's id."""

    pixel_id: Annotated[str, Chosen("pixels"), Field(description="The pixel or data set")]
    event_name: str = Field(min_length=1, max_length=100, description="Purchase, Lead, or a name of your own")
    event_id: str = Field(
        min_length=1, max_length=200, description="The same as the browser's eventID, if that tells it"
    )
    event_time: AwareDatetime
    action_source: Literal[
        "email",
        "website",
        "app",
        "phone_call",
        "chat",
        "physical_store",
        "system_generated",
        "business_messaging",
        "other",
    ] = "system_generated"
    event_source_url: str | None = Field(None, description="Required for events of a website")
    client_user_agent: str | None = Field(None, description="Required for events of a website")
    client_ip_address: str | None = None
    fbc: str | None = Field(None, description="The click, from the cookie _fbc")
    fbp: str | None = Field(None, description="The browser, from the cookie _fbp")
    lead_id: str | None = Field(None, description="Of a lead form: {{ trigger.leadgen_id }}")
    value: Annotated[Money, BeforeValidator(_money)] | None = Field(None, description="60.00 USD")
    order_id: str | None = None
    contents: tuple[Content, ...] = ()
    custom: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="More of custom_data, as Meta names it"
    )
    limited_data_use: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.action_source == "website" and not (self.event_source_url and self.client_user_agent):
            raise ValueError("an event of a website needs event_source_url and client_user_agent")
        return self


class Told(BaseModel):
    """That Meta took the event; whether it counts one that the browser told already is Meta's business."""

    event_id: str
    event_name: str


class _Answer(BaseModel):
    events_received: int
    fbtrace_id: str | None = None


@facebook_ads.batch_action(
    "send_conversion_event",
    title="Send a conversion event",
    input=ConversionEvent,
    output=Told,
    batch=Batch(size=_MOST, linger_s=_LINGER_S, group_by=lambda event: event.pixel_id),
    effect=Effect.KEYED,
    key_window_s=_REPEATABLE_S,
    provides="conversion.send",
)
async def send_conversion_event(
    ctx: ActionContext, events: Sequence[ConversionEvent]
) -> Sequence[Told | ConnectorError]:
    """Tell Meta of events of one pixel. A wrong one fails alone: what Meta refuses as a whole is halved until it is found."""
    if ctx.intended_at_ms and ctx.now_ms - ctx.intended_at_ms > _REPEATABLE_S * 1000:
        lost = (
            "an answer was lost two days ago, and Meta would count a repeat a second time: look in the Events Manager"
        )
        return [OutcomeUnknown(lost) for _ in events]
    sending = _Sending(ctx, node(events[0].pixel_id), [_body(event) for event in events])
    sending.outcomes |= {at: no for at, event in enumerate(events) if (no := _unfit(ctx, event, sending.bodies[at]))}
    await sending.send([at for at in range(len(events)) if at not in sending.outcomes])
    return [sending.outcomes.get(at) or _told(event) for at, event in enumerate(events)]


@dataclass
class _Sending:
    """The sending of one batch: by an event's place its body, and what it was refused for."""

    ctx: ActionContext
    pixel_id: str
    bodies: Sequence[dict[str, Json]]
    outcomes: dict[int, ConnectorError] = field(default_factory=dict)
    refusals: int = 0

    async def send(self, places: Sequence[int]) -> None:
        """Send the events at these places. Whatever is no refusal of their content is raised.

        It may be raised when some were sent: they are sent again then, and recognised by their ids.
        """
        if not places:
            return
        try:
            await self._call(places)
        except Rejected as refused:
            self.refusals += 1
            if len(places) == 1 or self.refusals > _MOST_REFUSALS:
                self.outcomes |= dict.fromkeys(places, refused)
                return
            middle = len(places) // 2
            await self.send(places[:middle])
            await self.send(places[middle:])

    async def _call(self, places: Sequence[int]) -> None:
        body: dict[str, Json] = {"data": [self.bodies[at] for at in places]}
        if code := self.ctx.settings.get("test_event_code"):
            body["test_event_code"] = code
        answer = await call(self.ctx, "POST", f"/{self.pixel_id}/events", _Answer, json=body)
        if answer.events_received != len(places):
            raise OutcomeUnknown(f"Meta received {answer.events_received} of {len(places)} events, and not which")


def _told(event: ConversionEvent) -> Told:
    return Told(event_id=event.event_id, event_name=event.event_name)


def _unfit(ctx: ActionContext, event: ConversionEvent, body: dict[str, Json]) -> Rejected | None:
    """Why Meta would refuse all events of a call for this one; None when nothing is known."""
    age_ms = ctx.now_ms - event.event_time.timestamp() * 1000
    oldest = _OLDEST_IN_SHOPS if event.action_source == "physical_store" else _OLDEST
    if age_ms > oldest.total_seconds() * 1000:
        return Rejected(f"the event is more than {oldest.days} days old, which Meta does not take")
    if not body["user_data"]:
        return Rejected("nothing says whose event it is: give an e-mail address, a phone number, fbc, fbp or the like")
    return None


def _body(event: ConversionEvent) -> dict[str, Json]:
    found: dict[str, Json] = {
        "event_name": event.event_name,
        "event_time": int(event.event_time.timestamp()),
        "event_id": event.event_id,
        "action_source": event.action_source,
        "user_data": _user_data(event),
    }
    if custom := _custom_data(event):
        found["custom_data"] = custom
    if event.event_source_url:
        found["event_source_url"] = event.event_source_url
    if event.limited_data_use:
        # Two zeros: Meta finds out where the person is.
        found |= {
            "data_processing_options": ["LDU"],
            "data_processing_options_country": 0,
            "data_processing_options_state": 0,
        }
    return found


def _user_data(event: ConversionEvent) -> dict[str, Json]:
    normal = normalised(event)
    found: dict[str, Json] = {name: [hashed(normal[key])] for key, name in _HASHED.items() if key in normal}
    if event.birth_date:
        found["db"] = [hashed(f"{event.birth_date:%Y%m%d}")]
    if "MADID" in normal:
        found["madid"] = normal["MADID"]
    for name in ("client_ip_address", "client_user_agent", "fbc", "fbp", "lead_id"):
        if value := getattr(event, name):
            found[name] = value
    return found


def _custom_data(event: ConversionEvent) -> dict[str, Json]:
    found: dict[str, Json] = dict(event.custom)
    if event.value:
        found |= {"value": float(amount(event.value)), "currency": event.value.currency}
    if event.order_id:
        found["order_id"] = event.order_id
    if event.contents:
        found |= {"content_type": "product", "contents": [_content(one) for one in event.contents]}
    if event.lead_id:
        found = {"event_source": "crm", "lead_event_source": "Tetik Hub", **found}
    return found


def _content(one: Content) -> dict[str, Json]:
    price = {"item_price": float(amount(one.item_price))} if one.item_price else {}
    return {"id": one.id, "quantity": one.quantity, **price}


@send_conversion_event.simulate
def _pretend(event: ConversionEvent, now_ms: int) -> Told:
    return _told(event)


@send_conversion_event.describe
def _describe(event: ConversionEvent) -> str:
    worth = f" worth {event.value}" if event.value else ""
    return f"tell Meta of the event {event.event_name}{worth} at pixel {event.pixel_id}"
