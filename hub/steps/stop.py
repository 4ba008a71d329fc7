"""`stop`: the run is over, under a name of the recipe's own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from hub.shapes import Shape
from hub.steps.checking import Check, Place
from hub.steps.moment import Ended, Moment, Result
from hub.steps.step import OUTCOME, Name, Step

_TAKEN = ("failed", "cancelled")


class Stop(Step):
    """End the run; the word says why, and `on_end` sees it as `run.ended_by`."""

    kind: ClassVar[str] = "stop"

    stop: Name

    @field_validator("stop")
    @classmethod
    def _free(cls, word: str) -> str:
        if word in _TAKEN:
            raise ValueError(f"a run that ends as {word} does so by itself; choose another word")
        return word

    def check(self, check: Check, place: Place) -> Shape:
        if check.section == "end":
            check.report("on_end cannot stop the run: it is over", place)
        check.goes_on = False
        return OUTCOME

    def reach(self, at: Moment) -> Result:
        return Ended(self.stop, f"stopped: {self.stop}")
