"""Advancing a run: decide (pure), commit (T5), gate (T4), call, and record what came of it.

One `Runner` per process. Whatever happens here may be cut off at any line: the next claim finds in the store where the run
stands and whether a call may have been made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from hub import engine
from hub.clock import Clock, format_duration, rfc3339
from hub.connections import Connection, Connections
from hub.connector import Action, Effect
from hub.engine import Act, ActionDone, Arrival, Decision, Facts, Finish, Need, RunState, Sleep, Wait, Watch
from hub.errors import (
    AuthExpired,
    ConfigError,
    HubError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    RetryableError,
    SkipStep,
    StoreUnavailable,
)
from hub.events import ConsentState, Json, e164
from hub.ids import idempotency_key, new_id, reference
from hub.library import Library
from hub.limits import Limits
from hub.plugins import Plugins
from hub.purposes import LedgerEntry, LegalClass, Purpose, permits
from hub.routing import answers_watch, event_scope
from hub.store import contacts, events, runs
from hub.store import session as store_session
from hub.store.events import append_consents
from hub.store.grouped import Grouped
from hub.store.runs import Advance, Advanced, EffectResult, EffectRow, RunRow, StepRow, WatchRow
from hub.store.session import Store
from hub.store.work import NEVER_MS, Claim

MAX_CLAIMS = 5
MAX_ATTEMPTS = 12
FEW_ATTEMPTS = 3
GIVE_UP_MS = 3 * 24 * 3_600_000
# What a worker needs beyond a call's own limit to write the result before its lease ends.
MARGIN_S = 3.0
_PHONE_CHANNELS = {"sms", "whatsapp", "voice"}

_log = logging.getLogger(__name__)


class _LetGo(Exception):  # (not a failure: the run is somebody else's now, or waits for its next due time)
    """Stop working on this run; everything that had to be written is written."""


@dataclass
class Hand:
    """A run in hand. `deadline` is the monotonic instant after which the lease may be somebody else's."""

    claim: Claim
    row: RunRow
    deadline: float
    position: str | None = None
    ctx: Mapping[str, Json] = field(default_factory=dict)
    seq: int = 0
    watches: int = 0
    result: EffectResult | None = None

    def __post_init__(self) -> None:
        self.position, self.ctx = self.row.position, self.row.ctx
        self.seq, self.watches = self.row.steps, self.row.watches


@dataclass(frozen=True)
class Tools:
    """What a runner works with."""

    store: Store
    library: Library
    connections: Connections
    plugins: Plugins
    clock: Clock
    limits: Limits
    zone: str = "UTC"
    hook_limit_s: float = 2.0
    lease_s: float = 30.0
    rehearsal: bool = False
    """Actions give their simulated output instead of calling anybody."""
    jitter: Callable[[], float] = random.random


class Runner:
    """Advances claimed runs until each sleeps, waits, ends or is given back."""

    def __init__(self, tools: Tools) -> None:
        self._t = tools
        self._group: Grouped[Advance, Advanced] = Grouped(
            self._flush, most=50, flushers=2 if tools.store.dialect == "postgresql" else 1, bound=100_000
        )

    async def _flush(self, group: Sequence[Advance]) -> Sequence[Advanced]:
        async with self._t.store.write() as c:
            return await runs.advance(c, group)

    async def advance(self, hand: Hand, open_effect: EffectRow | None) -> None:
        """Go on with a run from where it stands. Raises StoreUnavailable; the run is then claimed again later."""
        try:
            if hand.claim.claims > MAX_CLAIMS:
                await self._park(
                    hand, "poison", f"claimed {MAX_CLAIMS} times without getting on; look at its last step"
                )
            await self._advance(hand, open_effect)
        except _LetGo:
            return
        except StoreUnavailable:
            raise
        except Exception as error:  # a defect must not hold the run for its whole lease, nor be retried for ever
            _log.exception("a run could not be advanced", extra={"what": "advance_failed", "run_id": hand.row.id})
            with contextlib.suppress(_LetGo):
                await self._give_back(hand, delay_s=5, reason=f"the hub failed: {_say(error)}", counted=True)

    async def _advance(self, hand: Hand, open_effect: EffectRow | None) -> None:
        try:
            program = await self._t.library.program(hand.row.recipe, hand.row.version)
        except ConfigError as error:
            await self._park(hand, f"recipe:{hand.row.recipe}", str(error))
            return
        arrival: Arrival
        if open_effect is not None:
            arrival = await self._settle(hand, open_effect)
        elif hand.row.stop is not None:
            arrival = await self._stopped(hand, hand.row.stop)
        elif hand.row.status == "arming":
            await self._arm(hand, program, int(hand.claim.data or NEVER_MS))
            return
        elif hand.row.wake is not None and "effect" in hand.row.wake:
            arrival = await self._settled(str(hand.row.wake["effect"])) or engine.Resumed()
        else:
            arrival = _arrival(hand.row)
        if isinstance(arrival, engine.Resumed):
            # What was done is never done again, also when only its outcome was written and not what follows from it.
            arrival = await self._settled(_effect_key(hand.row.id, str(hand.row.position))) or arrival
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
        facts = Facts(default_zone=self._t.zone)
        now_ms = self._t.clock.now_ms()
        decision = engine.decide(program, state, arrival, facts, now_ms)
        while isinstance(decision, Need):
            facts = replace(facts, contact=await self._contact(hand))
            decision = engine.decide(program, state, arrival, facts, now_ms)
        return decision

    async def _contact(self, hand: Hand) -> Mapping[str, Json]:
        if hand.row.contact_id is None:
            return {}
        async with self._t.store.read() as c:
            return (await contacts.facts(c, [hand.row.contact_id]))[hand.row.contact_id]

    # -- carrying out a decision -----------------------------------------------------------------------------------

    async def _carry_out(self, program: engine.Program, hand: Hand, decision: Decision) -> Arrival:
        """Write the decision; act if it says so. Returns what arrived, or raises _LetGo when the run rests."""
        if decision.changes and hand.row.contact_id:
            # Before the fence on purpose: the same values again do no harm, and contacts are never locked after work.
            async with self._t.store.write() as c:
                given = [(change.field, change.operation, change.value) for change in decision.changes]
                await contacts.change(c, hand.row.contact_id, given)
        match decision.next:
            case Act() as act:
                return await self._act(program, hand, decision, act)
            case Sleep() as sleep:
                change = self._change(hand, decision, status="sleeping", reason=sleep.reason, due_ms=sleep.until_ms)
                await self._commit(hand, change)
                await self._look_back(hand, decision.exits)
                raise _LetGo
            case Wait() as wait:
                due_ms = NEVER_MS - 1 if wait.until_ms is None else wait.until_ms
                change = self._change(
                    hand, decision, status="arming", reason=wait.reason, watches=(*decision.exits, *wait.watches)
                )
                # The lease's end is when somebody else may finish the arming; what to arm with stands in `data`.
                lease_end = self._t.clock.now_ms() + int(self._t.lease_s * 1000)
                await self._commit(hand, replace(change, due_ms=lease_end, data=str(due_ms), counted=True))
                hand.row = replace(hand.row, status="arming")
                await self._arm(hand, program, due_ms, watches=(*decision.exits, *wait.watches))
                raise _LetGo
            case Finish() as finish:
                status = "cancelled" if finish.ended_by == "cancelled" else finish.status
                change = self._change(hand, decision, status=status, reason=finish.reason)
                await self._commit(hand, replace(change, finished=True, ended_by=finish.ended_by))
                await self._t.plugins.notify(
                    "hub_run_finished",
                    limit_s=self._t.hook_limit_s,
                    run_id=hand.row.id,
                    recipe=hand.row.recipe,
                    ended_by=finish.ended_by,
                )
                raise _LetGo

    def _change(
        self,
        hand: Hand,
        decision: Decision,
        *,
        status: str,
        reason: str | None = None,
        due_ms: int | None = None,
        watches: Sequence[Watch] | None = None,
    ) -> Advance:
        """A decision as the change that T5 writes."""
        added = decision.exits if watches is None else watches
        return Advance(
            run_id=hand.row.id,
            epoch=hand.claim.epoch,
            at_ms=self._t.clock.now_ms(),
            seq=hand.seq,
            status=status,
            position=decision.position,
            ctx=decision.ctx,
            reason=reason,
            due_ms=due_ms,
            steps=[StepRow(s.step_id, s.path, s.kind, s.outcome, s.reason) for s in decision.trail],
            result=hand.result,
            watches=[_watch_row(w) for w in added],
            first_watch=hand.watches,
            # Most runs never waited: there is nothing to remove.
            end_wait=bool(decision.trail) and hand.watches > 0,
            take_stop=hand.row.stop is not None,
            take_wake=True,
        )

    async def _commit(self, hand: Hand, change: Advance) -> Advanced:
        """T5. Raises _LetGo for a zombie; otherwise the hand stands where the change says."""
        done = await self._write(hand, change)
        if hand.result is not None:
            await self._after_effect(hand, hand.result)
        if not done.held:
            raise _LetGo
        hand.result = None
        hand.position, hand.ctx = change.position, change.ctx
        hand.seq += len(change.steps)
        hand.watches += len(change.watches)
        hand.row = replace(hand.row, stop=done.stop, wake=None)
        return done

    async def _write(self, hand: Hand, change: Advance) -> Advanced:
        """Submit a change; while the database is away, one that holds a call's outcome is not given up under the lease."""
        while True:
            try:
                return await self._group.submit(change)
            except StoreUnavailable:
                if change.result is None or time.monotonic() > hand.deadline:
                    raise
                await asyncio.sleep(0.5)

    async def _after_effect(self, hand: Hand, result: EffectResult) -> None:
        if result.state == "planned":
            return
        await self._t.plugins.notify(
            "hub_after_effect",
            limit_s=self._t.hook_limit_s,
            action=result.action,
            run_id=hand.row.id,
            outcome=result.outcome,
        )

    async def _stopped(self, hand: Hand, stop: Mapping[str, Json]) -> Arrival:
        """What a stop says to the engine."""
        if "cancel" in stop:
            return engine.Cancelled(str(stop["cancel"]))
        return engine.Exited(int(stop["name"]), stop["event"])

    async def _give_back(
        self, hand: Hand, *, delay_s: float, reason: str, queue: str | None = None, counted: bool = False
    ) -> None:
        """Return the run to be claimed again later; nothing is decided. Raises _LetGo."""
        change = Advance(
            run_id=hand.row.id,
            epoch=hand.claim.epoch,
            at_ms=self._t.clock.now_ms(),
            seq=hand.seq,
            status="ready",
            position=hand.position,
            ctx=hand.ctx,
            reason=reason,
            due_ms=self._t.clock.now_ms() + max(1, int(delay_s * 1000)),
            result=hand.result,
            first_watch=hand.watches,
            queue=queue,
            counted=counted,
        )
        await self._commit(hand, change)
        raise _LetGo

    async def _park(self, hand: Hand, on: str, reason: str) -> None:
        """Set the run aside until what it is parked on is mended. Raises _LetGo."""
        change = Advance(
            run_id=hand.row.id,
            epoch=hand.claim.epoch,
            at_ms=self._t.clock.now_ms(),
            seq=hand.seq,
            status="parked",
            position=hand.position,
            ctx=hand.ctx,
            reason=reason,
            due_ms=NEVER_MS,
            parked_on=on,
            result=hand.result,
            first_watch=hand.watches,
        )
        await self._commit(hand, change)
        _log.warning("a run is parked", extra={"what": "run_parked", "run_id": hand.row.id, "parked_on": on})
        raise _LetGo

    async def _settled(self, effect_key: str) -> ActionDone | None:
        """The outcome of an effect as stored, or None when it has none."""
        async with self._t.store.read() as c:
            row = await runs.outcome_of(c, effect_key)
        if row is None:
            return None
        response = from_json(row["response"]) if row["response"] else None
        return ActionDone(row["outcome"], response, row["reason"] or "")

    # -- waiting (T6) ----------------------------------------------------------------------------------------------

    async def _arm(
        self, hand: Hand, program: engine.Program, due_ms: int, watches: Sequence[Watch] | None = None
    ) -> None:
        """After the watches are committed: was the event there already? Then the run is woken, else its timer is set."""
        found = watches if watches is not None else await self._stored_watches(hand)
        await self._look_back(hand, found)
        async with self._t.store.write() as c:
            await runs.arm(c, hand.row.id, hand.claim.epoch, due_ms)
        raise _LetGo

    async def _stored_watches(self, hand: Hand) -> list[Watch]:
        async with self._t.store.read() as c:
            rows = await c.all("select * from waiter where run_id = :run order by n", run=hand.row.id)
        return [_watch_of(row) for row in rows]

    async def _look_back(self, hand: Hand, watches: Sequence[Watch]) -> None:
        """Find events that came before their watch was committed, and wake or stop the run as routing would have."""
        for watch in sorted(watches, key=lambda w: w.kind != "exit"):
            async with self._t.store.read() as c:
                if watch.key_field == "contact":
                    found = await events.of_contact_since(c, watch.key, [watch.type], watch.since_ms)
                else:
                    found = await events.found_by_key(c, watch.type, f"{watch.key_field}={watch.key}")
            for event in found:
                scope = event_scope(event, self._t.connections.name_of(event.connection_id))
                if event.id == hand.row.trigger.get("event_id") or not answers_watch(
                    scope, event, watch.where, watch.since_ms
                ):
                    continue
                answer = {"name": watch.name, "event": scope}
                async with self._t.store.write() as c:
                    if not (await runs.hold(c, hand.row.id, hand.claim.epoch)).held:
                        raise _LetGo
                    if watch.kind == "exit":
                        await runs.stop(c, {hand.row.id: answer}, self._t.clock.now_ms())
                    else:
                        await runs.wake(c, {hand.row.id: answer}, self._t.clock.now_ms())
                if watch.kind == "exit" and hand.row.status != "arming":
                    hand.row = replace(hand.row, stop=answer)
                    return
                raise _LetGo

    # -- acting ----------------------------------------------------------------------------------------------------

    async def _act(self, program: engine.Program, hand: Hand, decision: Decision, act: Act) -> Arrival:
        """Write the intent, make the call, and say what came of it."""
        effect = EffectRow(
            key=_effect_key(hand.row.id, act.step_id),
            run_id=hand.row.id,
            step_id=act.step_id,
            action=act.action,
            connection=act.connection,
            state="planned",
            token=new_id(),
            request={
                "input": act.input,
                "purpose": act.purpose,
                "valid_until_ms": act.valid_until_ms,
                "confirms": act.confirms,
                "on_error": act.on_error,
                "path": act.path,
            },
            attempts=0,
            intended_at_ms=self._t.clock.now_ms(),
        )
        prepared = await self._prepare(hand, effect)
        if isinstance(prepared, ActionDone):
            await self._commit(hand, self._change(hand, decision, status="acting"))
            return prepared
        action, input_, connection = prepared
        if action.batch is not None:
            await self._queue(hand, decision, effect, action, input_, connection)
        if action.message is None and not decision.exits and not self._vetoing:
            granted = self._t.limits.take(
                connection.name, self._t.connections.connector(connection.connector), action.cost
            )
            if granted == 0.0:
                return await self._act_in_one(hand, decision, effect, action, input_, connection)
        # Messages pass the gate in a transaction of their own; so does everything that may still be stopped or has to wait.
        await self._commit(hand, self._change(hand, decision, status="acting"))
        await self._look_back(hand, decision.exits)
        if hand.row.stop is not None:
            return await self._stopped(hand, hand.row.stop)
        return await self._attempt(hand, program, effect, action, input_, connection)

    async def _queue(
        self,
        hand: Hand,
        decision: Decision,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        connection: Connection,
    ) -> None:
        """Leave the effect to its batch, which wakes the run. Raises _LetGo."""
        assert action.batch is not None, "asked only for actions that are done in batches"
        now_ms = self._t.clock.now_ms()
        group = action.batch.group_by(input_)
        change = self._change(hand, decision, status="waiting", reason="waiting for its batch", due_ms=NEVER_MS - 1)
        queued = replace(effect, state="queued", batch=f"{connection.name}|{action.type}|{group}")
        await self._commit(
            hand,
            replace(change, intent=queued, linger=(now_ms + int(action.batch.linger_s * 1000), action.batch.size)),
        )
        await self._look_back(hand, decision.exits)
        raise _LetGo

    @property
    def _vetoing(self) -> bool:
        return bool(self._t.plugins.manager.hook.hub_before_effect.get_hookimpls())

    async def _act_in_one(
        self,
        hand: Hand,
        decision: Decision,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        connection: Connection,
    ) -> Arrival:
        """The steady state: the last result and the next intent in one commit, then the call. The slot is taken already."""
        try:
            effect = replace(effect, state="intended", attempts=1)
            change = replace(self._change(hand, decision, status="acting"), intent=effect)
            done = await self._commit(hand, change)
            if done.stop is not None:
                hand.result = _result(
                    effect, "withdrawn", "withdrawn", "the run was stopped", None, self._t.clock.now_ms()
                )
                return await self._stopped(hand, done.stop)
            return await self._call(hand, effect, action, input_, connection)
        finally:
            self._t.limits.release(connection.name)

    async def _prepare(
        self, hand: Hand, effect: EffectRow
    ) -> tuple[Action[Any, Any], BaseModel, Connection] | ActionDone:
        """The action, its checked input and its connection; or why it cannot be. Parks when the plugin is missing."""
        action = self._t.plugins.catalogue.action(effect.action)
        if action is None:
            connector = effect.action.partition(".")[0]
            await self._park(hand, f"plugin:{connector}", f"the plugin of {effect.action} is not loaded; install it")
            raise _LetGo
        try:
            connection = await self._t.connections.by_name(effect.connection)
            return action, action.input.model_validate(effect.request["input"]), connection
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            return ActionDone("failed", None, f"the input does not fit {effect.action}: {wrong}")
        except ConfigError as error:
            return ActionDone("failed", None, str(error))

    async def _settle(self, hand: Hand, effect: EffectRow) -> Arrival:
        """A claimed run with an effect whose outcome is open: find it out, or make the call (again)."""
        program = await self._t.library.program(hand.row.recipe, hand.row.version)
        stop = hand.row.stop
        if effect.batch is not None and (effect.state == "intended" or stop is None):
            # Its batch is being called, or will be; the run goes on when that is settled.
            await self._give_back(hand, delay_s=1, reason="waiting for its batch")
        if effect.state in {"planned", "queued"} and stop is not None:
            hand.result = _result(effect, "withdrawn", "withdrawn", "the run was stopped", None, self._t.clock.now_ms())
            return await self._stopped(hand, stop)
        prepared = await self._prepare(hand, effect)
        if isinstance(prepared, ActionDone):
            hand.result = _result(effect, "failed", "failed", prepared.reason, None, self._t.clock.now_ms())
            return prepared
        action, input_, connection = prepared
        if effect.state == "planned":
            return await self._attempt(hand, program, effect, action, input_, connection)
        return await self._reconcile(hand, program, effect, action, input_, connection)

    async def _reconcile(
        self,
        hand: Hand,
        program: engine.Program,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        connection: Connection,
    ) -> Arrival:
        """An intent without a result: a call may have been made. The effect class says what to do."""
        if action.effect is Effect.RECONCILABLE and action.lookup_ is not None:
            settled_ms = effect.intended_at_ms + int((action.timeout_s + MARGIN_S) * 1000)
            if (early := settled_ms - self._t.clock.now_ms()) > 0:
                await self._give_back(hand, delay_s=early / 1000, reason="waiting until the last call must have ended")
            found = await self._look_up(hand, effect, action, input_, connection)
            if found is not None:
                return self._done(hand, effect, found, "found at the vendor after a lost answer")
        elif action.effect is Effect.AT_MOST_ONCE:
            return self._unknown(hand, effect, "the answer was lost and this action must not be repeated")
        if hand.row.stop is not None:
            if action.effect is Effect.RECONCILABLE:
                hand.result = _result(
                    effect, "withdrawn", "withdrawn", "it had not been done", None, self._t.clock.now_ms()
                )
            else:
                self._unknown(
                    hand, effect, "the answer was lost and the run was stopped before it could be asked again"
                )
            return await self._stopped(hand, hand.row.stop)
        return await self._attempt(hand, program, effect, action, input_, connection)

    async def _look_up(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel, connection: Connection
    ) -> BaseModel | None:
        assert action.lookup_ is not None, "only reconcilable actions with a look-up are looked up"
        try:
            context = await self._t.connections.context(
                connection,
                reference=reference(effect.key),
                idempotency_key=idempotency_key(effect.key),
                intended_at_ms=effect.intended_at_ms,
                total_s=action.timeout_s,
            )
            found: BaseModel | None = await action.lookup_(context, input_)
            return found
        except AuthExpired as error:
            await self._expired(hand, connection, error)
        except Exception as error:  # whatever it was, looking up again is safe
            if self._t.clock.now_ms() - effect.intended_at_ms > GIVE_UP_MS:
                raise
            delay_s = self._backoff(effect.attempts, getattr(error, "retry_after_s", None))
            await self._give_back(hand, delay_s=delay_s, reason=f"looking it up failed: {_say(error)}")
        return None

    async def _attempt(
        self,
        hand: Hand,
        program: engine.Program,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        connection: Connection,
    ) -> Arrival:
        """Slot, budget, gate, intent, call."""
        connector = self._t.connections.connector(connection.connector)
        wait_s = self._t.limits.take(connection.name, connector, action.cost)
        if wait_s > 0:
            await self._give_back(
                hand,
                delay_s=wait_s * (1 + 0.2 * self._t.jitter()),
                reason=f"waiting for the budget of {connection.name}",
                queue=connection.name,
            )
        try:
            passed = await self._gate(hand, program, effect, action, input_)
            if not isinstance(passed, EffectRow):
                return passed
            return await self._call(hand, passed, action, input_, connection)
        finally:
            self._t.limits.release(connection.name)

    # -- the gate (T4) ---------------------------------------------------------------------------------------------

    async def _gate(
        self, hand: Hand, program: engine.Program, effect: EffectRow, action: Action[Any, Any], input_: BaseModel
    ) -> EffectRow | Arrival:
        """The last moment before a call: may it still be made? Writes and returns the intent, or says why not.

        Each call has a token of its own, so that a late answer to an earlier one is never taken for this one's.
        """
        veto = await self._ask_plugins(hand, effect)
        if veto is not None:
            return veto
        now_ms = self._t.clock.now_ms()
        since_ms = effect.intended_at_ms if effect.attempts else now_ms
        intent = replace(
            effect, state="intended", token=new_id(), attempts=effect.attempts + 1, intended_at_ms=since_ms
        )
        hold_on = False
        answer: ActionDone | None = None
        async with self._t.store.write() as c:
            if hand.row.contact_id:
                await contacts.lock(c, [hand.row.contact_id])
            held = await runs.hold(c, hand.row.id, hand.claim.epoch)
            if not held.held:
                raise _LetGo
            if held.stop is not None:
                hand.row = replace(hand.row, stop=held.stop)
            elif action.message is not None and (hold_on := await self._news_waiting(c, hand, program, action, input_)):
                pass
            elif action.message is not None:
                answer = await self._permission(c, hand, effect, action, input_, now_ms)
            if held.stop is None and not hold_on and answer is None:
                await runs.intend(c, intent)
        if hand.row.stop is not None:
            hand.result = _result(effect, "withdrawn", "withdrawn", "the run was stopped", None, now_ms)
            return await self._stopped(hand, hand.row.stop)
        if hold_on:
            await self._give_back(hand, delay_s=0.02, reason="news about this person is being sorted first")
        if answer is None:
            return intent
        hand.result = _result(effect, "skipped", "skipped", answer.reason, None, now_ms)
        return answer

    async def _ask_plugins(self, hand: Hand, effect: EffectRow) -> ActionDone | None:
        if not self._vetoing:
            return None
        try:
            vetoes = await self._t.plugins.gather(
                "hub_before_effect",
                limit_s=self._t.hook_limit_s,
                action=effect.action,
                input=effect.request["input"],
                run_id=hand.row.id,
                contact_id=hand.row.contact_id,
            )
        except Exception as error:  # a plugin may raise anything; an effect is never sent past a broken guard
            _log.exception("a plugin's guard failed", extra={"what": "hook_failed", "run_id": hand.row.id})
            await self._give_back(
                hand, delay_s=30, reason=f"a plugin's guard failed: {type(error).__name__}", counted=True
            )
        for veto in vetoes:
            if veto is not None and veto.delay_s is not None:
                await self._give_back(hand, delay_s=veto.delay_s, reason=f"a plugin said later: {veto.reason}")
            if veto is not None:
                return ActionDone("skipped", None, f"vetoed: {veto.reason}")
        return None

    async def _news_waiting(
        self,
        c: store_session.Connection,
        hand: Hand,
        program: engine.Program,
        action: Action[Any, Any],
        input_: BaseModel,
    ) -> bool:
        """Whether an event that may end this run is stored but not routed yet."""
        if not program.exit_types or hand.row.contact_id is None:
            return False
        known = await contacts.identities(c, [hand.row.contact_id])
        people = [f"{kind}:{value}" for kind, value in known.get(hand.row.contact_id, [])]
        return any(event.type in program.exit_types for _, event in await events.unrouted_of(c, people))

    async def _permission(
        self,
        c: store_session.Connection,
        hand: Hand,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        now_ms: int,
    ) -> ActionDone | None:
        """Valid still, consent given, not suppressed: then the message is reserved. Else the reason it stays."""
        assert action.message is not None, "only messages are asked about"
        valid_until_ms = effect.request.get("valid_until_ms")
        if valid_until_ms is not None and now_ms > int(valid_until_ms):
            return ActionDone("skipped", None, f"too_late: valid until {rfc3339(int(valid_until_ms))}")
        name = effect.request.get("purpose")
        purpose = self._t.library.purpose(str(name)) if name else None
        if purpose is None:
            return ActionDone("skipped", None, f"no_consent: there is no purpose {name}; add it to purposes.yaml")
        if purpose.channel is not None and purpose.channel != action.message.channel:
            return ActionDone("skipped", None, f"no_consent: the purpose {name} is for {purpose.channel}")
        missing = await self._unconfirmed(c, hand, effect, purpose)
        if missing:
            return ActionDone("skipped", None, missing)
        address = _address(action, input_)
        ledger = await contacts.ledger(c, [(action.message.channel, address)])
        entries = [
            LedgerEntry(ConsentState(row["state"]), row["purpose"], row["reason"], row["at"])
            for row in ledger.get((action.message.channel, address), [])
        ]
        permission = permits(entries, purpose)
        if not permission.allowed:
            return ActionDone("skipped", None, permission.reason)
        await runs.reserve_message(
            c,
            effect.key,
            contact_id=hand.row.contact_id,
            channel=action.message.channel,
            purpose=purpose.name,
            recipe=hand.row.recipe,
            at_ms=now_ms,
        )
        return None

    async def _unconfirmed(
        self, c: store_session.Connection, hand: Hand, effect: EffectRow, purpose: Purpose
    ) -> str | None:
        """A service message passes only as the confirmation of a step that was done."""
        if purpose.legal_class is not LegalClass.SERVICE:
            return None
        step = effect.request.get("confirms")
        if step and await runs.effect_state(c, hand.row.id, str(step)) == "done":
            return None
        return f"no_consent: a service message confirms a step that was done, and {step or 'no step'} was not"

    # -- the call --------------------------------------------------------------------------------------------------

    async def _call(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel, connection: Connection
    ) -> Arrival:
        """Make the call whose intent is committed, and say what came of it."""
        if self._t.rehearsal:
            return self._done(
                hand,
                effect,
                action.rehearse(input_, self._t.clock.now_ms()),
                action.dry_run(input_),
                message=action.message is not None,
            )
        if time.monotonic() + action.timeout_s + MARGIN_S > hand.deadline:
            # Too little of the lease is left to be sure that nobody else calls too. Nothing was sent.
            hand.result = _planned(effect, self._t.clock.now_ms())
            await self._give_back(hand, delay_s=0.01, reason="the lease was nearly over")
        try:
            context = await self._t.connections.context(
                connection,
                reference=reference(effect.key),
                idempotency_key=idempotency_key(effect.key),
                intended_at_ms=effect.intended_at_ms,
                total_s=action.timeout_s,
            )
            output = await action.run(context, input_)
        except SkipStep as skip:
            await self._signals(effect, skip)
            return self._skipped(hand, effect, skip, message=action.message is not None)
        except AuthExpired as error:
            hand.result = _planned(effect, self._t.clock.now_ms(), message=action.message is not None)
            return await self._expired(hand, connection, error)
        except RetryableError as error:
            return await self._again(hand, effect, action, connection, error)
        except PermanentError as error:
            return self._failed(hand, effect, _say(error), message=action.message is not None)
        except OutcomeUnknown as error:
            return await self._lost(hand, effect, action, _say(error))
        except (StoreUnavailable, ConfigError) as error:
            # Raised before the request left: by the token, the host check or the store.
            hand.result = _planned(effect, self._t.clock.now_ms(), message=action.message is not None)
            await self._give_back(hand, delay_s=self._backoff(effect.attempts, None), reason=_say(error))
            raise _LetGo from error
        except Exception as error:  # a plugin may raise anything, also after its request was answered
            _log.exception(
                "an action raised", extra={"what": "action_raised", "run_id": hand.row.id, "action": effect.action}
            )
            return await self._lost(hand, effect, action, f"the connector raised {type(error).__name__}")
        return self._done(hand, effect, output, "", message=action.message is not None)

    def _done(
        self, hand: Hand, effect: EffectRow, output: BaseModel, reason: str, *, message: bool = True
    ) -> ActionDone:
        data = output.model_dump(mode="json")
        hand.result = _result(effect, "done", "done", reason, data, self._t.clock.now_ms(), message=message)
        return ActionDone("done", data, reason)

    def _failed(self, hand: Hand, effect: EffectRow, reason: str, *, message: bool = True) -> ActionDone:
        hand.result = _result(effect, "failed", "failed", reason, None, self._t.clock.now_ms(), message=message)
        return ActionDone("failed", None, reason)

    def _skipped(self, hand: Hand, effect: EffectRow, skip: SkipStep, *, message: bool) -> ActionDone:
        reason = f"{skip.reason}: {skip}" if str(skip) != skip.reason else skip.reason
        hand.result = _result(effect, "skipped", "skipped", reason, None, self._t.clock.now_ms(), message=message)
        return ActionDone("skipped", None, reason)

    def _unknown(self, hand: Hand, effect: EffectRow, reason: str) -> ActionDone:
        hand.result = _result(effect, "unknown", "unknown", reason, None, self._t.clock.now_ms(), message=True)
        return ActionDone("unknown", None, reason)

    async def _again(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], connection: Connection, error: RetryableError
    ) -> Arrival:
        """Certainly not done: plan it again, unless it has been tried for long enough."""
        now_ms = self._t.clock.now_ms()
        limited = isinstance(error, RateLimited)
        if limited and error.retry_after_s:
            self._t.limits.push(connection.name, error.retry_after_s)
        most = MAX_ATTEMPTS if effect.request.get("on_error", "retry") == "retry" else FEW_ATTEMPTS
        if not limited and (effect.attempts >= most or now_ms - effect.intended_at_ms > GIVE_UP_MS):
            span = format_duration(max(1000, now_ms - effect.intended_at_ms))
            return self._failed(hand, effect, f"given up after {effect.attempts} attempts in {span}: {_say(error)}")
        hand.result = _planned(effect, now_ms, message=action.message is not None)
        delay_s = self._backoff(effect.attempts, error.retry_after_s)
        await self._give_back(hand, delay_s=delay_s, reason=_say(error), queue=connection.name)
        raise _LetGo

    async def _lost(self, hand: Hand, effect: EffectRow, action: Action[Any, Any], reason: str) -> Arrival:
        """The answer was lost: it may have been done. The effect class says what follows."""
        if action.effect is Effect.AT_MOST_ONCE:
            return self._unknown(hand, effect, reason)
        if effect.attempts >= MAX_ATTEMPTS or self._t.clock.now_ms() - effect.intended_at_ms > GIVE_UP_MS:
            return self._unknown(hand, effect, f"given up after {effect.attempts} attempts: {reason}")
        delay_s = self._backoff(effect.attempts, None)
        if action.effect is Effect.RECONCILABLE:
            delay_s += action.timeout_s + MARGIN_S
        await self._give_back(hand, delay_s=delay_s, reason=f"the answer was lost ({reason})")
        raise _LetGo

    async def _expired(self, hand: Hand, connection: Connection, error: AuthExpired) -> Arrival:
        """The credentials are refused: renew what can be renewed, once; else the run waits for a new authorisation."""
        if await self._t.connections.renew_refused(connection):
            await self._give_back(hand, delay_s=0.05, reason="the token was renewed", counted=True)
        await self._t.connections.unhealthy(connection, _say(error))
        await self._park(hand, f"connection:{connection.name}", f"{connection.name} needs re-authorisation")
        raise _LetGo

    async def _signals(self, effect: EffectRow, skip: SkipStep) -> None:
        """What a vendor's refusal says about consent goes to the ledger."""
        if not skip.signals:
            return
        rows = [
            {
                "id": new_id(),
                "channel": s.channel,
                "address": s.address,
                "purpose": s.purpose,
                "state": s.state.value,
                "reason": s.reason,
                "source": effect.action,
                "event_id": None,
                "at": self._t.clock.now_ms(),
            }
            for s in skip.signals
        ]
        async with self._t.store.write() as c:
            await append_consents(c, rows)

    def _backoff(self, attempts: int, retry_after_s: float | None) -> float:
        """The vendor's word with a little jitter, else 2 s doubling to an hour with full jitter."""
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * self._t.jitter())
        return float(max(0.1, self._t.jitter() * min(3600.0, 2.0**attempts)))


# -- small translations ------------------------------------------------------------------------------------------------


def _effect_key(run_id: str, step_id: str) -> str:
    """Names an effect for ever: its run and step."""
    return f"{run_id}:{step_id}"


def _arrival(row: RunRow) -> Arrival:
    """What a claim means, from how the run was left."""
    if row.position is None:
        return engine.Started()
    if row.wake is not None:
        return engine.Answered(str(row.wake["name"]), row.wake["event"])
    if row.status in {"sleeping", "waiting"}:
        return engine.TimerFired()
    return engine.Resumed()


def _watch_row(w: Watch) -> WatchRow:
    return WatchRow(w.kind, w.name, w.type, f"{w.key_field}={w.key}", w.where, w.since_ms)


def _watch_of(row: store_session.Row) -> Watch:
    key_field, _, key = row["key"].partition("=")
    where = from_json(row["condition"]) if row["condition"] else None
    return Watch(row["kind"], row["name"], row["type"], key_field, key, where, row["since"])


def _result(
    effect: EffectRow,
    state: str,
    outcome: str,
    reason: str,
    response: Mapping[str, Json] | None,
    at_ms: int,
    *,
    message: bool = True,
) -> EffectResult:
    return EffectResult(effect.key, effect.token, effect.action, state, outcome, reason, response, at_ms, message)


def _planned(effect: EffectRow, at_ms: int, *, message: bool = True) -> EffectResult:
    return _result(effect, "planned", "planned", "to be tried again", None, at_ms, message=message)


def _address(action: Action[Any, Any], input_: BaseModel) -> str:
    """The address as the consent ledger writes it."""
    assert action.message is not None, "only messages have an address"
    given = str(action.message.to(input_))
    if action.message.channel in _PHONE_CHANNELS:
        return e164(given) or given
    return given.strip().lower()


def _say(error: Exception) -> str:
    """An error for a run's trace: our own words, or only the type of somebody else's, which may repeat personal data."""
    return str(error) if isinstance(error, HubError) else type(error).__name__
