"""A made-up vendor with nothing in the way: a signed webhook, one trigger, two idempotent HTTP actions.

The real `hub` commands load it as a plugin (see `bench.subject`); `bench.receiver` stands where its API would be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from pydantic import BaseModel

from hub import (
    ActionContext,
    Concurrency,
    Connector,
    Delivery,
    Effect,
    Field,
    Hmac,
    Identity,
    RegisterConnector,
    StaticToken,
    hookimpl,
)
from hub.connector import sandbox_secret

NAME = "bench"
ACCOUNT = "main"
TOPIC = "ordered"
PEOPLE = 10_000
CONCURRENCY = "BENCH_CONCURRENCY"
"""The variable that says how many calls at once the vendor allows; without it the connector declares nothing."""
ANSWERING = ("hang", "fail")
"""Accounts in trouble that the receiver plays: no answer for 20 seconds, or 500."""
TROUBLES = ("refuse", *ANSWERING)
"""All accounts in trouble; at the first one nobody listens. `hang-2` is another one that hangs."""

_webhook = Hmac(
    header="X-Bench-Signature",
    encoding="hex",
    delivery_id="X-Bench-Delivery",
    account="X-Bench-Account",
    topic="X-Bench-Topic",
)

_BASES = {
    "refuse": "https://localhost:9",
    "hang": "https://api.bench.example/hang",
    "fail": "https://api.bench.example/fail",
}

bench = Connector(
    name=NAME,
    title="Bench",
    hosts=["api.bench.example", "localhost:9"],
    base_url=lambda fields: _BASES.get(fields["account"].partition("-")[0], "https://api.bench.example"),
    account=lambda fields: fields["account"],
    auth=[
        StaticToken(
            headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
            fields=(Field(name="token", title="API token", secret=True),),
        )
    ],
    fields=[
        Field(name="account", title="Account"),
        Field(name="webhook_secret", title="Webhook secret", secret=True),
    ],
    webhook=_webhook,
    budgets=[Concurrency(int(os.environ[CONCURRENCY]))] if CONCURRENCY in os.environ else [],
)


class Order(BaseModel):
    """What the vendor says about an order."""

    id: str
    email: str
    first_name: str
    total: int
    city: str


@bench.trigger(
    "ordered",
    topic=TOPIC,
    payload=Order,
    fact=lambda o: o.id,
    subject=lambda o: Identity(email=o.email, first_name=o.first_name),
)
def ordered(delivery: Delivery) -> Iterable[Order]:
    """Somebody ordered."""
    return [Order.model_validate(delivery.json())]


@bench.trigger(
    "visited",
    topic="visited",
    payload=Order,
    fact=lambda o: o.id,
    subject=lambda o: Identity(email=o.email, first_name=o.first_name),
)
def visited(delivery: Delivery) -> Iterable[Order]:
    """Somebody looked at the shop."""
    return [Order.model_validate(delivery.json())]


class Note(BaseModel):
    """A note under the order's id."""

    order: str
    text: str


class Noted(BaseModel):
    """The note as stored."""

    order: str = "rehearsed"


@bench.action("put_note", input=Note, output=Noted, effect=Effect.IDEMPOTENT, timeout_s=10)
async def put_note(ctx: ActionContext, input: Note) -> Noted:
    """Write a note."""
    await ctx.http.request("POST", f"/notes/{input.order}", json=input.model_dump())
    return Noted(order=input.order)


@bench.action("put_tag", input=Note, output=Noted, effect=Effect.IDEMPOTENT, timeout_s=10)
async def put_tag(ctx: ActionContext, input: Note) -> Noted:
    """Set a tag."""
    await ctx.http.request("POST", f"/tags/{input.order}", json=input.model_dump())
    return Noted(order=input.order)


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(bench)


def order(n: int) -> dict[str, str | int]:
    """The nth order: as floors get it, and as it stands in the webhook."""
    return {
        "id": f"o-{n}",
        "email": f"person-{n % PEOPLE}@example.com",
        "first_name": f"Person {n % PEOPLE}",
        "total": n % 100,
        "city": "Izmir",
    }


def webhook(word: str, topic: str) -> tuple[dict[str, str], bytes]:
    """A signed webhook's headers and body, about a person and a fact that a word stands in everywhere."""
    said = {"id": word, "email": f"{word}@example.com", "first_name": "Template", "total": 0, "city": "Izmir"}
    return _signed(said, word, topic)


def webhook_request(n: int, host: str, path: str) -> bytes:
    """The nth order's signed webhook as the bytes of one HTTP/1.1 request."""
    headers, body = _signed(order(n), f"d-{n}", TOPIC)
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _signed(said: dict[str, str | int], delivery: str, topic: str) -> tuple[dict[str, str], bytes]:
    body = json.dumps(said).encode()
    return {
        "Content-Type": "application/json",
        "X-Bench-Signature": _webhook.sign(body, sandbox_secret(NAME, ACCOUNT, "webhook_secret")),
        "X-Bench-Delivery": delivery,
        "X-Bench-Account": ACCOUNT,
        "X-Bench-Topic": topic,
    }, body
