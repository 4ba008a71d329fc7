"""Binding recipes to connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hub.errors import RecipeErrors
from hub.recipes import bind
from tests.unit.language import CATALOGUE, SEND, loaded, text_of


def bound(source: str, connections: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return bind(loaded(source).definition, CATALOGUE, connections)


def refused(source: str, connections: Mapping[str, Sequence[str]]) -> str:
    with pytest.raises(RecipeErrors) as caught:
        bound(source, connections)
    return str(caught.value)


STEPS = f"- {{{SEND}}}"


def test_one_connection_needs_no_line() -> None:
    definition = bound(text_of(STEPS), {"acme": ["main"]})
    assert definition["steps"][0]["action"] == "acme.send"
    assert definition["steps"][0]["connection"] == "main"
    assert definition["on"][0]["types"] == ["acme.order_paid"]
    assert definition["on"][0]["from"] == ["main"]


def test_the_definition_given_is_not_changed() -> None:
    definition = loaded(text_of(STEPS)).definition
    bind(definition, CATALOGUE, {"acme": ["main"]})
    assert "connection" not in definition["steps"][0]


def test_several_without_a_line_are_refused_with_their_names() -> None:
    message = refused(text_of(STEPS), {"acme": ["main"], "post": ["mail"]})
    assert "steps/0: sms.send could use mail, main; add a line such as connections: {sms.send: mail}" in message
    message = refused(text_of("- {do: acme.tag}"), {"acme": ["a", "b"]})
    assert "on/0: acme.order_paid could use a, b" in message
    assert "steps/0: acme.tag could use a, b; add a line such as connections: {acme: a}" in message


@pytest.mark.parametrize("line", ["{sms.send: mail, acme: main}", "{post: mail}"])
def test_a_line_names_the_connection_of_a_capability_or_connector(line: str) -> None:
    definition = bound(text_of(STEPS, f"connections: {line}"), {"acme": ["main"], "post": ["mail"]})
    assert definition["steps"][0]["action"] == "post.send"
    assert definition["steps"][0]["connection"] == "mail"


def test_a_line_for_the_connector_binds_its_events_too() -> None:
    definition = bound(text_of("- {do: acme.tag}", "connections: {acme: b}"), {"acme": ["a", "b"]})
    assert definition["on"][0]["from"] == ["b"]
    assert definition["steps"][0]["connection"] == "b"


def test_an_event_may_come_from_several_connections() -> None:
    on = "{event: acme.order_paid, from: [a, b]}"
    assert bound(text_of("- {wait: 1h}", on=on), {"acme": ["a", "b", "c"]})["on"][0]["from"] == ["a", "b"]


def test_what_is_missing_is_told_with_how_to_add_it() -> None:
    message = refused(text_of(STEPS, "exit_on: [{event: sms.received}]"), {})
    assert "on/0: acme.order_paid has no connection; add one with hub connections add acme" in message
    assert "steps/0: sms.send has no connection; add one with hub connections add acme or post" in message
    assert "exit_on/0: sms.received has no connection; add one with hub connections add acme or post" in message


def test_a_line_or_from_that_names_nothing_is_told_what_is_near() -> None:
    message = refused(text_of("- {wait: 1h}", "connections: {acme: shop-rt}"), {"acme": ["shop-tr"]})
    assert "acme.order_paid has no connection shop-rt; did you mean shop-tr?; there are shop-tr" in message
    on = "{event: acme.order_paid, from: shop-rt}"
    message = refused(text_of("- {wait: 1h}", on=on), {"acme": ["shop-tr"]})
    assert "on/0/from: acme.order_paid has no connection shop-rt; did you mean shop-tr?" in message


def test_exits_and_answers_come_by_the_events_of_connected_connectors() -> None:
    steps = "- {wait_for: {said: {event: sms.received}}, timeout: 1d}"
    source = text_of(steps, "exit_on: [{event: sms.received}]")
    definition = bound(source, {"acme": ["main"]})
    assert definition["exit_on"][0]["types"] == ["acme.replied"]
    assert definition["steps"][0]["types"] == {"said": ["acme.replied"]}
    definition = bound(source, {"acme": ["main"], "post": ["x", "y"]})
    assert definition["steps"][0]["types"] == {"said": ["acme.replied", "post.replied"]}


def test_an_event_capability_starts_by_the_connector_that_is_bound() -> None:
    on = "{event: sms.received}"
    assert bound(text_of("- {wait: 1h}", on=on), {"post": ["mail"]})["on"][0]["types"] == ["post.replied"]
    message = refused(text_of("- {wait: 1h}", on=on), {"post": ["mail"], "acme": ["main"]})
    assert "sms.received could use mail, main" in message
