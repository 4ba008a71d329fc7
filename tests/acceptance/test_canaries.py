"""Planted secrets and a planted person: a whole hub works with them for a while, and then everything it left is searched.

What is searched: every table, every key in Redis, every process's log at DEBUG, every answer of the API, metrics, and what
the commands print.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio
from sqlalchemy import make_url

from hub.connector import Connector
from hub.plugins import load_plugins
from tests.acceptance.processes import Api, Process, command, distributed, started, until_live
from tests.acceptance.test_embedded import ACCOUNT, CHECKOUT
from tests.conftest import free_port

SHOP = "canary-shop.myshopify.com"
GIVEN = {
    "shop": SHOP,
    "account_sid": ACCOUNT,
    "from_number": "+14155550199",
    "page_id": "119440231087027",
    "ad_account_id": "101",
    "portal_id": "62515",
    "api_version": "",
}
PERSON = {
    "email": "canary.person@example.org",
    "phone": "+14155550163",
    "sms_marketing_phone": "+14155550163",
    "customer": {"id": 77, "email": "canary.person@example.org", "first_name": "Canarina", "last_name": "Vogel"},
}
RECIPE = """
recipe: canary
on: {event: shopify.checkout_updated}
connections: {shopify: live-shopify, twilio: live-twilio}
steps:
  - {do: twilio.send_sms, purpose: cart, with: {to: "{{ trigger.phone }}", body: "Canarina, come back"}}
"""


def _planted(connector: Connector) -> tuple[dict[str, str], list[str]]:
    """Fields for a live connection of a connector, with a canary in each that is secret; and these canaries."""
    fields: dict[str, str] = {}
    canaries = []
    for field in [*connector.fields, *connector.auth[0].fields]:
        if field.secret:
            fields[field.name] = f"canary{hashlib.sha256((connector.name + field.name).encode()).hexdigest()[:26]}"
            if field.pattern and not re.fullmatch(field.pattern, fields[field.name]):
                # As Mailchimp writes a key: it ends with where its account is.
                fields[field.name] = hashlib.sha256((connector.name + field.name).encode()).hexdigest()[:32] + "-us21"
            canaries.append(fields[field.name])
        elif GIVEN.get(field.name):
            fields[field.name] = GIVEN[field.name]
    return fields, canaries


def _shapes(secret: str) -> set[bytes]:
    """A secret as it is, and as others would write it."""
    raw = secret.encode()
    return {raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()}


async def _everything_in(database_url: str) -> dict[str, bytes]:
    """Every row of every table, as text and as the bytes in it."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
        found = {}
        for name in (row["tablename"] for row in names):
            rows = await connection.fetch(f'select * from "{name}"')
            values = [value for row in rows for value in row.values() if value is not None]
            found[f"table {name}"] = b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
        return found
    finally:
        await connection.close()


async def _everything_in_redis(url: str) -> bytes:
    client = redis.asyncio.from_url(url)
    found = []
    try:
        async for key in client.scan_iter():
            found += [key, await client.dump(key) or b""]
            if await client.type(key) == b"string":
                found.append(await client.get(key) or b"")
    finally:
        await client.aclose()
    return b"\n".join(found)


async def _every_answer(session: aiohttp.ClientSession, it: Api, key: str, ids: dict[str, str]) -> dict[str, bytes]:
    """What the API answers to every question that it takes, and /metrics."""
    document = await it.call("GET", "/api/v1/openapi.json")
    found = {}
    for path, operations in document["paths"].items():
        address = path
        for prefix, id_ in ids.items():
            if path.startswith(prefix):
                address = "/".join(id_ if part.startswith("{") else part for part in path.split("/"))
        if "get" not in operations or "{" in address:
            continue
        # Whom to merge somebody with is asked for; nobody is merged with themselves.
        itself = path.endswith("/merge")
        address += "?other=" + ids["/api/v1/contacts"] if itself else ""
        async with session.get(it.url + address, headers={"Authorization": f"Bearer {key}"}) as answer:
            # What can be chosen is asked of the vendor, who cannot be reached here.
            expected = {422, 502} if "/choices/" in path else {422} if itself else {200}
            assert answer.status in expected, (address, await answer.text())
            found[f"GET {address}"] = await answer.read()
    return found


async def test_nothing_that_was_planted_is_found_anywhere(postgres_url: str, redis_url: str, tmp_path: Path) -> None:
    port, sandbox_port = free_port(), free_port()
    settings = distributed(tmp_path, postgres_url, redis_url, port, sandbox_port) | {
        "HUB_LOG_LEVEL": "DEBUG",
        "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    key = json.loads(command(["api-keys", "create", "test", "--scope", "write", "--json"], settings, tmp_path))["key"]
    api, worker = Process("api", ["api"], settings, tmp_path), Process("worker", ["worker"], settings, tmp_path)
    secrets, printed = [key, settings["HUB_KEYS"]], {}
    async with aiohttp.ClientSession() as session:
        with started(api, worker):
            await until_live(session, f"http://127.0.0.1:{port}/health/ready", api)
            it = Api(session, f"http://127.0.0.1:{port}", key)

            # Given a live connection of every connector, with a canary in every field that is secret
            answers: list[Any] = []
            addresses = {}
            for connector in load_plugins().catalogue.connectors.values():
                fields, canaries = _planted(connector)
                secrets += canaries
                new = {
                    "connector": connector.name,
                    "name": f"live-{connector.name}".replace("_", "-"),
                    "fields": fields,
                }
                added = await it.call("POST", "/api/v1/connections", new)
                addresses[connector.name] = added["webhook_url"]
                answers.append(added)
            assert len(secrets) > 2 + len(addresses)
            secrets.append("canary-of-an-app-" + "7" * 20)
            ours = {"connector": "shopify", "name": "ours", "fields": {"client_secret": secrets[-1]}}
            answers.append(await it.call("POST", "/api/v1/apps", ours))
            await it.call("POST", "/api/v1/purposes", {"source": "cart: {channel: sms, class: transactional}"})
            await it.call("POST", "/api/v1/recipes", {"source": RECIPE, "publish": True})

            # when calls come in, good ones and forged ones, vendors cannot be reached, and people make mistakes
            shop_secret = _planted(load_plugins().catalogue.connectors["shopify"])[0]["client_secret"]
            for n, signed_by in enumerate([shop_secret, shop_secret, "wrong", ""]):
                raw = json.dumps({**CHECKOUT, **PERSON, "token": f"t-{n}", "id": 900 + n}).encode()
                signature = base64.b64encode(hmac.new(signed_by.encode(), raw, hashlib.sha256).digest()).decode()
                headers = {
                    "Content-Type": "application/json",
                    "X-Shopify-Topic": "checkouts/update",
                    "X-Shopify-Shop-Domain": SHOP,
                    "X-Shopify-Webhook-Id": f"c-{n}",
                    "X-Shopify-Hmac-Sha256": signature,
                }
                async with session.post(addresses["shopify"], data=raw, headers=headers) as answer:
                    assert answer.status == (200 if signed_by == shop_secret else 401)
                    answers.append(await answer.text())
            for _ in range(200):
                runs = (await it.call("GET", "/api/v1/runs"))["items"]
                if len(runs) == 2 and all(run["reason"] for run in runs):
                    break
                await asyncio.sleep(0.1)
            assert len(runs) == 2
            for name in addresses:
                path = f"/api/v1/connections/live-{name}".replace("_", "-")
                mistakes = {"fields": {"access_token": secrets[2], "nonsense": secrets[3]}}
                for call, body in (("test", None), ("reauthorise", mistakes), ("reauthorise", {"fields": secrets})):
                    async with session.post(
                        f"{it.url}{path}/{call}", json=body, headers={"Authorization": f"Bearer {key}"}
                    ) as answer:
                        assert answer.status in {422, 502}, (name, call, answer.status)
                        answers.append(await answer.text())
            event = (await it.call("GET", "/api/v1/events"))["items"][0]["id"]
            ids = {
                "/api/v1/runs": runs[0]["id"],
                "/api/v1/events": event,
                "/api/v1/contacts": str(runs[0]["contact"]),
                "/api/v1/recipes": "canary",
                "/api/v1/connections": "live-twilio",
                "/api/v1/apps": "ours",
            }
            every = await _every_answer(session, it, key, ids)
            for arguments in (
                ["connections", "list", "--json"],
                ["apps", "list", "--json"],
                ["connections", "show", "live-twilio"],
                ["connections", "show", "live-shopify", "--json"],
                ["apps", "show", "ours", "--json"],
                ["settings"],
                ["settings", "--json"],
                ["doctor"],
                ["keys", "list"],
                ["api-keys", "list"],
                ["runs", "show", runs[0]["id"]],
                ["--debug", "connections", "test", "live-twilio"],
            ):
                printed[f"hub {' '.join(arguments)}"] = command(arguments, settings, tmp_path, ok=None).encode()
            left = await _everything_in(postgres_url)
            left["redis"] = await _everything_in_redis(redis_url)
    logs = {process.name: process.log.read_bytes() for process in (api, worker)}

    # then no secret is anywhere, in no writing of it
    assert len(every) > 15
    assert {"GET /api/v1/connections/live-twilio", "GET /api/v1/apps/ours"} <= set(every)
    assert all(logs.values())
    everywhere = left | logs | every | printed | {"answers": json.dumps(answers).encode()}
    found = [
        (place, secret[:12])
        for place, text in everywhere.items()
        for s in secrets
        for secret in [s]
        if any(shape in text for shape in _shapes(secret))
    ]
    assert found == []
    # and of the person nothing is in logs, Redis or metrics, while the tables and the contact's page do know it
    person = [b"canary.person", b"4155550163", b"Canarina", b"Vogel"]
    silent = logs | {"redis": left["redis"], "metrics": every["GET /metrics"]}
    assert [(place, word) for place, text in silent.items() for word in person if word in text] == []
    assert any(word in every[f"GET /api/v1/contacts/{ids['/api/v1/contacts']}"] for word in person)
    assert b"canary.person" in left["table identity"]
