"""Reads one YAML document strictly: YAML 1.2, plain values only, and the line of every place in it.

Times, dates, phones and codes stay text. Duplicate keys, anchors, aliases, tags and merge keys are refused, since they
mean something else than they seem to.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hub.errors import RecipeError, RecipeErrors
from hub.events import Json

MAX_BYTES = 262_144
MAX_DEPTH = 40

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "~": None, "": None}
_TEMPLATE = re.compile(r"\{\{.*?\}\}")


@dataclass
class Document:
    """A read document: its value, where each place stands, and the errors found in it so far."""

    file: str | None
    value: Json = None
    lines: dict[Path, int] = field(default_factory=dict)
    errors: list[RecipeError] = field(default_factory=list)

    def error(self, message: str, path: Path) -> RecipeError:
        """An error at a place of the document; a place that does not exist stands for the nearest one above it."""
        place = path
        while place and place not in self.lines:
            place = place[:-1]
        return RecipeError(message, file=self.file, line=self.lines.get(place), path="/".join(map(str, path)))

    def report(self, message: str, path: Path) -> None:
        """Collect an error; the same one is collected once."""
        error = self.error(message, path)
        if str(error) not in map(str, self.errors):
            self.errors.append(error)

    def raise_errors(self) -> None:
        """Raise RecipeErrors if any were collected, in the order of their lines."""
        if self.errors:
            raise RecipeErrors(sorted(self.errors, key=lambda e: e.line or 0))


def text_of(file: pathlib.Path) -> str:
    """A file's text. Raises RecipeErrors when it cannot be read or is no text."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problem = "the file is no text in UTF-8; save it as that"
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
    raise RecipeErrors([RecipeError(problem, file=str(file))])


def read(source: str, *, file: str | None = None) -> Document:
    """The one document in a text. Raises RecipeErrors with what is wrong and where."""
    document = Document(file)
    if len(source.encode()) > MAX_BYTES:
        raise RecipeErrors([RecipeError(f"the file is larger than {MAX_BYTES // 1024} KB; split it", file=file)])
    reader = _Reader(document, source)
    try:
        reader.read()
    except MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise RecipeErrors(
            [reader.refused(_unquoted(source, line) or f"this is no YAML: {error.problem}", line)]
        ) from error
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise RecipeErrors([RecipeError(f"this is no YAML: {reason}", file=file, line=1)]) from error
    document.raise_errors()
    return document


def _unquoted(source: str, line: int) -> str | None:
    lines = source.splitlines()
    text = lines[line] if line < len(lines) else ""
    for found in _TEMPLATE.finditer(text):
        before = text[: found.start()]
        if before.count('"') % 2 == 0 and before.count("'") % 2 == 0:
            return f'put quotes around "{found[0]}"'
    return None


class _Reader:
    """Builds values from the parser's events, so that nothing is typed or joined behind our back."""

    def __init__(self, document: Document, source: str) -> None:
        self._document, self._source = document, source
        parser = YAML(typ="safe", pure=True)
        # The parser's events have no useful types: ruamel.yaml annotates `parse` as Any.
        self._events: Iterator[Any] = parser.parse(source)
        self._depth = 0

    def refused(self, message: str, line: int, path: Path = ()) -> RecipeError:
        return RecipeError(message, file=self._document.file, line=line + 1, path="/".join(map(str, path)))

    def read(self) -> None:
        next(self._events)
        start = next(self._events)
        if _kind(start) == "StreamEnd":
            raise RecipeErrors([self.refused("the file is empty; write a recipe, or take it away", 0)])
        if start.version or start.tags:
            raise RecipeErrors([self.refused("directives such as %YAML are refused; remove the line", 0)])
        self._document.value = self._value(next(self._events), ())
        next(self._events)
        more = next(self._events)
        if _kind(more) != "StreamEnd":
            raise RecipeErrors(
                [
                    self.refused(
                        "one file holds one document; move what follows --- to its own file", more.start_mark.line
                    )
                ]
            )

    def _value(self, event: Any, path: Path) -> Json:
        line = event.start_mark.line
        self._document.lines.setdefault(path, line + 1)
        self._refuse_tricks(event, line, path)
        if _kind(event) == "Scalar":
            return _scalar(event.value) if event.style is None else event.value
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RecipeErrors([self.refused(f"nested deeper than {MAX_DEPTH} levels; write it flatter", line, path)])
        value = self._mapping(path) if _kind(event) == "MappingStart" else self._sequence(path)
        self._depth -= 1
        return value

    def _refuse_tricks(self, event: Any, line: int, path: Path) -> None:
        if _kind(event) == "Alias":
            raise RecipeErrors([self.refused(f"aliases are refused; write *{event.anchor} out", line, path)])
        if event.anchor:
            self._note(f"anchors are refused; remove &{event.anchor}", line, path)
        if event.tag:
            self._note(f"tags are refused; remove {event.tag}", line, path)

    def _note(self, message: str, line: int, path: Path) -> None:
        self._document.errors.append(self.refused(message, line, path))

    def _sequence(self, path: Path) -> list[Json]:
        items: list[Json] = []
        while _kind(event := next(self._events)) != "SequenceEnd":
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Json]:
        items: dict[str, Json] = {}
        while _kind(event := next(self._events)) != "MappingEnd":
            line = event.start_mark.line
            if _kind(event) != "Scalar":
                message = _unquoted(self._source, line) or "a key is a word, not a list or a mapping"
                raise RecipeErrors([self.refused(message, line, path)])
            self._refuse_tricks(event, line, path)
            key = event.value
            if key == "<<":
                self._note("merge keys (<<) are refused; write the fields out", line, path)
            elif key in items:
                first = self._document.lines[(*path, key)]
                self._note(f"{key} stands twice, first on line {first}; keep one", line, path)
            self._document.lines.setdefault((*path, key), line + 1)
            items[key] = self._value(next(self._events), (*path, key))
        return items


def _kind(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")


def _scalar(text: str) -> Json:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def at(value: Json, path: Path) -> Json:
    """What stands at a place of a value. Raises KeyError or IndexError."""
    for segment in path:
        value = value[segment]
    return value
