"""A running sandbox, contexts that lead there, a receiver that stands in the hub's place, and Meta's specifications.

Whatever a test lets the connector ask is compared with the specifications afterwards.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from facebook_business.adobjects.adset import AdSet
from facebook_business.adobjects.campaign import Campaign
from facebook_business.adobjects.page import Page

from hub import ActionContext, Delivery, Event, InboundRequest, SignatureError
from hub.clock import Clock, FrozenClock, parse_time_ms
from hub.connector import sandbox_secret
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.sandbox import FacebookSandbox
from hub_facebook_ads.sandbox.business import Business

HERE = Path(__file__).parent
AD_ACCOUNT, PAGE = "act_111", "119440231087027"

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
Asked = tuple[str, str, str | None, dict[str, Any]]

# The last one is added by Meta's own library.
_OF_ALL = {"fields", "limit", "after", "summary"}
# What the specifications leave out and Meta's guide of retrieving leads tells.
_BEYOND = {"GET form/leads": {"filtering"}}
# Nodes without a specification here; Meta's own library stands in for it.
_BY_LIBRARY = {
    "GET ad_account/campaigns": Campaign,
    "GET campaign/": Campaign,
    "POST campaign/": Campaign,
    "GET ad_account/adsets": AdSet,
    "POST ad_set/": AdSet,
    "GET me/accounts": Page,
}


@dataclass(frozen=True)
class Facts:
    """The specifications, cut down."""

    known: Mapping[str, Any]

    def wrong(self, asked: Asked) -> list[str]:
        """What is wrong with a call: an edge, parameter, field or value that is not in the specifications."""
        method, node, edge, parameters = asked
        name = f"{method} {node}/{edge or ''}"
        if library := _BY_LIBRARY.get(name):
            known = set(library._field_types)
            return [f"{name}: {one}" for one in _named(parameters) | set(parameters) - _OF_ALL if one not in known]
        if name not in self.known["edges"]:
            return [f"{name} is no edge"]
        spec = self.known["edges"][name]
        allowed = {*spec["parameters"], *_OF_ALL, *_BEYOND.get(name, ())}
        found = [f"{name} has no parameter {one}" for one in parameters if one not in allowed]
        found += [f"{name} needs {one}" for one in spec["required"] if one not in parameters]
        found += self._values(name, spec, parameters)
        fields = self.known["fields"].get(spec["returns"], {})
        if "fields" in spec["parameters"]:  # the app's subscriptions call something else so
            return found
        return found + [f"{spec['returns']} has no field {one}" for one in _named(parameters) if one not in fields]

    def _values(self, name: str, spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
        found = []
        for one, type_ in spec["parameters"].items():
            values = self.known["enums"].get(type_.removeprefix("list<").removesuffix(">"))
            given = parameters.get(one, ())
            for value in given if isinstance(given, list) else str(given).split(",") if given else ():
                if values is not None and value not in values:
                    found.append(f"{name}: {one} may not be {value}")
            if type_ == "Object" and one in parameters and not isinstance(given, dict | list):
                found.append(f"{name}: {one} must be an object")
        return found


def _named(parameters: Mapping[str, Any]) -> set[str]:
    return set(filter(None, str(parameters.get("fields", "")).split(",")))


@pytest.fixture
def facts() -> Facts:
    return Facts(json.loads((HERE / "facts" / "graph.json").read_text()))


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(parse_time_ms("2026-11-22T10:00:00Z"))


@pytest.fixture
async def sandbox(clock: Clock, facts: Facts) -> AsyncIterator[FacebookSandbox]:
    made = FacebookSandbox(clock)
    yield made
    await made.close()
    assert [wrong for asked in made.asked for wrong in facts.wrong(asked)] == []


@pytest.fixture
def business(sandbox: FacebookSandbox) -> Business:
    return sandbox.business(AD_ACCOUNT, PAGE)


@pytest.fixture
async def server(sandbox: FacebookSandbox) -> AsyncIterator[SandboxServer]:
    async with SandboxServer({"facebook_ads": sandbox}) as running:
        yield running


@pytest.fixture
def context(server: SandboxServer, clock: Clock, business: Business) -> ContextMaker:
    """Makes a connection's context: of the ad account and its Page, unless `settings` say otherwise."""

    def make(settings: Mapping[str, str] | None = None, **options: Any) -> AbstractAsyncContextManager[ActionContext]:
        chosen = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE} if settings is None else settings
        return sandbox_context(facebook_ads, server.url, chosen, **{"clock": clock, **options})

    return make


@pytest.fixture
async def ctx(context: ContextMaker) -> AsyncIterator[ActionContext]:
    async with context() as made:
        yield made


@pytest.fixture
def secret() -> Callable[[str], str]:
    """The generated secrets of the connection: `secret("app_secret")`."""
    return lambda name: sandbox_secret("facebook_ads", PAGE, name)


@dataclass
class Inbox:
    """Stands where the hub's address would be: greets, checks signatures, keeps what it recognised."""

    secrets: Mapping[str, str]
    url: str = ""
    requests: list[InboundRequest] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        inbound = InboundRequest(request.method, str(request.url), headers, await request.read())
        webhook = facebook_ads.webhook
        assert webhook
        if greeting := webhook.handshake(inbound, self.secrets):
            return web.Response(status=greeting.status, body=greeting.body, content_type=greeting.content_type)
        self.requests.append(inbound)
        try:
            webhook.verify(inbound, self.secrets)
        except SignatureError:
            return web.Response(status=401)
        account = webhook.account(inbound) or ""
        delivery = Delivery(inbound, "facebook_ads", "ads", account, webhook.topic(inbound), 0)
        self.events += facebook_ads.parse(delivery) or []
        return web.Response()


@pytest.fixture
async def inbox(secret: Callable[[str], str]) -> AsyncIterator[Inbox]:
    box = Inbox({"app_secret": secret("app_secret"), "verify_token": secret("verify_token")})
    app = web.Application()
    app.router.add_route("*", "/webhooks/facebook_ads/k", box.receive)
    async with TestServer(app) as running:
        box.url = str(running.make_url("/webhooks/facebook_ads/k"))
        yield box


@pytest.fixture
def fixture() -> Callable[[str], bytes]:
    return lambda name: (HERE / "fixtures" / name).read_bytes()
