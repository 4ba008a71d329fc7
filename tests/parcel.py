"""A made-up vendor that keeps the contract of connectors, made anew for each test so that a test can break one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from hub import (
    ActionContext,
    Choice,
    ChoicePage,
    ChoiceQuery,
    Chosen,
    ClientCredentials,
    Connector,
    Delivery,
    Effect,
    Field,
    Hmac,
    Page,
    StaticToken,
    Subscription,
    Subscriptions,
)
from hub.clock import Clock, parse_time_ms
from hub.testing.contract import Contract
from hub.testing.sandbox import Sandbox

PAST = [
    {"id": "p-8", "email": "jane@example.com", "at": "2026-01-01T10:00:00Z"},
    {"id": "p-9", "email": "jim@example.com", "at": "2026-01-02T10:00:00Z"},
]
DEPOTS = {"d-1": "North", "d-2": "South"}
FIXTURES = Path(__file__).parent / "fixtures" / "parcel"


class Sent(BaseModel):
    """A parcel that left."""

    id: str
    email: str
    at: AwareDatetime | None = None


class Label(BaseModel):
    """What stands on a parcel."""

    to: str


class Routed(Label):
    """A label, and the depot that the parcel goes by."""

    depot: Annotated[str, Chosen("depots")] | None = None


def make(**changed: Any) -> Connector:
    """The connector, with the given arguments in place of its own."""
    given: dict[str, Any] = {
        "name": "parcel",
        "title": "Parcel",
        "hosts": ["api.parcel.example"],
        "base_url": lambda fields: "https://api.parcel.example",
        "account": lambda fields: fields["account"],
        "auth": [
            StaticToken(
                headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
                fields=(Field(name="token", title="Token", secret=True),),
            ),
            ClientCredentials(
                headers=lambda fields: {"Authorization": f"Bearer {fields['access_token']}"},
                token_url=lambda fields: "https://api.parcel.example/token",
                fields=(
                    Field(name="client_id", title="Client id"),
                    Field(name="client_secret", title="Client secret", secret=True),
                ),
            ),
        ],
        "fields": [
            Field(name="account", title="Account"),
            Field(name="webhook_secret", title="Webhook secret", secret=True),
        ],
        "webhook": Hmac(
            header="X-Signature", encoding="hex", topic="X-Topic", delivery_id="X-Delivery", timestamp="X-Time"
        ),
        "sandbox": "tests.parcel:ParcelSandbox",
    }
    return Connector(**{**given, **changed})


def add_trigger(connector: Connector, **changed: Any) -> None:
    """Its trigger `sent`."""
    given: dict[str, Any] = {"topic": "sent", "payload": Sent, "sample": "sent.json", "fact": lambda sent: sent.id}
    given |= changed
    model = given["payload"]

    @connector.trigger("sent", **given)
    def sent(delivery: Delivery) -> Iterable[Any]:
        """A parcel left."""
        return [model.model_validate(delivery.json())]


def add_action(connector: Connector, run: Any = None, **changed: Any) -> None:
    """Its action `label`."""

    async def label(ctx: ActionContext, input: Label) -> Label:
        """Print a label."""
        return Label.model_validate((await ctx.http.request("PUT", "/labels", json=input.model_dump())).json())

    given: dict[str, Any] = {"input": Label, "output": Label, "effect": Effect.IDEMPOTENT}
    connector.action("label", **{**given, **changed})(run or label)


def add_poll(connector: Connector, fetch: Any = None) -> None:
    """The poll of its trigger."""

    async def recent(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Sent]]:
        yield Page([Sent.model_validate(one) for one in (await ctx.http.request("GET", "/sent")).json()], "end")

    connector.poll("sent", every_s=300, overlap_s=600)(fetch or recent)


async def past(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Sent]]:
    """What was sent before, one by one; the cursor is where to go on."""
    after = cursor or "0"
    while after != "end":
        asked = {"after": after, "since": str(since_ms)}
        answer = (await ctx.http.request("GET", "/past", params=asked)).json()
        after = answer["next"]
        yield Page([Sent.model_validate(one) for one in answer["items"]], after)


def add_history(connector: Connector, fetch: Any = None) -> None:
    """The past of its trigger."""
    connector.history("sent")(fetch or past)


async def depots(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Its depots, one by one."""
    asked = {"after": query.cursor or "0", "search": query.search}
    answer = (await ctx.http.request("GET", "/depots", params=asked)).json()
    return ChoicePage([Choice(*one) for one in answer["items"]], answer["next"])


def add_choices(connector: Connector, read: Any = None) -> None:
    """Its depots, which its action may be given."""
    connector.choose("depots")(read or depots)
    add_action(connector, input=Routed)


class Hooks(Subscriptions):
    """Where Parcel is to call. What is not overridden keeps the contract."""

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        return [Subscription(**one) for one in (await ctx.http.request("GET", "/hooks")).json()]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        answer = await ctx.http.request("POST", "/hooks", json={"topic": topic, "address": address})
        return Subscription(**answer.json())

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        await ctx.http.request("DELETE", f"/hooks/{subscription.id}")


def whole(**changed: Any) -> Connector:
    """The connector with all it declares."""
    connector = make(**{"subscriptions": Hooks(), **changed})
    add_trigger(connector, occurred_at=lambda sent: sent.at)
    add_poll(connector)
    add_history(connector)
    add_choices(connector)
    return connector


def suite(connector: Connector, **changed: Any) -> Any:
    """The contract of such a connector."""
    given: dict[str, Any] = {
        "connector": connector,
        "settings": {"account": "main"},
        "inputs": {"label": {"to": "jane@example.com"}},
        "fixtures": FIXTURES,
    }
    return type("TestBroken", (Contract,), {**given, **changed})()


class ParcelSandbox(Sandbox):
    """Parcel's stand-in."""

    connector = "parcel"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.hooks: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.made = 0

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "5"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.put("/labels", self.put_label),
            web.get("/sent", self.get_sent),
            web.get("/past", self.get_past),
            web.get("/depots", self.get_depots),
            web.post("/token", self.post_token),
            web.get("/hooks", self.get_hooks),
            web.post("/hooks", self.post_hook),
            web.delete("/hooks/{id}", self.delete_hook),
        ]

    def is_known(self, request: web.Request) -> bool:
        known = [self.secret("main", "token"), *self.tokens[-1:]]
        return request.headers.get("Authorization") in {f"Bearer {token}" for token in known}

    async def post_token(self, request: web.Request) -> web.Response:
        if (await request.post()).get("client_secret") != self.secret("main", "client_secret"):
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens.append(f"t-{len(self.tokens) + 1}")
        return web.json_response({"access_token": self.tokens[-1], "expires_in": 3600})

    async def get_hooks(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.hooks.values()))

    async def post_hook(self, request: web.Request) -> web.Response:
        self.made += 1
        id_ = f"h-{self.made}"
        self.hooks[id_] = {"id": id_, **await request.json()}
        return web.json_response(self.hooks[id_], status=201)

    async def delete_hook(self, request: web.Request) -> web.Response:
        self.hooks.pop(request.match_info["id"], None)
        return web.Response(status=204)

    async def put_label(self, request: web.Request) -> web.Response:
        if not self.is_known(request):
            return web.Response(status=401)
        label = await request.json()
        self.record("label", "main", **label)
        return web.json_response(label)

    async def get_sent(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": "p-1", "email": "jane@example.com"}])

    async def get_past(self, request: web.Request) -> web.Response:
        after, since_ms = int(request.query["after"]), int(request.query["since"])
        known = [one for one in PAST if parse_time_ms(one["at"]) >= since_ms]
        more = after + 1 < len(known)
        return web.json_response({"items": known[after : after + 1], "next": str(after + 1) if more else "end"})

    async def get_depots(self, request: web.Request) -> web.Response:
        if not self.is_known(request):
            return web.Response(status=401)
        after, search = int(request.query["after"]), request.query["search"].lower()
        known = [one for one in DEPOTS.items() if search in one[1].lower()]
        more = after + 1 < len(known)
        return web.json_response({"items": known[after : after + 1], "next": str(after + 1) if more else None})


class Trusting(ParcelSandbox):
    """One that lets everybody in."""

    def is_known(self, request: web.Request) -> bool:
        return True


class Queueing(ParcelSandbox):
    """One that gives away what happened once, after it was asked from the beginning."""

    asked = 0

    def routes(self) -> Iterable[web.RouteDef]:
        return [*super().routes(), web.get("/queue", self.get_queue)]

    async def get_queue(self, request: web.Request) -> web.Response:
        self.asked += 1
        found = [{"id": "p-1", "email": "jane@example.com"}]
        # The first time it is the contract that asks what there is.
        return web.json_response(found if self.asked <= 2 else [])


class Stubborn(ParcelSandbox):
    """One that takes no token but its first."""

    def is_known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.tokens[0]}"


class Empty(ParcelSandbox):
    """One in which nothing happens, and which says yes to whoever calls too often."""

    def throttled(self) -> web.Response:
        return web.json_response({"to": "nobody"})

    async def get_sent(self, request: web.Request) -> web.Response:
        return web.json_response([])


def refused(said: str, check: Callable[..., None], *arguments: str) -> None:
    """A question of the contract fails, with these words."""
    with pytest.raises(AssertionError, match=said):
        check(*arguments)
