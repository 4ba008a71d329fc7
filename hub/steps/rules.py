"""The rules of an action's input that are about several fields at once, while some of these are templates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from hub.events import Json
from hub.misfits import unprefixed
from hub.steps.checking import Place

# Each of these gives a rule all fields at once.
_ALL = frozenset(("__dict__", "model_copy", "model_dump", "model_dump_json", "model_fields_set"))


class _Unknown(Exception):
    """A rule asked for what a template will give."""


def broken_rules(
    model: type[BaseModel], given: Mapping[str, Json], templates: Collection[Place], place: Place = ()
) -> Iterable[tuple[str, Place]]:
    """The rules that are broken whatever the templates will give: (message, place of the model that has the rule).

    `templates` are places inside `given`; without one there is nothing to tell that validating does not. A rule that
    reads a field with a template in it is not told, nor are those of a model that looks at its raw input.
    """
    if not templates or () in templates:
        return
    for name, field in model.model_fields.items():
        key = field.alias if field.alias is not None and field.alias in given else name
        inner = _model_in(field.annotation)
        if inner is not None and key in given:
            for value, below in _items(given[key], (key,)):
                inside = [t[len(below) :] for t in templates if t[: len(below)] == below]
                yield from broken_rules(inner, value, inside, (*place, *below))
    if message := _broken(model, given, {str(template[0]) for template in templates}):
        yield message, place


def _items(value: Json, place: Place) -> Iterable[tuple[Mapping[str, Json], Place]]:
    if isinstance(value, Mapping):
        yield value, place
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _items(one, (*place, index))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The one model that a field holds, alone, optional or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = {inner for part in get_args(annotation) if (inner := _model_in(part)) is not None}
    return found.pop() if len(found) == 1 else None


def _broken(model: type[BaseModel], given: Mapping[str, Json], unknown: Collection[str]) -> str | None:
    """What a rule says of the fields that are known, where it reads no other."""
    modes = [rule.info.mode for rule in model.__pydantic_decorators__.model_validators.values()]
    if not modes or any(mode != "after" for mode in modes):
        return None
    hidden = {name for name, field in model.model_fields.items() if {name, field.alias} & {*unknown}}

    class Guarded(model):  # type: ignore[misc, valid-type]  # a model that is known when it runs
        def __getattribute__(self, name: str) -> Any:
            if name in hidden or name in _ALL:
                raise _Unknown
            return super().__getattribute__(name)

    whatever: dict[str, Any] = {name: (Any, Field(default=None, validate_default=False)) for name in hidden}
    known = TypeAdapter(create_model(model.__name__, __base__=Guarded, **whatever))
    try:
        known.validate_python({name: value for name, value in given.items() if name not in unknown})
    except _Unknown:
        return None
    except ValidationError as error:
        rules = [one for one in error.errors(include_url=False, include_input=False) if not one["loc"]]
        return next(
            (unprefixed(one["msg"]) for one in rules if one["type"] in {"value_error", "assertion_error"}), None
        )
    return None
