"""What every kind of step has in common: its fields, and the seam a kind fills in.

A kind is one module: a model that derives from `Step`, its `check` and its `reach`; `hub.steps.KINDS` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from hub.catalogue import Catalogue
from hub.clock import parse_duration_ms
from hub.events import Json
from hub.shapes import TEXT, Shape, of_fields
from hub.steps.checking import Check, Place
from hub.steps.decisions import Arrival
from hub.steps.moment import Moment, Result

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]

ANY_STEP: Mapping[str, Json] = {"$comment": "step"}
"""Stands for every kind of step in a model's JSON Schema; `hub.recipes.json_schema` puts the kinds in its place."""

STEPS_SCHEMA: Mapping[str, Json] = {"type": "array", "items": dict(ANY_STEP)}


def _list_of_steps(value: Json) -> Json:
    if not isinstance(value, list):
        raise ValueError("a list of steps is expected; begin each with a dash")
    return value


Steps = Annotated[list[Any], BeforeValidator(_list_of_steps), WithJsonSchema(dict(STEPS_SCHEMA))]
"""Nested steps, as written: whoever walks the recipe parses them, so that errors have their place."""


def _duration(value: str) -> str:
    if parse_duration_ms(value) <= 0:
        raise ValueError(f"{value} is no time to wait; write a duration such as 24h")
    return value


Duration = Annotated[str, AfterValidator(_duration), Field(examples=["24h"])]


def _on_error(value: Json) -> Json:
    if isinstance(value, list) or value in ("retry", "continue", "stop"):
        return value
    raise ValueError("on_error is retry, continue, stop or a list of steps")


OnError = Annotated[
    Any,
    BeforeValidator(_on_error),
    WithJsonSchema({"anyOf": [{"enum": ["retry", "continue", "stop"]}, dict(STEPS_SCHEMA)]}),
]


class Step(BaseModel, ABC):
    """One step of a recipe. `kind` is the field that tells the kinds apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    resolved: ClassVar[frozenset[str]] = frozenset()
    """Fields that are filled in by `complete` and `bind` and may not be written."""

    id: Name | None = None
    as_: Name | None = Field(None, alias="as")
    on_error: OnError = "retry"
    on_unknown: Literal["stop", "continue", "ask"] | None = None
    require_sent: Name | None = None

    # -- saving a recipe -----------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, check: Check, place: Place) -> Shape:
        """Report what is wrong beyond the model; returns the shape of what `steps.NAME` will hold."""

    def complete(self, raw: dict[str, Json], catalogue: Catalogue) -> None:
        """Add to the normal form what can be looked up in the catalogue."""

    def branches(self) -> Iterator[tuple[Place, list[Any]]]:
        """The nested lists of steps, as written, with their places inside the step."""
        if isinstance(self.on_error, list):
            yield ("on_error",), self.on_error

    # -- deciding ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def reach(self, at: Moment) -> Result:
        """What to do here: the run has just come to this step, or is decided again after a crash. Raises TextError."""

    def hear(self, at: Moment, arrival: Arrival) -> Result:
        """What to do now that something arrived while the run stood here. Raises TextError."""
        return self.reach(at)


OUTCOME = of_fields({"outcome": TEXT})
"""The shape of a step that gives nothing but its outcome."""
