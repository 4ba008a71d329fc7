"""The server's door: callers that dribble, flood, or come with a wrong signature over and over, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.api import serving
from tests.acme import signed
from tests.integration.test_api import Web

pytest_plugins = ["tests.integration.test_api"]

PUBLIC = "93.184.216.34"


async def _raw(web: Web, *pieces: bytes, every_s: float = 0.0) -> bytes:
    """Write pieces to the hub's port; returns all that it answers until it closes the connection."""
    address = urlsplit(web.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answered = asyncio.create_task(reader.read())
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.wait({answered}, timeout=every_s)
            if answered.done():
                break
    except ConnectionError:
        pass  # the hub has closed it, which is what some of these tests are about
    try:
        async with asyncio.timeout(20):
            found = await answered
    except ConnectionResetError:
        found = b"closed"  # before all that was sent had been read
    writer.close()
    return found


async def test_a_caller_that_dribbles_its_headers_is_ended(
    web: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.4)
    async with web(sqlite_url, work=False) as w:
        dribble = [b"POST /webhooks/acme/k HTTP/1.1\r\n", *(b"X-%d: a\r\n" % n for n in range(200))]
        assert (await _raw(w, *dribble, every_s=0.05)).startswith(b"HTTP/1.1 408 ")
        # and so is one that says nothing at all
        assert (await _raw(w)).startswith(b"HTTP/1.1 408 ")


async def test_a_caller_that_dribbles_its_body_is_ended_and_nothing_is_stored(
    web: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "WHOLE_S", 0.4)
    async with web(sqlite_url, work=False) as w:
        connection = await w.it.hub.connections.by_name("acme")
        head = f"POST /webhooks/acme/{connection.inbound_key} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
        assert b"408" in await _raw(w, head.encode(), *[b"x"] * 100, every_s=0.05)
        assert (await w.call("GET", "/api/v1/counts"))[1]["deliveries"] == {}


async def test_calls_that_follow_each_other_on_one_connection_are_not_ended(
    web: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.3)
    monkeypatch.setattr(serving, "WHOLE_S", 0.3)
    async with web(sqlite_url, work=False) as w:
        call = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answers = await _raw(w, call, call, call, call + call, last, every_s=0.2)
        assert answers.count(b"HTTP/1.1 200 OK") == 6
        assert b"408" not in answers


@pytest.mark.parametrize("end", [b"", b"\r\n"])
@pytest.mark.parametrize("pieces", [1, 40])
async def test_headers_without_end_are_refused(
    web: Callable[..., Any], sqlite_url: str, pieces: int, end: bytes
) -> None:
    async with web(sqlite_url, work=False) as w:
        head = (
            b"GET /health/live HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(2_000)) + end
        )
        size = len(head) // pieces + 1
        split = [head[start : start + size] for start in range(0, len(head), size)]
        assert (await _raw(w, *split)).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ", b"closed"))
        assert (await w.call("GET", "/api/v1/counts"))[0] == 200


async def test_what_is_compressed_is_not_unpacked(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        bomb = gzip.compress(b"[" + b"0," * 20_000_000 + b"0]")
        assert len(bomb) < 1_000_000
        body, headers = signed("signed_up", None, raw=bomb)
        assert await w.webhook(body, {**headers, "Content-Encoding": "gzip"}) == 200
        [delivery] = (await w.call("GET", "/api/v1/deliveries"))[1]["items"]
        assert (delivery["state"], delivery["bytes"]) == ("unreadable", len(bomb))


async def test_a_flood_at_one_address_is_answered_429_and_leaves_the_others_alone(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        w.it.hub.settings.webhooks_per_s = 5
        calls = [signed("signed_up", {"id": f"s-{n}"}, delivery=f"d-{n}") for n in range(40)]
        statuses = await asyncio.gather(*(w.webhook(body, headers) for body, headers in calls))
        assert set(statuses) == {200, 429}
        assert 10 <= statuses.count(200) < 40
        counted = (await w.call("GET", "/api/v1/counts"))[1]
        assert counted["deliveries"] == {"accepted": statuses.count(200)}
        body, headers = signed("signed_up", {"id": "s-x"})
        assert await w.webhook(body, headers, key="unknown") == 401
        await w.it.hub.ingest.flush_refusals()
        reasons = {r["reason"]: r["count"] for r in (await w.call("GET", "/api/v1/refusals"))[1]}
        assert next(n for reason, n in reasons.items() if "More calls came" in reason) == statuses.count(429)


async def test_whoever_guesses_signatures_or_keys_is_soon_not_listened_to(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        body, headers = signed("signed_up", {"id": "s-1"})
        forged = {**headers, "X-Acme-Signature": "0" * 64, "X-Forwarded-For": PUBLIC}
        statuses = [await w.webhook(body, forged) for _ in range(80)]
        assert statuses[:60] == [401] * 60
        assert 429 in statuses[60:]
        # also at the API, and also with what would be right
        async with w.session.get(f"{w.url}/api/v1/counts", headers={"X-Forwarded-For": PUBLIC}) as answer:
            assert (answer.status, answer.content_type) == (429, "application/problem+json")
            assert int(answer.headers["Retry-After"]) >= 1
        # others are heard, whoever they say they are to nobody's proxy
        assert await w.webhook(body, {**headers, "X-Forwarded-For": "8.8.8.8"}) == 200
        assert json.loads(body)["id"] == "s-1"
