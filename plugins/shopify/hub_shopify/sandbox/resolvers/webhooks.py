"""The app's webhooks."""

from __future__ import annotations

from hub.events import Json
from hub_shopify.sandbox.ids import gid
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, UserError, page


def _webhooks(asked: Asked) -> Json:
    return page(list(asked.shop.subscriptions.values()), asked.args)


def _create_webhook(asked: Asked) -> Json:
    topic, uri = asked.args["topic"], asked.args["webhookSubscription"].get("uri")
    if not uri:
        raise UserError(["webhookSubscription", "uri"], "Address can't be blank")
    kept = asked.shop.subscriptions
    if any((s["topic"], s["uri"]) == (topic, uri) for s in kept.values()):
        raise UserError(["webhookSubscription", "uri"], "Address for this topic has already been taken")
    made = {"id": gid("WebhookSubscription", asked.shop.next_id()), "topic": topic, "uri": uri}
    kept[made["id"]] = made
    return {"webhookSubscription": made}


def _delete_webhook(asked: Asked) -> Json:
    if asked.shop.subscriptions.pop(asked.args["id"], None) is None:
        raise UserError(["id"], "Webhook subscription does not exist")
    return {"deletedWebhookSubscriptionId": asked.args["id"]}


QUERIES: dict[str, Resolver] = {"webhookSubscriptions": _webhooks}
MUTATIONS: dict[str, Resolver] = {
    "webhookSubscriptionCreate": _create_webhook,
    "webhookSubscriptionDelete": _delete_webhook,
}
