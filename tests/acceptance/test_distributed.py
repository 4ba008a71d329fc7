"""The distributed hub as an operator runs it: API, two workers, PostgreSQL, Redis; one worker is killed at work."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.connector import sandbox_secret
from tests.acceptance.processes import Api, Process, command, distributed, started, until_live
from tests.conftest import free_port

PEOPLE = 60
SHOP = "some-shop.myshopify.com"
ACCOUNT = "AC" + "0" * 31 + "1"
RECIPE = """
recipe: thanks
on: {event: shopify.order_paid}
steps:
  - {do: shopify.tag_customer, with: {customer_id: "{{ trigger.customer_id }}", tags: [thanked]}}
  - {do: twilio.send_sms, purpose: orders, with: {to: "{{ trigger.phone }}", body: "Thank you for {{ trigger.name }}"}}
"""


def _order(n: int) -> dict[str, Any]:
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


async def _send(session: aiohttp.ClientSession, url: str, topic: str, body: dict[str, Any], delivery: str) -> int:
    """A webhook signed as Shopify's documentation says, by hand."""
    raw = json.dumps(body).encode()
    secret = sandbox_secret("shopify", SHOP, "client_secret").encode()
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": SHOP,
        "X-Shopify-Webhook-Id": delivery,
        "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.new(secret, raw, hashlib.sha256).digest()).decode(),
    }
    async with session.post(url, data=raw, headers=headers) as answer:
        return answer.status


async def _sandbox_log(session: aiohttp.ClientSession, port: int, connector: str) -> list[dict[str, Any]]:
    async with session.get(f"http://127.0.0.1:{port}/{connector}/_sandbox/log") as answer:
        found: list[dict[str, Any]] = await answer.json()
        return found


async def _introduce(session: aiohttp.ClientSession, port: int) -> None:
    """Let Shopify's stand-in know the customers, so that they can be tagged."""
    for n in range(PEOPLE):
        customer = {"shop": SHOP, **_order(n)["customer"]}
        async with session.post(f"http://127.0.0.1:{port}/shopify/_sandbox/customer", json=customer) as answer:
            assert answer.status < 300, await answer.text()


@pytest.mark.parametrize("killed", ["worker"])
async def test_a_worker_killed_at_work_loses_and_doubles_nothing(
    postgres_url: str, redis_url: str, tmp_path: Path, killed: str
) -> None:
    port, sandbox_port = free_port(), free_port()
    settings = distributed(tmp_path, postgres_url, redis_url, port, sandbox_port)
    key = json.loads(command(["api-keys", "create", "test", "--scope", "write", "--json"], settings, tmp_path))["key"]
    sandbox = Process("sandbox", ["sandbox", "--port", str(sandbox_port)], settings, tmp_path)
    api = Process("api", ["api"], settings, tmp_path)
    workers = [Process(f"worker-{n}", ["worker"], settings, tmp_path) for n in range(2)]
    async with aiohttp.ClientSession() as session:
        with started(sandbox, api, *workers):
            await until_live(session, f"http://127.0.0.1:{port}/health/ready", api)
            await until_live(session, f"http://127.0.0.1:{sandbox_port}/shopify/_sandbox/log", sandbox)
            it = Api(session, f"http://127.0.0.1:{port}", key)
            shop = await it.call(
                "POST",
                "/api/v1/connections",
                {"connector": "shopify", "name": "shop", "sandbox": True, "fields": {"shop": SHOP}},
            )
            fields = {"account_sid": ACCOUNT, "from_number": "+14155550199"}
            await it.call(
                "POST", "/api/v1/connections", {"connector": "twilio", "name": "sms", "sandbox": True, "fields": fields}
            )
            await it.call("POST", "/api/v1/purposes", {"source": "orders: {channel: sms, class: transactional}"})
            await it.call("POST", "/api/v1/recipes", {"source": RECIPE, "publish": True})
            await _introduce(session, sandbox_port)
            async with session.post(
                f"http://127.0.0.1:{sandbox_port}/twilio/_sandbox/faults", json={"delay_s": 0.15}
            ) as answer:
                assert answer.status == 200
            # when orders come in, each twice, and a worker dies in the middle of it
            sending = [
                _send(session, shop["webhook_url"], "orders/paid", _order(n), f"d-{n}")
                for n in range(PEOPLE)
                for _ in range(2)
            ]
            statuses = asyncio.gather(*sending)
            for _ in range(200):
                await asyncio.sleep(0.02)
                if len(await _sandbox_log(session, sandbox_port, "twilio")) >= 5:
                    break
            workers[0].send(signal.SIGKILL)
            assert set(await statuses) == {200}
            # then all of it is done, once
            for _ in range(900):
                counts = await it.call("GET", "/api/v1/counts")
                if counts["runs"].get("done", 0) == PEOPLE:
                    break
                await asyncio.sleep(0.1)
            assert counts["runs"] == {"done": PEOPLE}, await it.call("GET", "/api/v1/runs")
            assert counts["events"] >= PEOPLE
            texts = await _sandbox_log(session, sandbox_port, "twilio")
            assert sorted(t["data"]["to"] for t in texts) == sorted(_order(n)["phone"] for n in range(PEOPLE))
            tags = await _sandbox_log(session, sandbox_port, "shopify")
            assert (
                len({json.dumps(t["data"], sort_keys=True) for t in tags if t["operation"] == "tag_customer"}) == PEOPLE
            )
            # and the one that is told to stop stops in time, with nothing in hand
            workers[1].send(signal.SIGTERM)
            assert workers[1].wait() == 0
