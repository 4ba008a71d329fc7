"""Carts and orders: put there by the shop's ids, and the cart that was left behind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hub import ActionContext, Rejected
from hub.clock import Clock
from hub_mailchimp import mailchimp
from hub_mailchimp.marketing.carts import Cart, CartInput, OrderInput, still_abandoned, upsert_cart, upsert_order
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.state import Store

from .conftest import ContextMaker
from .test_contract import CART


def cart(**more: Any) -> CartInput:
    return CartInput.model_validate({**CART, "cart_id": "A-77", **more})


def order(**more: Any) -> OrderInput:
    return OrderInput.model_validate({**CART, "order_id": "O-77", **more})


@pytest.fixture
def shop(marketing: MailchimpSandbox) -> Store:
    stores = marketing.account("main").stores
    stores["shop-1"] = Store("shop-1", DEFAULT_LIST)
    return stores["shop-1"]


async def test_a_cart_is_put_there_and_then_changed(mail: ContextMaker, shop: Store) -> None:
    async with mail() as ctx:
        await upsert_cart.run(ctx, cart())
        await upsert_cart.run(ctx, cart(total="89.70 EUR", lines=[{**CART["lines"][0], "quantity": 3}]))  # type: ignore[index,dict-item]
    assert shop.carts["A-77"]["order_total"] == 89.7
    assert [line["quantity"] for line in shop.carts["A-77"]["lines"]] == [3]
    assert shop.carts["A-77"]["customer"] == {
        "id": "c-7",
        "email_address": "ada@example.test",
        "opt_in_status": False,
    }


async def test_what_is_refused_for_another_reason_is_not_taken_for_known(mail: ContextMaker, shop: Store) -> None:
    shop.products = {"p-2"}
    async with mail() as ctx:
        with pytest.raises(Rejected) as caught:
            await upsert_cart.run(ctx, cart())
    assert caught.value.status == 400
    assert shop.carts == {}


async def test_an_order_takes_the_cart_away_that_it_came_of(mail: ContextMaker, shop: Store) -> None:
    async with mail() as ctx:
        await upsert_cart.run(ctx, cart())
        for status in ("pending", "paid"):
            await upsert_order.run(ctx, order(cart_id="A-77", financial_status=status))
    assert shop.carts == {}
    assert shop.orders["O-77"]["financial_status"] == "paid"


@pytest.mark.parametrize(
    "wrong",
    [
        {"total": "59.80"},
        {"total": "59.80 USD"},
        {"cart_id": "../x"},
        {"cart_id": ".."},
        {"lines": []},
        {"email": "nobody"},
    ],
)
def test_a_cart_without_a_currency_with_two_or_with_a_strange_id_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        cart(**wrong)


# -- left behind -------------------------------------------------------------------------------------------------------


async def changed_since(ctx: ActionContext, since_ms: int) -> list[Cart]:
    return [item async for page in mailchimp.polls["cart_updated"].fetch(ctx, None, since_ms) for item in page.items]


async def test_carts_that_changed_are_found(mail: ContextMaker, shop: Store, clock: Clock) -> None:
    async with mail() as ctx:
        await upsert_cart.run(ctx, cart(checkout_url="https://shop.example.test/c"))
        [found] = await changed_since(ctx, ctx.now_ms - 60_000)
        assert await changed_since(ctx, ctx.now_ms + 60_000) == []
    assert (found.email, found.total, found.currency) == ("ada@example.test", "59.8", "EUR")
    assert found.checkout_url == "https://shop.example.test/c"
    assert [line.product_id for line in found.lines] == ["p-1"]


async def test_shops_of_audiences_that_were_not_chosen_are_left_alone(mail: ContextMaker, shop: Store) -> None:
    async with mail({"lists": "bb22"}) as ctx:
        await upsert_cart.run(ctx, cart())
        assert await changed_since(ctx, 0) == []


@pytest.mark.parametrize("what", ["nothing", "deleted", "changed", "ordered", "ordered before", "ordered by another"])
async def test_a_cart_is_left_behind_unless_something_became_of_it(
    mail: ContextMaker, shop: Store, clock: Clock, what: str
) -> None:
    async with mail() as ctx:
        await upsert_cart.run(ctx, cart())
        [found] = await changed_since(ctx, 0)
        if what == "deleted":
            shop.carts.clear()
        elif what == "changed":
            clock.offset_ms += 60_000
            await upsert_cart.run(ctx, cart())
        elif what.startswith("ordered"):
            at = "2020-01-01T10:00:00Z" if what == "ordered before" else "2099-01-01T10:00:00Z"
            who = "c-8" if what == "ordered by another" else "c-7"
            await upsert_order.run(ctx, order(processed_at=at, customer_id=who))
        assert await still_abandoned(ctx, found) == (what in ("nothing", "ordered before", "ordered by another"))


def test_silence_is_counted_by_cart_for_those_who_can_be_reached() -> None:
    trigger = mailchimp.triggers["cart_abandoned"]
    assert trigger.quiet
    assert trigger.quiet.key({"store_id": "s", "cart_id": "c", "email": "ada@example.test"}) == "s:c"
    assert trigger.quiet.key({"store_id": "s", "cart_id": "c", "email": ""}) is None
