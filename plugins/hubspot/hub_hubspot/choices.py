"""What a recipe's author may choose from in an account: owners, teams, pipelines, stages, lists, forms, e-mails, topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from hub import ActionContext, Choice, ChoicePage, ChoiceQuery
from hub_hubspot.client import Answer, PagedAnswer, paged, read
from hub_hubspot.connector import hubspot
from hub_hubspot.paths import path

_AT_ONCE = 100


class Team(Answer):
    id: str
    name: str


class Owner(Answer):
    """Somebody whom records can be assigned to. `type` is `PERSON` or `QUEUE`."""

    id: str
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    type: str
    archived: bool = False
    teams: tuple[Team, ...] = ()

    @property
    def name(self) -> str:
        """As people know them."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or self.email or self.id


class _OwnerPage(PagedAnswer):
    results: list[Owner]


class _Stage(Answer):
    id: str
    label: str
    archived: bool = False


class _Pipeline(Answer):
    id: str
    label: str
    archived: bool = False
    stages: tuple[_Stage, ...] = ()


class _Pipelines(Answer):
    results: list[_Pipeline]


class _FoundList(Answer):
    list_id: str
    name: str
    object_type_id: str
    processing_type: str


class _Lists(Answer):
    lists: list[_FoundList]
    offset: int = 0
    has_more: bool


class _Named(Answer):
    id: str
    name: str
    form_type: str = ""
    state: str = ""


class _NamedPage(PagedAnswer):
    results: list[_Named]


class _Option(Answer):
    value: str
    label: str
    hidden: bool = False


class _Property(Answer):
    options: tuple[_Option, ...] = ()


async def owners(ctx: ActionContext, email: str | None = None) -> AsyncIterator[Owner]:
    """The people and queues that records can be assigned to; with an address only whose it is."""
    query = {"limit": str(_AT_ONCE), **({"email": email} if email else {})}
    async for page in paged(ctx, path(ctx.settings, "owners"), query, _OwnerPage):
        for owner in page.results:
            if not owner.archived:
                yield owner


# -- what can be chosen ------------------------------------------------------------------------------------------------


@hubspot.choose("owners")
async def _owners(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Owners by name; the hint is their address."""
    return _page([Choice(one.id, one.name, one.email or "") async for one in owners(ctx)], query)


@hubspot.choose("teams")
async def _teams(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The teams that owners are in."""
    found = {team.id: team.name async for owner in owners(ctx) for team in owner.teams}
    return _page([Choice(*team) for team in found.items()], query)


async def _pipelines(ctx: ActionContext, kind: str) -> list[_Pipeline]:
    answer = await ctx.http.request("GET", path(ctx.settings, "pipelines", f"/{kind}"))
    return [one for one in read(_Pipelines, answer).results if not one.archived]


async def _stages(ctx: ActionContext, kind: str, query: ChoiceQuery) -> ChoicePage:
    """The stages of the chosen pipeline, or of all; the hint is the pipeline."""
    chosen = query.within.get("pipeline")
    every = [one for one in await _pipelines(ctx, kind) if chosen in (None, "", one.id, one.label)]
    return _page([Choice(s.id, s.label, one.label) for one in every for s in one.stages if not s.archived], query)


@hubspot.choose("deal_pipelines")
async def _deal_pipelines(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The pipelines of deals."""
    return _page([Choice(one.id, one.label) for one in await _pipelines(ctx, "deals")], query)


@hubspot.choose("ticket_pipelines")
async def _ticket_pipelines(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The pipelines of tickets."""
    return _page([Choice(one.id, one.label) for one in await _pipelines(ctx, "tickets")], query)


@hubspot.choose("deal_stages")
async def _deal_stages(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The stages within a pipeline of deals."""
    return await _stages(ctx, "deals", query)


@hubspot.choose("ticket_stages")
async def _ticket_stages(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The stages within a pipeline of tickets."""
    return await _stages(ctx, "tickets", query)


@hubspot.choose("lifecycle_stages")
async def _lifecycle_stages(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The life-cycle stages of contacts, in HubSpot's order."""
    answer = await ctx.http.request("GET", path(ctx.settings, "properties", "/contacts/lifecyclestage"))
    return _page([Choice(one.value, one.label) for one in read(_Property, answer).options if not one.hidden], query)


@hubspot.choose("static_lists")
async def _static_lists(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """The lists of contacts that take members by hand; HubSpot searches them itself."""
    asked = {
        "query": query.search,
        "processingTypes": ["MANUAL", "SNAPSHOT"],
        "count": _AT_ONCE,
        "offset": int(query.cursor or 0),
    }
    found = read(_Lists, await ctx.http.request("POST", path(ctx.settings, "lists", "/search"), json=asked))
    items = [Choice(one.list_id, one.name, one.processing_type) for one in found.lists if one.object_type_id == "0-1"]
    return ChoicePage(items, str(found.offset) if found.has_more else None)


@hubspot.choose("forms")
async def _forms(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """Forms of all types; the hint is the type."""
    asked = {"limit": str(_AT_ONCE), "formTypes": "all"}
    return await _named(ctx, path(ctx.settings, "forms"), asked, query)


@hubspot.choose("emails")
async def _emails(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """E-mails that were written in HubSpot; the hint is their state."""
    return await _named(ctx, path(ctx.settings, "emails"), {"limit": str(_AT_ONCE)}, query)


@hubspot.choose("subscription_types")
async def _subscription_types(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """What people may subscribe to."""
    found = read(_NamedPage, await ctx.http.request("GET", path(ctx.settings, "preferences", "/definitions")))
    return _page([Choice(one.id, one.name) for one in found.results], query)


async def _named(ctx: ActionContext, address: str, asked: dict[str, str], query: ChoiceQuery) -> ChoicePage:
    """One page of a list that HubSpot pages and does not search: a page may hold nothing that fits, and yet go on."""
    answer = await ctx.http.request("GET", address, params=asked | ({"after": query.cursor} if query.cursor else {}))
    page = read(_NamedPage, answer)
    fitting = _fitting([Choice(one.id, one.name, one.form_type or one.state) for one in page.results], query)
    return ChoicePage(fitting, page.after)


def _page(every: Iterable[Choice], query: ChoiceQuery) -> ChoicePage:
    """Few enough to be one page."""
    return ChoicePage(_fitting(every, query))


def _fitting(every: Iterable[Choice], query: ChoiceQuery) -> list[Choice]:
    return [one for one in every if query.search.lower() in one.label.lower()]
