"""The sandbox's webhooks: events as HubSpot writes them, signed by each of its versions, sent again on request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub_hubspot.sandbox.portal import Fields

MOST = 100
"""Most events in one call."""


@dataclass(frozen=True)
class Delivery:
    """A call as it left: where to, what, and by whose secret it is signed."""

    address: str
    body: bytes
    versions: tuple[str, ...]
    portal: str
    signed: bool


def headers(delivery: Delivery, secret: str, now_ms: int, method: str = "POST") -> dict[str, str]:
    """The headers of a signed call; of version 1 and 2 there is room for one, since both use the same header."""
    found = {"Content-Type": "application/json", "User-Agent": "HubSpot Connect 2.0"}
    text, url = delivery.body.decode(), delivery.address.partition("#")[0]
    for version in delivery.versions:
        if version == "v3":
            source = method + url + text + str(now_ms)
            digest = hmac.new(secret.encode(), source.encode(), hashlib.sha256).digest()
            found["X-HubSpot-Signature-v3"] = base64.b64encode(digest).decode()
            found["X-HubSpot-Request-Timestamp"] = str(now_ms)
        else:
            source = secret + (method + url if version == "v2" else "") + text
            found["X-HubSpot-Signature"] = hashlib.sha256(source.encode()).hexdigest()
            found["X-HubSpot-Signature-Version"] = version
    return found


def written(events: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> bytes:
    """A body as HubSpot writes it: letters of all alphabets as they are."""
    return json.dumps(events, ensure_ascii=False, separators=(",", ":")).encode()


def again(body: bytes) -> bytes:
    """The body of a redelivery: each event's `attemptNumber` is one higher."""
    found = json.loads(body)
    if isinstance(found, list):
        found = [{**event, "attemptNumber": event.get("attemptNumber", 0) + 1} for event in found]
    return written(found)


def event(portal: str, type_: str, number: int, at_ms: int, **fields: Any) -> Fields:
    """One event of an app's webhook."""
    return {
        "eventId": number,
        "subscriptionId": 2_417_010,
        "portalId": int(portal),
        "appId": 54_321,
        "occurredAt": at_ms,
        "subscriptionType": type_,
        "attemptNumber": 0,
        "changeSource": "CRM_UI",
        **fields,
    }
