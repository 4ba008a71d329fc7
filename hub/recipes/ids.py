"""Stable ids of steps: those written, those of the last published version, and new ones for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydantic_core import to_json

from hub.documents import Document, Path, at
from hub.events import Json
from hub.steps import kind_of

LISTS = ("steps", "on_end")


@dataclass(frozen=True)
class Placed:
    """A step of a definition and where it stands."""

    place: Path
    raw: dict[str, Json]

    @property
    def kind(self) -> str:
        """Its kind's name."""
        kind = kind_of(self.raw)
        assert kind is not None, "only checked steps have ids"
        return kind.kind


def every_step(definition: Mapping[str, Json]) -> Iterator[Placed]:
    """All steps of a definition, nested ones included, in the order they are written."""
    for name in LISTS:
        yield from _steps(definition.get(name, []), (name,))
    for index, one in enumerate(definition.get("exit_on", [])):
        yield from _steps(one.get("then", []), ("exit_on", index, "then"))


def _steps(steps: list[Json], place: Path) -> Iterator[Placed]:
    for index, raw in enumerate(steps):
        here = (*place, index)
        yield Placed(here, raw)
        kind = kind_of(raw)
        assert kind is not None, "only checked steps have ids"
        for inner, _ in kind.model_validate(raw).branches():
            yield from _steps(at(raw, inner), (*here, *inner))


def assign(definition: dict[str, Json], previous: Mapping[str, Json] | None, document: Document) -> None:
    """Give every step of `definition` its `id`: a run of the last version must find the step it stands on.

    Without one written, a step takes the id of the same step there (same kind and content; else same kind and place).
    Reports an id that belonged to a step of another kind.
    """
    steps = list(every_step(definition))
    before = list(every_step(previous or {}))
    kinds_before = {one.raw["id"]: one.kind for one in before}
    for one in steps:
        written = one.raw.get("id") or one.raw.get("as")
        if written:
            one.raw["id"] = written
            if kinds_before.get(written, one.kind) != one.kind:
                was = kinds_before[written]
                document.report(f"{written} was a {was} step in the published version; choose another id", one.place)
    used = {one.raw["id"] for one in steps if "id" in one.raw}
    contents = {id(one): _content(one.raw) for one in (*steps, *before)}

    def take(fits: Callable[[Placed, Placed], bool]) -> None:
        for one in steps:
            if "id" in one.raw:
                continue
            free = (b for b in before if b.kind == one.kind and b.raw["id"] not in used and fits(one, b))
            if (found := next(free, None)) is not None:
                one.raw["id"] = found.raw["id"]
                used.add(found.raw["id"])

    # What stays where it is comes first: the same step, written once more before it, is the new one.
    take(lambda one, was: one.place == was.place and contents[id(one)] == contents[id(was)])
    take(lambda one, was: contents[id(one)] == contents[id(was)])
    take(lambda one, was: one.place == was.place)
    counted = used | set(kinds_before)
    for one in steps:
        if "id" not in one.raw:
            number = 1
            while (id_ := f"{one.kind}-{number}") in counted:
                number += 1
            one.raw["id"] = id_
            counted.add(id_)


_GIVEN = ("id", "action", "connection", "types")


def _content(value: Json) -> bytes:
    """What a step says, without what was filled in, so that it compares equal to what was written."""
    return to_json(_bare(value))


def _bare(value: Json) -> Json:
    if isinstance(value, Mapping):
        kind = kind_of(value)
        return {key: _bare(value[key]) for key in sorted(value) if kind is None or key not in _GIVEN}
    return [_bare(one) for one in value] if isinstance(value, list) else value
