"""Plans: what publishing some recipe files would do. Changes nothing; the command line and the API may ask."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum

from hub.catalogue import Catalogue
from hub.choosing import Pinned
from hub.connections import Connections
from hub.documents import at
from hub.engine import Program
from hub.engine import compile as compile_program
from hub.errors import RecipeError, RecipeErrors
from hub.events import Json
from hub.library import Library, scopes_needed
from hub.outline import step_line
from hub.purposes import Purpose
from hub.recipes import Recipe
from hub.recipes.ids import LISTS, Placed, every_step
from hub.steps import kind_of
from hub.steps.do import Do
from hub.steps.wait import WaitStep
from hub.steps.wait_for import WaitFor
from hub.store import recipes as rows
from hub.store.session import Store

# What takes something from a person says so by its verb.
_DESTRUCTIVE = frozenset(("remove", "unsubscribe", "delete", "cancel", "archive", "erase", "refund", "block"))
_FIRST_CALLS = 3
_RESOLVED = ("id", "action", "types")
_STEP_FIELDS = (*LISTS, "exit_on")


class State(StrEnum):
    """What publishing would make of a recipe."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    RESUMED = "resumed"
    """Its text is the published one's, and it is paused: it would start runs again."""
    REFUSED = "refused"


class Kind(StrEnum):
    """What would become of a step."""

    NEW = "new"
    CHANGED = "changed"
    MOVED = "moved"
    REMOVED = "removed"


@dataclass(frozen=True)
class StepChange:
    """One step that would be different; `inside` runs stand on it in versions published before, and stay on these."""

    id: str
    change: Kind
    before: str | None
    after: str | None
    inside: int
    fields: Sequence[str] = ()
    """Which of its fields differ, where it is changed; `place` where it stands elsewhere as well."""


@dataclass(frozen=True)
class Binding:
    """What a step calls, and over which connection."""

    step: str
    does: str
    action: str
    connection: str


@dataclass(frozen=True)
class Call:
    """One of the first calls, with its input as written, and the waits before it."""

    step: str
    after: Sequence[str]
    action: str
    connection: str
    title: str
    input: Mapping[str, Json]


@dataclass(frozen=True)
class RecipePlan:
    """What publishing one recipe would do. `errors` say why it would be refused; `version` is the live one, 0 for none."""

    name: str
    file: str | None
    state: State
    version: int = 0
    inside: Mapping[int, int] = field(default_factory=dict)
    """Runs by the version they are on, and stay on."""
    steps: Sequence[StepChange] = ()
    fields: Sequence[str] = ()
    """What differs beside steps: on, entry, exit_on, …"""
    bindings: Sequence[Binding] = ()
    choices: Sequence[Pinned] = ()
    """What its steps choose at vendors, each with the id that would be published."""
    warnings: Sequence[str] = ()
    missing_scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calls: Sequence[Call] = ()
    errors: Sequence[RecipeError] = ()


@dataclass(frozen=True)
class Plan:
    """What publishing would do; `purposes` maps the names of new and changed ones to `new` or `changed`."""

    recipes: Sequence[RecipePlan]
    purposes: Mapping[str, str]

    @property
    def refused(self) -> bool:
        """Whether publishing would be refused."""
        return any(one.state is State.REFUSED for one in self.recipes)


class Planner:
    """Plans for one hub."""

    def __init__(self, store: Store, library: Library, connections: Connections, catalogue: Catalogue) -> None:
        self._store, self._library, self._connections, self._catalogue = store, library, connections, catalogue

    async def plan(self, sources: Mapping[str, str], purposes: Mapping[str, Purpose]) -> Plan:
        """The plan for some texts (file to text), given the purposes that would be saved first."""
        known = await self._library.purposes()
        told = {name: "changed" if name in known else "new" for name, p in purposes.items() if known.get(name) != p}
        found: list[RecipePlan] = []
        for file, source in sources.items():
            one = await self._recipe(source, file, purposes)
            if any(one.name == other.name and one.state is not State.REFUSED for other in found):
                twice = RecipeError(f"the recipe {one.name} is also in another file; rename one", file=file, line=1)
                one = RecipePlan(one.name, file, State.REFUSED, errors=[twice])
            found.append(one)
        return Plan(found, told)

    async def _recipe(self, source: str, file: str, purposes: Mapping[str, Purpose]) -> RecipePlan:
        try:
            recipe = await self._library.check(source, file=file, more_purposes=purposes)
        except RecipeErrors as error:
            return RecipePlan(file, file, State.REFUSED, errors=error.errors)
        try:
            bound, choices = await self._library.bound(recipe, file=file)
        except RecipeErrors as error:
            return RecipePlan(recipe.name, file, State.REFUSED, errors=error.errors)
        return await self._bound(recipe, bound, choices, file)

    async def _bound(
        self, recipe: Recipe, bound: Mapping[str, Json], choices: Sequence[Pinned], file: str
    ) -> RecipePlan:
        before = await self._library.published_definition(recipe.name)
        async with self._store.read() as c:
            state, version = await rows.state(c, recipe.name)
            standing = await rows.standing(c, recipe.name)
        on_step: dict[str, int] = {}
        inside: dict[int, int] = {}
        for row in standing:
            inside[row["version"]] = inside.get(row["version"], 0) + row["n"]
            on_step[str(row["at_step"])] = on_step.get(str(row["at_step"]), 0) + row["n"]
        program = compile_program(bound)
        return RecipePlan(
            name=recipe.name,
            file=file,
            state=_state(before, bound, state),
            version=version,
            inside=inside,
            steps=list(_changes(before or {}, bound, on_step)) if before != bound else [],
            fields=_fields(before, bound) if before is not None else [],
            bindings=[
                Binding(one.raw["id"], one.raw["do"], one.raw["action"], one.raw["connection"])
                for one in every_step(bound)
                if one.kind == Do.kind
            ],
            choices=choices,
            warnings=[
                *_warnings(bound, self._catalogue),
                *_unchecked(choices),
                *await self._unhealthy(program),
                *await self._ending(program),
                *await self._senderless(bound),
            ],
            missing_scopes=await self._missing_scopes(program),
            calls=list(_first_calls(bound, self._catalogue)),
        )

    async def _unhealthy(self, program: Program) -> list[str]:
        healths = await self._connections.healths()
        found = {name: healths[name] for name in sorted(_used(program)) if name in healths}
        return [
            f"the connection {name} is {health}{f' ({reason})' if reason else ''}: its calls wait"
            for name, (health, reason) in found.items()
        ]

    async def _ending(self, program: Program) -> list[str]:
        """Versions of vendors' APIs that end soon, of the connections that are used."""
        found = [await self._connections.ending(name) for name in sorted(_used(program))]
        return [f"{ending.sentence}: `{ending.mend}`" for ending in found if ending is not None]

    async def _senderless(self, bound: Mapping[str, Json]) -> list[str]:
        """Messages that neither their step nor their connection says the sender of: each of them would be refused."""
        fields = {one.name: one.settings for one in await self._connections.all()}
        found: list[str] = []
        for one in every_step(bound):
            action = self._catalogue.action(one.raw["action"]) if one.kind == Do.kind else None
            if action is None or action.message is None or not action.message.default_senders:
                continue
            message, over = action.message, one.raw["connection"]
            given = one.raw.get("with") or {}
            if any(given.get(name) for name in message.senders) or any(
                fields[over].get(name) for name in message.default_senders
            ):
                continue
            found.append(
                f"{one.raw['id']} says no sender, and neither does the connection {over}, so it would fail: write "
                f"{' or '.join(message.senders)} in the step, or "
                f"`hub connections set {over} {message.default_senders[0]}=…`"
            )
        return found

    async def _missing_scopes(self, program: Program) -> dict[str, list[str]]:
        missing: dict[str, list[str]] = {}
        for connection in await self._connections.all():
            if connection.scopes is None:
                continue
            needed = scopes_needed(program, connection.name, connection.connector, self._catalogue)
            if lacking := sorted(needed - connection.scopes):
                missing[connection.name] = lacking
        return missing


def _state(before: Mapping[str, Json] | None, bound: Mapping[str, Json], state: str | None) -> State:
    if before is None:
        return State.NEW
    if before != bound:
        return State.CHANGED
    return State.RESUMED if state == "paused" else State.UNCHANGED


def _used(program: Program) -> set[str]:
    acts = {node.step.connection for node in program.nodes.values() if isinstance(node.step, Do)}
    starts = {name for start in program.starts for name in start.connections}
    return {name for name in acts | starts if name}


# -- what differs ------------------------------------------------------------------------------------------------------


def _changes(before: Mapping[str, Json], after: Mapping[str, Json], on_step: Mapping[str, int]) -> Iterator[StepChange]:
    """The steps that differ, by their ids, in the order of the new text; those that are gone come last."""
    old = {str(one.raw["id"]): one for one in every_step(before)}
    new = {str(one.raw["id"]): one for one in every_step(after)}
    moved = _moved(before, after, [id_ for id_ in old if id_ in new], [id_ for id_ in new if id_ in old])
    for id_, one in new.items():
        was = old.get(id_)
        inside = on_step.get(id_, 0)
        if was is None:
            yield StepChange(id_, Kind.NEW, None, step_line(one.raw), inside)
            continue
        fields = _different(_own(was), _own(one))
        fields += ["place"] if fields and id_ in moved else []
        if fields:
            yield StepChange(id_, Kind.CHANGED, step_line(was.raw), step_line(one.raw), inside, fields)
        elif id_ in moved:
            yield StepChange(id_, Kind.MOVED, step_line(was.raw), step_line(one.raw), inside)
    for id_, was in old.items():
        if id_ not in new:
            yield StepChange(id_, Kind.REMOVED, step_line(was.raw), None, on_step.get(id_, 0))


def _moved(before: Mapping[str, Json], after: Mapping[str, Json], old: Sequence[str], new: Sequence[str]) -> set[str]:
    """The ids that stand in another list of steps than before, or in another order."""
    matched = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    kept = {id_ for block in matched for id_ in old[block.a : block.a + block.size]}
    was, now = _parents(before), _parents(after)
    return {id_ for id_ in new if id_ not in kept or was[id_] != now[id_]}


def _parents(definition: Mapping[str, Json]) -> dict[str, tuple[str | int, ...]]:
    """For each id the list it stands in: the ids and names on the way to it, without the numbers of steps."""
    found: dict[str, tuple[str | int, ...]] = {}
    for one in every_step(definition):
        way: list[str | int] = []
        for depth, segment in enumerate(one.place[:-1], 1):
            value = at(definition, one.place[:depth])
            # The ways of a choose look like steps, but have no id.
            way.append(value["id"] if isinstance(value, Mapping) and "id" in value else segment)
        found[str(one.raw["id"])] = tuple(way)
    return found


def _own(one: Placed) -> dict[str, Json]:
    """A step without its nested steps, which are told for themselves, and what the hub filled in."""
    raw = copy.deepcopy(one.raw)
    kind = kind_of(raw)
    assert kind is not None, "only checked steps are planned"
    for place, _ in kind.model_validate(raw).branches():
        at(raw, place).clear()
    return {name: value for name, value in raw.items() if name not in _RESOLVED and value != []}


def _different(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _fields(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """What differs at the top, steps aside; of exits what is looked out for, not the steps after it."""

    def top(definition: Mapping[str, Json]) -> dict[str, Json]:
        exits = [{k: v for k, v in one.items() if k != "then"} for one in definition.get("exit_on") or ()]
        others = {name: value for name, value in definition.items() if name not in _STEP_FIELDS}
        return {**others, "exit_on": exits}

    return _different(top(before), top(after))


# -- what is worth a word ----------------------------------------------------------------------------------------------


def _warnings(definition: Mapping[str, Json], catalogue: Catalogue) -> Iterator[str]:
    messages = False
    for one in every_step(definition):
        kind = kind_of(one.raw)
        if kind is WaitFor and one.raw["timeout"] == "never":
            yield f"{one.raw['id']} waits for ever: a run that hears nothing ends only by an exit or by hand"
        if kind is not Do:
            continue
        action = catalogue.action(one.raw["action"])
        if action is not None and (lack := catalogue.connectors[action.connector].lacks.get(one.raw["do"])):
            yield f"{one.raw['id']} does {one.raw['do']} over {one.raw['connection']}: {lack}"
        messages = messages or (action is not None and action.message is not None)
        if _is_destructive(one.raw["do"]) and "require_sent" not in one.raw and one.place[0] == "steps":
            yield (
                f"{one.raw['id']} does {one.raw['do']}, whether or not a message before it was sent; "
                "require_sent: NAME ties it to one"
            )
        if (
            action is not None
            and action.message is not None
            and "valid_for" not in one.raw
            and _waits_before(definition, one)
        ):
            yield f"{one.raw['id']} comes after a wait and may be sent however late; valid_for: 12h bounds it"
    if messages and "entry" not in definition:
        yield "there is no entry rule: every event starts a run, and the same person may be written to again and again"


def _unchecked(choices: Sequence[Pinned]) -> Iterator[str]:
    for one in choices:
        if one.unchecked is not None:
            yield f"{one.step} takes {one.written} for an id of its {one.choices} unchecked, as {one.unchecked}"


def _is_destructive(name: str) -> bool:
    return name.rpartition(".")[2].partition("_")[0] in _DESTRUCTIVE


def _waits_before(definition: Mapping[str, Json], one: Placed) -> bool:
    """Whether a wait stands before a step, on whatever way leads to it."""
    if one.place[0] != "steps":
        return False
    for depth in range(1, len(one.place)):
        if isinstance(one.place[depth], int):
            earlier = at(definition, one.place[:depth])[: int(one.place[depth])]
            if any(kind_of(raw) in (WaitStep, WaitFor) for raw in earlier):
                return True
        around = at(definition, one.place[:depth])
        if isinstance(around, Mapping) and kind_of(around) is WaitFor:
            return True
    return False


def _first_calls(definition: Mapping[str, Json], catalogue: Catalogue) -> Iterator[Call]:
    """The calls that come first in the text, each with the waits of the steps that are written before it."""
    waits: list[str] = []
    calls = 0
    for one in every_step({"steps": definition["steps"]}):
        kind = kind_of(one.raw)
        if kind in (WaitStep, WaitFor):
            waits.append(step_line(one.raw))
        if kind is not Do:
            continue
        action = catalogue.action(one.raw["action"])
        title = action.title if action is not None else one.raw["do"]
        yield Call(
            one.raw["id"], list(waits), one.raw["action"], one.raw["connection"], title, one.raw.get("with") or {}
        )
        calls += 1
        if calls == _FIRST_CALLS:
            return
