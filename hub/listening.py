"""Which published recipes an event may start, without asking each of them.

Where few recipes listen to a type all of them are asked, so that each no has its reason. Where many do, those are passed
over whose connections or texts rule the event out: the cost follows the recipes that can match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hub.conditions import required_texts, resolve
from hub.events import Json
from hub.program import Program, Start

FEW = 50


@dataclass(frozen=True)
class Published:
    """A recipe version that listens for events now."""

    name: str
    version: int
    program: Program


@dataclass
class _Many:
    """The recipes that listen to one type: for any text, or for one text at a path (path, then text)."""

    every: list[Published] = field(default_factory=list)
    any_text: dict[str, list[Published]] = field(default_factory=dict)
    by_text: dict[str, dict[str, dict[str, list[Published]]]] = field(default_factory=dict)

    def add(self, one: Published, starts: Iterable[Start]) -> None:
        self.every.append(one)
        for start in starts:
            path, text = next(iter(required_texts(start.where).items()), ("", ""))
            for connection in start.connections or ("",):
                texts = self.by_text.setdefault(connection, {}).setdefault(path, {}) if path else self.any_text
                texts.setdefault(text if path else connection, []).append(one)

    def possible(self, event: Mapping[str, Json]) -> list[Published]:
        found: dict[str, Published] = {}
        for connection in (str(event["connection"]), ""):
            found |= {one.name: one for one in self.any_text.get(connection, ())}
            for path, texts in self.by_text.get(connection, {}).items():
                value = resolve(path, {"event": event})
                found |= {one.name: one for one in (texts.get(value, ()) if isinstance(value, str) else ())}
        return sorted(found.values(), key=lambda one: one.name)


class Listeners:
    """The published recipes by what starts them."""

    def __init__(self, published: Iterable[Published] = ()) -> None:
        self._types: dict[str, _Many] = {}
        for one in published:
            for type_ in one.program.event_types:
                starts = [start for start in one.program.starts if type_ in start.types]
                self._types.setdefault(type_, _Many()).add(one, starts)

    def possible(self, event: Mapping[str, Json]) -> list[Published]:
        """The recipes that an event may start. It has its `type` and `connection` beside its data, as recipes see it.

        Every recipe that it does start is among them.
        """
        many = self._types.get(str(event["type"]))
        if many is None:
            return []
        return many.every if len(many.every) <= FEW else many.possible(event)
