"""Advancing runs (T5, T6): one conditional statement on (run, epoch), so that a change whose epoch is old touches nothing.

What an effect did is recorded all the same, since a call that was made was made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store import notices, pauses
from hub.store.lanes import Lane, Rank
from hub.store.notices import Kept, Notice
from hub.store.runs.effects import EffectResult, intents, outcomes, settle_spending
from hub.store.runs.rows import EffectRow
from hub.store.session import Change, Connection
from hub.values import value


@value(frozen=True)
class StepRow:
    """One recorded step of a run: what was decided and why."""

    step_id: str
    path: str
    kind: str
    outcome: str
    reason: str


@value(frozen=True)
class WatchRow:
    """An event that a run waits for or leaves on."""

    kind: str
    name: str
    type: str
    key: str
    condition: Json
    since_ms: int


@value(frozen=True, kw_only=True)
class Advance:
    """Everything one T5 writes for one run.

    `seq` and `first_watch` number the steps and watches added. `due_ms` is when the run is looked at next (None: the same
    worker goes on under its lease); `finished` ends it. With `end_wait` the run's earlier answers are removed. `take_stop`
    says that this change is the answer to the run's stop, `take_wake` that it is the one to the event that woke it.
    """

    run_id: str
    epoch: int
    at_ms: int
    seq: int
    status: str
    position: str | None
    ctx: Mapping[str, Json]
    reason: str | None = None
    due_ms: int | None = None
    finished: bool = False
    ended_by: str | None = None
    steps: Sequence[StepRow] = ()
    result: EffectResult | None = None
    intent: EffectRow | None = None
    watches: Sequence[WatchRow] = ()
    first_watch: int = 0
    end_wait: bool = False
    lane: Lane | None = None
    """Where the run stands until it is due; None: with its recipe's others."""
    data: str | None = None
    parked_on: str | None = None
    counted: bool = False
    take_stop: bool = False
    take_wake: bool = False
    linger: tuple[int, int] | None = None
    """Of a queued effect: when its batch is due, and how many make it full."""
    notices: Sequence[Notice] = ()
    """What plugins are to be told: that the effect has its outcome, that the run has ended."""


@value(frozen=True)
class Advanced:
    """The answer to an Advance: `held` is False for a zombie; `stop` is the exit that arrived meanwhile, if any.

    `notices` are those that were written, and are now to be told.
    """

    held: bool
    stop: Mapping[str, Json] | None = None
    notices: Sequence[Kept] = ()


_FENCE = """
select w.ref as run_id, w.epoch as epoch, run.stop as stop from work w join run on run.id = w.ref
where w.kind = 'run' and w.ref in (select run_id from {rows}) and run.id in (select run_id from {rows}) order by w.ref
"""
_RUN = """
update run set status = r.status, at_step = r.at_step, ctx = r.ctx, reason = r.reason, ended_by = r.ended_by,
finished_at = r.finished_at, steps = r.steps, watches = r.watches,
wake = case when r.take_wake = 1 then null else run.wake end, stop = case when r.take_stop = 1 then null else run.stop end
from {rows} where run.id = r.run_id
"""
_RUN_COLUMNS = dict.fromkeys(("run_id", "status", "at_step", "ctx", "reason", "ended_by"), "text") | {
    "finished_at": "bigint",
    "take_stop": "bigint",
    "take_wake": "bigint",
    "steps": "bigint",
    "watches": "bigint",
}
_STEP = """
insert into step (run_id, seq, step_id, path, kind, outcome, reason, at)
select run_id, seq, step_id, path, kind, outcome, reason, at from {rows} where true
on conflict (run_id, seq) do nothing
"""
_STEP_COLUMNS = dict.fromkeys(("run_id", "step_id", "path", "kind", "outcome", "reason"), "text") | {
    "seq": "bigint",
    "at": "bigint",
}
_WATCH = """
insert into waiter (run_id, n, kind, name, type, key, condition, since)
select run_id, n, kind, name, type, key, condition, since from {rows} where true
on conflict (run_id, n) do nothing
"""
_WATCH_COLUMNS = dict.fromkeys(("run_id", "kind", "name", "type", "key", "condition"), "text") | {
    "n": "bigint",
    "since": "bigint",
}
# A stop that arrived while the run was in hand makes it due at once instead of putting it to sleep.
_DUE = """
update work set due_at = r.due_at, owner = null, data = r.data,
queue = coalesce(r.queue, (select recipe from run where run.id = r.run_id)),
claims = case when r.counted = 1 then work.claims else 0 end, parked_on = r.parked_on
from {rows} where work.kind = 'run' and {match work.ref run_id}
"""
_DUE_COLUMNS = dict.fromkeys(("run_id", "queue", "data", "parked_on"), "text") | {
    "due_at": "bigint",
    "counted": "bigint",
}


async def advance(c: Connection, group: Sequence[Advance]) -> list[Advanced]:
    """T5 for a group of runs: outcomes of calls always, everything else only where the epoch still holds.

    The same change a second time (its first commit was not answered) writes the same, or finds that it holds no more.
    """
    lock = "for update of w, run" if c.dialect == "postgresql" else ""
    held_rows = await c.together(
        *outcomes([a.result for a in group if a.result]),
        Change(
            f"{_FENCE} {lock}",
            {"run_id": "text"},
            [{"run_id": run_id} for run_id in sorted({a.run_id for a in group})],
        ),
    )
    stops = {(row["run_id"], row["epoch"]): row["stop"] for row in held_rows}
    over = await pauses.gone(c, {a.parked_on for a in group})
    held = [_unparked(a) if a.parked_on in over else a for a in group if (a.run_id, a.epoch) in stops]
    ended = [{"run_id": a.run_id} for a in held if a.finished]
    # A run that never waited has no waiters, and what it added just now is not seen by what happens at once.
    waited = [{"run_id": a.run_id} for a in held if a.finished and a.first_watch]
    answered = [{"run_id": a.run_id} for a in held if a.end_wait and not a.finished]
    await c.together(
        intents([a.intent for a in held if a.intent]),
        Change(_STEP, _STEP_COLUMNS, [row for a in held for row in _step_rows(a)]),
        Change("delete from waiter where run_id in (select run_id from {rows})", {"run_id": "text"}, waited),
        Change(
            "delete from waiter where kind = 'answer' and run_id in (select run_id from {rows})",
            {"run_id": "text"},
            answered,
        ),
        Change(_WATCH, _WATCH_COLUMNS, [row for a in held if not a.finished for row in _watch_rows(a)]),
        Change(_RUN, _RUN_COLUMNS, [_run_row(a) for a in held]),
        Change("delete from work where kind = 'run' and ref in (select run_id from {rows})", {"run_id": "text"}, ended),
        Change(
            _DUE,
            _DUE_COLUMNS,
            [_due_row(a, stops[a.run_id, a.epoch]) for a in held if a.due_ms is not None and not a.finished],
        ),
    )
    await _queue_batches(c, [a for a in held if a.intent and a.intent.batch])
    await settle_spending(c, [a.result for a in group if a.result and a.result.spent])
    kept = await notices.write(c, [notice for a in group if a.notices for notice in _notices(a, stops)])
    by_ref = {one.notice.ref: one for one in kept}
    return [
        Advanced(
            (a.run_id, a.epoch) in stops,
            None if a.take_stop else _stop(stops.get((a.run_id, a.epoch))),
            [by_ref[notice.ref] for notice in a.notices if notice.ref in by_ref] if kept else (),
        )
        for a in group
    ]


def _notices(a: Advance, held: Collection[tuple[str, int]]) -> list[Notice]:
    """What a change lets plugins be told: of a zombie's only what became of its call, if that is what is stored."""
    if (a.run_id, a.epoch) in held:
        return [replace(notice, token=None) for notice in a.notices]
    return [notice for notice in a.notices if notice.token is not None]


def _unparked(a: Advance) -> Advance:
    """A change that would park its run on a pause that has just ended: it is due at once instead."""
    return replace(a, status="ready", reason=None, due_ms=a.at_ms, parked_on=None)


async def _queue_batches(c: Connection, queued: Sequence[Advance]) -> None:
    """A piece of work for each batch that has a queued effect; a full one is due now, unless its last call failed.

    Work that is there already is locked by an update that changes nothing, so that whoever finds the batch empty and
    removes its work waits for us, or we for them.
    """
    for a in queued:
        assert a.intent is not None, "only queued effects get here"
        assert a.linger is not None, "a queued effect says how long its batch lingers"
        due_ms, size = a.linger
        await c.run(
            "insert into work (kind, ref, queue, due_at) values ('batch', :ref, :queue, :due) "
            "on conflict (kind, ref) do update set queue = excluded.queue",
            ref=a.intent.batch,
            queue=str(Lane(connection=a.intent.connection, rank=Rank.BULK)),
            due=due_ms,
        )
        await c.run(
            "update work set due_at = :now where kind = 'batch' and ref = :ref and owner is null and due_at > :now "
            "and attempts = 0 and parked_on is null "
            "and (select count(*) from (select 1 from effect where batch = :ref and state = 'queued' limit :size) as q) >= :size",
            now=a.at_ms,
            ref=a.intent.batch,
            size=size,
        )


def _due_row(a: Advance, stop: str | None) -> dict[str, Any]:
    # Who was stopped waits for nothing any more.
    is_stopped = bool(stop) and not a.take_stop
    return {
        "run_id": a.run_id,
        "due_at": a.at_ms if is_stopped else a.due_ms,
        "queue": None if a.lane is None or is_stopped else str(a.lane),
        "data": a.data,
        # Else whoever ends what it waited for would take it out of the hand that it is in by then.
        "parked_on": None if is_stopped else a.parked_on,
        "counted": int(a.counted),
    }


def _run_row(a: Advance) -> dict[str, Any]:
    return {
        "run_id": a.run_id,
        "status": a.status,
        "at_step": a.position,
        "ctx": to_json(a.ctx).decode(),
        "reason": a.reason,
        "ended_by": a.ended_by,
        "finished_at": a.at_ms if a.finished else None,
        "take_stop": int(a.take_stop),
        "take_wake": int(a.take_wake),
        "steps": a.seq + len(a.steps),
        "watches": a.first_watch + len(a.watches),
    }


def _step_rows(a: Advance) -> list[dict[str, Any]]:
    return [
        {
            "run_id": a.run_id,
            "seq": a.seq + n,
            "step_id": s.step_id,
            "path": s.path,
            "kind": s.kind,
            "outcome": s.outcome,
            "reason": s.reason,
            "at": a.at_ms,
        }
        for n, s in enumerate(a.steps)
    ]


def _watch_rows(a: Advance) -> list[dict[str, Any]]:
    return [
        {
            "run_id": a.run_id,
            "n": a.first_watch + n,
            "kind": w.kind,
            "name": w.name,
            "type": w.type,
            "key": w.key,
            "condition": to_json(w.condition).decode() if w.condition is not None else None,
            "since": w.since_ms,
        }
        for n, w in enumerate(a.watches)
    ]


@value(frozen=True)
class Held:
    """Whether a run is still held under an epoch, and the exit that arrived meanwhile, if any."""

    held: bool
    stop: Mapping[str, Json] | None


async def hold(c: Connection, run_id: str, epoch: int) -> Held:
    """Lock a run and its work for the rest of the transaction and say how it stands."""
    lock = "for update of w, run" if c.dialect == "postgresql" else ""
    row = await c.first(
        "select run.stop as stop from work w join run on run.id = w.ref "
        f"where w.kind = 'run' and w.ref = :run and w.epoch = :epoch {lock}",
        run=run_id,
        epoch=epoch,
    )
    return Held(row is not None, _stop(row["stop"]) if row else None)


async def arm(c: Connection, run_id: str, epoch: int, due_ms: int, *, status: str, now_ms: int) -> None:
    """T6: the wait is registered and no event had come; nothing when somebody answered it meanwhile.

    A run that was stopped while it was in hand waits for nothing: it is due at once.
    """
    found = await hold(c, run_id, epoch)
    if not found.held:
        return
    await c.run(
        "update work set due_at = :due, owner = null, claims = 0 where kind = 'run' and ref = :run",
        due=due_ms if found.stop is None else now_ms,
        run=run_id,
    )
    await c.run("update run set status = :status where id = :run", status=status, run=run_id)


def _stop(raw: str | None) -> Mapping[str, Json] | None:
    return from_json(raw) if raw else None
