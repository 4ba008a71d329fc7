"""What the tests share: both sandboxes over real HTTP, a listener in the hub's place, requests held against the facts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub import ActionContext, Connector, Delivery, InboundRequest
from hub.clock import Clock
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_mailchimp import mailchimp, mandrill
from hub_mailchimp.sandbox.marketing import MailchimpSandbox
from hub_mailchimp.sandbox.transactional import MandrillSandbox

FACTS = Path(__file__).parent / "facts"
FIXTURES = Path(__file__).parent / "fixtures"
NOW_MS = 1_795_169_800_000
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


# -- the vendor's own description --------------------------------------------------------------------------------------


@cache
def facts(name: str) -> Any:
    return json.loads((FACTS / f"{name}.json").read_text())


def problems(shape: Mapping[str, Any], value: Any, place: str = "body") -> list[str]:
    """What is wrong with a value, by the shape that the vendor's description gives it."""
    if "enum" in shape:
        return [] if value in shape["enum"] else [f"{place}: {value!r} is none of {shape['enum']}"]
    kind = shape.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool))):
        return [f"{place}: {value!r} is no {kind}"]
    found = []
    if isinstance(value, str) and not shape.get("minLength", 0) <= len(value) <= shape.get("maxLength", len(value)):
        found.append(f"{place}: too long or short")
    if isinstance(value, int | float) and not shape.get("minimum", value) <= value <= shape.get("maximum", value):
        found.append(f"{place}: {value} is out of range")
    if "fields" in shape:
        found += [f"{place}.{name}: unknown" for name in value if name not in shape["fields"]]
        found += [f"{place}.{name}: missing" for name in shape.get("required", ()) if name not in value]
        for name in shape["fields"].keys() & value.keys():
            found += problems(shape["fields"][name], value[name], f"{place}.{name}")
    for name, one in value.items() if "values" in shape else ():
        found += problems(shape["values"], one, f"{place}.{name}")
    for number, one in enumerate(value) if "items" in shape else ():
        found += problems(shape["items"], one, f"{place}[{number}]")
    return found


def operation_of(name: str, method: str, path: str) -> tuple[str, Mapping[str, Any]]:
    """The operation that a request is. Raises AssertionError where the description has none."""
    for title, operation in facts(name)["operations"].items():
        verb, _, template = title.partition(" ")
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if verb == method.lower() and re.fullmatch(pattern, path):
            return title, operation
    raise AssertionError(f"the description has no {method} {path}")


@dataclass
class Checked:
    """A connection's way out that holds each request against the facts, and keeps which operations were used."""

    inner: Any
    name: str
    used: set[str] = field(default_factory=set)

    async def request(self, method: str, path: str, **given: Any) -> Any:
        title, operation = operation_of(self.name, method, path)
        query, body = given.get("params") or {}, given.get("json")
        found = [f"query.{name}: unknown" for name in query if name not in operation.get("query", {})]
        for name, shape in operation.get("query", {}).items():
            if name in query and "enum" in shape and query[name] not in shape["enum"]:
                found.append(f"query.{name}: {query[name]} is none of {shape['enum']}")
        if body is not None or "body" in operation:
            shape = operation["body"]
            if self.name == "transactional":
                # The key goes in a header; it is the only field of the body that is not there.
                shape = {**shape, "required": [name for name in shape.get("required", ()) if name != "key"]}
            found += problems(shape, body)
        assert not found, f"{title}: {found}"
        self.used.add(title)
        return await self.inner.request(method, path, **given)


def checked(ctx: ActionContext, name: str) -> ActionContext:
    return replace(ctx, http=Checked(ctx.http, name))


# -- sandboxes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def marketing(clock: Clock) -> AsyncIterator[MailchimpSandbox]:
    made = MailchimpSandbox(clock)
    yield made
    await made.close()


@pytest.fixture
async def transactional(clock: Clock) -> AsyncIterator[MandrillSandbox]:
    made = MandrillSandbox(clock)
    yield made
    await made.close()


@pytest.fixture
async def sandbox_url(marketing: MailchimpSandbox, transactional: MandrillSandbox) -> AsyncIterator[str]:
    async with SandboxServer({"mailchimp": marketing, "mandrill": transactional}) as server:
        yield server.url


def _contexts(connector: Connector, name: str, usual: dict[str, str], url: str, clock: Clock) -> ContextMaker:
    @asynccontextmanager
    async def make(settings: dict[str, str] | None = None, **options: Any) -> AsyncIterator[ActionContext]:
        """A connection's context whose requests are held against the facts."""
        async with sandbox_context(connector, url, {**usual, **(settings or {})}, clock=clock, **options) as ctx:
            yield checked(ctx, name)

    return make


@pytest.fixture
def mail(sandbox_url: str, clock: Clock) -> ContextMaker:
    """Makes contexts of Mailchimp Marketing."""
    return _contexts(mailchimp, "marketing", {}, sandbox_url, clock)


@pytest.fixture
def single(sandbox_url: str, clock: Clock) -> ContextMaker:
    """Makes contexts of Mailchimp Transactional."""
    return _contexts(mandrill, "transactional", {"from_email": "team@example.test"}, sandbox_url, clock)


# -- calls -------------------------------------------------------------------------------------------------------------


@dataclass
class Listener:
    """Stands where the hub's webhook address would be: keeps every call, answers `answers` in turn, then 200."""

    address: str = ""
    calls: list[InboundRequest] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    async def take(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            self.tries.append(request.method)
            return web.Response()
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = f"{self.address.removesuffix('/in')}{request.raw_path}"
        body = await request.read()
        self.calls.append(InboundRequest("POST", url, headers, body, self.clock.now_ms()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def listener(clock: Clock) -> AsyncIterator[Listener]:
    found = Listener(clock=clock)
    app = web.Application()
    app.router.add_route("*", "/in", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    yield found
    await runner.cleanup()


@pytest.fixture
def delivered() -> Callable[..., Delivery]:
    """Makes a verified call of a form body."""

    def make(connector: Connector, body: bytes) -> Delivery:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        request = InboundRequest("POST", "https://hub.example.test/in", headers, body, NOW_MS)
        assert connector.webhook
        topic = connector.webhook.topic(request)
        return Delivery(request, connector.name, "mail", "main", topic, NOW_MS)

    return make
