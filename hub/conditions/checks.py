"""Checking a condition before it ever runs: its words and operators, its paths, and values of the right kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hub.catalogue import nearest
from hub.conditions import OPERATORS, WORDS, compare, operators, pattern
from hub.events import Json, Money
from hub.shapes import Shape

Place = tuple[str | int, ...]
Report = Callable[[str, Place], None]

_LATER = ("events", "messages", "segment", "score", "first", "last")
_ORDERS = ("gt", "gte", "lt", "lte")
_ABSENCE = ("exists", "unknown")
_TAKES = {
    "money": ("eq", "ne", "in", *_ORDERS),
    "number": ("eq", "ne", "in", *_ORDERS),
    "time": ("eq", "ne", "in", "starts_with", *_ORDERS),
    "boolean": ("eq", "ne"),
    "string": ("eq", "ne", "in", "contains", "starts_with", "matches", *_ORDERS),
    "array": ("contains",),
    "object": (),
}


class Look(Protocol):
    """Finds the shape of a path, or reports why there is none and returns None."""

    def __call__(self, path: str, place: Place) -> Shape | None: ...


def check(condition: Json, look: Look, report: Report, place: Place, *, in_item: bool = False) -> None:
    """Report everything that is wrong with a condition. Values that are templates are left to the caller.

    Paths begin with a name of the scope (`event.total`), those of an item (`in_item`) with a field.
    """
    if not isinstance(condition, Mapping) or not condition:
        report('a condition is written as {event.total: {gte: "50.00 EUR"}}', place)
        return
    for key, value in condition.items():
        here = (*place, key)
        if key in WORDS:
            _check_word(key, value, look, report, here, in_item)
        elif key in _LATER and not in_item:
            report(f"{key} is not part of this release; a condition has paths, {', '.join(WORDS)}", here)
        elif "." not in key and key != "now" and not in_item:
            known = (*WORDS, *OPERATORS)
            report(f"{key} is no path{nearest(key, known)}; a path looks like event.total or contact.email", here)
        elif (shape := look(key, here)) is not None:
            _check_tests(key, value, shape, report, here)


def _check_word(key: str, value: Json, look: Look, report: Report, place: Place, in_item: bool) -> None:
    if key == "not":
        check(value, look, report, place, in_item=in_item)
    elif key == "any_item":
        _check_any_item(value, look, report, place)
    elif not isinstance(value, list) or not value:
        report(f"{key} takes a list of conditions", place)
    else:
        for index, part in enumerate(value):
            check(part, look, report, (*place, index), in_item=in_item)


def _check_any_item(value: Json, look: Look, report: Report, place: Place) -> None:
    if not isinstance(value, Mapping) or not isinstance(value.get("in"), str) or len(value) < 2:
        report("any_item is written as {any_item: {in: event.line_items, category: TV}}", place)
        return
    shape = look(value["in"], (*place, "in"))
    if shape is None:
        return
    if shape.kinds() and "array" not in shape.kinds():
        report(f"{value['in']} is no list", (*place, "in"))
        return
    item = shape.child("0") or Shape()

    def look_inside(path: str, place: Place) -> Shape | None:
        return follow(item, path.split("."), "an item", report, place)

    check({k: part for k, part in value.items() if k != "in"}, look_inside, report, place, in_item=True)


def follow(shape: Shape, segments: Sequence[str], whose: str, report: Report, place: Place) -> Shape | None:
    """The shape at the end of a path below `shape`; reports the first segment that leads nowhere."""
    for segment in segments:
        below = shape.child(segment)
        if below is None:
            names = shape.names()
            has = f"it has {', '.join(names)}" if names else "it has no fields"
            report(f"{whose} has no {segment}{nearest(segment, names)}; {has}", place)
            return None
        shape, whose = below, f"{whose}.{segment}"
    return shape


def _check_tests(path: str, value: Json, shape: Shape, report: Report, place: Place) -> None:
    if isinstance(value, list):
        report(f"write {path}: {{in: [...]}}", place)
        return
    if isinstance(value, Mapping) and not value:
        report(f"say what {path} is compared with", place)
        return
    for name, expected in operators(value):
        here = (*place, name) if isinstance(value, Mapping) else place
        if name not in OPERATORS:
            report(f"{name} is no operator{nearest(name, OPERATORS)}; there are {', '.join(OPERATORS)}", here)
        elif problem := _problem(path, name, expected, shape):
            report(problem, here)


def _problem(path: str, name: str, expected: Json, shape: Shape) -> str | None:
    """What is wrong with one operator and its value for a path of this shape."""
    if name in _ABSENCE:
        return None if isinstance(expected, bool) else f"{name} takes true or false"
    kinds = shape.kinds()
    if kinds and not any(name in _TAKES.get(kind, ()) for kind in kinds):
        taken = sorted({operator for kind in kinds for operator in _TAKES.get(kind, ())} | set(_ABSENCE))
        return f"{path} is {_described(kinds)}, which {name} does not fit; use {', '.join(taken)}"
    if isinstance(expected, str) and ("{{" in expected or "{%" in expected):
        return None
    if name == "in":
        if not isinstance(expected, list) or not expected:
            return "in takes a list of values"
        return next(filter(None, (_problem(path, "eq", one, shape) for one in expected)), None)
    if name == "matches":
        return _problem_of_pattern(expected)
    if name in ("contains", "starts_with") and "array" not in kinds:
        return (
            None if isinstance(expected, str) or not kinds else f"{name} takes text here; put quotes around {expected}"
        )
    if name == "contains":
        items = shape.child("0") or Shape()
        return _problem(path, "eq", expected, items) if items.kinds() else None
    return _problem_of_value(path, name, expected, shape)


def _problem_of_pattern(expected: Json) -> str | None:
    if not isinstance(expected, str):
        return "matches takes a pattern as text"
    try:
        pattern(expected)
    except ValueError as error:
        return f"{expected!r} is no pattern that can be used: {error}"
    return None


_EXAMPLES = {
    "money": '"50.00 EUR"',
    "number": "5",
    "time": '"2026-11-22T10:00:00Z"',
    "boolean": "true",
    "string": "text",
}


def _problem_of_value(path: str, name: str, expected: Json, shape: Shape) -> str | None:
    kinds = shape.kinds()
    if expected is None:
        return f"write {path}: unknown to ask whether nothing is known"
    if isinstance(expected, Mapping | list):
        return f"{name} takes one value"
    if name in _ORDERS and compare(expected, expected) is None:
        return f"{name} needs something with an order: {', '.join(_EXAMPLES[k] for k in ('money', 'number', 'time'))}"
    if name in _ORDERS and isinstance(expected, str) and not kinds - {"string"} and not _has_order(expected):
        return f"{name} needs money, a number or a time, not the text {expected!r}"
    if kinds == {"string"} and name not in _ORDERS and isinstance(expected, int | float):
        return f"{path} is text; put quotes around {str(expected).lower()}"
    if kinds and not any(_fits(kind, expected) for kind in kinds):
        wanted = " or ".join(_EXAMPLES[kind] for kind in sorted(kinds) if kind in _EXAMPLES)
        return f"{path} is {_described(kinds)}; compare it with {wanted}, not {expected!r}"
    choices = shape.choices()
    if name in ("eq", "ne") and choices and expected not in choices:
        words = [str(choice) for choice in choices]
        return f"{path} is never {expected!r}{nearest(str(expected), words)}; it is one of {', '.join(words)}"
    return None


def _has_order(text: str) -> bool:
    # Anything that can be compared with another number, amount or time of its kind.
    others = ("0", f"0 {text.rpartition(' ')[2]}", "2000-01-01T00:00:00Z", "2000-01-01")
    return any(compare(text, other) is not None for other in others)


def _fits(kind: str, expected: Json) -> bool:
    if kind == "boolean":
        return isinstance(expected, bool)
    if kind == "money":
        try:
            return isinstance(expected, str) and bool(Money.parse(expected))
        except ValueError:
            return False
    if kind == "number":
        return not isinstance(expected, bool) and compare(expected, 0) is not None
    if kind == "time":
        return isinstance(expected, str) and compare(expected, "2000-01-01T00:00:00Z") is not None
    # Vendors write numbers as text, so that a text may be compared with one by its size.
    return kind == "string" and not isinstance(expected, bool)


def _described(kinds: frozenset[str]) -> str:
    words = {"array": "a list", "object": "a mapping", "boolean": "true or false", "string": "text", "time": "a time"}
    return " or ".join(words.get(kind, f"a {kind}" if kind != "money" else kind) for kind in sorted(kinds))


def implied_values(condition: Json, path: str) -> frozenset[Json] | None:
    """The values that `path` can have where a condition is true, or None when it says nothing about it."""
    if not isinstance(condition, Mapping):
        return None
    for key, value in condition.items():
        if key == path:
            for name, expected in operators(value):
                if name == "eq":
                    return frozenset([expected])
                if name == "in" and isinstance(expected, list):
                    return frozenset(expected)
        if key == "all" and isinstance(value, list):
            for part in value:
                if (found := implied_values(part, path)) is not None:
                    return found
    return None


def implied_existing(condition: Json) -> frozenset[str]:
    """The paths that certainly have a value where a condition is true."""
    found: set[str] = set()
    for key, value in condition.items() if isinstance(condition, Mapping) else ():
        if key == "all" and isinstance(value, list):
            found |= {path for part in value for path in implied_existing(part)}
        elif key not in WORDS and any(
            (name == "exists" and expected is not False) or name not in _ABSENCE for name, expected in operators(value)
        ):
            found.add(key)
    return frozenset(found)
