"""Conditions: data, never code, with three values: judging them. An operator is one function in `OPERATORS`, a word one in `WORDS`.

Everything is judged against plain JSON values; templates inside a condition are rendered before they come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from hub.clock import parse_time_ms
from hub.events import Json, Money

MAX_PATTERN = 200
MAX_MATCHED = 10_000


class Truth(Enum):
    """True, false, or we were not there to see (Kleene's logic)."""

    FALSE = 0
    UNKNOWN = 1
    TRUE = 2

    def __and__(self, other: Truth) -> Truth:
        return min(self, other, key=lambda t: t.value)

    def __or__(self, other: Truth) -> Truth:
        return max(self, other, key=lambda t: t.value)

    def __invert__(self) -> Truth:
        return Truth(2 - self.value)


@dataclass(frozen=True)
class Judgement:
    """A truth and the clause that decided it, with its values, for people. No e-mail or phone is in `reason`."""

    truth: Truth
    reason: str


MISSING = object()
"""What a path leads to when nothing is there."""


def resolve(path: str | Sequence[str], scope: Json) -> Json:
    """What a dotted path leads to in JSON values: MISSING when nothing is there, null included as None.

    `first`, `last` and `size` work as in text templates; nothing else of a value can be reached.
    """
    value = scope
    for segment in path.split(".") if isinstance(path, str) else path:
        if isinstance(value, Mapping):
            if segment in value:
                value = value[segment]
            elif segment == "size":
                value = len(value)
            else:
                return MISSING
        elif isinstance(value, list):
            value = _item(value, segment)
        elif isinstance(value, str) and segment == "size":
            value = len(value)
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


def _item(items: list[Json], segment: str) -> Json:
    if segment == "size":
        return len(items)
    index = {"first": "0", "last": "-1"}.get(segment, segment)
    if not index.removeprefix("-").isdecimal() or len(index) > 9:
        return MISSING
    return items[int(index)] if -len(items) <= int(index) < len(items) else MISSING


def judge(condition: Json, scope: Mapping[str, Json]) -> Judgement:
    """Whether a condition holds. A value that is not there makes it unknown, never an error."""
    return _judge(condition, scope)


def _judge(condition: Json, scope: Json) -> Judgement:
    if not isinstance(condition, Mapping):
        return Judgement(Truth.UNKNOWN, "this is no condition")
    return _all([_clause(key, value, scope) for key, value in condition.items()])


def _clause(key: str, value: Json, scope: Json) -> Judgement:
    word = WORDS.get(key)
    if word:
        return word(value, scope)
    actual = resolve(key, scope)
    return _all([_test(key, actual, name, expected) for name, expected in operators(value)])


def required_texts(condition: Json) -> dict[str, str]:
    """The texts that must stand at paths, letter for letter, or the condition is not true: path to text.

    Texts that are equal to others as well (times, numbers, money, addresses in other letters) are left out.
    """
    if not isinstance(condition, Mapping):
        return {}
    equal = {key: value.get("eq") if isinstance(value, Mapping) else value for key, value in condition.items()}
    return {key: text for key, text in equal.items() if key not in WORDS and isinstance(text, str) and _is_plain(text)}


def _is_plain(text: str) -> bool:
    """Whether a text equals no other value than itself."""
    kinds = (_money, _time_ms, _day, _number)
    return text not in _ABOUT_ABSENCE and "@" not in text and all(kind(text) is None for kind in kinds)


def operators(value: Json) -> Iterator[tuple[str, Json]]:
    """The (operator, expected) pairs of a clause's right side, short forms written out."""
    if value == "exists" or value == "unknown":
        yield value, True
    elif isinstance(value, Mapping) and "amount_minor" not in value:
        yield from value.items()
    else:
        yield "eq", value


def _test(path: str, actual: Json, name: str, expected: Json) -> Judgement:
    operator = OPERATORS.get(name)
    if operator is None:
        return Judgement(Truth.UNKNOWN, f"{name} is no operator")
    if name in _ABOUT_ABSENCE:
        truth = operator(None if actual is MISSING else actual, expected)
        known = "is not known" if actual is MISSING or actual is None else "is known"
        return Judgement(truth, f"{path} {known}")
    if actual is MISSING or actual is None:
        return Judgement(Truth.UNKNOWN, f"{path} is not known")
    truth = operator(actual, expected)
    if truth is Truth.UNKNOWN:
        return Judgement(truth, f"{path} {show(actual)} cannot be compared with {show(expected)}")
    yes, no = PHRASES[name]
    return Judgement(truth, f"{path} {show(actual)} {yes if truth is Truth.TRUE else no} {show(expected)}")


# -- words -------------------------------------------------------------------------------------------------------------


def _all(parts: Sequence[Judgement]) -> Judgement:
    return _decided(parts, Truth.FALSE, Truth.TRUE, "nothing was asked")


def _any(parts: Sequence[Judgement]) -> Judgement:
    return _decided(parts, Truth.TRUE, Truth.FALSE, "there is nothing to choose from")


def _decided(parts: Sequence[Judgement], decisive: Truth, otherwise: Truth, empty: str) -> Judgement:
    """The first part that decides; else the first unknown one; else all of them together."""
    for truth in (decisive, Truth.UNKNOWN):
        for part in parts:
            if part.truth is truth:
                return part
    return Judgement(otherwise, " and ".join(part.reason for part in parts[:3]) or empty)


def _word_all(value: Json, scope: Json) -> Judgement:
    return _all([_judge(part, scope) for part in _list(value)])


def _word_any(value: Json, scope: Json) -> Judgement:
    return _any([_judge(part, scope) for part in _list(value)])


def _word_not(value: Json, scope: Json) -> Judgement:
    inner = _judge(value, scope)
    return Judgement(~inner.truth, inner.reason)


def _word_any_item(value: Json, scope: Json) -> Judgement:
    if not isinstance(value, Mapping):
        return Judgement(Truth.UNKNOWN, "this is no condition")
    path = str(value.get("in", ""))
    items = resolve(path, scope)
    if not isinstance(items, list):
        return Judgement(Truth.UNKNOWN, f"{path} is not known")
    rest = {key: part for key, part in value.items() if key != "in"}
    judged = _any([_judge(rest, item) for item in items])
    if judged.truth is Truth.FALSE:
        return Judgement(Truth.FALSE, f"none of the {len(items)} items in {path} matches")
    return Judgement(judged.truth, f"an item in {path}: {judged.reason}")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


WORDS: dict[str, Callable[[Json, Json], Judgement]] = {
    "all": _word_all,
    "any": _word_any,
    "not": _word_not,
    "any_item": _word_any_item,
}


# -- operators ---------------------------------------------------------------------------------------------------------


def compare(actual: Json, expected: Json) -> int | None:
    """-1, 0 or 1 for two values of one kind; None when they cannot be compared (other currency, other kind).

    Money may be written `50.00 EUR`, numbers as text; texts have an order only as times or numbers.
    """
    if isinstance(actual, bool) or isinstance(expected, bool):
        return None
    if (left := _money(actual)) and (right := _money(expected)):
        return _order(left.amount_minor, right.amount_minor) if left.currency == right.currency else None
    if isinstance(actual, str) and isinstance(expected, str):
        return _compare_texts(actual, expected)
    numbers = _number(actual), _number(expected)
    return None if None in numbers else _order(*numbers)


def _compare_texts(actual: str, expected: str) -> int | None:
    if actual == expected:
        return 0
    for typed in (_time_ms, _day, _number):
        left, right = typed(actual), typed(expected)
        if left is not None and right is not None:
            return _order(left, right)
    return None


def _order(left: Json, right: Json) -> int:
    return 1 if left > right else -1 if left < right else 0


_LONGEST_MONEY = 64


@lru_cache(maxsize=4096)
def _parsed_money(text: str) -> Money | None:
    try:
        return Money.parse(text)
    except ValueError:
        return None


def _money(value: Json) -> Money | None:
    if isinstance(value, str):
        # Long texts are no money, and are not to be kept for as long as the cache lasts.
        return _parsed_money(value) if len(value) <= _LONGEST_MONEY else None
    if isinstance(value, Mapping) and value.keys() == {"amount_minor", "currency"}:
        amount, currency = value["amount_minor"], value["currency"]
        if isinstance(amount, int) and isinstance(currency, str):
            return Money.model_construct(amount_minor=amount, currency=currency)
    return None


_NUMERAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _number(value: Json) -> Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
        return number if number.is_finite() else None
    try:
        return Decimal(value) if isinstance(value, str) and _NUMERAL.fullmatch(value) else None
    except InvalidOperation:
        return None


def _time_ms(value: str) -> int | None:
    if len(value) < 16:
        return None
    try:
        return parse_time_ms(value)
    except (ValueError, OverflowError):
        return None


def _day(value: str) -> str | None:
    return value if _DAY.fullmatch(value) else None


def _truth(value: bool) -> Truth:
    return Truth.TRUE if value else Truth.FALSE


def _eq(actual: Json, expected: Json) -> Truth:
    if isinstance(actual, bool) and isinstance(expected, bool):
        return _truth(actual is expected)
    if isinstance(actual, str) and isinstance(expected, str) and not (_money(actual) and _money(expected)):
        if "@" in actual and "@" in expected:
            return _truth(actual.lower() == expected.lower())
        # Codes stay text: 0123 is not 123. Two times are the same when the instant is.
        left, right = _time_ms(actual), _time_ms(expected)
        return _truth(actual == expected or (left is not None and left == right))
    order = compare(actual, expected)
    return Truth.UNKNOWN if order is None else _truth(order == 0)


def _ordered(holds: Callable[[int], bool]) -> Callable[[Json, Json], Truth]:
    def operator(actual: Json, expected: Json) -> Truth:
        order = compare(actual, expected)
        return Truth.UNKNOWN if order is None else _truth(holds(order))

    return operator


def _among(actual: Json, expected: Sequence[Json]) -> Truth:
    found = Truth.FALSE
    for one in expected:
        found |= _eq(actual, one)
    return found


def _in(actual: Json, expected: Json) -> Truth:
    return _among(actual, expected) if isinstance(expected, list) else Truth.UNKNOWN


def _contains(actual: Json, expected: Json) -> Truth:
    if isinstance(actual, list):
        return _among(expected, actual)
    if isinstance(actual, str) and isinstance(expected, str):
        return _truth(expected in actual)
    return Truth.UNKNOWN


def _starts_with(actual: Json, expected: Json) -> Truth:
    if isinstance(actual, str) and isinstance(expected, str):
        return _truth(actual.startswith(expected))
    return Truth.UNKNOWN


@lru_cache(maxsize=1024)
def pattern(text: str) -> SchemaValidator:
    """A compiled pattern of `matches`. Raises ValueError for what is none, takes more than linear time, or is too long.

    The engine is the Rust one that pydantic uses: it has neither look-around nor back-references, which is why its time
    is linear in the text.
    """
    if len(text) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    try:
        return SchemaValidator(core_schema.str_schema(pattern=text, regex_engine="rust-regex"))
    except SchemaError as error:
        # Its last line says what is wrong, behind `error:` or `SchemaError:`.
        raise ValueError(str(error).rpartition("\n")[2].rpartition("rror: ")[2].strip(" .")) from error


def _matches(actual: Json, expected: Json) -> Truth:
    if not isinstance(actual, str) or not isinstance(expected, str) or len(actual) > MAX_MATCHED:
        return Truth.UNKNOWN
    try:
        return _truth(pattern(expected).isinstance_python(actual))
    except ValueError:
        return Truth.UNKNOWN


OPERATORS: dict[str, Callable[[Json, Json], Truth]] = {
    "eq": _eq,
    "ne": lambda actual, expected: ~_eq(actual, expected),
    "gt": _ordered(lambda order: order > 0),
    "gte": _ordered(lambda order: order >= 0),
    "lt": _ordered(lambda order: order < 0),
    "lte": _ordered(lambda order: order <= 0),
    "in": _in,
    "contains": _contains,
    "starts_with": _starts_with,
    "matches": _matches,
    "exists": lambda actual, expected: _truth((actual is not None) is (expected is not False)),
    "unknown": lambda actual, expected: _truth((actual is None) is (expected is not False)),
}
_ABOUT_ABSENCE = ("exists", "unknown")
PHRASES = {
    "eq": ("is", "is not"),
    "ne": ("is not", "is"),
    "gt": ("is above", "is not above"),
    "gte": ("is at least", "is below"),
    "lt": ("is below", "is not below"),
    "lte": ("is at most", "is above"),
    "in": ("is one of", "is none of"),
    "contains": ("contains", "does not contain"),
    "starts_with": ("starts with", "does not start with"),
    "matches": ("matches", "does not match"),
}
"""What an operator says where it holds and where it does not."""


# -- reasons -----------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(r"[^\s@\[\],]{1,64}@[^\s@\[\],]{1,255}")
_PHONE = re.compile(r"\+?\d[\d ().-]{5,30}\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-]\d\d:\d\d)?)?")
_SHOWN = 60


def show(value: Json) -> str:
    """A value for a reason: short, money readable, e-mails and phones masked."""
    if (money := _money(value)) is not None:
        return str(money)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, list):
        return f"[{', '.join(show(one) for one in value[:5])}{', …' if len(value) > 5 else ''}]"
    if isinstance(value, Mapping):
        return "{…}"
    text = str(value)
    if _TIME.fullmatch(text) or isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**9):
        return text
    text = _PHONE.sub("(a phone number)", _EMAIL.sub("(an e-mail address)", text[:1000]))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
