"""Which fields of a recipe's steps hold one of their vendor's choices (`Chosen`); pure, whoever looks them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hub.catalogue import Catalogue
from hub.connector import Chosen
from hub.documents import Path
from hub.events import Json
from hub.recipes.ids import every_step
from hub.steps import kind_of
from hub.steps.do import Do
from hub.text import is_template


@dataclass(frozen=True)
class Written:
    """One choice that a bound recipe names: where it stands, over which connection, and the text that was written.

    `within` are the values of the fields that it depends on, as they stand; None where one is filled in at run time.
    """

    step: str
    place: Path
    connector: str
    connection: str
    field: str
    chosen: Chosen
    text: str
    within: Mapping[str, str] | None


def chosen_fields(model: type[BaseModel]) -> dict[str, Chosen]:
    """The fields of an action's input that hold choices, by the names that recipes write: `list_id`, `lines.variant_id`."""
    return {".".join(path): chosen for path, chosen, _ in _fields(model)}


def _fields(
    model: type[BaseModel], outer: tuple[type[BaseModel], ...] = ()
) -> Iterator[tuple[tuple[str, ...], Chosen, type[BaseModel]]]:
    """Each field that holds choices: where it stands in the input, also within models and lists of them, and its model."""
    for name, field in model.model_fields.items():
        here = (field.alias or name,)
        if (chosen := _annotated(field)) is not None:
            yield here, chosen, model
        for part in _models(field.annotation):
            # One that holds itself is looked at once.
            if part not in (*outer, model):
                yield from ((here + path, found, of) for path, found, of in _fields(part, (*outer, model)))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of: of `Model`, `list[Model]` and `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _annotated(field: FieldInfo) -> Chosen | None:
    return next((one for one in [*field.metadata, *_within(field.annotation)] if isinstance(one, Chosen)), None)


def _within(annotation: Any) -> Iterator[object]:
    """What annotates the parts of a type: of `list[Annotated[str, …]]` and `Annotated[str, …] | None`."""
    for part in get_args(annotation):
        yield from getattr(part, "__metadata__", ())
        yield from _within(part)


def written(definition: Mapping[str, Json], catalogue: Catalogue) -> list[Written]:
    """Every choice that a bound definition names as text, those first that others depend on. Templates are left out."""
    found: list[Written] = []
    for one in every_step(definition):
        action = catalogue.action(str(one.raw.get("action"))) if kind_of(one.raw) is Do else None
        if action is None:
            continue
        given: Mapping[str, Json] = one.raw.get("with") or {}
        for path, chosen, model in sorted(_fields(action.input), key=lambda field: len(field[1].within)):
            for holder, place in _holders(given, path[:-1], (*one.place, "with")):
                for spot, text in _texts(holder.get(path[-1]), (*place, path[-1])):
                    found.append(
                        Written(
                            step=str(one.raw["id"]),
                            place=spot,
                            connector=action.connector,
                            connection=str(one.raw["connection"]),
                            field=".".join(path),
                            chosen=chosen,
                            text=text,
                            within=_values(holder, chosen, model),
                        )
                    )
    return found


def _holders(value: Json, path: tuple[str, ...], place: Path) -> Iterator[tuple[Mapping[str, Json], Path]]:
    """What is written for the model at a path: one mapping, or each of a list."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _holders(one, path, (*place, index))
    elif isinstance(value, Mapping):
        if path:
            yield from _holders(value.get(path[0]), path[1:], (*place, path[0]))
        else:
            yield value, place


def _texts(value: Json, place: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str) and value and not is_template(value):
        yield place, value
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, (*place, index))


def _values(given: Mapping[str, Json], chosen: Chosen, model: type[BaseModel]) -> Mapping[str, str] | None:
    """What the choices depend on; what is neither written nor has a default is left out."""
    defaults = {field.alias or name: field.default for name, field in model.model_fields.items()}
    values = {name: given.get(name, defaults.get(name)) for name in chosen.within}
    if any(is_template(value) for value in values.values()):
        return None
    return {name: value for name, value in values.items() if isinstance(value, str)}
