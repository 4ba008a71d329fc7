"""The account behind the token, and the app's webhooks in its shop."""

from __future__ import annotations

from collections.abc import Sequence

from hub import Account, ActionContext, Rejected, Subscription, Subscriptions
from hub_shopify.api.shop import SHOP, WEBHOOK_CREATE, WEBHOOK_DELETE, WEBHOOKS, WebhookNode
from hub_shopify.client import call

PRIVACY_TOPICS = ("customers/data_request", "customers/redact", "shop/redact")
"""Set in the app's own configuration; they cannot be subscribed to. (GraphQL Admin API, 2026-07)"""
# Topics of events about one customer are written with a point, all others with a slash.
_WITH_A_POINT = ("CUSTOMER_TAGS_ADDED", "CUSTOMER_TAGS_REMOVED", "CUSTOMER_JOINED_SEGMENT", "CUSTOMER_LEFT_SEGMENT")
# What stands behind the slash, where it is more than one word.
_LONG_ENDINGS = ("REDEEMCODE_ADDED", "REDEEMCODE_REMOVED", "IN_STOCK", "OUT_OF_STOCK")


async def whoami(ctx: ActionContext) -> Account:
    """The shop behind the token."""
    shop = (await call(ctx, SHOP, {})).shop
    return Account(id=shop.myshopify_domain, title=shop.name, zone=shop.iana_timezone, currency=shop.currency_code)


class WebhookSubscriptions(Subscriptions):
    """The app's webhooks in one shop. Those declared in the app's own configuration are not listed by Shopify."""

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        found: list[Subscription] = []
        after: str | None = None
        while True:
            page = (await call(ctx, WEBHOOKS, {"after": after})).webhook_subscriptions
            found += map(_subscription, page.nodes)
            if not page.page_info.has_next_page:
                return found
            after = page.page_info.end_cursor

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        """Subscribe; one that is there already is as good as a new one."""
        variables = {"topic": topic_enum(topic), "subscription": {"uri": address, "format": "JSON"}}
        try:
            answer = await call(ctx, WEBHOOK_CREATE, variables)
        except Rejected:
            # The same topic and address twice is refused without a code, so look instead of reading the message.
            for known in await self.list(ctx):
                if (known.topic, known.address) == (topic, address):
                    return known
            raise
        return _subscription(answer.webhook_subscription_create.webhook_subscription)

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        """Unsubscribe; one that is gone already is no error."""
        try:
            await call(ctx, WEBHOOK_DELETE, {"id": subscription.id})
        except Rejected:
            # One that is gone is refused without a code, too.
            if any(known.id == subscription.id for known in await self.list(ctx)):
                raise

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        """All but the privacy topics, which come without being asked for."""
        return [topic for topic in topics if topic not in PRIVACY_TOPICS]


def topic_enum(topic: str) -> str:
    """`orders/create` as the API's enum writes it: `ORDERS_CREATE`."""
    return topic.replace("/", "_").replace(".", "_").upper()


def topic_of(enum: str) -> str:
    """`ORDERS_CREATE` as webhooks write it: `orders/create`."""
    if enum in _WITH_A_POINT:
        return "customer." + enum.removeprefix("CUSTOMER_").lower()
    for ending in _LONG_ENDINGS:
        if enum.endswith("_" + ending):
            return f"{enum.removesuffix('_' + ending)}/{ending}".lower()
    resource, _, what = enum.lower().rpartition("_")
    return f"{resource}/{what}"


def _subscription(node: WebhookNode) -> Subscription:
    return Subscription(id=node.id, topic=topic_of(node.topic), address=node.uri)
