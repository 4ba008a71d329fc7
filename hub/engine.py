"""The decisions of a run: pure, so that live runs, rehearsals and tests are one thing. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hub import text
from hub.conditions import Judgement, Truth, judge
from hub.events import Json
from hub.program import EntryRule, Node, Program, compile  # noqa: A004  (as in re.compile)
from hub.steps.awaited import watches
from hub.steps.decisions import (
    Act,
    ActionDone,
    Answered,
    Arrival,
    Cancelled,
    ContactChange,
    Decision,
    Exited,
    Facts,
    Finish,
    Need,
    Resumed,
    RunState,
    Sleep,
    Started,
    StepRecord,
    TimerFired,
    Wait,
    Watch,
)
from hub.steps.do import SENT
from hub.steps.local_time import local_time
from hub.steps.moment import Ended, Failed, Moment, Passed, Result

__all__ = [
    "Act",
    "ActionDone",
    "Answered",
    "Arrival",
    "Cancelled",
    "ContactChange",
    "Decision",
    "EntryRule",
    "Exited",
    "Facts",
    "Finish",
    "Need",
    "Program",
    "Resumed",
    "RunState",
    "Sleep",
    "Started",
    "StepRecord",
    "TimerFired",
    "Wait",
    "Watch",
    "admits",
    "compile",
    "decide",
    "entry_rule",
    "entry_scope",
    "local_time",
]

MAX_TRAIL = 1_000
_NEED_CONTACT = Need(frozenset({"contact"}))


# -- entering ----------------------------------------------------------------------------------------------------------


def admits(program: Program, event_type: str, event: Mapping[str, Json], connection: str) -> Judgement:
    """Whether an event starts the recipe; only TRUE does. `event` has the shape of `RunState.trigger`."""
    found: Judgement | None = None
    for start in program.starts:
        if event_type not in start.types:
            continue
        if start.connections and connection not in start.connections:
            names = ", ".join(sorted(start.connections))
            judgement = Judgement(Truth.FALSE, f"the event is of {connection}, the recipe starts by those of {names}")
        elif start.where is None:
            judgement = Judgement(Truth.TRUE, f"{event_type} came")
        else:
            judgement = judge(start.where, {"event": event})
        if found is None or judgement.truth.value > found.truth.value:
            found = judgement
    return found or Judgement(Truth.FALSE, f"{event_type} does not start the recipe")


def entry_rule(program: Program) -> EntryRule | None:
    """The recipe's entry rule, or None when every event that matches starts a run."""
    return program.entry


def entry_scope(program: Program, event: Mapping[str, Json], contact_id: str | None) -> str:
    """What an entry is counted by: the contact's id, or the rendered `per`. Raises TextError when it has no value."""
    if program.entry is None or program.entry.per == "contact":
        return contact_id or ""
    scope = {"trigger": event, "vars": program.vars}
    rendered = text.render(program.entry.per, scope, path="entry/per")
    if rendered is None or rendered == "":
        raise text.TextError("entry/per: there is no value to count entries by")
    return text.as_text(rendered)


# -- deciding ----------------------------------------------------------------------------------------------------------


def decide(program: Program, run: RunState, arrival: Arrival, facts: Facts, now_ms: int) -> Decision | Need:
    """What a run does next, now that something arrived; or the facts that are missing to say so.

    Goes on through the steps until something has to be stored: a call, a sleep, a wait, the end. The same arguments give
    the same answer. `on_end` runs once, however the run ended; an exit that comes while the run is leaving is ignored.
    """
    return _Deciding(program, run, facts, now_ms).decide(arrival)


class _MissingContact(Exception):
    """The decision needs the contact, and it is not loaded."""


class _Deciding:
    """One call of `decide`: the moment, and the steps passed so far."""

    def __init__(self, program: Program, run: RunState, facts: Facts, now_ms: int) -> None:
        self._program, self._run = program, run
        # What a decision writes to is copied; the rest of ctx is shared and never changed in place.
        ctx: dict[str, Json] = {"section": "main", **run.ctx}
        ctx |= {"steps": {**ctx.get("steps", {})}, "intents": {**ctx.get("intents", {})}}
        ctx["armed"] = list(ctx.get("armed", ()))
        self._at = Moment(run=run, facts=facts, now_ms=now_ms, vars=program.vars, ctx=ctx)
        self._trail: list[StepRecord] = []

    def decide(self, arrival: Arrival) -> Decision | Need:
        try:
            node, result = self._begin(arrival)
            while not isinstance(result, Act | Sleep | Wait | Finish):
                node, result = self._follow(node, result)
            exits = () if isinstance(result, Finish) else self._arm()
        except _MissingContact:
            return _NEED_CONTACT
        return Decision(
            next=result,
            position=node.id if node else None,
            ctx=self._at.ctx,
            trail=tuple(self._trail),
            changes=tuple(self._at.changes),
            exits=exits,
        )

    def _begin(self, arrival: Arrival) -> tuple[Node | None, Result | Finish]:
        """The step the run stands on, or comes to by this arrival, and what it says."""
        ctx = self._at.ctx
        if isinstance(arrival, Exited) and ctx["section"] == "main" and arrival.index < len(self._program.exits):
            exit_ = self._program.exits[arrival.index]
            name = exit_.event.event
            ctx["ended"] = {"by": name, "status": "done", "reason": f"{arrival.event.get('type', name)} came"}
            self._record(f"exit-{arrival.index}", f"exit_on/{arrival.index}", "exit", name, ctx["ended"]["reason"])
            ctx["section"] = "exit"
            return self._enter(exit_.first)
        if isinstance(arrival, Cancelled) and ctx["section"] != "end":
            return self._end("cancelled", "done", arrival.reason)
        if self._run.position is None:
            if self._run.ctx.get("ended"):
                return None, self._finish()
            return self._enter(self._program.main)
        node = self._program.nodes.get(self._run.position)
        if node is None:
            return self._end("failed", "failed", f"the step {self._run.position} is not in this version of the recipe")
        self._stand_on(node)
        return node, self._ask(node, arrival)

    def _follow(self, node: Node | None, result: Passed | Failed | Ended) -> tuple[Node | None, Result | Finish]:
        """Where the run goes after what a step said."""
        assert node is not None, "what a step said has its step"
        if len(self._trail) >= MAX_TRAIL:
            self._at.ctx["ended"] = {
                "by": "failed",
                "status": "failed",
                "reason": f"more than {MAX_TRAIL:,} steps in one go",
            }
            return None, self._finish()
        at, step = self._at, node.step
        if isinstance(result, Passed):
            self._note(node, result.outcome, result.reason)
            target = node.branches.get(result.branch, node.next) if result.branch else node.next
            return self._enter(target)
        if isinstance(result, Ended):
            self._note(node, result.outcome or result.ended_by, result.reason)
            if at.ctx["section"] == "end":
                return self._enter(node.next)
            return self._end(result.ended_by, "failed" if result.failed else "done", result.reason)
        self._note(node, "failed", result.reason)
        if isinstance(step.on_error, list):
            return self._enter(node.branches["on_error"])
        if step.on_error == "continue" or at.ctx["section"] == "end":
            return self._enter(node.next)
        return self._end("failed", "failed", result.reason)

    def _enter(self, id_: str | None) -> tuple[Node | None, Result | Finish]:
        """Come to a step, or to the end of the section."""
        if id_ is None:
            if self._at.ctx["section"] == "end":
                return None, self._finish()
            return self._end("done", "done", "all steps are done")
        node = self._program.nodes[id_]
        self._stand_on(node)
        required = node.step.require_sent
        if required and self._at.steps.get(required, {}).get("outcome") not in SENT:
            return node, Passed("skipped", f"{required} was not sent")
        return node, self._ask(node, None)

    def _stand_on(self, node: Node) -> None:
        at, ctx = self._at, self._at.ctx
        if ctx.get("step") != node.id:
            for name in ("until", "asking"):
                ctx.pop(name, None)
            ctx["step"], ctx["reached"] = node.id, at.now_ms
        at.step_id, at.path, at.name = node.id, node.path, node.step.as_

    def _ask(self, node: Node, arrival: Arrival | None) -> Result:
        """What a step says. A template without its value is a failure of the step."""
        self._need_contact(node.needs_contact)
        try:
            return node.step.reach(self._at) if arrival is None else node.step.hear(self._at, arrival)
        except text.TextError as error:
            return Failed(str(error))

    def _need_contact(self, needed: bool) -> None:
        if needed and self._at.facts.contact is None and self._run.contact_id is not None:
            raise _MissingContact

    # -- ending --------------------------------------------------------------------------------------------------------

    def _end(self, by: str, status: Literal["done", "failed"], reason: str) -> tuple[Node | None, Result | Finish]:
        """Leave the steps for `on_end`. The event of an exit stays what the run ended by, unless its steps say more."""
        ctx = self._at.ctx
        if by != "done" or "ended" not in ctx:
            ctx["ended"] = {"by": by, "status": status, "reason": reason}
        ctx["section"] = "end"
        self._at.scope["run"]["ended_by"] = ctx["ended"]["by"]
        return self._enter(self._program.end)

    def _finish(self) -> Finish:
        ended = self._at.ctx["ended"]
        for name in ("step", "reached", "until", "asking"):
            self._at.ctx.pop(name, None)
        return Finish(ended["by"], ended["status"], ended["reason"])

    # -- records -------------------------------------------------------------------------------------------------------

    def _note(self, node: Node, outcome: str, reason: str) -> None:
        if node.step.as_ and "outcome" not in self._at.steps.get(node.step.as_, {}):
            self._at.remember(outcome=outcome)
        self._record(node.id, node.path, node.step.kind, outcome, reason)

    def _record(self, step_id: str, path: str, kind: str, outcome: str, reason: str) -> None:
        self._trail.append(StepRecord(step_id, path, kind, outcome, reason))

    def _arm(self) -> tuple[Watch, ...]:
        """The watches of exits that can be recognised from now on."""
        at, found = self._at, list[Watch]()
        if at.ctx["section"] != "main":
            return ()
        for index, exit_ in enumerate(self._program.exits):
            if index in at.ctx["armed"] or not exit_.refers_to <= at.steps.keys():
                continue
            self._need_contact(exit_.needs_contact)
            try:
                found += watches(
                    exit_.event,
                    exit_.types,
                    at.scope,
                    kind="exit",
                    name=str(index),
                    contact_id=self._run.contact_id,
                    since_ms=self._run.since_ms,
                    place=f"exit_on/{index}",
                )
            except text.TextError as error:
                # What it would be recognised by is not there, such as the code of a coupon that was not made.
                self._record(f"exit-{index}", f"exit_on/{index}", "exit", "not_armed", str(error))
            at.ctx["armed"].append(index)
        return tuple(found)
