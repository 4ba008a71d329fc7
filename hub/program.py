"""A recipe version ready to decide with: its steps as a graph of nodes, its starts and exits, parsed once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hub import text
from hub.documents import at
from hub.events import Json
from hub.recipes.form import Entry, Exit
from hub.steps import kind_of
from hub.steps.step import Step

Section = Literal["main", "exit", "end"]


@dataclass(frozen=True)
class EntryRule:
    """How often a recipe may be entered: at most `at_most` times in `within_ms` (None: ever) per scope.

    `per` is `contact` or a template; `while_inside` says what an entry does while a run of the scope is going on.
    """

    per: str
    at_most: int
    within_ms: int | None
    while_inside: Literal["ignore", "restart", "parallel"]


@dataclass(frozen=True)
class Start:
    """An event that starts the recipe. No connections means any."""

    types: frozenset[str]
    connections: frozenset[str]
    where: Json | None


@dataclass(frozen=True)
class ExitRule:
    """An event that ends a run. It is watched once the steps it refers to have their results."""

    event: Exit
    types: tuple[str, ...]
    refers_to: frozenset[str]
    needs_contact: bool
    first: str | None


@dataclass(frozen=True)
class Node:
    """One step and what follows: `next` where it passes, `branches` by name where it says so. None ends the section."""

    id: str
    path: str
    section: Section
    step: Step
    needs_contact: bool
    next: str | None
    branches: Mapping[str, str | None]


@dataclass(frozen=True)
class Program:
    """A bound recipe version. `main`, `end` and an exit's `first` are the ids of the first step, None for no steps."""

    name: str
    nodes: Mapping[str, Node]
    starts: tuple[Start, ...]
    exits: tuple[ExitRule, ...]
    main: str | None
    end: str | None
    vars: Mapping[str, Json]
    entry: EntryRule | None

    @property
    def event_types(self) -> frozenset[str]:
        """The event types that may start it."""
        return frozenset().union(*(start.types for start in self.starts))

    @property
    def exit_types(self) -> frozenset[str]:
        """The event types that may end its runs."""
        return frozenset(type_ for one in self.exits for type_ in one.types)


def compile(definition: Mapping[str, Json]) -> Program:  # noqa: A001  (as in re.compile)
    """A bound definition as a program. Checks nothing: `hub.recipes.load` did."""
    nodes: dict[str, Node] = {}
    variables = definition.get("vars") or {}
    main = _chain(definition["steps"], "steps", "main", None, nodes)
    end = _chain(definition.get("on_end") or [], "on_end", "end", None, nodes)
    exits = []
    for index, raw in enumerate(definition.get("exit_on") or []):
        first = _chain(raw.get("then") or [], f"exit_on/{index}/then", "exit", None, nodes)
        event = Exit.model_validate({key: value for key, value in raw.items() if key != "types"})
        pattern = {"match": event.match, "where": event.where}
        exits.append(ExitRule(event, tuple(raw["types"]), _steps_read(pattern), _reads_contact(pattern), first))
    return Program(
        name=definition["recipe"],
        nodes=nodes,
        starts=tuple(_start(raw, variables) for raw in definition["on"]),
        exits=tuple(exits),
        main=main,
        end=end,
        vars=variables,
        entry=_entry(definition.get("entry")),
    )


def _start(raw: Mapping[str, Json], variables: Mapping[str, Json]) -> Start:
    where = text.render(raw.get("where"), {"vars": variables}, path="on/where")
    return Start(frozenset(raw["types"]), frozenset(raw.get("from") or ()), where)


def _entry(raw: Json) -> EntryRule | None:
    if raw is None:
        return None
    entry = Entry.model_validate(raw)
    return EntryRule(entry.per, entry.at_most, entry.within_ms, entry.while_inside)


def _chain(steps: Sequence[Json], path: str, section: Section, after: str | None, nodes: dict[str, Node]) -> str | None:
    """Nodes for a list of steps that is followed by the step `after`; returns the id of the first."""
    following = after
    for index in reversed(range(len(steps))):
        raw = steps[index]
        kind = kind_of(raw)
        assert kind is not None, "the definition is checked"
        step = kind.model_validate(raw)
        here = f"{path}/{index}"
        branches: dict[str, str | None] = {}
        own: dict[str, Json] = dict(raw)
        for place, _ in step.branches():
            name = "/".join(map(str, place))
            branches[name] = _chain(at(raw, place), f"{here}/{name}", section, following, nodes)
            if len(place) == 1:
                del own[str(place[0])]
        nodes[raw["id"]] = Node(
            id=raw["id"],
            path=here,
            section=section,
            step=step,
            needs_contact=_reads_contact(own),
            next=following,
            branches=branches,
        )
        following = raw["id"]
    return following


_CONTACT = re.compile(r"\bcontact\b")


def _reads_contact(value: Json) -> bool:
    """Whether a value may read the contact: a path, a template or the word itself. Too often does no harm."""
    if isinstance(value, str):
        return (
            value == "contact"
            or value.startswith("contact.")
            or (text.is_template(value) and _CONTACT.search(value) is not None)
        )
    if isinstance(value, Mapping):
        return any(_reads_contact(key) or _reads_contact(one) for key, one in value.items())
    return isinstance(value, list) and any(_reads_contact(one) for one in value)


def _steps_read(value: Json) -> frozenset[str]:
    """The names of the steps whose results a value reads."""
    found = (reference.path for _, source in text.templates(value) for reference in text.paths(source))
    return frozenset(path[1] for path in found if len(path) > 1 and path[0] == "steps")
