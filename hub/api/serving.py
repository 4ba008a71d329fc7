"""The HTTP server around the application: how long and how much it waits for before anybody has said who calls."""

from __future__ import annotations

import asyncio
import socket
from asyncio import TimerHandle, Transport
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""How long a caller may take to say what it wants: the request line and all headers."""
WHOLE_S = 30.0
"""How long it may take with the body."""
MAX_HEAD_BYTES = 65_536
_CLOSE = "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_SLOW = f"HTTP/1.1 408 Request Timeout{_CLOSE}".encode()
_TOO_LARGE = f"HTTP/1.1 431 Request Header Fields Too Large{_CLOSE}".encode()


class Impatient(HttpToolsProtocol):
    """Ends connections that dribble, or whose head has no end: they cost a file descriptor each and are never told of.

    uvicorn bounds neither (0.54); a connection that is silent between requests it ends itself.
    """

    _waits: TimerHandle | None = None
    _head: int | None = 0
    _fields = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as the superclass does
        super().connection_made(transport)
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:
                self._end(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = self._fields = 0
        self._wait(HEAD_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD_BYTES:
            # It came at once and whole. The server answers 400 and closes the connection.
            raise ValueError("the headers are larger than the hub takes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head = None
        self._wait(WHOLE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._wait(None)
        super().on_message_complete()

    def _wait(self, seconds: float | None) -> None:
        if self._waits is not None:
            self._waits.cancel()
        self._waits = None if seconds is None else self.loop.call_later(seconds, self._end, _TOO_SLOW)

    def _end(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            # Once an answer has begun, another would be read as a part of it.
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()


class _Server(uvicorn.Server):
    """Leaves signals to the process, which has more to end than its server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def answering(
    app: FastAPI, listener: socket.socket, *, drain_s: float = 1, proxies: Sequence[str] = ()
) -> AsyncIterator[asyncio.Task[None]]:
    """Answer calls on `listener` while this lasts, and at the end those that have begun, for up to `drain_s`.

    Gives the task that does, which ends early only when it fails. `proxies` are the addresses of proxies in front: who calls is who they say (`X-Forwarded-For`), and nothing else.
    """
    config: dict[str, Any] = {
        "http": Impatient,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(proxies),
        "forwarded_allow_ips": list(proxies),
        "timeout_graceful_shutdown": max(1, int(drain_s)),
    }
    server = _Server(uvicorn.Config(app, **config))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  (uvicorn tells it in no other way)
            await asyncio.sleep(0.01)
        yield serving
    finally:
        server.should_exit = True
        await serving
