"""Runs: starting them (T2), advancing them (T5, T6), waking them (T10), and reading them back for people.

Advancing is one conditional statement on (run, epoch): a change whose epoch is old touches nothing. What an effect did is
recorded all the same, since a call that was made was made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store import notices, pauses, spending
from hub.store.lanes import Lane, Rank
from hub.store.notices import Kept, Notice
from hub.store.session import Change, Connection, Row
from hub.store.work import Claim
from hub.values import value


@value(frozen=True)
class NewRun:
    """A run about to start."""

    id: str
    recipe: str
    version: int
    contact_id: str | None
    entry_key: str
    scope: str
    trigger: Mapping[str, Json]
    started_at_ms: int
    depth: int = 0

    @property
    def queue(self) -> str:
        """Where it stands at first."""
        return str(Lane(self.recipe))

    def row(self) -> RunRow:
        """The run as it is stored when it has just started."""
        return RunRow(
            id=self.id,
            recipe=self.recipe,
            version=self.version,
            contact_id=self.contact_id,
            entry_key=self.entry_key,
            scope=self.scope,
            status="ready",
            position=None,
            trigger=self.trigger,
            ctx={},
            wake=None,
            stop=None,
            reason=None,
            ended_by=None,
            started_at_ms=self.started_at_ms,
            finished_at_ms=None,
            steps=0,
            watches=0,
        )


@value(frozen=True)
class RunRow:
    """A run as stored. `wake` is the event that ended its wait, `stop` the exit that ended it, if any."""

    id: str
    recipe: str
    version: int
    contact_id: str | None
    entry_key: str
    scope: str
    status: str
    position: str | None
    trigger: Mapping[str, Json]
    ctx: Mapping[str, Json]
    wake: Mapping[str, Json] | None
    stop: Mapping[str, Json] | None
    reason: str | None
    ended_by: str | None
    started_at_ms: int
    finished_at_ms: int | None
    steps: int
    watches: int

    @classmethod
    def of(cls, row: Row) -> RunRow:
        """From a row of the table `run`."""
        return cls(
            id=row["id"],
            recipe=row["recipe"],
            version=row["version"],
            contact_id=row["contact_id"],
            entry_key=row["entry_key"],
            scope=row["scope"],
            status=row["status"],
            position=row["at_step"],
            trigger=from_json(row["trigger_data"]),
            ctx=from_json(row["ctx"]),
            wake=from_json(row["wake"]) if row["wake"] else None,
            stop=from_json(row["stop"]) if row["stop"] else None,
            reason=row["reason"],
            ended_by=row["ended_by"],
            started_at_ms=row["started_at"],
            finished_at_ms=row["finished_at"],
            steps=row["steps"],
            watches=row["watches"],
        )


@value(frozen=True)
class EffectRow:
    """An effect as stored: planned (may be called), intended (a call may have been made), done, failed, skipped, unknown."""

    key: str
    run_id: str
    step_id: str
    action: str
    connection: str
    state: str
    token: str
    request: Mapping[str, Json]
    attempts: int
    intended_at_ms: int
    batch: str | None = None

    @classmethod
    def of(cls, row: Row) -> EffectRow:
        """From a row of the table `effect`."""
        return cls(
            key=row["key"],
            run_id=row["run_id"],
            step_id=row["step_id"],
            action=row["action"],
            connection=row["connection"],
            state=row["state"],
            token=row["token"],
            request=from_json(row["request"]),
            attempts=row["attempts"],
            intended_at_ms=row["intended_at"],
            batch=row["batch"],
        )


@value(frozen=True)
class EffectResult:
    """What became of an effect; written wherever key and token match, whatever the epoch."""

    key: str
    token: str
    action: str
    state: str
    outcome: str
    reason: str
    response: Mapping[str, Json] | None
    at_ms: int
    message: bool = False
    unspent: bool = False
    """The attempt does not count: the credentials were refused, or the call was held back at the last moment."""
    spent: bool = False
    """Whether it was counted under spending caps."""


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


# -- starting ----------------------------------------------------------------------------------------------------------


@value(frozen=True)
class Lease:
    """Who takes up to `most` pieces of work in hand, until when."""

    owner: str
    until_ms: int
    most: int


async def start(c: Connection, runs: Sequence[NewRun], lease: Lease, *along: Change) -> list[tuple[Claim, RunRow]]:
    """Insert runs with their work, except those whose entry key is known. Returns the ones that are born in hand.

    A run that its router can take at once is claimed as it is made: that saves a claim, which is a transaction. Changes
    that go `along` cost no round trip of their own.
    """
    kept, left = runs[: lease.most], runs[lease.most :]
    work = Change(
        "insert into work (kind, ref, queue, due_at, owner, epoch, claims) "
        "select 'run', ref, queue, due_at, owner, epoch, epoch from {rows} where true",
        {"ref": "text", "queue": "text", "due_at": "bigint", "owner": "text", "epoch": "bigint"},
        [
            *(
                {"ref": r.id, "queue": r.queue, "due_at": lease.until_ms, "owner": lease.owner, "epoch": 1}
                for r in kept
            ),
            *({"ref": r.id, "queue": r.queue, "due_at": r.started_at_ms, "epoch": 0} for r in left),
        ],
    )
    rows = await c.together(*along, work, Change(_START, _START_COLUMNS, [_start_row(r) for r in runs]))
    new = {row["id"] for row in rows} if runs else set()
    if known := [{"ref": r.id} for r in runs if r.id not in new]:
        await c.group("delete from work where kind = 'run' and ref in (select ref from {rows})", {"ref": "text"}, known)
    return [
        (Claim("run", r.id, r.queue, epoch=1, claims=1, attempts=0, data=None, was_due_at=r.started_at_ms), r.row())
        for r in kept
        if r.id in new
    ]


_START = """
insert into run (id, recipe, version, contact_id, entry_key, scope, status, trigger_data, ctx, started_at, depth)
select id, recipe, version, contact_id, entry_key, scope, 'ready', trigger_data, '{}', started_at, depth from {rows} where true
on conflict (recipe, entry_key) do nothing returning id
"""
_START_COLUMNS = dict.fromkeys(("id", "recipe", "contact_id", "entry_key", "scope", "trigger_data"), "text") | {
    "version": "bigint",
    "started_at": "bigint",
    "depth": "bigint",
}


def _start_row(run: NewRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "recipe": run.recipe,
        "version": run.version,
        "contact_id": run.contact_id,
        "entry_key": run.entry_key,
        "scope": run.scope,
        "trigger_data": to_json(run.trigger).decode(),
        "started_at": run.started_at_ms,
        "depth": run.depth,
    }


async def known_keys(c: Connection, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (recipe, entry key) started a run already."""
    rows = await c.group(
        "select run.recipe as recipe, run.entry_key as entry_key from {rows} "
        "join run on run.recipe = r.recipe and run.entry_key = r.entry_key",
        {"recipe": "text", "entry_key": "text"},
        [{"recipe": recipe, "entry_key": key} for recipe, key in sorted(set(keys))],
    )
    return {(row["recipe"], row["entry_key"]) for row in rows}


async def inside(c: Connection, scopes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """The live runs of each (recipe, scope): run ids, oldest first."""
    # A subselect per row is always looked up by index; a join may read all runs that go on while they are few.
    rows = await c.group(
        f"select recipe, scope, (select {c.listed('run.id')} from run where run.recipe = r.recipe "
        "and run.scope = r.scope and run.finished_at is null) as ids from {rows}",
        {"recipe": "text", "scope": "text"},
        [{"recipe": recipe, "scope": scope} for recipe, scope in scopes],
    )
    return {(row["recipe"], row["scope"]): sorted(row["ids"].split()) for row in rows if row["ids"]}


async def entries(c: Connection, scopes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """The recorded entry times of each (recipe, scope), locked; rows are made where there are none."""
    given = [{"recipe": recipe, "scope": scope} for recipe, scope in sorted(set(scopes))]
    columns = {"recipe": "text", "scope": "text"}
    await c.group(
        "insert into entry (recipe, scope, times) select recipe, scope, '[]' from {rows} where true on conflict do nothing",
        columns,
        given,
    )
    lock = "for update of entry" if c.dialect == "postgresql" else ""
    rows = await c.group(
        "select entry.recipe as recipe, entry.scope as scope, entry.times as times from entry join {rows} "
        f"on entry.recipe = r.recipe and entry.scope = r.scope order by entry.recipe, entry.scope {lock}",
        columns,
        given,
    )
    return {(row["recipe"], row["scope"]): from_json(row["times"]) for row in rows}


def write_entries(times: Mapping[tuple[str, str], Sequence[int]]) -> Change:
    """Replace the recorded entry times."""
    return Change(
        "update entry set times = r.times from {rows} where entry.recipe = r.recipe and entry.scope = r.scope",
        {"recipe": "text", "scope": "text", "times": "text"},
        [{"recipe": r, "scope": s, "times": to_json(list(t)).decode()} for (r, s), t in times.items()],
    )


# -- waking ------------------------------------------------------------------------------------------------------------


@value(frozen=True)
class Waiting:
    """A row of `waiter` that an event's type and key matched."""

    run_id: str
    kind: str
    name: str
    type: str
    key: str
    condition: Json
    since_ms: int


async def waiting_for(c: Connection, keys: Iterable[tuple[str, str]]) -> list[Waiting]:
    """The waiters on any of these (type, key) pairs."""
    pairs = set(keys)
    rows = await c.group(
        "select run_id, kind, name, type, key, condition, since from waiter "
        "where type in (select type from {rows}) and key in (select key from {rows}) order by run_id, n",
        {"type": "text", "key": "text"},
        [{"type": type_, "key": key} for type_, key in sorted(pairs)],
    )
    return [
        Waiting(
            run_id=row["run_id"],
            kind=row["kind"],
            name=row["name"],
            type=row["type"],
            key=row["key"],
            condition=from_json(row["condition"]) if row["condition"] else None,
            since_ms=row["since"],
        )
        for row in rows
        if (row["type"], row["key"]) in pairs
    ]


_LOCK_WORK = "select ref, owner from work where kind = 'run' and ref in (select run_id from {rows}) order by ref"


async def wake(c: Connection, answers: Mapping[str, Mapping[str, Json]], now_ms: int) -> None:
    """T10: these runs' waits are answered (run id to answer). Whoever was arming the wait is fenced off.

    They stand in their recipe's own lane again, whatever they waited for before.
    """
    given = [{"run_id": run_id, "wake": to_json(answer).decode()} for run_id, answer in sorted(answers.items())]
    columns = {"run_id": "text", "wake": "text"}
    await c.group(f"{_LOCK_WORK} {c.for_update}", columns, given)
    # One that left its batch and ended is told nothing any more. `is null` would make the index of those that go on look
    # like a way to read all of them.
    await c.group(
        "update run set wake = r.wake, status = 'ready' from {rows} "
        "where run.id = r.run_id and coalesce(run.finished_at, 0) = 0",
        columns,
        given,
    )
    await c.group("delete from waiter where kind = 'answer' and run_id in (select run_id from {rows})", columns, given)
    await c.group(
        "update work set due_at = :now, epoch = epoch + 1, owner = null, "
        "queue = (select recipe from run where run.id = work.ref) "
        "where kind = 'run' and ref in (select run_id from {rows}) and parked_on is null",
        columns,
        given,
        now=now_ms,
    )


async def stop(c: Connection, stops: Mapping[str, Mapping[str, Json]], now_ms: int) -> None:
    """T10: these runs shall end (run id to why). Idle ones are due at once; one in hand sees it at its next gate or commit."""
    given = [{"run_id": run_id, "stop": to_json(why).decode()} for run_id, why in sorted(stops.items())]
    columns = {"run_id": "text", "stop": "text"}
    await c.group(f"{_LOCK_WORK} {c.for_update}", columns, given)
    await c.group(
        # Not after `where`: the index of the runs that go on would look like a way to read all of them.
        "update run set stop = case when run.stop is null and run.finished_at is null then r.stop else run.stop end "
        "from {rows} where run.id = r.run_id",
        columns,
        given,
    )
    await c.group("delete from waiter where run_id in (select run_id from {rows})", columns, given)
    await c.group(
        "update work set due_at = :now, epoch = epoch + 1, parked_on = null, "
        "queue = (select recipe from run where run.id = work.ref) "
        "where kind = 'run' and ref in (select run_id from {rows}) and owner is null",
        columns,
        given,
        now=now_ms,
    )


# -- advancing ---------------------------------------------------------------------------------------------------------

_FENCE = """
select w.ref as run_id, w.epoch as epoch, run.stop as stop from work w join run on run.id = w.ref
where w.kind = 'run' and w.ref in (select run_id from {rows}) and run.id in (select run_id from {rows}) order by w.ref
"""
# That a call was not made says nothing any more once somebody else has found out, or given up finding out, about it.
_RESULT = """
update effect set state = r.state, outcome = r.outcome, reason = r.reason, response = r.response,
finished_at = case when r.state = 'planned' then null else r.at end, attempts = effect.attempts - r.unspent
from {rows} where effect.key = r.key and effect.token = r.token and (r.state <> 'planned' or effect.state = 'intended')
"""
_RESULT_COLUMNS = dict.fromkeys(("key", "token", "state", "outcome", "reason", "response"), "text") | {
    "at": "bigint",
    "unspent": "bigint",
}
_INTENT = """
insert into effect (key, run_id, step_id, action, connection, state, token, request, attempts, intended_at, batch)
select key, run_id, step_id, action, connection, state, token, request, attempts, intended_at, batch from {rows} where true
on conflict (key) do update
set state = excluded.state, token = excluded.token, attempts = excluded.attempts, intended_at = excluded.intended_at,
action = excluded.action, connection = excluded.connection, request = excluded.request, batch = excluded.batch
"""
_INTENT_COLUMNS = dict.fromkeys(
    ("key", "run_id", "step_id", "action", "connection", "state", "token", "request", "batch"), "text"
) | {"attempts": "bigint", "intended_at": "bigint"}
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
    messages = [a.result for a in group if a.result and a.result.message]
    lock = "for update of w, run" if c.dialect == "postgresql" else ""
    held_rows = await c.together(
        Change(_RESULT, _RESULT_COLUMNS, [_result_row(a.result) for a in group if a.result]),
        Change(
            "update message set sent_at = r.at from {rows} where message.effect_key = r.key",
            {"key": "text", "at": "bigint"},
            [{"key": m.key, "at": m.at_ms} for m in messages if m.state == "done"],
        ),
        # What certainly was not sent gives its reservation back; what may have been sent, also by somebody else, keeps it.
        Change(
            "delete from message where effect_key in (select effect.key from {rows} join effect on effect.key = r.key "
            "and effect.token = r.token and (r.state <> 'planned' or effect.state in ('intended', 'planned')))",
            {"key": "text", "token": "text", "state": "text"},
            [
                {"key": m.key, "token": m.token, "state": m.state}
                for m in messages
                if m.state not in {"done", "unknown"}
            ],
        ),
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
        Change(_INTENT, _INTENT_COLUMNS, [_intent_row(a.intent) for a in held if a.intent]),
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
    await _settle_spending(c, [a.result for a in group if a.result and a.result.spent])
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


async def _settle_spending(c: Connection, results: Sequence[EffectResult]) -> None:
    """After work was locked, as at the gate, so that neither waits for the other."""
    for made in (True, False):
        spent = [(r.key, r.token) for r in results if (r.state in {"done", "unknown"}) is made]
        await spending.settle(c, spent, made=made)


def _unparked(a: Advance) -> Advance:
    """A change that would park its run on a pause that has just ended: it is due at once instead."""
    return replace(a, status="ready", reason=None, due_ms=a.at_ms, parked_on=None)


async def _queue_batches(c: Connection, queued: Sequence[Advance]) -> None:
    """A piece of work for each batch that has a queued effect; a full one is due now.

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
            "and (select count(*) from (select 1 from effect where batch = :ref and state = 'queued' limit :size) as q) >= :size",
            now=a.at_ms,
            ref=a.intent.batch,
            size=size,
        )


@value(frozen=True)
class Frozen:
    """The effects of a batch's next call; `begun` says that an earlier call with exactly these may have been made."""

    effects: Sequence[EffectRow]
    begun: bool


async def freeze_batch(c: Connection, batch: str, size: int, token: str, now_ms: int) -> Frozen:
    """The effects of a batch's next call: those of a call that was begun, exactly, else the oldest queued ones."""
    begun = await c.all("select * from effect where batch = :batch and state = 'intended' order by key", batch=batch)
    if begun:
        return Frozen([EffectRow.of(row) for row in begun], begun=True)
    await c.run(
        "update effect set state = 'intended', token = :token, attempts = attempts + 1, "
        # How long it has been tried counts from the first time.
        "intended_at = case when attempts = 0 then :now else intended_at end where key in "
        "(select key from effect where batch = :batch and state = 'queued' order by intended_at, key limit :size)",
        token=token,
        now=now_ms,
        batch=batch,
        size=size,
    )
    rows = await c.all("select * from effect where batch = :batch and state = 'intended' order by key", batch=batch)
    fresh = [EffectRow.of(row) for row in rows]
    await spending.renamed(c, [effect.key for effect in fresh if effect.request.get("spent")], token)
    return Frozen(fresh, begun=False)


async def thaw_batch(c: Connection, batch: str, epoch: int) -> None:
    """A batch's call certainly did nothing: its effects are queued as before, if the batch is still held under the epoch."""
    await c.run(
        "update effect set state = 'queued' where batch = :batch and state = 'intended' "
        "and exists (select 1 from work where kind = 'batch' and ref = :batch and epoch = :epoch)",
        batch=batch,
        epoch=epoch,
    )


async def settle_batch(c: Connection, results: Sequence[EffectResult], run_ids: Mapping[str, str], now_ms: int) -> None:
    """The results of one call, per effect, and their runs (effect key to run id) woken."""
    await c.group(_RESULT, _RESULT_COLUMNS, [_result_row(r) for r in results])
    await wake(c, {run_ids[r.key]: {"effect": r.key} for r in results}, now_ms)
    await _settle_spending(c, [r for r in results if r.spent])


async def queued_in(c: Connection, batch: str, most: int) -> int:
    """How many effects wait for the batch's next call, counted up to `most`."""
    rows = await c.all(
        "select key from effect where batch = :batch and state = 'queued' limit :most", batch=batch, most=most
    )
    return len(rows)


async def outcome_of(c: Connection, effect_key: str) -> Row | None:
    """The outcome, reason and response of an effect that has one."""
    return await c.first(
        "select outcome, reason, response from effect where key = :key "
        "and state in ('done', 'failed', 'skipped', 'unknown')",
        key=effect_key,
    )


def _stop(raw: str | None) -> Mapping[str, Json] | None:
    return from_json(raw) if raw else None


def _result_row(r: EffectResult) -> dict[str, Any]:
    return {
        "key": r.key,
        "token": r.token,
        "state": r.state,
        "outcome": r.outcome,
        "reason": r.reason,
        "response": to_json(r.response).decode() if r.response is not None else None,
        "at": r.at_ms,
        "unspent": int(r.unspent),
    }


def _intent_row(e: EffectRow) -> dict[str, Any]:
    return {
        "key": e.key,
        "run_id": e.run_id,
        "step_id": e.step_id,
        "action": e.action,
        "connection": e.connection,
        "state": e.state,
        "token": e.token,
        "request": to_json(e.request).decode(),
        "attempts": e.attempts,
        "intended_at": e.intended_at_ms,
        "batch": e.batch,
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


async def arm(c: Connection, run_id: str, epoch: int, due_ms: int, *, status: str) -> bool:
    """T6: the wait is registered and no event had come; False when somebody answered it meanwhile."""
    armed = await c.run(
        "update work set due_at = :due, owner = null, claims = 0 where kind = 'run' and ref = :run and epoch = :epoch",
        due=due_ms,
        run=run_id,
        epoch=epoch,
    )
    if armed:
        await c.run("update run set status = :status where id = :run", status=status, run=run_id)
    return bool(armed)


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


async def intend(c: Connection, effect: EffectRow) -> None:
    """Write an effect's intent."""
    await c.group(_INTENT, _INTENT_COLUMNS, [_intent_row(effect)])


async def reserve_message(
    c: Connection, effect_key: str, *, contact_id: str | None, channel: str, purpose: str, recipe: str, at_ms: int
) -> None:
    """Count a message about to leave against the contact's caps."""
    await c.run(
        "insert into message (effect_key, contact_id, channel, purpose, recipe, reserved_at) "
        "values (:key, :contact, :channel, :purpose, :recipe, :at) on conflict (effect_key) do update set reserved_at = :at",
        key=effect_key,
        contact=contact_id,
        channel=channel,
        purpose=purpose,
        recipe=recipe,
        at=at_ms,
    )


async def effect_state(c: Connection, run_id: str, step_id: str) -> str | None:
    """The state of the effect of a step of a run, or None when there is none."""
    row = await c.first("select state from effect where run_id = :run and step_id = :step", run=run_id, step=step_id)
    return row["state"] if row else None


# -- reading back ------------------------------------------------------------------------------------------------------


async def load(c: Connection, run_ids: Sequence[str]) -> dict[str, RunRow]:
    """Runs by id."""
    rows = await c.group(
        "select run.* from run join {rows} on run.id = r.id", {"id": "text"}, [{"id": id_} for id_ in run_ids]
    )
    return {row["id"]: RunRow.of(row) for row in rows}


async def open_effects(c: Connection, run_ids: Sequence[str]) -> dict[str, EffectRow]:
    """The effect of each run that has no outcome yet, by run id; a run has at most one."""
    rows = await c.group(
        "select effect.* from effect join {rows} on effect.run_id = r.id where effect.state in ('planned', 'intended', 'queued')",
        {"id": "text"},
        [{"id": id_} for id_ in run_ids],
    )
    return {row["run_id"]: EffectRow.of(row) for row in rows}
