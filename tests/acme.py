"""A made-up vendor for tests: every mechanism of a connector once, and a sandbox that keeps its own log.

It is written as a third party would: only names from `hub`, registered through the hook.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from hub import (
    Account,
    ActionContext,
    Batch,
    Concurrency,
    Connector,
    ConnectorError,
    ConsentSignal,
    ConsentState,
    Delivery,
    Effect,
    Field,
    Hmac,
    Identity,
    Message,
    Money,
    Page,
    RateLimited,
    RegisterConnector,
    Rejected,
    StaticToken,
    hookimpl,
)
from hub.testing.sandbox import Sandbox

acme = Connector(
    name="acme",
    title="Acme",
    hosts=["api.acme.example"],
    base_url=lambda fields: "https://api.acme.example",
    account=lambda fields: fields["account"],
    auth=[
        StaticToken(
            headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
            fields=(Field(name="token", title="API token", secret=True),),
        )
    ],
    fields=[
        Field(name="account", title="Account", pattern=r"[a-z0-9-]+"),
        Field(name="webhook_secret", title="Webhook secret", secret=True, required=False),
    ],
    webhook=Hmac(
        header="X-Acme-Signature",
        encoding="hex",
        delivery_id="X-Acme-Delivery",
        account="X-Acme-Account",
        topic="X-Acme-Topic",
    ),
    budgets=[Concurrency(100)],
    sandbox="tests.acme:AcmeSandbox",
)


class Happening(BaseModel):
    """What Acme says about anything: whose it is, and a few fields."""

    id: str
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    total: Money | None = None
    cart: str | None = None
    message_id: str | None = None
    reference: str | None = None
    words: list[str] = []
    at: AwareDatetime | None = None
    account: str | None = None
    sms_ok: bool = False
    stop: bool = False


def whose(h: Happening) -> Identity:
    return Identity(email=h.email, phone=h.phone, first_name=h.first_name)


def said(h: Happening) -> Iterable[ConsentSignal]:
    if h.phone and h.sms_ok:
        yield ConsentSignal("sms", h.phone, ConsentState.GRANTED, "ticked the box")
    if h.phone and h.stop:
        yield ConsentSignal("sms", h.phone, ConsentState.BLOCKED, "stop")


def _items(delivery: Delivery) -> list[dict[str, Any]]:
    body = delivery.json()
    return body if isinstance(body, list) else [body]


def _declare(name: str, **more: Any) -> Any:
    @acme.trigger(
        name,
        topic=name,
        payload=Happening,
        fact=lambda h: h.id,
        subject=whose,
        occurred_at=lambda h: h.at,
        cause=lambda h: h.reference,
        correlate=("message_id", "cart", "reference"),
        consent=said,
        **more,
    )
    def parse(delivery: Delivery) -> Iterable[Happening]:
        """Something happened at Acme."""
        return [Happening.model_validate(item) for item in _items(delivery)]

    return parse


signed_up = _declare("signed_up")
purchased = _declare("purchased", account=lambda h: h.account)
carted = _declare("carted")
clicked = _declare("clicked", provides="email.clicked")
delivered = _declare("delivered")
lead = _declare("lead")

cart_idle = acme.quiet_trigger(
    "cart_idle",
    payload=Happening,
    fact=lambda h: h.cart or h.id,
    source=["carted"],
    cancel=["purchased"],
    key=lambda data: data.get("cart"),
    after_s=1800,
    subject=whose,
    correlate=["cart"],
)


@cart_idle.confirm
async def still_idle(ctx: ActionContext, payload: Happening) -> bool:
    answer = await ctx.http.request("GET", f"/carts/{payload.cart}")
    return not answer.json()["bought"]


@lead.enrich
async def fill_in(ctx: ActionContext, payloads: Sequence[Happening]) -> Sequence[Happening]:
    answer = await ctx.http.request("POST", "/leads", json=[p.id for p in payloads])
    known: Mapping[str, Any] = answer.json()
    return [p.model_copy(update=known[p.id]) for p in payloads]


@acme.poll("purchased", every_s=300, overlap_s=600)
async def recent_purchases(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Happening]]:
    while True:
        answer = await ctx.http.request("GET", "/purchases", params={"after": cursor or ""})
        page = answer.json()
        if not page["items"]:
            return
        cursor = page["cursor"]
        yield Page([Happening.model_validate(item) for item in page["items"]], cursor)


class Text(BaseModel):
    """A message."""

    to: str
    body: str


class Sent(BaseModel):
    """What came of it."""

    message_id: str = "m-rehearsed"


class Note(BaseModel):
    """A note about somebody."""

    key: str
    text: str = ""


class Noted(BaseModel):
    """The note as stored."""

    key: str = "rehearsed"


@acme.action(
    "send_text",
    input=Text,
    output=Sent,
    effect=Effect.RECONCILABLE,
    message=Message(channel="sms", to=lambda i: i.to),
    provides="sms.send",
    timeout_s=2,
)
async def send_text(ctx: ActionContext, input: Text) -> Sent:
    """Send a text message."""
    answer = await ctx.http.request("POST", "/texts", json={**input.model_dump(), "reference": ctx.reference})
    return Sent(message_id=answer.json()["id"])


@send_text.lookup
async def find_text(ctx: ActionContext, input: Text) -> Sent | None:
    answer = await ctx.http.request("GET", "/texts", params={"reference": ctx.reference})
    found = answer.json()
    return Sent(message_id=found[0]["id"]) if found else None


async def _note(ctx: ActionContext, input: Note, path: str) -> Noted:
    await ctx.http.request(
        "POST",
        path,
        json=input.model_dump(),
        headers={"Idempotency-Key": ctx.idempotency_key, "X-Reference": ctx.reference},
    )
    return Noted(key=input.key)


@acme.action("put_note", input=Note, output=Noted, effect=Effect.IDEMPOTENT, timeout_s=2)
async def put_note(ctx: ActionContext, input: Note) -> Noted:
    """Write a note under its key, over an older one."""
    return await _note(ctx, input, "/notes")


@acme.action("add_keyed", input=Note, output=Noted, effect=Effect.KEYED, key_window_s=86_400, timeout_s=2)
async def add_keyed(ctx: ActionContext, input: Note) -> Noted:
    """Add a note once per idempotency key."""
    return await _note(ctx, input, "/keyed")


@acme.action("charge", input=Note, output=Noted, timeout_s=2)
async def charge(ctx: ActionContext, input: Note) -> Noted:
    """Charge somebody; nothing tells Acme that it is the same charge."""
    return await _note(ctx, input, "/charges")


class Member(BaseModel):
    """Somebody for a list."""

    audience: str
    email: str


@acme.batch_action(
    "add_members",
    input=Member,
    output=Noted,
    batch=Batch(size=3, linger_s=10, group_by=lambda i: i.audience),
    effect=Effect.IDEMPOTENT,
    timeout_s=2,
)
async def add_members(ctx: ActionContext, inputs: Sequence[Member]) -> Sequence[Noted | ConnectorError]:
    """Add people to an audience, many in one call; and take those out that come along."""
    people = [f"-{i.email}" if isinstance(i, Leaver) else i.email for i in inputs]
    answer = await ctx.http.request("POST", "/members", json={"audience": inputs[0].audience, "people": people})
    refused = set(answer.json()["refused"])
    return [
        Rejected(f"{ctx.connection} refused it", code="no_member") if p in refused else Noted(key=p) for p in people
    ]


class Leaver(Member):
    """Somebody who leaves a list."""


@acme.batch_action(
    "remove_members",
    input=Leaver,
    output=Noted,
    batch=Batch(size=3, linger_s=10, group_by=lambda i: i.audience, together="add_members"),
    effect=Effect.IDEMPOTENT,
    timeout_s=2,
)
async def remove_members(ctx: ActionContext, inputs: Sequence[Leaver]) -> Sequence[Noted | ConnectorError]:
    """Take people out of an audience, in the calls of `add_members`."""
    return await add_members.run_batch(ctx, inputs) if add_members.run_batch else []


async def whoami(ctx: ActionContext) -> Account:
    answer = await ctx.http.request("GET", "/me")
    return Account(id=answer.json()["id"], title="Acme of tests")


acme.whoami = whoami


class AcmeSandbox(Sandbox):
    """Acme's stand-in."""

    connector = "acme"

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.texts: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.bought: set[str] = set()
        self.leads: dict[str, dict[str, Any]] = {}
        self.purchases: list[dict[str, Any]] = []
        self.status: dict[str, int] = {}
        # How many answers of a path get lost after it was done.
        self.lose: dict[str, int] = {}
        # Told of every note that is put, with our reference: a vendor that sends a webhook about it.
        self.echo: Callable[[dict[str, Any], str], Awaitable[Any]] | None = None
        self.hold: asyncio.Event | None = None
        # Per path, the answer that its next call gets instead of the usual one, whatever it did.
        self.odd: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.arrived = 0

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "30"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/texts", self.post_text),
            web.get("/texts", self.get_texts),
            web.post("/{kind:notes|keyed|charges}", self.post_note),
            web.get("/carts/{cart}", self.get_cart),
            web.post("/leads", self.post_leads),
            web.get("/purchases", self.get_purchases),
            web.get("/me", self.get_me),
            web.post("/members", self.post_members),
        ]

    def _account(self, request: web.Request) -> str | None:
        given = request.headers.get("Authorization")
        return next((a for a in ("main", "other", "bench") if given == f"Bearer {self.secret(a, 'token')}"), None)

    def _refuse(self, request: web.Request) -> web.Response | None:
        if self._account(request) is None:
            return web.Response(status=401)
        status = self.status.get(request.path.removeprefix("/acme"))
        return web.Response(status=status) if status else None

    def _odd(self, request: web.Request) -> Callable[[web.Request], Awaitable[web.StreamResponse]] | None:
        return self.odd.pop(request.path.removeprefix("/acme"), None)

    async def post_text(self, request: web.Request) -> web.StreamResponse:
        self.arrived += 1
        if refused := self._refuse(request):
            return refused
        body = await request.json()
        if self.hold is not None:
            await self.hold.wait()
        made = {"id": f"m-{len(self.texts) + 1}", **body}
        self.texts.append(made)
        self.record("send_text", str(self._account(request)), **body)
        if odd := self._odd(request):
            return await odd(request)
        return web.json_response({"id": made["id"]}, status=201)

    async def get_texts(self, request: web.Request) -> web.Response:
        return self._refuse(request) or web.json_response(
            [t for t in self.texts if t["reference"] == request.query.get("reference")]
        )

    async def post_note(self, request: web.Request) -> web.StreamResponse:
        self.arrived += 1
        if refused := self._refuse(request):
            return refused
        body = await request.json()
        if self.hold is not None:
            await self.hold.wait()
        kind, key = request.match_info["kind"], request.headers["Idempotency-Key"]
        if kind == "keyed" and key in self.keys:
            return web.json_response({})
        self.keys.add(key)
        self.record(
            {"notes": "put_note", "keyed": "add_keyed", "charges": "charge"}[kind], str(self._account(request)), **body
        )
        if self.echo is not None and kind == "notes":
            self.send_soon(self.echo(body, request.headers["X-Reference"]))
        if self.lose.get(kind, 0) > 0:
            self.lose[kind] -= 1
            assert request.transport is not None, "the request is being answered"
            request.transport.abort()
        if odd := self._odd(request):
            return await odd(request)
        return web.json_response({}, status=201)

    async def get_cart(self, request: web.Request) -> web.Response:
        return self._refuse(request) or web.json_response({"bought": request.match_info["cart"] in self.bought})

    async def post_leads(self, request: web.Request) -> web.Response:
        return self._refuse(request) or web.json_response({id_: self.leads[id_] for id_ in await request.json()})

    async def get_purchases(self, request: web.Request) -> web.Response:
        start = int(request.query["after"] or 0)
        items = self.purchases[start : start + 2]
        return self._refuse(request) or web.json_response({"items": items, "cursor": str(start + len(items))})

    async def post_members(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        body = await request.json()
        self.record("add_members", str(self._account(request)), **body)
        return web.json_response({"refused": [p for p in body["people"] if p.startswith("no")]})

    async def get_me(self, request: web.Request) -> web.Response:
        return self._refuse(request) or web.json_response({"id": str(self._account(request))})


def signed(
    topic: str,
    body: Any,
    *,
    account: str = "main",
    delivery: str | None = None,
    secret: str | None = None,
    raw: bytes | None = None,
) -> tuple[bytes, dict[str, str]]:
    """A webhook's body and headers as Acme sends them; signed with the sandbox's secret of the account unless given."""
    from hub.connector import sandbox_secret

    payload = raw if raw is not None else json.dumps(body).encode()
    webhook = acme.webhook
    assert isinstance(webhook, Hmac), "acme signs by HMAC"
    signature = webhook.sign(payload, secret or sandbox_secret("acme", account, "webhook_secret"))
    headers = {"x-acme-signature": signature, "x-acme-topic": topic, "x-acme-account": account}
    return payload, headers | ({"x-acme-delivery": delivery} if delivery else {})


class RateLimitedNow(RateLimited):
    """For tests that raise a limit by hand."""


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(acme)
