"""A small Shopify: the Admin API's operations that the connector uses, and shops whose buyers are moved by hand.

Shops come into being when they are first named. Tell it what happens with `checkout`, `order` and `customer`, or from a
shell with `POST /shopify/_sandbox/{checkout,order,customer}`; it keeps the state and sends the signed webhooks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from hub import same
from hub.clock import Clock, rfc3339
from hub.testing.sandbox import Sandbox
from hub_shopify.client import topic_enum
from hub_shopify.connector import ShopifyWebhook
from hub_shopify.sandbox.admin_api import execute
from hub_shopify.sandbox.graphql import read
from hub_shopify.sandbox.shop import Fields, SandboxShop

_VERSION = "2026-07"
_TOKEN_S = 24 * 3600
_MUTATION_COST, _QUERY_COST = 10, 2
_OF_DELIVERY = ("topics", "webhook_id", "signed")


@dataclass(frozen=True)
class Sent:
    """One delivery as it left; a redelivery repeats it byte by byte."""

    topic: str
    shop: str
    body: bytes
    event_id: str
    triggered_at_ms: int


class ShopifySandbox(Sandbox):
    """Shopify's stand-in. `shops` (by domain) and `sent` (by webhook id) may be read and changed by tests.

    `checkout`, `order` and `customer` take any field of the resource as Shopify writes it (`email`, `phone`, `customer`,
    `total_price`, `line_items`, …); what is left out is made up, and `customer=None` is a guest. Three more concern the
    delivery: `topics` (in order, instead of the natural ones), `webhook_id` (one that was sent before repeats it byte by
    byte) and `signed=False` (sign with a wrong secret). Without an address every subscription of the topic is served.
    They return the hub's status: the first that was not 2xx, else the last; 0 when nobody answered or nobody subscribed.
    """

    connector = "shopify"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.shops: dict[str, SandboxShop] = {}
        self.sent: dict[str, Sent] = {}
        self._issued: dict[str, tuple[str, int]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/admin/oauth/access_token", self._issue_token),
            web.post(r"/admin/api/{version:\d{4}-\d{2}}/graphql.json", self._graphql),
            web.post("/_sandbox/checkout", self._by_hand(self._checkout)),
            web.post("/_sandbox/order", self._by_hand(self._order)),
            web.post("/_sandbox/customer", self._by_hand(self._customer)),
        ]

    def shop(self, domain: str) -> SandboxShop:
        """The shop of that domain, opened if need be."""
        return self.shops.setdefault(domain, SandboxShop(domain, self.clock.now_ms()))

    # -- what happens in a shop ----------------------------------------------------------------------------------------

    async def checkout(self, address: str | None, shop: str, **fields: Any) -> int:
        """A buyer begins a checkout, or changes the one of `token`."""
        return (await self._checkout(address, shop, fields))[0]

    async def order(self, address: str | None, shop: str, **fields: Any) -> int:
        """A buyer places an order and pays it; with `checkout_token` it comes out of that checkout."""
        return (await self._order(address, shop, fields))[0]

    async def customer(self, address: str | None, shop: str, **fields: Any) -> int:
        """A customer is created, or the one of `id` or `email` changed."""
        return (await self._customer(address, shop, fields))[0]

    async def redeliver(self, address: str, webhook_id: str) -> int:
        """Send an earlier delivery again, as Shopify does until it is answered 2xx."""
        return await self._send(address, webhook_id, signed=True)

    async def _checkout(self, address: str | None, domain: str, fields: Fields) -> tuple[int, Fields]:
        shop = self.shop(domain)
        topic = "checkouts/update" if fields.get("token") in shop.checkouts else "checkouts/create"
        body = shop.checkout(_of_resource(fields), self._now())
        return await self._deliver(address, domain, [topic], body, fields), body

    async def _order(self, address: str | None, domain: str, fields: Fields) -> tuple[int, Fields]:
        body = self.shop(domain).order(_of_resource(fields), self._now())
        return await self._deliver(address, domain, ["orders/create", "orders/paid"], body, fields), body

    async def _customer(self, address: str | None, domain: str, fields: Fields) -> tuple[int, Fields]:
        shop = self.shop(domain)
        known = len(shop.customers)
        body = shop.customer(_of_resource(fields), self._now())
        topic = "customers/create" if len(shop.customers) > known else "customers/update"
        return await self._deliver(address, domain, [topic], body, fields), body

    def _now(self) -> str:
        return rfc3339(self.clock.now_ms())

    def _by_hand(
        self, happen: Callable[[str | None, str, Fields], Awaitable[tuple[int, Fields]]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """An endpoint for people: `{"shop": …, "address": …, any field}` -> `{"status": …, "sent": …}`."""

        async def handle(request: web.Request) -> web.Response:
            fields = await request.json()
            shop, address = fields.pop("shop", None), fields.pop("address", None)
            if not shop:
                error = 'say which shop: {"shop": "my-shop.myshopify.com"}'
                return web.json_response({"error": error}, status=400)
            status, body = await happen(address, shop, fields)
            return web.json_response({"status": status, "sent": body})

        return handle

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _deliver(
        self, address: str | None, domain: str, topics: list[str], body: Fields, fields: Mapping[str, Any]
    ) -> int:
        event_id, status = str(uuid.uuid4()), 0
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        for topic in fields.get("topics") or topics:
            for target in [address] if address else self._subscribed(domain, topic):
                webhook_id = fields.get("webhook_id") or str(uuid.uuid4())
                self.sent.setdefault(webhook_id, Sent(topic, domain, content, event_id, self.clock.now_ms()))
                status = await self._send(target, webhook_id, signed=fields.get("signed", True))
                if not 200 <= status < 300:
                    return status
        return status

    async def _send(self, address: str, webhook_id: str, *, signed: bool) -> int:
        sent = self.sent[webhook_id]
        secret = self.secret(sent.shop, "client_secret" if signed else "somebody else's")
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": sent.topic,
            "X-Shopify-Shop-Domain": sent.shop,
            "X-Shopify-API-Version": _VERSION,
            "X-Shopify-Webhook-Id": webhook_id,
            "X-Shopify-Event-Id": sent.event_id,
            "X-Shopify-Triggered-At": rfc3339(sent.triggered_at_ms),
            "X-Shopify-Hmac-Sha256": ShopifyWebhook().sign(sent.body, secret),
        }
        return await self.post(address, sent.body, headers)

    def _subscribed(self, domain: str, topic: str) -> list[str]:
        return [s["uri"] for s in self.shop(domain).subscriptions.values() if s["topic"] == topic_enum(topic)]

    # -- the Admin API -------------------------------------------------------------------------------------------------

    async def _issue_token(self, request: web.Request) -> web.Response:
        as_json = request.content_type == "application/json"
        asked: Mapping[str, Any] = await request.json() if as_json else await request.post()
        domain = self._whose(request, str(asked.get("client_secret")), "client_secret")
        if asked.get("grant_type") != "client_credentials" or not asked.get("client_id") or domain is None:
            refusal = {"error": "invalid_client", "error_description": "unknown client, or another grant than ours"}
            return web.json_response(refusal, status=400)
        token = f"shpat_{uuid.uuid4().hex}"
        self._issued[token] = (domain, self.clock.now_ms() + _TOKEN_S * 1000)
        return web.json_response({"access_token": token, "scope": "write_customers", "expires_in": _TOKEN_S})

    def _whose(self, request: web.Request, secret: str, field_name: str) -> str | None:
        """The shop a generated secret belongs to: the one the hub names, else any that is known here."""
        named = request.headers.get("X-Sandbox-Host")
        shops = [named] if named else list(self.shops)
        return next((domain for domain in shops if same(secret, self.secret(domain, field_name))), None)

    def _authorised(self, request: web.Request) -> SandboxShop | None:
        token = request.headers.get("X-Shopify-Access-Token", "")
        issued_to, expires_at_ms = self._issued.get(token, (None, 0))
        if issued_to is not None:
            named = request.headers.get("X-Sandbox-Host", issued_to)
            return self.shop(issued_to) if named == issued_to and self.clock.now_ms() < expires_at_ms else None
        domain = self._whose(request, token, "access_token")
        return self.shop(domain) if domain else None

    async def _graphql(self, request: web.Request) -> web.Response:
        shop = self._authorised(request)
        if shop is None:
            return web.json_response({"errors": "[API] Invalid API key or access token"}, status=401)
        asked = await request.json()
        try:
            kind, selections = read(asked.get("query") or "", asked.get("variables") or {})
            cost = (_MUTATION_COST if kind == "mutation" else _QUERY_COST) * len(selections)
            if not shop.take(cost, self.clock.now_ms()):
                self.refused += 1
                return _throttled(cost, shop)
            data = execute(kind, selections, shop, self.record)
        except ValueError as error:
            return web.json_response({"errors": [{"message": str(error), "extensions": {"code": "undefinedField"}}]})
        return _answer({"data": data}, cost, shop)

    def throttled(self) -> web.Response:
        return _throttled(1000, SandboxShop("", bucket=0))


def _of_resource(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in _OF_DELIVERY}


def _throttled(cost: int, shop: SandboxShop) -> web.Response:
    extensions = {"code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/rate-limits"}
    return _answer({"errors": [{"message": "Throttled", "extensions": extensions}]}, cost, shop)


def _answer(body: Fields, cost: int, shop: SandboxShop) -> web.Response:
    bucket = {
        "maximumAvailable": shop.bucket_size,
        "currentlyAvailable": int(shop.bucket),
        "restoreRate": shop.restore_rate,
    }
    actual = None if "errors" in body else cost
    costs = {"requestedQueryCost": cost, "actualQueryCost": actual, "throttleStatus": bucket}
    return web.json_response(body | {"extensions": {"cost": costs}}, headers={"X-Request-Id": str(uuid.uuid4())})
