"""What the tests share: a sandbox over real HTTP, a made-up account, and a witness of every request that is made."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub import ActionContext, Delivery, InboundRequest
from hub.clock import Clock
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_hubspot import hubspot
from hub_hubspot.sandbox import HubspotSandbox, Portal

PORTAL = "62515"
OTHER_PORTAL = "70001"
NOW_MS = 1_795_170_000_000

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
Facts = dict[str, Any]

_DATED = re.compile(r"/\d{4}-\d\d(?:-beta)?(?=/|$)")


# -- the witness -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request as the sandbox got it; `path` as HubSpot's host would."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class Witness:
    """Holds every request of a test against the facts; `operations` are those that were asked for."""

    facts: Facts
    requests: list[Request] = field(default_factory=list)
    operations: set[str] = field(default_factory=set)

    def check(self, request: Request) -> None:
        """Fail where the request is none that HubSpot's API has, or not as it describes it."""
        found = [one for path in self._numbered(request.path) for one in self._operations(request.method, path)]
        assert found, f"HubSpot's API has no {request.method} {request.path}"
        operation = found[0]
        self.operations.add(f"{operation['method']} {operation['path']}")
        strange = set(request.query) - set(operation["query"])
        assert not strange, f"{request.method} {request.path} takes no {strange}"
        self._check(operation["body"], request.body, f"{request.method} {request.path}")

    def _numbered(self, path: str) -> list[str]:
        """The path under the numbered versions; of a dated one every path that it could stand for."""
        if not _DATED.search(path):
            return [path]
        found = []
        for pair in self.facts["dated"]:
            for dated in pair["dated"]:
                # What follows the first name in braces, or the dots, stays as it is.
                before = re.split(r"/\{(?!V\})|/\.\.\.", dated)[0]
                pattern = re.escape(before).replace(r"\{V\}", r"\d{4}-\d\d")
                if match := re.match(pattern + r"(?=/|$)", path):
                    numbered = re.split(r"/\{|/\.\.\.", pair["numbered"].split(" , ")[-1])[0]
                    found.append(numbered + path[match.end() :])
        return found

    def _operations(self, method: str, path: str) -> list[Facts]:
        return [
            one
            for one in self.facts["operations"]
            if one["method"] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one["path"]), path.rstrip("/"))
        ]

    def _check(self, type_: str | None, value: Any, where: str) -> None:
        if type_ is None:
            assert value is None, f"{where} takes no body"
            return
        if match := re.fullmatch(r"list\[(.+)\]", type_):
            assert isinstance(value, list), f"{where} is no list"
            for place, one in enumerate(value):
                self._check(match[1], one, f"{where}[{place}]")
        elif type_ == "dict[str, str]":
            assert all(isinstance(one, str) for one in value.values()), f"{where} holds values that are no text"
        elif type_ in self.facts["models"]:
            self._check_model(self.facts["models"][type_], value, where)
        else:
            assert _is(type_, value), f"{where} is no {type_}: {value!r}"

    def _check_model(self, model: Facts, value: Any, where: str) -> None:
        assert isinstance(value, dict), f"{where} is no object"
        assert not set(value) - set(model), f"{where} has no {set(value) - set(model)}"
        missing = {name for name, spec in model.items() if spec.get("required")} - set(value)
        assert not missing, f"{where} lacks {missing}"
        for name, one in value.items():
            self._check(model[name]["type"], one, f"{where}.{name}")
            assert one in model[name].get("enum", [one]), f"{where}.{name} may not be {one!r}"


def _is(type_: str, value: Any) -> bool:
    if type_ == "datetime":
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    if type_ == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool, "object": object, "dict[str, object]": dict}[type_])


@pytest.fixture(scope="session")
def facts() -> Facts:
    found: Facts = json.loads((Path(__file__).parent / "facts" / "api.json").read_text())
    return found


@pytest.fixture(autouse=True)
def witness(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    """Sees what any sandbox of this test is asked, and holds it against the facts afterwards."""
    seen = Witness(facts)
    serve = HubspotSandbox._serve

    async def watch(self: HubspotSandbox, handler: Any, request: web.Request) -> web.Response:
        if not request.headers.get("User-Agent", "").startswith("hubspot-api-client"):
            path = request.raw_path.partition("?")[0].removeprefix("/hubspot")
            body = json.loads(await request.read() or b"null")
            seen.requests.append(Request(request.method, path, dict(request.query), body))
        return await serve(self, handler, request)

    monkeypatch.setattr(HubspotSandbox, "_serve", watch)
    yield seen
    for request in seen.requests:
        seen.check(request)


# -- the account -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[HubspotSandbox]:
    made = HubspotSandbox(clock)
    yield made
    await made.close()


@pytest.fixture
def portal(sandbox: HubspotSandbox) -> Portal:
    return sandbox.portal(PORTAL)


@pytest.fixture
async def sandbox_url(sandbox: HubspotSandbox) -> AsyncIterator[str]:
    async with SandboxServer({"hubspot": sandbox}) as server:
        yield server.url


@pytest.fixture
def context(sandbox_url: str, clock: Clock) -> ContextMaker:
    """Makes a connection's context; `settings` add to the account's id."""

    def make(settings: dict[str, str] | None = None, **options: Any) -> AbstractAsyncContextManager[ActionContext]:
        given = {"portal_id": PORTAL, **(settings or {})}
        return sandbox_context(hubspot, sandbox_url, given, clock=clock, **options)

    return make


@pytest.fixture
def delivery() -> Callable[..., Delivery]:
    """Makes a verified call from events, or from a fixture's name."""

    def make(events: Any) -> Delivery:
        if isinstance(events, str):
            events = json.loads((Path(__file__).parent / "fixtures" / events).read_text())
        request = InboundRequest("POST", "https://hub.example.test/in", {}, json.dumps(events).encode(), NOW_MS)
        assert hubspot.webhook
        return Delivery(request, "hubspot", "crm", PORTAL, hubspot.webhook.topic(request), NOW_MS)

    return make
