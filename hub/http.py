"""Outgoing calls: one transport per process, bound to one connection per call.

Owns time and size limits, the hosts a connector may reach, the way to a sandbox, and what a failure means. Errors are
told by cause: only a connection that was never made is *not sent*; anything after that is *outcome unknown*.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from ipaddress import ip_address
from math import isfinite
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from pydantic_core import from_json, to_json
from yarl import URL

from hub.connector import Connector, Credential
from hub.deadline import Deadline, instant
from hub.errors import (
    AuthExpired,
    ConnectionConfigError,
    ConnectorError,
    LeaseOver,
    NotFound,
    NotSent,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    RetryableError,
    VendorUnavailable,
)
from hub.events import Json
from hub.reach import Reach, Resolver
from hub.values import value

MAX_ANSWER_BYTES = 10_000_000
CONNECT_S = 5.0
_HTTPS = 443
_CHUNK = 65_536
_NEVER_LEFT = (aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError, ssl.SSLCertVerificationError)


@value(frozen=True)
class Answer:
    """A vendor's whole answer, read within the limits."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def _json(self) -> Json:
        return from_json(self.body)

    def json(self) -> Json:
        """The body as JSON. Raises OutcomeUnknown when it is none: something happened, we cannot tell what."""
        try:
            return self._json
        except ValueError as error:
            raise OutcomeUnknown("the vendor's answer is no JSON", status=self.status) from error


Noted = Callable[[Answer | None, Exception | None, float], None]
"""Told of each request: its answer if there was a whole one, what it failed with, the monotonic instant it began."""


class Transport:
    """The process's connection pool to the world. Create inside a running loop, close at the end."""

    def __init__(
        self,
        *,
        sandbox_url: str | None = None,
        limit: int = 200,
        allowed: Iterable[str] = (),
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._sandbox = sandbox_url.rstrip("/") if sandbox_url else None
        sandbox = [URL(sandbox_url).host or ""] if sandbox_url else []
        self._reach = Reach([*allowed, *sandbox])
        # No proxies or .netrc from the environment; cookies of one account must never reach another.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limit, limit_per_host=0, ttl_dns_cache=60, resolver=Resolver(self._reach, resolver)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=True,
        )
        # aiohttp repeats GET and PUT by itself on a reused connection that died; repeats are the engine's business.
        # There is no public switch (aiohttp 3.14).
        self._session._retry_connection = False

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def address(self, url: str, connector: Connector, *, sandbox: bool) -> URL:
        """Where a call to `url` really goes: a host the connector declared, or the sandbox in its place.

        Raises ConnectionConfigError for a host that the connector did not declare, or a sandbox that is not there.
        """
        try:
            # Read as the connection pool will read it, so that both mean the same host.
            parts = URL(url)
        except ValueError:
            raise ConnectionConfigError(f"{connector.name} calls an address that is none") from None
        host = parts.host or ""
        place = host if parts.port == _HTTPS else f"{host}:{parts.port}"
        trusted = parts.scheme == "https" and parts.user is None and parts.password is None
        if not trusted or not any(_matches(place, pattern) for pattern in connector.hosts):
            raise ConnectionConfigError(
                f"{connector.name} may only call https on {', '.join(connector.hosts)}, not {parts.scheme}://{place}"
            )
        if _is_address(host) and not sandbox:
            self._reach.check(host, [host])
        if not sandbox:
            return parts
        if self._sandbox is None:
            raise ConnectionConfigError(
                "this connection is in sandbox mode and no sandbox runs here: start `hub sandbox` and set HUB_SANDBOX_URL"
            )
        return URL(f"{self._sandbox}/{connector.name}{parts.raw_path_qs}", encoded=True)

    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        total_s: float,
        deadline: Deadline | None = None,
    ) -> Answer:
        """One request, once. Raises NotSent or OutcomeUnknown; LeaseOver when it might outlive the deadline."""
        if deadline is not None and not deadline.lasts(total_s):
            raise LeaseOver()
        # Looking up the host and waiting for a connection included: what ends here has not left.
        connect_s = min(CONNECT_S, total_s / 2)
        timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_read=total_s)
        data = _Body(body, deadline, total_s) if body is not None and deadline is not None else body
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            host, kind = url.host, type(error).__name__
            if isinstance(data, _Body) and data.held_back:
                raise LeaseOver() from error
            if isinstance(error, (*_NEVER_LEFT, aiohttp.ConnectionTimeoutError)):
                raise NotSent(f"no connection to {host}: {kind}") from error
            raise OutcomeUnknown(f"no whole answer from {host}: {kind}") from error


class _Body(aiohttp.BytesPayload):
    """A request's body, written only while its lease lasts: nothing comes between this moment and the wire."""

    def __init__(self, body: bytes, deadline: Deadline, total_s: float) -> None:
        super().__init__(body)
        self._deadline, self._ends = deadline, instant() + total_s
        self.held_back = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        left_s = self._ends - instant()
        # After standing still this may come before the timeout that should have ended the call.
        if left_s < 0 or not self._deadline.lasts(left_s):
            self.held_back = True
            raise LeaseOver()
        await super().write_with_length(writer, content_length)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise OutcomeUnknown(f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes", status=response.status)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@lru_cache(maxsize=1_000)
def _is_address(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


@value(frozen=True, kw_only=True)
class ConnectionHttp:
    """The way out of one connection: its base URL, its authorisation, its errors. Implements `hub.connector.Http`.

    `credentials` are the connection's fields, settings and secrets together.
    """

    transport: Transport
    connector: Connector
    connection_id: str
    credentials: Mapping[str, str] = field(repr=False)
    authorisation: Mapping[str, str] = field(repr=False)
    sandbox: bool
    total_s: float = 20.0
    noted: Noted = lambda answer, problem, began: None  # nobody wants to know
    proof: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the kind of auth adds to each call's query string."""
    deadline: Deadline | None = None
    """What the work that calls is held under; a call that might outlive it is not begun."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Json = None,
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        url = path if path.startswith("https://") else self.connector.base_url(self.credentials) + path
        if asked := {**dict(self._filled((params or {}).items())), **self.proof}:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"
        sent = {**self.authorisation, **(headers or {})}
        body: bytes | None = None
        if json is not None:
            body, sent["Content-Type"] = to_json(json), "application/json"
        elif form is not None:
            pairs = self._filled(form.items() if isinstance(form, Mapping) else form)
            body, sent["Content-Type"] = urlencode(pairs).encode(), "application/x-www-form-urlencoded"
        address = self.transport.address(url, self.connector, sandbox=self.sandbox)
        sent |= sandbox_headers(url) if self.sandbox else {}
        began = time.monotonic()
        try:
            answer = await self.transport.send(
                method, address, headers=sent, body=body, total_s=self.total_s, deadline=self.deadline
            )
        except LeaseOver as error:
            raise self._named(error) from error.__cause__
        except ConnectorError as error:
            if self.sandbox and isinstance(error, NotSent):
                found = error.__cause__
                error = NotSent(f"no sandbox answers at {URL(address).authority}: start `hub up` or `hub sandbox`")
                error.__cause__ = found
            self.noted(None, error, began)
            raise self._named(error) from error.__cause__
        problem = self.connector.classify(answer) if self.connector.classify else None
        problem = problem or error_for(answer)
        if isinstance(problem, ConnectorError):
            problem.status = problem.status or answer.status
        self.noted(answer, problem, began)
        if isinstance(problem, ConnectorError):
            raise self._named(problem)
        if problem is not None:
            raise problem
        return answer

    def _filled(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Pairs with credentials in the place of their names. Raises Rejected for one that is not there."""
        filled = []
        for name, text in pairs:
            given = self.credentials.get(text, "") if isinstance(text, Credential) else text
            if isinstance(text, Credential) and not given:
                raise self._named(
                    Rejected(
                        f"the connection has no {text}, which this call needs; give it with `hub connections reauthorise`, "
                        "or with `hub apps set` where it is the app's"
                    )
                )
            filled.append((name, given))
        return filled

    def _named(self, error: ConnectorError) -> ConnectorError:
        error.connector, error.connection_id = self.connector.name, self.connection_id
        return error


def sandbox_headers(url: str) -> dict[str, str]:
    """The vendor's host, which the sandbox's address hides and which may name the account (`my-shop.myshopify.com`)."""
    return {"X-Sandbox-Host": urlsplit(url).hostname or ""}


def error_for(answer: Answer) -> ConnectorError | None:
    """The shared status table: what a status means when the connector says nothing else. None below 300."""
    status = answer.status
    if status < 300:
        return None
    retry_after_s = retry_after(answer.headers)
    if status == 429:
        return RateLimited(retry_after_s=retry_after_s, status=status)
    if status in {408, 425, 503}:
        return VendorUnavailable(f"the vendor answered {status}", retry_after_s=retry_after_s, status=status)
    if status == 409:
        return RetryableError(f"the vendor answered {status}", retry_after_s=retry_after_s, status=status)
    if status == 401:
        return AuthExpired(status=status)
    if status == 404:
        return NotFound(status=status)
    if status >= 500:
        # Neither a broken vendor nor its gateway tells whether the effect happened before.
        return OutcomeUnknown(f"the vendor answered {status}", status=status)
    if status < 400:
        return PermanentError(
            f"the vendor answered with a redirect ({status}), which the hub does not follow", status=status
        )
    return Rejected(f"the vendor answered {status}", status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After header; a date counts from the answer's own Date. None when absent or unreadable."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
        return max(0.0, seconds) if isfinite(seconds) else None
    except ValueError:
        pass  # then it is a date
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None
