"""T5: what was decided about a run in hand, committed under its lease; a change whose lease is gone touches nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic_core import from_json

from hub import seams
from hub.engine import ActionDone, Arrival, Decision, Watch
from hub.errors import StoreUnavailable
from hub.events import Json
from hub.runs.hand import Hand, LetGo, Tools, stopped
from hub.store import events, runs
from hub.store.events import answers_watch, event_scope
from hub.store.grouped import Grouped
from hub.store.lanes import Lane
from hub.store.notices import Notice
from hub.store.runs import Advance, Advanced, EffectResult, EffectRow, StepRow, WatchRow
from hub.store.work import NEVER_MS

_log = logging.getLogger(__name__)


class Writer:
    """Commits what becomes of runs in hand, many of them in one transaction."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._group: Grouped[Advance, Advanced] = Grouped(
            self._flush, most=50, flushers=2 if tools.store.dialect == "postgresql" else 1, bound=100_000
        )

    async def _flush(self, group: Sequence[Advance]) -> Sequence[Advanced]:
        async with self._tools.store.write() as c:
            advanced = await runs.advance(c, group)
            seams.reach("run.commit")
        seams.reach("run.committed")
        self._tools.metrics.grouped("advance", len(group))
        return advanced

    def change(
        self,
        hand: Hand,
        decision: Decision,
        *,
        status: str,
        reason: str | None = None,
        due_ms: int | None = None,
        watches: Sequence[Watch] | None = None,
        intent: EffectRow | None = None,
    ) -> Advance:
        """A decision as the change that T5 writes."""
        added = decision.exits if watches is None else watches
        return Advance(
            run_id=hand.row.id,
            epoch=hand.claim.epoch,
            at_ms=self._tools.clock.now_ms(),
            seq=hand.seq,
            status=status,
            position=decision.position,
            ctx=decision.ctx,
            reason=reason,
            due_ms=due_ms,
            steps=[StepRow(s.step_id, s.path, s.kind, s.outcome, s.reason) for s in decision.trail],
            intent=intent,
            result=hand.outcome,
            watches=[_watch_row(w) for w in added],
            first_watch=hand.watches,
            # Most runs never waited: there is nothing to remove.
            end_wait=bool(decision.trail) and hand.watches > 0,
            take_stop=hand.row.stop is not None,
            take_wake=True,
        )

    async def commit(self, hand: Hand, change: Advance) -> Advanced:
        """T5. Raises LetGo for a zombie; otherwise the hand stands where the change says.

        Plugins are told what became of an effect; that the run has ended is left to the caller.
        """
        if change.result is not None and change.result.state != "planned":
            change = replace(change, notices=(*self._news(hand, change.result), *change.notices))
        done = await self._write(hand, change)
        self._count(change.result)
        if done.notices:
            await self._tools.notices.tell([kept for kept in done.notices if kept.notice.effect])
        if not done.held:
            raise LetGo
        hand.result, hand.in_doubt = None, False
        hand.touched = time.monotonic()
        self._tell(hand, change)
        hand.position, hand.ctx = change.position, change.ctx
        hand.seq += len(change.steps)
        hand.watches += len(change.watches)
        if hand.row.stop != done.stop or hand.row.wake is not None:
            hand.row = replace(hand.row, stop=done.stop, wake=None)
        return done

    async def _write(self, hand: Hand, change: Advance) -> Advanced:
        """Submit a change; while the database is away it is not given up under the lease.

        A connection that broke may have broken after the commit: writing the same change again changes nothing.
        """
        while True:
            try:
                return await self._group.submit(change)
            except StoreUnavailable:
                if hand.deadline.over:
                    raise
                await asyncio.sleep(0.5)

    def _tell(self, hand: Hand, change: Advance) -> None:
        """Operators are told of each step that was passed, and of the run's end."""
        if change.finished:
            self._tools.metrics.run_finished(hand.row.recipe, change.status)
        if change.parked_on:
            self._tools.metrics.parked(change.parked_on)
        about = {"run_id": hand.row.id, "recipe": hand.row.recipe}
        if change.finished and change.status != "done":
            _log.info("a run ended early", extra={"what": "run_ended", **about, "status": change.status})
        # Not at INFO: see docs/decisions/0011-observing.md.
        if _log.isEnabledFor(logging.DEBUG):
            for step in change.steps:
                facts = {"step": step.step_id, "kind": step.kind, "outcome": step.outcome}
                _log.debug("a step is finished", extra={"what": "step_finished", **about, **facts})

    def _count(self, result: EffectResult | None) -> None:
        if result is None or result.state == "planned":
            return
        action = self._tools.plugins.catalogue.action(result.action)
        self._tools.metrics.effect(result.action, action.effect.value if action else "none", result.outcome)

    def _news(self, hand: Hand, result: EffectResult) -> Sequence[Notice]:
        """What plugins are to be told of an effect."""
        return self._tools.notices.of_effect(
            result.key, result.token, action=result.action, run_id=hand.row.id, outcome=result.outcome
        )

    async def passed(self, hand: Hand, decision: Decision, done: ActionDone) -> Arrival:
        """Commit the way to a call that is not made, since its outcome is known; returns it, or the exit that came meanwhile."""
        await self.commit(hand, self.change(hand, decision, status="acting"))
        await self.look_back(hand, decision.exits)
        return done if hand.row.stop is None else stopped(hand.row.stop)

    def rest(self, hand: Hand) -> Advance:
        """The change that decides nothing: the run stands where it stood and rests."""
        return Advance(
            run_id=hand.row.id,
            epoch=hand.claim.epoch,
            at_ms=self._tools.clock.now_ms(),
            seq=hand.seq,
            status="ready",
            position=hand.position,
            ctx=hand.ctx,
            result=hand.outcome,
            first_watch=hand.watches,
        )

    async def give_back(
        self, hand: Hand, *, delay_s: float, reason: str, lane: Lane | None = None, counted: bool = False
    ) -> None:
        """Return the run to be claimed again later, from its recipe's lane or from `lane`; nothing is decided. Raises LetGo."""
        due_ms = self._tools.clock.now_ms() + max(1, int(delay_s * 1000))
        change = replace(self.rest(hand), reason=reason, due_ms=due_ms, lane=lane, counted=counted)
        await self.commit(hand, change)
        raise LetGo

    async def park(self, hand: Hand, on: str, reason: str, lane: Lane | None = None) -> None:
        """Set the run aside until what it is parked on is mended. Raises LetGo."""
        change = replace(self.rest(hand), status="parked", reason=reason, due_ms=NEVER_MS, parked_on=on, lane=lane)
        await self.commit(hand, change)
        _log.warning("a run is parked", extra={"what": "run_parked", "run_id": hand.row.id, "parked_on": on})
        raise LetGo

    async def outcome_of(self, effect_key: str) -> ActionDone | None:
        """The outcome of an effect as stored, or None when it has none."""
        async with self._tools.store.read() as c:
            row = await runs.outcome_of(c, effect_key)
        if row is None:
            return None
        output = from_json(row["output"]) if row["output"] else None
        return ActionDone(row["outcome"], output, row["reason"] or "")

    async def look_back(self, hand: Hand, watches: Sequence[Watch]) -> None:
        """Find events that came before their watch was committed, and wake or stop the run as routing would have."""
        await self._await_routing({w.key for w in watches if w.key_field == "contact"})
        for watch in watches:
            event = await self._answer_to(hand, watch)
            if event is None:
                continue
            answer = {"name": watch.name, "event": event}
            async with self._tools.store.write() as c:
                if not (await runs.hold(c, hand.row.id, hand.claim.epoch)).held:
                    raise LetGo
                if watch.kind == "exit":
                    await runs.stop(c, {hand.row.id: answer}, self._tools.clock.now_ms())
                else:
                    await runs.wake(c, {hand.row.id: answer}, self._tools.clock.now_ms())
            if watch.kind == "exit" and not hand.given_back:
                hand.row = replace(hand.row, stop=answer)
                return
            raise LetGo

    async def _answer_to(self, hand: Hand, watch: Watch) -> dict[str, Json] | None:
        """The first event that came and is the one, as recipes see it."""
        async with self._tools.store.read() as c:
            async for event in events.came_since(c, watch.type, f"{watch.key_field}={watch.key}", watch.since_ms):
                scope = event_scope(event, self._tools.connections.name_of(event.connection_id))
                own = event.id == hand.row.trigger.get("event_id")
                if not own and answers_watch(scope, event, watch.where, watch.since_ms):
                    return scope
        return None

    async def _await_routing(self, people: Iterable[str]) -> None:
        """Wait for whoever is routing events of these people now.

        They may have looked for waiters before ours was committed, and an event says whose it is only once it is routed.
        """
        if self._tools.store.dialect == "sqlite":
            return  # its one writer was not routing while our watch was committed
        for contact_id in people:
            async with self._tools.store.read() as c:
                await c.all("select 1 as held from contact where id = :id for share", id=contact_id)


def _watch_row(w: Watch) -> WatchRow:
    return WatchRow(w.kind, w.name, w.type, f"{w.key_field}={w.key}", w.where, w.since_ms)
