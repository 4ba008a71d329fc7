"""Step ids over versions: a run must find the step it stands on, and never another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import RecipeErrors
from hub.recipes import bind
from hub.recipes.ids import every_step
from tests.unit.language import CATALOGUE, CONNECTIONS, loaded, text_of


def published(steps: str) -> dict[str, Any]:
    """What the store keeps of a version: bound, and once through JSON."""
    bound: dict[str, Any] = json.loads(json.dumps(bind(loaded(text_of(steps)).definition, CATALOGUE, CONNECTIONS)))
    return bound


def ids(steps: str, previous: dict[str, Any] | None = None) -> list[str]:
    definition = loaded(text_of(steps), previous=previous).definition
    return [one.raw["id"] for one in every_step(definition)]


FIRST = "- {wait: 1h}\n- {do: acme.tag}\n- {wait: 2h}\n- {if: {trigger.paid: true}, then: [{wait: 3h}]}"


def test_new_steps_are_counted_by_kind() -> None:
    assert ids(FIRST) == ["wait-1", "do-1", "wait-2", "if-1", "wait-3"]


def test_the_same_recipe_again_keeps_every_id() -> None:
    assert ids(FIRST, published(FIRST)) == ids(FIRST)


def test_steps_that_moved_keep_their_ids() -> None:
    moved = "- {wait: 2h}\n- {wait: 1h}\n- {do: acme.tag}\n- {if: {trigger.paid: true}, then: [{wait: 3h}]}"
    assert ids(moved, published(FIRST)) == ["wait-2", "wait-1", "do-1", "if-1", "wait-3"]


def test_a_changed_step_in_its_old_place_keeps_its_id() -> None:
    changed = FIRST.replace("2h", "5h")
    assert ids(changed, published(FIRST)) == ["wait-1", "do-1", "wait-2", "if-1", "wait-3"]


def test_an_inserted_step_gets_a_new_id_and_moves_none() -> None:
    inserted = "- {wait: 9h}\n" + FIRST
    assert ids(inserted, published(FIRST)) == ["wait-4", "wait-1", "do-1", "wait-2", "if-1", "wait-3"]


def test_an_id_of_a_removed_step_is_not_given_to_another() -> None:
    without = "- {do: acme.tag}\n- {do: acme.coupon, with: {percentage: 5}}"
    found = ids(without, published("- {do: acme.tag}\n- {wait: 1h}"))
    assert found == ["do-1", "do-2"]
    added = ids("- {wait: 7h}\n- {wait: 8h}\n- {wait: 9h}", published(without))
    assert added == ["wait-1", "wait-2", "wait-3"]


def test_written_ids_and_names_are_kept() -> None:
    assert ids("- {wait: 1h, id: pause}\n- {do: acme.tag, as: tagged}") == ["pause", "tagged"]
    assert ids("- {wait: 1h, id: wait-1}\n- {wait: 2h}") == ["wait-1", "wait-2"]


def test_a_step_that_loses_its_written_id_keeps_it() -> None:
    assert ids("- {wait: 1h}", published("- {wait: 1h, id: pause}")) == ["pause"]


def test_an_id_never_changes_its_kind() -> None:
    with pytest.raises(RecipeErrors, match="pause was a wait step in the published version; choose another id"):
        ids("- {do: acme.tag, id: pause}", published("- {wait: 1h, id: pause}"))


step_texts = st.sampled_from(
    [
        "{wait: 1h}",
        "{wait: 2h}",
        "{do: acme.tag}",
        "{set: {contact.tags: {add: a}}}",
        "{if: {trigger.paid: true}, then: [{wait: 1h}, {do: acme.tag}]}",
        "{if: {trigger.paid: true}, then: []}",
    ]
)
recipes = st.lists(step_texts, min_size=1, max_size=6).map(lambda steps: "\n".join(f"- {step}" for step in steps))


@given(recipes, recipes)
def test_ids_are_unique_and_keep_their_kind_over_any_edit(before: str, after: str) -> None:
    # given a published version, and another one after it
    old = published(before)
    kinds = {one.raw["id"]: one.kind for one in every_step(old)}
    # when that is saved
    steps = list(every_step(loaded(text_of(after), previous=old).definition))
    # then every id is there once, and one that was there before is a step of the same kind
    found = [one.raw["id"] for one in steps]
    assert len(set(found)) == len(found)
    assert all(kinds.get(one.raw["id"], one.kind) == one.kind for one in steps)


def test_a_step_that_stays_keeps_its_id_though_the_same_one_is_written_before_it() -> None:
    before = "- {do: acme.tag}\n- {wait: 1h}"
    again = "- {if: {trigger.paid: true}, then: [{wait: 1h}]}\n- {wait: 1h}"
    assert ids(again, published(before)) == ["if-1", "wait-2", "wait-1"]
