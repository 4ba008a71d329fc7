"""The form of a recipe file: its models, and what pydantic finds wrong said in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from hub.catalogue import nearest
from hub.clock import parse_duration_ms
from hub.documents import Document, Path
from hub.events import Json
from hub.misfits import unprefixed
from hub.shapes import Shape
from hub.steps import KINDS, LATER, kind_of
from hub.steps.awaited import Awaited
from hub.steps.checking import Check
from hub.steps.step import Name, Step, Steps

_LATER_FIELDS = (
    *("goal", "subject", "priority", "decision", "segment", "score", "date", "schedule", "manual", "change"),
    *("crosses", "direction", "missed", "feb_29"),
)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Json) -> Json:
    return [value] if isinstance(value, str) else value


class OnEvent(_Form):
    """A start by an event. `from_` names connections; `types` is filled in from the catalogue."""

    event: str
    where: dict[str, Json] | None = Field(None, min_length=1)
    from_: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)] | None = Field(None, alias="from")


def _as_event(value: Json) -> Json:
    return {"event": value} if isinstance(value, str) else value


class OnAny(_Form):
    """A start by one of several events."""

    any_of: list[Annotated[OnEvent, BeforeValidator(_as_event, json_schema_input_type=str | OnEvent)]] = Field(
        min_length=1
    )


def _on_form(value: Json) -> str:
    return "several" if isinstance(value, OnAny) or (isinstance(value, dict) and "any_of" in value) else "one"


On = Annotated[Annotated[OnEvent, Tag("one")] | Annotated[OnAny, Tag("several")], Discriminator(_on_form)]


def _within(value: str) -> str:
    if value == "calendar_year":
        raise ValueError("calendar_year is not part of this release; write a duration such as 365d, or ever")
    if value != "ever" and parse_duration_ms(value) <= 0:
        raise ValueError(f"{value} is no window; write a duration such as 7d, or ever")
    return value


class Entry(_Form):
    """How often a recipe is entered."""

    per: str = "contact"
    at_most: int = Field(1, ge=1, le=1000)
    within: Annotated[str, AfterValidator(_within)] = "ever"
    while_inside: Literal["ignore", "restart", "parallel"] = "ignore"

    @property
    def within_ms(self) -> int | None:
        """The window in ms, None for ever."""
        return None if self.within == "ever" else parse_duration_ms(self.within)


class Exit(Awaited):
    """An event that ends the run, after the steps of `then`."""

    then: Steps = Field(default_factory=list)


class RecipeForm(_Form):
    """A recipe file."""

    recipe: Name
    journey: Name | None = None
    on: On
    entry: Entry | None = None
    exit_on: list[Exit] = Field(default_factory=list)
    on_end: Steps = Field(default_factory=list)
    steps: Steps = Field(min_length=1)
    vars: dict[Name, Json] = Field(default_factory=dict)
    connections: dict[str, str] = Field(default_factory=dict)

    @property
    def starts(self) -> Sequence[tuple[Path, OnEvent]]:
        """Every event that starts it, with its place."""
        if isinstance(self.on, OnEvent):
            return [(("on",), self.on)]
        return [(("on", "any_of", index), one) for index, one in enumerate(self.on.any_of)]


def parse_step(raw: Json, check: Check, place: Path) -> Step | None:
    """A step from what was written, or None with its errors reported."""
    if not isinstance(raw, dict):
        check.report("a step is a mapping, such as {do: email.send, with: {…}}", place)
        return None
    kind = kind_of(raw)
    if kind is None:
        later = next((name for name in LATER if name in raw), None)
        if later:
            check.report(f"{later} is not part of this release; the steps are {', '.join(KINDS)}", (*place, later))
        else:
            guess = next((found for name in raw if (found := nearest(name, KINDS))), "")
            check.report(f"this is no step{guess}; a step has one of {', '.join(KINDS)}", place)
        return None
    written = {name: value for name, value in raw.items() if name not in kind.resolved}
    for name in raw.keys() - written.keys():
        check.report(f"{name} is filled in by the hub; remove it", (*place, name))
    try:
        return kind.model_validate(written)
    except ValidationError as error:
        report_problems(check.document, error, written, place, kind)
        return None


def report_problems(document: Document, error: ValidationError, raw: Json, place: Path, model: type[BaseModel]) -> None:
    """Report what a model refused about `raw`, which stands at `place`."""
    schema = model.model_json_schema(mode="validation")
    shape = Shape(schema, schema.get("$defs", {}))
    found = error.errors(include_url=False)
    early = {_place_in(raw, one)[:-1] for one in found if one["loc"] and one["loc"][-1] in _LATER_FIELDS}
    for one in found:
        inner = _place_in(raw, one)
        if one["type"] == "missing":
            # What would be missing is not the point where the form itself is of a later release.
            if inner not in early:
                document.report(f"{one['loc'][-1]} is missing", (*place, *inner))
            continue
        document.report(_said(one, inner, shape, model), (*place, *inner))


def _place_in(raw: Json, one: ErrorDetails) -> Path:
    """An error's place as written: without the names of union members, which only pydantic knows."""
    place: list[str | int] = []
    value = raw
    for segment in one["loc"]:
        in_list = isinstance(value, list) and isinstance(segment, int) and segment < len(value)
        if in_list or (isinstance(value, Mapping) and segment in value):
            value = value[segment]
            place.append(segment)
    return tuple(place)


def _said(one: ErrorDetails, inner: Path, shape: Shape, model: type[BaseModel]) -> str:
    given: Json = one["input"]
    match one["type"]:
        case "extra_forbidden":
            names = _names_at(shape, inner[:-1], model)
            name = str(inner[-1])
            if name in _LATER_FIELDS:
                return f"{name} is not part of this release; there are {', '.join(names)}"
            return f"unknown field {name}{nearest(name, names)}; there are {', '.join(names)}"
        case "literal_error":
            expected = str(one["ctx"]["expected"]).replace("'", "")
            return f"{given} is not possible here{nearest(str(given), expected.replace(' or ', ', ').split(', '))}; write {expected}"
        case "string_type":
            quoted = "; put quotes around it" if isinstance(given, bool | int | float) else ""
            return f"text is expected{quoted}"
        case "string_pattern_mismatch":
            return f"{given!r} is no name: use lower-case letters, digits, - and _, beginning with a letter"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "a mapping is expected, such as {name: value}"
        case "list_type":
            return "a list is expected; begin each item with a dash"
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number is expected"
        case "too_short":
            return "this is empty; fill it in or remove it"
    return unprefixed(one["msg"])


def _names_at(shape: Shape, place: Path, model: type[BaseModel]) -> list[str]:
    found: Shape | None = shape
    for segment in place:
        found = found.child(str(segment)) if found else None
    names = found.names() if found else []
    hidden = model.resolved if not place and issubclass(model, Step) else frozenset[Any]()
    return [name for name in names if name not in hidden]
