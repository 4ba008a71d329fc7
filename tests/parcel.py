"""A made-up vendor that keeps the contract of connectors, made anew for each test so that a test can break one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hub import ActionContext, Connector, Delivery, Effect, Field, Hmac, Page, StaticToken
from hub.testing.contract import Contract
from hub.testing.sandbox import Sandbox

FIXTURES = Path(__file__).parent / "fixtures" / "parcel"


class Sent(BaseModel):
    """A parcel that left."""

    id: str
    email: str


class Label(BaseModel):
    """What stands on a parcel."""

    to: str


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
            )
        ],
        "fields": [
            Field(name="account", title="Account"),
            Field(name="webhook_secret", title="Webhook secret", secret=True),
        ],
        "webhook": Hmac(header="X-Signature", encoding="hex", topic="X-Topic", delivery_id="X-Delivery"),
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


def whole(**changed: Any) -> Connector:
    """The connector with all it declares."""
    connector = make(**changed)
    add_trigger(connector)
    add_action(connector)
    add_poll(connector)
    return connector


def suite(connector: Connector, **changed: Any) -> Any:
    """The contract of such a connector."""
    given: dict[str, Any] = {
        "connector": connector,
        "settings": {"account": "main"},
        "inputs": {"label": {"to": "Jane"}},
        "fixtures": FIXTURES,
    }
    return type("TestBroken", (Contract,), {**given, **changed})()


class ParcelSandbox(Sandbox):
    """Parcel's stand-in."""

    connector = "parcel"

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "5"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.put("/labels", self.put_label), web.get("/sent", self.get_sent)]

    def is_known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.secret('main', 'token')}"

    async def put_label(self, request: web.Request) -> web.Response:
        if not self.is_known(request):
            return web.Response(status=401)
        label = await request.json()
        self.record("label", "main", **label)
        return web.json_response(label)

    async def get_sent(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": "p-1", "email": "jane@example.com"}])


class Trusting(ParcelSandbox):
    """One that lets everybody in."""

    def is_known(self, request: web.Request) -> bool:
        return True


class Empty(ParcelSandbox):
    """One in which nothing happens, and which says yes to whoever calls too often."""

    def throttled(self) -> web.Response:
        return web.json_response({"to": "nobody"})

    async def get_sent(self, request: web.Request) -> web.Response:
        return web.json_response([])
