"""How a call from Meta is recognised: the greeting of a new subscription, and the signature of everything else."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping

from hub import InboundRequest, Json, PayloadError, Reply, SignatureError, Webhook, same

SIGNATURE_HEADER = "X-Hub-Signature-256"
_PREFIX = "sha256="


def sign(body: bytes, app_secret: str) -> str:
    """The value of `X-Hub-Signature-256`: HMAC-SHA256 of the raw body, which Meta sends with `/` and non-ASCII escaped."""
    return _PREFIX + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


class FacebookWebhook(Webhook):
    """Signed with the app's secret, which is one for all Pages: whose call it is stands in the body, as the Page's id.

    The older `X-Hub-Signature` (SHA-1) is not looked at. Meta signs no time and gives deliveries no id; a lead that comes
    twice is recognised by its own id. (Meta's webhook guides, v26.0, read 2026-11-22)
    """

    secrets = ("app_secret", "verify_token")

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        given, secret = request.headers.get(SIGNATURE_HEADER.lower()), secrets.get("app_secret")
        if not secret:
            raise SignatureError("no app_secret is configured, which Meta's calls are signed with")
        if not given:
            raise SignatureError(f"the header {SIGNATURE_HEADER} is missing")
        if not same(given, sign(request.body, secret)):
            raise SignatureError(f"{SIGNATURE_HEADER} does not match: compare app_secret with the app's at Meta")

    def handshake(self, request: InboundRequest, secrets: Mapping[str, str]) -> Reply | None:
        """The bare challenge for whoever knows the verify token, 403 for others; None for everything but a greeting."""
        asked = dict(request.query)
        if request.method != "GET" or asked.get("hub.mode") != "subscribe":
            return None
        expected = secrets.get("verify_token")
        if not expected or not same(asked.get("hub.verify_token", ""), expected):
            return Reply(403)
        return Reply(200, asked.get("hub.challenge", "").encode())

    def account(self, request: InboundRequest) -> str | None:
        """The Page of the first entry; each lead says its own (`Lead.page_id`)."""
        entries = _entries(request.body)
        return str(entries[0]["id"]) if entries and entries[0].get("id") else None

    def topic(self, request: InboundRequest) -> str:
        """`leadgen` as soon as one change is of that field, else the object and the first field: `page.feed`."""
        fields = [change.get("field") for entry in _entries(request.body) for change in entry.get("changes") or ()]
        if "leadgen" in fields:
            return "leadgen"
        body = _json(request.body)
        kind = str(body.get("object") or "unknown") if isinstance(body, dict) else "unknown"
        return f"{kind}.{fields[0]}" if fields else kind


def _entries(body: bytes) -> list[dict[str, Json]]:
    found = _json(body)
    entries = found.get("entry") if isinstance(found, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _json(body: bytes) -> Json:
    try:
        return json.loads(body)
    except ValueError as error:
        raise PayloadError(f"the body is no JSON: {error}") from error
