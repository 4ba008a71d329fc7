"""What a connector declares: how to authorise, how to recognise a call, what can happen, what can be done.

Everything here is a declaration. Who keeps the promises (verifies, stores, retries, limits, reconciles) is the core;
connector authors never compare signatures by hand, refresh tokens or sleep on a 429.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar
from urllib.parse import parse_qsl

import jiter
from pydantic import BaseModel

from hub.errors import ConnectorError, PayloadError, PluginError, SignatureError, StaleError
from hub.events import ConsentSignal, Event, Identity, Json

P = TypeVar("P", bound=BaseModel)
I = TypeVar("I", bound=BaseModel)  # noqa: E741  (input and output read best as I and O)
O = TypeVar("O", bound=BaseModel)  # noqa: E741

MAX_JSON_DEPTH = 64


# -- authorising -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value that a connection needs. Secret fields are encrypted and never shown again; others are settings."""

    name: str
    title: str
    secret: bool = False
    required: bool = True
    pattern: str | None = None
    """A regular expression that the whole value must match."""
    help: str = ""
    default: str | None = None


Headers = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From a connection's fields (settings and credentials together) to the headers of each call. Pure."""


@dataclass(frozen=True, kw_only=True)
class StaticToken:
    """Credentials that a person pastes once: a token, a key and its secret."""

    headers: Headers
    fields: tuple[Field, ...] = ()
    name: str = "token"
    """Tells the kinds of auth of one connector apart."""


@dataclass(frozen=True, kw_only=True)
class ClientCredentials:
    """A client id and secret that the hub exchanges for a token by itself, again before each expiry (RFC 6749 § 4.4).

    `token_url` is built from the connection's fields; the answer is JSON with `access_token` and `expires_in` (seconds).
    The token reaches `headers` as the field `access_token`. `client_auth` says where a form's client id and secret go: into
    the form (`post`) or the Authorization header (`basic`).
    """

    headers: Headers
    token_url: Callable[[Mapping[str, str]], str]
    fields: tuple[Field, ...] = ()
    name: str = "client_credentials"
    request_format: Literal["form", "json"] = "form"
    client_auth: Literal["post", "basic"] = "post"


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """An account that a person authorises in the browser (RFC 6749 § 4.1, always with PKCE), for an app of ours.

    The app holds `client_id` and `client_secret`; `fields` are what must be known before (such as a shop's domain). The
    hub keeps the tokens, renews them where the vendor gives `refresh_token`, and records whose account it is by
    `Connector.whoami`, which is required. The token reaches `headers` as the field `access_token`.

    `scopes` is all that the connector can make use of; triggers and actions name those of them that they need. With
    `issuer` an answer that names another one (RFC 9207), or none, is refused. `authorise_params` and `token_params` go along
    with what the standard says.
    """

    headers: Headers
    authorise_url: Callable[[Mapping[str, str]], str]
    token_url: Callable[[Mapping[str, str]], str]
    revoke_url: Callable[[Mapping[str, str]], str] | None = None
    scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    issuer: str | None = None
    authorise_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[Field, ...] = ()
    name: str = "oauth2"
    request_format: Literal["form", "json"] = "form"
    client_auth: Literal["post", "basic"] = "post"


Auth = StaticToken | ClientCredentials | OAuth2

CLIENT_FIELDS = (
    Field(name="client_id", title="client id"),
    Field(name="client_secret", title="client secret", secret=True),
)
"""What an app holds at a vendor whose accounts are authorised in the browser."""

TOKEN_FIELDS = frozenset({"access_token", "refresh_token"})
"""The credentials that the hub itself keeps in a connection."""


# -- webhooks: recognising a call --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InboundRequest:
    """A vendor's call, as it came. `url` is the address as the vendor knows it: built from the hub's configured public
    URL and the query string received, never from Host or X-Forwarded headers. Header names are lower-case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    received_at_ms: int = 0
    """Hub time at which the call came: what the age of a signature is judged by."""

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The query string's pairs, in order, decoded, empty values kept."""
        return parse_qsl(self.url.partition("?")[2], keep_blank_values=True)

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """A form-encoded body's pairs, in order, decoded, empty values kept. Raises PayloadError."""
        try:
            return parse_qsl(
                self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body), max_num_fields=1000
            )
        except ValueError as error:
            raise PayloadError(f"the form body cannot be read: {error}") from error


@dataclass(frozen=True)
class Reply:
    """What the vendor gets back. `after_commit` is False for handshakes, which store nothing."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


class Webhook:
    """How the calls of one vendor are recognised. Subclass it, or use `Hmac` where that is enough. Pure: no I/O, no clock.

    `secrets` names the credential fields that may verify a call; several stand for a rotation or several signers.
    With none of them configured every call is refused.
    """

    secrets: tuple[str, ...] = ()

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        """Raise SignatureError (or StaleError) unless the vendor made this call.

        `secrets` holds the configured ones of `self.secrets` and is never empty. Compare with `same`.
        """
        raise NotImplementedError("a connector with a webhook declares how to verify it")

    def delivery_id(self, request: InboundRequest) -> str | None:
        """The vendor's id of this delivery, the same over its retries; None if the vendor gives none."""
        return None

    def account(self, request: InboundRequest) -> str | None:
        """The account this call is about, where one address serves several; None = that of the connection in the URL."""
        return None

    def topic(self, request: InboundRequest) -> str:
        """What the vendor calls this kind of call; triggers with this `topic` parse it."""
        return ""

    def handshake(self, request: InboundRequest, secrets: Mapping[str, str]) -> Reply | None:
        """The answer to a call that only proves the address (a challenge), or None for a real delivery."""
        return None

    def reply(self, request: InboundRequest) -> Reply:
        """What to answer once the delivery is stored."""
        return Reply()


def same(given: str, expected: str) -> bool:
    """Whether two signatures are equal, in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


class Hmac(Webhook):
    """A webhook signed by an HMAC over the raw body in a header: Shopify, GitHub, Stripe-like and most others.

    `secret` names one or several credential fields; `encoding` is `base64` or `hex`; `prefix` is what stands before the
    signature (`sha256=`); `delivery_id`, `account` and `topic` name the headers that carry these. With `timestamp`, a
    header in seconds since 1970, the vendor signs `<timestamp>.<body>` and calls older than `tolerance_s` are refused.
    """

    def __init__(
        self,
        *,
        header: str,
        secret: str | Sequence[str] = "webhook_secret",  # noqa: S107  (the name of a field)
        algorithm: str = "sha256",
        encoding: str = "base64",
        prefix: str = "",
        delivery_id: str | None = None,
        account: str | None = None,
        topic: str | None = None,
        timestamp: str | None = None,
        tolerance_s: int = 300,
    ) -> None:
        self._timestamp, self._tolerance_s = timestamp.lower() if timestamp else None, tolerance_s
        self.secrets = (secret,) if isinstance(secret, str) else tuple(secret)
        self._header, self._algorithm, self._prefix = header.lower(), algorithm, prefix
        self._encode: Callable[[bytes], str] = {"base64": lambda d: base64.b64encode(d).decode(), "hex": bytes.hex}[
            encoding
        ]
        self._delivery_id, self._account, self._topic = delivery_id, account, topic

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        given = request.headers.get(self._header)
        if not given:
            raise SignatureError(f"the header {self._header} is missing")
        signed_at = request.headers.get(self._timestamp) if self._timestamp else None
        matches = [same(given, self.sign(request.body, secret, signed_at)) for secret in secrets.values()]
        if not any(matches):
            raise SignatureError()
        if self._timestamp:
            self._check_age(signed_at, request.received_at_ms)

    def _check_age(self, signed_at: str | None, received_at_ms: int) -> None:
        if signed_at is None or not signed_at.isdecimal():
            raise StaleError(f"the header {self._timestamp} holds no time")
        age_s = received_at_ms / 1000 - int(signed_at)
        if abs(age_s) > self._tolerance_s:
            raise StaleError(
                f"the call was signed {abs(age_s):.0f} s {'ago' if age_s > 0 else 'ahead'}; check the clocks"
            )

    def sign(self, body: bytes, secret: str, timestamp: str | None = None) -> str:
        """The header's value for this body: what a sandbox sends."""
        if timestamp is not None:
            body = timestamp.encode() + b"." + body
        return self._prefix + self._encode(hmac.new(secret.encode(), body, self._algorithm).digest())

    def delivery_id(self, request: InboundRequest) -> str | None:
        return request.headers.get(self._delivery_id.lower()) if self._delivery_id else None

    def account(self, request: InboundRequest) -> str | None:
        return request.headers.get(self._account.lower()) if self._account else None

    def topic(self, request: InboundRequest) -> str:
        return request.headers.get(self._topic.lower(), "") if self._topic else ""


# -- triggers: what can happen -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """A verified call, ready to be parsed. `connection` is the connection's name, `account` its account id."""

    request: InboundRequest
    connector: str
    connection: str
    account: str
    topic: str
    received_at_ms: int

    @cached_property
    def _json(self) -> Json:
        try:
            value = jiter.from_json(self.request.body, catch_duplicate_keys=True)
        except ValueError as error:
            raise PayloadError(f"the body is no JSON the hub accepts: {error}") from error
        if _depth(value) > MAX_JSON_DEPTH:
            raise PayloadError(f"the body is nested deeper than {MAX_JSON_DEPTH} levels")
        return value

    def json(self) -> Json:
        """The body as JSON. Raises PayloadError: not JSON, a key twice, nested too deep."""
        return self._json

    @cached_property
    def params(self) -> dict[str, str]:
        """The pairs of a form body and the query string; the body wins, of a repeated name the last."""
        return dict(self.request.query) | dict(self.request.form)


def _depth(value: Json) -> int:
    deepest, layer = 0, [value]
    while layer:
        deepest += 1
        if deepest > MAX_JSON_DEPTH:
            break
        inner: list[Json] = []
        for item in layer:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, dict | list))
        layer = inner
    return deepest


Parse = Callable[[Delivery], Iterable[P]]
Enrich = Callable[["ActionContext", Sequence[P]], Awaitable[Sequence[P]]]
Confirm = Callable[["ActionContext", P], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Quiet(Generic[P]):
    """A trigger derived from silence: it fires when `key` has been quiet for `after_s` seconds.

    Each event of the `source` triggers (names within the connector) restarts the timer of its key; one of the `cancel`
    triggers with the same key ends it. `key` maps a payload's JSON values to the key, or None to leave the event out.
    The derived event carries the payload of the newest source event.
    """

    source: tuple[str, ...]
    cancel: tuple[str, ...]
    key: Callable[[Mapping[str, Json]], str | None]
    after_s: int


@dataclass(kw_only=True)
class Trigger(Generic[P]):
    """One kind of event that a connector can deliver.

    `fact` names the fact within the trigger (an order's id): the same from webhook, doubled subscription and poll.
    `subject` says whose it is; `correlate` lists top-level payload fields that a recipe's `match` may use; `consent`
    gives what the payload says about consent; `occurred_at` the vendor's own time of it (aware datetime).
    """

    connector: str
    name: str
    title: str
    payload: type[P]
    fact: Callable[[P], str]
    topics: tuple[str, ...] = ()
    sample: str | None = None
    """The name of a fixture file in the plugin's `tests/fixtures` that parses to at least one event."""
    subject: Callable[[P], Identity] | None = None
    occurred_at: Callable[[P], Any] | None = None
    correlate: tuple[str, ...] = ()
    consent: Callable[[P], Iterable[ConsentSignal]] | None = None
    account: Callable[[P], str] | None = None
    """The vendor account a payload belongs to, where one delivery carries events of several accounts."""
    cause: Callable[[P], str | None] | None = None
    """The `ctx.reference` of an action of ours that made this happen, where the vendor gives it back."""
    provides: str | None = None
    scopes: tuple[str, ...] = ()
    """What a person must have granted for it to come (see `OAuth2.scopes`)."""
    parse: Parse[P] | None = None
    quiet: Quiet[P] | None = None
    confirm_: Confirm[P] | None = None
    enrich_: Enrich[P] | None = None

    @property
    def type(self) -> str:
        """The event type: `connector.name`."""
        return f"{self.connector}.{self.name}"

    def event(self, payload: P, received_at_ms: int) -> Event:
        """A payload as an event. Raises PayloadError when a declared function cannot cope with it."""
        data = payload.model_dump(mode="json")
        occurred = self.occurred_at(payload) if self.occurred_at else None
        return Event(
            type=self.type,
            fact_id=f"{self.name}:{self.fact(payload)}",
            occurred_at_ms=round(occurred.timestamp() * 1000) if occurred else received_at_ms,
            data=data,
            subject=self.subject(payload) if self.subject else None,
            correlate={name: str(data[name]) for name in self.correlate if data.get(name) is not None},
            consents=tuple(self.consent(payload)) if self.consent else (),
            account=self.account(payload) if self.account else None,
            cause=self.cause(payload) if self.cause else None,
        )

    def confirm(self, function: Confirm[P]) -> Confirm[P]:
        """Decorator: ask the vendor, just before a derived event is made, whether it is still true. False drops it."""
        self.confirm_ = function
        return function

    def enrich(self, function: Enrich[P]) -> Enrich[P]:
        """Decorator: fill in what the webhook left out (it carried only ids), in the worker, before recipes match.

        Gets up to 100 payloads of one connection, returns as many in the same order.
        """
        self.enrich_ = function
        return function


@dataclass(frozen=True)
class Page(Generic[P]):
    """One page of a poll: its payloads and the cursor to go on from (an opaque string) once they are stored."""

    items: Sequence[P]
    cursor: str


@dataclass(frozen=True, kw_only=True)
class Poll(Generic[P]):
    """Asks the vendor for what a webhook may have missed, or for what has no webhook.

    Called with the cursor of the last stored page (None at first) and `since_ms`, which lies `overlap_s` seconds before the
    last poll's start; the core drops what it has seen, by fact id.
    """

    trigger: str
    every_s: int
    overlap_s: int
    fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]


# -- subscriptions: telling the vendor where to call -------------------------------------------------------------------


@dataclass(frozen=True)
class Subscription:
    """A webhook registered at the vendor: its id there, topic, address and expiry (None: does not expire)."""

    id: str
    topic: str
    address: str
    expires_at_ms: int | None = None


class Subscriptions(Protocol):
    """How a vendor's webhook registrations are kept; each call is one request at the vendor."""

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]: ...

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription: ...

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None: ...


# -- actions: what can be done -----------------------------------------------------------------------------------------


class Effect(StrEnum):
    """What the hub may do after a crash between asking and hearing the answer."""

    IDEMPOTENT = "idempotent"
    """Ask again: the same input gives the same end state (an upsert by natural key)."""
    KEYED = "keyed"
    """Ask again with the same `ctx.idempotency_key`: the vendor recognises it."""
    RECONCILABLE = "reconcilable"
    """Look it up by our reference first; ask again only if it is not there."""
    AT_MOST_ONCE = "at_most_once"
    """Never ask again: it ends in the visible state *unknown*, and the recipe decides."""


@dataclass(frozen=True, kw_only=True)
class Message(Generic[I]):
    """Marks an action that writes to a person: consent, suppression and the purpose are checked just before it leaves."""

    channel: str
    to: Callable[[I], str]
    """The address in the input; phone channels normalise it to E.164."""


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[I]):
    """Collects calls of one action: up to `size` inputs, at most `linger_s` seconds, grouped by `group_by`."""

    size: int
    linger_s: float
    group_by: Callable[[I], str]


Run = Callable[["ActionContext", I], Awaitable[O]]
RunBatch = Callable[["ActionContext", Sequence[I]], Awaitable[Sequence[O | ConnectorError]]]
Lookup = Callable[["ActionContext", I], Awaitable[O | None]]


@dataclass(kw_only=True)
class Action(Generic[I, O]):
    """One thing a connector can do in the outside world.

    `run` calls the vendor; `lookup` finds what an earlier call with the same `ctx.reference` did (None: certainly nothing);
    `simulate` gives a made-up output for rehearsals; `describe` says in one line what would be done, without secrets.
    """

    connector: str
    name: str
    title: str
    input: type[I]
    output: type[O]
    run: Run[I, O]
    effect: Effect = Effect.AT_MOST_ONCE
    message: Message[I] | None = None
    batch: Batch[I] | None = None
    provides: str | None = None
    scopes: tuple[str, ...] = ()
    """What a person must have granted for it to be done (see `OAuth2.scopes`)."""
    cost: int = 1
    """What one call takes from the connector's budgets, in their unit."""
    units: Mapping[str, Callable[[I], int]] = field(default_factory=dict)
    """What one call spends, in units that spending caps may count: `segments`, or minor units of a currency (`EUR`)."""
    timeout_s: float = 20.0
    simulate_: Callable[[I, int], O] | None = None
    describe_: Callable[[I], str] | None = None
    lookup_: Lookup[I, O] | None = None
    run_batch: RunBatch[I, O] | None = None

    @property
    def type(self) -> str:
        """The action's full name: `connector.name`."""
        return f"{self.connector}.{self.name}"

    def lookup(self, function: Lookup[I, O]) -> Lookup[I, O]:
        """Decorator: how to find out, after a lost answer, whether the effect happened."""
        self.lookup_ = function
        return function

    def simulate(self, function: Callable[[I, int], O]) -> Callable[[I, int], O]:
        """Decorator: the output that a rehearsal pretends, from the input and hub time; deterministic, no I/O."""
        self.simulate_ = function
        return function

    def describe(self, function: Callable[[I], str]) -> Callable[[I], str]:
        """Decorator: the dry-run text, one line."""
        self.describe_ = function
        return function

    def spends(self, unit: str, input: I) -> int:
        """What one call spends of a unit: `calls` and `messages` go without saying, others as declared, else 0."""
        if unit == "calls":
            return 1
        if unit == "messages":
            return int(self.message is not None)
        return self.units[unit](input) if unit in self.units else 0

    def rehearse(self, input: I, now_ms: int) -> O:
        """What a rehearsal takes as this action's output: `simulate`'s, else the output model's own defaults."""
        return self.simulate_(input, now_ms) if self.simulate_ else self.output.model_construct()

    def dry_run(self, input: I) -> str:
        """One line for people: what would be done."""
        return self.describe_(input) if self.describe_ else f"{self.title}"


# -- what running code is given ----------------------------------------------------------------------------------------


class Response(Protocol):
    """A vendor's whole answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    def json(self) -> Json:
        """The body as JSON. Raises OutcomeUnknown when it is none: the vendor did something, we cannot tell what."""
        ...


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

        Raises NotSent, RateLimited, VendorUnavailable, OutcomeUnknown, AuthExpired, Rejected or NotFound: the shared
        status table, after the connector's own `classify` had its say. Returns only answers below 400.
        """
        ...


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
    sightings: Callable[[str], Awaitable[Sequence[Mapping[str, Json]]]] | None = None
    """Payloads of stored events of a trigger (`twilio.sms_status`) whose `correlate` field `reference` is ours."""


@dataclass(frozen=True)
class Account:
    """The account behind a connection's credentials, as the vendor names it."""

    id: str
    title: str
    zone: str | None = None
    currency: str | None = None


# -- budgets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """At most `limit` calls (or points) at once, refilled by `per_s` each second, per connection."""

    limit: float
    per_s: float
    name: str = "calls"


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


# -- the connector -----------------------------------------------------------------------------------------------------


Classify = Callable[[Response], ConnectorError | Exception | None]
ReadThrottle = Callable[[Response], Throttle | None]


@dataclass(kw_only=True)
class Connector:
    """A plugin's description of one vendor. Register it with `hub_register_connectors`.

    `base_url` builds the address of calls from a connection's fields; the result and every other URL must lie on one of
    `hosts` (`*.` stands for one label or more). `account` tells the account id from the fields, so that deliveries find
    their connection. `classify` turns an answer into an error where the shared status table is not enough.
    `sandbox` names the class of the vendor's stand-in: `package.module:Class`.
    """

    name: str
    title: str
    hosts: Sequence[str]
    base_url: Callable[[Mapping[str, str]], str]
    account: Callable[[Mapping[str, str]], str]
    auth: Sequence[Auth]
    fields: Sequence[Field] = ()
    """Fields that every kind of auth needs, such as the shop's domain or a webhook secret."""
    webhook: Webhook | None = None
    budgets: Sequence[Budget] = ()
    classify: Classify | None = None
    throttle: ReadThrottle | None = None
    """What an answer says about the rates, also one that is an error; None when it says nothing. Pure."""
    subscriptions: Subscriptions | None = None
    whoami: Callable[[ActionContext], Awaitable[Account]] | None = None
    sandbox: str | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Capabilities it provides only in part: name to what is missing."""
    triggers: dict[str, Trigger[Any]] = field(default_factory=dict)
    actions: dict[str, Action[Any, Any]] = field(default_factory=dict)
    polls: dict[str, Poll[Any]] = field(default_factory=dict)

    def trigger(
        self,
        name: str,
        *,
        payload: type[P],
        fact: Callable[[P], str],
        title: str = "",
        topic: str | Sequence[str] = (),
        sample: str | None = None,
        subject: Callable[[P], Identity] | None = None,
        occurred_at: Callable[[P], Any] | None = None,
        correlate: Sequence[str] = (),
        consent: Callable[[P], Iterable[ConsentSignal]] | None = None,
        account: Callable[[P], str] | None = None,
        cause: Callable[[P], str | None] | None = None,
        provides: str | None = None,
        scopes: Sequence[str] = (),
    ) -> Callable[[Parse[P]], Trigger[P]]:
        """Decorator: declare a trigger; the function turns a delivery of its topics into payloads (none: not mine)."""

        def declare(parse: Parse[P]) -> Trigger[P]:
            trigger = Trigger(
                connector=self.name,
                name=name,
                title=title or _first_line(parse) or name,
                payload=payload,
                fact=fact,
                topics=(topic,) if isinstance(topic, str) else tuple(topic),
                sample=sample,
                subject=subject,
                occurred_at=occurred_at,
                correlate=tuple(correlate),
                consent=consent,
                account=account,
                cause=cause,
                provides=provides,
                scopes=tuple(scopes),
                parse=parse,
            )
            self.triggers[name] = trigger
            return trigger

        return declare

    def quiet_trigger(
        self,
        name: str,
        *,
        payload: type[P],
        fact: Callable[[P], str],
        source: Sequence[str],
        cancel: Sequence[str] = (),
        key: Callable[[Mapping[str, Json]], str | None],
        after_s: int,
        title: str = "",
        subject: Callable[[P], Identity] | None = None,
        correlate: Sequence[str] = (),
        provides: str | None = None,
        scopes: Sequence[str] = (),
    ) -> Trigger[P]:
        """Declare a trigger that fires after silence (see `Quiet`); its payload model is the source's."""
        trigger = Trigger(
            connector=self.name,
            name=name,
            title=title or name,
            payload=payload,
            fact=fact,
            subject=subject,
            correlate=tuple(correlate),
            provides=provides,
            scopes=tuple(scopes),
            quiet=Quiet(source=tuple(source), cancel=tuple(cancel), key=key, after_s=after_s),
        )
        self.triggers[name] = trigger
        return trigger

    def poll(
        self, trigger: str, *, every_s: int, overlap_s: int
    ) -> Callable[[Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]], Poll[P]]:
        """Decorator: declare the poll of a trigger; the async generator yields pages, oldest first."""

        def declare(fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]) -> Poll[P]:
            poll = Poll(trigger=trigger, every_s=every_s, overlap_s=overlap_s, fetch=fetch)
            self.polls[trigger] = poll
            return poll

        return declare

    def action(
        self,
        name: str,
        *,
        input: type[I],
        output: type[O],
        title: str = "",
        effect: Effect = Effect.AT_MOST_ONCE,
        message: Message[I] | None = None,
        provides: str | None = None,
        scopes: Sequence[str] = (),
        cost: int = 1,
        units: Mapping[str, Callable[[I], int]] | None = None,
        timeout_s: float = 20.0,
    ) -> Callable[[Run[I, O]], Action[I, O]]:
        """Decorator: declare an action; the function makes the call and returns the output."""

        def declare(run: Run[I, O]) -> Action[I, O]:
            action = Action(
                connector=self.name,
                name=name,
                title=title or _first_line(run) or name,
                input=input,
                output=output,
                run=run,
                effect=effect,
                message=message,
                provides=provides,
                scopes=tuple(scopes),
                cost=cost,
                units=units or {},
                timeout_s=timeout_s,
            )
            self.actions[name] = action
            return action

        return declare

    def batch_action(
        self,
        name: str,
        *,
        input: type[I],
        output: type[O],
        batch: Batch[I],
        title: str = "",
        effect: Effect = Effect.AT_MOST_ONCE,
        provides: str | None = None,
        scopes: Sequence[str] = (),
        cost: int = 1,
        units: Mapping[str, Callable[[I], int]] | None = None,
        timeout_s: float = 20.0,
    ) -> Callable[[RunBatch[I, O]], Action[I, O]]:
        """Decorator: declare an action that is done for many inputs in one call.

        The function gets up to `batch.size` inputs of one group, oldest first, and returns for each, in order, its output
        or the ConnectorError it failed with. A call that is repeated gets exactly the same inputs. Batches are no messages
        to people and cannot be reconcilable.
        """
        if effect is Effect.RECONCILABLE:
            raise PluginError(self.name, f"the batch action {name} cannot be reconcilable; make it idempotent or keyed")

        def declare(run_batch: RunBatch[I, O]) -> Action[I, O]:
            async def run_one(ctx: ActionContext, input: I) -> O:
                [answer] = await run_batch(ctx, [input])
                if isinstance(answer, ConnectorError):
                    raise answer
                return answer

            action = Action(
                connector=self.name,
                name=name,
                title=title or _first_line(run_batch) or name,
                input=input,
                output=output,
                run=run_one,
                effect=effect,
                batch=batch,
                provides=provides,
                scopes=tuple(scopes),
                cost=cost,
                units=units or {},
                timeout_s=timeout_s,
                run_batch=run_batch,
            )
            self.actions[name] = action
            return action

        return declare

    def parse(self, delivery: Delivery) -> list[Event] | None:
        """All events in a delivery, or None when no trigger knows its topic. Raises PayloadError."""
        known = [t for t in self.triggers.values() if delivery.topic in t.topics and t.parse is not None]
        if not known:
            return None
        try:
            return [
                trigger.event(payload, delivery.received_at_ms)
                for trigger in known
                for payload in (trigger.parse(delivery) if trigger.parse else ())
            ]
        except PayloadError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A pydantic error repeats the input, which may hold personal data: name the fields only.
            raise PayloadError(f"{delivery.topic}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    fields = getattr(error, "errors", None)
    if callable(fields):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fields(include_input=False))
    return f"{type(error).__name__} while parsing"


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0].rstrip(".")


def sandbox_secret(connector: str, account: str, field_name: str) -> str:
    """The generated credential of a sandbox connection: the hub and the sandbox both derive it, nobody configures it."""
    return hashlib.sha256(f"tetik-hub sandbox\0{connector}\0{account}\0{field_name}".encode()).hexdigest()[:32]
