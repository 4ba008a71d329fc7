"""What a step sees when it decides, and the ways it can answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hub import text
from hub.clock import rfc3339
from hub.conditions import Judgement, judge
from hub.events import Json
from hub.steps.decisions import Act, ContactChange, Facts, RunState, Sleep, Wait


@dataclass(frozen=True)
class Passed:
    """The step is over; the run goes on with the branch, or with the next step."""

    outcome: str
    reason: str
    branch: str | None = None


@dataclass(frozen=True)
class Failed:
    """The step could not do its work; its `on_error` says what follows."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """The run is over, by the step's own word or because a step failed for good."""

    ended_by: str
    reason: str
    failed: bool = False
    outcome: str | None = None
    """The word for the step, where it is not `ended_by`."""


Result = Passed | Failed | Ended | Act | Sleep | Wait


@dataclass
class Moment:
    """One step's view of its run. `ctx` and `changes` are the decision's own: a step may write to them.

    `ctx` holds: `section` (main, exit, end), `steps` (outputs by name), `intents` (when the call of a named step was
    first intended, in ms), `intent` (the newest of these), `step` and `reached` (the step stood on and since when),
    `until` (what a wait has fixed), `asking` (the outcome is a person's to tell), `armed` (exits watched), `ended`.
    """

    run: RunState
    facts: Facts
    now_ms: int
    vars: Mapping[str, Json]
    ctx: dict[str, Json]
    changes: list[ContactChange] = field(default_factory=list)
    step_id: str = ""
    path: str = ""
    name: str | None = None
    """The step's `as`."""

    @property
    def steps(self) -> dict[str, Json]:
        """The outputs of named steps."""
        found: dict[str, Json] = self.ctx["steps"]
        return found

    @property
    def reached_ms(self) -> int:
        """When the run first came to this step."""
        return int(self.ctx["reached"])

    @cached_property
    def contact(self) -> dict[str, Json]:
        """The contact as loaded, with the changes of this decision."""
        return dict(self.facts.contact or {})

    @cached_property
    def scope(self) -> dict[str, Json]:
        """What templates and conditions see."""
        run = {"id": self.run.run_id, "started_at": rfc3339(self.run.started_at_ms)}
        if ended := self.ctx.get("ended"):
            run["ended_by"] = ended["by"]
        return {
            "trigger": self.run.trigger,
            "contact": self.contact,
            "steps": self.steps,
            "run": run,
            "vars": {**self.vars, **self.facts.vars},
            "links": self.facts.links,
            "now": rfc3339(self.now_ms),
        }

    def render(self, value: Json, place: str) -> Json:
        """A value with its templates rendered; `place` is where it stands in the step. Raises TextError."""
        return text.render(value, self.scope, path=f"{self.path}/{place}")

    def judge(self, condition: Json, place: str) -> Judgement:
        """Whether a condition holds now. Raises TextError."""
        return judge(self.render(condition, place), self.scope)

    def remember(self, **values: Json) -> None:
        """Add to what `steps.NAME` holds, if the step has a name."""
        if self.name:
            self.steps[self.name] = {**self.steps.get(self.name, {}), **values}
