"""Recipes: from the text a person wrote to a checked definition that runs, and the schema that editors use."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from hub.catalogue import Catalogue, nearest
from hub.connector import Trigger
from hub.documents import Document, read
from hub.errors import RecipeErrors
from hub.events import Json
from hub.purposes import Purpose
from hub.recipes.binding import bind
from hub.recipes.form import OnEvent, RecipeForm, parse_step, report_problems
from hub.recipes.ids import assign, every_step
from hub.steps import KINDS, kind_of
from hub.steps.awaited import check_awaited
from hub.steps.checking import Check, Known, event_shape
from hub.steps.step import ANY_STEP

__all__ = ["Recipe", "bind", "json_schema", "load"]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `definition` is its JSON normal form, every step with its stable id; `source` the text as written."""

    name: str
    definition: Mapping[str, Json]
    source: str

    @property
    def triggers(self) -> tuple[str, ...]:
        """The event types that may start it."""
        return tuple(sorted({type_ for start in self.definition["on"] for type_ in start["types"]}))

    @property
    def purposes(self) -> frozenset[str]:
        """The purposes its messages name."""
        return frozenset(one.raw["purpose"] for one in every_step(self.definition) if "purpose" in one.raw)

    @property
    def actions(self) -> frozenset[str]:
        """The actions and capabilities it uses, as written."""
        return frozenset(one.raw["do"] for one in every_step(self.definition) if "do" in one.raw)


def load(
    source: str,
    catalogue: Catalogue,
    *,
    file: str | None = None,
    purposes: Mapping[str, Purpose] | None = None,
    previous: Mapping[str, Json] | None = None,
) -> Recipe:
    """A recipe from its text, checked. Raises RecipeErrors with everything that is wrong, each with file and line.

    `purposes` None leaves the names of purposes unchecked; `previous` is the definition of the last published version,
    whose step ids are kept.
    """
    document = read(source, file=file)
    if not isinstance(document.value, dict):
        raise RecipeErrors([document.error("a recipe is a mapping with recipe, on and steps", ())])
    form = _form(document)
    check = Check(
        document=document,
        catalogue=catalogue,
        purposes=purposes,
        parse=parse_step,
        vars=form.vars,
        has_exits=bool(form.exit_on),
    )
    _check(form, check)
    document.raise_errors()
    definition = _normal(document.value, form, catalogue)
    assign(definition, previous, document)
    document.raise_errors()
    return Recipe(form.recipe, definition, source)


def _form(document: Document) -> RecipeForm:
    try:
        return RecipeForm.model_validate(document.value)
    except ValidationError as error:
        report_problems(document, error, document.value, (), RecipeForm)
        document.raise_errors()
        raise


def _check(form: RecipeForm, check: Check) -> None:
    triggers: list[Trigger[Any]] = []
    for place, start in form.starts:
        found = check.events(start.event, (*place, "event") if isinstance(form.on, OnEvent) else place)
        triggers += found
        if start.where is not None and found:
            _check_start(start, check, place)
    check.triggers = tuple(triggers)
    if form.entry and form.entry.per != "contact":
        check.templates(form.entry.per, ("entry", "per"), roots=("trigger", "vars"))
        if "{{" not in form.entry.per:
            check.report('per is contact or a template such as "{{ trigger.id }}"', ("entry", "per"))
    names = {*check.catalogue.connectors, *check.catalogue.action_names(), *check.catalogue.event_names()}
    for name in form.connections:
        if name not in names:
            check.report(f"there is nothing called {name} to connect{nearest(name, names)}", ("connections", name))
    check.steps(form.steps, ("steps",))
    for index, one in enumerate(form.exit_on):
        leaving = check.afterwards()
        leaving.section = "exit"
        _check_exit(leaving, one, index)
    ending = check.afterwards()
    ending.section = "end"
    ending.steps(form.on_end, ("on_end",))


def _check_start(start: OnEvent, check: Check, place: tuple[str | int, ...]) -> None:
    shape = event_shape(check.catalogue.triggers_for(start.event))
    check.condition(start.where, (*place, "where"), event=shape, roots=("vars",))


def _check_exit(check: Check, one: Json, index: int) -> None:
    place = ("exit_on", index)
    # An exit is armed once the steps it refers to have their results, so that these are certain there.
    armed = check.branch()
    armed.known = {
        name: Known(replace(known.shape, optional=frozenset()), certain=True) for name, known in check.known.items()
    }
    check_awaited(one, armed, place)
    check.steps(one.then, (*place, "then"))


def _normal(value: Mapping[str, Json], form: RecipeForm, catalogue: Catalogue) -> dict[str, Json]:
    """The JSON normal form: what was written, with one way of writing where there are several, and event types."""
    written: dict[str, Json] = copy.deepcopy(dict(value))
    written["on"] = [
        {
            **start.model_dump(by_alias=True, exclude_none=True),
            "types": sorted(trigger.type for trigger in catalogue.triggers_for(start.event)),
        }
        for _, start in form.starts
    ]
    for one in written.get("exit_on") or []:
        one["types"] = sorted(trigger.type for trigger in catalogue.triggers_for(one["event"]))
    for step in every_step(written):
        kind = kind_of(step.raw)
        assert kind is not None, "the steps are checked"
        kind.model_validate(step.raw).complete(step.raw, catalogue)
    return written


def json_schema() -> dict[str, Json]:
    """The JSON Schema of a recipe file, for editors and validators."""
    schema = RecipeForm.model_json_schema(mode="validation")
    definitions: dict[str, Json] = schema.setdefault("$defs", {})
    kinds = []
    for name, kind in KINDS.items():
        one = kind.model_json_schema(mode="validation")
        definitions |= one.pop("$defs", {})
        for hidden in kind.resolved:
            del one["properties"][hidden]
        definitions[f"step_{name}"] = one
        kinds.append({"$ref": f"#/$defs/step_{name}"})
    definitions["step"] = {"anyOf": kinds}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    filled: dict[str, Json] = _filled(schema)
    return filled


def _filled(value: Json) -> Json:
    """A schema with the kinds in the places that stand for any step."""
    if value == ANY_STEP:
        return {"$ref": "#/$defs/step"}
    if isinstance(value, dict):
        return {key: _filled(one) for key, one in value.items()}
    return [_filled(one) for one in value] if isinstance(value, list) else value
