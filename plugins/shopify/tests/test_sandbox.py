"""That the sandbox behaves like Shopify, with Shopify's own library as a witness."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.error import HTTPError

import aiohttp
import pytest
import shopify as official

from hub import AuthExpired
from hub.clock import FrozenClock
from hub.connector import sandbox_secret
from hub.store import views
from hub.testing.context import sandbox_context
from hub.testing.contract.stage import hub_of
from hub.testing.sandbox import SandboxServer, load_sandbox
from hub_shopify import shopify
from hub_shopify.actions.customers import TagInput, tag_customer
from hub_shopify.actions.discounts import DiscountInput, create_discount
from hub_shopify.api.customers import TAGS_ADD
from hub_shopify.api.shop import SHOP
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.sandbox.graphql import pick, read
from hub_shopify.subscriptions import whoami


@pytest.fixture
def witness(server: SandboxServer, sandbox: ShopifySandbox, shop: str) -> Iterator[Any]:
    """Shopify's own GraphQL client, with the sandbox in the place of the shop."""
    sandbox.shop(shop)
    session = official.Session(shop, "2026-07", sandbox_secret("shopify", shop, "access_token"))
    official.ShopifyResource.activate_session(session)
    client = official.GraphQL()
    assert client.endpoint == f"https://{shop}/admin/api/2026-07/graphql.json"
    client.endpoint = client.endpoint.replace(f"https://{shop}", f"{server.url}/shopify")
    yield client
    official.ShopifyResource.clear_session()


async def ask(witness: Any, query: str, variables: dict[str, Any] | None = None) -> Any:
    return json.loads(await asyncio.to_thread(witness.execute, query, variables))


@pytest.fixture
async def curl(server: SandboxServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{server.url}/shopify/") as session:
        yield session


# -- the official library ----------------------------------------------------------------------------------------------


async def test_the_official_client_reads_a_shop(witness: Any) -> None:
    answer = await ask(witness, "{ shop { name currencyCode } }")
    assert answer["data"] == {"shop": {"name": "Some Shop", "currencyCode": "EUR"}}
    assert answer["extensions"]["cost"]["throttleStatus"]["maximumAvailable"] == 1000.0


async def test_the_official_client_sees_what_the_connector_did(
    witness: Any, server: SandboxServer, shop: str, clock: FrozenClock
) -> None:
    # given
    async with sandbox_context(shopify, server.url, {"shop": shop}, clock=clock) as ctx:
        made = await create_discount.run(ctx, DiscountInput(percentage=20, prefix="W-"))

    # when
    answer = await ask(
        witness,
        """query ($code: String!) {
          found: codeDiscountNodeByCode(code: $code) { id codeDiscount { __typename ... on DiscountCodeBasic { usageLimit } } }
        }""",
        {"code": made.code.lower()},
    )

    # then
    expected = {"id": made.discount_id, "codeDiscount": {"__typename": "DiscountCodeBasic", "usageLimit": 1}}
    assert answer["data"]["found"] == expected


async def test_the_official_client_tags_a_customer(witness: Any, sandbox: ShopifySandbox, shop: str) -> None:
    # given
    await sandbox.customer(None, shop, id=5747, email="jane@example.com", tags="vip")

    # when
    variables = {"id": "gid://shopify/Customer/5747", "tags": ["new, vip", "cart"]}
    answer = await ask(witness, TAGS_ADD.document, variables)

    # then
    assert answer["data"]["tagsAdd"] == {"node": {"id": "gid://shopify/Customer/5747"}, "userErrors": []}
    assert sandbox.shop(shop).customers["5747"]["tags"] == "vip, new, cart"


async def test_a_wrong_token_is_refused_as_shopify_does(witness: Any, capsys: pytest.CaptureFixture[str]) -> None:
    witness.headers = {"X-Shopify-Access-Token": "wrong"}
    with pytest.raises(HTTPError) as refused:
        await ask(witness, "{ shop { name } }")
    refused.value.close()
    assert refused.value.code == 401


@pytest.mark.parametrize(
    ("query", "variables", "told"),
    [
        ("{ shop { nickname } }", None, "nickname"),
        ("{ planet { name } }", None, "planet"),
        ("query ($q: String!) { orders(first: 1, query: $q) { nodes { id } } }", {}, "$q of type String!"),
        ('{ orders(query: "") { nodes { id } } }', None, "missing required arguments: first"),
        ("{ shop { name }", None, "syntax error"),
        ("subscription { shop { name } }", None, "syntax error"),
        ("{ shop { name ? } }", None, "syntax error"),
    ],
)
async def test_a_wrong_operation_is_answered_with_errors(
    query: str, variables: dict[str, Any] | None, told: str, witness: Any
) -> None:
    answer = await ask(witness, query, variables)
    assert "data" not in answer
    assert told in answer["errors"][0]["message"]


async def test_the_bucket_empties_and_fills_again(witness: Any, sandbox: ShopifySandbox, clock: FrozenClock) -> None:
    # given
    variables = {"id": "gid://shopify/Customer/5747", "tags": ["vip"]}
    for _ in range(100):
        assert "data" in await ask(witness, TAGS_ADD.document, variables)

    # when
    throttled = await ask(witness, TAGS_ADD.document, variables)
    clock.offset_ms += 100

    # then
    assert throttled["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert throttled["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 0
    assert sandbox.refused == 1
    assert "data" in await ask(witness, TAGS_ADD.document, variables)


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_client_credentials_buy_a_token_for_a_day(
    curl: aiohttp.ClientSession, server: SandboxServer, shop: str, clock: FrozenClock
) -> None:
    # given
    asked = {
        "client_id": "app",
        "client_secret": sandbox_secret("shopify", shop, "client_secret"),
        "grant_type": "client_credentials",
    }

    # when
    async with curl.post("admin/oauth/access_token", json=asked, headers={"X-Sandbox-Host": shop}) as response:
        granted = await response.json()

    # then
    assert granted["expires_in"] == 86400
    async with sandbox_context(shopify, server.url, {"shop": shop}, token=granted["access_token"]) as ctx:
        assert (await whoami(ctx)).id == shop
        clock.offset_ms += 86400 * 1000
        async with curl.post(
            "admin/api/2026-07/graphql.json",
            json={"query": SHOP.document},
            headers={"X-Shopify-Access-Token": granted["access_token"]},
        ) as response:
            assert response.status == 401


@pytest.mark.parametrize("wrong", [{"client_secret": "wrong"}, {"client_id": ""}, {"grant_type": "password"}])
async def test_wrong_client_credentials_are_refused(
    wrong: dict[str, str], curl: aiohttp.ClientSession, shop: str
) -> None:
    secret = sandbox_secret("shopify", shop, "client_secret")
    form = {"client_id": "app", "client_secret": secret, "grant_type": "client_credentials"} | wrong
    async with curl.post("admin/oauth/access_token", data=form, headers={"X-Sandbox-Host": shop}) as response:
        assert response.status == 400


async def test_a_shop_s_token_opens_no_other_shop(
    server: SandboxServer, curl: aiohttp.ClientSession, shop: str
) -> None:
    headers = {
        "X-Shopify-Access-Token": sandbox_secret("shopify", shop, "access_token"),
        "X-Sandbox-Host": "another-shop.myshopify.com",
    }
    async with curl.post("admin/api/2026-07/graphql.json", json={"query": SHOP.document}, headers=headers) as response:
        assert response.status == 401


# -- webhooks ----------------------------------------------------------------------------------------------------------


async def test_webhooks_are_signed_over_the_bytes_that_are_sent(sandbox: ShopifySandbox, inbox: Any, shop: str) -> None:
    # when
    status = await sandbox.checkout(inbox.url, shop, email="café@example.com", webhook_id="w-1")

    # then
    [request] = inbox.requests
    secret = sandbox_secret("shopify", shop, "client_secret")
    signature = base64.b64encode(hmac.new(secret.encode(), request.body, hashlib.sha256).digest()).decode()
    assert status == 200
    assert request.headers["x-shopify-hmac-sha256"] == signature
    assert request.headers["x-shopify-webhook-id"] == "w-1"
    assert request.headers["x-shopify-topic"] == "checkouts/create"
    assert request.headers["x-shopify-shop-domain"] == shop
    assert request.headers["x-shopify-triggered-at"] == "2026-11-22T10:00:00.000Z"
    assert "café@example.com".encode() in request.body


async def test_a_bad_signature_is_answered_401(sandbox: ShopifySandbox, inbox: Any, shop: str) -> None:
    assert await sandbox.order(inbox.url, shop, signed=False) == 401
    assert inbox.events == []


async def test_a_redelivery_repeats_the_bytes_and_the_id(sandbox: ShopifySandbox, inbox: Any, shop: str) -> None:
    # given
    await sandbox.order(inbox.url, shop, topics=["orders/paid"], webhook_id="w-1")

    # when
    await sandbox.redeliver(inbox.url, "w-1")
    await sandbox.order(inbox.url, shop, topics=["orders/paid"], webhook_id="w-1", total_price="1.00")

    # then
    assert len(inbox.requests) == 3
    assert {(r.body, r.headers["x-shopify-webhook-id"]) for r in inbox.requests} == {(inbox.requests[0].body, "w-1")}


async def test_a_checkout_grows_into_an_order(
    sandbox: ShopifySandbox, inbox: Any, shop: str, clock: FrozenClock
) -> None:
    # when
    await sandbox.checkout(inbox.url, shop, token="t1", email="jane@example.com", total_price="80.00")
    clock.offset_ms += 60_000
    await sandbox.checkout(inbox.url, shop, token="t1", buyer_accepts_marketing=True)
    await sandbox.order(inbox.url, shop, checkout_token="t1", discount_codes=[{"code": "BACK-1"}])
    await sandbox.checkout(inbox.url, shop, token="t1")

    # then
    assert [event.type for event in inbox.events] == [
        "shopify.checkout_updated",
        "shopify.checkout_updated",
        "shopify.order_created",
        "shopify.discount_redeemed",
        "shopify.order_paid",
        "shopify.checkout_completed",
    ]
    assert {event.correlate.get("checkout_token", "t1") for event in inbox.events} == {"t1"}
    assert {event.data["total"]["amount_minor"] for event in inbox.events} == {8000}
    assert len({event.subject.vendor for event in inbox.events}) == 1
    assert {event.data["email"] for event in inbox.events} == {"jane@example.com"}
    paid = inbox.events[4]
    assert paid.data["discount_codes"] == ["BACK-1"]
    assert paid.data["accepts_email_marketing"] is True


async def test_deliveries_of_one_event_share_its_event_id_only(sandbox: ShopifySandbox, inbox: Any, shop: str) -> None:
    await sandbox.order(inbox.url, shop)
    created, paid = inbox.requests
    assert created.headers["x-shopify-event-id"] == paid.headers["x-shopify-event-id"]
    assert created.headers["x-shopify-webhook-id"] != paid.headers["x-shopify-webhook-id"]


async def test_a_customer_is_created_once_and_then_changed(sandbox: ShopifySandbox, inbox: Any, shop: str) -> None:
    # when
    await sandbox.customer(inbox.url, shop, email="jane@example.com", phone="+14155550100")
    await sandbox.customer(inbox.url, shop, email="Jane@example.com", email_marketing_consent={"state": "unsubscribed"})

    # then
    created, updated = inbox.events
    assert (created.type, updated.type) == ("shopify.customer_created", "shopify.customer_updated")
    assert created.data["customer_id"] == updated.data["customer_id"]
    assert [signal.state for signal in updated.consents] == ["revoked"]


async def test_without_an_address_the_subscribed_hub_is_told(
    sandbox: ShopifySandbox, inbox: Any, server: SandboxServer, shop: str
) -> None:
    # given
    assert shopify.subscriptions
    async with sandbox_context(shopify, server.url, {"shop": shop}) as ctx:
        await shopify.subscriptions.create(ctx, "orders/paid", inbox.url)

    # when
    status = await sandbox.order(None, shop)

    # then
    assert status == 200
    assert [event.type for event in inbox.events] == ["shopify.order_paid"]
    assert await sandbox.checkout(None, shop) == 0


async def test_people_can_move_a_shop_with_curl(
    curl: aiohttp.ClientSession, inbox: Any, shop: str, sandbox: ShopifySandbox
) -> None:
    # when
    checkout = {"address": inbox.url, "shop": shop, "email": "jane@example.com", "total_price": "75.00"}
    async with curl.post("_sandbox/checkout", json=checkout) as response:
        told = await response.json()
    order = {"address": inbox.url, "shop": shop, "checkout_token": told["sent"]["token"]}
    async with curl.post("_sandbox/order", json=order) as response:
        ordered = await response.json()
    async with curl.post("_sandbox/customer", json={"email": "jane@example.com"}) as response:
        refused = response.status, await response.json()

    # then
    assert (told["status"], ordered["status"]) == (200, 200)
    assert [event.data["total"]["amount_minor"] for event in inbox.events] == [7500, 7500, 7500]
    assert refused[0] == 400
    assert "say which shop" in refused[1]["error"]


# -- deliveries that go wrong ------------------------------------------------------------------------------------------


async def test_deliveries_are_doubled_dropped_and_reordered_on_request(
    curl: aiohttp.ClientSession, sandbox: ShopifySandbox, inbox: Any, shop: str
) -> None:
    # given a first one that comes twice
    async with curl.post("_sandbox/deliveries", json={"duplicate_next": 1}) as response:
        assert response.status == 200
    await sandbox.order(inbox.url, shop, id=1, topics=["orders/paid"], webhook_id="w-1")

    # when the next is lost, and the one after that is late
    sandbox.deliveries.drop_next = 1
    assert await sandbox.order(inbox.url, shop, id=2, topics=["orders/paid"], webhook_id="w-2") == 0
    sandbox.deliveries.hold_next = 1
    assert await sandbox.order(inbox.url, shop, id=3, topics=["orders/paid"], webhook_id="w-3") == 0
    await sandbox.order(inbox.url, shop, id=4, topics=["orders/paid"], webhook_id="w-4")

    # then
    ids = [request.headers["x-shopify-webhook-id"] for request in inbox.requests]
    assert ids == ["w-1", "w-1", "w-4", "w-3"]
    # and what was lost may come later
    await sandbox.redeliver(inbox.url, "w-2")
    assert inbox.events[-1].data["order_id"] == "2"


async def test_what_the_sandbox_does_not_know_about_deliveries_is_refused(curl: aiohttp.ClientSession) -> None:
    async with curl.post("_sandbox/deliveries", json={"lose_next": 1}) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    ("what", "fields", "expected"),
    [
        ("cart", {"token": "c-1"}, ["cart_created"]),
        ("refund", {"order_id": 70, "amount": "5.00"}, ["order_refunded"]),
        ("tags", {"customer_id": 7, "added": ["vip"]}, ["tags_changed"]),
        ("tags", {"customer_id": 7, "removed": ["vip"]}, ["tags_changed"]),
        ("segment", {"customer_id": 7, "segment_id": 301}, ["segment_joined"]),
        ("segment", {"customer_id": 7, "segment_id": 301, "joined": False}, ["segment_left"]),
        ("consent", {"customer_id": 7, "state": "unsubscribed"}, ["consent_changed"]),
        ("consent", {"customer_id": 7, "channel": "sms", "state": "subscribed"}, ["consent_changed"]),
        ("stock", {"variant_id": 41327142600817}, ["product_back_in_stock"]),
        ("order", {"id": 70, "cancelled_at": "2026-11-22T10:00:00Z"}, ["order_cancelled"]),
        ("order", {"id": 70, "fulfillment_status": "fulfilled"}, ["order_fulfilled"]),
        ("uninstall", {}, ["app_uninstalled"]),
        ("privacy", {"what": "customers/data_request", "id": 7}, ["data_requested"]),
        ("privacy", {"what": "customers/redact", "email": "jane@example.com"}, ["erasure_requested"]),
        ("privacy", {"what": "shop/redact"}, ["shop_erasure_requested"]),
    ],
)
async def test_everything_that_happens_in_a_shop_can_be_made_happen_with_curl(
    what: str,
    fields: dict[str, Any],
    expected: list[str],
    curl: aiohttp.ClientSession,
    sandbox: ShopifySandbox,
    inbox: Any,
    shop: str,
) -> None:
    # given
    await sandbox.order(None, shop, id=70, customer={"id": 7, "phone": "+14155550100"})

    # when
    async with curl.post(f"_sandbox/{what}", json={"shop": shop, "address": inbox.url, **fields}) as response:
        assert (await response.json())["status"] == 200

    # then
    assert [event.type for event in inbox.events] == [f"shopify.{name}" for name in expected]


async def test_what_is_not_there_cannot_happen_to_it(curl: aiohttp.ClientSession, shop: str) -> None:
    async with curl.post("_sandbox/refund", json={"shop": shop, "order_id": 1}) as response:
        assert (response.status, await response.json()) == (400, {"error": "1 is missing, or not there"})


async def test_what_the_api_changes_is_told_to_subscribers(
    server: SandboxServer, sandbox: ShopifySandbox, inbox: Any, shop: str
) -> None:
    # given
    await sandbox.customer(None, shop, id=7, email="jane@example.com")
    assert shopify.subscriptions
    async with sandbox_context(shopify, server.url, {"shop": shop}) as ctx:
        await shopify.subscriptions.create(ctx, "customer.tags_added", inbox.url)

        # when one tag is new and the other is not
        for tags in (["vip"], ["vip", "late"]):
            await tag_customer.run(ctx, TagInput(customer_id="7", tags=tags))
            await sandbox.settle()

    # then
    assert [event.data["added"] for event in inbox.events] == [["vip"], ["late"]]


async def test_a_shop_without_the_app_takes_no_call_and_tells_nothing(
    server: SandboxServer, sandbox: ShopifySandbox, curl: aiohttp.ClientSession, inbox: Any, shop: str
) -> None:
    # given a token that was bought, and a webhook
    asked = {
        "client_id": "app",
        "client_secret": sandbox_secret("shopify", shop, "client_secret"),
        "grant_type": "client_credentials",
    }
    async with curl.post("admin/oauth/access_token", json=asked, headers={"X-Sandbox-Host": shop}) as response:
        token = (await response.json())["access_token"]
    assert shopify.subscriptions
    async with sandbox_context(shopify, server.url, {"shop": shop}, token=token) as ctx:
        for topic in ("app/uninstalled", "orders/paid"):
            await shopify.subscriptions.create(ctx, topic, inbox.url)

        # when
        assert await sandbox.happen("uninstall", None, shop) == 200

        # then
        with pytest.raises(AuthExpired):
            await whoami(ctx)
    assert await sandbox.order(None, shop) == 0
    assert [event.type for event in inbox.events] == ["shopify.app_uninstalled"]


# -- reading operations ------------------------------------------------------------------------------------------------


def test_the_reader_understands_literals_defaults_comments_and_fragments() -> None:
    # given
    document = """
      # what a person might write
      query Q($first: Int = 3, $ids: [ID!]!) {
        them: things(first: $first, ids: $ids, where: {open: true, size: 1.5, tags: ["a \\"b\\"", x], none: null}) {
          id ... on Thing { name } ... on Other { size }
        }
      }
    """

    # when
    kind, [selection] = read(document, {"ids": ["1"]})

    # then
    assert (kind, selection.name, selection.alias) == ("query", "things", "them")
    assert selection.args == {
        "first": 3,
        "ids": ["1"],
        "where": {"open": True, "size": 1.5, "tags": ['a "b"', "x"], "none": None},
    }
    assert pick(selection.fields, [{"id": 1, "name": "n", "__typename": "Thing"}, None]) == [
        {"id": 1, "name": "n"},
        None,
    ]


def test_the_hub_finds_the_sandbox_by_its_declared_name(clock: FrozenClock) -> None:
    assert isinstance(load_sandbox(shopify, clock), ShopifySandbox)


async def test_it_calls_where_the_hub_has_subscribed() -> None:
    async with hub_of(shopify, {"shop": "kept.myshopify.com"}, work=True, answers=True) as (hub, vendor):
        assert isinstance(vendor, ShopifySandbox)
        # given a recipe, and nobody who told the sandbox an address
        await hub.library.apply(
            "recipe: buyers\non: {event: shopify.order_paid}\nsteps:\n  - {stop: heard}\n", publish=True
        )
        await hub.connections.attend_all()
        # The first polls of all triggers take a while of a shop's points.
        await hub.time.advance(hub.clock.now_ms() + 120_000, ring=hub.ring)
        # when somebody buys
        assert await vendor.order(None, "kept.myshopify.com", email="jane@example.com") == 200
        await hub.time.advance(hub.clock.now_ms(), ring=hub.ring)
        # then the signed calls came
        async with hub.store.read() as c:
            found = {event["type"] for event in await views.list_events(c)}
            [run] = await views.list_runs(c)
        assert {"shopify.order_created", "shopify.order_paid"} <= found
        assert (run["recipe"], run["ended_by"]) == ("buyers", "heard")
