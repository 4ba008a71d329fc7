"""What a recipe's author may choose from, page by page and by search."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from hub import ActionContext, Choice, ChoiceQuery, Chosen, Rejected
from hub_shopify import shopify
from hub_shopify.actions.discounts import DiscountInput, create_discount
from hub_shopify.actions.drafts import DraftLine
from hub_shopify.api.catalogue import CHOICES_A_PAGE
from hub_shopify.sandbox import ShopifySandbox


@pytest.mark.parametrize(
    ("name", "search", "found"),
    [
        ("segments", "", [Choice("301", "Win back"), Choice("302", "Champions")]),
        ("segments", "ba", [Choice("301", "Win back")]),
        ("segments", "champ", [Choice("302", "Champions")]),
        ("locations", "old to", [Choice("202", "Shop in the old town")]),
        ("variants", "hat", [Choice("41327142600818", "Wool hat", "HA-1")]),
        ("variants", "SC-1", [Choice("41327142600817", "Wool scarf", "SC-1")]),
        ("variants", "nothing of the kind", []),
        ("segments", 'a" OR name:*', []),
    ],
)
async def test_what_there_is_can_be_searched(name: str, search: str, found: list[Choice], ctx: ActionContext) -> None:
    page = await shopify.choices[name](ctx, ChoiceQuery(search=search, within={}))
    assert (list(page.items), page.cursor) == (found, None)


async def test_many_come_in_pages(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given
    sandbox.shop(ctx.account).segments = {str(n): f"Segment {n}" for n in range(120)}

    # when
    found: list[Choice] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = await shopify.choices["segments"](ctx, ChoiceQuery(cursor=cursor, within={}))
        found, cursor, pages = [*found, *page.items], page.cursor, pages + 1

    # then
    assert pages == -(-120 // CHOICES_A_PAGE)
    assert [choice.id for choice in found] == [str(n) for n in range(120)]


async def test_a_discount_is_chosen_by_its_code(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    # given one with a code, and an automatic one
    made = await create_discount.run(ctx, DiscountInput(percentage=10, title="Spring sale"))
    automatic: dict[str, Any] = {"__typename": "DiscountAutomaticBasic", "title": "Summer"}
    sandbox.shop(ctx.account).discounts["-"] = {"id": "gid://shopify/DiscountNode/1", "codeDiscount": automatic}

    # when
    page = await shopify.choices["discounts"](ctx, ChoiceQuery(search="spring", within={}))
    every = await shopify.choices["discounts"](ctx, ChoiceQuery(within={}))

    # then
    assert [choice.id for choice in page.items] == [choice.id for choice in every.items] == [made.code]
    assert page.items[0].label.startswith("Spring sale")


async def test_a_code_for_a_segment_is_for_its_members(ctx: ActionContext, sandbox: ShopifySandbox) -> None:
    await create_discount.run(ctx, DiscountInput(percentage=10, segment_id="301"))
    assert sandbox.log[0].data["context"] == {"customerSegments": {"add": ["gid://shopify/Segment/301"]}}
    with pytest.raises(Rejected, match="Segment is invalid"):
        await create_discount.run(ctx, DiscountInput(percentage=11, prefix="x", segment_id="9"))


def test_every_choice_that_an_input_names_is_declared() -> None:
    models = [*(action.input for action in shopify.actions.values()), DraftLine]
    hints = [hint for model in models for hint in get_type_hints(model, include_extras=True).values()]
    named = {
        c.choices for hint in hints for part in (hint, *get_args(hint)) for c in get_args(part) if isinstance(c, Chosen)
    }
    assert named == set(shopify.choices)
