"""Carrying out what the engine decides, until the run sleeps, waits, ends or is given back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic_core import from_json

from hub import engine, seams
from hub.backoff import MAX_CLAIMS
from hub.engine import Act, ActionDone, Arrival, Decision, Facts, Finish, Need, RunState, Sleep, Wait, Watch
from hub.errors import ConfigError, NewerRelease, StoreUnavailable
from hub.events import Json
from hub.runs.calls import Calls
from hub.runs.gate import Gate
from hub.runs.hand import Hand, LetGo, Tools, effect_key, say, stopped
from hub.runs.writer import Writer
from hub.store import contacts, runs, work
from hub.store.runs import EffectRow, RunRow
from hub.store.session import Row
from hub.store.work import NEVER_MS

# How long what a newer release wrote is left to it, each time it is met.
_NEWER_MS = 5_000
_ENDED = frozenset(("done", "failed", "cancelled"))
_STATUSES = frozenset(("ready", "acting", "arming", "sleeping", "waiting", "parked"))

_log = logging.getLogger(__name__)


class Runner:
    """Advances claimed runs. One per process."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._writer = Writer(tools)
        self._calls = Calls(tools, self._writer, Gate(tools, self._writer))

    async def advance(self, hand: Hand, open_effect: EffectRow | None) -> None:
        """Go on with a run from where it stands. Raises StoreUnavailable; the run is then claimed again later."""
        event_id = str(hand.row.trigger.get("event_id") or "")
        if hand.row.position is None and hand.claim.claims == 1:
            self._tools.metrics.run_started(hand.row.recipe)
            self._tools.traces.started(event_id or hand.row.id, hand.row.id, recipe=hand.row.recipe)
        try:
            with self._tools.traces.advance(event_id, hand.row.id, recipe=hand.row.recipe, status=hand.row.status):
                if hand.claim.claims > MAX_CLAIMS:
                    await self._writer.park(
                        hand, "poison", f"claimed {MAX_CLAIMS} times without getting on; look at its last step"
                    )
                await self._advance(hand, open_effect)
        except LetGo:
            return
        except NewerRelease as error:
            _log.warning(
                "a run is left to newer releases",
                extra={"what": "run_left", "run_id": hand.row.id, "error": str(error)},
            )
            async with self._tools.store.write() as c:
                await work.give_back(c, hand.claim, due_ms=self._tools.clock.now_ms() + _NEWER_MS)
        except StoreUnavailable:
            raise
        except Exception as error:  # a defect must not hold the run for its whole lease, nor be retried for ever
            _log.exception("a run could not be advanced", extra={"what": "advance_failed", "run_id": hand.row.id})
            with contextlib.suppress(LetGo):
                await self._writer.give_back(hand, delay_s=5, reason=f"the hub failed: {say(error)}", counted=True)

    async def _advance(self, hand: Hand, open_effect: EffectRow | None) -> None:
        if hand.row.status in _ENDED:
            raise LetGo  # others ended it between the claim and the reading, while this process stood still
        if hand.row.status not in _STATUSES:
            raise NewerRelease(f"the run is {hand.row.status}, which this release does not know; upgrade this process")
        try:
            program = await self._tools.library.program(hand.row.recipe, hand.row.version)
        except NewerRelease:
            raise
        except ConfigError as error:
            await self._writer.park(hand, f"recipe:{hand.row.recipe}", str(error))
            return
        if hand.claim.claims > 1 and hand.row.watches and hand.row.stop is None and hand.row.status != "arming":
            # Whoever held it before may have died between committing the exits and looking back for them.
            exits = [watch for watch in await self._stored_watches(hand) if watch.kind == "exit"]
            await self._writer.look_back(hand, exits)
        arrival: Arrival
        if open_effect is not None:
            if "armed" not in hand.ctx:
                await self._arm_again(program, hand)
            arrival = await self._calls.settle(hand, open_effect)
        elif hand.row.stop is not None:
            arrival = stopped(hand.row.stop)
        elif hand.row.status == "arming":
            arrival = await self._arm(hand, int(hand.claim.data or NEVER_MS))
        elif hand.row.wake is not None and "effect" in hand.row.wake:
            arrival = await self._writer.outcome_of(str(hand.row.wake["effect"])) or engine.Resumed()
        else:
            arrival = _arrival(hand.row)
        if isinstance(arrival, engine.Resumed):
            # What was done is never done again, also when only its outcome was written and not what follows from it.
            arrival = await self._writer.outcome_of(effect_key(hand.row.id, str(hand.row.position))) or arrival
        while True:
            decision = await self._decide(program, hand, arrival)
            arrival = await self._carry_out(program, hand, decision)

    async def _decide(self, program: engine.Program, hand: Hand, arrival: Arrival) -> Decision:
        state = RunState(
            run_id=hand.row.id,
            contact_id=hand.row.contact_id,
            started_at_ms=hand.row.started_at_ms,
            trigger=hand.row.trigger,
            position=hand.position,
            ctx=hand.ctx,
        )
        facts = Facts(default_zone=self._tools.zone)
        now_ms = self._tools.clock.now_ms()
        decision = engine.decide(program, state, arrival, facts, now_ms)
        while isinstance(decision, Need):
            facts = replace(facts, contact=await self._contact(hand))
            decision = engine.decide(program, state, arrival, facts, now_ms)
        return decision

    async def _contact(self, hand: Hand) -> Mapping[str, Json]:
        if hand.row.contact_id is None:
            return {}
        async with self._tools.store.read() as c:
            known = (await contacts.facts(c, [hand.row.contact_id])).get(hand.row.contact_id)
        if known is None:  # erased or merged meanwhile: the next claim finds that the run is to end, or whose it is
            await self._writer.give_back(hand, delay_s=0.05, reason="its person is being erased or merged")
            raise LetGo
        return known

    async def _carry_out(self, program: engine.Program, hand: Hand, decision: Decision) -> Arrival:
        """Write the decision; act if it says so. Returns what arrived, or raises LetGo when the run rests."""
        if decision.changes and hand.row.contact_id:
            # Before the fence on purpose: the same values again do no harm, and contacts are never locked after work.
            async with self._tools.store.write() as c:
                given = [(change.field, change.operation, change.value) for change in decision.changes]
                await contacts.change(c, hand.row.contact_id, given)
        match decision.next:
            case Act() as act:
                if "retried" in hand.ctx and (known := await self._known(hand, act)) is not None:
                    return await self._writer.passed(hand, decision, known)
                return await self._calls.act(program, hand, decision, act)
            case Sleep() as sleep if not decision.exits:
                change = self._writer.change(
                    hand, decision, status="sleeping", reason=sleep.reason, due_ms=sleep.until_ms
                )
                await self._writer.commit(hand, change)
                seams.reach("sleep.registered")
                raise LetGo
            case Sleep() | Wait() as rest:
                watches = (*decision.exits, *(rest.watches if isinstance(rest, Wait) else ()))
                due_ms = NEVER_MS - 1 if rest.until_ms is None else rest.until_ms
                change = self._writer.change(hand, decision, status="arming", reason=rest.reason, watches=watches)
                # The lease's end is when somebody else may finish the arming; what to arm with stands in `data`.
                lease_end = self._tools.clock.now_ms() + int(self._tools.lease_s * 1000)
                await self._writer.commit(hand, replace(change, due_ms=lease_end, data=str(due_ms), counted=True))
                seams.reach("wait.registered")
                hand.given_back = True
                return await self._arm(hand, due_ms, watches=watches)
            case Finish() as finish:
                status = "cancelled" if finish.ended_by == "cancelled" else finish.status
                change = self._writer.change(hand, decision, status=status, reason=finish.reason)
                notices = self._tools.notices.of_end(hand.row.id, recipe=hand.row.recipe, ended_by=finish.ended_by)
                done = await self._writer.commit(
                    hand, replace(change, finished=True, ended_by=finish.ended_by, notices=notices)
                )
                seams.reach("run.finished")
                await self._tools.notices.tell([kept for kept in done.notices if not kept.notice.effect])
                raise LetGo

    async def _known(self, hand: Hand, act: Act) -> ActionDone | None:
        """In a run that is retried: what became of a step's effect before, unless it may be called again."""
        known = await self._writer.outcome_of(effect_key(hand.row.id, act.step_id))
        return known if known is not None and known.outcome in {"done", "unknown"} else None

    async def _arm_again(self, program: engine.Program, hand: Hand) -> None:
        """A retried run whose effect is to be looked up first: its exits count from now on, and those that came meanwhile."""
        decision = await self._decide(program, hand, engine.Resumed())
        if isinstance(decision.next, Act) and decision.next.step_id == hand.position:
            await self._writer.commit(hand, self._writer.change(hand, decision, status="acting"))
            await self._writer.look_back(hand, decision.exits)

    async def _arm(self, hand: Hand, due_ms: int, watches: Sequence[Watch] | None = None) -> Arrival:
        """After the watches are committed: was the event there already? Then the run is woken, else its timer is set.

        Raises LetGo, but returns the exit of a run that is still in hand.
        """
        found = watches if watches is not None else await self._stored_watches(hand)
        await self._writer.look_back(hand, found)
        if hand.row.stop is not None and not hand.given_back:
            return stopped(hand.row.stop)
        async with self._tools.store.write() as c:
            waits = any(watch.kind == "answer" for watch in found) or due_ms >= NEVER_MS - 1
            status, now_ms = "waiting" if waits else "sleeping", self._tools.clock.now_ms()
            await runs.arm(c, hand.row.id, hand.claim.epoch, due_ms, status=status, now_ms=now_ms)
        raise LetGo

    async def _stored_watches(self, hand: Hand) -> list[Watch]:
        async with self._tools.store.read() as c:
            rows = await c.all("select * from waiter where run_id = :run order by n", run=hand.row.id)
        return [_watch_of(row) for row in rows]


def _arrival(row: RunRow) -> Arrival:
    """What a claim means, from how the run was left."""
    if row.position is None:
        return engine.Started()
    if row.wake is not None:
        return engine.Answered(str(row.wake["name"]), row.wake["event"])
    if row.status in {"sleeping", "waiting"}:
        return engine.TimerFired()
    return engine.Resumed()


def _watch_of(row: Row) -> Watch:
    key_field, _, key = row["key"].partition("=")
    where = from_json(row["condition"]) if row["condition"] else None
    return Watch(row["kind"], row["name"], row["type"], key_field, key, where, row["since"])
