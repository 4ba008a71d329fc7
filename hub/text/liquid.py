"""The Liquid we render with: fewer tags, our filters, and limits that count work instead of seconds."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from liquid import Environment
from liquid.ast import Node
from liquid.builtin.expressions import Filter, FilteredExpression, KeywordArgument, Path
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral, StringLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.case_tag import CaseNode
from liquid.builtin.tags.if_tag import IfNode
from liquid.builtin.tags.unless_tag import UnlessNode
from liquid.context import RenderContext
from liquid.exceptions import LiquidError
from liquid.expression import Expression
from liquid.template import BoundTemplate
from liquid.undefined import FalsyStrictUndefined, is_undefined

from hub.catalogue import nearest
from hub.events import Json
from hub.text.filters import (
    check_date,
    check_plus,
    filter_date,
    filter_e164,
    filter_money,
    filter_sha256,
    shifting,
)
from hub.text.values import TextError, as_text

MAX_SOURCE = 65_536
MAX_EXPRESSION = 1_000
MAX_OUTPUT = 262_144
MAX_ITEMS = 1_000
MAX_LOCALS = 1_048_576
MAX_NUMBER_BITS = 256
MAX_WORK = 50_000
"""Units of work per rendering: one per value looked up, per 64 characters handled or values compared, per node of a
loop's round."""

_CHARACTERS_PER_UNIT = _COMPARED_PER_UNIT = 64
_TAGS = ("if", "unless", "case", "for", "break", "continue", "assign", "capture", "comment", "#")
_LEFT_OUT_FILTERS = ("safe", "escapejs")


# -- work --------------------------------------------------------------------------------------------------------------


class _Context(RenderContext):
    """A render context that counts work, so that no template runs long, whatever the data."""

    __slots__ = ("work",)

    # Liquid calls this with what its own constructor takes.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.work = 0

    def spend(self, units: int) -> None:
        self.work += units
        if self.work > MAX_WORK:
            raise TextError("the text takes too much work; use smaller lists, fewer loops or shorter texts")

    def get(self, path: list[object], **kwargs: Any) -> object:
        value = super().get(path, **kwargs)
        self.spend(1 + _weight(value))
        return value

    def raise_for_loop_limit(self, length: int = 1) -> None:
        super().raise_for_loop_limit(length)
        template = self.template
        self.spend(length * (template.weight if isinstance(template, Template) else 1))


def _weight(value: object, limit: int = MAX_WORK) -> int:
    """What handling a value costs, inner values included; counting stops beyond `limit`."""
    if isinstance(value, str):
        return len(value) // _CHARACTERS_PER_UNIT
    if is_undefined(value) or not isinstance(value, Mapping | list | tuple):
        return 0
    total = len(value)
    for inner in value.values() if isinstance(value, Mapping) else value:
        if total > limit:
            break
        total += _weight(inner, limit - total)
    return total


class Template(BoundTemplate):
    """A parsed template that knows how much one round through it may cost."""

    context_class = _Context
    weight: int = 1

    def evaluate(self, expression: Expression, scope: Mapping[str, Json]) -> object:
        """The value of one of its expressions, not made a text."""
        return expression.evaluate(self.context_class(self, globals=scope))


class _TextNode(OutputNode):
    """Writes values as our texts do: money readable, lists and mappings as JSON."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(as_text(self.expression.evaluate(context)))


class _TextOutput(Output):
    node_class = _TextNode


# -- filters -----------------------------------------------------------------------------------------------------------


def _replaced_size(value: object, old: object = "", new: object = "") -> int:
    text, times = str(value), str(value).count(str(old))
    return len(text) + times * len(str(new))


def _joined_size(value: object, separator: object = " ") -> int:
    return len(value) * len(str(separator)) if isinstance(value, list | tuple) else 0


# Filters that take far longer for a character than the others.
_SLOW = {"strip_html": 16}

# Filters that hold every item of a list against every other.
_PAIRWISE = frozenset(["uniq"])

# Filters whose result may be far larger than their arguments together.
_GROWTH: dict[str, Callable[..., int]] = {"replace": _replaced_size, "join": _joined_size}


# What can be said of arguments before anything runs, where they are written out.
_CHECKS: dict[str, Callable[..., None]] = {"date": check_date, "plus": check_plus}


# A filter takes and returns what Liquid passes around, hence Any.
class _Bounded:
    """A filter with its cost counted and its result kept small."""

    with_context = True
    """Liquid's mark of filters that take the context."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self._takes_environment: bool = getattr(function, "with_environment", False)

    def __call__(self, left: Any, *args: Any, context: _Context, **kwargs: Any) -> Any:
        weight = sum(_weight(value) for value in (left, *args, *kwargs.values()))
        if self._name in _PAIRWISE and isinstance(left, list | tuple):
            weight += len(left) * weight // _COMPARED_PER_UNIT
        context.spend(2 + weight * _SLOW.get(self._name, 1))
        growth = _GROWTH.get(self._name)
        if growth is not None and growth(left, *args) > MAX_OUTPUT:
            raise TextError(f"{self._name}: the text becomes longer than {MAX_OUTPUT // 1024} KB")
        if self._takes_environment:
            kwargs["environment"] = context.env
        result = self._function(left, *args, **kwargs)
        if isinstance(result, str) and len(result) > MAX_OUTPUT:
            raise TextError(f"{self._name}: the text becomes longer than {MAX_OUTPUT // 1024} KB")
        if isinstance(result, list | tuple) and len(result) > MAX_ITEMS:
            raise TextError(f"{self._name}: the list becomes longer than {MAX_ITEMS:,} items")
        if isinstance(result, int) and result.bit_length() > MAX_NUMBER_BITS:
            raise TextError(f"{self._name}: the number becomes too large")
        return result

    def check_arguments(self, positional: int, named: Iterable[str]) -> None:
        """Raises TextError unless it takes as many arguments, and those named ones."""
        signature = inspect.signature(self._function)
        given = dict.fromkeys(named)
        if "environment" in signature.parameters:
            given["environment"] = None
        try:
            signature.bind(None, *[None] * positional, **given)
        except TypeError as error:
            raise TextError(f"{self._name}: {error}") from error


class _Environment(Environment):
    template_class = Template
    loop_iteration_limit = MAX_ITEMS
    local_namespace_limit = MAX_LOCALS
    output_stream_limit = MAX_OUTPUT

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        inner = ("content", "output", "illegal")
        self.tags = {name: tag for name, tag in self.tags.items() if name in _TAGS or name in inner}
        self.add_tag(_TextOutput)
        ours: dict[str, Callable[..., Any]] = {
            "money": filter_money,
            "date": filter_date,
            "e164": filter_e164,
            "sha256": filter_sha256,
            "plus": shifting(self.filters["plus"]),
        }
        kept = {name: f for name, f in self.filters.items() if name not in _LEFT_OUT_FILTERS}
        self.filters = {name: _Bounded(name, function) for name, function in {**kept, **ours}.items()}


_ENVIRONMENT = _Environment(undefined=FalsyStrictUndefined)


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A path that a template reads. `optional`: the template copes with its absence."""

    path: tuple[str, ...]
    optional: bool


def parse(source: str) -> Template:
    """A template, checked: syntax, filters and their arguments, ranges. Raises TextError."""
    if len(source) > MAX_SOURCE:
        raise TextError(f"a template has at most {MAX_SOURCE // 1024} KB")
    _check_marks(source)
    try:
        template = _ENVIRONMENT.from_string(source)
        assert isinstance(template, Template)
        nodes = list(_nodes(template.nodes))
        for node in nodes:
            for expression in node.expressions():
                _check(expression)
    except (LiquidError, RecursionError) as error:
        reason = error.message if isinstance(error, LiquidError) else "it is nested too deep"
        raise TextError(f"this is no template: {reason}") from error
    template.weight = max(len(nodes), len(source) // _CHARACTERS_PER_UNIT)
    return template


_MARK = re.compile(r"\{\{|\}\}|\{%-?\s*(?:raw|doc)\b|\{%|%\}")
_CLOSING = {"{{": "}}", "{%": "%}"}


def _check_marks(source: str) -> None:
    """Refuse what Liquid's own reader would need quadratic time to refuse: unclosed and very long expressions."""
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(source):
        text = mark[0]
        if opened is None:
            opened = mark if text in _CLOSING else None
            if text.startswith("{%") and text != "{%":
                raise TextError("this is no template: the tags raw and doc are not part of it")
        elif text == _CLOSING[opened[0]]:
            if mark.start() - opened.end() > MAX_EXPRESSION:
                raise TextError(f"what stands between {opened[0]} and {text} has at most {MAX_EXPRESSION:,} characters")
            opened = None
        elif text in _CLOSING:
            break
    if opened is not None:
        raise TextError(f"this is no template: {opened[0]} is not closed by {_CLOSING[opened[0]]}")


def references(template: Template) -> tuple[Reference, ...]:
    """Every path of the scope that a template reads; names it assigns itself left out."""
    assigned = {str(name) for node in _nodes(template.nodes) for name in node.template_scope()}
    return tuple(dict.fromkeys(_references(template.nodes, frozenset(assigned), frozenset())))


def _references(nodes: Iterable[Node], own: frozenset[str], tested: frozenset[tuple[str, ...]]) -> Iterator[Reference]:
    for node in nodes:
        asks = isinstance(node, IfNode | UnlessNode | CaseNode) or type(node).__name__ == "ConditionalBlockNode"
        seen = set(tested)
        for expression in node.expressions():
            for path, optional in _paths(expression):
                if asks:
                    seen.add(path)
                guarded = any(path[: len(known)] == known for known in tested)
                if path and path[0] not in own:
                    yield Reference(path, optional or asks or guarded)
        inner = own | {str(name) for name in node.block_scope()}
        yield from _references(_children(node), inner, frozenset(seen))


def _paths(expression: Expression) -> Iterator[tuple[tuple[str, ...], bool]]:
    if isinstance(expression, Path):
        yield _fixed(expression), False
    has_default = isinstance(expression, FilteredExpression) and any(
        f.name == "default" for f in expression.filters or ()
    )
    for inner in expression.children():
        for path, optional in _paths(inner):
            left = isinstance(expression, FilteredExpression) and inner is expression.left
            yield path, optional or (has_default and left)


def _fixed(path: Path) -> tuple[str, ...]:
    segments: list[str] = []
    for segment in path.path:
        if isinstance(segment, Path):
            break
        segments.append(str(segment))
    return tuple(segments)


def _nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _nodes(_children(node))


def _children(node: Node) -> Iterable[Node]:
    # The context is for partial templates only, which we do not have.
    return node.children(None)  # type: ignore[arg-type]


def _check(expression: Expression) -> None:
    if isinstance(expression, RangeLiteral):
        first, last = expression.start, expression.stop
        if not (isinstance(first, IntegerLiteral) and isinstance(last, IntegerLiteral)):
            raise TextError("a range is written with two numbers, such as (1..5)")
        if last.value - first.value >= MAX_ITEMS:
            raise TextError(f"a range has at most {MAX_ITEMS:,} numbers")
    if isinstance(expression, FilteredExpression):
        for one in expression.filters or ():
            _check_filter(one)
    for inner in expression.children():
        _check(inner)


def _check_filter(one: Filter) -> None:
    function = _ENVIRONMENT.filters.get(one.name)
    if not isinstance(function, _Bounded):
        raise TextError(
            f"there is no filter {one.name}{nearest(one.name, _ENVIRONMENT.filters)}; there are {', '.join(sorted(_ENVIRONMENT.filters))}"
        )
    named = [arg.name for arg in one.args if isinstance(arg, KeywordArgument)]
    function.check_arguments(len(one.args) - len(named), named)
    if check := _CHECKS.get(one.name):
        written = [arg.value.value if isinstance(arg.value, StringLiteral) else None for arg in one.args]
        check(
            *(text for arg, text in zip(one.args, written, strict=True) if not isinstance(arg, KeywordArgument)),
            **{arg.name: text for arg, text in zip(one.args, written, strict=True) if isinstance(arg, KeywordArgument)},
        )
