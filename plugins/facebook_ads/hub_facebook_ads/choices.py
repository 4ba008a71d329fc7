"""What a recipe's author may choose from: audiences, campaigns, ad sets and pixels of the ad account; Pages, and their forms."""

from __future__ import annotations

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery, Rejected
from hub_facebook_ads.client import Named, ad_account, edge_page
from hub_facebook_ads.connector import facebook_ads

_A_PAGE = "100"


class _Status(Named):
    status: str = ""
    subtype: str = ""


async def _choices(ctx: ActionContext, query: ChoiceQuery, path: str, fields: str) -> ChoicePage:
    """One page of an edge. Its names are narrowed down here, so that a page may be empty and not the last."""
    params = {"fields": fields, "limit": "20" if path.endswith("/customaudiences") else _A_PAGE}
    found, after = await edge_page(ctx, path, _Status, params=params, after=query.cursor)
    wanted = query.search.casefold()
    items = [
        Choice(one.id, one.name or one.id, (one.subtype or one.status).replace("_", " ").lower())
        for one in found
        if wanted in (one.name or one.id).casefold()
    ]
    return ChoicePage(items, after)


@facebook_ads.choose("audiences")
async def audiences(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The ad account's audiences, with their kind."""
    return await _choices(ctx, query, f"/{ad_account(ctx)}/customaudiences", "id,name,subtype")


@facebook_ads.choose("campaigns")
async def campaigns(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The ad account's campaigns, with their status."""
    return await _choices(ctx, query, f"/{ad_account(ctx)}/campaigns", "id,name,status")


@facebook_ads.choose("ad_sets")
async def ad_sets(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The ad account's ad sets, with their status."""
    return await _choices(ctx, query, f"/{ad_account(ctx)}/adsets", "id,name,status")


@facebook_ads.choose("pixels")
async def pixels(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The ad account's pixels."""
    return await _choices(ctx, query, f"/{ad_account(ctx)}/adspixels", "id,name")


@facebook_ads.choose("pages")
async def pages(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The Pages that the token's owner may work with."""
    return await _choices(ctx, query, "/me/accounts", "id,name")


@facebook_ads.choose("forms")
async def forms(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The lead forms of the connection's Page, with their status."""
    page_id = ctx.settings.get("page_id")
    if not page_id:
        raise Rejected(f"{ctx.connection} has no Page: use a connection with a page_id")
    return await _choices(ctx, query, f"/{page_id}/leadgen_forms", "id,name,status")
