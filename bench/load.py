"""The load generator, a process of its own: keep-alive connections that send signed webhooks made before the clock starts.

Takes a `Load` as JSON in its first argument and prints a `Result` as JSON. It ends by itself after `at_most_s`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.vendor import webhook_request

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send. Without `rate` each connection sends the next one as soon as it has its answer."""

    url: str
    first: int
    count: int
    connections: int = 64
    rate: float | None = None
    at_most_s: float = 120.0
    keep_times: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came back. `started` and `ended` are monotonic seconds; `sent` the instant each number was sent, if kept."""

    statuses: dict[str, int]
    started: float
    ended: float
    p50_ms: float
    p99_ms: float
    sent: dict[str, float] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Answered 200, per second."""
        return self.statuses.get("200", 0) / (self.ended - self.started)


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> asyncio.Future[int]:
        """Send one request; the future gets the status."""
        assert self._transport is not None, "sent on an open connection"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(_END_OF_HEAD)
        if not found:
            return
        _, named, rest = head.lower().partition(_LENGTH)
        if len(body) < (int(rest.split(b"\r\n", 1)[0]) if named else 0):
            return
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None, "closed after it was opened"
        self._transport.close()


async def send(load: Load) -> Result:
    """Send the load and measure. Raises TimeoutError after `at_most_s`, OSError when the server is not there."""
    parts = urlsplit(load.url)
    host, port = parts.hostname or "", parts.port or 80
    requests = [
        (n, webhook_request(n, f"{host}:{port}", parts.path)) for n in range(load.first, load.first + load.count)
    ]
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(_Connection, host, port))[1] for _ in range(load.connections)]
    statuses: Counter[int] = Counter()
    took_s: list[float] = []
    sent: dict[str, float] = {}
    started = time.monotonic()
    waiting = iter(enumerate(requests))

    async def work(connection: _Connection, mine: Iterator[tuple[int, tuple[int, bytes]]]) -> None:
        for place, (n, request) in mine:
            if load.rate and (early := started + place / load.rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            before = time.monotonic()
            status = await connection.send(request)
            took_s.append(time.monotonic() - before)
            statuses[status] += 1
            if load.keep_times:
                sent[str(n)] = before

    async with asyncio.timeout(load.at_most_s):
        await asyncio.gather(*(work(c, waiting) for c in connections))
    ended = time.monotonic()
    for connection in connections:
        connection.close()
    return Result(
        statuses={str(status): n for status, n in statuses.items()},
        started=started,
        ended=ended,
        p50_ms=percentile(took_s, 50) * 1000,
        p99_ms=percentile(took_s, 99) * 1000,
        sent=sent,
    )


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed. Raises ValueError when there are none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(send(Load(**json.loads(sys.argv[1])))))))
