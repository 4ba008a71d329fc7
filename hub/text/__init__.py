"""Templates inside JSON values: Liquid with limits; no clock, no I/O, nothing but JSON values.

A string that is exactly one `{{ … }}` gives the typed value. Plain paths, the common case, are followed without Liquid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError, ResourceLimitError, UndefinedError
from liquid.expression import Expression

from hub.conditions import MISSING, resolve
from hub.events import Json
from hub.text.liquid import MAX_OUTPUT, Reference, Template, parse, references
from hub.text.values import TextError, as_text, length, typed

__all__ = ["Reference", "TextError", "as_text", "compiled", "is_template", "paths", "render", "templates"]

Compiled = Callable[[Mapping[str, Json], str], Json]
Place = tuple[str | int, ...]


MAX_RENDERED = 1_048_576
"""Characters that all templates of one value may make together; a whole event, the largest thing there is, is less."""


def render(value: Json, scope: Mapping[str, Json], *, path: str = "") -> Json:
    """A JSON value with every template in it rendered. Raises TextError naming the place, never the data."""
    return _Rendering(scope).value(value, path)


class _Rendering:
    """Renders one value; what its templates make counts together."""

    __slots__ = ("_left", "_scope")

    def __init__(self, scope: Mapping[str, Json]) -> None:
        self._scope, self._left = scope, MAX_RENDERED

    def value(self, value: Json, path: str) -> Json:
        if isinstance(value, str):
            return self._text(value, path) if "{" in value else value
        if isinstance(value, Mapping):
            return {key: self.value(one, f"{path}/{key}" if path else key) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, f"{path}/{index}" if path else str(index)) for index, one in enumerate(value)]
        return value

    def _text(self, source: str, path: str) -> Json:
        made = compiled(source)(self._scope, path)
        self._left -= length(made, self._left)
        if self._left < 0:
            raise TextError(
                f"{path or 'text'}: with it more than {MAX_RENDERED // 1024:,} KB are filled in; take the fields that are "
                "needed, not the whole"
            )
        return made


def is_template(value: Json) -> bool:
    """Whether a value is text with a template in it."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def templates(value: Json, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every template inside a JSON value, with its place."""
    if is_template(value):
        yield place, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from templates(one, (*place, key))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from templates(one, (*place, index))


@lru_cache(maxsize=4096)
def paths(source: str) -> tuple[Reference, ...]:
    """The paths that a template reads. Raises TextError when it is none."""
    return references(parse(source))


_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PLAIN = re.compile(rf"\{{\{{\s*({_NAME}(?:\.(?:{_NAME}|[0-9]+))*)\s*\}}\}}")
_WORDS = frozenset(("true", "false", "nil", "null", "empty", "blank"))


@lru_cache(maxsize=16_384)
def compiled(source: str) -> Compiled:
    """A template ready to render: call it with a scope and the place to name in errors. Raises TextError."""
    if not is_template(source):
        return lambda scope, place: source
    pieces = _PLAIN.split(source)
    texts, found = pieces[0::2], [tuple(path.split(".")) for path in pieces[1::2]]
    if any("{" in text for text in texts) or any(path[0] in _WORDS for path in found):
        template = parse(source)
        return partial(_render, template, _single(template))
    if texts == ["", ""]:
        return partial(_look_up, found[0])
    return partial(_join, texts, found)


def _look_up(path: tuple[str, ...], scope: Mapping[str, Json], place: str) -> Json:
    value = resolve(path, scope)
    if value is MISSING:
        raise TextError(f'{place or "text"}: {".".join(path)} is not there; add | default: "…" if it may be missing')
    return value


def _join(texts: list[str], found: list[tuple[str, ...]], scope: Mapping[str, Json], place: str) -> str:
    parts, length = [texts[0]], len(texts[0])
    for path, text in zip(found, texts[1:], strict=True):
        value = as_text(_look_up(path, scope, place))
        length += len(value) + len(text)
        if length > MAX_OUTPUT:
            raise TextError(f"{place or 'text'}: it becomes longer than {MAX_OUTPUT // 1024} KB")
        parts += (value, text)
    return "".join(parts)


def _single(template: Template) -> Expression | None:
    """The expression of a template that is nothing else."""
    nodes = template.nodes
    return nodes[0].expression if len(nodes) == 1 and isinstance(nodes[0], OutputNode) else None


# What Liquid and its filters raise over values they cannot work with.
_FAULTS = (LiquidError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def _render(template: Template, single: Expression | None, scope: Mapping[str, Json], place: str) -> Json:
    try:
        if single is None:
            return template.render(**scope)
        return typed(template.evaluate(single, scope))
    except TextError as error:
        raise TextError(f"{place or 'text'}: {error}") from error
    except _FAULTS as error:
        # No cause is kept: the messages of Python and of filters may repeat the data.
        raise TextError(f"{place or 'text'}: {_fault(error)}") from None


def _fault(error: Exception) -> str:
    if isinstance(error, UndefinedError):
        path = str(error.message).removesuffix(" is undefined").strip("'")
        return f'{path} is not there; add | default: "…" if it may be missing'
    if isinstance(error, ResourceLimitError):
        return f"it loops too often or becomes longer than {MAX_OUTPUT // 1024} KB"
    return f"a filter or tag got a value it cannot use ({type(error).__name__})"
