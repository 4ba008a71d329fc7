"""Webhooks as Shopify sends them: signed over their bytes, again under the same id, and at times twice, late or never."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.clock import Clock, rfc3339

_VERSION = "2026-07"

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]


@dataclass(frozen=True)
class Sent:
    """One delivery as it left; a redelivery repeats it byte by byte."""

    topic: str
    shop: str
    body: bytes
    event_id: str
    triggered_at_ms: int


@dataclass
class Deliveries:
    """Sends, and remembers by webhook id what was sent.

    Of the next so many deliveries, `duplicate_next` are sent twice, `drop_next` never, and `hold_next` only after a later
    one that is not held: out of order.
    """

    clock: Clock
    post: Post
    secret_of: Callable[[str], str]
    sent: dict[str, Sent] = field(default_factory=dict)
    duplicate_next: int = 0
    drop_next: int = 0
    hold_next: int = 0
    _held: list[tuple[str, str]] = field(default_factory=list)

    async def deliver(
        self,
        address: str,
        shop: str,
        topic: str,
        body: Mapping[str, Any],
        *,
        event_id: str,
        id: str,
        signed: bool = True,
    ) -> int:
        """The hub's status; 0 for one that was dropped or is held."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        self.sent.setdefault(id, Sent(topic, shop, content, event_id, self.clock.now_ms()))
        if self.drop_next:
            self.drop_next -= 1
            return 0
        if self.hold_next:
            self.hold_next -= 1
            self._held.append((address, id))
            return 0
        status = await self.send(address, id, signed=signed)
        if self.duplicate_next:
            self.duplicate_next -= 1
            status = await self.send(address, id, signed=signed)
        held, self._held = self._held, []
        for to, late in reversed(held):
            await self.send(to, late)
        return status

    async def send(self, address: str, id: str, *, signed: bool = True) -> int:
        """Send what has this id, for the first time or again."""
        sent = self.sent[id]
        secret = self.secret_of(sent.shop) if signed else "somebody else's"
        digest = hmac.new(secret.encode(), sent.body, hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": sent.topic,
            "X-Shopify-Shop-Domain": sent.shop,
            "X-Shopify-API-Version": _VERSION,
            "X-Shopify-Webhook-Id": id,
            "X-Shopify-Event-Id": sent.event_id,
            "X-Shopify-Triggered-At": rfc3339(sent.triggered_at_ms),
            "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
        }
        return await self.post(address, sent.body, headers)


def new_id() -> str:
    """An id as Shopify gives to events and deliveries."""
    return str(uuid.uuid4())
