"""Binding: which connection each action and each event of a recipe is about."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.catalogue import Catalogue, nearest
from hub.documents import Path
from hub.errors import RecipeError, RecipeErrors
from hub.events import Json
from hub.recipes.ids import every_step
from hub.steps import kind_of
from hub.steps.do import Do, best_fit, input_problems
from hub.steps.wait_for import WaitFor


def bind(
    definition: Mapping[str, Json],
    catalogue: Catalogue,
    connections: Mapping[str, Sequence[str]],
    *,
    pretended: bool = False,
) -> dict[str, Json]:
    """A definition with a connection for every action and every start.

    `connections` maps a connector's name to the names of its connections. Of one candidate no `connections:` line is
    needed; several without a line are refused. Where connections are `pretended`, one of each connector, several are as
    good as one: an action takes the one that its input is written for, and an event may come from any. Raises
    RecipeErrors with everything that cannot be bound.
    """
    bound: dict[str, Json] = copy.deepcopy(dict(definition))
    binding = _Binding(catalogue, connections, bound.get("connections", {}), pretended)
    for index, start in enumerate(bound["on"]):
        binding.start(start, ("on", index))
    for index, one in enumerate(bound.get("exit_on", [])):
        one["types"] = binding.awaited(one["event"], ("exit_on", index))
    for step in every_step(bound):
        kind = kind_of(step.raw)
        if kind is Do:
            binding.action(step.raw, step.place)
        elif kind is WaitFor:
            step.raw["types"] = {
                name: binding.awaited(one["event"], (*step.place, "wait_for", name))
                for name, one in step.raw["wait_for"].items()
            }
    if binding.errors:
        raise RecipeErrors(binding.errors)
    return bound


@dataclass
class _Binding:
    catalogue: Catalogue
    connections: Mapping[str, Sequence[str]]
    lines: Mapping[str, str]
    pretended: bool
    errors: list[RecipeError] = field(default_factory=list)

    def _report(self, message: str, place: Path) -> None:
        self.errors.append(RecipeError(message, path="/".join(map(str, place))))

    def _candidates(self, connectors: Iterable[str]) -> dict[str, str]:
        """Connection name to connector, of all connections of these connectors."""
        return {name: connector for connector in connectors for name in self.connections.get(connector, ())}

    def _choose(self, what: str, connectors: Iterable[str], place: Path) -> str | None:
        """The one connection for a name of the recipe, or None with an error."""
        connectors = sorted(set(connectors))
        candidates = self._candidates(connectors)
        names = ", ".join(sorted(candidates))
        for key in (what, *connectors):
            line = self.lines.get(key)
            if line in candidates:
                return line
            if line is not None:
                there = f"there are {names}" if names else f"add it with hub connections add {key}"
                lacks = self._lacks(what, only=line)
                self._report(f"{what} has no connection {line}{nearest(line, candidates)}{lacks}; {there}", place)
                return None
        if len(candidates) == 1 or (candidates and self.pretended):
            return min(candidates)
        if candidates:
            key = what if len(set(candidates.values())) > 1 else candidates[min(candidates)]
            self._report(
                f"{what} could use {names}; add a line such as connections: {{{key}: {min(candidates)}}}", place
            )
        else:
            lacks, every = self._lacks(what), " or ".join(connectors)
            self._report(f"{what} has no connection{lacks}; add one with hub connections add {every}", place)
        return None

    def _lacks(self, what: str, *, only: str | None = None) -> str:
        """What connectors that are connected say of a capability that they do not have, and what to connect instead."""
        found = [
            f"{self.catalogue.connectors[connector].title}, connected as {' and '.join(names)}, lacks it: {lack}"
            for connector, names in sorted(self.connections.items())
            if names and (only is None or only in names) and (lack := self._lack(connector, what))
        ]
        return "".join(f"; {one}" for one in found)

    def _lack(self, connector: str, what: str) -> str | None:
        declared = self.catalogue.connectors.get(connector)
        return declared.lacks.get(what) if declared else None

    def action(self, step: dict[str, Json], place: Path) -> None:
        """Fill in a `do` step's action and connection."""
        actions = {action.connector: action for action in self.catalogue.actions_for(step["do"])}
        if not actions:
            known = nearest(step["do"], self.catalogue.action_names())
            self._report(f"nothing installed does {step['do']}{known}; `hub plugins` lists what there is", place)
            return
        ready = [action for connector, action in actions.items() if self.connections.get(connector)]
        if self.pretended and ready and not {step["do"], *actions} & self.lines.keys():
            fitting = best_fit(ready, step.get("with", {}))
            actions = {fitting.connector: fitting}
        chosen = self._choose(step["do"], actions, place)
        if chosen is None:
            return
        action = actions[self._candidates(actions)[chosen]]
        for message, where in input_problems(action, step.get("with", {})):
            self._report(message, (*place, "with", *where))
        step["action"], step["connection"] = action.type, chosen

    def start(self, start: dict[str, Json], place: Path) -> None:
        """Fill in the types and connections of an event that starts the recipe."""
        triggers = {trigger.connector: trigger.type for trigger in self.catalogue.triggers_for(start["event"])}
        if not triggers:
            known = nearest(start["event"], self.catalogue.event_names())
            self._report(
                f"nothing installed has the event {start['event']}{known}; `hub plugins` lists what there is", place
            )
            return
        candidates = self._candidates(triggers)
        if "from" not in start:
            chosen = self._choose(start["event"], triggers, place)
            is_named = {start["event"], *triggers} & set(self.lines)
            start["from"] = (
                sorted(candidates) if self.pretended and chosen and not is_named else [chosen] if chosen else []
            )
        for name in start["from"]:
            if name not in candidates:
                there = f"there are {', '.join(sorted(candidates))}" if candidates else "there is none"
                message = f"{start['event']} has no connection {name}{nearest(name, candidates)}; {there}"
                self._report(message, (*place, "from"))
        connectors = {candidates[name] for name in start["from"] if name in candidates}
        start["types"] = sorted(type_ for connector, type_ in triggers.items() if connector in connectors)

    def awaited(self, event: str, place: Path) -> list[str]:
        """The event types that an exit or an answer can come by: those of connectors that are connected."""
        triggers = self.catalogue.triggers_for(event)
        found = sorted(trigger.type for trigger in triggers if self.connections.get(trigger.connector))
        if not found:
            connectors = " or ".join(sorted({trigger.connector for trigger in triggers})) or event.partition(".")[0]
            lacks = self._lacks(event)
            self._report(f"{event} has no connection{lacks}; add one with hub connections add {connectors}", place)
        return found
