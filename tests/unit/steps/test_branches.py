"""`if`, `choose`, `set` and `stop`."""

from __future__ import annotations

import pytest

from hub.engine import ContactChange, Finish
from hub.events import Json
from tests.unit.language import CONTACT, Played, happened, mistakes, program_of, text_of


def ended_by(steps: str, **trigger: Json) -> str:
    return str(Played(program_of(steps), trigger=happened(**trigger)).starts().ended_by)


@pytest.mark.parametrize(("paid", "way"), [(True, "yes"), (False, "no"), (None, "no")])
def test_if_takes_one_way_and_unknown_is_not_true(paid: bool | None, way: str) -> None:
    steps = "- {if: {trigger.paid: true}, then: [{stop: yes}], else: [{stop: no}]}"
    assert ended_by(steps, paid=paid) == way


def test_without_else_the_run_goes_on() -> None:
    steps = "- {if: {trigger.paid: true}, then: [{stop: yes}]}\n- {stop: after}"
    assert ended_by(steps, paid=False) == "after"


def test_the_reason_of_a_branch_is_on_record() -> None:
    run = Played(
        program_of("- {if: {trigger.count: {gt: 2}}, then: [{stop: yes}], as: big}"), trigger=happened(count=1)
    )
    run.starts()
    assert (run.trail[0].outcome, run.trail[0].reason) == ("else", "trigger.count 1 is not above 2")
    assert run.state.ctx["steps"]["big"] == {"outcome": "else"}


def test_on_unknown_stop_ends_the_run_where_a_condition_is_unknown() -> None:
    steps = "- {if: {trigger.paid: true}, then: [{stop: yes}], on_unknown: stop}\n- {stop: after}"
    assert ended_by(steps, paid=False) == "after"
    assert ended_by(steps, paid=None) == "unknown"
    steps = "- {choose: [{if: {trigger.paid: true}, then: []}, {else: []}], on_unknown: stop}\n- {stop: after}"
    assert ended_by(steps, paid=None) == "unknown"


CHOOSE = """
- choose:
    - {if: {trigger.count: {gt: 10}}, then: [{stop: many}]}
    - {if: {trigger.count: {gt: 5}}, then: [{stop: some}]}
    - {else: [{stop: few}]}
"""


@pytest.mark.parametrize(("count", "way"), [(11, "many"), (7, "some"), (1, "few"), (None, "few")])
def test_choose_takes_the_first_way_that_is_true(count: int | None, way: str) -> None:
    assert ended_by(CHOOSE, count=count) == way


def test_choose_without_else_goes_on() -> None:
    assert ended_by("- {choose: [{if: {trigger.count: 1}, then: [{stop: a}]}]}\n- {stop: after}", count=2) == "after"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("choose: []", "steps/0/choose: this is empty"),
        ("choose: [{else: []}, {if: {trigger.paid: true}, then: []}]", "steps/0/choose: else comes last and once"),
        ("choose: [{if: {trigger.paid: true}}]", "steps/0/choose/0: then is missing"),
        ("choose: [{if: {trigger.payed: true}, then: []}]", "steps/0/choose/0/if/trigger.payed: trigger has no payed"),
        ("if: {trigger.paid: true}", "steps/0: then is missing"),
        ("if: [a], then: []", "steps/0/if: a mapping is expected"),
        ("if: {trigger.paid: true}, then: {stop: x}", "steps/0/then: a list of steps is expected"),
        ("set: {}", "steps/0/set: this is empty"),
        ("set: {contact.email: x}", "contact.email cannot be set; there are contact.tags and contact.attributes.NAME"),
        ("set: {contact.attributes: {a: b}}", "contact.attributes cannot be set"),
        ("set: {contact.tags: vip}", "tags are changed as contact.tags: {add: loyal}"),
        ("set: {contact.tags: {add: vip, set: x}}", "tags are changed as contact.tags: {add: loyal}"),
        ("set: {contact.tags: {add: 5}}", "a tag is text, or a list of texts"),
        ('set: {contact.attributes.x: "{{ trigger.nothing }}"}', "trigger has no nothing"),
        ("stop: failed", "a run that ends as failed does so by itself"),
        ("stop: Not A Word", "'Not A Word' is no name"),
    ],
)
def test_a_mistake_is_told_when_the_recipe_is_saved(step: str, expected: str) -> None:
    assert expected in mistakes(text_of(f"- {{{step}}}"))[0]


def test_set_changes_the_contact_and_the_next_step_sees_it() -> None:
    steps = """
    - set: {contact.tags: {add: [loyal, new], remove: vip}, contact.attributes.phase: "{{ trigger.status }}"}
    - if: {all: [{contact.tags: {contains: loyal}}, {not: {contact.tags: {contains: vip}}}, {contact.attributes.phase: paid}]}
      then: [{stop: seen}]
    """
    run = Played(program_of(steps), trigger=happened(status="paid"))
    assert run.starts().ended_by == "seen"
    assert run.changes == [
        ContactChange("tags", "add", "loyal"),
        ContactChange("tags", "add", "new"),
        ContactChange("tags", "remove", "vip"),
        ContactChange("attributes.phase", "set", "paid"),
    ]
    assert CONTACT["tags"] == ["vip"]


def test_set_without_a_contact_changes_nothing() -> None:
    run = Played(program_of("- {set: {contact.tags: {add: loyal}}}"), contact=None)
    assert run.starts().status == "done"
    assert run.changes == []
    assert run.trail[0].outcome == "no_contact"


def test_stop_ends_the_run_under_its_word() -> None:
    run = Played(program_of("- {stop: engaged}", "on_end: [{do: acme.tag}]"))
    assert run.starts().action == "acme.tag"
    assert run.done() == Finish("engaged", "done", "stopped: engaged")
