"""What a recipe's author may choose from: templates and subaccounts. Both come whole."""

from __future__ import annotations

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery
from hub_mailchimp.transactional.client import Answer, call, read_all
from hub_mailchimp.transactional.connector import mandrill


class _Template(Answer):
    slug: str
    name: str = ""


class _Subaccount(Answer):
    id: str
    name: str = ""


@mandrill.choose("templates")
async def templates(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The templates of the account, by their slugs."""
    found = read_all(_Template, await call(ctx, "/templates/list"))
    return _fitting([Choice(one.slug, one.name or one.slug) for one in found], query)


@mandrill.choose("subaccounts")
async def subaccounts(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The subaccounts of the account."""
    found = read_all(_Subaccount, await call(ctx, "/subaccounts/list"))
    return _fitting([Choice(one.id, one.name or one.id) for one in found], query)


def _fitting(every: list[Choice], query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([one for one in every if query.search.lower() in one.label.lower()])
