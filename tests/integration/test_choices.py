"""What can be chosen at a vendor: asked for like any call, kept for a while, written by label and published by id."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hub.choosing import Choosing
from hub.errors import RecipeErrors
from hub.plans import Planner, State
from hub.recipes import load
from hub.store import recipes as stored
from tests.depot import depot

PUT = """
recipe: keep
on: {{event: depot.ordered}}
steps:
  - {{do: depot.put, id: put, with: {{what: "{{{{ trigger.id }}}}", shelf: {shelf}{more}}}}}
"""
MOVE = """
recipe: keep
on: {{event: depot.ordered}}
steps:
  - {{do: depot.move, id: move, with: {{what: "{{{{ trigger.id }}}}", {given}}}}}
"""


def _put(shelf: str, more: str = "") -> str:
    return PUT.format(shelf=json.dumps(shelf), more=more)


async def _planned(it: Any, source: str) -> Any:
    planner = Planner(it.hub.store, it.hub.library, it.hub.connections, it.hub.plugins.catalogue)
    [one] = (await planner.plan({"keep.yaml": source}, {})).recipes
    return one


async def _with(it: Any) -> Any:
    definition = await it.hub.library.published_definition("keep")
    return definition["steps"][0]["with"]


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_choices_come_page_by_page_and_are_kept_for_a_while(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url) as it:
        path = "/connections/depot/choices/shelves"
        _, first = await it.call("GET", path)
        _, second = await it.call("GET", path, cursor=first["next"])
        assert [one["id"] for one in first["items"] + second["items"]] == ["s-1", "s-2", "s-3", "s-4", "s-5", "Games"]
        assert (first["items"][0], second["next"]) == ({"id": "s-1", "label": "Toys", "hint": "12 things"}, None)
        # asked again, the vendor is not
        await it.call("GET", path)
        await it.call("GET", path, cursor=first["next"])
        assert it.sandbox.asked == ["shelves 0", "shelves 4"]
        # each search and each thing they depend on is its own
        _, found = await it.call("GET", path, search="book")
        assert [one["id"] for one in found["items"]] == ["s-2", "s-3"]
        _, spots = await it.call("GET", "/connections/depot/choices/spots", within="lane=l-2")
        assert [one["id"] for one in spots["items"]] == ["l-2-1"]
        # a cursor of one is none of the other
        status, _ = await it.call("GET", path, cursor=first["next"], search="book")
        assert status == 422
        # and what there is can be asked, with the fields that take it
        _, offered = await it.call("GET", "/connections/depot/choices")
        assert offered == {
            "shelves": ["depot.put.shelf", "depot.put.also", "depot.pack.parcels.shelf"],
            "lanes": ["depot.move.lane", "depot.pack.parcels.lane"],
            "spots": ["depot.move.spot", "depot.pack.parcels.spot"],
        }


async def test_what_is_kept_ends_after_five_minutes_and_is_bounded(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url) as it:
        now = 0.0
        choosing = Choosing(it.hub.connections, it.hub.plugins.catalogue, it.hub.limits, now=lambda: now)
        await choosing.page("depot", "lanes")
        now = 299.0
        await choosing.page("depot", "lanes")
        assert len(it.sandbox.asked) == 1
        now = 301.0
        await choosing.page("depot", "lanes")
        assert len(it.sandbox.asked) == 2
        for n in range(500):
            await choosing.page("depot", "lanes", search=f"nothing {n}")
        await choosing.page("depot", "lanes")
        assert len(it.sandbox.asked) == 503


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/connections/depot/choices/shelfs", "did you mean shelves?"),
        ("/connections/depot/choices/spots", "depend on lane"),
        ("/connections/depot/choices/lanes?within=lane=main", "depend on nothing"),
        ("/connections/depot/choices/lanes?within=lane", "FIELD=ID"),
        ("/connections/acme/choices/lists", "acme has no lists"),
    ],
)
async def test_wrong_questions_are_answered_with_what_there_is(
    warehouse: Callable[..., Any], sqlite_url: str, path: str, word: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        status, said = await it.call("GET", path)
        assert (status, word in said["detail"]) == (422, True), said
        assert it.sandbox.asked == []


async def test_a_vendor_that_is_away_or_refuses_is_said_so(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        it.sandbox.status = 503
        assert (await it.call("GET", "/connections/depot/choices/lanes"))[0] == 502
        # refused credentials are noted as after any call
        it.sandbox.status = 401
        assert (await it.call("GET", "/connections/depot/choices/lanes"))[0] == 502
        _, found = await it.call("GET", "/connections/depot")
        assert found["health"] == "needs re-authorisation"


async def test_a_plugin_whose_choices_fail_is_named(
    warehouse: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise KeyError("secret words")

    monkeypatch.setitem(depot.choices, "lanes", broken)
    async with warehouse(sqlite_url, work=False) as it:
        status, said = await it.call("GET", "/connections/depot/choices/lanes")
        assert (status, "plugin depot" in said["detail"], "secret" in said["detail"]) == (422, True, False)


# -- writing the label -------------------------------------------------------------------------------------------------


async def test_a_label_is_shown_with_its_id_and_published_as_the_id(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url) as it:
        source = _put("toys", ', also: ["Games", "OLD GAMES", "s-2", "{{ trigger.id }}"]')
        plan = await _planned(it, source)
        assert [(pin.field, pin.written, pin.id, pin.label) for pin in plan.choices] == [
            ("shelf", "toys", "s-4", "toys"),
            ("also", "Games", "Games", "Old games"),
            ("also", "OLD GAMES", "Games", "Old games"),
            ("also", "s-2", "s-2", "Books"),
        ]
        assert (plan.state, plan.calls[0].input["shelf"]) == (State.NEW, "s-4")
        # planning has changed nothing; publishing pins, and the text stays
        assert await it.hub.library.published_definition("keep") is None
        await it.hub.library.apply(source, publish=True)
        assert (await _with(it))["shelf"] == "s-4"
        assert (await _with(it))["also"] == ["Games", "Games", "s-2", "{{ trigger.id }}"]
        assert "toys" in await it.hub.library.source("keep")
        # what runs is the id
        await it.deliver("ordered", {"id": "o-1"})
        await it.rest()
        assert it.sandbox.log[0].data == {"what": "o-1", "shelf": "s-4", "also": ["Games", "Games", "s-2", "o-1"]}
        # the same label again changes nothing
        assert (await it.hub.library.apply(source, publish=True)).unchanged
        assert (await _planned(it, source)).state is State.UNCHANGED


async def test_what_depends_on_another_choice_is_found_within_it(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url) as it:
        await it.hub.library.apply(MOVE.format(given="spot: first, lane: Second lane"), publish=True)
        assert (await _with(it))["spot"] == "l-2-1"
        assert (await _with(it))["lane"] == "l-2"
        # a default counts, a template leaves it open
        await it.hub.library.apply(MOVE.format(given="spot: First"), publish=True)
        assert (await _with(it))["spot"] == "main-1"
        plan = await _planned(it, MOVE.format(given='spot: First, lane: "{{ trigger.id }}"'))
        assert [(pin.id, pin.unchecked is not None) for pin in plan.choices] == [("First", True)]
        assert any("move takes First for an id of its spots unchecked" in warning for warning in plan.warnings)


PACK = """
recipe: keep
on: {{event: depot.ordered}}
steps:
  - {{do: depot.pack, id: pack, with: {{what: "{{{{ trigger.id }}}}", parcels: {parcels}}}}}
"""


async def test_a_label_in_a_list_of_models_is_found_each_within_its_own(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url) as it:
        parcels = '[{shelf: toys}, {spot: first, lane: Second lane}, {spot: First}, {shelf: "{{ trigger.id }}"}]'
        await it.hub.library.apply(PACK.format(parcels=parcels), publish=True)
        pinned = [{"shelf": "s-4"}, {"spot": "l-2-1", "lane": "l-2"}, {"spot": "main-1"}, {"shelf": "{{ trigger.id }}"}]
        assert (await _with(it))["parcels"] == pinned
        # what is wrong is said where it stands
        with pytest.raises(RecipeErrors, match=r"no Tois among its shelves") as refused:
            await it.hub.library.apply(PACK.format(parcels="[{shelf: toys}, {shelf: Tois}]"), publish=True)
        assert refused.value.errors[0].path.endswith("with/parcels/1/shelf")


@pytest.mark.parametrize(
    ("shelf", "words"),
    [
        ("Books", ["2 shelves called Books", "s-2 (ground floor)", "s-3 (cellar)", "write the id"]),
        ("BOOKS", ["2 shelves called BOOKS"]),
        ("Tois", ["no Tois among its shelves", "did you mean", "Toys", "`hub connections choices depot shelves`"]),
        ("TOYS", ["2 shelves called TOYS", "s-1 (12 things), s-4"]),
    ],
)
async def test_a_label_that_says_not_which_is_refused_with_what_there_is(
    warehouse: Callable[..., Any], sqlite_url: str, shelf: str, words: list[str]
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        plan = await _planned(it, _put(shelf))
        assert plan.state is State.REFUSED
        assert plan.errors[0].path == "steps/0/with/shelf"
        for word in words:
            assert word in plan.errors[0].reason
        with pytest.raises(RecipeErrors, match=words[0]):
            await it.hub.library.apply(_put(shelf), publish=True)


async def test_what_was_made_a_moment_ago_is_found(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        assert (await _planned(it, _put("New"))).state is State.REFUSED
        it.sandbox.choices["shelves"].append({"id": "s-9", "label": "New"})
        assert (await _planned(it, _put("New"))).choices[0].id == "s-9"


async def test_of_too_many_to_read_the_vendors_search_finds_it(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        it.sandbox.choices["shelves"] = [{"id": f"s-{n}", "label": f"Shelf {n}"} for n in range(400)]
        it.sandbox.choices["shelves"] += [{"id": "s-last", "label": "The very last"}]
        plan = await _planned(it, _put("The very last", ", also: [s-399]"))
        # fifty pages are read, and not a hundred
        assert len(it.sandbox.asked) < 60
        assert [(pin.id, pin.label) for pin in plan.choices] == [("s-last", "The very last"), ("s-399", None)]
        assert any("more than" in warning for warning in plan.warnings)


async def test_what_was_made_a_moment_ago_is_found_among_too_many_to_read(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        it.sandbox.choices["shelves"] = [{"id": f"s-{n}", "label": f"Shelf {n}"} for n in range(400)]
        [pin] = (await _planned(it, _put("Brand new"))).choices
        assert (pin.id, pin.unchecked is not None) == ("Brand new", True)
        # when it is made, and looked for again before what was kept is old
        it.sandbox.choices["shelves"].append({"id": "s-new", "label": "Brand new"})
        asked = len(it.sandbox.asked)
        await it.hub.library.apply(_put("Brand new"), publish=True)
        # then its id is published, and only the search was asked again
        assert (await _with(it))["shelf"] == "s-new"
        assert len(it.sandbox.asked) - asked < 5


async def test_while_the_vendor_is_away_only_what_was_published_before_is_taken(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url, work=False) as it:
        await it.hub.library.apply(_put("Toys"), publish=True)
        it.sandbox.status = 503
        it.hub.library.choosing = Choosing(it.hub.connections, it.hub.plugins.catalogue, it.hub.limits)
        # an id that stands there is good without a question
        asked = len(it.sandbox.asked)
        changed = _put("s-1") + "  - {wait: 1h}\n"
        assert [(pin.id, pin.label) for pin in (await _planned(it, changed)).choices] == [("s-1", None)]
        assert (await it.hub.library.apply(changed, publish=True)).version == 2
        assert len(it.sandbox.asked) == asked
        # another one cannot be looked up, nor can a label
        for shelf in ("s-2", "Toys"):
            plan = await _planned(it, _put(shelf))
            assert (plan.state, "depot could not be asked" in plan.errors[0].reason) == (State.REFUSED, True)
            with pytest.raises(RecipeErrors, match="could not be asked"):
                await it.hub.library.apply(_put(shelf), publish=True)


async def test_checking_asks_nobody_and_a_draft_keeps_the_label(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        it.sandbox.status = 503
        recipe = load(_put("Nobody knows this"), it.hub.plugins.catalogue)
        assert recipe.definition["steps"][0]["with"]["shelf"] == "Nobody knows this"
        await it.hub.library.apply(_put("Nobody knows this"))
        status, _ = await it.call("POST", "/validate", {"source": _put("Nobody knows this")})
        assert (status, it.sandbox.asked) == (200, [])
        async with it.hub.store.read() as c:
            assert await stored.live(c) == []


async def test_the_plan_of_the_api_tells_choices(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        status, plan = await it.call("POST", "/plan", {"recipes": [_put("Toys")]})
        assert (status, plan["recipes"][0]["choices"]) == (
            200,
            [
                {
                    "step": "put",
                    "field": "shelf",
                    "connection": "depot",
                    "choices": "shelves",
                    "written": "Toys",
                    "id": "s-1",
                    "label": "Toys",
                    "unchecked": None,
                }
            ],
        )
