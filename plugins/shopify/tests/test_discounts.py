"""Discount codes, also when answers get lost or the shop says no."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub import ActionContext, Money, OutcomeUnknown, RateLimited, Rejected, VendorUnavailable
from hub.clock import FrozenClock
from hub_shopify.actions.discounts import DiscountInput, create_discount, discount_code, find_discount
from hub_shopify.sandbox import ShopifySandbox

TEN_PERCENT = DiscountInput(percentage=10, prefix="COMEBACK-", expires_after="7d")


@pytest.fixture
def customer(sandbox: ShopifySandbox, shop: str) -> str:
    return str(sandbox.shop(shop).customer({"email": "jane@example.com"}, "2026-11-22T10:00:00Z")["id"])


# -- discount codes ----------------------------------------------------------------------------------------------------


async def test_a_discount_code_is_created_as_asked(ctx: ActionContext, sandbox: ShopifySandbox, customer: str) -> None:
    # given
    wanted = DiscountInput(
        percentage=15, prefix="COMEBACK-", title="Come back", expires_after="7d", customer_id=customer, usage_limit=1
    )

    # when
    made = await create_discount.run(ctx, wanted)

    # then
    [effect] = sandbox.log
    assert effect.operation == "create_discount"
    assert effect.account == "some-shop.myshopify.com"
    assert effect.data == {
        "title": "Come back [test-reference]",
        "code": made.code,
        "startsAt": "2026-11-22T10:00:00Z",
        "endsAt": "2026-11-29T10:00:00Z",
        "usageLimit": 1,
        "appliesOncePerCustomer": True,
        "context": {"customers": {"add": [f"gid://shopify/Customer/{customer}"]}},
        "customerGets": {"value": {"percentage": 0.15}, "items": {"all": True}},
    }
    assert made.code.startswith("COMEBACK-")
    assert made.discount_id.startswith("gid://shopify/DiscountCodeNode/")
    assert made.ends_at == datetime(2026, 11, 29, 10, tzinfo=UTC)


async def test_an_amount_is_given_in_the_shop_s_currency(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # when
    made = await create_discount.run(ctx, DiscountInput(amount="5 EUR", minimum_subtotal="50.00 EUR"))

    # then
    [effect] = sandbox.log
    assert effect.data["customerGets"]["value"] == {"discountAmount": {"amount": "5.00", "appliesOnEachItem": False}}
    assert effect.data["minimumRequirement"] == {"subtotal": {"greaterThanOrEqualToSubtotal": "50.00"}}
    assert effect.data["context"] == {"all": "ALL"}
    assert made.ends_at is None


async def test_an_amount_in_another_currency_is_refused(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    with pytest.raises(Rejected, match=r"sells in EUR.*given in USD"):
        await create_discount.run(ctx, DiscountInput(amount="5.00 USD"))
    assert sandbox.log == []


async def test_a_repeat_of_the_same_effect_gets_the_same_code(
    ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given
    first = await create_discount.run(ctx, TEN_PERCENT)
    clock.offset_ms += 3_600_000

    # when
    second = await create_discount.run(replace(ctx, now_ms=clock.now_ms()), TEN_PERCENT)

    # then
    assert second == first
    assert [effect.operation for effect in sandbox.log] == ["create_discount"]


async def test_a_lost_answer_is_found_out_about_exactly_once(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    sandbox.drop_answers = 1
    with pytest.raises(OutcomeUnknown):
        await create_discount.run(ctx, TEN_PERCENT)

    # when
    found = await find_discount(ctx, TEN_PERCENT)

    # then
    assert found is not None
    assert found.code == discount_code("COMEBACK-", ctx.reference)
    assert found.ends_at == datetime(2026, 11, 29, 10, tzinfo=UTC)
    assert len(sandbox.shop(ctx.account).discounts) == len(sandbox.log) == 1


async def test_what_was_never_made_is_not_found(ctx: ActionContext) -> None:
    assert await find_discount(ctx, TEN_PERCENT) is None


async def test_a_code_taken_by_somebody_else_is_no_success(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given a discount of the merchant's with the code that ours would have
    await create_discount.run(ctx, TEN_PERCENT)
    [node] = sandbox.shop(ctx.account).discounts.values()
    node["codeDiscount"]["title"] = "Summer sale"

    # when, then
    with pytest.raises(Rejected) as refused:
        await create_discount.run(ctx, TEN_PERCENT)
    assert refused.value.code == "TAKEN"
    assert await find_discount(ctx, TEN_PERCENT) is None


async def test_a_customer_the_shop_does_not_know_is_refused_with_the_field(ctx: ActionContext) -> None:
    with pytest.raises(Rejected, match=r"basicCodeDiscount\.context\.customers\.add: Customer is invalid") as refused:
        await create_discount.run(ctx, DiscountInput(percentage=10, customer_id="1"))
    assert (refused.value.code, refused.value.connector, refused.value.connection_id) == ("INVALID", "shopify", "test")


async def test_throttling_says_when_to_come_back(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given 7 points in a bucket that gains 100 a second
    sandbox.shop(ctx.account).bucket = 7

    # when
    with pytest.raises(RateLimited) as refused:
        await create_discount.run(ctx, TEN_PERCENT)

    # then
    assert refused.value.retry_after_s == pytest.approx(0.03)
    assert sandbox.log == []


async def test_a_throttled_call_succeeds_after_the_wait(
    ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    sandbox.throttle_until_ms = clock.now_ms() + 10_000
    with pytest.raises(RateLimited) as refused:
        await create_discount.run(ctx, TEN_PERCENT)
    assert refused.value.retry_after_s
    clock.offset_ms += round(refused.value.retry_after_s * 1000)
    await create_discount.run(ctx, TEN_PERCENT)
    assert len(sandbox.log) == 1


async def test_an_outage_did_nothing(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    sandbox.fail_next = 1
    with pytest.raises(VendorUnavailable):
        await create_discount.run(ctx, TEN_PERCENT)
    assert sandbox.log == []


@given(one=st.text(max_size=80), other=st.text(max_size=80))
def test_codes_differ_exactly_when_their_effects_do(one: str, other: str) -> None:
    assert (discount_code("X-", one) == discount_code("X-", other)) == (one == other)


@given(reference=st.text(max_size=80))
def test_codes_are_easy_to_read_aloud(reference: str) -> None:
    code = discount_code("", reference)
    assert len(code) == 10
    assert set(code) <= set(string.ascii_uppercase + string.digits) - set("ILOU")


@given(minor=st.integers(1, 10**9), currency=st.sampled_from(["EUR", "JPY", "KWD"]))
def test_an_amount_may_come_as_text_or_as_an_event_s_amount(minor: int, currency: str) -> None:
    money = Money(amount_minor=minor, currency=currency)
    assert DiscountInput(amount=str(money)) == DiscountInput(amount=money.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ({}, "either percentage or amount"),
        ({"percentage": 10, "amount": "5.00 EUR"}, "either percentage or amount"),
        ({"percentage": 0}, "greater than 0"),
        ({"percentage": 101}, "less than or equal to 100"),
        ({"amount": "5"}, "such as 50.00 EUR"),
        ({"amount": "0.00 EUR"}, "above zero"),
        ({"amount": "-5.00 EUR"}, "above zero"),
        ({"percentage": 10, "expires_after": "soon"}, "such as 30s"),
        ({"percentage": 10, "expires_after": "-1d"}, "over at once"),
        ({"percentage": 10, "prefix": "TWO WORDS"}, "prefix"),
        ({"percentage": 10, "customer_id": "gid://shopify/Order/1"}, "customer_id"),
        ({"percentage": 10, "discount": 5}, "discount"),
        ({"percentage": 10, "customer_id": "1", "segment_id": "2"}, "either customer_id or segment_id"),
    ],
)
def test_a_discount_that_makes_no_sense_is_refused_at_save(input: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DiscountInput.model_validate(input)


def test_a_code_is_in_capitals_for_the_shop_tells_no_cases_apart() -> None:
    assert discount_code("back-", "x") == discount_code("BACK-", "x")
