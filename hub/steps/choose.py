"""`choose`: the first of several ways whose condition is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from hub.conditions import Truth
from hub.events import Json
from hub.shapes import Shape
from hub.steps.checking import Check, Place
from hub.steps.moment import Ended, Moment, Passed, Result
from hub.steps.step import OUTCOME, Step, Steps


class When(BaseModel):
    """One way and its condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    if_: dict[str, Json] = Field(alias="if")
    then: Steps


class Otherwise(BaseModel):
    """The way where no condition is true."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    else_: Steps = Field(alias="else")


def _form(value: Json) -> str:
    return "otherwise" if isinstance(value, Otherwise) or (isinstance(value, dict) and "else" in value) else "when"


Way = Annotated[Annotated[When, Tag("when")] | Annotated[Otherwise, Tag("otherwise")], Discriminator(_form)]


class Choose(Step):
    """Take the first way whose condition is true, else the one without a condition, else go on."""

    kind: ClassVar[str] = "choose"

    choose: list[Way] = Field(min_length=1)

    @field_validator("choose")
    @classmethod
    def _else_comes_last(cls, ways: list[Way]) -> list[Way]:
        if any(isinstance(way, Otherwise) for way in ways[:-1]):
            raise ValueError("else comes last and once: what follows it is never reached")
        return ways

    def check(self, check: Check, place: Place) -> Shape:
        branches = []
        for index, way in enumerate(self.choose):
            here = (*place, "choose", index)
            if isinstance(way, When):
                check.condition(way.if_, (*here, "if"))
                branches.append(check.branch(where=way.if_))
                branches[-1].steps(way.then, (*here, "then"))
            else:
                branches.append(check.branch())
                branches[-1].steps(way.else_, (*here, "else"))
        if isinstance(self.choose[-1], When):
            branches.append(check.branch())
        check.join(branches)
        return OUTCOME

    def branches(self) -> Iterator[tuple[Place, list[Any]]]:
        for index, way in enumerate(self.choose):
            if isinstance(way, When):
                yield ("choose", index, "then"), way.then
            else:
                yield ("choose", index, "else"), way.else_
        yield from super().branches()

    def reach(self, at: Moment) -> Result:
        reasons: list[str] = []
        for index, way in enumerate(self.choose):
            if isinstance(way, Otherwise):
                return Passed("else", "; ".join(reasons), branch=f"choose/{index}/else")
            judgement = at.judge(way.if_, f"choose/{index}/if")
            if judgement.truth is Truth.TRUE:
                return Passed(str(index), judgement.reason, branch=f"choose/{index}/then")
            if judgement.truth is Truth.UNKNOWN and self.on_unknown == "stop":
                return Ended("unknown", judgement.reason)
            reasons.append(judgement.reason)
        return Passed("none", "; ".join(reasons))
