"""Runs that failed, were set aside as poison, or have an effect whose outcome is not known: finding them, reviving them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import to_json

from hub.events import Json
from hub.ids import new_id
from hub.store.lanes import Lane
from hub.store.runs import EffectRow, RunRow
from hub.store.session import Connection, Row

POISON = "poison"
AGAIN = "again"
"""The state of an effect that will be called again with a new series of attempts."""

_KINDS = {
    "failed": "(run.status = 'failed' and run.finished_at is not null)",
    "unknown": "(run.status in ('done', 'failed') and run.finished_at is not null "
    "and exists (select 1 from effect e where e.run_id = run.id and e.state = 'unknown'))",
    "poison": "(work.parked_on = 'poison')",
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs are meant: one by id, or all that fit every filter given.

    `outcome` is failed, unknown or poison; `error` a text inside the reason; `step` an id or path of the step it ended at.
    """

    run: str | None = None
    recipe: str | None = None
    version: int | None = None
    step: str | None = None
    error: str | None = None
    outcome: str | None = None
    started_after_ms: int | None = None
    started_before_ms: int | None = None
    finished_after_ms: int | None = None
    finished_before_ms: int | None = None


@dataclass(frozen=True)
class Found:
    """A run that may be retried, with its steps in order and its effects by step id."""

    run: RunRow
    poison: bool
    steps: Sequence[Row]
    effects: Mapping[str, Row]


_TESTS = {
    "run": "run.id = :run",
    "recipe": "run.recipe = :recipe",
    "version": "run.version = :version",
    "step": "(run.at_step = :step or exists (select 1 from step s where s.run_id = run.id "
    "and s.outcome in ('failed', 'unknown') and (s.step_id = :step or s.path = :step)))",
    "error": "(lower(run.reason) like :error escape '!' or exists (select 1 from effect e where e.run_id = run.id "
    "and e.state in ('failed', 'unknown') and lower(e.reason) like :error escape '!'))",
    "started_after_ms": "run.started_at >= :started_after_ms",
    "started_before_ms": "run.started_at < :started_before_ms",
    "finished_after_ms": "run.finished_at >= :finished_after_ms",
    "finished_before_ms": "run.finished_at < :finished_before_ms",
}


async def select(c: Connection, wanted: Selection, *, after: str, most: int) -> list[Found]:
    """The selected runs, oldest first, from the one after this id on. Those a newer run replaces only by their own id."""
    given = {name: value for name in _TESTS if (value := getattr(wanted, name)) is not None}
    if wanted.error is not None:
        text = wanted.error.lower()
        for sign in "!%_":
            text = text.replace(sign, f"!{sign}")
        given["error"] = f"%{text}%"
    kinds = [_KINDS[wanted.outcome]] if wanted.outcome else list(_KINDS.values())
    # Of a run whose person was erased nothing is left to go on with.
    tests = [_TESTS[name] for name in given] + [
        f"({' or '.join(kinds)})",
        "(run.finished_at is null or run.trigger_data <> '{}')",
    ]
    if wanted.run is None:
        tests.append("not exists (select 1 from run newer where newer.retry_of = run.id)")
    rows = await c.all(
        "select run.*, work.parked_on as parked_on from run left join work on work.kind = 'run' and work.ref = run.id "
        f"where run.id > :after and {' and '.join(tests)} order by run.id limit :most",
        after=after,
        most=most,
        **given,
    )
    ids = [{"id": row["id"]} for row in rows]
    steps = await c.group("select step.* from step join {rows} on step.run_id = r.id order by seq", {"id": "text"}, ids)
    effects = await c.group("select effect.* from effect join {rows} on effect.run_id = r.id", {"id": "text"}, ids)
    return [
        Found(
            run=RunRow.of(row),
            poison=row["parked_on"] == POISON,
            steps=[s for s in steps if s["run_id"] == row["id"]],
            effects={e["step_id"]: e for e in effects if e["run_id"] == row["id"]},
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Revival:
    """A finished run that goes on at a step of a version. `effect` names the one to call again, or to look up first."""

    run: RunRow
    version: int
    position: str
    ctx: Mapping[str, Json]
    effect: str | None
    look_up: bool


async def revive(c: Connection, revivals: Sequence[Revival], *, reason: str, now_ms: int) -> set[str]:
    """Let finished runs go on; returns the ids of those that still stood as they were found.

    Their work begins with an epoch above any that a run had before, so that whoever held it then still knows an old one.
    """
    rows = await c.group(
        "update run set status = 'ready', version = r.version, at_step = r.at_step, ctx = r.ctx, reason = :reason, "
        "wake = null, stop = null, ended_by = null, finished_at = null from {rows} "
        "where run.id = r.id and run.finished_at is not null and run.steps = r.steps returning run.id as id",
        {"id": "text", "version": "bigint", "at_step": "text", "ctx": "text", "steps": "bigint"},
        [
            {
                "id": r.run.id,
                "version": r.version,
                "at_step": r.position,
                "ctx": to_json(r.ctx).decode(),
                "steps": r.run.steps,
            }
            for r in revivals
        ],
        reason=reason,
    )
    done = {row["id"] for row in rows}
    again = [r for r in revivals if r.run.id in done and r.effect]
    await call_again(c, [str(r.effect) for r in again if not r.look_up])
    await c.group(
        "update effect set state = 'intended', attempts = 0, outcome = null, finished_at = null from {rows} "
        "where effect.key = r.key",
        {"key": "text"},
        [{"key": r.effect} for r in again if r.look_up],
    )
    await c.group(
        "insert into work (kind, ref, queue, due_at, epoch) select 'run', id, queue, due_at, due_at from {rows} where true",
        {"id": "text", "queue": "text", "due_at": "bigint"},
        [{"id": r.run.id, "queue": str(Lane(r.run.recipe)), "due_at": now_ms} for r in revivals if r.run.id in done],
    )
    return done


async def call_again(c: Connection, keys: Sequence[str]) -> None:
    """Effects that are to be called again when their step is decided again; until then they keep their reason."""
    await c.group(
        "update effect set state = :again, attempts = 0, outcome = null, response = null, finished_at = null "
        "from {rows} where effect.key = r.key",
        {"key": "text"},
        [{"key": key} for key in keys],
        again=AGAIN,
    )


async def unpark_poison(c: Connection, versions: Mapping[str, int], *, reason: str, now_ms: int) -> set[str]:
    """Let runs that were set aside as poison try again, on a version each; returns the ids of those that still were."""
    rows = await c.group(
        "update work set due_at = :now, parked_on = null, claims = 0 from {rows} "
        "where work.kind = 'run' and work.ref = r.id and work.parked_on = 'poison' returning work.ref as id",
        {"id": "text"},
        [{"id": id_} for id_ in versions],
        now=now_ms,
    )
    done = {row["id"] for row in rows}
    await c.group(
        "update run set status = 'ready', reason = :reason, version = r.version from {rows} where run.id = r.id",
        {"id": "text", "version": "bigint"},
        [{"id": id_, "version": versions[id_]} for id_ in done],
        reason=reason,
    )
    return done


@dataclass(frozen=True)
class Anew:
    """A run that repeats another from the start. `taken` are the effects that count as done already."""

    id: str
    run: RunRow
    poison: bool
    version: int
    ctx: Mapping[str, Json]
    taken: Sequence[Row]


async def start_anew(c: Connection, anew: Sequence[Anew], *, now_ms: int) -> set[str]:
    """Start runs that repeat others; returns the ids of the others. One that is being repeated already is left out."""
    counted = await c.group(
        "select r.id as id, count(run.id) as n from {rows} left join run on run.retry_of = r.id group by r.id",
        {"id": "text"},
        [{"id": a.run.id} for a in anew],
    )
    before = {row["id"]: row["n"] for row in counted}
    rows = await c.group(
        "insert into run (id, recipe, version, contact_id, entry_key, scope, status, trigger_data, ctx, started_at, depth, "
        "retry_of) select r.id, run.recipe, r.version, run.contact_id, r.entry_key, run.scope, 'ready', run.trigger_data, "
        "r.ctx, r.started_at, run.depth, run.id from {rows} join run on run.id = r.old where true "
        "on conflict (recipe, entry_key) do nothing returning id, retry_of",
        dict.fromkeys(("id", "old", "entry_key", "ctx"), "text") | {"version": "bigint", "started_at": "bigint"},
        [
            {
                "id": a.id,
                "old": a.run.id,
                "entry_key": f"retry:{a.run.id}:{before[a.run.id] + 1}",
                "ctx": to_json(a.ctx).decode(),
                "version": a.version,
                "started_at": now_ms,
            }
            for a in anew
        ],
    )
    started = {row["id"] for row in rows}
    made = [a for a in anew if a.id in started]
    await c.group(
        "insert into work (kind, ref, queue, due_at) select 'run', id, queue, due_at from {rows} where true",
        {"id": "text", "queue": "text", "due_at": "bigint"},
        [{"id": a.id, "queue": str(Lane(a.run.recipe)), "due_at": now_ms} for a in made],
    )
    await c.group(
        "insert into effect (key, run_id, step_id, action, connection, state, token, request, response, outcome, reason, "
        "attempts, intended_at, finished_at) select r.key, r.run_id, e.step_id, e.action, e.connection, 'done', r.token, "
        "e.request, e.response, 'done', r.reason, 0, e.intended_at, e.finished_at from {rows} "
        "join effect e on e.key = r.old where true",
        dict.fromkeys(("key", "run_id", "token", "reason", "old"), "text"),
        [
            {
                "key": f"{a.id}:{effect['step_id']}",
                "run_id": a.id,
                "token": new_id(),
                "reason": f"done before, by the run {a.run.id}",
                "old": effect["key"],
            }
            for a in made
            for effect in a.taken
        ],
    )
    await _end_poison(c, {a.run.id: a.id for a in made if a.poison}, now_ms)
    return {a.run.id for a in made}


async def _end_poison(c: Connection, replaced: Mapping[str, str], now_ms: int) -> None:
    """Runs that were set aside as poison and that others now repeat have ended."""
    given = [{"id": old, "reason": f"the run {new} repeats it from the start"} for old, new in replaced.items()]
    columns = {"id": "text", "reason": "text"}
    await c.group(
        "update run set status = 'failed', ended_by = 'failed', reason = r.reason, finished_at = :now from {rows} "
        "where run.id = r.id",
        columns,
        given,
        now=now_ms,
    )
    await c.group("delete from waiter where run_id in (select id from {rows})", columns, given)
    await c.group("delete from work where kind = 'run' and ref in (select id from {rows})", columns, given)


async def asked(c: Connection, run_id: str) -> tuple[RunRow, EffectRow] | None:
    """A live run that waits for somebody to say what became of its effect, with that effect; None when it asks nothing."""
    await c.all(f"select ref from work where kind = 'run' and ref = :run {c.for_update}", run=run_id)
    row = await c.first("select * from run where id = :run and finished_at is null", run=run_id)
    if row is None:
        return None
    run = RunRow.of(row)
    effect = await c.first(
        "select * from effect where run_id = :run and step_id = :step and state = 'unknown'",
        run=run_id,
        step=run.position,
    )
    return (run, EffectRow.of(effect)) if effect and "asking" in run.ctx and run.wake is None else None


async def answered(c: Connection, run: RunRow, effect: EffectRow, *, done: bool, who: str, now_ms: int) -> None:
    """What somebody said became of an effect: it counts as done, or will be called again."""
    ctx = {key: value for key, value in run.ctx.items() if key != "asking"}
    await c.run("update run set ctx = :ctx where id = :run", ctx=to_json(ctx).decode(), run=run.id)
    if not done:
        await call_again(c, [effect.key])
        return
    await c.run(
        "update effect set state = 'done', outcome = 'done', reason = :reason, response = null, finished_at = :now "
        "where key = :key",
        reason=f"{who} said that it was done",
        now=now_ms,
        key=effect.key,
    )
    await c.run("update message set sent_at = :now where effect_key = :key", now=now_ms, key=effect.key)
