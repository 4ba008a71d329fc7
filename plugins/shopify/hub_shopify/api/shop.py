"""The shop itself and the app's webhooks in it."""

from __future__ import annotations

from hub_shopify.api.parts import Listed
from hub_shopify.client import Answer, Operation


class Shop(Answer):
    name: str
    myshopify_domain: str
    currency_code: str
    iana_timezone: str


class ShopAnswer(Answer):
    shop: Shop


class WebhookNode(Answer):
    id: str
    topic: str
    uri: str


class WebhooksAnswer(Answer):
    webhook_subscriptions: Listed[WebhookNode]


class WebhookCreated(Answer):
    webhook_subscription: WebhookNode


class WebhookCreateAnswer(Answer):
    webhook_subscription_create: WebhookCreated


class WebhookDeleteAnswer(Answer):
    """Nothing but the errors is of interest, and those are looked at for every mutation."""


SHOP = Operation("query Shop { shop { name myshopifyDomain currencyCode ianaTimezone } }", ShopAnswer)

WEBHOOKS = Operation(
    """query Webhooks($after: String) {
  webhookSubscriptions(first: 30, after: $after) { nodes { id topic uri } pageInfo { hasNextPage endCursor } }
}""",
    WebhooksAnswer,
)

WEBHOOK_CREATE = Operation(
    """mutation WebhookCreate($topic: WebhookSubscriptionTopic!, $subscription: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $subscription) {
    webhookSubscription { id topic uri }
    userErrors { field message }
  }
}""",
    WebhookCreateAnswer,
)

WEBHOOK_DELETE = Operation(
    """mutation WebhookDelete($id: ID!) {
  webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId userErrors { field message } }
}""",
    WebhookDeleteAnswer,
)
