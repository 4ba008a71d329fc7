"""One call: where it goes, and what each kind of answer becomes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

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
    Subscription,
    Throttle,
    VendorUnavailable,
)
from hub.testing.context import sandbox_context
from hub_shopify import shopify
from hub_shopify.actions.customers import TagInput, tag_customer
from hub_shopify.api.customers import TAGS_ADD
from hub_shopify.api.discounts import DISCOUNT_CREATE
from hub_shopify.api.shop import SHOP
from hub_shopify.client import call, search_term, throttle
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.subscriptions import PRIVACY_TOPICS, topic_enum, topic_of, whoami


@dataclass
class Script:
    """A vendor that answers what it is told to, and remembers what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    later: list[bytes] = field(default_factory=list)

    def then(self, *bodies: Any) -> None:
        """One after the other; the last for good."""
        self.says(bodies[0])
        self.later = [json.dumps(body).encode() for body in bodies[1:]]

    def says(self, body: Any, status: int = 200, **headers: str) -> None:
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {"X-Request-Id": "r-1"} | {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json() | {"path": request.path, "headers": dict(request.headers)})
        body, self.body = self.body, self.later.pop(0) if self.later else self.body
        return web.Response(status=self.status, body=body, headers=self.headers)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    told = Script()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", told.answer)
    async with TestServer(app) as running:
        told.url = str(running.make_url("")).rstrip("/")
        yield told


@pytest.fixture
async def scripted(script: Script, shop: str) -> AsyncIterator[ActionContext]:
    async with sandbox_context(shopify, script.url, {"shop": shop}) as context:
        yield context


# -- one call ----------------------------------------------------------------------------------------------------------


async def test_a_call_goes_to_the_pinned_version_with_the_token(script: Script, scripted: ActionContext) -> None:
    # given
    script.says({"data": {"shop": {"name": "S", "myshopifyDomain": "s", "currencyCode": "EUR", "ianaTimezone": "UTC"}}})

    # when
    await call(scripted, SHOP, {})

    # then
    [asked] = script.asked
    assert asked["path"] == "/shopify/admin/api/2026-07/graphql.json"
    assert asked["headers"]["Content-Type"] == "application/json"
    assert len(asked["headers"]["X-Shopify-Access-Token"]) == 32


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthExpired),
        (402, VendorUnavailable),
        (403, PermanentError),
        (404, NotFound),
        (423, VendorUnavailable),
        (429, RateLimited),
        (430, PermanentError),
        (503, VendorUnavailable),
    ],
)
async def test_each_status_means_one_thing(
    status: int, kind: type[ConnectorError], script: Script, scripted: ActionContext
) -> None:
    # given
    script.says(b"<html>no</html>", status)

    # when
    with pytest.raises(ConnectorError) as refused:
        await call(scripted, SHOP, {})

    # then
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.connector) == (status, "shopify")


async def test_retry_after_is_obeyed(script: Script, scripted: ActionContext) -> None:
    script.says(b"", 429, Retry_After="2.0")
    with pytest.raises(RateLimited) as refused:
        await call(scripted, SHOP, {})
    assert refused.value.retry_after_s == 2.0


async def test_a_throttled_operation_waits_for_the_bucket(script: Script, scripted: ActionContext) -> None:
    # given the answer that the vendor's forum shows
    bucket = {"maximumAvailable": 1000.0, "currentlyAvailable": 666, "restoreRate": 50.0}
    cost = {"requestedQueryCost": 752, "actualQueryCost": None, "throttleStatus": bucket}
    errors = [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]
    script.says({"errors": errors, "extensions": {"cost": cost}})

    # when
    with pytest.raises(RateLimited) as refused:
        await call(scripted, SHOP, {})

    # then
    assert refused.value.retry_after_s == pytest.approx(1.72)
    assert (refused.value.code, refused.value.request_id) == ("THROTTLED", "r-1")


async def test_every_answer_tells_what_is_left_in_the_bucket(script: Script, scripted: ActionContext) -> None:
    bucket = {"maximumAvailable": 20000.0, "currentlyAvailable": 666, "restoreRate": 1000.0}
    script.says({"data": {}, "extensions": {"cost": {"throttleStatus": bucket}}})
    answer = await scripted.http.request("POST", "/graphql.json", json={})
    assert throttle(answer) == Throttle(available=666, limit=20000, per_s=1000, name="points")


@pytest.mark.parametrize("body", [[], {}, {"extensions": None}, {"extensions": {"cost": {"throttleStatus": {}}}}])
async def test_an_answer_without_a_bucket_tells_nothing(body: Any, script: Script, scripted: ActionContext) -> None:
    script.says(body)
    assert throttle(await scripted.http.request("POST", "/graphql.json", json={})) is None


@pytest.mark.parametrize("extensions", [None, {}, {"cost": {}}, {"cost": {"throttleStatus": {"restoreRate": 0}}}])
async def test_throttled_without_numbers_leaves_the_wait_to_the_hub(
    extensions: Any, script: Script, scripted: ActionContext
) -> None:
    script.says({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], "extensions": extensions})
    with pytest.raises(RateLimited) as refused:
        await call(scripted, SHOP, {})
    assert refused.value.retry_after_s is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ACCESS_DENIED", PermanentError),
        ("SHOP_INACTIVE", AuthExpired),
        ("MAX_COST_EXCEEDED", PermanentError),
        ("INTERNAL_SERVER_ERROR", VendorUnavailable),
        ("undefinedField", PermanentError),
        (None, PermanentError),
    ],
)
async def test_each_top_level_error_means_one_thing(
    code: str | None, kind: type[ConnectorError], script: Script, scripted: ActionContext
) -> None:
    # given
    script.says({"errors": [{"message": "No.", "extensions": {"code": code}}], "data": {"shop": None}})

    # when
    with pytest.raises(ConnectorError, match=r"No\.") as refused:
        await call(scripted, SHOP, {})

    # then
    assert type(refused.value) is kind
    assert (refused.value.code, refused.value.connection_id) == (code, "test")


async def test_errors_may_be_a_plain_text(script: Script, scripted: ActionContext) -> None:
    script.says({"errors": "[API] Invalid API key or access token"})
    with pytest.raises(AuthExpired, match="Invalid API key"):
        await call(scripted, SHOP, {})


async def test_an_error_beside_data_may_have_done_something(script: Script, scripted: ActionContext) -> None:
    script.says({"errors": [{"message": "Half."}], "data": {"tagsAdd": {"node": None, "userErrors": []}}})
    with pytest.raises(OutcomeUnknown, match="Half"):
        await call(scripted, TAGS_ADD, {"id": "gid://shopify/Customer/1", "tags": ["vip"]})


async def test_user_errors_name_field_and_reason(script: Script, scripted: ActionContext) -> None:
    # given
    errors = [
        {"field": ["basicCodeDiscount", "code"], "message": "must be unique", "code": "TAKEN"},
        {"field": None, "message": "is odd"},
    ]
    script.says({"data": {"discountCodeBasicCreate": {"codeDiscountNode": None, "userErrors": errors}}})

    # when
    with pytest.raises(Rejected, match=r"basicCodeDiscount\.code: must be unique; input: is odd") as refused:
        await call(scripted, DISCOUNT_CREATE, {"discount": {}})

    # then
    error = refused.value
    assert (error.code, error.connector, error.connection_id, error.status, error.request_id) == (
        "TAKEN",
        "shopify",
        "test",
        200,
        "r-1",
    )


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", b"{}", b'{"data": null}', b'{"data": {"shop": {}}}'])
async def test_an_answer_that_makes_no_sense_leaves_the_outcome_of_a_change_open(
    body: bytes, script: Script, scripted: ActionContext
) -> None:
    script.says(body)
    with pytest.raises(OutcomeUnknown):
        await call(scripted, TAGS_ADD, {"id": "gid://shopify/Customer/1", "tags": ["vip"]})
    # a question can be asked again, whatever became of it
    with pytest.raises(VendorUnavailable):
        await call(scripted, SHOP, {})


async def test_a_question_that_shopify_breaks_over_is_asked_again(script: Script, scripted: ActionContext) -> None:
    script.says(b"", 500)
    with pytest.raises(VendorUnavailable) as refused:
        await call(scripted, SHOP, {})
    assert (refused.value.status, refused.value.connector, refused.value.connection_id) == (500, "shopify", "test")


async def test_nobody_s_address_is_repeated(script: Script, scripted: ActionContext) -> None:
    errors = [{"field": ["email"], "message": "jane@example.com or +1 415 555 0100 is taken", "code": "TAKEN"}]
    script.says({"data": {"customerSet": {"customer": None, "userErrors": errors}}})
    with pytest.raises(Rejected, match=r"email: … or … is taken"):
        await call(scripted, TAGS_ADD, {})
    script.says({"errors": [{"message": "Variable $email was given jane@example.com", "extensions": {}}]})
    with pytest.raises(PermanentError) as refused:
        await call(scripted, TAGS_ADD, {})
    assert "jane" not in str(refused.value)


async def test_a_missing_node_without_an_error_is_not_found(script: Script, scripted: ActionContext) -> None:
    script.says({"data": {"tagsAdd": {"node": None, "userErrors": []}}})
    with pytest.raises(NotFound, match="no customer 7"):
        await tag_customer.run(scripted, TagInput(customer_id="7", tags=["vip"]))


async def test_a_deprecated_call_is_logged(
    script: Script, scripted: ActionContext, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    shop = {"name": "S", "myshopifyDomain": "s", "currencyCode": "EUR", "ianaTimezone": "UTC"}
    script.says({"data": {"shop": shop}}, X_Shopify_API_Deprecated_Reason="old")

    # when
    with caplog.at_level(logging.INFO):
        await call(scripted, SHOP, {})

    # then
    ours = [record for record in caplog.records if record.name == "hub_shopify.client"]
    assert [record.__dict__["what"] for record in ours] == ["api_deprecated"]


# -- search ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "term"),
    [
        ("5747", "f:5747"),
        ("84ad-7857_2d", "f:84ad-7857_2d"),
        ("jane@example.com", 'f:"jane@example.com"'),
        ('x" OR name:*', 'f:"x\\" OR name:*"'),
        ("back\\slash", 'f:"back\\\\slash"'),
        ("", 'f:""'),
    ],
)
def test_a_search_term_cannot_break_out_of_its_value(value: str, term: str) -> None:
    assert search_term("f", value) == term


# -- the account and its webhooks --------------------------------------------------------------------------------------


async def test_the_token_tells_its_shop(ctx: ActionContext) -> None:
    assert await whoami(ctx) == Account(
        id="some-shop.myshopify.com", title="Some Shop", zone="Europe/Istanbul", currency="EUR"
    )


async def test_webhooks_are_created_listed_and_deleted(ctx: ActionContext) -> None:
    # given
    assert shopify.subscriptions
    address = "https://hub.example/webhooks/shopify/k"

    # when
    made = await shopify.subscriptions.create(ctx, "orders/paid", address)
    listed = await shopify.subscriptions.list(ctx)
    await shopify.subscriptions.delete(ctx, made)

    # then
    assert listed == [made]
    assert (made.topic, made.address, made.expires_at_ms) == ("orders/paid", address, None)
    assert await shopify.subscriptions.list(ctx) == []


async def test_a_webhook_that_is_there_already_is_as_good_as_a_new_one(ctx: ActionContext) -> None:
    assert shopify.subscriptions
    first = await shopify.subscriptions.create(ctx, "orders/paid", "https://hub.example/a")
    assert await shopify.subscriptions.create(ctx, "orders/paid", "https://hub.example/a") == first
    assert len(await shopify.subscriptions.list(ctx)) == 1


async def test_a_webhook_that_shopify_does_not_want_is_refused(ctx: ActionContext) -> None:
    assert shopify.subscriptions
    with pytest.raises(Rejected, match="can't be blank"):
        await shopify.subscriptions.create(ctx, "orders/paid", "")


async def test_a_webhook_that_is_gone_already_is_as_good_as_deleted(ctx: ActionContext) -> None:
    assert shopify.subscriptions
    await shopify.subscriptions.delete(ctx, Subscription(id="gid://shopify/X/1", topic="", address=""))


async def test_a_webhook_that_cannot_be_deleted_is_told(script: Script, scripted: ActionContext) -> None:
    # given one that Shopify still lists after it refused to delete it
    assert shopify.subscriptions
    errors = [{"field": ["id"], "message": "No."}]
    node = {"id": "gid://shopify/X/1", "topic": "ORDERS_PAID", "uri": "https://hub.example/a"}
    page = {"nodes": [node], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    refused = {"webhookSubscriptionDelete": {"deletedWebhookSubscriptionId": None, "userErrors": errors}}
    script.then({"data": refused}, {"data": {"webhookSubscriptions": page}})

    # when, then
    with pytest.raises(Rejected, match=r"id: No\."):
        await shopify.subscriptions.delete(scripted, Subscription(id="gid://shopify/X/1", topic="", address=""))


async def test_the_privacy_topics_are_not_subscribed_to(ctx: ActionContext) -> None:
    assert shopify.subscriptions
    wanted = await shopify.subscriptions.wanted(ctx, ["orders/paid", *PRIVACY_TOPICS, "app/uninstalled"])
    assert wanted == ["orders/paid", "app/uninstalled"]


@pytest.mark.parametrize("topic", sorted({topic for trigger in shopify.triggers.values() for topic in trigger.topics}))
def test_a_topic_reads_back_from_the_api_s_name_for_it(topic: str) -> None:
    assert topic in PRIVACY_TOPICS or topic_of(topic_enum(topic)) == topic


async def test_many_webhooks_come_in_pages(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    uris = [f"https://hub.example/{n}" for n in range(230)]
    state = sandbox.shop(ctx.account).subscriptions
    state |= {uri: {"id": uri, "topic": "ORDERS_PAID", "uri": uri} for uri in uris}

    # when
    assert shopify.subscriptions
    found = await shopify.subscriptions.list(ctx)

    # then
    assert [subscription.address for subscription in found] == uris
