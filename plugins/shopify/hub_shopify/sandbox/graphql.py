"""Reads the part of GraphQL that the sandbox needs: one operation, its variables, arguments, selections and fragments.

Nothing here checks types: that the client's operations fit Shopify's schema is tested against the schema itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.events import Json

_TOKEN = re.compile(
    r'\s*(?:#[^\n]*|,)|\s*(\.\.\.|@?[A-Za-z_]\w*|\$\w+|"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?|[{}()\[\]:!=])'
)
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Selection:
    """A selected field with its arguments and directives, or an inline fragment (`on` is its type)."""

    name: str
    alias: str
    args: Mapping[str, Json]
    fields: tuple[Selection, ...]
    on: str | None = None
    directives: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def read(document: str, variables: Mapping[str, Json]) -> tuple[str, list[Selection]]:
    """The operation's kind (`query`, `mutation`) and its top-level fields. Raises ValueError, also for a missing variable."""
    return _Reader(document, variables).operation()


def pick(fields: tuple[Selection, ...], value: Json) -> Json:
    """What `fields` select of a value that holds everything, or a function of the arguments in its place.

    Raises ValueError for a field that is not there.
    """
    if value is None or not fields:
        return value
    if isinstance(value, list):
        return [pick(fields, item) for item in value]
    picked: dict[str, Json] = {}
    for selected in fields:
        if selected.on is not None:
            picked |= pick(selected.fields, value) if value.get("__typename") == selected.on else {}
        elif selected.name in value:
            inner = value[selected.name]
            inner = inner(selected.args) if callable(inner) else inner
            if isinstance(inner, list) and (first := selected.args.get("first")):
                # A list that has no pages, such as an order's refunds, is cut.
                inner = inner[:first]
            picked[selected.alias] = pick(selected.fields, inner)
        else:
            raise ValueError(f"Field '{selected.name}' doesn't exist here, or the sandbox does not keep it")
    return picked


def cost(kind: str, selections: list[Selection]) -> int:
    """What an operation asks for, in points: a mutation 10, an object 1, a list as many as it may hold.

    (shopify.dev "API rate limits", 2026)
    """
    return 10 * len(selections) if kind == "mutation" else sum(map(_points, selections))


def _points(selected: Selection) -> int:
    inner = sum(map(_points, selected.fields))
    if selected.on is not None:
        return inner
    if many := selected.args.get("first") or len(selected.args.get("ids") or ()):
        return 1 + many * max(inner, 1)
    return 1 + inner if selected.fields else 0


class _Reader:
    def __init__(self, document: str, variables: Mapping[str, Json]) -> None:
        self._tokens = self._split(document)
        self._at = 0
        self._variables = dict(variables)

    @staticmethod
    def _split(document: str) -> list[str]:
        tokens, at, end = [], 0, len(document.rstrip())
        while at < end:
            match = _TOKEN.match(document, at)
            if match is None:
                raise ValueError(f"syntax error, unexpected {document[at : at + 20]!r}")
            if match[1]:
                tokens.append(match[1])
            at = match.end()
        return tokens

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise ValueError(f"syntax error, expected {expected or 'more'}, found {token or 'the end'}")
        self._at += 1
        return token

    def _skip(self, token: str) -> bool:
        found = self._peek() == token
        self._at += found
        return found

    def operation(self) -> tuple[str, list[Selection]]:
        kind = "query" if self._peek() == "{" else self._next()
        if kind not in {"query", "mutation"}:
            raise ValueError(f"syntax error, unexpected {kind!r}")
        if self._peek() not in {"{", "("}:
            self._next()  # the operation's name
        if self._skip("("):
            while not self._skip(")"):
                self._declared_variable()
        fields = self._selections()
        if self._peek():
            raise ValueError("the sandbox reads one operation at a time")
        return kind, list(fields)

    def _declared_variable(self) -> None:
        name = self._next()[1:]
        self._next(":")
        type_ = ""
        while self._peek() not in {")", "="} and not self._peek().startswith("$"):
            type_ += self._next()
        default = self._value() if self._skip("=") else None
        value = self._variables.setdefault(name, default)
        if type_.endswith("!") and value is None:
            raise ValueError(f"Variable ${name} of type {type_} was provided invalid value")

    def _selections(self) -> tuple[Selection, ...]:
        found: list[Selection] = []
        self._next("{")
        while not self._skip("}"):
            if self._skip("..."):
                self._next("on")
                on = self._next()
                found.append(Selection("", "", {}, self._selections(), on))
                continue
            alias = name = self._next()
            if self._skip(":"):
                name = self._next()
            args = self._pairs(")") if self._skip("(") else {}
            directives = {}
            while self._peek().startswith("@"):
                directive = self._next()[1:]
                directives[directive] = self._pairs(")") if self._skip("(") else {}
            fields = self._selections() if self._peek() == "{" else ()
            found.append(Selection(name, alias, args, fields, directives=directives))
        return tuple(found)

    def _pairs(self, end: str) -> dict[str, Json]:
        pairs: dict[str, Json] = {}
        while not self._skip(end):
            name = self._next()
            self._next(":")
            pairs[name] = self._value()
        return pairs

    def _value(self) -> Json:
        token = self._next()
        if token.startswith("$"):
            return self._variables.get(token[1:])
        if token.startswith('"'):
            return re.sub(r"\\(.)", r"\1", token[1:-1])
        if token == "{":  # noqa: S105  (a bracket, no secret)
            return self._pairs("}")
        if token == "[":  # noqa: S105  (the same)
            items = []
            while not self._skip("]"):
                items.append(self._value())
            return items
        if re.fullmatch(r"-?\d+(\.\d+)?", token):
            return float(token) if "." in token else int(token)
        return _CONSTANTS.get(token, token)
