"""A small catalogue for tests of the language: a shop, two ways to send, and short ways to load and play a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import dedent
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field

from hub import engine
from hub.catalogue import Catalogue
from hub.clock import rfc3339
from hub.connector import ActionContext, Connector, Message, StaticToken
from hub.errors import RecipeErrors
from hub.events import Json, Money
from hub.purposes import Purpose, load_purposes
from hub.recipes import Recipe, bind, load

NOW = 1_795_341_600_000
"""2026-11-22T10:00:00Z."""
HOUR = 3_600_000
DAY = 24 * HOUR


class Item(BaseModel):
    sku: str
    category: str | None = None
    count: int = 1


class Order(BaseModel):
    id: str
    email: str | None = None
    total: Money | None = None
    paid: bool = False
    count: int = 0
    status: Literal["open", "paid", "sent"] = "open"
    ends_at: AwareDatetime | None = None
    line_items: list[Item] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)


class Cart(BaseModel):
    id: str
    token: str
    total: Money | None = None
    url: str | None = None


class Reply(BaseModel):
    id: str
    message_id: str | None = None
    words: str = ""


class SendInput(BaseModel):
    to: str
    body: str
    tries: int = 1
    options: dict[str, str] = Field(default_factory=dict)


class SendOutput(BaseModel):
    message_id: str
    segments: int = 1


class CouponInput(BaseModel):
    percentage: int = Field(ge=1, le=100)
    prefix: str = ""


class CouponOutput(BaseModel):
    code: str
    ends_at: AwareDatetime


class Nothing(BaseModel):
    pass


def connector(name: str) -> Connector:
    return Connector(
        name=name,
        title=name.title(),
        hosts=[f"{name}.example"],
        base_url=lambda fields: "https://acme.example",
        account=lambda fields: "one",
        auth=[StaticToken(headers=lambda fields: {})],
    )


# Nothing is called in these tests.
async def _never(ctx: ActionContext, input: Any) -> Any:
    raise AssertionError("no action is called here")


acme, post = connector("acme"), connector("post")
acme.trigger("order_paid", payload=Order, fact=lambda o: o.id, correlate=("id",))(lambda d: [])
acme.trigger("order_sent", payload=Order, fact=lambda o: o.id, correlate=("id",))(lambda d: [])
acme.trigger("cart_left", payload=Cart, fact=lambda c: c.id, correlate=("token",))(lambda d: [])
acme.trigger("replied", payload=Reply, fact=lambda r: r.id, correlate=("message_id",), provides="sms.received")(
    lambda d: []
)
post.trigger("replied", payload=Reply, fact=lambda r: r.id, correlate=("message_id",), provides="sms.received")(
    lambda d: []
)
acme.action("coupon", input=CouponInput, output=CouponOutput)(_never)
acme.action("tag", input=Nothing, output=Nothing)(_never)
for one in (acme, post):
    one.action(
        "send",
        input=SendInput,
        output=SendOutput,
        provides="sms.send",
        message=Message(channel="sms", to=lambda i: i.to),
    )(_never)

CATALOGUE = Catalogue({"acme": acme, "post": post}, unusable={"broken": "it needs tetik-hub 9"})
CONNECTIONS = {"acme": ["acme-main"], "post": []}
PURPOSES = load_purposes(
    dedent("""
    cart: {channel: sms, class: marketing}
    order: {channel: sms, class: transactional}
    answer: {channel: sms, class: service}
    letter: {channel: email, class: marketing}
    """)
)

SEND = 'do: sms.send, purpose: cart, with: {to: "{{ contact.phone }}", body: hello}'


def text_of(steps: str, more: str = "", on: str = "{event: acme.order_paid}") -> str:
    """A recipe's text from its steps and other top-level lines."""
    body = "\n".join(f"  {line}" for line in dedent(steps).strip().splitlines())
    return f"recipe: r\non: {on}\n{dedent(more).strip()}\nsteps:\n{body}\n"


def loaded(
    source: str, *, previous: Mapping[str, Json] | None = None, purposes: Mapping[str, Purpose] | None = PURPOSES
) -> Recipe:
    return load(source, CATALOGUE, file="r.yaml", purposes=purposes, previous=previous)


def mistakes(source: str) -> list[str]:
    """What is wrong with a recipe, each as `path: message`."""
    with pytest.raises(RecipeErrors) as caught:
        loaded(source)
    assert all(error.file == "r.yaml" and error.line for error in caught.value.errors)
    return [f"{error.path}: {error.reason}" for error in caught.value.errors]


def program_of(steps: str, more: str = "", on: str = "{event: acme.order_paid}") -> engine.Program:
    return engine.compile(bind(loaded(text_of(steps, more, on)).definition, CATALOGUE, CONNECTIONS))


CONTACT: dict[str, Json] = {
    "id": "c1",
    "email": "ada@example.test",
    "phone": "+14155550100",
    "first_name": None,
    "last_name": "Lovelace",
    "language": "en",
    "zone": "Europe/Istanbul",
    "tags": ["vip"],
    "attributes": {"phase": "decision"},
}


def happened(type: str = "acme.order_paid", at_ms: int = NOW, **data: Json) -> dict[str, Json]:
    own = {"type": type, "occurred_at": rfc3339(at_ms), "event_id": "e1", "connection": "acme-main"}
    return {"id": "o1", "total": {"amount_minor": 7200, "currency": "EUR"}, **data, **own}


class Played:
    """One run of a program, decided step by step as the worker does it, on a clock of its own."""

    def __init__(
        self, program: engine.Program, *, contact: Mapping[str, Json] | None = CONTACT, trigger: Json = None
    ) -> None:
        self.program, self.contact, self.now_ms = program, contact, NOW
        self.state = engine.RunState("run1", "c1" if contact else None, NOW, trigger or happened(), None, {})
        self.trail: list[engine.StepRecord] = []
        self.changes: list[engine.ContactChange] = []
        self.exits: list[engine.Watch] = []
        self.facts_asked = 0

    def hears(self, arrival: engine.Arrival) -> Any:
        """What the run does next; stores what the worker would store."""
        facts = engine.Facts(default_zone="Europe/Berlin")
        decision = engine.decide(self.program, self.state, arrival, facts, self.now_ms)
        if isinstance(decision, engine.Need):
            assert decision.facts == {"contact"}
            self.facts_asked += 1
            facts = replace(facts, contact=self.contact)
            decision = engine.decide(self.program, self.state, arrival, facts, self.now_ms)
        assert isinstance(decision, engine.Decision)
        self.state = replace(self.state, position=decision.position, ctx=decision.ctx)
        self.trail += decision.trail
        self.changes += decision.changes
        self.exits += decision.exits
        return decision.next

    def starts(self) -> Any:
        return self.hears(engine.Started())

    def done(self, **output: Json) -> Any:
        return self.hears(engine.ActionDone("done", output))

    def sleeps_until(self, ms: int) -> Any:
        self.now_ms = ms
        return self.hears(engine.TimerFired())

    def outcomes(self) -> list[tuple[str, str]]:
        return [(record.step_id, record.outcome) for record in self.trail]


def names(watches: Sequence[engine.Watch]) -> list[str]:
    return [watch.name for watch in watches]
