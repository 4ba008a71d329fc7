"""How a call from HubSpot is recognised: its signature of version 1, 2 or 3. Owns nothing of what the call says.

(developers.hubspot.com "Validating requests from HubSpot" and the changelog of signature v3, read 2026-11-22)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

from hub import InboundRequest, SignatureError, StaleError, Webhook, same

SIGNATURE_V3 = "X-HubSpot-Signature-v3"
TIMESTAMP = "X-HubSpot-Request-Timestamp"
SIGNATURE = "X-HubSpot-Signature"
VERSION = "X-HubSpot-Signature-Version"

V1_SECRET = "v1_client_secret"  # noqa: S105  (the name of a field)
_TOLERANCE_MS = 300_000
# What HubSpot undoes in the address before it signs by version 3; every other escape stays.
_ESCAPES = {
    "3A": ":",
    "2F": "/",
    "3F": "?",
    "40": "@",
    "21": "!",
    "24": "$",
    "27": "'",
    "28": "(",
    "29": ")",
    "2A": "*",
    "2C": ",",
    "3B": ";",
}
_ESCAPE = re.compile("%(" + "|".join(_ESCAPES) + ")", re.IGNORECASE)


def sign_v1(secret: str, body: bytes) -> str:
    """Hex SHA-256 over secret and body; neither the address nor a time is covered."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def sign_v2(secret: str, method: str, url: str, body: bytes) -> str:
    """Hex SHA-256 over secret, method, address and body."""
    return hashlib.sha256(f"{secret}{method}{url}".encode() + body).hexdigest()


def sign_v3(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """Base64 HMAC-SHA256 over method, address, body and time (milliseconds since 1970)."""
    decoded = _ESCAPE.sub(lambda escape: _ESCAPES[escape[1].upper()], url)
    signed = f"{method}{decoded}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


class HubspotWebhook(Webhook):
    """All three versions. One that carries version 3 is judged by it alone; version 1 counts only with a secret of its own.

    Version 1 covers no time and no address, so it is taken only where somebody said so, by the field `v1_client_secret`.
    """

    secrets = ("client_secret", "client_secret_previous", V1_SECRET)

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        keys = [secret for name, secret in secrets.items() if name != V1_SECRET]
        if SIGNATURE_V3.lower() in request.headers:
            self._verify_v3(request, keys)
            return
        given, version = request.headers.get(SIGNATURE.lower()), request.headers.get(VERSION.lower(), "")
        if not given:
            raise SignatureError(f"neither {SIGNATURE_V3} nor {SIGNATURE} is there")
        if version == "v2":
            expected = [sign_v2(key, request.method, request.url, request.body) for key in keys]
        elif version == "v1":
            if V1_SECRET not in secrets:
                raise SignatureError(f"only signed by version 1, which counts when {V1_SECRET} is set")
            expected = [sign_v1(secrets[V1_SECRET], request.body)]
        else:
            raise SignatureError(f"{VERSION} names none of v1 and v2")
        if not any(same(given, one) for one in expected):
            raise SignatureError(_why(version))

    def _verify_v3(self, request: InboundRequest, keys: list[str]) -> None:
        # Some proxies turn the + of base64 into a blank.
        given = request.headers[SIGNATURE_V3.lower()].replace(" ", "+")
        timestamp = request.headers.get(TIMESTAMP.lower(), "")
        expected = [sign_v3(key, request.method, request.url, request.body, timestamp) for key in keys]
        if not any(same(given, one) for one in expected):
            raise SignatureError(_why("v3"))
        if not (timestamp.isascii() and timestamp.isdecimal()):
            raise StaleError(f"the header {TIMESTAMP} holds no time")
        age_ms = request.received_at_ms - int(timestamp)
        if abs(age_ms) > _TOLERANCE_MS:
            side = "ago" if age_ms > 0 else "ahead"
            raise StaleError(f"the call was signed {abs(age_ms) // 1000} s {side}; check the clocks")

    def topic(self, request: InboundRequest) -> str:
        """`events` for what an app subscribed to (a list), `workflow` for what a workflow sends (one object)."""
        return "events" if request.body.lstrip()[:1] == b"[" else "workflow"


def _why(version: str) -> str:
    return (
        f"the signature of version {version} does not match: compare the client secret with the app's at HubSpot, and the "
        "hub's public URL with the address that HubSpot calls"
    )
