"""What a recipe's author may choose from in a shop."""

from __future__ import annotations

import re

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery
from hub.events import Json
from hub_shopify.api.catalogue import CHOICES_A_PAGE, DISCOUNTS, LOCATIONS, SEGMENTS, VARIANTS, Named
from hub_shopify.api.parts import Listed
from hub_shopify.client import call, rest_id
from hub_shopify.connector import shopify


@shopify.choose("segments")
async def segments(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The shop's customer segments."""
    return _named((await call(ctx, SEGMENTS, _asked(query, "name"))).segments)


@shopify.choose("locations")
async def locations(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The shop's locations."""
    return _named((await call(ctx, LOCATIONS, _asked(query, "name"))).locations)


@shopify.choose("variants")
async def variants(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Variants of products, searched in all that is told of them."""
    page = (await call(ctx, VARIANTS, _asked(query, None))).product_variants
    items = [Choice(id=rest_id(one.id), label=one.display_name, hint=one.sku or "") for one in page.nodes]
    return ChoicePage(items, page.page_info.end_cursor if page.page_info.has_next_page else None)


@shopify.choose("discounts")
async def discounts(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Discounts that have a code, by title; what is chosen is the code. Automatic ones have none and are left out."""
    page = (await call(ctx, DISCOUNTS, _asked(query, "title"))).discount_nodes
    items = [
        Choice(id=one.discount.codes.nodes[0].code, label=one.discount.title or one.discount.codes.nodes[0].code)
        for one in page.nodes
        if one.discount.codes and one.discount.codes.nodes
    ]
    return ChoicePage(items, page.page_info.end_cursor if page.page_info.has_next_page else None)


def _asked(query: ChoiceQuery, field: str | None) -> dict[str, Json]:
    """The variables of a search: each of its words begins a word of the label."""
    words = [f"{field}:{word}*" if field else f"{word}*" for word in re.findall(r"[\w-]+", query.search)]
    return {"first": CHOICES_A_PAGE, "after": query.cursor, "query": " ".join(words) or None}


def _named(page: Listed[Named]) -> ChoicePage:
    items = [Choice(id=rest_id(one.id), label=one.name) for one in page.nodes]
    return ChoicePage(items, page.page_info.end_cursor if page.page_info.has_next_page else None)
