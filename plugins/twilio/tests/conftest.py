"""What the tests share: a sandbox over real HTTP, a listener in the hub's place, a made-up account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub import ActionContext, Delivery, InboundRequest
from hub.clock import Clock
from hub.connector import sandbox_secret
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_twilio import twilio
from hub_twilio.sandbox import TwilioSandbox

ACCOUNT = "AC00000000000000000000000000000001"
SENDER = "+14155550199"
SERVICE = "MG000000000000000000000000000000c3"

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


@dataclass
class Listener:
    """Stands where the hub's webhook address would be: keeps every call, answers `answers` in turn, then 204."""

    address: str = ""
    calls: list[InboundRequest] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = f"{self.address.removesuffix('/in')}{request.raw_path}"
        self.calls.append(InboundRequest(request.method, url, headers, await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 204)


@pytest.fixture
def account() -> str:
    return ACCOUNT


@pytest.fixture
def token() -> str:
    """The Auth Token that the sandbox generates for the account."""
    return sandbox_secret("twilio", ACCOUNT, "auth_token")


@pytest.fixture
async def sandbox() -> AsyncIterator[TwilioSandbox]:
    made = TwilioSandbox(Clock())
    yield made
    await made.close()


@pytest.fixture
async def sandbox_url(sandbox: TwilioSandbox) -> AsyncIterator[str]:
    async with SandboxServer({"twilio": sandbox}) as server:
        yield server.url


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    found = Listener()
    app = web.Application()
    app.router.add_route("*", "/in", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    yield found
    await runner.cleanup()


@pytest.fixture
def context(sandbox_url: str) -> ContextMaker:
    """Makes a connection's context; its default sender is a number unless `settings` say otherwise."""

    def make(settings: dict[str, str] | None = None, **options: Any) -> AbstractAsyncContextManager[ActionContext]:
        chosen = {"from_number": SENDER} if settings is None else settings
        return sandbox_context(twilio, sandbox_url, {"account_sid": ACCOUNT, **chosen}, **options)

    return make


@pytest.fixture
def fixture_body() -> Callable[[str], bytes]:
    return lambda name: (Path(__file__).parent / "fixtures" / name).read_bytes()


@pytest.fixture
def delivery() -> Callable[..., Delivery]:
    """Makes a verified call from a form body; `url` may hold a query."""

    def make(body: bytes, url: str = "https://hub.example.com/webhooks/twilio/in") -> Delivery:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        request = InboundRequest("POST", url, headers, body)
        assert twilio.webhook
        return Delivery(request, "twilio", "texts", ACCOUNT, twilio.webhook.topic(request), 1_795_348_800_000)

    return make
