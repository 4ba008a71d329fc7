"""Effects: from the decision to act to an outcome, whatever was known of earlier attempts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from hub import engine, seams, watched
from hub.backoff import FEW_ATTEMPTS, GIVE_UP_MS, backoff_s, is_over
from hub.clock import format_duration
from hub.connections import Connection
from hub.connector import Action, Effect
from hub.engine import Act, ActionDone, Arrival, Decision
from hub.errors import (
    AuthExpired,
    ConfigError,
    ConnectionConfigError,
    LeaseOver,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    RetryableError,
    SkipStep,
    StoreUnavailable,
)
from hub.ids import idempotency_key, new_id, reference
from hub.limits import Refusal
from hub.metrics import word_of
from hub.runs.gate import Gate
from hub.runs.hand import Hand, LetGo, Tools, effect_key, planned, result_of, say, stopped
from hub.runs.holding import Holding
from hub.runs.writer import Writer
from hub.store.events import append_consents
from hub.store.lanes import Lane, Rank, rank_of
from hub.store.runs import EffectRow
from hub.store.work import NEVER_MS

_log = logging.getLogger(__name__)


class Calls:
    """Makes the calls of one process's runs."""

    def __init__(self, tools: Tools, writer: Writer, gate: Gate) -> None:
        self._tools, self._writer, self._gate = tools, writer, gate
        self._holding = Holding(tools, writer)

    async def act(self, program: engine.Program, hand: Hand, decision: Decision, act: Act) -> Arrival:
        """Write the intent, make the call, and say what came of it."""
        effect = EffectRow(
            key=effect_key(hand.row.id, act.step_id),
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
            intended_at_ms=self._tools.clock.now_ms(),
        )
        prepared = await self._prepare(hand, effect)
        if isinstance(prepared, ActionDone):
            return await self._writer.passed(hand, decision, prepared)
        action, input_, connection = prepared
        if late := self._holding.late(hand, effect):
            return await self._writer.passed(hand, decision, late)
        await self._holding.before(hand, effect, action, decision)
        capped = bool(await self._tools.spending.caps(hand.row.recipe, effect.connection))
        if action.batch is not None and not capped and not self._gate.vetoing:
            await self._queue(hand, decision, effect, action, input_, connection)
        refused: Refusal | None = None
        if not capped and action.message is None and not decision.exits and not self._gate.vetoing:
            refused = await self._take(hand, effect, action, connection)
            if refused is None:
                return await self._act_in_one(hand, decision, effect, action, input_, connection)
        # Messages pass the gate in a transaction of their own; so does everything that may still be stopped or has to wait.
        await self._writer.commit(hand, self._writer.change(hand, decision, status="acting"))
        await self._writer.look_back(hand, decision.exits)
        if hand.row.stop is not None:
            return stopped(hand.row.stop)
        if action.batch is not None:
            reserved = await self._gate.reserve(hand, effect, action, input_)
            if isinstance(reserved, ActionDone):
                return reserved
            await self._queue(hand, replace(decision, trail=(), exits=()), reserved, action, input_, connection)
        if refused is not None:
            await self._wait_turn(hand, effect, connection, refused)
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
        """Leave the effect to its batch, which wakes the run. Raises LetGo."""
        assert action.batch is not None, "asked only for actions that are done in batches"
        now_ms = self._tools.clock.now_ms()
        group = action.batch.group_by(input_)
        change = self._writer.change(
            hand, decision, status="waiting", reason="waiting for its batch", due_ms=NEVER_MS - 1
        )
        request = {**effect.request, "queued_at_ms": now_ms}
        queued = replace(effect, state="queued", batch=f"{connection.name}|{action.called_by}|{group}", request=request)
        await self._writer.commit(
            hand,
            replace(change, intent=queued, linger=(now_ms + int(action.batch.linger_s * 1000), action.batch.size)),
        )
        await self._writer.look_back(hand, decision.exits)
        raise LetGo

    async def _act_in_one(
        self,
        hand: Hand,
        decision: Decision,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        connection: Connection,
    ) -> Arrival:
        """The steady state: the last result and the next intent in one commit, then the call. The budget is taken already."""
        effect = replace(effect, state="intended", attempts=1)
        done = await self._writer.commit(hand, self._writer.change(hand, decision, status="acting", intent=effect))
        if done.stop is not None:
            hand.result = result_of(
                effect, "withdrawn", "withdrawn", "the run was stopped", None, self._tools.clock.now_ms()
            )
            return stopped(done.stop)
        return await self._call(hand, effect, action, input_, connection)

    async def _prepare(
        self, hand: Hand, effect: EffectRow
    ) -> tuple[Action[Any, Any], BaseModel, Connection] | ActionDone:
        """The action, its checked input and its connection; or why it cannot be. Parks when the plugin is missing."""
        action = self._tools.plugins.catalogue.action(effect.action)
        if action is None:
            connector = effect.action.partition(".")[0]
            await self._writer.park(
                hand, f"plugin:{connector}", f"the plugin of {effect.action} is not loaded; install it"
            )
            raise LetGo
        try:
            connection = await self._tools.connections.by_name(effect.connection)
            return action, action.read(effect.request["input"]), connection
        except PermanentError as error:
            return ActionDone("failed", None, str(error))
        except ConnectionConfigError:
            gone = f"there is no connection {effect.connection} any more; add one of this name, or cancel the run"
            await self._writer.park(hand, f"connection:{effect.connection}", gone)
            raise LetGo from None

    async def settle(self, hand: Hand, effect: EffectRow) -> Arrival:
        """A claimed run with an effect whose outcome is open: find it out, or make the call (again)."""
        hand.in_doubt = effect.state == "intended"
        program = await self._tools.library.program(hand.row.recipe, hand.row.version)
        stop = hand.row.stop
        if effect.batch is not None and (effect.state == "intended" or stop is None):
            # Its batch is being called, or will be; the run goes on when that is settled.
            await self._writer.give_back(hand, delay_s=1, reason="waiting for its batch")
        if effect.state in {"planned", "queued"} and stop is not None:
            hand.result = result_of(
                effect, "withdrawn", "withdrawn", "the run was stopped", None, self._tools.clock.now_ms()
            )
            return stopped(stop)
        prepared = await self._prepare(hand, effect)
        if isinstance(prepared, ActionDone):
            hand.result = result_of(effect, "failed", "failed", prepared.reason, None, self._tools.clock.now_ms())
            return prepared
        action, input_, connection = prepared
        if effect.state == "planned":
            return await self._attempt(hand, program, effect, action, input_, connection)
        arrival = await self._reconcile(hand, program, effect, action, input_, connection)
        # What became of the call is written with the end of a run that was stopped meanwhile: it goes on with nothing.
        return arrival if hand.row.stop is None else stopped(hand.row.stop)

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
        class_ = self._after_loss(effect, action)
        if class_ is Effect.RECONCILABLE and action.lookup_ is not None:
            settled_ms = effect.intended_at_ms + int((self._tools.limit_s(action) + self._tools.margin_s) * 1000)
            if (early := settled_ms - self._tools.clock.now_ms()) > 0:
                await self._writer.give_back(
                    hand, delay_s=early / 1000, reason="waiting until the last call must have ended"
                )
            found = await self._look_up(hand, effect, action, input_, connection)
            if isinstance(found, ActionDone):
                return found
            if found is not None:
                return self._done(hand, effect, found, "found at the vendor after a lost answer")
            hand.in_doubt = False
        elif class_ is Effect.AT_MOST_ONCE:
            return self._unknown(hand, effect, action.unrepeatable)
        if hand.row.stop is not None:
            if class_ is Effect.RECONCILABLE:
                hand.result = result_of(
                    effect, "withdrawn", "withdrawn", "it had not been done", None, self._tools.clock.now_ms()
                )
            else:
                self._unknown(
                    hand, effect, "the answer was lost and the run was stopped before it could be asked again"
                )
            return stopped(hand.row.stop)
        return await self._attempt(hand, program, effect, action, input_, connection)

    def _after_loss(self, effect: EffectRow, action: Action[Any, Any]) -> Effect:
        """What may be done about the lost answer now, with a call that takes as long as it may."""
        until_ms = self._tools.clock.now_ms() + int(self._tools.limit_s(action) * 1000)
        return action.after_loss(effect.intended_at_ms, until_ms)

    async def _look_up(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel, connection: Connection
    ) -> BaseModel | ActionDone | None:
        """What an earlier call did; None when it certainly did nothing; *unknown* after days without an answer."""
        assert action.lookup_ is not None, "only reconcilable actions with a look-up are looked up"
        waited = Lane.of(hand.claim.queue).connection == connection.name
        connector = self._tools.connections.connector(connection.connector)
        refused = await self._tools.limits.draw(
            connection.name, connector, action.lookup_draws, self._rank(effect), waited=waited
        )
        if refused is not None:
            await self._wait_turn(hand, effect, connection, refused)
        try:
            context = await self._tools.connections.context(
                connection,
                reference=reference(effect.key),
                idempotency_key=idempotency_key(effect.key),
                intended_at_ms=effect.intended_at_ms,
                total_s=self._tools.limit_s(action),
            )
            with self._watched(effect, what="lookup"):
                found: BaseModel | None = await action.lookup_(context, input_)
            return found
        except AuthExpired as error:
            await self._expired(hand, effect, connection, error)
        except Exception as error:  # whatever it was, looking up again is safe
            open_ms = self._tools.clock.now_ms() - effect.intended_at_ms
            if open_ms > GIVE_UP_MS:
                self._note_giving_up(effect, error)
                return self._unknown(hand, effect, f"given up looking it up: {say(error)}", error)
            # Looks are not counted: how long it has been open says how far apart they are by now.
            doublings = max(1, (open_ms // 1000).bit_length())
            delay_s = self._backoff(doublings, getattr(error, "retry_after_s", None))
            lane = self._lane(hand, effect, connection)
            self._note_retry(effect, error, delay_s)
            await self._writer.give_back(hand, delay_s=delay_s, reason=f"looking it up failed: {say(error)}", lane=lane)
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
        """Not paused, budget, gate, intent, slot, call."""
        if late := self._holding.late(hand, effect):
            hand.result = result_of(effect, "skipped", "skipped", late.reason, None, self._tools.clock.now_ms())
            return late
        await self._holding.before(hand, effect, action)
        refused = await self._take(hand, effect, action, connection)
        if refused is not None:
            await self._wait_turn(hand, effect, connection, refused)
        passed = await self._gate.passes(hand, program, effect, action, input_)
        if not isinstance(passed, EffectRow):
            return passed
        return await self._call(hand, passed, action, input_, connection)

    async def _take(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], connection: Connection
    ) -> Refusal | None:
        """The budget; None when granted. The slot is taken after the intent is written."""
        connector = self._tools.connections.connector(connection.connector)
        waited = Lane.of(hand.claim.queue).connection == connection.name
        rank = self._rank(effect)
        return await self._tools.limits.take(
            connection.name, connector, action.cost, rank, draws=action.draws, waited=waited, hold=False
        )

    def _rank(self, effect: EffectRow) -> Rank:
        name = effect.request.get("purpose")
        return rank_of(self._tools.library.purpose(str(name)) if name else None)

    def _lane(self, hand: Hand, effect: EffectRow, connection: Connection) -> Lane:
        """Where a run waits for a connection: there it holds nobody up, and is passed over while nothing can be done."""
        return Lane(hand.row.recipe, connection.name, self._rank(effect))

    async def _wait_turn(self, hand: Hand, effect: EffectRow, connection: Connection, refused: Refusal) -> None:
        """Return the run until its turn; the claim does not count, and no attempt is spent. Raises LetGo."""
        lane = self._lane(hand, effect, connection)
        self._tools.metrics.limited(connection.name)
        await self._writer.give_back(hand, delay_s=refused.wait_s, reason=refused.why, lane=lane)

    async def _call(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel, connection: Connection
    ) -> Arrival:
        """Make the call whose intent is committed, and say what came of it."""
        if self._tools.rehearsal:
            return self._pretended(hand, effect, action, input_)
        try:
            context = await self._tools.connections.context(
                connection,
                reference=reference(effect.key),
                idempotency_key=idempotency_key(effect.key),
                intended_at_ms=effect.intended_at_ms,
                total_s=self._tools.limit_s(action),
                deadline=hand.deadline,
            )
            async with self._tools.limits.slot(connection.name, self._rank(effect)) as refused:
                if refused is not None:
                    hand.result = planned(
                        effect, self._tools.clock.now_ms(), message=action.message is not None, unspent=True
                    )
                    await self._wait_turn(hand, effect, connection, refused)
                await self._holding.at_last(hand, effect, action)
                seams.reach("call.intended")
                with self._watched(effect):
                    output = await action.run(context, input_)
                seams.reach("call.answered")
        except LetGo:
            raise
        except SkipStep as skip:
            await self._signals(effect, skip)
            return self._skipped(hand, effect, skip, message=action.message is not None)
        except AuthExpired as error:
            hand.result = planned(
                effect, self._tools.clock.now_ms(), message=action.message is not None, unspent=True, error=error
            )
            return await self._expired(hand, effect, connection, error)
        except LeaseOver as error:
            hand.result = planned(effect, self._tools.clock.now_ms(), message=action.message is not None, unspent=True)
            await self._writer.give_back(hand, delay_s=0.01, reason=say(error))
            raise LetGo from error
        except RetryableError as error:
            return await self._again(hand, effect, action, connection, error)
        except PermanentError as error:
            return self._failed(hand, effect, say(error), error, message=action.message is not None)
        except OutcomeUnknown as error:
            return await self._lost(hand, effect, action, connection, error, say(error))
        except (StoreUnavailable, ConfigError) as error:
            # Raised before the request left: by the token, the host check or the store.
            hand.result = planned(effect, self._tools.clock.now_ms(), message=action.message is not None)
            delay_s = self._backoff(effect.attempts, None)
            self._note_retry(effect, error, delay_s)
            await self._writer.give_back(hand, delay_s=delay_s, reason=say(error))
            raise LetGo from error
        except Exception as error:  # a plugin may raise anything, also after its request was answered
            _log.exception(
                "an action raised", extra={"what": "action_raised", "run_id": hand.row.id, "action": effect.action}
            )
            reason = f"the connector raised {type(error).__name__}"
            return await self._lost(hand, effect, action, connection, error, reason)
        return self._done(hand, effect, output, "", message=action.message is not None)

    def _pretended(self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel) -> ActionDone:
        """What a rehearsal takes for the call."""
        message = action.message is not None
        try:
            output, told = action.rehearse(input_, self._tools.clock.now_ms()), action.dry_run(input_)
        except PermanentError as error:
            return self._failed(hand, effect, say(error), error, message=message)
        return self._done(hand, effect, output, told, message=message)

    def _done(
        self, hand: Hand, effect: EffectRow, output: BaseModel, reason: str, *, message: bool = True
    ) -> ActionDone:
        data = output.model_dump(mode="json")
        hand.result = result_of(effect, "done", "done", reason, data, self._tools.clock.now_ms(), message=message)
        return ActionDone("done", data, reason)

    def _failed(
        self, hand: Hand, effect: EffectRow, reason: str, error: Exception, *, message: bool = True
    ) -> ActionDone:
        now_ms = self._tools.clock.now_ms()
        hand.result = result_of(effect, "failed", "failed", reason, None, now_ms, message=message, error=error)
        return ActionDone("failed", None, reason)

    def _skipped(self, hand: Hand, effect: EffectRow, skip: SkipStep, *, message: bool) -> ActionDone:
        reason = f"{skip.reason}: {skip}" if str(skip) != skip.reason else skip.reason
        hand.result = result_of(effect, "skipped", "skipped", reason, None, self._tools.clock.now_ms(), message=message)
        return ActionDone("skipped", None, reason)

    def _unknown(self, hand: Hand, effect: EffectRow, reason: str, error: Exception | None = None) -> ActionDone:
        now_ms = self._tools.clock.now_ms()
        hand.result = result_of(effect, "unknown", "unknown", reason, None, now_ms, message=True, error=error)
        return ActionDone("unknown", None, reason)

    async def _again(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], connection: Connection, error: RetryableError
    ) -> Arrival:
        """Certainly not done: plan it again, unless it has been tried for long enough."""
        now_ms = self._tools.clock.now_ms()
        limited = isinstance(error, RateLimited)
        if limited:
            await self._tools.limits.push(connection.name, error.retry_after_s)
        few = effect.request.get("on_error", "retry") != "retry" and effect.attempts >= FEW_ATTEMPTS
        if not limited and (few or is_over(effect.attempts, effect.intended_at_ms, now_ms)):
            span = format_duration(max(1000, now_ms - effect.intended_at_ms))
            self._note_giving_up(effect, error)
            said = f"given up after {effect.attempts} attempts in {span}: {say(error)}"
            return self._failed(hand, effect, said, error)
        hand.result = planned(effect, now_ms, message=action.message is not None, error=error)
        delay_s = self._backoff(effect.attempts, error.retry_after_s)
        self._note_retry(effect, error, delay_s)
        lane = self._lane(hand, effect, connection)
        await self._writer.give_back(hand, delay_s=delay_s, reason=say(error), lane=lane)
        raise LetGo

    async def _lost(
        self,
        hand: Hand,
        effect: EffectRow,
        action: Action[Any, Any],
        connection: Connection,
        error: Exception,
        reason: str,
    ) -> Arrival:
        """The answer was lost: it may have been done. The effect class says what follows."""
        class_ = self._after_loss(effect, action)
        if class_ is Effect.AT_MOST_ONCE:
            return self._unknown(hand, effect, reason, error)
        if is_over(effect.attempts, effect.intended_at_ms, self._tools.clock.now_ms()):
            self._note_giving_up(effect, error)
            return self._unknown(hand, effect, f"given up after {effect.attempts} attempts: {reason}", error)
        delay_s = self._backoff(effect.attempts, None)
        if class_ is Effect.RECONCILABLE:
            delay_s += self._tools.limit_s(action) + self._tools.margin_s
        self._note_retry(effect, error, delay_s)
        lane = self._lane(hand, effect, connection)
        await self._writer.give_back(hand, delay_s=delay_s, reason=f"the answer was lost ({reason})", lane=lane)
        raise LetGo

    async def _expired(self, hand: Hand, effect: EffectRow, connection: Connection, error: AuthExpired) -> Arrival:
        """The credentials are refused: renew what can be renewed, once; else the run waits for a new authorisation."""
        try:
            renewed = await self._tools.connections.tokens.renew_refused(connection)
        except AuthExpired as again:
            renewed, error = False, again
        except (RetryableError, OutcomeUnknown) as failed:
            delay_s = self._backoff(1, getattr(failed, "retry_after_s", None))
            await self._writer.give_back(hand, delay_s=delay_s, reason=f"the token could not be renewed: {say(failed)}")
        if renewed:
            await self._writer.give_back(hand, delay_s=0.05, reason="the token was renewed", counted=True)
        if not await self._tools.connections.unhealthy(connection, say(error)):
            await self._writer.give_back(hand, delay_s=0.05, reason=f"{connection.name} was connected again")
        lane, on = self._lane(hand, effect, connection), f"connection:{connection.name}"
        try:
            await self._writer.park(
                hand,
                on,
                f"{connection.name} needs re-authorisation: `hub connections reauthorise {connection.name}`",
                lane,
            )
        finally:
            # Whoever connected it again in between found nobody parked yet.
            await self._tools.connections.unpark_if_healthy(connection)
        raise LetGo

    async def _signals(self, effect: EffectRow, skip: SkipStep) -> None:
        """What a vendor's refusal says about consent goes to the ledger."""
        if not skip.signals:
            return
        now_ms = self._tools.clock.now_ms()
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
                "at": s.said_at_ms(now_ms),
            }
            for s in skip.signals
        ]
        async with self._tools.store.write() as c:
            await append_consents(c, rows)

    def _watched(self, effect: EffectRow, what: str = "action") -> AbstractContextManager[None]:
        """Around a call of an effect's action, or of its look-up."""
        about: dict[str, str | int] = {"step": effect.step_id, "attempt": effect.attempts, "what": what}
        return watched.call(self._tools.metrics, self._tools.traces, effect.action, effect.connection, **about)

    def _note_retry(self, effect: EffectRow, error: Exception, delay_s: float) -> None:
        self._tools.metrics.retried(effect.action, word_of(error))
        facts = {**_facts(effect, error), "delay_ms": int(delay_s * 1000)}
        _log.info("an effect will be tried again", extra={"what": "retry_planned", **facts})

    def _note_giving_up(self, effect: EffectRow, error: Exception) -> None:
        _log.error("an effect is given up", exc_info=error, extra={"what": "effect_given_up", **_facts(effect, error)})

    def _backoff(self, attempts: int, retry_after_s: float | None) -> float:
        return backoff_s(attempts, self._tools.jitter(), retry_after_s)


def _facts(effect: EffectRow, error: Exception) -> Mapping[str, str | int | None]:
    """What operators are told of a failed attempt: which, and the kind of error, never what a vendor said."""
    return {
        "run_id": effect.run_id,
        "step": effect.step_id,
        "attempt": effect.attempts,
        "action": effect.action,
        "connection": effect.connection,
        "error": word_of(error),
        "status": getattr(error, "status", None),
        "code": getattr(error, "code", None),
    }
