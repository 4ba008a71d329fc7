"""What comes of the topics beyond orders, checkouts and customers: their payloads, whose they are, what asks for more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Event, InboundRequest, PayloadError, Privacy
from hub.testing.contract.stage import hub_of
from hub_shopify import shopify
from hub_shopify.payloads import Refund, SegmentChanged, TagsChanged
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.triggers.customers import who_it_is
from hub_shopify.triggers.orders import of_whom

Read = Callable[[str], dict[str, Any]]
Make = Callable[[str, Any], Delivery]


def events_of(delivery: Delivery, trigger: str) -> list[Event]:
    return [event for event in shopify.parse(delivery) or [] if event.type == f"shopify.{trigger}"]


def told(topic: str, body: Any, **headers: str) -> Delivery:
    """A delivery with further headers of Shopify's."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = InboundRequest("POST", "https://hub.example/webhooks/shopify/k", named, json.dumps(body).encode())
    return Delivery(request, "shopify", "my-shop", "some-shop.myshopify.com", topic, 1)


# -- orders ------------------------------------------------------------------------------------------------------------


def test_each_code_of_an_order_is_redeemed_once_and_in_capitals(sample: Read, delivered: Make) -> None:
    body = sample("order_created") | {"discount_codes": [{"code": "Back-1"}, {"code": "BACK-1"}, {"code": "spring"}]}
    events = events_of(delivered("orders/create", body), "discount_redeemed")
    assert [(e.fact_id, e.correlate["code"]) for e in events] == [
        ("discount_redeemed:5778367414385:BACK-1", "BACK-1"),
        ("discount_redeemed:5778367414385:SPRING", "SPRING"),
    ]
    assert {e.subject.vendor for e in events if e.subject} == {"5747017285820"}


def test_an_order_without_a_code_redeems_none(sample: Read, delivered: Make) -> None:
    body = sample("order_created") | {"discount_codes": []}
    assert events_of(delivered("orders/create", body), "discount_redeemed") == []


def test_a_refund_counts_the_money_that_went_back(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("refunds/create", sample("order_refunded")), "order_refunded")
    assert event.data["total"] == {"amount_minor": 5250, "currency": "USD"}
    assert event.correlate == {"order_id": "5778367414385"}


def test_goods_that_came_back_without_money_are_a_refund_without_an_amount(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("refunds/create", sample("order_refunded") | {"transactions": []}), "order_refunded")
    assert event.data["total"] is None


async def test_a_refund_is_filled_in_with_its_buyer(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    await sandbox.order(None, ctx.account, id=70, customer={"id": 7}, email="jane@example.com")
    shop = sandbox.shop(ctx.account)
    made = shop.refund(shop.orders["70"], ["5.00"], "torn", "2026-11-22T10:00:00Z")
    bare = Refund(refund_id=str(made["id"]), order_id="70", processed_at="2026-11-22T10:00:00Z")
    gone = Refund(refund_id="1", order_id="1", processed_at="2026-11-22T10:00:00Z")

    # when
    filled, same = await of_whom(ctx, [bare, gone])

    # then
    assert (filled.name, filled.email, filled.customer_id) == ("#1001", "jane@example.com", "7")
    assert filled.total is not None
    assert (filled.total.amount_minor, filled.note) == (500, "torn")
    assert same == gone
    # and what a poll has filled in already is not asked about again
    assert await of_whom(ctx, [filled]) == [filled]


# -- carts -------------------------------------------------------------------------------------------------------------


def test_a_cart_has_a_sum_and_belongs_to_nobody(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("carts/create", sample("cart_created")), "cart_created")
    assert event.data["total"] == {"amount_minor": 11000, "currency": "USD"}
    assert event.data["line_items"][0]["price"] == {"amount_minor": 6000, "currency": "USD"}
    assert (event.subject, event.correlate) == (None, {"cart_token": "Z2NwLXVzLWVhc3Qx"})


def test_an_empty_cart_has_no_sum(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("carts/update", sample("cart_updated") | {"line_items": []}), "cart_updated")
    assert (event.data["total"], event.data["line_items"]) == (None, [])


def test_each_state_of_a_cart_is_a_fact(sample: Read, delivered: Make) -> None:
    before = sample("cart_updated")
    after = before | {"updated_at": "2026-11-01T21:23:00.000Z"}
    facts = [events_of(delivered("carts/update", body), "cart_updated")[0].fact_id for body in (before, after, before)]
    assert facts[0] == facts[2] != facts[1]


def test_a_cart_line_without_a_currency_is_kept_as_unreadable(sample: Read, delivered: Make) -> None:
    body = sample("cart_created")
    del body["line_items"][0]["line_price_set"]
    with pytest.raises(PayloadError, match="line_price_set"):
        shopify.parse(delivered("carts/create", body))


# -- customers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "body", "signals"),
    [
        (
            "customers_email_marketing_consent/update",
            {"customer_id": 7, "email_address": "jane@example.com", "email_marketing_consent": {"state": "subscribed"}},
            [ConsentSignal("email", "jane@example.com", ConsentState.GRANTED, "shopify_customer")],
        ),
        (
            "customers_email_marketing_consent/update",
            {"customer_id": 7, "email_address": None, "email_marketing_consent": {"state": "unsubscribed"}},
            [],
        ),
        (
            "customers_marketing_consent/update",
            {"id": 7, "phone": "+14155550100", "sms_marketing_consent": {"state": "unsubscribed"}},
            [ConsentSignal("sms", "+14155550100", ConsentState.REVOKED, "shopify_customer")],
        ),
        (
            "customers_marketing_consent/update",
            {"id": 7, "phone": "+14155550100", "sms_marketing_consent": {"state": "pending"}},
            [],
        ),
        ("customers_marketing_consent/update", {"id": 7, "phone": None, "sms_marketing_consent": None}, []),
    ],
)
def test_consent_that_changed_goes_into_the_ledger(
    topic: str, body: dict[str, Any], signals: list[ConsentSignal], delivered: Make
) -> None:
    [event] = events_of(delivered(topic, body), "consent_changed")
    assert list(event.consents) == signals
    assert event.subject is not None
    assert event.subject.vendor == "7"


def test_consent_is_listened_to_whether_or_not_a_recipe_asks() -> None:
    always = {name for name, t in shopify.triggers.items() if t.always or t.consent or t.privacy}
    assert {"consent_changed", "app_uninstalled", "data_requested", "erasure_requested"} <= always


def test_a_mind_that_changes_again_is_another_fact(sample: Read, delivered: Make) -> None:
    body = sample("consent_changed")
    later = body | {"email_marketing_consent": {"state": "unsubscribed", "consent_updated_at": "2026-11-07T08:00:00Z"}}
    topic = "customers_email_marketing_consent/update"
    facts = {events_of(delivered(topic, one), "consent_changed")[0].fact_id for one in (body, later)}
    assert len(facts) == 2


@pytest.mark.parametrize("which", ["added", "removed"])
def test_tags_that_came_or_went(which: str, sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered(f"customer.tags_{which}", sample("tags_changed")), "tags_changed")
    other = "removed" if which == "added" else "added"
    assert (event.data[which], event.data[other]) == (["vip", "newsletter"], [])
    assert event.data["customer_id"] == "5747017285820"


@pytest.mark.parametrize("wrong", [{"customerId": None}, {"customerId": 7}, {"tags": "vip"}, {"occurredAt": None}])
def test_a_change_of_tags_that_makes_no_sense_is_kept_as_unreadable(
    wrong: dict[str, Any], sample: Read, delivered: Make
) -> None:
    with pytest.raises(PayloadError):
        shopify.parse(delivered("customer.tags_added", sample("tags_changed") | wrong))


def test_who_joins_a_segment_again_has_joined_twice(sample: Read) -> None:
    # given the same body of two happenings, and of the first once more for a doubled subscription
    body = sample("segment_joined")
    ids = ["e-1", "e-2", "e-1"]

    # when
    facts = [
        events_of(told("customer.joined_segment", body, x_shopify_event_id=id_), "segment_joined")[0].fact_id
        for id_ in ids
    ]

    # then
    assert facts[0] == facts[2] != facts[1]


def test_without_an_event_s_id_its_time_tells_it_apart(sample: Read) -> None:
    body = sample("segment_left")
    facts = {
        events_of(told("customer.left_segment", body, shopify_triggered_at=at), "segment_left")[0].fact_id
        for at in ("2026-11-22T10:00:00Z", "2026-11-23T10:00:00Z")
    }
    assert len(facts) == 2


async def test_who_came_with_an_id_alone_is_asked_for(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    await sandbox.customer(None, ctx.account, id=7, email="jane@example.com", phone="+14155550100", first_name="Jane")
    moment = "2026-11-22T10:00:00Z"
    changes = [
        TagsChanged(customer_id="7", added=["vip"], occurred_at=moment),
        TagsChanged(customer_id="1", added=["vip"], occurred_at=moment),
    ]

    # when
    known, unknown = await who_it_is(ctx, changes)

    # then
    assert (known.email, known.phone, known.first_name) == ("jane@example.com", "+14155550100", "Jane")
    assert (known.added, known.occurred_at) == (changes[0].added, changes[0].occurred_at)
    assert unknown == changes[1]
    [segment] = await who_it_is(ctx, [SegmentChanged(customer_id="7", segment_id="301", told="e")])
    assert (segment.email, segment.told) == ("jane@example.com", "e")


# -- stock, the app, privacy -------------------------------------------------------------------------------------------


def test_a_variant_that_is_back_is_matched_by_its_id(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("variants/in_stock", sample("product_back_in_stock")), "product_back_in_stock")
    assert event.correlate == {"variant_id": "41327142600817", "product_id": "7234590408817"}
    assert event.data["quantity"] == 12


def test_an_app_that_was_removed_names_the_shop(sample: Read) -> None:
    [event] = events_of(told("app/uninstalled", sample("app_uninstalled"), x_shopify_event_id="e"), "app_uninstalled")
    assert (event.data["shop"], event.subject) == ("some-shop.myshopify.com", None)
    assert event.occurred_at_ms == 1  # when it came
    # its owner's address is left out
    assert "owner@example.com" not in json.dumps(dict(event.data))


@pytest.mark.parametrize(
    ("said", "at_ms"),
    [("2026-11-22T10:00:00.877041743Z", 1_795_341_600_877), ("2026-11-22T10:00:00Z", 1_795_341_600_000), ("soon", 1)],
)
def test_the_removal_of_an_app_was_when_shopify_says(sample: Read, said: str, at_ms: int) -> None:
    [event] = events_of(
        told("app/uninstalled", sample("app_uninstalled"), x_shopify_triggered_at=said), "app_uninstalled"
    )
    assert event.occurred_at_ms == at_ms


async def test_a_shop_that_removed_the_app_needs_a_new_authorisation() -> None:
    shop = "some-shop.myshopify.com"
    async with hub_of(shopify, {"shop": shop}, work=True, answers=True) as (hub, sandbox):
        assert isinstance(sandbox, ShopifySandbox)
        # given an order that is told of
        address = hub.connections.inbound_url(await hub.connections.by_name("shopify"))
        assert await sandbox.order(address, shop) == 200
        await hub.time.advance(hub.clock.now_ms() + 1000, ring=hub.ring)
        assert await hub.connections.healths() == {}

        # when
        assert await sandbox.happen("uninstall", address, shop) == 200
        await hub.time.advance(hub.clock.now_ms() + 1000, ring=hub.ring)

        # then
        assert list(await hub.connections.healths()) == ["shopify"]


@pytest.mark.parametrize(
    ("trigger", "privacy"),
    [
        ("data_requested", Privacy.EXPORT_PERSON),
        ("erasure_requested", Privacy.ERASE_PERSON),
        ("shop_erasure_requested", Privacy.ERASE_ACCOUNT),
    ],
)
def test_what_the_law_lets_ask_for_is_declared(trigger: str, privacy: Privacy) -> None:
    made = shopify.triggers[trigger]
    assert (made.privacy, made.always) == (privacy, True)


def test_a_request_says_whose_data_it_is_about(sample: Read, delivered: Make) -> None:
    [event] = events_of(delivered("customers/data_request", sample("data_requested")), "data_requested")
    assert event.data["order_ids"] == ["5778367414385"]
    assert event.subject is not None
    assert event.subject.keys("shop") == [
        ("id:shop", "5747017285820"),
        ("email", "jane@example.com"),
        ("phone", "+14155550100"),
    ]


def test_a_request_may_hold_nothing_but_an_address(sample: Read, delivered: Make) -> None:
    # given two people known by their addresses alone
    body = sample("erasure_requested") | {"orders_to_redact": []}
    jane, jim = ({**body, "customer": {"email": f"{who}@example.com"}} for who in ("jane", "jim"))

    # when
    [first] = events_of(delivered("customers/redact", jane), "erasure_requested")
    [second] = events_of(delivered("customers/redact", jim), "erasure_requested")

    # then they are two requests, and neither is named by an address
    assert first.fact_id != second.fact_id
    assert "jane" not in first.fact_id
    assert first.subject is not None
    assert first.subject.keys("shop") == [("email", "jane@example.com")]


def test_who_asks_to_be_forgotten_again_is_not_taken_for_a_repeat(sample: Read) -> None:
    body = sample("erasure_requested")
    facts = {
        events_of(told("customers/redact", body, x_shopify_event_id=id_), "erasure_requested")[0].fact_id
        for id_ in ("e-1", "e-2")
    }
    assert len(facts) == 2
