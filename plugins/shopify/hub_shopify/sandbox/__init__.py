"""A small Shopify: the Admin API's operations that the connector uses, and shops whose people are moved by hand.

Shops come into being when they are first named. Tell it what happens with `checkout`, `order`, `customer` and `happen`, or
from a shell with `POST /shopify/_sandbox/{checkout,order,customer,cart,refund,tags,segment,consent,stock,uninstall,
privacy}`; it keeps the state and sends the signed webhooks. What is changed by the API is told to subscribers as well.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from hub.clock import Clock, rfc3339
from hub.testing.sandbox import Sandbox
from hub_shopify.sandbox.deliveries import Deliveries, Sent, new_id
from hub_shopify.sandbox.graphql import cost, read
from hub_shopify.sandbox.happenings import HAPPENINGS
from hub_shopify.sandbox.ids import enum_of
from hub_shopify.sandbox.resolvers import execute
from hub_shopify.sandbox.shop import Fields, SandboxShop
from hub_shopify.sandbox.tokens import Tokens

_MOST_POINTS = 1000
_OF_DELIVERY = ("topics", "webhook_id", "signed")
_FAULTS = ("duplicate_next", "drop_next", "hold_next")

__all__ = ["Sent", "ShopifySandbox"]


class ShopifySandbox(Sandbox):
    """Shopify's stand-in. `shops` (by domain) and `sent` (by webhook id) may be read and changed by tests.

    What happens takes any field of the resource as Shopify writes it (`email`, `phone`, `customer`, `total_price`,
    `line_items`, …); what is left out is made up, and `customer=None` is a guest. Three more concern the delivery: `topics`
    (in order, instead of the natural ones), `webhook_id` (one that was sent before repeats it byte by byte) and
    `signed=False` (sign with a wrong secret). Without an address every subscription of the topic is served. The hub's
    status is returned: the first that was not 2xx, else the last; 0 when nobody answered or nobody subscribed.

    `deliveries` doubles, drops and delays webhooks on request, also by `POST /shopify/_sandbox/deliveries`, where
    `search_lag_s` lets searches find only what is older.
    """

    connector = "shopify"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.shops: dict[str, SandboxShop] = {}
        self.tokens = Tokens(clock)
        self.deliveries = Deliveries(clock, self.post, self.tokens.signing_secret)
        self.search_lag_ms = 0

    @property
    def sent(self) -> dict[str, Sent]:
        """What was sent, by webhook id."""
        return self.deliveries.sent

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            *self.tokens.routes(),
            web.post(r"/admin/api/{version:\d{4}-\d{2}}/graphql.json", self._graphql),
            *(web.post(f"/_sandbox/{what}", self._by_hand(what)) for what in HAPPENINGS),
            web.post("/_sandbox/deliveries", self._set_deliveries),
        ]

    def shop(self, domain: str) -> SandboxShop:
        """The shop of that domain, opened if need be."""
        return self.shops.setdefault(domain, SandboxShop(domain, self.clock.now_ms()))

    async def only_reads(self, request: web.Request) -> bool:
        """Everything is a POST here: queries change nothing, mutations and requests for tokens do."""
        if request.content_type != "application/json":
            return False
        asked = await request.json()
        return isinstance(asked, dict) and str(asked.get("query", "")).lstrip().startswith(("query", "{"))

    # -- what happens in a shop ----------------------------------------------------------------------------------------

    async def checkout(self, address: str | None, shop: str, **fields: Any) -> int:
        """A buyer begins a checkout, or changes the one of `token`."""
        return await self.happen("checkout", address, shop, **fields)

    async def order(self, address: str | None, shop: str, **fields: Any) -> int:
        """A buyer places an order and pays it; with `checkout_token` it comes out of that checkout."""
        return await self.happen("order", address, shop, **fields)

    async def customer(self, address: str | None, shop: str, **fields: Any) -> int:
        """A customer is created, or the one of `id` or `email` changed."""
        return await self.happen("customer", address, shop, **fields)

    async def happen(self, what: str, address: str | None, shop: str, **fields: Any) -> int:
        """Any of `hub_shopify.sandbox.happenings`, by name."""
        return (await self._happen(what, address, shop, fields))[0]

    async def redeliver(self, address: str, webhook_id: str) -> int:
        """Send an earlier delivery again, as Shopify does until it is answered 2xx."""
        return await self.deliveries.send(address, webhook_id)

    async def _happen(self, what: str, address: str | None, domain: str, fields: Fields) -> tuple[int, Fields]:
        of_resource = {name: value for name, value in fields.items() if name not in _OF_DELIVERY}
        # What somebody else signs did not happen in the shop.
        shop = self.shop(domain) if fields.get("signed", True) else copy.deepcopy(self.shop(domain))
        topics, body = HAPPENINGS[what](shop, of_resource, rfc3339(self.clock.now_ms()))
        status = await self._deliver(address, domain, fields.get("topics") or topics, body, fields)
        if what == "uninstall":
            self.tokens.forget(domain)
            self.shop(domain).subscriptions.clear()
        return status, body

    def _by_hand(self, what: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        """An endpoint for people: `{"shop": …, "address": …, any field}` -> `{"status": …, "sent": …}`."""

        async def handle(request: web.Request) -> web.Response:
            fields = await request.json()
            shop, address = fields.pop("shop", None), fields.pop("address", None)
            if not shop:
                error = 'say which shop: {"shop": "my-shop.myshopify.com"}'
                return web.json_response({"error": error}, status=400)
            try:
                status, body = await self._happen(what, address, shop, fields)
            except KeyError as missing:
                return web.json_response({"error": f"{missing.args[0]} is missing, or not there"}, status=400)
            return web.json_response({"status": status, "sent": body})

        return handle

    async def _deliver(
        self, address: str | None, domain: str, topics: list[str], body: Fields, fields: Mapping[str, Any]
    ) -> int:
        event_id, status = new_id(), 0
        for topic in topics:
            for target in [address] if address else self._subscribed(domain, topic):
                status = await self.deliveries.deliver(
                    target,
                    domain,
                    topic,
                    body,
                    event_id=event_id,
                    id=fields.get("webhook_id") or new_id(),
                    signed=fields.get("signed", True),
                )
                if not 200 <= status < 300:
                    return status
        return status

    def _subscribed(self, domain: str, topic: str) -> list[str]:
        return [s["uri"] for s in self.shop(domain).subscriptions.values() if s["topic"] == enum_of(topic)]

    async def _set_deliveries(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        if unknown := set(wanted) - {*_FAULTS, "search_lag_s"}:
            return web.json_response({"error": f"unknown: {sorted(unknown)}"}, status=400)
        self.search_lag_ms = int(wanted.pop("search_lag_s", self.search_lag_ms / 1000) * 1000)
        for name, value in wanted.items():
            setattr(self.deliveries, name, value)
        return web.json_response({})

    # -- the Admin API -------------------------------------------------------------------------------------------------

    async def _graphql(self, request: web.Request) -> web.Response:
        domain = self.tokens.shop_of(request, list(self.shops))
        if domain is None:
            return web.json_response({"errors": "[API] Invalid API key or access token"}, status=401)
        shop, asked, now_ms = self.shop(domain), await request.json(), self.clock.now_ms()
        shop.search_lag_ms = self.search_lag_ms
        try:
            kind, selections = read(asked.get("query") or "", asked.get("variables") or {})
            points = cost(kind, selections)
            if points > _MOST_POINTS:
                return _error(f"Query cost is {points}, which exceeds the limit of {_MOST_POINTS}", "MAX_COST_EXCEEDED")
            if not shop.take(points, now_ms):
                self.refused += 1
                return _throttled(points, shop)
            data = execute(kind, selections, shop, self.record, now_ms)
        except ValueError as error:
            return _error(str(error), "undefinedField")
        news, shop.news = shop.news, []
        for topic, body in news:
            self.send_soon(self._deliver(None, domain, [topic], body, {}))
        return _answer({"data": data}, points, shop)

    def throttled(self) -> web.Response:
        return _throttled(1000, SandboxShop("", bucket=0))


def _error(message: str, code: str) -> web.Response:
    return web.json_response({"errors": [{"message": message, "extensions": {"code": code}}]})


def _throttled(points: int, shop: SandboxShop) -> web.Response:
    extensions = {"code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/rate-limits"}
    return _answer({"errors": [{"message": "Throttled", "extensions": extensions}]}, points, shop)


def _answer(body: Fields, points: int, shop: SandboxShop) -> web.Response:
    bucket = {
        "maximumAvailable": shop.bucket_size,
        "currentlyAvailable": int(shop.bucket),
        "restoreRate": shop.restore_rate,
    }
    actual = None if "errors" in body else points
    costs = {"requestedQueryCost": points, "actualQueryCost": actual, "throttleStatus": bucket}
    return web.json_response(body | {"extensions": {"cost": costs}}, headers={"X-Request-Id": str(uuid.uuid4())})
