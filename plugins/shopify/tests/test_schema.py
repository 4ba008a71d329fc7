"""All that the connector ever asks for, against Shopify's schema of both versions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values

from hub import ActionContext, ChoiceQuery, Rejected
from hub.connector import Http, Response
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_shopify import shopify
from hub_shopify.actions.discounts import DiscountInput, create_discount
from hub_shopify.actions.drafts import DraftInput, create_draft_order
from hub_shopify.api import OPERATIONS
from hub_shopify.client import Operation
from hub_shopify.payloads import Checkout, Refund, TagsChanged
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.subscriptions import PRIVACY_TOPICS, topic_enum
from hub_shopify.triggers.checkouts import still_abandoned
from hub_shopify.triggers.customers import who_it_is
from hub_shopify.triggers.orders import of_whom

from .test_contract import TestShopify as Suite

FACTS = {path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "facts").glob("*.json"))}
SCHEMAS = {name: build_schema("\n".join(facts["schema"])) for name, facts in FACTS.items()}

versions = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


@dataclass
class Listening:
    """A way out that remembers what was asked."""

    http: Http
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def request(self, method: str, path: str, **more: Any) -> Response:
        self.asked.append(more["json"])
        return await self.http.request(method, path, **more)


@pytest.fixture
async def heard(server: SandboxServer, sandbox: ShopifySandbox, shop: str) -> AsyncIterator[ActionContext]:
    """A connection whose calls are listened to, to a shop in which there is something of everything."""
    Suite().prepare(sandbox)
    async with sandbox_context(shopify, server.url, {"shop": shop}, clock=sandbox.clock) as ctx:
        # Only what is asked is of interest here, not how fast.
        shop_, now = sandbox.shop(shop), "2026-11-22T10:00:00Z"
        many = shop_.order({"id": 77, "paid_in_parts": [now] * 10}, now)
        for _ in range(10):
            shop_.refund(many, ["0.10"], None, now)
        sandbox.shop(shop).bucket_size = sandbox.shop(shop).bucket = 100_000
        yield replace(ctx, http=Listening(ctx.http))


def problems_of(schema: GraphQLSchema, asked: dict[str, Any]) -> list[GraphQLError]:
    """What does not fit, of a document and its variables."""
    document = parse(asked["query"])
    [operation] = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    found = get_variable_values(schema, operation.variable_definitions or (), asked["variables"])
    return [*validate(schema, document), *(found if isinstance(found, list) else [])]


async def do_everything(ctx: ActionContext) -> None:
    """Every action, look-up, poll, history, choice, enrichment and confirmation, with all that an input may hold."""
    for name, action in shopify.actions.items():
        given = action.input.model_validate(Suite.inputs[name])
        await action.run(ctx, given)
        if action.lookup_:
            await action.lookup_(ctx, given)
    for poll in (*shopify.polls.values(), *shopify.histories.values()):
        assert [page async for page in poll.fetch(ctx, None, 0)]
    for choices in shopify.choices.values():
        for search in ("", "wool back"):
            await choices(ctx, ChoiceQuery(search=search, within={}))
    assert shopify.subscriptions
    made = await shopify.subscriptions.create(ctx, "orders/paid", "https://hub.example/webhooks/shopify/k")
    await shopify.subscriptions.list(ctx)
    await shopify.subscriptions.delete(ctx, made)
    assert shopify.whoami
    await shopify.whoami(ctx)
    await do_the_rest(ctx)


async def do_the_rest(ctx: ActionContext) -> None:
    moment = "2026-11-22T10:00:00Z"
    await who_it_is(ctx, [TagsChanged(customer_id="7", occurred_at=moment)])
    await of_whom(ctx, [Refund(refund_id="1", order_id="70", processed_at=moment)])
    money = {"amount_minor": 1, "currency": "EUR"}
    known = {"checkout_id": "71", "total": money, "created_at": moment, "updated_at": moment}
    for more in ({"checkout_token": "t", "customer_id": "7"}, {"checkout_token": "71", "email": "a@example.com"}):
        await still_abandoned(ctx, Checkout.model_validate(known | more))
    fields = {"amount": "5.00 EUR", "minimum_subtotal": "50.00 EUR", "expires_after": "7d", "usage_limit": None}
    for whom in ({"customer_id": "7"}, {"segment_id": "301"}, {}):
        another = replace(ctx, reference=f"for {whom}")
        await create_discount.run(another, DiscountInput.model_validate(fields | whom))
    draft = {
        "email": "jane@example.com",
        "lines": [{"title": "Gift wrap", "price": "5.00 EUR", "quantity": 2}],
        "discount_code": "BACK-1",
        "note": "soon",
        "tags": ["offer"],
    }
    await create_draft_order.run(ctx, DraftInput.model_validate(draft))
    for name, more in {
        "upsert_customer": {"phone": "+14155550100", "last_name": "Doe", "language": "en", "note": "n"},
        "set_sms_consent": {"state": "subscribed", "consented_at": "2027-01-01T00:00:00Z", "location_id": "201"},
        "set_email_consent": {"state": "unsubscribed", "opt_in": "unknown"},
        "send_invoice": {"subject": "Your offer", "message": "Have a look"},
        "find_customer": {"email": None, "phone": "+14155550100"},
        "find_orders": {"within": "90d"},
        "give_store_credit": {"expires_after": None},
    }.items():
        action = shopify.actions[name]
        await action.run(ctx, action.input.model_validate({**Suite.inputs[name], **more}))


@versions
async def test_all_that_is_ever_asked_fits_the_schema(heard: ActionContext, schema: GraphQLSchema) -> None:
    # when
    await do_everything(heard)

    # then
    assert isinstance(heard.http, Listening)
    asked = heard.http.asked
    assert {each["query"] for each in asked} == {operation.document for operation in OPERATIONS}
    assert {one["query"].split("(")[0]: str(p) for one in asked for p in problems_of(schema, one)} == {}


@versions
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.answer.__name__)
def test_every_operation_fits_the_schema(operation: Operation[Any], schema: GraphQLSchema) -> None:
    assert validate(schema, parse(operation.document)) == []


@versions
def test_what_does_not_fit_is_found(schema: GraphQLSchema) -> None:
    tags = {"query": "mutation M($id: ID!, $tags: [String!]!) { tagsAdd(id: $id, tags: $tags) { node { id } } }"}
    assert problems_of(schema, tags | {"variables": {"id": "1", "tags": None}})
    assert problems_of(schema, {"query": "{ shop { nickname } }", "variables": {}})


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_every_topic_of_a_trigger_exists_and_its_scope_is_named(facts: dict[str, Any]) -> None:
    topics = {t: trigger for trigger in shopify.triggers.values() for t in trigger.topics if t not in PRIVACY_TOPICS}
    assert {topic: topic_enum(topic) for topic in topics} == facts["topics"]
    for topic, trigger in topics.items():
        allowed = facts["topic_scopes"][topic]
        assert not allowed or set(trigger.scopes) & set(allowed), topic


async def test_no_query_asks_for_more_points_than_one_may(heard: ActionContext) -> None:
    # The sandbox counts as Shopify says it does, and refuses what asks for more than 1,000.
    with pytest.raises(Exception, match="exceeds the limit of 1000"):
        await heard.http.request(
            "POST",
            "/graphql.json",
            json={
                "query": "{ orders(first: 250) { nodes { id customer { id } lineItems(first: 10) { nodes { title } } } } }"
            },
        )
    await do_everything(heard)


async def test_a_refund_without_its_key_is_refused(heard: ActionContext) -> None:
    query = 'mutation { refundCreate(input: {orderId: "gid://shopify/Order/70"}) { refund { id } } }'
    with pytest.raises(Exception, match="@idempotent directive is required"):
        await heard.http.request("POST", "/graphql.json", json={"query": query})


async def test_a_tag_that_is_too_long_is_refused(heard: ActionContext) -> None:
    draft = {"lines": [{"variant_id": "41327142600817"}], "tags": ["x" * 41]}
    with pytest.raises(Rejected, match="too long"):
        await create_draft_order.run(heard, DraftInput.model_validate(draft))
