"""Retrying runs: those that failed, were set aside as poison, or have an effect whose outcome is not known.

What was done is never done again. Everything that decides this is here, for commands and API alike; runs are taken in
pages, each in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from hub import engine
from hub.catalogue import Catalogue
from hub.clock import Clock, parse_duration_ms, parse_time_ms
from hub.connector import Action, Effect
from hub.engine import Act, ActionDone, Arrival, Facts, Need, Program, RunState
from hub.errors import ConfigError, NotThere
from hub.events import Json
from hub.ids import new_id
from hub.library import Library
from hub.notices import Notices
from hub.store import contacts, notices, runs, views
from hub.store import retries as rows
from hub.store.notices import Notice
from hub.store.retries import Anew, Found, Revival, Selection
from hub.store.runs import RunRow
from hub.store.session import Connection, Row, Store

PAGE = 200
_SHOWN = 20
_SHORT = 100
# A preview looks ahead over so many effects that are done already.
_AHEAD = 100


@dataclass(frozen=True, kw_only=True)
class How:
    """In which way: from the failed step or from the start, on the pinned or the newest version, and what may be doubled."""

    from_start: bool = False
    newest: bool = False
    include_unknown: bool = False
    repeat_effects: bool = False


@dataclass(frozen=True)
class Plan:
    """What a retry will do with one run. `left` says why nothing; `doubts` what may be done twice; `call` what comes next."""

    found: Found
    version: int
    step: str | None = None
    left: str = ""
    doubts: str = ""
    look_up: bool = False
    ctx: Mapping[str, Json] = field(default_factory=dict)
    anew: bool = False
    taken: tuple[Row, ...] = ()


@dataclass
class Preview:
    """What a retry would do: how many runs, how many are left and why, the first calls by action, and some in detail."""

    selected: int = 0
    left: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    doubts: int = 0
    rows: list[dict[str, Json]] = field(default_factory=list)


@dataclass
class Retried:
    """What a retry did: the ids of the runs it took, and how many it left, by reason."""

    runs: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


class Retries:
    """Retries runs of this hub; any process may."""

    def __init__(
        self, store: Store, library: Library, catalogue: Catalogue, clock: Clock, notices: Notices, *, zone: str
    ) -> None:
        self._store, self._library, self._catalogue, self._clock = store, library, catalogue, clock
        self._notices, self._zone = notices, zone

    async def preview(self, wanted: Selection, how: How, *, first: int | None = None) -> Preview:
        """What `retry` would do. Changes nothing. Raises NotThere for a run by id that cannot be retried."""
        found = Preview()
        async for page in self._plans(wanted, how, first):
            for plan in page:
                found.selected += 1
                if plan.left:
                    found.left[plan.left] = found.left.get(plan.left, 0) + 1
                shown = await self._shown(plan)
                found.doubts += bool(plan.doubts)
                if not plan.left:
                    next_ = str(shown["next"])
                    found.actions[next_] = found.actions.get(next_, 0) + 1
                if len(found.rows) < _SHOWN:
                    found.rows.append(shown)
        return found

    async def retry(self, wanted: Selection, how: How, *, first: int | None = None, who: str) -> Retried:
        """Retry the selected runs, or the `first` so many of them that can be. Raises NotThere as `preview` does."""
        done = Retried()
        async for page in self._plans(wanted, how, first):
            for plan in page:
                if plan.left:
                    done.left[plan.left] = done.left.get(plan.left, 0) + 1
            done.runs += sorted(await self._carry_out([plan for plan in page if not plan.left], how, who))
        return done

    async def answer(self, run_id: str, *, done: bool, who: str) -> None:
        """Tell a run that asks whether its last call was made: then it goes on, or may call again.

        Raises NotThere when the run asks nothing.
        """
        now_ms = self._clock.now_ms()
        async with self._store.write() as c:
            found = await rows.asked(c, run_id)
            if found is None:
                await views.require_run(c, run_id)
                raise NotThere(f"the run {run_id} asks nothing; `hub runs list --status waiting` shows which runs do")
            run, effect = found
            await rows.answered(c, run, effect, done=done, who=who, now_ms=now_ms)
            if done:
                about = {"action": effect.action, "run_id": run.id, "outcome": "done"}
                await notices.write(c, self._notices.of_effect(effect.key, None, **about, in_hand=False))
            await runs.wake(c, {run.id: {"effect": effect.key}}, now_ms)

    # -- planning ------------------------------------------------------------------------------------------------------

    async def _plans(self, wanted: Selection, how: How, first: int | None) -> AsyncIterator[list[Plan]]:
        """The selected runs in pages, planned; the last page ends with the `first` so many that can be retried."""
        after, taken = "", 0
        newest = {row["name"]: row["version"] for row in await self._library.listed()}
        while first is None or taken < first:
            async with self._store.read() as c:
                page = await rows.select(c, wanted, after=after, most=PAGE)
                if not page and not after:
                    await _require_named(c, wanted)
            if not page and not after and wanted.run is not None:
                raise NotThere(
                    f"the run {wanted.run} did not fail, is not set aside as poison and has no unknown effect, so that there "
                    "is nothing to retry; `hub runs show` says how it stands"
                )
            if not page:
                return
            plans: list[Plan] = []
            for found in page:
                plan = await self._plan(found, newest[found.run.recipe] if how.newest else found.run.version, how)
                plans.append(plan)
                taken += not plan.left
                if taken == first:
                    break
            yield plans
            after = page[-1].run.id

    async def _plan(self, found: Found, version: int, how: How) -> Plan:
        program = await self._library.program(found.run.recipe, version)
        plan = Plan(found, version)
        if how.from_start:
            return self._from_start(plan, how)
        if found.poison:
            step = found.run.position
            missing = step is not None and step not in program.nodes
            return replace(plan, step=step, ctx=found.run.ctx, left=_no_step(str(step), version) if missing else "")
        row = _failed_at(found)
        if row is None:
            return replace(plan, left="it failed at no step that could be tried again; retry it from the start")
        if row["step_id"] not in program.nodes:
            return replace(plan, step=row["step_id"], left=_no_step(row["step_id"], version))
        before = await self._library.program(found.run.recipe, found.run.version)
        plan = replace(plan, step=row["step_id"], ctx=_rewound(found, row, before, program))
        effect = found.effects.get(row["step_id"])
        if effect is None or effect["state"] != "unknown":
            return plan
        kind = self._class_of(effect)
        if kind is Effect.RECONCILABLE:
            return replace(plan, look_up=True)
        if kind is not Effect.AT_MOST_ONCE:
            return plan
        return self._doubtful(plan, [effect], how)

    def _from_start(self, plan: Plan, how: How) -> Plan:
        """A new run; what the old one did is taken over. Its references are new, so that nothing could be looked up."""
        effects = plan.found.effects.values()
        taken = () if how.repeat_effects else tuple(e for e in effects if e["state"] == "done")
        plan = replace(plan, ctx={"retried": 1}, anew=True, taken=taken)
        open_ = [e for e in effects if e["state"] in {"unknown", "intended"}]
        doubtful = [e for e in open_ if self._class_of(e) is not Effect.IDEMPOTENT]
        return self._doubtful(plan, doubtful, how) if doubtful else plan

    def _doubtful(self, plan: Plan, effects: Sequence[Row], how: How) -> Plan:
        names = ", ".join(sorted({f"{e['action']} at {e['step_id']}" for e in effects}))
        if not how.include_unknown:
            return replace(
                plan, left=f"whether {names} was done is not known; --include-unknown does it, perhaps twice"
            )
        return replace(plan, doubts=f"{names} may be done twice")

    def _class_of(self, effect: Row) -> Effect:
        action = self._catalogue.action(effect["action"])
        return action.effect if action else Effect.AT_MOST_ONCE

    # -- showing -------------------------------------------------------------------------------------------------------

    async def _shown(self, plan: Plan) -> dict[str, Json]:
        """A plan for people: what comes next and with what, addresses masked."""
        run = plan.found.run
        act, next_ = (None, "nothing") if plan.left else await self._ahead(plan)
        action = self._catalogue.action(act.action) if act else None
        address = _address(action, act.input) if act and action else ""
        return {
            "run": run.id,
            "recipe": run.recipe,
            "version": plan.version,
            "contact": run.contact_id,
            "step": act.step_id if act else plan.step,
            "next": next_,
            "to": _masked(address),
            "input": _shortened(act.input, address) if act else "",
            "note": plan.left or plan.doubts,
        }

    async def _ahead(self, plan: Plan) -> tuple[Act | None, str]:
        """The first call that the run would make, or what it would do instead."""
        run = plan.found.run
        done = plan.taken if plan.anew else [e for e in plan.found.effects.values() if e["state"] == "done"]
        known = {e["step_id"]: e for e in done}
        program = await self._library.program(run.recipe, plan.version)
        started_ms = self._clock.now_ms() if plan.anew else run.started_at_ms
        state = RunState(run.id, run.contact_id, started_ms, run.trigger, plan.step, plan.ctx)
        arrival: Arrival = engine.Resumed() if plan.step else engine.Started()
        facts = Facts(default_zone=self._zone)
        for _ in range(_AHEAD):
            decision = engine.decide(program, state, arrival, facts, self._clock.now_ms())
            if isinstance(decision, Need):
                facts = replace(facts, contact=await self._contact(run.contact_id))
                continue
            if not isinstance(decision.next, Act):
                return None, f"no call yet: {decision.next.reason}"
            effect = known.get(decision.next.step_id)
            if effect is None:
                return decision.next, f"look up {decision.next.action}" if plan.look_up else decision.next.action
            state = replace(state, position=decision.position, ctx=decision.ctx)
            response = from_json(effect["response"]) if effect["response"] else None
            arrival = ActionDone("done", response, effect["reason"] or "")
        return None, "no call within its next steps"

    async def _contact(self, contact_id: str | None) -> Mapping[str, Json]:
        if contact_id is None:
            return {}
        async with self._store.read() as c:
            return (await contacts.facts(c, [contact_id]))[contact_id]

    # -- doing ---------------------------------------------------------------------------------------------------------

    async def _carry_out(self, plans: Sequence[Plan], how: How, who: str) -> set[str]:
        now_ms, reason = self._clock.now_ms(), f"{who} retried it"
        async with self._store.write() as c:
            if how.from_start:
                anew = [Anew(new_id(), p.found.run, p.found.poison, p.version, p.ctx, p.taken) for p in plans]
                done = await rows.start_anew(c, anew, now_ms=now_ms)
                ended = [a.run for a in anew if a.poison and a.run.id in done]
                await notices.write(c, [notice for run in ended for notice in self._end_of(run)])
                return done
            poison = {p.found.run.id: p.version for p in plans if p.found.poison}
            revivals = [_revival(p) for p in plans if not p.found.poison]
            unparked = await rows.unpark_poison(c, poison, reason=reason, now_ms=now_ms)
            return unparked | await rows.revive(c, revivals, reason=reason, now_ms=now_ms)

    def _end_of(self, run: RunRow) -> Sequence[Notice]:
        return self._notices.of_end(run.id, recipe=run.recipe, ended_by="failed", in_hand=False)


def instant_ms(text: str | None, now_ms: int) -> int | None:
    """`2h` (so long ago) or an RFC 3339 instant, in milliseconds; None stays None. Raises ConfigError."""
    if text is None:
        return None
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        pass  # then it is an instant
    try:
        return parse_time_ms(text)
    except ValueError:
        raise ConfigError(f"{text} is neither a time such as 2026-11-22T10:00:00Z nor a duration such as 2h") from None


def _revival(plan: Plan) -> Revival:
    assert plan.step is not None, "a finished run goes on at a step"
    effect = plan.found.effects.get(plan.step)
    return Revival(
        run=plan.found.run,
        version=plan.version,
        position=plan.step,
        ctx=plan.ctx,
        effect=effect["key"] if effect else None,
        look_up=plan.look_up,
    )


def _failed_at(found: Found) -> Row | None:
    """The record of the step that ended a failed run; of a run that is done, of its first unknown effect."""
    passed = [row for row in found.steps if not row["path"].startswith("on_end")]
    if found.run.status == "failed":
        failed = [row for row in passed if row["outcome"] in {"failed", "unknown"}]
        return failed[-1] if failed and failed[-1] is passed[-1] else None
    unknown = {e["step_id"] for e in found.effects.values() if e["state"] == "unknown"}
    return next((row for row in found.steps if row["step_id"] in unknown), None)


def _rewound(found: Found, row: Row, before: Program, program: Program) -> dict[str, Json]:
    """The run's memory as it was at that step. Exits are armed again: what should have ended it meanwhile still does."""
    gone = {"ended", "step", "reached", "until", "asking", "armed"}
    ctx = {key: value for key, value in found.run.ctx.items() if key not in gone}
    undone = {later["step_id"] for later in found.steps if later["seq"] >= row["seq"]}
    names = {before.nodes[id_].step.as_ for id_ in undone if id_ in before.nodes}
    ctx["steps"] = {name: value for name, value in ctx.get("steps", {}).items() if name not in names}
    ctx["section"] = program.nodes[row["step_id"]].section
    ctx["retried"] = int(ctx.get("retried", 0)) + 1
    return ctx


async def _require_named(c: Connection, wanted: Selection) -> None:
    """Raise NotThere when the run or recipe that a selection names is not there at all."""
    if wanted.run is not None:
        await views.require_run(c, wanted.run)
    if wanted.recipe is not None:
        await views.require_recipe(c, wanted.recipe)


def _no_step(step: str, version: int) -> str:
    return f"version {version} has no step {step}; retry it on its own version, or from the start"


def _address(action: Action[Any, Any], input_: Mapping[str, Json]) -> str:
    try:
        return str(action.message.to(action.input.model_validate(input_))) if action.message else ""
    except ValidationError:
        return ""


def _masked(address: str) -> str:
    """An address that can be recognised by who knows it: `a…@example.com`, `+14…00`."""
    name, at, host = address.partition("@")
    if at:
        return f"{name[:1]}…@{host}"
    return f"{address[:3]}…{address[-2:]}" if address else ""


def _shortened(input_: Mapping[str, Json], address: str) -> str:
    text = to_json(input_).decode()
    if address:
        text = text.replace(address, _masked(address))
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
