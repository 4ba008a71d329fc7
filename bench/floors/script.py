"""The bare script: an actor on Redis that looks at the order and makes two calls. Nothing is kept of it anywhere.

Run it with `dramatiq bench.floors.script`; FLOOR_REDIS, FLOOR_URL and FLOOR_CLIENT (httpx or aiohttp) say how.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

_URL = os.environ["FLOOR_URL"]
_mine = threading.local()

broker = RedisBroker(url=os.environ["FLOOR_REDIS"])  # type: ignore[no-untyped-call]  # not annotated by dramatiq
dramatiq.set_broker(broker)


def _calls(order: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    body = {"order": order["id"], "text": f"{order['first_name']} ordered"}
    return [(f"{_URL}/notes/{order['id']}", body), (f"{_URL}/tags/{order['id']}", body)]


if os.environ["FLOOR_CLIENT"] == "httpx":
    import httpx

    @dramatiq.actor
    def on_order(order: dict[str, Any]) -> None:
        """As most write it: one client per thread, over httpx's own transport."""
        if not hasattr(_mine, "client"):
            _mine.client = httpx.Client()
        if order["total"] >= 0:
            for url, body in _calls(order):
                _mine.client.post(url, json=body).raise_for_status()

else:
    import aiohttp
    from dramatiq.middleware.asyncio import AsyncIO

    broker.add_middleware(AsyncIO())
    _session: aiohttp.ClientSession | None = None

    @dramatiq.actor(actor_name="on_order")
    async def on_order_async(order: dict[str, Any]) -> None:
        """The fast way: one session per process."""
        global _session
        if _session is None:
            _session = aiohttp.ClientSession()
        if order["total"] >= 0:
            for url, body in _calls(order):
                async with _session.post(url, json=body) as answer:
                    answer.raise_for_status()
