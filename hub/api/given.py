"""What requests hold: the base of their bodies, the names of things, pages of lists and where to go on."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hub.errors import ConfigError

T = TypeVar("T")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Most = Annotated[int, Query(ge=1, le=200, description="How many at most")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write it as text, such as 2026-11-02T10:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_as_text), Field(strict=False)]
"""An instant with its offset, as RFC 3339 writes it."""


class Body(BaseModel):
    """The body of a request: unknown fields are refused, types are as they are written, and texts that no database stores
    are refused too: with a NUL character, or one half of a character that JSON writes as two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: Any) -> Any:
        for text in _texts(given):
            if "\0" in text:
                raise ValueError("a text holds a NUL character")
            if _HALF.search(text):
                raise ValueError(r"a text holds half a character, such as \ud83d alone; write both halves, or neither")
        return given


_HALF = re.compile("[\ud800-\udfff]")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names included; without recursion, for it may be nested as deep as a body can be."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one


class Page(BaseModel, Generic[T]):
    """A part of a list, and the `cursor` to ask for the next part with; null at the end."""

    items: list[T]
    next: str | None = None


class Listing:
    """One way of asking for a list: which list and what of it. Its cursors are good for nothing else."""

    def __init__(self, name: str, **filters: str | None) -> None:
        self._asked = [name, {key: value for key, value in filters.items() if value is not None}]

    def after(self, cursor: str | None) -> str | None:
        """The key that a cursor says to go on after. Raises ConfigError for one that is not of this list."""
        if cursor is None:
            return None
        try:
            asked, key = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        except (ValueError, TypeError, RecursionError):
            asked, key = None, None
        if asked != self._asked or not isinstance(key, str) or "\0" in key:
            raise ConfigError("this cursor is not of this list with these filters; begin again without one")
        return key

    def page(self, rows: Sequence[T], most: int, key: Callable[[T], str]) -> Page[T]:
        """A page of up to `most` rows, of which one more was looked for; `key` gives what a list goes on after."""
        items, more = list(rows[:most]), len(rows) > most
        return Page(items=items, next=self.cursor(key(items[-1])) if more else None)

    def cursor(self, key: str) -> str:
        """What to go on with after a key."""
        return base64.urlsafe_b64encode(json.dumps([self._asked, key]).encode()).decode()
