"""How a call from Twilio is recognised: its signature, its kind, its account. Owns nothing of what the call says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

from hub import InboundRequest, PayloadError, Reply, SignatureError, Webhook, same

SIGNATURE_HEADER = "X-Twilio-Signature"
TOKEN_HEADER = "I-Twilio-Idempotency-Token"  # noqa: S105  (a header's name)
# Present when the call is signed with a webhook SharedKey instead of the Auth Token (page of 2026-09-07).
_SHARED_KEY_HEADER = "X-Twilio-Webhooks-Signature-Settings"
_SHARED_KEY = "shared_key_secret"
_STANDARD_PORTS = {"http": "80", "https": "443"}
_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]+?)(?::(?P<port>\d+))?(?P<rest>(?:[/?][^#]*)?)(?:#.*)?")


def sign(address: str, params: Iterable[tuple[str, str]], secret: str, algorithm: str = "sha1") -> str:
    """The value of `X-Twilio-Signature`: an HMAC, base64, over the address without its fragment and the parameters.

    Parameters are sorted by name, then by value; equal pairs count once (twilio-python 9.13.0, request_validator).
    """
    signed = address.partition("#")[0] + "".join(name + value for name, value in sorted(set(params)))
    return base64.b64encode(hmac.new(secret.encode(), signed.encode(), algorithm).digest()).decode()


def spellings(url: str) -> list[str]:
    """The address with and without its port: Twilio signs either (twilio-python 9.13.0, request_validator)."""
    match = _URL.fullmatch(url)
    if match is None:
        return [url]
    scheme, host, port, rest = match.group("scheme", "host", "port", "rest")
    return [f"{scheme}://{host}{rest}", f"{scheme}://{host}:{port or _STANDARD_PORTS[scheme]}{rest}"]


class TwilioWebhook(Webhook):
    """Twilio's signature with the account's Auth Token, or with a webhook SharedKey.

    The secondary token is accepted during a rotation. A call never chooses the weaker way for a key: the Auth Tokens sign by
    SHA-1 alone, as Twilio does, and a SharedKey by SHA-256 alone.
    """

    secrets = ("auth_token", "auth_token_secondary", _SHARED_KEY)

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        given = request.headers.get(SIGNATURE_HEADER.lower())
        if not given:
            raise SignatureError(f"the header {SIGNATURE_HEADER} is missing")
        params, shared = _signed_params(request), _is_shared(request)
        keys = [secret for name, secret in secrets.items() if (name == _SHARED_KEY) == shared]
        algorithm = "sha256" if shared else "sha1"
        matches = [same(given, sign(url, params, key, algorithm)) for key in keys for url in spellings(request.url)]
        if not any(matches):
            raise SignatureError(_why(shared, bool(keys)))

    def delivery_id(self, request: InboundRequest) -> str | None:
        return request.headers.get(TOKEN_HEADER.lower())

    def account(self, request: InboundRequest) -> str | None:
        return _params(request).get("AccountSid")

    def topic(self, request: InboundRequest) -> str:
        """`message` for what a person sent, `status` for what became of ours, `events` for Event Streams, else empty."""
        if _is_json(request):
            return "events"
        params = _params(request)
        if params.get("SmsStatus") == "received":
            return "message"
        if "MessageStatus" in params:
            return "status"
        return "message" if "MessageSid" in params else ""

    def reply(self, request: InboundRequest) -> Reply:
        # An empty response document: take the message, answer nothing by yourself.
        return Reply(200, b"<Response/>", "text/xml") if self.topic(request) == "message" else Reply(204)


def _signed_params(request: InboundRequest) -> list[tuple[str, str]]:
    """What the signature covers beside the address. Raises SignatureError where the body is not covered at all.

    JSON bodies are covered by their hash in the (signed) query string, form bodies pair by pair.
    """
    digests = [value for name, value in request.query if name == "bodySHA256"]
    if digests:
        if not same(digests[0], hashlib.sha256(request.body).hexdigest()):
            raise SignatureError("the body does not have the hash that bodySHA256 in the address names")
        return []
    bare = "the body is no form and the address has no bodySHA256, so nothing says that the body is Twilio's"
    if _is_json(request):
        raise SignatureError(bare)
    try:
        return request.form
    except PayloadError as error:
        raise SignatureError(bare) from error


def _is_shared(request: InboundRequest) -> bool:
    """Whether the call says that a SharedKey signed it. Raises SignatureError for a way that is not taken."""
    settings = request.headers.get(_SHARED_KEY_HEADER.lower(), "")
    named = dict(part.strip().split("=", 1) for part in settings.split(",") if "=" in part)
    # Without an algorithm it is the usual signature (twilio-python 9.13.0, request_validator).
    algorithm = named.get("algorithm", "").strip().upper()
    if algorithm not in ("", "HMAC_SHA256"):
        raise SignatureError("calls signed with a SharedKey are taken by HMAC_SHA256 only; make such a key at Twilio")
    return bool(algorithm)


def _why(shared: bool, known: bool) -> str:
    if shared and not known:
        return "the call is signed with a webhook SharedKey: add its secret to the connection as shared_key_secret"
    if shared:
        return f"{SIGNATURE_HEADER} does not match: compare the connection's shared_key_secret with the SharedKey at Twilio"
    return (
        f"{SIGNATURE_HEADER} does not match: compare the connection's auth_token with the account's primary Auth Token, "
        "and the hub's public URL with the address that Twilio calls"
    )


def _is_json(request: InboundRequest) -> bool:
    is_hashed = any(name == "bodySHA256" for name, _ in request.query)
    return is_hashed or request.headers.get("content-type", "").startswith("application/json")


def _params(request: InboundRequest) -> dict[str, str]:
    # Of a JSON call all that can be read without knowing it is the query.
    return dict(request.query) | ({} if _is_json(request) else dict(request.form))
