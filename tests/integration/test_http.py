"""Outgoing calls against servers that misbehave: what counts as not sent, and what as unknown."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hub.connector import Credential, sandbox_secret
from hub.deadline import Deadline, instant
from hub.errors import (
    AddressRefused,
    ConnectionConfigError,
    LeaseOver,
    NotSent,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    VendorUnavailable,
)
from hub.http import Answer, Transport, error_for, retry_after
from hub.testing.context import sandbox_context
from tests.acme import acme
from tests.conftest import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads each request's head and then does as it is told; the requests it read are kept."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head)
                await serve(reader, writer)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, which some of these tests make it do
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x", seen
    finally:
        listening.close()


@asynccontextmanager
async def transport() -> AsyncIterator[Transport]:
    made = Transport()
    try:
        yield made
    finally:
        await made.close()


async def _call(t: Transport, url: str | URL, *, method: str = "POST", total_s: float = 1.0) -> Answer:
    return await t.send(method, URL(url), headers={}, body=b"{}", total_s=total_s)


async def test_a_refused_connection_was_not_sent() -> None:
    async with transport() as t:
        with pytest.raises(NotSent):
            await _call(t, f"http://127.0.0.1:{free_port()}/x")


async def test_a_host_that_does_not_exist_was_not_sent() -> None:
    async with transport() as t:
        with pytest.raises(NotSent):
            await _call(t, "http://nobody.invalid/x", total_s=5)


async def _close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def _slow_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3)


async def _byte_by_byte(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _n in range(30):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("serve", [_close, _reset, _half, _slow_headers, _byte_by_byte])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_once_the_request_left_the_outcome_is_unknown_and_it_is_sent_once(serve: Serve, method: str) -> None:
    async with server(serve) as (url, seen), transport() as t:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await _call(t, url, method=method)
        assert time.monotonic() - began < 2.5
        assert len(seen) == 1


class Silent(AbstractResolver):
    """A name server that does not answer."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await asyncio.sleep(60)
        return []

    async def close(self) -> None:
        pass


async def test_what_never_got_a_connection_in_time_was_not_sent() -> None:
    t = Transport(resolver=Silent())
    try:
        with pytest.raises(NotSent):
            await _call(t, "http://silent.example.com/x")
    finally:
        await t.close()


async def test_a_reused_connection_that_dies_is_not_repeated() -> None:
    answers = iter([True, False])

    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(answers):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        else:
            writer.close()

    async with server(once) as (url, seen), transport() as t:
        assert (await _call(t, url, method="PUT")).body == b"ok"
        with pytest.raises(OutcomeUnknown):
            await _call(t, url, method="PUT")
        assert len(seen) == 2


async def test_an_answer_without_end_is_cut_off() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _n in range(300):
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with server(endless) as (url, _), transport() as t:
        with pytest.raises(OutcomeUnknown, match="larger than"):
            await _call(t, url, total_s=10)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimited), (503, VendorUnavailable), (502, OutcomeUnknown), (500, OutcomeUnknown), (400, Rejected)],
)
def test_the_shared_status_table(status: int, kind: type[Exception]) -> None:
    assert isinstance(error_for(Answer(status, {"Retry-After": "7"}, b"")), kind)
    assert error_for(Answer(204, {}, b"")) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 10:02:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:30 GMT"}, 90.0),
        ({"Retry-After": "Sun, 22 Nov 2026 10:00:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:30 GMT"}, 0.0),
        ({"Retry-After": "Sun, 22 Nov 2026 10:02:00 GMT"}, None),
    ],
)
def test_how_long_the_vendor_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "http://api.acme.example/x",
        "https://evil.example/x",
        "https://api.acme.example.evil.example/x",
        "https://api.acme.example@evil.example/x",
        "https://127.0.0.1/x",
    ],
)
async def test_a_connector_reaches_only_the_hosts_it_declared(url: str) -> None:
    async with transport() as t:
        with pytest.raises(ConnectionConfigError, match="may only call https on"):
            t.address(url, acme, sandbox=False)


async def test_sandbox_mode_leads_to_the_sandbox_and_nowhere_else() -> None:
    async with transport() as t:
        with pytest.raises(ConnectionConfigError, match="no sandbox runs here"):
            t.address("https://api.acme.example/x", acme, sandbox=True)
    led = Transport(sandbox_url="http://127.0.0.1:9/")
    try:
        assert led.address("https://api.acme.example/x?a=1", acme, sandbox=True) == URL("http://127.0.0.1:9/acme/x?a=1")
        assert led.address("https://api.acme.example/x", acme, sandbox=False) == URL("https://api.acme.example/x")
    finally:
        await led.close()


async def test_a_sandbox_that_is_not_there_is_told_with_what_starts_it() -> None:
    port = free_port()
    async with sandbox_context(acme, f"http://127.0.0.1:{port}", {"account": "main"}) as ctx:
        with pytest.raises(NotSent, match=f"no sandbox answers at 127.0.0.1:{port}: start `hub up` or `hub sandbox`"):
            await ctx.http.request("GET", "/x")


@pytest.mark.parametrize(
    ("stands_still", "looks", "body"),
    [
        ("before it is begun", 0, b"{}"),
        ("before it is begun, without a body", 0, None),
        ("while it is being connected", 2, b"{}"),
    ],
)
async def test_a_request_whose_lease_is_over_never_leaves(
    stands_still: str, looks: int, body: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ok(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    looked = itertools.count()

    def an_hour_later() -> float:
        return instant() + (3600 if next(looked) >= looks else 0)

    monkeypatch.setattr("hub.http.instant", an_hour_later)
    monkeypatch.setattr("hub.deadline.instant", an_hour_later)
    async with server(ok) as (url, seen), transport() as t:
        with pytest.raises(LeaseOver):
            await t.send("POST", URL(url), headers={}, body=body, total_s=1.0, deadline=Deadline(30, instant()))
        assert seen == []
        # and the next one goes through
        assert (await _call(t, url)).body == b"ok"
    assert next(looked) > looks


async def _two_hundred(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


class _Led(AbstractResolver):
    """A name server that leads every name to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [{"hostname": host, "host": self._address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None: ...


async def test_a_vendors_name_that_leads_into_the_own_network_is_called_by_nobody() -> None:
    async with server(_two_hundred) as (url, seen):
        led = url.replace("127.0.0.1", "api.vendor.example")
        closed = Transport(resolver=_Led("127.0.0.1"))
        with pytest.raises(AddressRefused, match=r"api\.vendor\.example leads to 127\.0\.0\.1"):
            await _call(closed, led)
        await closed.close()
        assert seen == []
        # unless the operator says that it is meant
        for allowed in ("api.vendor.example", "127.0.0.0/8"):
            let_through = Transport(resolver=_Led("127.0.0.1"), allowed=[allowed])
            assert (await _call(let_through, led)).status == 200
            await let_through.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
    ],
)
async def test_no_way_of_writing_the_own_machine_leads_there(url: str) -> None:
    host = URL(url).host or ""
    anywhere = dataclasses.replace(acme, hosts=[host])
    async with transport() as t:
        with pytest.raises((AddressRefused, NotSent, OutcomeUnknown, ConnectionConfigError)) as refused:
            await _call(t, t.address(url, anywhere, sandbox=False))
    assert "ConnectorError" not in str(refused.value), "a connection was tried"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.acme.example@evil.example/",
        "https://evil.example\\@api.acme.example/",
        "https://api.acme.example\\.evil.example/",
        "https://api.acme.example.:443/",
        "https://api.acme.example:8443/",
        "https://user:pass@api.acme.example/",
        "https://api.acme.example:443@evil.example/",
        "https://api.acme.example%2eevil.example/",
        "https://api.acme.example:99999/",
        "http://api.acme.example/",
        "//api.acme.example/",
    ],
)
async def test_no_trick_of_writing_leads_to_another_host(url: str) -> None:
    async with transport() as t:
        with pytest.raises(ConnectionConfigError):
            t.address(url, acme, sandbox=False)


async def test_a_credential_is_put_in_as_the_call_leaves_and_one_that_is_missing_stops_it() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with server(serve) as (url, seen), sandbox_context(acme, url, {"account": "main"}) as ctx:
        token = sandbox_secret("acme", "main", "token")
        await ctx.http.request("GET", "/x", params={"of": Credential("token"), "as": "token"})
        with pytest.raises(Rejected, match="has no nothing, which this call needs"):
            await ctx.http.request("GET", "/x", params={"of": Credential("nothing")})
        assert len(seen) == 1
        assert f"of={token}&as=token" in seen[0].decode()
        assert ctx.app_http is None


async def test_a_redirect_is_not_followed() -> None:
    async with server(_two_hundred) as (elsewhere, seen):

        async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode())

        async with server(redirect) as (url, _), transport() as t:
            answer = await _call(t, url)
            assert (answer.status, seen) == (302, [])
            assert isinstance(error_for(answer), PermanentError)
