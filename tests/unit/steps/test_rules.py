"""Rules about several fields of an input: told before its templates have values, where these cannot matter."""

from __future__ import annotations

from typing import Any, Self

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from hub.steps.rules import broken_rules
from hub.text import templates


class Line(BaseModel):
    variant: str | None = None
    title: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.variant is None) == (self.title is None):
            raise ValueError("give either variant or title")
        return self


class Letter(BaseModel):
    to: str
    copies: int = 1
    at_most: int = 9
    html: str | None = None
    text: str | None = Field(None, alias="plain")
    lines: list[Line] = []

    @field_validator("copies")
    @classmethod
    def _some(cls, value: int) -> int:
        assert value > 0
        return value

    @model_validator(mode="after")
    def _content(self) -> Self:
        if not (self.html or self.text):
            raise ValueError("give html, plain or both")
        return self

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.copies > self.at_most:
            raise ValueError("copies is more than at_most")
        return self


class Dumped(BaseModel):
    to: str
    html: str | None = None

    @model_validator(mode="after")
    def _content(self) -> Self:
        if None in self.model_dump().values():
            raise ValueError("something is missing")
        return self


class Raw(BaseModel):
    html: str

    @model_validator(mode="before")
    @classmethod
    def _content(cls, given: Any) -> Any:
        if "to" not in given:
            raise ValueError("to is missing")
        return given


T = "{{ trigger.x }}"
NOTHING, LINE = ("give html, plain or both", ()), "give either variant or title"


@pytest.mark.parametrize(
    ("model", "given", "broken"),
    [
        # what is absent or empty stays so, whatever a template elsewhere gives
        (Letter, {"to": T}, [NOTHING]),
        (Letter, {"to": T, "html": ""}, [NOTHING]),
        (Letter, {"to": T, "copies": T}, [NOTHING]),
        (Letter, {"to": T, "html": "x", "copies": 10}, [("copies is more than at_most", ())]),
        (Letter, {"to": T, "html": "x", "lines": [{"title": "a"}, {}]}, []),
        (Letter, {"to": "x", "html": "x", "lines": [{"title": T}, {"title": "a", "variant": "b"}]}, []),
        # what a template gives may be anything
        (Letter, {"to": "x", "html": T}, []),
        (Letter, {"to": "x", "plain": T}, []),
        (Letter, {"to": "x", "html": "x", "copies": T, "at_most": -1}, []),
        (Letter, {"to": T, "html": "x"}, []),
        # without a template validating tells it
        (Letter, {"to": "x"}, []),
        # a rule that reads all at once, or what was written, may read the template
        (Dumped, {"to": T}, []),
        (Raw, {"html": T}, []),
    ],
)
def test_a_rule_is_told_where_no_template_can_matter(
    model: type[BaseModel], given: dict[str, Any], broken: list[Any]
) -> None:
    assert list(broken_rules(model, given, [place for place, _ in templates(given)])) == broken


def test_a_rule_of_a_model_inside_is_told_with_its_place() -> None:
    class Size(BaseModel):
        wide: int | None = None
        high: int | None = None
        unit: str = "cm"

        @model_validator(mode="after")
        def _one(self) -> Self:
            if self.wide is None and self.high is None:
                raise ValueError("give wide or high")
            return self

    class Box(BaseModel):
        size: Size | None = None
        parts: list[Size] = []

    given = {"size": {"unit": T}, "parts": [{"wide": 1, "unit": T}, {"unit": T}]}
    told = [("give wide or high", ("size",)), ("give wide or high", ("parts", 1))]
    assert list(broken_rules(Box, given, [place for place, _ in templates(given)])) == told
