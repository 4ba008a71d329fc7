"""Conditions in people's words: what would have to be so."""

from __future__ import annotations

from collections.abc import Mapping

from hub.conditions import PHRASES, WORDS, operators, show
from hub.events import Json


def in_words(condition: Json) -> str:
    """A condition as a sentence without its beginning: `event.total is at least 50.00 EUR and contact.phone is known`."""
    if not isinstance(condition, Mapping):
        return show(condition)
    return " and ".join(_clause(str(key), value) for key, value in condition.items()) or "always"


def _clause(key: str, value: Json) -> str:
    if key not in WORDS:
        return " and ".join(_test(key, name, expected) for name, expected in operators(value))
    if key == "not":
        return f"not ({in_words(value)})"
    if key == "any_item" and isinstance(value, Mapping):
        inner = {name: part for name, part in value.items() if name != "in"}
        return f"one of {value.get('in')} has: {in_words(inner)}"
    parts = [in_words(part) for part in value] if isinstance(value, list) else [in_words(value)]
    joint = " or " if key == "any" else " and "
    return f"({joint.join(parts)})" if len(parts) > 1 else joint.join(parts)


def _test(path: str, name: str, expected: Json) -> str:
    if name in ("exists", "unknown"):
        known = (name == "exists") is (expected is not False)
        return f"{path} is {'' if known else 'not '}known"
    given = ", ".join(map(show, expected)) if name == "in" and isinstance(expected, list) else show(expected)
    return f"{path} {PHRASES.get(name, (name, name))[0]} {given}"
