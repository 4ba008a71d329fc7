"""Depot: a made-up vendor that tells its past, lets people choose, and ends its API's versions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import date
from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from hub import (
    ActionContext,
    ApiVersions,
    Choice,
    ChoicePage,
    ChoiceQuery,
    Chosen,
    Connector,
    ConsentSignal,
    ConsentState,
    Delivery,
    Effect,
    Field,
    Hmac,
    Identity,
    Page,
    Rate,
    RegisterConnector,
    StaticToken,
    hookimpl,
)
from hub.connector import sandbox_secret
from hub.testing.sandbox import Sandbox

depot = Connector(
    name="depot",
    title="Depot",
    hosts=["api.depot.example"],
    base_url=lambda fields: "https://api.depot.example",
    account=lambda fields: fields["account"],
    auth=[
        StaticToken(
            headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
            fields=(Field(name="token", title="API token", secret=True),),
        )
    ],
    fields=[
        Field(name="account", title="Account", pattern=r"[a-z]+"),
        Field(name="webhook_secret", title="Webhook secret", secret=True),
        Field(name="api_version", title="Version of the API", required=False, default="1", pattern=r"\d+"),
    ],
    webhook=Hmac(header="X-Depot-Signature", encoding="hex", topic="X-Depot-Topic"),
    budgets=[Rate(limit=1_000, per_s=1_000)],
    sandbox="tests.depot:DepotSandbox",
    lacks={"chat.notify": "it only stores goods; connect a mail provider, such as acme"},
    versions=ApiVersions(field="api_version", ends={"1": date(2999, 1, 1), "2": date(2999, 6, 1)}),
)


class Person(BaseModel):
    """Somebody who registered."""

    id: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    at: AwareDatetime | None = None
    sms: str | None = None


def _said(person: Person) -> Iterable[ConsentSignal]:
    if person.phone and person.sms:
        yield ConsentSignal("sms", person.phone, ConsentState(person.sms), "told by Depot")


def _declare(name: str, **more: Any) -> Any:
    @depot.trigger(
        name,
        topic=name,
        payload=Person,
        fact=lambda person: person.id,
        subject=lambda person: Identity(email=person.email, phone=person.phone, first_name=person.name),
        occurred_at=lambda person: person.at,
        correlate=["id"],
        consent=_said,
        **more,
    )
    def parse(delivery: Delivery) -> Iterable[Person]:
        """Something happened at Depot."""
        return [Person.model_validate(delivery.json())]

    return parse


registered = _declare("registered")
ordered = _declare("ordered")
gone_quiet = depot.quiet_trigger(
    "gone_quiet",
    payload=Person,
    fact=lambda person: person.id,
    source=["registered"],
    key=lambda data: data.get("email"),
    after_s=60,
)


async def _past(ctx: ActionContext, kind: str, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Person]]:
    while True:
        asked = {"after": cursor or "", "since": str(since_ms)}
        answer = (await ctx.http.request("GET", f"/past/{kind}", params=asked)).json()
        if not answer["items"]:
            return
        cursor = answer["cursor"]
        yield Page([Person.model_validate(one) for one in answer["items"]], str(cursor))


@depot.history("registered")
async def all_registered(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Person]]:
    async for page in _past(ctx, "registered", cursor, since_ms):
        yield page


@depot.history("ordered")
async def all_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Person]]:
    async for page in _past(ctx, "ordered", cursor, since_ms):
        yield page


async def _choices(ctx: ActionContext, kind: str, query: ChoiceQuery) -> ChoicePage:
    asked = {"after": query.cursor or "", "search": query.search, **query.within}
    answer = (await ctx.http.request("GET", f"/{kind}", params=asked)).json()
    return ChoicePage([Choice(**one) for one in answer["items"]], answer["next"])


@depot.choose("shelves")
async def shelves(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return await _choices(ctx, "shelves", query)


@depot.choose("lanes")
async def lanes(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return await _choices(ctx, "lanes", query)


@depot.choose("spots")
async def spots(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return await _choices(ctx, "spots", query)


class Put(BaseModel):
    """What to put where."""

    what: str
    shelf: Annotated[str, Chosen("shelves")]
    also: list[Annotated[str, Chosen("shelves")]] = []


class Move(BaseModel):
    """Where to move it."""

    what: str
    spot: Annotated[str, Chosen("spots", within=("lane",))] | None = None
    lane: Annotated[str, Chosen("lanes")] = "main"


class Parcel(BaseModel):
    """A part of what is packed, from a shelf or a spot."""

    shelf: Annotated[str, Chosen("shelves")] | None = None
    spot: Annotated[str, Chosen("spots", within=("lane",))] | None = None
    lane: Annotated[str, Chosen("lanes")] = "main"


class Pack(BaseModel):
    """What to pack together."""

    what: str
    parcels: list[Parcel]


class Done(BaseModel):
    """It was done."""


@depot.action("put", input=Put, output=Done, effect=Effect.IDEMPOTENT)
async def put(ctx: ActionContext, input: Put) -> Done:
    """Put something on a shelf."""
    await ctx.http.request("POST", "/put", json=input.model_dump())
    return Done()


@depot.action("move", input=Move, output=Done, effect=Effect.IDEMPOTENT)
async def move(ctx: ActionContext, input: Move) -> Done:
    """Move something to a spot in a lane."""
    await ctx.http.request("POST", "/move", json=input.model_dump())
    return Done()


@depot.action("pack", input=Pack, output=Done, effect=Effect.IDEMPOTENT)
async def pack(ctx: ActionContext, input: Pack) -> Done:
    """Pack things together."""
    await ctx.http.request("POST", "/pack", json=input.model_dump())
    return Done()


class DepotSandbox(Sandbox):
    """Depot's stand-in: what happened in the past, by kind, and what can be chosen."""

    connector = "depot"

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.past: dict[str, list[dict[str, Any]]] = {"registered": [], "ordered": []}
        self.page = 3
        self.status = 0
        # The answer to the n-th page of the past from now on is a 503.
        self.fail_after: int | None = None
        self.asked: list[str] = []
        self.choices: dict[str, list[dict[str, str]]] = {
            "shelves": [
                {"id": "s-1", "label": "Toys", "hint": "12 things"},
                {"id": "s-2", "label": "Books", "hint": "ground floor"},
                {"id": "s-3", "label": "Books", "hint": "cellar"},
                {"id": "s-4", "label": "toys"},
                {"id": "s-5", "label": "Games"},
                {"id": "Games", "label": "Old games"},
            ],
            "lanes": [{"id": "main", "label": "Main lane"}, {"id": "l-2", "label": "Second lane"}],
            "spots": [{"id": "main-1", "label": "First"}, {"id": "l-2-1", "label": "First"}],
        }

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/past/{kind}", self.get_past),
            web.get("/{kind:shelves|lanes|spots}", self.get_choices),
            web.post("/{what:put|move}", self.post_thing),
            web.post("/_sandbox/past", self.put_past),
            web.get("/_sandbox/asked", self.show_asked),
        ]

    async def put_past(self, request: web.Request) -> web.Response:
        self.past |= await request.json()
        return web.json_response({})

    async def show_asked(self, request: web.Request) -> web.Response:
        return web.json_response(self.asked)

    def _refuse(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.secret('main', 'token')}":
            return web.Response(status=401)
        return web.Response(status=self.status) if self.status else None

    async def get_past(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        if self.fail_after is not None:
            if self.fail_after == 0:
                return web.Response(status=503, headers={"Retry-After": "60"})
            self.fail_after -= 1
        start = int(request.query["after"] or 0)
        self.asked.append(f"{request.match_info['kind']} {start}")
        items = self.past[request.match_info["kind"]][start : start + self.page]
        return web.json_response({"items": items, "cursor": start + len(items)})

    async def get_choices(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        kind, start = request.match_info["kind"], int(request.query["after"] or 0)
        self.asked.append(f"{kind} {start} {request.query['search']} {request.query.get('lane', '')}".strip())
        found = [one for one in self.choices[kind] if request.query["search"].lower() in one["label"].lower()]
        if kind == "spots":
            found = [one for one in found if one["id"].startswith(request.query["lane"])]
        end = start + 4
        return web.json_response({"items": found[start:end], "next": str(end) if end < len(found) else None})

    async def post_thing(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        self.record(request.match_info["what"], "main", **await request.json())
        return web.json_response({})


def signed(topic: str, body: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A webhook's body and headers as Depot sends them."""
    payload = json.dumps(body).encode()
    webhook = depot.webhook
    assert isinstance(webhook, Hmac), "depot signs by HMAC"
    return payload, webhook.headers(payload, sandbox_secret("depot", "main", "webhook_secret"), topic=topic)


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(depot)
