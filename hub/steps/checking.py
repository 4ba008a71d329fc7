"""Checking a recipe before it runs: which names exist where, what they hold, and whether they are always there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from hub import text
from hub.catalogue import Catalogue, nearest
from hub.conditions import checks
from hub.connector import Trigger
from hub.documents import Document, Path
from hub.events import Json
from hub.purposes import Purpose
from hub.shapes import ANY, TEXT, TEXTS, TIME, Shape, common, of_fields, of_model

Place = Path


class CheckedStep(Protocol):
    """What checking needs to know of a step; `hub.steps.step.Step` is it."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def as_(self) -> str | None: ...
    @property
    def on_error(self) -> Any: ...  # a word, or nested steps as written
    @property
    def on_unknown(self) -> str | None: ...
    @property
    def require_sent(self) -> str | None: ...
    def check(self, check: Check, place: Place) -> Shape: ...


_CONTACT = of_fields(
    dict.fromkeys(("id", "email", "phone", "first_name", "last_name", "language", "zone"), TEXT)
    | {"tags": TEXTS, "attributes": Shape({"type": "object", "additionalProperties": True})}
)
_LINKS = of_fields(dict.fromkeys(("unsubscribe", "preferences", "survey"), TEXT))
_ROOTS = ("trigger", "contact", "steps", "run", "vars", "links", "now")
_LATER = {
    "contact.segments": "segments are",
    "contact.score": "scores are",
    "item": "for_each is",
}


@dataclass(frozen=True)
class Known:
    """A step's result at some place of the recipe. `certain`: it was passed on every path that leads there."""

    shape: Shape
    certain: bool


@dataclass
class Check:
    """What is known at one place of a recipe, and where errors go. Branches get a copy."""

    document: Document
    catalogue: Catalogue
    purposes: Mapping[str, Purpose] | None
    parse: Callable[[Json, Check, Place], CheckedStep | None]
    triggers: tuple[Trigger[Any], ...] = ()
    vars: Mapping[str, Json] = field(default_factory=dict)
    section: Literal["main", "exit", "end"] = "main"
    has_exits: bool = False
    known: dict[str, Known] = field(default_factory=dict)
    taken: dict[str, Place] = field(default_factory=dict)
    """Names and ids of the whole recipe, shared by all branches."""
    ever: dict[str, Known] = field(default_factory=dict)
    """The results of all named steps so far, in whatever branch; shared by all branches."""
    goes_on: bool = True
    """Whether the run gets past the place: not after a stop."""

    def report(self, message: str, place: Place) -> None:
        """Collect an error."""
        self.document.report(message, place)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def steps(self, raw: Sequence[Json], place: Place) -> None:
        """Check a list of steps, one after the other."""
        for index, one in enumerate(raw):
            here = (*place, index)
            if not self.goes_on:
                self.report("this step is never reached: the one before it stops the run", here)
                return
            step = self.parse(one, self, here)
            if step is not None:
                self._step(step, here)

    def _step(self, step: CheckedStep, place: Place) -> None:
        for name, at in {step.as_: "as", step.id: "id"}.items():
            if name and name in self.taken:
                self.report(f"{name} is already the name of a step; names are used once", (*place, at))
            elif name:
                self.taken[name] = place
        if step.require_sent:
            self.step_named(step.require_sent, (*place, "require_sent"))
        if step.on_unknown is not None and step.kind != "do":
            self._unknown(step, place)
        before = self.branch()
        shape = step.check(self, place)
        doubtful = step.require_sent is not None or step.on_error != "retry" or step.on_unknown == "continue"
        if isinstance(step.on_error, list):
            before.steps(step.on_error, (*place, "on_error"))
            self.join([self.branch(), before])
        if step.as_:
            optional = frozenset(shape.names()) - {"outcome"} if doubtful else shape.optional
            self.known[step.as_] = self.ever[step.as_] = Known(replace(shape, optional=optional), self.goes_on)

    def _unknown(self, step: CheckedStep, place: Place) -> None:
        if step.kind not in ("if", "choose"):
            self.report("on_unknown is for actions and conditions", (*place, "on_unknown"))
        elif step.on_unknown == "ask":
            self.report("on_unknown: ask is for actions; a condition takes stop or continue", (*place, "on_unknown"))

    def branch(self, *, where: Json = None) -> Check:
        """The same place in a branch of its own, entered only where the condition `where` is true."""
        inner = replace(self, known=dict(self.known))
        types = checks.implied_values(where, "trigger.type")
        if types:
            inner.triggers = tuple(t for t in self.triggers if t.type in types) or self.triggers
        for path in checks.implied_existing(where):
            root, _, rest = path.partition(".")
            name, _, below = rest.partition(".")
            if root == "steps" and name in inner.known:
                was = inner.known[name]
                optional = was.shape.optional - {below.partition(".")[0]}
                inner.known[name] = Known(replace(was.shape, optional=optional), certain=True)
        return inner

    def join(self, branches: Sequence[Check]) -> None:
        """Go on after branches of which the run takes one: certain is what is so in all that lead on."""
        leading = [branch for branch in branches if branch.goes_on]
        self.goes_on = bool(leading)
        for name in {name for branch in leading for name in branch.known}:
            found = [branch.known.get(name) for branch in leading]
            there = [one for one in found if one]
            optional = frozenset().union(*(one.shape.optional for one in there))
            certain = all(one is not None and one.certain for one in found)
            self.known[name] = Known(replace(there[0].shape, optional=optional), certain)

    def afterwards(self) -> Check:
        """A place that may be reached from anywhere in the steps so far: nothing they gave is certain."""
        known = {name: Known(one.shape, certain=False) for name, one in self.ever.items()}
        return replace(self, known=known, goes_on=True)

    # -- names ---------------------------------------------------------------------------------------------------------

    def step_named(self, name: str, place: Place) -> Known | None:
        """An earlier step by its `as`, or an error."""
        found = self.known.get(name)
        if found is None:
            there = f"; there are {', '.join(self.known)}" if self.known else ""
            self.report(f"no step before this one has as: {name}{nearest(name, self.known)}{there}", place)
        return found

    def path(self, path: Sequence[str], place: Place, *, optional: bool, event: Shape | None = None) -> Shape | None:
        """The shape of a path, or an error. `optional`: whoever reads it copes with its absence."""
        root, rest, whole = path[0], path[1:], ".".join(path)
        for name, what in _LATER.items():
            if (whole + ".").startswith(name + "."):
                self.report(f"{name}: {what} not part of this release", place)
                return None
        if root == "steps":
            return self._step_path(rest, place, optional)
        shape = self._root(root, event)
        if shape is None:
            roots = (*_ROOTS, *(["event"] if event else []))
            if root == "event":
                self.report(f"{whole}: event is the candidate of where and match; here the event is trigger", place)
            else:
                self.report(f"{whole}: there is no {root}{nearest(root, roots)}; there are {', '.join(roots)}", place)
            return None
        return checks.follow(shape, rest, root, self.report, place)

    def _step_path(self, rest: Sequence[str], place: Place, optional: bool) -> Shape | None:
        if not rest:
            return ANY
        found = self.step_named(rest[0], place)
        if found is None:
            return None
        shape = checks.follow(found.shape, rest[1:], f"steps.{rest[0]}", self.report, place)
        doubtful = not found.certain or (len(rest) > 1 and rest[1] in found.shape.optional)
        if shape is not None and doubtful and not optional:
            path = ".".join(("steps", *rest[:2])) if found.certain else f"steps.{rest[0]}"
            self.report(
                f'{path} is there on some paths only; add | default: "…" or put the step into if: {{{path}: exists}}',
                place,
            )
        return shape

    def _root(self, root: str, event: Shape | None) -> Shape | None:
        match root:
            case "event":
                return event
            case "trigger":
                return event_shape(self.triggers)
            case "contact":
                return _CONTACT
            case "run":
                fields = {"id": TEXT, "started_at": TIME}
                return of_fields(fields | ({"ended_by": TEXT} if self.section == "end" else {}))
            case "vars":
                return of_fields(dict.fromkeys(self.vars, ANY))
            case "links":
                return _LINKS
            case "now":
                return TIME
        return None

    # -- templates and conditions --------------------------------------------------------------------------------------

    def templates(self, value: Json, place: Place, *, optional: bool = False, roots: Collection[str] = _ROOTS) -> None:
        """Check every template inside a value: its syntax and its paths, which begin with one of `roots`."""
        for inner, source in text.templates(value):
            here = (*place, *inner)
            try:
                references = text.paths(source)
            except text.TextError as error:
                self.report(str(error), here)
                continue
            for reference in references:
                if reference.path and reference.path[0] in _ROOTS and reference.path[0] not in roots:
                    self.report(f"{'.'.join(reference.path)}: here only {' and '.join(roots)} can be read", here)
                elif reference.path:
                    self.path(reference.path, here, optional=optional or reference.optional)

    def condition(
        self, condition: Json, place: Place, *, event: Shape | None = None, roots: Collection[str] = _ROOTS
    ) -> None:
        """Check a condition: over the event that is tested, if there is one, else over what the run knows.

        `roots` is what templates in it may read.
        """

        def look(path: str, place: Place) -> Shape | None:
            segments = path.split(".")
            if event is not None and segments[0] != "event":
                self.report(f"{path}: in where and match a path begins with event, the event that is tested", place)
                return None
            # What is not there makes a condition unknown, so that nothing needs to be certain.
            return self.path(segments, place, optional=True, event=event)

        checks.check(condition, look, self.report, place)
        self.templates(condition, place, roots=roots)

    def dynamic(self, value: str, place: Place) -> None:
        """Check a value that is a template, or a path written without braces."""
        if text.is_template(value):
            self.templates(value, place)
        else:
            self.path(value.split("."), place, optional=False)

    # -- the catalogue -------------------------------------------------------------------------------------------------

    def events(self, name: str, place: Place) -> tuple[Trigger[Any], ...]:
        """The triggers that an event name stands for; none with an error."""
        found = self.catalogue.triggers_for(name)
        if not found:
            self.report(self._nothing("event", name, self.catalogue.event_names()), place)
        return tuple(found)

    def nothing_does(self, name: str, place: Place) -> None:
        """Report that no action has this name."""
        self.report(self._nothing("action", name, self.catalogue.action_names()), place)

    def _nothing(self, what: str, name: str, names: Iterable[str]) -> str:
        connector = name.partition(".")[0]
        if connector in self.catalogue.unusable:
            return f"{name}: the plugin {connector} is not usable: {self.catalogue.unusable[connector]}"
        lacking = [
            f"{one.title} lacks it: {lack}"
            for one in self.catalogue.connectors.values()
            if (lack := one.lacks.get(name))
        ]
        if lacking:
            return f"no plugin has the {what} {name}; {'; '.join(lacking)}"
        names = list(names)
        prefixes = {*self.catalogue.connectors, *(n.partition(".")[0] for n in names)}
        if connector in prefixes or nearest(connector, prefixes):
            of_connector = [n for n in names if n.startswith(f"{connector}.")] or names
            return f"there is no {what} {name}{nearest(name, of_connector)}; there are {', '.join(of_connector)}"
        installed = ", ".join(sorted(self.catalogue.connectors)) or "none"
        return f"no plugin has the {what} {name}; install one that does; there are now: {installed}"


def event_shape(triggers: Sequence[Trigger[Any]]) -> Shape:
    """What an event holds that any of these triggers may have delivered: their common fields, and our own."""
    if not triggers:
        return ANY
    payload = common([of_model(trigger.payload) for trigger in triggers])
    fields = {name: payload.child(name) or ANY for name in payload.names()}
    types = Shape({"type": "string", "enum": sorted(trigger.type for trigger in triggers)})
    return of_fields({**fields, "type": types, "occurred_at": TIME, "event_id": TEXT, "connection": TEXT})
