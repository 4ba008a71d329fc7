"""The server that actions call: counts what it gets and when, and costs as little as a server can.

`GET /_total` answers how many calls there were; `GET /_counts` how many calls each first path segment had and how many of them were distinct;
`GET /_times` when each path was first called (monotonic seconds, the same for all processes of a machine).
Below `/fail/` everything is answered 500, below `/hang/` nothing for 20 seconds and then hung up; neither is counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import cast

import httptools
import uvloop

_HANG_S = 20.0


class Calls:
    """Everything that was received."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, float] = {}

    def note(self, path: str) -> None:
        """One call."""
        self.counts[path.split("/", 2)[1]] += 1
        self.first.setdefault(path, time.monotonic())

    def answer(self, path: str) -> bytes:
        """The answer to a call or a question."""
        if path == "/_counts":
            distinct = Counter(p.split("/", 2)[1] for p in self.first)
            return json.dumps({name: [n, distinct[name]] for name, n in self.counts.items()}).encode()
        if path == "/_total":
            return json.dumps(self.counts.total()).encode()
        if path == "/_times":
            return json.dumps(self.first).encode()
        self.note(path)
        return b"{}"


class _Connection(asyncio.Protocol):
    def __init__(self, calls: Calls, prefix: str) -> None:
        self._calls, self._prefix = calls, prefix
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        # The hub leads sandbox calls to /{connector}/…; floors call without it.
        path = self._url.decode().removeprefix(self._prefix)
        assert self._transport is not None, "a message comes on a connection"
        if path.startswith("/fail/"):
            self._transport.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
            return
        if path.startswith("/hang/"):
            asyncio.get_running_loop().call_later(_HANG_S, self._transport.close)
            return
        body = self._calls.answer(path)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def serve(port: int, prefix: str) -> None:
    """Listen until the process is ended."""
    calls = Calls()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(calls, prefix), "127.0.0.1", port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
