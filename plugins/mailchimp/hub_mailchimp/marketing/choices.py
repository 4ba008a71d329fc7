"""What a recipe's author may choose from: audiences, segments, tags, merge fields, templates, stores.

Steps of customer journeys cannot be listed. (Swagger 3.0.55 has only their trigger.)
"""

from __future__ import annotations

from typing import TypeVar

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery, Rejected
from hub_mailchimp.marketing.client import Answer, page_of, part, read_json
from hub_mailchimp.marketing.connector import mailchimp


class _Named(Answer):
    id: int | str
    name: str = ""
    type: str = ""


class _Field(Answer):
    tag: str
    name: str = ""
    type: str = ""


A = TypeVar("A", bound=Answer)


async def _page(
    ctx: ActionContext, query: ChoiceQuery, path: str, name: str, model: type[A], params: dict[str, str] | None = None
) -> tuple[list[A], str | None]:
    """One page of a collection, and the offset of the next."""
    offset = int(query.cursor or "0")
    found, more = await page_of(ctx, path, name, model, params, offset=offset)
    return found, str(offset + len(found)) if more else None


def _audience(query: ChoiceQuery) -> str:
    """The audience that the choices depend on, as a part of a path."""
    audience = query.within.get("list_id", "")
    if not audience:
        raise Rejected("choose the audience first (list_id)")
    return part(audience)


def _fits(label: str, query: ChoiceQuery) -> bool:
    return query.search.lower() in label.lower()


def _named(found: list[_Named], query: ChoiceQuery, cursor: str | None) -> ChoicePage:
    every = [Choice(str(one.id), one.name or str(one.id), one.type) for one in found]
    return ChoicePage([one for one in every if _fits(one.label, query)], cursor)


@mailchimp.choose("lists")
async def lists(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The audiences of the account."""
    found, cursor = await _page(ctx, query, "/lists", "lists", _Named)
    return _named(found, query, cursor)


@mailchimp.choose("segments")
async def segments(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The segments of an audience; tags are among them, as static ones."""
    found, cursor = await _page(ctx, query, f"/lists/{_audience(query)}/segments", "segments", _Named)
    return _named(found, query, cursor)


@mailchimp.choose("tags")
async def tags(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The tags of an audience; actions take their names. Mailchimp's own search finds only how names begin."""
    answer = (await ctx.http.request("GET", f"/lists/{_audience(query)}/tag-search")).json()
    found = [read_json(_Named, one) for one in answer["tags"]]
    return ChoicePage([Choice(one.name, one.name) for one in found if _fits(one.name, query)])


@mailchimp.choose("merge_fields")
async def merge_fields(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The merge fields of an audience, by their tags."""
    found, cursor = await _page(ctx, query, f"/lists/{_audience(query)}/merge-fields", "merge_fields", _Field)
    every = [Choice(one.tag, one.name or one.tag, one.type) for one in found]
    return ChoicePage([one for one in every if _fits(f"{one.id} {one.label}", query)], cursor)


@mailchimp.choose("templates")
async def templates(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The account's own templates."""
    found, cursor = await _page(ctx, query, "/templates", "templates", _Named, {"type": "user"})
    return _named(found, query, cursor)


@mailchimp.choose("stores")
async def stores(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The e-commerce stores of the account."""
    found, cursor = await _page(ctx, query, "/ecommerce/stores", "stores", _Named)
    return _named(found, query, cursor)
