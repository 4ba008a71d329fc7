"""The contract about what is read: polls, the past and choices. Whoever does not keep it is found out and told what to mend."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field

from hub import (
    ActionContext,
    AuthExpired,
    Choice,
    ChoicePage,
    ChoiceQuery,
    Chosen,
    Page,
    Rejected,
    Response,
    RetryableError,
)
from hub.errors import HubError
from tests import parcel
from tests.parcel import Label

# -- polls -------------------------------------------------------------------------------------------------------------


async def _endless(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    while True:
        yield Page([], "on")


@pytest.mark.parametrize(
    ("sandbox", "fetch", "said"),
    [
        ("tests.parcel:Empty", None, "finds nothing at the sandbox: let `prepare`"),
        ("tests.parcel:ParcelSandbox", _endless, "the poll of parcel.sent does not end"),
    ],
)
def test_a_poll_that_finds_nothing_or_never_ends_is_found(sandbox: str, fetch: Any, said: str) -> None:
    connector = parcel.make(sandbox=sandbox)
    parcel.add_trigger(connector)
    parcel.add_poll(connector, fetch)
    parcel.refused(said, parcel.suite(connector).test_a_poll_finds_the_same_facts_again, "sent")


async def _asked_once(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    answer = (await ctx.http.request("GET", "/queue")).json()
    yield Page([parcel.Sent.model_validate(one) for one in answer], "end")


def test_a_poll_that_takes_what_it_reads_away_is_found() -> None:
    connector = parcel.make(sandbox="tests.parcel:Queueing")
    parcel.add_trigger(connector)
    parcel.add_poll(connector, _asked_once)
    check = parcel.suite(connector).test_a_poll_that_breaks_off_loses_and_doubles_nothing
    parcel.refused(
        "the poll of parcel.sent loses 1 of 1 when it breaks off with a page in hand: let it keep", check, "sent"
    )


def test_a_poll_whose_facts_differ_doubles_them() -> None:
    told = iter(range(100))
    connector = parcel.make()
    parcel.add_trigger(connector, fact=lambda sent: f"{sent.id}:{next(told)}")
    parcel.add_poll(connector)
    check = parcel.suite(connector).test_a_poll_that_breaks_off_loses_and_doubles_nothing
    parcel.refused("makes [23] events of 1 facts when a page comes again", check, "sent")


# -- the past ----------------------------------------------------------------------------------------------------------

BROKEN_OFF = "test_a_past_that_breaks_off_is_gone_on_with_and_nothing_lost_or_doubled"
PAGE_BY_PAGE = "test_a_past_that_is_read_page_by_page_comes_to_its_end"
THROTTLED = "test_a_past_that_is_throttled_is_read_to_its_end"
BEGINNING = "test_a_past_begins_where_it_is_asked_to"


def _remembering(fetch: Any = None, **changed: Any) -> Any:
    connector = parcel.make()
    parcel.add_trigger(connector, **{"occurred_at": lambda sent: sent.at, **changed})
    parcel.add_history(connector, fetch)
    return parcel.suite(connector)


async def _nothing(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    yield Page([], "end")


async def _from_the_start(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    async for page in parcel.past(ctx, None, since_ms):
        yield page


def _keeping() -> Any:
    """One that goes on where it was itself, whatever was stored."""
    kept: list[str | None] = [None]

    async def fetch(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
        async for page in parcel.past(ctx, cursor and kept[0], since_ms):
            kept[0] = page.cursor
            yield page

    return fetch


async def _half(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    """One that cannot be gone on with."""
    if cursor is None:
        async for page in parcel.past(ctx, None, since_ms):
            yield page


async def _gives_up(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    with suppress(RetryableError):
        async for page in parcel.past(ctx, cursor, since_ms):
            yield page


def _sulking() -> Any:
    """One that will not try again."""
    sulks: list[RetryableError] = []

    async def fetch(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
        if sulks:
            raise Rejected("no")
        try:
            async for page in parcel.past(ctx, cursor, since_ms):
                yield page
        except RetryableError as error:
            sulks.append(error)
            raise

    return fetch


async def _from_memory(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    yield Page([parcel.Sent.model_validate(one) for one in parcel.PAST], "end")


async def _everything(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[parcel.Sent]]:
    async for page in parcel.past(ctx, cursor, 0):
        yield page


@pytest.mark.parametrize(
    ("fetch", "test", "said"),
    [
        (_nothing, BROKEN_OFF, "the past of parcel.sent is empty at the sandbox: let `prepare`"),
        (_endless, BROKEN_OFF, "the past of parcel.sent does not end"),
        (_from_the_start, BROKEN_OFF, "the past of parcel.sent begins anew when it breaks off"),
        (_keeping(), BROKEN_OFF, "makes 1 events of 2 facts when it breaks off: let it keep nothing but"),
        (_from_the_start, PAGE_BY_PAGE, "does not get on when it is cut off after each page: let the cursor"),
        (_half, PAGE_BY_PAGE, "tells 1 of 2 facts when it is cut off after each page: let it keep nothing but"),
        (_gives_up, THROTTLED, "makes 0 events of 2 facts when it is throttled: let it .* leave errors to the hub"),
        (_sulking(), THROTTLED, r"is not read to its end when it is throttled: it is waiting \(no\)"),
        (_from_memory, THROTTLED, "the past of parcel.sent made no call that could be throttled"),
        (_everything, BEGINNING, "tells of what happened before it is asked to begin: leave out"),
    ],
)
def test_a_past_that_is_not_read_as_asked_is_found(fetch: Any, test: str, said: str) -> None:
    parcel.refused(said, getattr(_remembering(fetch), test), "sent")


def test_a_past_whose_facts_differ_is_found() -> None:
    told = iter(range(100))
    check = getattr(_remembering(fact=lambda sent: f"{sent.id}:{next(told)}"), BROKEN_OFF)
    parcel.refused("the past of parcel.sent has other facts when it is read again", check, "sent")


# -- choices -----------------------------------------------------------------------------------------------------------

TO_THE_END = "test_choices_are_told_to_the_end_and_each_once"
BY_LABEL = "test_choices_are_found_by_their_label_and_no_other_label_is_taken"
THOUGH_IT_ENDS = "test_choices_are_told_though_the_token_ends"
DISCREET = "test_choices_tell_no_secret_and_nobody_who_is_searched_for"


def _offering(read: Any, **changed: Any) -> Any:
    connector = parcel.make(**changed)
    parcel.add_choices(connector, read)
    return parcel.suite(connector)


def _all_of(*labels: str) -> list[Choice]:
    return [Choice(f"d-{n}", label) for n, label in enumerate(labels, 1)]


async def _without_end(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([], "on")


async def _again_and_again(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return replace(await parcel.depots(ctx, replace(query, cursor=None)), cursor=None if query.cursor else "1")


async def _bare(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage(_all_of("North", ""))


async def _none(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([])


async def _deaf(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([one for one in _all_of("North", "South") if query.search in one.id])


async def _obliging(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    there = [one for one in _all_of("North") if query.search.lower() in one.label.lower()]
    return ChoicePage(there or [Choice(query.search, query.search)])


async def _many_and_obliging(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    """More than the hub reads, and whatever is searched for."""
    page = int(query.cursor or 0)
    some = [Choice(f"d-{page}-{n}", f"Depot {page}-{n}") for n in range(100)]
    if query.search:
        return ChoicePage([one for one in some if one.label == query.search] or [Choice("d", query.search)])
    return ChoicePage(some, str(page + 1) if page < 20 else None)


def _restless() -> Any:
    """One whose labels change."""
    told = iter(range(100))

    async def read(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
        return ChoicePage(_all_of(f"North, asked for {next(told)} times"))

    return read


async def _empty_handed(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    try:
        return await parcel.depots(ctx, query)
    except AuthExpired:
        return ChoicePage([])


async def _with_the_key(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    return ChoicePage([Choice("d-1", "North", vars(ctx.http)["credentials"]["token"])])


async def _overheard(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    logging.getLogger("hub_parcel").info("a search", extra={"what": "searched", "search": query.search})
    return await parcel.depots(ctx, query)


async def _repeated(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    try:
        return await parcel.depots(ctx, query)
    except HubError as error:
        raise Rejected(f"cannot search for {query.search}") from error


@pytest.mark.parametrize(
    ("read", "test", "said"),
    [
        (_without_end, TO_THE_END, "parcel's depots do not end: give no cursor with the last page"),
        (_again_and_again, TO_THE_END, "parcel's depots tell of d-1 more than once: let a page begin"),
        (_bare, TO_THE_END, "one of parcel's depots has no id or no label"),
        (_none, TO_THE_END, "there are none of parcel's depots at the sandbox: let `prepare`"),
        (_deaf, BY_LABEL, "are searched for North, and d-1 is not found: search all that is shown"),
        (_obliging, BY_LABEL, "have whatever they are searched for: tell only what the vendor has"),
        (_many_and_obliging, BY_LABEL, "writes what none of parcel's depots is called is not refused"),
        (_restless(), BY_LABEL, "a recipe that writes North, .* gets None, and not d-1: let labels stay"),
        (_empty_handed, THOUGH_IT_ENDS, "are others once the token of client_credentials was renewed in the middle"),
        (_with_the_key, DISCREET, "what is told of parcel's depots holds a secret"),
        (_overheard, DISCREET, "a log line of parcel's depots repeats what was searched for"),
        (_repeated, DISCREET, "an error of parcel's depots repeats what was searched for"),
    ],
)
def test_choices_that_are_not_told_as_asked_are_found(read: Any, test: str, said: str) -> None:
    parcel.refused(said, getattr(_offering(read), test), "depots")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (slice(None), "must be told with the renewed token of client_credentials, and raised Rejected"),
        (slice(1), "must raise AuthExpired when the credentials are refused, and raised Rejected"),
    ],
)
def test_choices_that_take_an_ended_token_for_something_else_are_found(kinds: slice, said: str) -> None:
    def classify(answer: Response) -> HubError | None:
        return Rejected("no") if answer.status == 401 else None

    suite = _offering(None, auth=parcel.make().auth[kinds], classify=classify)
    parcel.refused(said, getattr(suite, THOUGH_IT_ENDS), "depots")


async def _of_a_region(ctx: ActionContext, query: ChoiceQuery) -> ChoicePage:
    if query.within.get("region") != "sea":
        raise Rejected("say which region")
    return await parcel.depots(ctx, query)


class Regional(Label):
    region: str
    depot: Annotated[str, Chosen("depots", within=("region",))] | None = None


class Numbered(Label):
    depot: Annotated[str, Chosen("depots"), Field(pattern="^d-[0-9]+$")] | None = None


class Chained(Label):
    routes: list[parcel.Routed] = []


def test_a_field_that_takes_no_label_is_found_and_one_in_a_list_of_models_is_asked() -> None:
    strict, nested = parcel.make(), parcel.make()
    for connector, input_ in ((strict, Numbered), (nested, Chained)):
        connector.choose("depots")(parcel.depots)
        parcel.add_action(connector, input=input_)
    parcel.refused("label.depot takes no label of parcel's depots", getattr(parcel.suite(strict), BY_LABEL), "depots")
    getattr(parcel.suite(nested), BY_LABEL)("depots")


@pytest.mark.parametrize("test", [TO_THE_END, BY_LABEL, THOUGH_IT_ENDS, DISCREET])
def test_what_choices_depend_on_is_said_by_an_input_or_by_the_suite(test: str) -> None:
    connector = parcel.make()
    connector.choose("depots")(_of_a_region)
    # of an action's own choices its input says it
    given = {"inputs": {"label": {"to": "Jane", "region": "sea"}}}
    acting = parcel.make()
    acting.choose("depots")(_of_a_region)
    parcel.add_action(acting, input=Regional)
    getattr(parcel.suite(acting, **given), test)("depots")
    parcel.refused(
        "depend on what no input of the contract names: say so by `within`",
        getattr(parcel.suite(acting), test),
        "depots",
    )
    # of those that no action takes, the suite
    getattr(parcel.suite(connector, within={"depots": {"region": "sea"}}), test)("depots")
