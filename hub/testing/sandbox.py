"""The ground of every sandbox: a vendor's stand-in over real HTTP, one server for all of them.

A sandbox checks authorisation and required fields, keeps state and sends signed webhooks as its vendor does. What it
accepted stands in its log, which tests and the demo read instead of the hub's own records.
"""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, cast
from urllib.parse import unquote_plus

import aiohttp
from aiohttp import web

from hub.clock import Clock
from hub.connector import Connector, sandbox_secret
from hub.errors import ConfigError

RETRY_AFTER_S = 7
"""What a request that was told to be refused with 429 is asked to wait."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One effect that a sandbox accepted: `operation` in the vendor's words, `data` what it was asked for."""

    at_ms: int
    operation: str
    account: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Sandbox(ABC):
    """One vendor's stand-in. Subclasses add their routes and call `record` for every effect they carry out.

    `clock` is hub time (`self.clock.now_ms()`), `log` what `record` noted, oldest first.

    Faults, for tests and the demo (also `POST /{connector}/_sandbox/faults` with these names):
    `throttle_until_ms` (hub time): answer as the vendor does when called too often; `drop_answers`: carry out the next
    n requests and then cut the connection; `drop_requests`: cut the connection of the next n without doing anything;
    `error_next`: carry out the next n, and answer 500; `fail_next`: answer the next n requests with 503 without doing anything;
    `refuse_next`: answer the next request with this status without doing anything, 429 with `Retry-After: 7`;
    `repeat_next`: the same, with a body that repeats what was asked, as vendors do (`repeat_as`: `flat` or `nested`);
    `delay_s`: think so long before each call; `answer_after_s`: carry it out, then keep the answer so long.
    """

    connector: ClassVar[str]

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[Received] = []
        self.refused = 0
        self.throttle_until_ms = 0
        self.drop_answers = 0
        self.drop_requests = 0
        self.fail_next = 0
        self.error_next = 0
        self.refuse_next = 0
        self.repeat_next = 0
        self.repeat_as = "flat"
        self.delay_s = 0.0
        self.answer_after_s = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """The vendor's endpoints, with the paths of the real host."""

    @abstractmethod
    def throttled(self) -> web.Response:
        """What the vendor answers when called too often."""

    def secret(self, account: str, field_name: str) -> str:
        """The generated credential of a sandbox connection; the hub derives the same."""
        return sandbox_secret(self.connector, account, field_name)

    async def only_reads(self, request: web.Request) -> bool:
        """Whether a call changes nothing: the faults that break connections off leave it alone, as they leave a GET alone.

        Override it where a vendor's questions are no GET.
        """
        return request.method == "GET"

    def record(self, operation: str, account: str, **data: Any) -> None:
        """Note an effect that was carried out."""
        self.log.append(Received(self.clock.now_ms(), operation, account, data))

    async def post(self, address: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send one webhook; returns the status, 0 when nobody answered."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.post(
                address.partition("#")[0], data=body, headers=headers, timeout=aiohttp.ClientTimeout(total=15)
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    def send_soon(self, sending: Awaitable[Any]) -> None:
        """Send a webhook without letting the caller wait, as vendors do."""

        async def send() -> None:
            await sending

        task = asyncio.ensure_future(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def settle(self) -> None:
        """Wait until every webhook that was to be sent has been answered."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def close(self) -> None:
        """End what is being sent and close the connections."""
        for task in self._sending:
            task.cancel()
        if self._session:
            await self._session.close()

    def app(self) -> web.Application:
        """The sandbox as an aiohttp application: the vendor's routes and `/_sandbox/…` for tests."""
        app = web.Application(middlewares=[self._faults])
        app.add_routes(self.routes())
        app.add_routes(
            [
                web.get("/_sandbox/log", self._show_log),
                web.delete("/_sandbox/log", self._clear_log),
                web.post("/_sandbox/faults", self._set_faults),
            ]
        )
        return app

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if "/_sandbox/" in request.path:
            return await handler(request)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.clock.now_ms() < self.throttle_until_ms:
            self.refused += 1
            return self.throttled()
        if self.fail_next > 0:
            self.fail_next -= 1
            return web.Response(status=503)
        if status := self.refuse_next:
            self.refuse_next = 0
            self.refused += 1
            return web.Response(status=status, headers={"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {})
        if self.repeat_next:
            return await self._repeat(request)
        changes = not await self.only_reads(request)
        if self.drop_requests > 0 and changes:
            self.drop_requests -= 1
            return _cut(request, web.Response())
        response = await handler(request)
        if self.answer_after_s:
            await asyncio.sleep(self.answer_after_s)
        if self.error_next > 0 and changes and response.status < 300:
            self.error_next -= 1
            return web.Response(status=500)
        if self.drop_answers > 0 and changes and response.status < 300:
            self.drop_answers -= 1
            return _cut(request, response)
        return response

    async def _repeat(self, request: web.Request) -> web.Response:
        status, self.repeat_next = self.repeat_next, 0
        self.refused += 1
        said = f"cannot do {request.method} {request.rel_url.human_repr()} {unquote_plus(await request.text())}"
        words = {"message": said, "detail": said, "title": said, "error_description": said, "code": 1, "status": status}
        body = {**words, "error": {**words, "error_user_msg": said} if self.repeat_as == "nested" else said}
        return web.json_response(body | {"errors": [{**words, "error": said}]}, status=status)

    async def _show_log(self, request: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self.log])

    async def _clear_log(self, request: web.Request) -> web.Response:
        self.log.clear()
        return web.json_response({})

    async def _set_faults(self, request: web.Request) -> web.Response:
        faults = await request.json()
        known = {
            "throttle_until_ms",
            "drop_answers",
            "drop_requests",
            "fail_next",
            "error_next",
            "refuse_next",
            "repeat_next",
            "repeat_as",
            "delay_s",
            "answer_after_s",
        }
        if unknown := set(faults) - known:
            return web.json_response({"error": f"unknown: {sorted(unknown)}; known: {sorted(known)}"}, status=400)
        for name, value in faults.items():
            setattr(self, name, value)
        return web.json_response(faults)


def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Nobody gets this response: its connection is broken off."""
    if request.transport is not None:
        request.transport.abort()
    return response


class SandboxServer:
    """All sandboxes on one local port: each vendor under `/{connector}/`, with the vendor's own paths below it.

    Use it as `async with SandboxServer({"acme": sandbox}) as server`; `server.url` is where it listens. `before` is awaited
    before each call.
    """

    def __init__(
        self,
        sandboxes: Mapping[str, Sandbox],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.sandboxes = dict(sandboxes)
        self._before = before
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen; `url` is set afterwards."""
        root = web.Application(client_max_size=2_000_000, middlewares=[self._await_before])
        for name, sandbox in self.sandboxes.items():
            root.add_subapp(f"/{name}/", sandbox.app())
        self._runner = web.AppRunner(root, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        server = cast("asyncio.Server", site._server)
        self.url = f"http://{self._host}:{server.sockets[0].getsockname()[1]}"

    @web.middleware
    async def _await_before(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._before is not None:
            await self._before()
        return await handler(request)

    async def stop(self) -> None:
        """Stop listening."""
        for sandbox in self.sandboxes.values():
            await sandbox.close()
        if self._runner:
            await self._runner.cleanup()

    async def __aenter__(self) -> SandboxServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def load_sandbox(connector: Connector, clock: Clock) -> Sandbox | None:
    """The connector's sandbox, or None if it has none. Raises ConfigError when the declared name leads nowhere."""
    if connector.sandbox is None:
        return None
    module, _, name = connector.sandbox.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)(clock)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"connector {connector.name}: no sandbox at {connector.sandbox}: {error}") from error
    return cast("Sandbox", made)
