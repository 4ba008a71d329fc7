"""`if`: one of two ways, by a condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from hub.conditions import Truth
from hub.events import Json
from hub.shapes import Shape
from hub.steps.checking import Check, Place
from hub.steps.moment import Ended, Moment, Passed, Result
from hub.steps.step import OUTCOME, Step, Steps


class If(Step):
    """Take `then` where a condition is true, else `else`. Unknown is not true; `on_unknown: stop` ends the run there."""

    kind: ClassVar[str] = "if"

    if_: dict[str, Json] = Field(alias="if")
    then: Steps
    else_: Steps | None = Field(None, alias="else")

    def check(self, check: Check, place: Place) -> Shape:
        check.condition(self.if_, (*place, "if"))
        then, other = check.branch(where=self.if_), check.branch()
        then.steps(self.then, (*place, "then"))
        other.steps(self.else_ or [], (*place, "else"))
        check.join([then, other])
        return OUTCOME

    def branches(self) -> Iterator[tuple[Place, list[Any]]]:
        yield ("then",), self.then
        if self.else_ is not None:
            yield ("else",), self.else_
        yield from super().branches()

    def reach(self, at: Moment) -> Result:
        judgement = at.judge(self.if_, "if")
        if judgement.truth is Truth.UNKNOWN and self.on_unknown == "stop":
            return Ended("unknown", judgement.reason)
        way = "then" if judgement.truth is Truth.TRUE else "else"
        word = "unknown" if judgement.truth is Truth.UNKNOWN else way
        return Passed(word, judgement.reason, branch=way)
