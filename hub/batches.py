"""Calls for many at once: queued effects of one connection, action and group, frozen, called together, settled one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from hub import seams, watched
from hub.backoff import MAX_CLAIMS, backoff_s, is_over
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connector import Action, Effect
from hub.deadline import Deadline
from hub.errors import (
    AuthExpired,
    ConfigError,
    ConnectionConfigError,
    ConnectorError,
    HubError,
    LeaseOver,
    NotSent,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    RetryableError,
)
from hub.ids import idempotency_key, new_id, reference
from hub.limits import Limits
from hub.metrics import Metrics, word_of
from hub.notices import Notices
from hub.pauses import Pauses, said
from hub.plugins import Plugins
from hub.store import notices, runs, work
from hub.store import pauses as pause_rows
from hub.store.lanes import Rank
from hub.store.notices import Kept
from hub.store.pauses import Pause
from hub.store.runs import EffectResult, EffectRow
from hub.store.session import Connection as StoreConnection
from hub.store.session import Row, Store
from hub.store.work import Claim
from hub.traces import Traces

_log = logging.getLogger(__name__)

_Answer = BaseModel | ConnectorError


class _Paused(Exception):
    """The call that is about to be made is paused."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause


class Batches:
    """Handles claimed work of the kind batch. A call that is repeated carries exactly the effects of the first attempt."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        plugins: Plugins,
        clock: Clock,
        limits: Limits,
        pauses: Pauses,
        *,
        metrics: Metrics,
        traces: Traces,
        rehearsal: bool = False,
        jitter: Callable[[], float],
        notices: Notices,
    ) -> None:
        self._store, self._connections, self._plugins, self._clock = store, connections, plugins, clock
        self._limits, self._pauses, self._rehearsal, self._jitter = limits, pauses, rehearsal, jitter
        self._metrics, self._traces, self._notices = metrics, traces, notices

    async def handle(self, claim: Claim, deadline: Deadline) -> None:
        """Make one batch's next call. Raises StoreUnavailable."""
        name, type_, _ = claim.ref.split("|", 2)
        action = self._plugins.catalogue.action(type_)
        if action is None or action.batch is None:
            async with self._store.write() as c:
                await work.park(c, claim, f"plugin:{type_.partition('.')[0]}")
            return
        try:
            connection = await self._connections.by_name(name)
        except ConnectionConfigError:
            async with self._store.write() as c:
                await work.park(c, claim, f"connection:{name}")
            return
        connector = self._connections.connector(connection.connector)
        refused = await self._limits.take(name, connector, action.cost, Rank.BULK, waited=True)
        if refused is not None:
            self._metrics.limited(name)
            await self._later(claim, refused.wait_s, attempts=claim.attempts)
            return
        try:
            kept = await self._call(claim, deadline, action, connection)
        finally:
            self._limits.release(name)
        # The vendor has answered: plugins that take their time take none of its.
        await self._notices.tell(kept)

    async def _call(
        self, claim: Claim, deadline: Deadline, action: Action[Any, Any], connection: Connection
    ) -> Sequence[Kept]:
        """Make the call, or see to it that it is made later. Returns what plugins are to be told."""
        assert action.batch is not None, "checked by the caller"
        await self._set_aside(claim, connection)
        async with self._store.write() as c:
            frozen = await runs.freeze_batch(c, claim, action.batch.size, new_id(), self._clock.now_ms())
        if frozen is None:
            return ()
        effects = sorted(frozen.effects, key=lambda e: (e.request.get("queued_at_ms", 0), e.key))
        fit, kept = await self._fitting(action, effects, begun=frozen.begun)
        return [*kept, *await self._made(claim, deadline, action, connection, fit, begun=frozen.begun)]

    async def _fitting(
        self, action: Action[Any, Any], effects: Sequence[EffectRow], *, begun: bool
    ) -> tuple[Sequence[EffectRow], Sequence[Kept]]:
        """The effects whose stored input this version of the plugin takes; the others are done with at once.

        Of a call that was begun it is not known whether it did what is refused now.
        """
        fit, unfit, answers = [], [], []
        for effect in effects:
            try:
                self._input(action, effect)
                fit.append(effect)
            except PermanentError as error:
                lost = f"the answer to an earlier try was lost; then: {error}"
                unfit.append(effect)
                answers.append(OutcomeUnknown(lost) if begun else error)
        if not unfit:
            return fit, ()
        results = self._results(unfit, answers)
        async with self._store.write() as c:
            kept = await self._write(c, unfit, results)
        self._count(action, results)
        return fit, kept

    def _input(self, action: Action[Any, Any], effect: EffectRow) -> BaseModel:
        """What an effect gives its action, which may be another one than the call's. Raises PermanentError."""
        own = self._plugins.catalogue.action(effect.action) or action
        input_: BaseModel = own.read(effect.request["input"])
        return input_

    async def _made(
        self,
        claim: Claim,
        deadline: Deadline,
        action: Action[Any, Any],
        connection: Connection,
        effects: Sequence[EffectRow],
        *,
        begun: bool,
    ) -> Sequence[Kept]:
        """Make the call for what is left of a batch, if anything, or see to it that it is made later."""
        answers: Sequence[_Answer] = []
        if effects:
            until_ms = self._clock.now_ms() + int(deadline.limit_s(action.timeout_s) * 1000)
            class_ = action.after_loss(min(effect.intended_at_ms for effect in effects), until_ms)
            if begun and class_ is Effect.AT_MOST_ONCE:
                lost = OutcomeUnknown(action.unrepeatable)
                return await self._settle(claim, action, effects, [lost] * len(effects))
            try:
                _require_progress(claim, begun=begun)
                answers = await self._answers(claim, action, connection, effects, deadline)
            except _Paused as paused:
                await self._park(claim, paused.pause, begun=begun)
                return ()
            except AuthExpired as error:
                await self._expired(claim, connection, error, begun=begun)
                return ()
            except LeaseOver:
                await self._thaw(claim, begun=begun)
                await self._later(claim, 0.05, attempts=claim.attempts)
                return ()
            except (RetryableError, OutcomeUnknown, ConfigError) as error:
                over = is_over(claim.attempts + 1, effects[0].intended_at_ms, self._clock.now_ms())
                lost_for_good = isinstance(error, OutcomeUnknown) and class_ is Effect.AT_MOST_ONCE
                if not lost_for_good and (isinstance(error, RateLimited) or not over):
                    await self._again(claim, connection, error, begun=begun)
                    return ()
                final: _Answer = error if isinstance(error, ConnectorError) else PermanentError(str(error))
                answers = [final] * len(effects)
            except PermanentError as error:
                answers = [error] * len(effects)
        return await self._settle(claim, action, effects, answers)

    async def _again(self, claim: Claim, connection: Connection, error: HubError, *, begun: bool) -> None:
        """Call later: when nothing was done with whoever is queued then, else with exactly the same effects."""
        retry_after_s = error.retry_after_s if isinstance(error, RetryableError) else None
        if isinstance(error, RateLimited):
            await self._limits.push(connection.name, retry_after_s)
        if not isinstance(error, OutcomeUnknown):
            await self._thaw(claim, begun=begun)
        self._metrics.retried(claim.ref.split("|")[1], word_of(error))
        await self._later(
            claim, backoff_s(claim.attempts + 1, self._jitter(), retry_after_s), attempts=claim.attempts + 1
        )

    async def _expired(self, claim: Claim, connection: Connection, error: AuthExpired, *, begun: bool) -> None:
        """The credentials are refused: renew what can be renewed, once; else the batch waits for a new authorisation."""
        await self._thaw(claim, begun=begun)
        try:
            renewed = await self._connections.tokens.renew_refused(connection)
        except AuthExpired as again:
            renewed, error = False, again
        except (RetryableError, OutcomeUnknown) as failed:
            await self._again(claim, connection, failed, begun=begun)
            return
        if renewed or not await self._connections.unhealthy(connection, str(error)):
            await self._later(claim, 0.05, attempts=claim.attempts)
            return
        async with self._store.write() as c:
            await work.park(c, claim, f"connection:{connection.name}")
        self._metrics.parked("connection")
        await self._connections.unpark_if_healthy(connection)

    async def _thaw(self, claim: Claim, *, begun: bool) -> None:
        """This call certainly did nothing: the effects are queued again, unless an earlier one may have done something."""
        if begun:
            return
        async with self._store.write() as c:
            await runs.thaw_batch(c, claim.ref, claim.epoch)

    async def _answers(
        self,
        claim: Claim,
        action: Action[Any, Any],
        connection: Connection,
        effects: Sequence[EffectRow],
        deadline: Deadline,
    ) -> Sequence[_Answer]:
        """One call for all of them; per effect its output or error."""
        assert action.run_batch is not None, "an action with a batch has a batch call"
        actions = [self._plugins.catalogue.action(e.action) or action for e in effects]
        inputs = [self._input(action, e) for e in effects]
        if self._rehearsal:
            now_ms = self._clock.now_ms()
            return [_rehearsed(one, input_, now_ms) for one, input_ in zip(actions, inputs, strict=True)]
        key = "batch:" + effects[0].token
        context = await self._connections.context(
            connection,
            reference=reference(key),
            idempotency_key=idempotency_key(key),
            intended_at_ms=effects[0].intended_at_ms,
            total_s=deadline.limit_s(action.timeout_s),
            deadline=deadline,
        )
        for row, pause in await self._paused(claim, connection):
            if row["state"] == "intended":
                raise _Paused(pause)
        try:
            with watched.call(self._metrics, self._traces, action.type, connection.name, effects=len(effects)):
                seams.reach("batch.frozen")
                answers: Sequence[_Answer] = await action.run_batch(context, inputs)
                seams.reach("batch.answered")
        except HubError:
            raise
        except Exception as error:  # a plugin may raise anything, also after its request was answered
            _log.exception("a batch action raised", extra={"what": "action_raised", "action": action.type})
            raise OutcomeUnknown(f"the connector raised {type(error).__name__}") from error
        if len(answers) != len(inputs):
            raise OutcomeUnknown(f"{action.type} answered for {len(answers)} of {len(inputs)} inputs; mend the plugin")
        return answers

    async def _set_aside(self, claim: Claim, connection: Connection) -> None:
        """Take what is paused out of the batch, as long as no call with it was begun; its runs wait for the pause's end."""
        by_pause: dict[Pause, list[str]] = {}
        for row, pause in await self._paused(claim, connection):
            if row["state"] == "queued":
                by_pause.setdefault(pause, []).append(row["key"])
        for pause, keys in by_pause.items():
            async with self._store.write() as c:
                await pause_rows.take_out(c, pause, keys, reason=said(pause), now_ms=self._clock.now_ms())

    async def _paused(self, claim: Claim, connection: Connection) -> list[tuple[Row, Pause]]:
        """The batch's effects that are paused now, each with its pause; asks the database only when anything is paused."""
        if not await self._pauses.known.current():
            return []
        async with self._store.read() as c:
            found = await pause_rows.queued(c, claim.ref)
        held = [(row, await self._pauses.holding(recipe=row["recipe"], connection=connection.name)) for row in found]
        return [(row, pause) for row, pause in held if pause is not None]

    async def _park(self, claim: Claim, pause: Pause, *, begun: bool) -> None:
        """A call that may have been made is repeated as it was, so that all of it waits; else only what is paused does."""
        async with self._store.write() as c:
            if not begun:
                await runs.thaw_batch(c, claim.ref, claim.epoch)
            if not begun or await pause_rows.gone(c, [pause.parks_on]):
                await work.give_back(c, claim, due_ms=self._clock.now_ms(), attempts=claim.attempts)
            else:
                await work.park(c, claim, pause.parks_on)

    async def _settle(
        self, claim: Claim, action: Action[Any, Any], effects: Sequence[EffectRow], answers: Sequence[_Answer]
    ) -> Sequence[Kept]:
        results = self._results(effects, answers)
        kept = await self._commit(claim, action, effects, results)
        seams.reach("batch.settled")
        self._count(action, results)
        return kept

    def _results(self, effects: Sequence[EffectRow], answers: Sequence[_Answer]) -> list[EffectResult]:
        now_ms = self._clock.now_ms()
        return [_result(e, answer, now_ms) for e, answer in zip(effects, answers, strict=True)]

    def _count(self, action: Action[Any, Any], results: Sequence[EffectResult]) -> None:
        for result in results:
            self._metrics.effect(result.action, action.effect.value, result.outcome)

    async def _commit(
        self,
        claim: Claim,
        action: Action[Any, Any],
        effects: Sequence[EffectRow],
        results: Sequence[EffectResult],
    ) -> Sequence[Kept]:
        """Write every result, wake the runs, and see whether more is queued; all in one transaction."""
        assert action.batch is not None, "checked by the caller"
        now_ms = self._clock.now_ms()
        async with self._store.write() as c:
            kept = await self._write(c, effects, results)
            # Takes the lock on the work row before counting: see `runs.advance`.
            if not await work.give_back(c, claim, due_ms=now_ms + int(action.batch.linger_s * 1000)):
                return kept
            left = await runs.queued_in(c, claim.ref, action.batch.size)
            if left == 0:
                await work.finish(c, claim)
            elif left >= action.batch.size:
                await work.give_back(c, claim, due_ms=now_ms)
            return kept

    async def _write(
        self, c: StoreConnection, effects: Sequence[EffectRow], results: Sequence[EffectResult]
    ) -> Sequence[Kept]:
        """Write results and wake their runs. Returns what plugins are to be told."""
        run_ids = {effect.key: effect.run_id for effect in effects}
        news = [
            notice
            for r in results
            for notice in self._notices.of_effect(
                r.key, r.token, action=r.action, run_id=run_ids[r.key], outcome=r.outcome
            )
        ]
        await runs.settle_batch(c, results, run_ids, self._clock.now_ms())
        return await notices.write(c, news)

    async def _later(self, claim: Claim, wait_s: float, *, attempts: int = 0) -> None:
        async with self._store.write() as c:
            due_ms = self._clock.now_ms() + max(50, int(wait_s * 1000))
            await work.give_back(c, claim, due_ms=due_ms, attempts=attempts)


def _require_progress(claim: Claim, *, begun: bool) -> None:
    """Raise what lets a batch wait that was claimed again and again and never settled, as when its call ends the process."""
    if claim.claims > MAX_CLAIMS:
        reason = f"claimed {MAX_CLAIMS} times without getting on"
        raise OutcomeUnknown(reason) if begun else NotSent(reason)


def _rehearsed(action: Action[Any, Any], input_: BaseModel, now_ms: int) -> _Answer:
    try:
        made: BaseModel = action.rehearse(input_, now_ms)
        return made
    except PermanentError as error:
        return error


def _result(effect: EffectRow, answer: _Answer, at_ms: int) -> EffectResult:
    def made(state: str, reason: str, response: Any = None) -> EffectResult:
        spent = bool(effect.request.get("spent"))
        return EffectResult(effect.key, effect.token, effect.action, state, state, reason, response, at_ms, spent=spent)

    if isinstance(answer, OutcomeUnknown):
        return made("unknown", str(answer), runs.refusal(answer))
    if isinstance(answer, ConnectorError):
        return made("failed", str(answer), runs.refusal(answer))
    return made("done", "", answer.model_dump(mode="json"))
