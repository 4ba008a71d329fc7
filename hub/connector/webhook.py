"""How a vendor's calls are recognised: verified over their raw bytes, told apart, answered, read."""

from __future__ import annotations

import base64
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl

import jiter

from hub.errors import PayloadError, SignatureError, StaleError
from hub.events import Json

MAX_JSON_DEPTH = 64


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
            # Without the error's own words, which repeat the body: it is shown where bodies are not.
            raise PayloadError("the form body cannot be read: it is no form, or has more than 1000 fields") from error


@dataclass(frozen=True)
class Reply:
    """What the vendor gets back. `after_commit` is False for handshakes, which store nothing."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


class Webhook(ABC):
    """How the calls of one vendor are recognised. Subclass it, or use `Hmac` where that is enough. Pure: no I/O, no clock.

    `secrets` names the credential fields that may verify a call; several stand for a rotation or several signers.
    With none of them configured every call is refused.
    """

    secrets: tuple[str, ...] = ()
    greets_first: bool = False
    """The vendor tries the address before it tells the secret: `handshake` is then asked also while there is none."""

    @abstractmethod
    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        """Raise SignatureError (or StaleError) unless the vendor made this call.

        `secrets` holds the configured ones of `self.secrets` and is never empty. Compare with `same`.
        """

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

    def headers(
        self, body: bytes, secret: str, *, topic: str = "", account: str = "", delivery_id: str = "", at_ms: int = 0
    ) -> dict[str, str]:
        """All headers of a signed call with this body, as far as they are declared: what a sandbox sends."""
        timestamp = str(at_ms // 1000) if self._timestamp else None
        named = {
            self._header: self.sign(body, secret, timestamp),
            self._timestamp: timestamp,
            self._topic: topic,
            self._account: account,
            self._delivery_id: delivery_id,
        }
        return {name.lower(): value for name, value in named.items() if name and value}

    def delivery_id(self, request: InboundRequest) -> str | None:
        return request.headers.get(self._delivery_id.lower()) if self._delivery_id else None

    def account(self, request: InboundRequest) -> str | None:
        return request.headers.get(self._account.lower()) if self._account else None

    def topic(self, request: InboundRequest) -> str:
        return request.headers.get(self._topic.lower(), "") if self._topic else ""


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
