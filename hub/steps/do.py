"""`do`: one action of a connector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from hub import text
from hub.catalogue import nearest
from hub.clock import parse_duration_ms
from hub.connector import Action
from hub.events import Json
from hub.misfits import unprefixed
from hub.purposes import LegalClass
from hub.shapes import TEXT, Shape, merged, of_fields, of_model
from hub.steps.checking import Check, Place
from hub.steps.decisions import Act, ActionDone, Arrival, Wait
from hub.steps.moment import Ended, Failed, Moment, Passed, Result
from hub.steps.rules import broken_rules
from hub.steps.step import Duration, Name, Step

SENT = ("sent", "done")
"""The outcomes after which `require_sent` is satisfied."""


class Do(Step):
    """Do one thing: an action by its full name, or by the capability it provides."""

    kind: ClassVar[str] = "do"
    resolved: ClassVar[frozenset[str]] = frozenset({"action", "connection"})

    do: str
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    purpose: str | None = None
    valid_for: Duration | None = None
    confirms: Name | None = None
    action: str | None = None
    connection: str | None = None

    # -- saving --------------------------------------------------------------------------------------------------------

    def check(self, check: Check, place: Place) -> Shape:
        check.templates(self.with_, (*place, "with"))
        actions = check.catalogue.actions_for(self.do)
        if not actions:
            check.nothing_does(self.do, (*place, "do"))
            return Shape()
        for message, where in self._input_problems(actions):
            check.report(message, (*place, "with", *where))
        self._check_purpose(actions, check, place)
        output = merged([of_model(action.output) for action in actions])
        return of_fields({**{n: output.child(n) or Shape() for n in output.names()}, "outcome": TEXT})

    def _input_problems(self, actions: Sequence[Action[Any, Any]]) -> Iterable[tuple[str, Place]]:
        """What is wrong for the action it fits best: which one it will be is known when connections are."""
        return input_problems(best_fit(actions, self.with_), self.with_)

    def _check_purpose(self, actions: Sequence[Action[Any, Any]], check: Check, place: Place) -> None:
        writes = any(action.message for action in actions)
        here = (*place, "purpose")
        if self.confirms:
            check.step_named(self.confirms, (*place, "confirms"))
        if not writes:
            if self.purpose:
                check.report(f"{self.do} writes to nobody, so that it has no purpose; remove the line", here)
            return
        if self.purpose is None:
            names = f": {', '.join(check.purposes)}" if check.purposes else ""
            check.report(f"{self.do} writes to a person, so say what for with purpose{names}", place)
            return
        if check.purposes is None:
            return
        purpose = check.purposes.get(self.purpose)
        if purpose is None:
            known = f"there are {', '.join(check.purposes)}" if check.purposes else "add it to purposes.yaml"
            check.report(f"there is no purpose {self.purpose}{nearest(self.purpose, check.purposes)}; {known}", here)
            return
        channels = sorted({action.message.channel for action in actions if action.message})
        if purpose.channel and purpose.channel not in channels:
            check.report(f"{purpose.name} is for {purpose.channel}, {self.do} writes by {', '.join(channels)}", here)
        if purpose.legal_class is LegalClass.SERVICE and not self.confirms:
            check.report(f"{purpose.name} is of class service: say which step it confirms with confirms", here)
        if purpose.legal_class is not LegalClass.SERVICE and self.confirms:
            check.report(f"confirms is for purposes of class service; {purpose.name} is not", (*place, "confirms"))
        if check.section == "end" and purpose.legal_class is LegalClass.MARKETING:
            check.report("on_end sends no marketing messages: the run may have ended because they are unwanted", here)

    # -- deciding ------------------------------------------------------------------------------------------------------

    def reach(self, at: Moment) -> Result:
        if "asking" in at.ctx:
            return Wait((), None, str(at.ctx["asking"]))
        if self.action is None or self.connection is None:
            return Failed(f"{self.do} is bound to no connection; publish the recipe again")
        at.ctx["intent"] = at.reached_ms
        if at.name:
            at.ctx["intents"][at.name] = at.reached_ms
        return Act(
            step_id=at.step_id,
            path=at.path,
            action=self.action,
            connection=self.connection,
            input=at.render(self.with_, "with"),
            purpose=self.purpose,
            valid_until_ms=at.reached_ms + parse_duration_ms(self.valid_for) if self.valid_for else None,
            on_unknown=self.on_unknown or "stop",
            confirms=self.confirms,
            on_error=self.on_error if isinstance(self.on_error, str) else "steps",
        )

    def hear(self, at: Moment, arrival: Arrival) -> Result:
        match arrival:
            case ActionDone("done", output, reason):
                word = "sent" if self.purpose else "done"
                at.remember(**{**(output or {}), "outcome": word})
                return Passed(word, reason or f"{self.do} was done")
            case ActionDone("skipped", output, reason):
                word = reason.partition(":")[0].strip() or "skipped"
                at.remember(**{**(output or {}), "outcome": word})
                return Passed(word, reason or "skipped")
            case ActionDone("unknown", _, reason):
                return self._unknown(at, reason or "whether it was done is not known")
            case ActionDone("failed", _, reason):
                return Failed(reason or f"{self.do} failed")
        return self.reach(at)

    def _unknown(self, at: Moment, reason: str) -> Result:
        at.remember(outcome="unknown")
        if at.ctx["section"] == "end" or self.on_unknown == "continue":
            return Passed("unknown", reason)
        if self.on_unknown == "ask":
            at.ctx["asking"] = f"somebody has to look whether it was done: {reason}"
            return Wait((), None, at.ctx["asking"])
        return Ended("failed", reason, failed=True, outcome="unknown")


def input_problems(action: Action[Any, Any], given: Mapping[str, Json]) -> Iterable[tuple[str, Place]]:
    """What is wrong with an action's input before its templates have values: (message, place inside `with`)."""
    fields = {field.alias or name for name, field in action.input.model_fields.items()}
    unknown = [name for name in given if name not in fields]
    for name in unknown:
        has = f"it takes {', '.join(sorted(fields))}" if fields else "it takes nothing"
        yield f"{action.type} takes no {name}{nearest(name, fields)}; {has}", (name,)
    open_places = [place for place, _ in text.templates(dict(given))]
    try:
        action.input.model_validate({name: value for name, value in given.items() if name not in unknown})
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            place = one["loc"]
            if any(_concerns(place, template) for template in open_places):
                continue
            if one["type"] == "missing":
                yield f"{action.type} needs {place[-1]}", place[:-1]
            else:
                yield f"{'.'.join(map(str, place)) or action.type}: {unprefixed(one['msg'])}", place
    for message, place in broken_rules(action.input, given, open_places):
        yield f"{'.'.join(map(str, place)) or action.type}: {message}", place


def best_fit(actions: Iterable[Action[Any, Any]], given: Mapping[str, Json]) -> Action[Any, Any]:
    """The action that an input is written for: the one that finds least wrong with it, the first of several."""
    return min(actions, key=lambda action: len(list(input_problems(action, given))))


def _concerns(place: Place, template: Place) -> bool:
    """Whether an error is about a template's place, one inside it, or a whole that contains it."""
    shorter = min(len(place), len(template))
    return place[:shorter] == template[:shorter]
