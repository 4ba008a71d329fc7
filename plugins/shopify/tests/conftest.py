"""A running sandbox, a connection's context that leads there, and a receiver of webhooks that checks them as the hub does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hub import ActionContext, Delivery, Event, InboundRequest, SignatureError
from hub.clock import Clock, FrozenClock, parse_time_ms
from hub.testing.context import sandbox_context, sandbox_fields
from hub.testing.sandbox import SandboxServer
from hub_shopify import shopify
from hub_shopify.sandbox import ShopifySandbox

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def shop() -> str:
    return "some-shop.myshopify.com"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(parse_time_ms("2026-11-22T10:00:00Z"))


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[ShopifySandbox]:
    made = ShopifySandbox(clock)
    yield made
    await made.close()


@pytest.fixture
async def server(sandbox: ShopifySandbox) -> AsyncIterator[SandboxServer]:
    async with SandboxServer({"shopify": sandbox}) as running:
        yield running


@pytest.fixture
async def ctx(server: SandboxServer, shop: str, clock: Clock) -> AsyncIterator[ActionContext]:
    async with sandbox_context(shopify, server.url, {"shop": shop}, clock=clock) as context:
        yield context


@dataclass
class Inbox:
    """Answers webhooks as the hub would: 401 unless they are signed, else 200; `events` are those it recognised."""

    url: str = ""
    requests: list[InboundRequest] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        inbound = InboundRequest(request.method, str(request.url), headers, await request.read())
        self.requests.append(inbound)
        assert shopify.webhook
        account = shopify.webhook.account(inbound) or ""
        secrets = {n: v for n, v in sandbox_fields(shopify, {"shop": account}).items() if n in shopify.webhook.secrets}
        try:
            shopify.webhook.verify(inbound, secrets)
        except SignatureError:
            return web.Response(status=401)
        topic = shopify.webhook.topic(inbound)
        self.events += shopify.parse(Delivery(inbound, "shopify", "my-shop", account, topic, 0)) or []
        return web.Response()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    box = Inbox()
    app = web.Application()
    app.router.add_post("/webhooks/shopify", box.receive)
    async with TestServer(app) as running:
        box.url = str(running.make_url("/webhooks/shopify"))
        yield box


@pytest.fixture
def sample() -> Any:
    """Reads a fixture: `sample("order_paid")`."""
    return lambda name: json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def delivered() -> Any:
    """Makes a delivery: `delivered("orders/paid", body)`; the body as JSON or as bytes."""

    def make(topic: str, body: Any) -> Delivery:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = InboundRequest("POST", "https://hub.example/webhooks/shopify/k", {"x-shopify-topic": topic}, raw)
        return Delivery(request, "shopify", "my-shop", "some-shop.myshopify.com", topic, 1)

    return make
