"""What the tests share: a sandbox over real HTTP, a listener in the hub's place, a witness of every request."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

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
Facts = dict[str, Any]

# There is no document of the Content API here: path, parameters and paging as twilio-python 9.13.0 asks for them
# (rest/content/v1/content), which `test_templates_are_listed_as_the_official_client_lists_them` compares.
CONTENT = {
    "method": "GET",
    "host": "content.twilio.com",
    "path": "/v1/Content",
    "parameters": {},
    "query": {"PageSize": {"type": "integer"}, "Page": {"type": "integer"}, "PageToken": {"type": "string"}},
    "form": {},
    "required": [],
}


# -- the witness -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request as the sandbox got it; host and path as at Twilio."""

    method: str
    host: str
    path: str
    query: Sequence[tuple[str, str]]
    form: Sequence[tuple[str, str]]


@dataclass
class Witness:
    """Holds every request that the connector makes in a test against the facts."""

    facts: Facts
    requests: list[Request] = field(default_factory=list)
    operations: set[str] = field(default_factory=set)

    def check(self, request: Request) -> None:
        """Fail where the request is none that Twilio's API has, or not as it describes it."""
        where = f"{request.method} {request.host}{request.path}"
        operation, match = next((found for one in self._all() if (found := _matched(one, request))), (None, None))
        assert operation is not None, f"Twilio's API has no {where}"
        assert match is not None
        self.operations.add(named(operation))
        for name, value in match.groupdict().items():
            # In the path Twilio writes names in braces; a group of them has no other signs.
            check_value(operation["parameters"].get(name, {}), unquote(value), f"{where}: {name}")
        for kind, given in (("query", request.query), ("form", request.form)):
            for name, value in given:
                assert name in operation[kind], f"{where} takes no {name} in its {kind}"
                check_value(operation[kind][name], value, f"{where}: {name}")
            single = [name for name, _ in given if operation[kind][name].get("type") != "array"]
            assert len(single) == len(set(single)), f"{where} names a parameter of its {kind} twice"
        known = {name for name, _ in (*request.query, *request.form)} | set(match.groupdict())
        missing = set(operation["required"]) - known
        assert not missing, f"{where} lacks {missing}"

    def _all(self) -> list[Facts]:
        return [*self.facts["operations"], CONTENT]


def named(operation: Mapping[str, Any]) -> str:
    """An operation in a word."""
    return f"{operation['method']} {operation['path']}"


def _matched(operation: Facts, request: Request) -> tuple[Facts, re.Match[str]] | None:
    if (operation["method"], operation["host"]) != (request.method, request.host):
        return None
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+?)", re.escape(operation["path"]))
    match = re.fullmatch(pattern, request.path)
    return (operation, match) if match else None


def check_value(limits: Mapping[str, Any], value: str, where: str) -> None:
    """Fail where a value is not as the facts allow it."""
    if limits.get("type") == "array":
        check_value(limits["items"], value, where)
        return
    assert re.search(limits.get("pattern", ""), value), f"{where} may not be {value!r}"
    assert value in limits.get("enum", [value]), f"{where} may not be {value!r}"
    assert limits.get("minLength", 0) <= len(value) <= limits.get("maxLength", len(value)), (
        f"{where} has a wrong length"
    )
    if limits.get("type") == "integer":
        assert limits.get("minimum", int(value)) <= int(value) <= limits.get("maximum", int(value)), (
            f"{where} is {value}"
        )
    if limits.get("type") == "boolean":
        assert value in ("true", "false"), f"{where} is no boolean"
    if limits.get("format") == "date-time":
        datetime.fromisoformat(value)
    if limits.get("format") == "uri" and value:
        assert re.match(r"https?://[^/]+", value), f"{where} is no address"


@pytest.fixture(scope="session")
def facts() -> Facts:
    found: Facts = json.loads((Path(__file__).parent / "facts" / "api.json").read_text())
    return found


@pytest.fixture
def operation(facts: Facts) -> Callable[[str, str], Facts]:
    """An operation of the facts, by its method and the end of its path."""

    def find(method: str, end: str) -> Facts:
        return next(o for o in facts["operations"] if o["method"] == method and o["path"].endswith(end))

    return find


@pytest.fixture(autouse=True)
def witness(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    """Sees what any sandbox of this test is asked by the connector, and holds it against the facts afterwards."""
    seen, made = Witness(facts), TwilioSandbox.app

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
        # Only the hub says which host it means; other clients ask on purpose for what is not there.
        if host := request.headers.get("X-Sandbox-Host"):
            path = request.raw_path.partition("?")[0].removeprefix("/twilio")
            form = parse_qsl((await request.read()).decode(), keep_blank_values=True)
            seen.requests.append(Request(request.method, host, path, list(request.query.items()), form))
        answer: web.StreamResponse = await handler(request)
        return answer

    def app(self: TwilioSandbox) -> web.Application:
        found = made(self)
        found.middlewares.insert(0, watch)
        return found

    monkeypatch.setattr(TwilioSandbox, "app", app)
    yield seen
    for request in seen.requests:
        seen.check(request)


# -- the account -------------------------------------------------------------------------------------------------------


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
