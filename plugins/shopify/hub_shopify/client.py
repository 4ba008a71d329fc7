"""Calls to the Admin GraphQL API: the operations, the shape of their answers, and what each kind of refusal means.

Operations and error layers follow API versions 2026-07 and 2026-10 (shopify.dev "GraphQL Admin API", read 2026-11-22).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    ConnectorError,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    Response,
    Subscription,
    Subscriptions,
    Throttle,
    VendorUnavailable,
)
from hub.events import Json

logger = logging.getLogger(__name__)

POINTS = "points"
"""The name of the rate that calls are counted by."""
_FROZEN_SHOP_S = 3600.0
_PLAIN_TERM = re.compile(r"[\w-]+")


# -- the shape of answers ----------------------------------------------------------------------------------------------


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Node(_Answer):
    """Anything with a global id (`gid://shopify/Customer/1`)."""

    id: str


class Shop(_Answer):
    name: str
    myshopify_domain: str
    currency_code: str
    iana_timezone: str


class ShopAnswer(_Answer):
    shop: Shop


class FoundOrder(_Answer):
    id: str
    checkout_token: str | None


class FoundOrders(_Answer):
    nodes: list[FoundOrder]


class OrdersAnswer(_Answer):
    orders: FoundOrders


class Discount(_Answer):
    """What a code gives. Other kinds than basic ones come without title."""

    title: str | None = None
    ends_at: str | None = None


class DiscountNode(_Answer):
    id: str
    code_discount: Discount


class DiscountCreated(_Answer):
    code_discount_node: DiscountNode


class DiscountCreateAnswer(_Answer):
    discount_code_basic_create: DiscountCreated


class DiscountByCodeAnswer(_Answer):
    code_discount_node_by_code: DiscountNode | None


class Tagged(_Answer):
    node: Node | None


class TagsAddAnswer(_Answer):
    tags_add: Tagged


class WebhookNode(_Answer):
    id: str
    topic: str
    uri: str


class PageInfo(_Answer):
    has_next_page: bool
    end_cursor: str | None


class WebhookPage(_Answer):
    nodes: list[WebhookNode]
    page_info: PageInfo


class WebhooksAnswer(_Answer):
    webhook_subscriptions: WebhookPage


class WebhookCreated(_Answer):
    webhook_subscription: WebhookNode


class WebhookCreateAnswer(_Answer):
    webhook_subscription_create: WebhookCreated


class WebhookDeleteAnswer(_Answer):
    """Nothing but the errors is of interest, and those are looked at for every mutation."""


# -- the operations ----------------------------------------------------------------------------------------------------

A = TypeVar("A", bound=_Answer, covariant=True)


@dataclass(frozen=True)
class Operation(Generic[A]):
    """One document sent to the API, and the model of the `data` it answers with."""

    document: str
    answer: type[A]


SHOP = Operation("query Shop { shop { name myshopifyDomain currencyCode ianaTimezone } }", ShopAnswer)

ORDERS = Operation(
    """query Orders($query: String!) {
  orders(first: 5, query: $query, sortKey: CREATED_AT, reverse: true) { nodes { id checkoutToken } }
}""",
    OrdersAnswer,
)

DISCOUNT_CREATE = Operation(
    """mutation DiscountCreate($discount: DiscountCodeBasicInput!) {
  discountCodeBasicCreate(basicCodeDiscount: $discount) {
    codeDiscountNode { id codeDiscount { ... on DiscountCodeBasic { title endsAt } } }
    userErrors { field message code }
  }
}""",
    DiscountCreateAnswer,
)

DISCOUNT_BY_CODE = Operation(
    """query DiscountByCode($code: String!) {
  codeDiscountNodeByCode(code: $code) { id codeDiscount { ... on DiscountCodeBasic { title endsAt } } }
}""",
    DiscountByCodeAnswer,
)

TAGS_ADD = Operation(
    """mutation TagsAdd($id: ID!, $tags: [String!]!) {
  tagsAdd(id: $id, tags: $tags) { node { id } userErrors { field message } }
}""",
    TagsAddAnswer,
)

WEBHOOKS = Operation(
    """query Webhooks($after: String) {
  webhookSubscriptions(first: 100, after: $after) { nodes { id topic uri } pageInfo { hasNextPage endCursor } }
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

OPERATIONS: tuple[Operation[_Answer], ...] = (
    SHOP,
    ORDERS,
    DISCOUNT_CREATE,
    DISCOUNT_BY_CODE,
    TAGS_ADD,
    WEBHOOKS,
    WEBHOOK_CREATE,
    WEBHOOK_DELETE,
)


# -- calling -----------------------------------------------------------------------------------------------------------


async def call(ctx: ActionContext, operation: Operation[A], variables: Mapping[str, Json]) -> A:
    """One operation. Raises the shared status table's errors, those of `classify`, and Rejected for user errors.

    A Rejected carries the vendor's code where the mutation has codes (`TAKEN`). Nothing was changed in that case.
    """
    response = await ctx.http.request(
        "POST", "/graphql.json", json={"query": operation.document, "variables": dict(variables)}
    )
    request_id = response.headers.get("X-Request-Id")
    if reason := response.headers.get("X-Shopify-API-Deprecated-Reason"):
        logger.info(
            "Shopify says that a call is deprecated",
            extra={"what": "api_deprecated", "connection_id": ctx.connection_id, "reason": reason},
        )
    body = response.json()
    data = body.get("data") if isinstance(body, dict) else None
    if isinstance(data, dict) and (refused := _user_errors(data)):
        refused.connector, refused.connection_id = "shopify", ctx.connection_id
        refused.status, refused.request_id = response.status, request_id
        raise refused
    try:
        return operation.answer.model_validate(data)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, e["loc"])) or "data" for e in error.errors(include_input=False))
        raise OutcomeUnknown(
            f"Shopify's answer is not as its API describes it, at {places}",
            connector="shopify",
            connection_id=ctx.connection_id,
            status=response.status,
            request_id=request_id,
        ) from error


def classify(response: Response) -> ConnectorError | None:
    """What an answer's status and its top-level `errors` mean; None leaves it to the shared status table."""
    found = _by_status(response.status) if response.status >= 300 else _by_errors(response)
    if found:
        found.request_id = response.headers.get("X-Request-Id")
    return found


def _by_status(status: int) -> ConnectorError | None:
    match status:
        case 402:
            # A frozen or locked shop comes back by its owner's doing, and nothing was done until then.
            return VendorUnavailable(
                "the shop is frozen: its owner must settle the bill with Shopify; the hub asks again every hour",
                retry_after_s=_FROZEN_SHOP_S,
            )
        case 403:
            return PermanentError(
                "the app may not do this in the shop: grant the access scopes that the plugin's README lists"
            )
        case 404:
            return NotFound("there is no such shop or API version: check `shop` and `api_version` of the connection")
        case 423:
            return VendorUnavailable(
                "the shop is locked by Shopify: its owner must ask Shopify's support; the hub asks again every hour",
                retry_after_s=_FROZEN_SHOP_S,
            )
        case 430:
            return PermanentError(
                "Shopify's security check refused the call, and repeating it makes it worse: "
                "ask Shopify's support about the request id"
            )
    return None


def _by_errors(response: Response) -> ConnectorError | None:
    try:
        body = response.json()
    except OutcomeUnknown as error:
        return error
    errors = body.get("errors") if isinstance(body, dict) else None
    if not errors:
        return None
    if isinstance(errors, str):
        return AuthExpired(f"Shopify refused the token: {errors}")
    first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {}
    message = str(first.get("message", "no message"))
    code = str((first.get("extensions") or {}).get("code") or "") or None
    if code == "THROTTLED":
        # Nothing of a throttled operation is carried out.
        return RateLimited(retry_after_s=_refilled_after_s(body), code=code)
    if any(value is not None for value in (body.get("data") or {}).values()):
        return OutcomeUnknown(f"Shopify did it in part: {message}", code=code)
    if code == "INTERNAL_SERVER_ERROR":
        return OutcomeUnknown(f"Shopify broke while working on it: {message}", code=code)
    if code == "ACCESS_DENIED":
        return PermanentError(
            f"the app lacks an access scope; grant it in the shop and try again: {message}", code=code
        )
    if code == "SHOP_INACTIVE":
        return AuthExpired(f"the shop is closed: {message}", code=code)
    return PermanentError(f"Shopify refused the operation: {message}", code=code)


def throttle(response: Response) -> Throttle | None:
    """What is left in the shop's bucket, how large it is and how fast it refills; plans differ in both.

    (shopify.dev "API limits", GraphQL Admin API, `extensions.cost.throttleStatus`, read 2026-11-22)
    """
    try:
        bucket = response.json()["extensions"]["cost"]["throttleStatus"]
        return Throttle(
            available=float(bucket["currentlyAvailable"]),
            limit=float(bucket["maximumAvailable"]),
            per_s=float(bucket["restoreRate"]),
            name=POINTS,
        )
    except (OutcomeUnknown, KeyError, TypeError, ValueError):
        return None  # not an answer of the GraphQL API, or one without its cost


def _refilled_after_s(body: Mapping[str, Json]) -> float | None:
    """Seconds until the bucket holds what the operation asks for; None when the answer does not say."""
    cost = (body.get("extensions") or {}).get("cost") or {}
    bucket = cost.get("throttleStatus") or {}
    try:
        lacking = float(cost["requestedQueryCost"]) - float(bucket["currentlyAvailable"])
        return max(0.0, lacking / float(bucket["restoreRate"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _user_errors(data: Mapping[str, Json]) -> Rejected | None:
    errors = [e for payload in data.values() if isinstance(payload, dict) for e in payload.get("userErrors") or ()]
    if not errors:
        return None
    told = "; ".join(f"{'.'.join(e.get('field') or ()) or 'input'}: {e.get('message')}" for e in errors)
    return Rejected(f"Shopify refused the input: {told}", code=errors[0].get("code"))


def search_term(field: str, value: str) -> str:
    """`field:value` in Shopify's search syntax, quoted unless it is one plain word."""
    if _PLAIN_TERM.fullmatch(value):
        return f"{field}:{value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{field}:"{escaped}"'


def rfc3339(moment: datetime) -> str:
    """An aware UTC time as Shopify writes it, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def gid(kind: str, id: str) -> str:
    """An id of the REST shape (`5747`) or a global one as a global id (`gid://shopify/Customer/5747`)."""
    return id if id.startswith("gid://") else f"gid://shopify/{kind}/{id}"


# -- the account and its webhooks --------------------------------------------------------------------------------------


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
        await call(ctx, WEBHOOK_DELETE, {"id": subscription.id})


def topic_enum(topic: str) -> str:
    """`orders/create` as the API's enum writes it: `ORDERS_CREATE`."""
    return topic.replace("/", "_").replace(".", "_").upper()


def _subscription(node: WebhookNode) -> Subscription:
    resource, _, what = node.topic.lower().rpartition("_")
    return Subscription(id=node.id, topic=f"{resource}/{what}", address=node.uri)
