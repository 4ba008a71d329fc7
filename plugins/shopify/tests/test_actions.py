"""What the actions do in a shop, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from hub import ActionContext, ConsentSignal, ConsentState, Effect, NotFound, Rejected, SkipStep
from hub.testing.contract.stage import hub_of
from hub_shopify import shopify
from hub_shopify.actions.consent import ConsentInput, set_email_consent, set_sms_consent
from hub_shopify.actions.customers import CustomerInput, TagInput, tag_customer, untag_customer, upsert_customer
from hub_shopify.actions.discounts import DiscountInput, create_discount
from hub_shopify.actions.drafts import (
    DraftInput,
    InvoiceInput,
    create_draft_order,
    find_draft,
    find_invoice,
    send_invoice,
)
from hub_shopify.actions.lookups import (
    CheckoutInput,
    OrdersInput,
    Whom,
    find_checkout,
    find_customer,
    find_orders,
)
from hub_shopify.actions.money import CreditInput, RefundInput, give_store_credit, refund_order
from hub_shopify.actions.orders import NoteInput, OrderTagInput, add_order_note, tag_order
from hub_shopify.actions.recommendations import (
    FoundRecommendations,
    RecommendationsInput,
    find_product_recommendations,
)
from hub_shopify.sandbox import ShopifySandbox
from hub_shopify.sandbox.shop import Fields

NOW = "2026-11-22T10:00:00Z"


@pytest.fixture
def customer(sandbox: ShopifySandbox, shop: str) -> Fields:
    given = {"id": 7, "email": "jane@example.com", "phone": "+14155550100", "tags": "vip"}
    return sandbox.shop(shop).customer(given, NOW)


@pytest.fixture
def order(sandbox: ShopifySandbox, shop: str, customer: Fields) -> Fields:
    return sandbox.shop(shop).order({"id": 70, "customer": {"id": 7}, "total_price": "60.00"}, NOW)


# -- customers ---------------------------------------------------------------------------------------------------------


async def test_a_customer_is_created_once_and_then_changed(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # when
    first = await upsert_customer.run(ctx, CustomerInput(email="jim@example.com", first_name="Jim"))
    again = await upsert_customer.run(ctx, CustomerInput(email="jim@example.com", last_name="Doe", note="n"))

    # then
    assert first == again
    kept = sandbox.shop(ctx.account).customers[first.customer_id]
    assert (kept["first_name"], kept["last_name"], kept["note"]) == ("Jim", "Doe", "n")


async def test_what_a_customer_s_shop_knows_beside_stays(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # given
    consents = {"email_marketing_consent": {"state": "subscribed"}}
    sandbox.shop(ctx.account).customers["7"] |= consents

    # when
    await upsert_customer.run(ctx, CustomerInput(phone="+1 415 555 0100", first_name="Janet"))

    # then neither tags nor addresses nor consent were even sent
    [effect] = sandbox.log
    assert effect.data == {"phone": "+14155550100", "firstName": "Janet"}
    kept = sandbox.shop(ctx.account).customers["7"]
    assert (kept["tags"], kept["email_marketing_consent"]) == ("vip", {"state": "subscribed"})


async def test_a_customer_may_be_named_by_their_id(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    done = await upsert_customer.run(ctx, CustomerInput(customer_id="7", email="new@example.com"))
    assert done.customer_id == "7"
    assert sandbox.shop(ctx.account).customers["7"]["email"] == "new@example.com"
    with pytest.raises(Rejected) as refused:
        await upsert_customer.run(ctx, CustomerInput(customer_id="8", first_name="Jim"))
    assert refused.value.code == "NOT_FOUND"


async def test_an_address_of_somebody_else_is_refused_without_being_named(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    given = CustomerInput(email="jim@example.com", phone="+14155550100")
    with pytest.raises(Rejected, match="already been taken") as refused:
        await upsert_customer.run(ctx, given)
    assert refused.value.code == "TAKEN"
    assert "4155550100" not in str(refused.value)
    assert sandbox.log == []


async def test_tags_come_and_go_and_the_others_stay(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # when each is done twice
    for _ in range(2):
        added = await tag_customer.run(ctx, TagInput(customer_id="7", tags=[" cart ", "old"]))
        await untag_customer.run(ctx, TagInput(customer_id="7", tags=["old", "never there"]))

    # then
    assert added.tags == ["cart", "old"]
    assert sandbox.shop(ctx.account).customers["7"]["tags"] == "vip, cart"


async def test_a_global_id_is_as_good_as_a_plain_one(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    await tag_customer.run(ctx, TagInput(customer_id="gid://shopify/Customer/7", tags=["vip"]))
    assert sandbox.log[0].data == {"customer_id": "7", "tags": ["vip"]}


@pytest.mark.parametrize("action", [tag_customer, untag_customer])
async def test_a_customer_who_is_not_there_cannot_be_tagged(action: Any, ctx: ActionContext) -> None:
    with pytest.raises(Rejected, match="id: Customer does not exist"):
        await action.run(ctx, TagInput(customer_id="1", tags=["vip"]))


@pytest.mark.parametrize("tags", [[], [""], [" "], ["two, tags"], ["vip"] * 251])
def test_tags_that_shopify_would_read_otherwise_are_refused_at_save(tags: list[str]) -> None:
    with pytest.raises(ValidationError):
        TagInput(customer_id="1", tags=tags)


# -- consent -----------------------------------------------------------------------------------------------------------


async def test_consent_is_sent_whole_with_the_time_it_was_given(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # when
    said = datetime(2026, 11, 20, 10, tzinfo=UTC)
    given = ConsentInput(customer_id="7", state="subscribed", opt_in="confirmed", consented_at=said, location_id="201")
    await set_email_consent.run(ctx, given)
    await set_sms_consent.run(ctx, ConsentInput(customer_id="7", state="pending"))

    # then
    email, sms = sandbox.log
    assert email.data["emailMarketingConsent"] == {
        "marketingState": "SUBSCRIBED",
        "marketingOptInLevel": "CONFIRMED_OPT_IN",
        "consentUpdatedAt": "2026-11-20T10:00:00Z",
        "sourceLocationId": "gid://shopify/Location/201",
    }
    # without a time of its own it is that of the first attempt, the same for each
    assert sms.data["smsMarketingConsent"]["consentUpdatedAt"] == NOW


@pytest.mark.parametrize(("action", "channel"), [(set_email_consent, "email"), (set_sms_consent, "sms")])
async def test_who_left_is_not_brought_back(
    action: Any, channel: str, ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # given somebody who unsubscribed
    left = {"state": "unsubscribed", "consent_updated_at": "2026-11-21T10:00:00Z"}
    sandbox.shop(ctx.account).customers["7"][f"{channel}_marketing_consent"] = left
    address = customer["email" if channel == "email" else "phone"]

    # when no time, or one before, is given
    for consented_at in (None, datetime(2026, 11, 20, 10, tzinfo=UTC)):
        with pytest.raises(SkipStep) as skipped:
            await action.run(ctx, ConsentInput(customer_id="7", state="subscribed", consented_at=consented_at))
        # then the hub learns what the shop knows
        assert list(skipped.value.signals) == [
            ConsentSignal(
                channel, address, ConsentState.REVOKED, "shopify_customer", at=datetime(2026, 11, 21, 10, tzinfo=UTC)
            )
        ]
    assert sandbox.log == []

    # but who said so later is
    later = datetime(2026, 11, 22, 9, tzinfo=UTC)
    await action.run(ctx, ConsentInput(customer_id="7", state="subscribed", consented_at=later))
    assert len(sandbox.log) == 1


async def test_who_agreed_is_not_asked_to_agree_again(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    agreed = {"state": "subscribed", "consent_updated_at": "2026-11-01T10:00:00Z"}
    sandbox.shop(ctx.account).customers["7"]["email_marketing_consent"] = agreed
    with pytest.raises(SkipStep, match="agreed already") as skipped:
        await set_email_consent.run(ctx, ConsentInput(customer_id="7", state="pending"))
    assert [(s.state, s.at) for s in skipped.value.signals] == [
        (ConsentState.GRANTED, datetime(2026, 11, 1, 10, tzinfo=UTC))
    ]
    assert sandbox.log == []


async def test_who_cannot_be_reached_has_nothing_to_agree_to(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    sandbox.shop(ctx.account).customer({"id": 8, "email": None, "phone": None}, NOW)
    for action in (set_email_consent, set_sms_consent):
        with pytest.raises(SkipStep, match=r"no e-mail address|no phone number"):
            await action.run(ctx, ConsentInput(customer_id="8", state="unsubscribed"))
        with pytest.raises(NotFound, match="no customer 9"):
            await action.run(ctx, ConsentInput(customer_id="9", state="unsubscribed"))


# -- orders ------------------------------------------------------------------------------------------------------------


async def test_an_order_s_tags_are_added_to(ctx: ActionContext, sandbox: ShopifySandbox, order: Fields) -> None:
    sandbox.shop(ctx.account).orders["70"]["tags"] = "first, gift"
    await tag_order.run(ctx, OrderTagInput(order_id="70", tags=["gift", "late"]))
    assert sandbox.shop(ctx.account).orders["70"]["tags"] == "first, gift, late"
    with pytest.raises(Rejected, match="Order does not exist"):
        await tag_order.run(ctx, OrderTagInput(order_id="1", tags=["gift"]))


async def test_a_note_is_added_once_and_what_stood_there_stays(
    ctx: ActionContext, sandbox: ShopifySandbox, order: Fields
) -> None:
    # given
    sandbox.shop(ctx.account).orders["70"]["note"] = "Ring twice"

    # when
    for _ in range(2):
        await add_order_note.run(ctx, NoteInput(order_id="70", note="Wrap it"))

    # then
    assert sandbox.shop(ctx.account).orders["70"]["note"] == "Ring twice\nWrap it"
    assert [entry.operation for entry in sandbox.log] == ["update_order"]
    with pytest.raises(NotFound, match="no order 1"):
        await add_order_note.run(ctx, NoteInput(order_id="1", note="x"))


# -- drafts ------------------------------------------------------------------------------------------------------------

LINES: list[dict[str, Any]] = [
    {"variant_id": "41327142600818", "quantity": 2},
    {"title": "Gift wrap", "price": "5.00 EUR"},
]


async def test_a_draft_is_put_together_and_found_again(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # when
    given = DraftInput.model_validate({"customer_id": "7", "lines": LINES, "tags": ["offer"]})
    made = await create_draft_order.run(ctx, given)

    # then
    assert (made.name, made.total.amount_minor) == ("#D1", 5500)
    [effect] = sandbox.log
    assert effect.data["purchasingEntity"] == {"customerId": "gid://shopify/Customer/7"}
    assert all(len(tag) <= 40 for tag in effect.data["tags"])
    assert await find_draft(ctx, given) == made
    assert await find_draft(replace(ctx, reference="another"), given) is None


async def test_a_price_in_another_currency_than_the_shop_s_is_refused(
    ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    given = DraftInput.model_validate({"lines": [*LINES, {"title": "Card", "price": "2.00 USD"}]})
    with pytest.raises(Rejected, match=r"sells in EUR.*given in USD"):
        await create_draft_order.run(ctx, given)
    assert sandbox.log == []


async def test_a_draft_is_found_before_the_search_shows_it(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    sandbox.search_lag_ms = 60_000
    given = DraftInput.model_validate({"lines": LINES})
    assert await create_draft_order.run(ctx, given) == await find_draft(ctx, given)


async def test_an_invoice_is_sent_to_whom_it_says_and_known_to_be_sent(
    ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    # given
    draft = await create_draft_order.run(ctx, DraftInput.model_validate({"lines": LINES}))
    given = InvoiceInput(draft_order_id=draft.draft_order_id, email="jane@example.com", message="For you")
    assert await find_invoice(ctx, given) is None

    # when
    sent = await send_invoice.run(ctx, given)

    # then
    assert sent.sent_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert sandbox.log[-1].data == {
        "draft_order_id": draft.draft_order_id,
        "to": "jane@example.com",
        "customMessage": "For you",
    }
    assert await find_invoice(ctx, given) == sent
    # one that was sent long before this effect is another one
    later = replace(ctx, intended_at_ms=ctx.intended_at_ms + 3_600_000)
    assert await find_invoice(later, given) is None


def test_an_invoice_is_a_message_to_the_address_in_its_input() -> None:
    assert send_invoice.message is not None
    assert send_invoice.message.channel == "email"
    assert send_invoice.message.to(InvoiceInput(draft_order_id="1", email="jane@example.com")) == "jane@example.com"


async def test_an_invoice_of_no_draft_is_not_sent(ctx: ActionContext) -> None:
    given = InvoiceInput(draft_order_id="1", email="jane@example.com")
    with pytest.raises(Rejected, match="Draft order not found"):
        await send_invoice.run(ctx, given)
    with pytest.raises(NotFound, match="no draft order 1"):
        await find_invoice(ctx, given)


# -- money -------------------------------------------------------------------------------------------------------------


async def test_a_part_of_an_order_is_refunded(ctx: ActionContext, sandbox: ShopifySandbox, order: Fields) -> None:
    # when
    done = await refund_order.run(ctx, RefundInput(order_id="70", amount="12.50 EUR", at_most="20.00 EUR", note="torn"))

    # then
    [effect] = sandbox.log
    assert done.amount.amount_minor == 1250
    assert effect.data["transactions"] == [
        {
            "orderId": "gid://shopify/Order/70",
            "parentId": "gid://shopify/OrderTransaction/70",
            "amount": "12.50",
            "gateway": "bogus",
            "kind": "REFUND",
        }
    ]
    assert effect.data["notify"] is False


async def test_without_an_amount_all_that_is_left_is_refunded(
    ctx: ActionContext, sandbox: ShopifySandbox, order: Fields
) -> None:
    sandbox.shop(ctx.account).refund(order, ["50.00"], None, NOW)
    done = await refund_order.run(ctx, RefundInput(order_id="70", at_most="60.00 EUR"))
    assert done.amount.amount_minor == 1000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"at_most": "59.99 EUR"}, "60.00 EUR would be refunded, and at_most is 59.99 EUR"),
        ({"amount": "60.01 EUR", "at_most": "100.00 EUR"}, "60.00 EUR of the order is left"),
        ({"amount": "5.00 USD", "at_most": "10.00 USD"}, "write the amounts in EUR"),
    ],
)
async def test_more_than_allowed_or_left_is_not_refunded(
    given: dict[str, str], said: str, ctx: ActionContext, sandbox: ShopifySandbox, order: Fields
) -> None:
    with pytest.raises(Rejected, match=said):
        await refund_order.run(ctx, RefundInput(order_id="70", **given))
    assert sandbox.log == []


async def test_what_was_not_paid_or_paid_in_foreign_money_is_not_refunded(
    ctx: ActionContext, sandbox: ShopifySandbox, order: Fields
) -> None:
    kept = sandbox.shop(ctx.account).orders["70"]
    given = RefundInput(order_id="70", at_most="60.00 EUR")
    kept["presentment_currency"] = "USD"
    with pytest.raises(Rejected, match="paid in USD and the shop counts in EUR"):
        await refund_order.run(ctx, given)
    kept |= {"presentment_currency": "EUR", "financial_status": "pending"}
    with pytest.raises(Rejected, match="nothing of the order is left"):
        await refund_order.run(ctx, given)
    with pytest.raises(NotFound, match="no order 1"):
        await refund_order.run(ctx, RefundInput(order_id="1", at_most="60.00 EUR"))
    assert sandbox.log == []


async def test_shopify_knows_the_same_refund_by_its_key(
    ctx: ActionContext, sandbox: ShopifySandbox, order: Fields
) -> None:
    # The hub never asks twice; were the call repeated underway, the key would tell.
    given = RefundInput(order_id="70", amount="5.00 EUR", at_most="5.00 EUR")
    first = await refund_order.run(ctx, given)
    assert await refund_order.run(ctx, given) == first
    assert len(sandbox.log) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"amount": "5.00 EUR"},
        {"amount": "5.00 EUR", "at_most": "4.99 EUR"},
        {"amount": "5.00 EUR", "at_most": "9.00 USD"},
        {"amount": "0.00 EUR", "at_most": "9.00 EUR"},
    ],
)
def test_a_refund_without_a_cap_or_beyond_it_is_refused_at_save(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RefundInput.model_validate({"order_id": "70", **given})


async def test_store_credit_adds_up(ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields) -> None:
    # when
    await give_store_credit.run(ctx, CreditInput(customer_id="7", amount="5.00 EUR"))
    done = await give_store_credit.run(ctx, CreditInput(customer_id="7", amount="2.50 EUR", expires_after="90d"))

    # then
    assert done.balance.amount_minor == 750
    assert sandbox.log[1].data["expiresAt"] == "2027-02-20T10:00:00Z"
    assert sandbox.log[1].data["notify"] is False


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"customer_id": "1", "amount": "5.00 EUR"}, "OWNER_NOT_FOUND"),
        ({"customer_id": "7", "amount": "5.00 USD"}, "UNSUPPORTED_CURRENCY"),
    ],
)
async def test_credit_that_the_shop_does_not_give_is_refused(
    given: dict[str, str], code: str, ctx: ActionContext, customer: Fields
) -> None:
    with pytest.raises(Rejected) as refused:
        await give_store_credit.run(ctx, CreditInput.model_validate(given))
    assert refused.value.code == code


# -- look-ups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", [{"customer_id": "7"}, {"email": "Jane@example.com"}, {"phone": "+1 (415) 555-0100"}])
async def test_a_customer_is_found_by_what_is_known(whom: dict[str, str], ctx: ActionContext, order: Fields) -> None:
    found = await find_customer.run(ctx, Whom.model_validate(whom))
    assert (found.found, found.customer_id, found.tags, found.orders) == (True, "7", ["vip"], 1)
    assert found.spent is not None
    assert found.spent.amount_minor == 6000


async def test_who_is_not_there_is_not_found(ctx: ActionContext) -> None:
    assert (await find_customer.run(ctx, Whom(email="nobody@example.com"))).found is False
    assert (await find_checkout.run(ctx, CheckoutInput(checkout_id="1"))).found is False
    assert (await find_orders.run(ctx, OrdersInput(customer_id="1"))).orders == []


async def test_orders_of_a_customer_come_newest_first(
    ctx: ActionContext, sandbox: ShopifySandbox, customer: Fields
) -> None:
    # given twelve orders of theirs, one a day, and one of somebody else
    for day in range(1, 13):
        at = f"2026-11-{day:02}T10:00:00Z"
        sandbox.shop(ctx.account).order({"id": day, "customer": {"id": 7}, "created_at": at}, at)
    sandbox.shop(ctx.account).order({"id": 99, "email": "jim@example.com"}, NOW)

    # when
    found = await find_orders.run(ctx, OrdersInput(customer_id="7"))
    lately = await find_orders.run(ctx, OrdersInput(customer_id="7", within="12d"))

    # then
    assert [order.order_id for order in found.orders] == [str(day) for day in range(12, 4, -1)]
    assert (found.count, found.more) == (8, True)
    assert [order.order_id for order in lately.orders] == ["12", "11", "10"]


async def test_a_checkout_says_how_it_stands(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    await sandbox.checkout(None, ctx.account, id=71, token="t-1", email="jane@example.com")

    # when
    before = await find_checkout.run(ctx, CheckoutInput(checkout_id="71"))
    await sandbox.order(None, ctx.account, checkout_token="t-1")
    after = await find_checkout.run(ctx, CheckoutInput(checkout_id="71"))

    # then
    assert (before.completed, after.completed) == (False, True)
    assert before.checkout is not None
    assert before.checkout.recovery_url == f"https://{ctx.account}/checkouts/ac/t-1/recover"


@pytest.mark.parametrize("model", [CustomerInput, Whom])
def test_somebody_must_be_named(model: Any) -> None:
    with pytest.raises(ValidationError, match="give customer_id, email or phone"):
        model()
    with pytest.raises(ValidationError, match="no phone number"):
        model(phone="12")


# -- declarations ------------------------------------------------------------------------------------------------------


def test_effect_classes_are_what_the_readme_says() -> None:
    known = {
        Effect.RECONCILABLE: {"create_discount", "create_draft_order", "send_invoice"},
        Effect.AT_MOST_ONCE: {"refund_order", "give_store_credit"},
    }
    for name, action in shopify.actions.items():
        expected = next((effect for effect, names in known.items() if name in names), Effect.IDEMPOTENT)
        assert action.effect is expected, name
        assert (action.lookup_ is not None) == (expected is Effect.RECONCILABLE), name


@pytest.mark.parametrize("name", sorted(shopify.actions))
def test_a_rehearsal_pretends_the_same_every_time_and_a_whole_output(name: str) -> None:
    from .test_contract import TestShopify

    action = shopify.actions[name]
    given = action.input.model_validate(TestShopify.inputs[name])
    pretended = action.rehearse(given, 0)
    assert pretended == action.rehearse(given, 0)
    assert action.output.model_validate(pretended.model_dump()) == pretended


@pytest.mark.parametrize("name", sorted(shopify.actions))
def test_the_dry_run_names_nobody_s_address(name: str) -> None:
    from .test_contract import TestShopify

    action = shopify.actions[name]
    assert "jane@example.com" not in action.dry_run(action.input.model_validate(TestShopify.inputs[name]))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            create_discount.dry_run(DiscountInput(percentage=15, prefix="BACK-", expires_after="7d", customer_id="9")),
            "create a discount code BACK-… of 15 % for customer 9, for 7d",
        ),
        (
            create_discount.dry_run(DiscountInput(amount="5.00 EUR", minimum_subtotal="50.00 EUR", segment_id="301")),
            "create a discount code … of 5.00 EUR for segment 301, without expiry, from 50.00 EUR",
        ),
        (tag_customer.dry_run(TagInput(customer_id="9", tags=["a", "b"])), "tag customer 9 with a, b"),
        (
            refund_order.dry_run(RefundInput(order_id="9", at_most="5.00 EUR")),
            "refund what is left, at most 5.00 EUR, of order 9",
        ),
    ],
)
def test_the_dry_run_says_in_one_line_what_would_be_done(line: str, expected: str) -> None:
    assert line == expected


# -- what goes with a product ------------------------------------------------------------------------------------------

SCARF, HAT, GLOVES = "7234590408817", "7234590408818", "7234590408820"


async def test_what_goes_with_a_product_is_what_the_merchant_chose(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given a scarf that goes with itself, a hat, gloves, and a scarf of silk that nobody can buy yet
    products = sandbox.shop(ctx.account).products
    products[GLOVES] = {"id": GLOVES, "name": "Wool gloves", "price": "19.90"}
    products[SCARF]["complementary"] = [SCARF, HAT]
    products[SCARF]["related"] = ["7234590408819", HAT, GLOVES]

    # when
    every = await recommend(ctx, [SCARF])
    first = await recommend(ctx, [SCARF], limit=1)
    related = await recommend(ctx, [f"gid://shopify/Product/{SCARF}"], kind="related")

    # then
    assert [(one.product_id, one.kind) for one in every.products] == [(HAT, "complementary"), (GLOVES, "related")]
    assert every.products[0].model_dump(mode="json") == {
        "kind": "complementary",
        "product_id": HAT,
        "title": "Wool hat",
        "handle": "wool-hat",
        "url": f"https://{ctx.account}/products/wool-hat",
        "price": {"amount_minor": 2500, "currency": "EUR"},
        "image_url": "https://cdn.shopify.example/wool-hat.jpg",
    }
    assert (first.count, [one.product_id for one in first.products]) == (1, [HAT])
    assert [(one.product_id, one.kind) for one in related.products] == [(HAT, "related"), (GLOVES, "related")]


async def test_what_goes_with_an_order_is_asked_by_its_lines(ctx: ActionContext) -> None:
    # given a line of one's own, and one product twice
    lines = [{"title": "Gift wrap", "product_id": None}, *2 * [{"title": "Wool scarf", "product_id": SCARF}]]
    assert [one.title for one in (await recommend(ctx, lines)).products] == ["Wool hat"]
    # what lies in the basket is not recommended
    assert (await recommend(ctx, [*lines, {"product_id": HAT}])).products == []


async def test_a_recipe_hands_the_lines_of_an_order_on_and_names_what_goes_with_them(shop: str) -> None:
    recipe = """
recipe: pairs-well
on: {event: shopify.order_created}
steps:
  - {do: shopify.find_product_recommendations, with: {products: "{{ trigger.line_items }}"}, as: found}
  - {do: shopify.add_order_note, with: {order_id: "{{ trigger.order_id }}", note: "with a {{ steps.found.products[0].title }}"}}
"""
    async with hub_of(shopify, {"shop": shop}, work=True, answers=True) as (hub, sandbox):
        assert isinstance(sandbox, ShopifySandbox)
        await hub.library.apply(recipe, publish=True)
        address = hub.connections.inbound_url(await hub.connections.by_name("shopify"))
        assert await sandbox.order(address, shop, id=70, customer={"id": 7}, topics=["orders/create"]) == 200
        await hub.time.advance(hub.clock.now_ms() + 60_000, ring=hub.ring)
        assert sandbox.shop(shop).orders["70"]["note"] == "with a Wool hat"


async def test_a_shop_that_recommends_nothing_says_so(ctx: ActionContext) -> None:
    for products in ([HAT], ["1"], []):
        assert (await recommend(ctx, products)).model_dump() == {"count": 0, "products": []}
    with pytest.raises(ValidationError, match="should match pattern"):
        RecommendationsInput.model_validate({"products": ["wool-scarf"]})


async def recommend(ctx: ActionContext, products: list[Any], **more: Any) -> FoundRecommendations:
    given = RecommendationsInput.model_validate({"products": products, **more})
    return await find_product_recommendations.run(ctx, given)
