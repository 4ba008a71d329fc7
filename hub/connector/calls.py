"""What an action, a look-up or a poll is given to call the vendor with, and the budgets its calls keep to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from hub.errors import PermanentError
from hub.events import Json


class Response(Protocol):
    """A vendor's whole answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Found in any case: `answer.headers.get("Retry-After")`."""
        ...

    @property
    def body(self) -> bytes: ...
    def json(self) -> Json:
        """The body as JSON. Raises OutcomeUnknown when it is none: the vendor did something, we cannot tell what."""
        ...


class Credential(str):
    """The name of one of the connection's fields, in place of its value, among the `params` or the `form` of a call.

    The value is put in as the call leaves: `form={"verify_token": Credential("verify_token")}`. So code that calls holds no
    secret that it could log or tell. A field without a value has the call fail as Rejected, before it is made.
    """

    __slots__ = ()


class Http(Protocol):
    """The connection's way out: authorised, limited in time and size, kept to the connector's hosts."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Json = None,
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One call. `path` is appended to the connector's base URL, or is a whole URL on one of its hosts.

        `params` go into the query string, `json` or `form` are the body, `headers` go beside those of the auth.
        Raises NotSent, RateLimited, VendorUnavailable, OutcomeUnknown, AuthExpired, Rejected or NotFound: the shared
        status table, after the connector's own `classify` had its say. Returns only answers below 300.
        """
        ...


async def _no_rota(name: str) -> int:
    raise PermanentError(
        f"a place in the rota {name} is for an action: nothing tells a repeat of anything else; mend the plugin"
    )


@dataclass(frozen=True, kw_only=True)
class ActionContext:
    """What an action, a look-up, a poll or an enrichment may use; bound to one connection."""

    connection: str
    connection_id: str
    account: str
    settings: Mapping[str, str]
    """The connection's non-secret fields."""
    http: Http
    now_ms: int
    reference: str = ""
    """Names this effect at the vendor: put it where a look-up can find it. The same over all attempts; URL-safe."""
    idempotency_key: str = ""
    """A UUID, the same over all attempts of this effect, for vendors that take one."""
    intended_at_ms: int = 0
    """When the first attempt of this effect was about to be made."""
    callback_url: str = ""
    """The connection's own webhook address, for vendors that take one per call; empty without a public URL."""
    app_http: Http | None = None
    """The way out of the app itself, authorised by `Connector.app_auth`; None where the fields of that are not all known."""
    sightings: Callable[[str], Awaitable[Sequence[Mapping[str, Json]]]] | None = None
    """Payloads of stored events of a trigger (`twilio.sms_status`) whose `correlate` field `reference` is ours."""
    rota: Callable[[str], Awaitable[int]] = _no_rota
    """Of an action: the effect's place in a rota of the connection, `team 9`, from 0: kept, the same over all attempts, and
    no other effect's. The name may tell nothing about a person."""


@dataclass(frozen=True)
class Account:
    """The account behind a connection's credentials, as the vendor names it."""

    id: str
    title: str
    zone: str | None = None
    currency: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    """What is learnt when it is authorised in the browser and calls need from then on, such as its data centre: settings."""
    warnings: Sequence[str] = ()
    """What `hub connections test` is to warn of though the credentials work: that they end, what they lack. No secrets."""


@dataclass(frozen=True, kw_only=True)
class ApiVersions:
    """The versions of a vendor's API and the day from which each may no longer answer, as the vendor announced it.

    `field` is the connection's setting that names the version. `hub doctor` warns ninety days before.
    """

    field: str
    ends: Mapping[str, date]


# -- budgets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """At most `limit` calls (or points) at once, refilled by `per_s` each second, per connection.

    Every call takes its cost from it, unless it is kept `apart`: then only what says so by `draws`, for some kinds of call.
    """

    limit: float
    per_s: float
    name: str = "calls"
    apart: bool = False


@dataclass(frozen=True)
class Concurrency:
    """At most `limit` calls of one connection in flight, over all processes of the hub."""

    limit: int


Budget = Rate | Concurrency


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """What a vendor said about one of its rates: what is left of it now and, if it says so, the rate itself."""

    available: float
    limit: float | None = None
    per_s: float | None = None
    name: str = "calls"
    """The declared rate that it is about."""
