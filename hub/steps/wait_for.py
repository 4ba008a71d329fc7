"""`wait_for`: for the first of several named answers, or a timeout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hub import text
from hub.catalogue import Catalogue, nearest
from hub.clock import parse_duration_ms
from hub.events import Json
from hub.shapes import TEXT, Shape, common, of_fields
from hub.steps.awaited import Awaited, check_awaited, watches
from hub.steps.checking import Check, Known, Place, event_shape
from hub.steps.decisions import Answered, Arrival, TimerFired, Wait, Watch
from hub.steps.moment import Moment, Passed, Result
from hub.steps.step import STEPS_SCHEMA, Name, Step, Steps
from hub.steps.wait import Until


def _timeout(value: str) -> str:
    if value != "never" and parse_duration_ms(value) <= 0:
        raise ValueError(f"{value} is no timeout; write a duration such as 7d, or never")
    return value


class WaitFor(Step):
    """Wait for one of several events; the first one decides which branch, named after it, is taken."""

    model_config = ConfigDict(
        extra="allow", frozen=True, json_schema_extra={"additionalProperties": dict(STEPS_SCHEMA)}
    )

    kind: ClassVar[str] = "wait_for"
    resolved: ClassVar[frozenset[str]] = frozenset({"types"})

    wait_for: dict[Name, Awaited] = Field(min_length=1)
    timeout: Annotated[
        Annotated[str, AfterValidator(_timeout), Tag("a duration")] | Annotated[Until, Tag("a date")],
        Discriminator(lambda value: "a duration" if isinstance(value, str | int | float) else "a date"),
    ]
    since: Name | None = None
    on_timeout: Steps | None = None
    types: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Per answer the event types its event stands for."""

    @model_validator(mode="after")
    def _branches_are_answers(self) -> WaitFor:
        for name, steps in (self.model_extra or {}).items():
            if name not in self.wait_for:
                known = (*self.wait_for, *(field.alias or key for key, field in type(self).model_fields.items()))
                raise ValueError(f"{name} is no answer of this wait_for, nor a field{nearest(name, known)}")
            if not isinstance(steps, list):
                raise ValueError(f"{name} takes a list of steps; begin each with a dash")
        if taken := set(self.wait_for) & {"event", "timeout", "answer", *type(self).model_fields}:
            raise ValueError(f"{min(taken)} cannot be the name of an answer; choose another word")
        return self

    # -- saving --------------------------------------------------------------------------------------------------------

    def check(self, check: Check, place: Place) -> Shape:
        if check.section == "end":
            check.report("on_end has no waits: the run is over", place)
        if self.since:
            check.step_named(self.since, (*place, "since"))
        if isinstance(self.timeout, Until):
            check.dynamic(self.timeout.until, (*place, "timeout", "until"))
        if self.timeout == "never" and self.on_timeout:
            check.report("timeout is never, so that on_timeout is never reached", (*place, "on_timeout"))
        shapes = {}
        for name, awaited in self.wait_for.items():
            check_awaited(awaited, check, (*place, "wait_for", name))
            shapes[name] = event_shape(check.catalogue.triggers_for(awaited.event))
        ways = []
        for name, shape in shapes.items():
            ways.append(self._way(check, _result(shape)))
            ways[-1].steps((self.model_extra or {}).get(name, []), (*place, name))
        silence = _result(common(list(shapes.values())))
        silence = replace(silence, optional=frozenset({"event"}))
        if self.timeout != "never":
            ways.append(self._way(check, silence))
            ways[-1].steps(self.on_timeout or [], (*place, "on_timeout"))
        check.join(ways)
        return silence

    def _way(self, check: Check, result: Shape) -> Check:
        way = check.branch()
        if self.as_:
            way.known[self.as_] = Known(result, certain=True)
        return way

    def complete(self, raw: dict[str, Json], catalogue: Catalogue) -> None:
        raw["types"] = {
            name: [trigger.type for trigger in catalogue.triggers_for(awaited.event)]
            for name, awaited in self.wait_for.items()
        }

    def branches(self) -> Iterator[tuple[Place, list[Any]]]:
        for name, steps in (self.model_extra or {}).items():
            yield (name,), steps
        if self.on_timeout is not None:
            yield ("on_timeout",), self.on_timeout
        yield from super().branches()

    # -- deciding ------------------------------------------------------------------------------------------------------

    def reach(self, at: Moment) -> Result:
        if "until" not in at.ctx:
            at.ctx["until"] = self._until_ms(at)
        until_ms = at.ctx["until"]
        found: list[Watch] = []
        impossible: list[str] = []
        for name, awaited in self.wait_for.items():
            try:
                found += self._watches(at, name, awaited)
            except text.TextError as error:
                # What the answer would be recognised by never came to be, such as the id of a mail that was not sent.
                impossible.append(f"{name} cannot come: {error}")
        if not found and until_ms is None:
            return self._timed_out(at, "; ".join(impossible))
        reason = f"waiting for {' or '.join(self.wait_for)}"
        return Wait(tuple(found), until_ms, "; ".join([reason, *impossible]))

    def _watches(self, at: Moment, name: str, awaited: Awaited) -> tuple[Watch, ...]:
        return watches(
            awaited,
            self.types.get(name, (awaited.event,)),
            at.scope,
            kind="answer",
            name=name,
            contact_id=at.run.contact_id,
            since_ms=self._since_ms(at),
            place=f"{at.path}/wait_for/{name}",
        )

    def _since_ms(self, at: Moment) -> int:
        intents = at.ctx["intents"]
        newest = at.ctx.get("intent", at.run.since_ms)
        return int(intents.get(self.since, newest) if self.since else newest)

    def _until_ms(self, at: Moment) -> int | None:
        if isinstance(self.timeout, Until):
            return self.timeout.instant_ms(at, "timeout/until")
        return None if self.timeout == "never" else at.reached_ms + parse_duration_ms(self.timeout)

    def hear(self, at: Moment, arrival: Arrival) -> Result:
        if isinstance(arrival, Answered) and arrival.name in self.wait_for:
            at.remember(answer=arrival.name, event=dict(arrival.event), outcome="answered")
            return Passed(arrival.name, f"{arrival.event.get('type', arrival.name)} came", branch=arrival.name)
        until_ms = at.ctx.get("until")
        if isinstance(arrival, TimerFired) and until_ms is not None and until_ms <= at.now_ms:
            return self._timed_out(at, f"no {' or '.join(self.wait_for)} in time")
        return self.reach(at)

    def _timed_out(self, at: Moment, reason: str) -> Result:
        at.remember(answer="timeout", outcome="timeout")
        return Passed("timeout", reason, branch="on_timeout")


def _result(event: Shape) -> Shape:
    return of_fields({"answer": TEXT, "outcome": TEXT, "event": event})
