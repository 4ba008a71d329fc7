"""A Shopify shop as seen from its webhooks, signed by hand as Shopify's documentation says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import aiohttp

from hub.connector import sandbox_secret

SHOP = "some-shop.myshopify.com"


def order(n: int) -> dict[str, Any]:
    """A paid order of a person of its own."""
    phone = f"+1415555{1000 + n}"
    return {
        "id": 9000 + n,
        "name": f"#{1000 + n}",
        "email": f"person{n}@example.com",
        "phone": phone,
        "total_price": "60.00",
        "currency": "USD",
        "customer": {"id": 500 + n, "email": f"person{n}@example.com", "phone": phone, "first_name": f"P{n}"},
        "line_items": [],
        "created_at": "2026-11-22T10:00:00Z",
        "updated_at": "2026-11-22T10:00:00Z",
    }


async def send_order(session: aiohttp.ClientSession, url: str, n: int) -> int:
    """The webhook of the n-th order; returns the answer's status."""
    raw = json.dumps(order(n)).encode()
    secret = sandbox_secret("shopify", SHOP, "client_secret").encode()
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/paid",
        "X-Shopify-Shop-Domain": SHOP,
        "X-Shopify-Webhook-Id": f"d-{n}",
        "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.new(secret, raw, hashlib.sha256).digest()).decode(),
    }
    async with session.post(url, data=raw, headers=headers) as answer:
        return answer.status
