"""What must always be true of the tables, and what follows where it is not: who looks finds nothing, ever.

`findings` looks, `mend` puts right what can be put right without guessing. A look reads one state of the database per
statement; what is under way may look wrong for a moment, so whoever acts on a finding looks twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json

from hub.clock import format_duration
from hub.events import Json
from hub.store import events, pulse, runs, spending, work
from hub.store.lanes import Lane, Rank
from hub.store.session import Connection, Row

# What a look may be late by itself, beyond a lease.
MARGIN_MS = 5_000
_UNROUTED_MS = 60_000
# Of each kind so many are named; of those whose mend needs more than an id so many are mended at a time.
_NAMED = 100
# What nobody waits for is nobody's trouble when it is late; a clock that jumps passes over it.
_UNHURRIED = frozenset({"upkeep"})
# Sorts behind every id.
_LAST = "zzzz"


@dataclass(frozen=True)
class Finding:
    """Something that must not be: of which kind, whose ids, a sentence, and the command that mends it.

    `answers` are the events that runs missed, by run: (exit or answer, what the run is told).
    """

    kind: str
    refs: tuple[str, ...]
    message: str
    mend: str
    answers: Mapping[str, tuple[str, Mapping[str, Json]]] = field(default_factory=dict)

    def only(self, refs: Collection[str]) -> Finding:
        """The part of it that is about these."""
        kept = tuple(ref for ref in self.refs if ref in refs)
        return replace(self, refs=kept, answers={ref: self.answers[ref] for ref in kept if ref in self.answers})


@dataclass
class Sweep:
    """How far a round of looks has come: each looks at the next `most` rows of a table, and begins again at its end."""

    most: int = 10_000
    run: tuple[str, str, str] = ("", "", "")
    work: str = ""
    waiter: str = ""
    effect: str = ""


async def findings(
    c: Connection,
    *,
    now_ms: int | None = None,
    lease_ms: int = 30_000,
    held: Collection[str] = (),
    sweep: Sweep | None = None,
) -> list[Finding]:
    """Everything that must not be. Without `sweep` whole tables are looked at: for tests and for small hubs.

    `now_ms` is hub time (asked of the database unless given), `held` the connections that cannot take all that is due for them.
    """
    now_ms = await _hub_now_ms(c) if now_ms is None else now_ms
    part = sweep or Sweep(most=1_000_000_000)
    found = [
        await _overdue(c, now_ms, lease_ms + MARGIN_MS, held),
        await _unrouted(c, now_ms),
        await _unfilled(c),
        *await _of_live_runs(c, part),
        await _of_work(c, part),
        # In the midst of work a waiter may be seconds old; where everything is at rest every one counts.
        *await _of_waiters(c, part, now_ms - lease_ms if sweep else now_ms + 1),
        await _of_effects(c, part),
        *await _of_spending(c),
    ]
    return [finding for finding in found if finding.refs]


async def lasting(
    c: Connection, *, sweep: Callable[[], Sweep | None] = lambda: None, again_s: float = 1.0, **given: Any
) -> list[Finding]:
    """What two looks `again_s` apart both find; `sweep` makes the same part for each, `given` is as for `findings`."""
    first = await findings(c, sweep=sweep(), **given)
    if not first:
        return []
    await asyncio.sleep(again_s)
    again = {finding.kind: finding for finding in await findings(c, sweep=sweep(), **given)}
    both = [finding.only(again[finding.kind].refs) for finding in first if finding.kind in again]
    return [finding for finding in both if finding.refs]


async def mend(c: Connection, finding: Finding, now_ms: int) -> int:
    """Put right what can be without guessing, in the transaction at hand; returns how many, 0 for what people must see to."""
    refs = [{"ref": ref} for ref in finding.refs]
    match finding.kind:
        case "run_without_work":
            return await _give_work(c, refs, now_ms)
        case "work_of_finished_run":
            return len(await c.group(_DROP_WORK, {"ref": "text"}, refs))
        case "waiter_of_finished_run":
            return len(await c.group(_DROP_WAITERS, {"ref": "text"}, refs))
        case "event_missed":
            return await _tell(c, finding, now_ms)
        case "batch_without_work" | "enrichment_without_work":
            kind = finding.kind.partition("_without")[0].replace("enrichment", "enrich")
            for ref in finding.refs:
                rank = Rank.BULK if kind == "batch" else Rank.TRANSACTIONAL
                await work.add_if_absent(c, kind, ref, str(Lane(connection=ref.partition("|")[0], rank=rank)), now_ms)
            return len(refs)
    return 0


async def _hub_now_ms(c: Connection) -> int:
    row = await c.first("select value from meta where key = 'clock_offset_ms'")
    return int(time.time() * 1000) + (int(row["value"]) if row else 0)


def _refs(rows: Sequence[Row], name: str = "ref") -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(row[name]) for row in rows))


# -- what is late ------------------------------------------------------------------------------------------------------


async def _overdue(c: Connection, now_ms: int, late_ms: int, held: Collection[str]) -> Finding:
    """Work that nobody takes, although nothing holds it back."""
    stopped = {row["target"] for row in await c.all("select target from pause limit 1000")} | set(held) | _UNHURRIED
    stopped |= {row["connection"] for row in await c.all("select connection from breaker limit 1000")}
    everything = await c.first(
        "select 1 as one from pause where kind not in ('connection', 'recipe', 'action') limit 1"
    )
    free = [due for due in await pulse.lanes(c, now_ms) if not stopped & {due.lane.recipe, due.lane.connection}]
    late = [due for due in free if due.since_ms < now_ms - late_ms] if everything is None else []
    oldest_ms = min((due.since_ms for due in late), default=now_ms)
    lanes = tuple(str(due.lane) for due in late)
    return Finding(
        "work_overdue",
        lanes,
        f"work is due for {format_duration(now_ms - oldest_ms)} and nobody takes it, in {', '.join(lanes)}",
        "start another `hub worker`; `hub top` shows who is at work",
    )


async def _unrouted(c: Connection, now_ms: int) -> Finding:
    rows = await c.all(
        "select id as ref, received_at from event where stage = 'route' order by id limit :most", most=_NAMED
    )
    late = [row for row in rows if row["received_at"] < now_ms - _UNROUTED_MS]
    return Finding(
        "event_unrouted",
        _refs(late),
        f"events came more than {format_duration(_UNROUTED_MS)} ago and are not routed",
        "start a `hub worker`; its log says why routing fails",
    )


async def _unfilled(c: Connection) -> Finding:
    """Events to be filled in by their vendor, without the work that does it."""
    rows = await c.all(
        """
        with recursive waiting(type) as (
            select min(type) from event where stage = 'enrich'
            union all
            select (select min(event.type) from event where event.stage = 'enrich' and event.type > waiting.type)
            from waiting where waiting.type is not null
        ),
        owned as (
            select connection.name || '|' || waiting.type as ref, waiting.type as type, connection.id as id
            from waiting join connection on connection.connector || '.' = substr(waiting.type, 1, length(connection.connector) + 1)
            where waiting.type is not null
        )
        select ref from owned
        where (select work.ref from work where work.kind = 'enrich' and work.ref = owned.ref) is null
        and (select min(event.id) from event
             where event.stage = 'enrich' and event.type = owned.type and event.connection_id = owned.id) is not null
        limit :most
        """,
        most=_NAMED,
    )
    return Finding(
        "enrichment_without_work",
        _refs(rows),
        "events wait to be filled in by their vendor, and nothing is due that does it",
        "hub worker puts it right by itself; please report it",
    )


# -- runs and their work -----------------------------------------------------------------------------------------------

_RUN_AFTER = "finished_at is null and (recipe, scope, id) > (:recipe, :scope, :id) order by recipe, scope, id"


async def _of_live_runs(c: Connection, part: Sweep) -> list[Finding]:
    """Live runs that nothing is due for, and live runs that wait for a batch that nothing is due for."""
    recipe, scope, id_ = part.run
    at = {"recipe": recipe, "scope": scope, "id": id_, "most": part.most, "named": _NAMED}
    window = f"with live as (select id from run where {_RUN_AFTER} limit :most)"
    lost = await c.all(
        f"{window} select id as ref from live "
        "where (select work.ref from work where work.kind = 'run' and work.ref = live.id) is null limit :named",
        **at,
    )
    batches = await c.all(
        f"{window}, queued as (select (select max(effect.batch) from effect where effect.run_id = live.id "
        "and effect.state in ('queued', 'intended')) as batch from live) select distinct batch as ref from queued "
        "where batch is not null and (select work.ref from work where work.kind = 'batch' and work.ref = batch) is null "
        "limit :named",
        **at,
    )
    part.run = await _next_run(c, part)
    return [
        Finding(
            "run_without_work",
            _refs(lost),
            "runs are not finished, and nothing is due for them",
            "hub worker puts it right by itself; please report it",
        ),
        Finding(
            "batch_without_work",
            _refs(batches),
            "effects wait for their batch, and nothing is due that calls it",
            "hub worker puts it right by itself; please report it",
        ),
    ]


async def _next_run(c: Connection, part: Sweep) -> tuple[str, str, str]:
    recipe, scope, id_ = part.run
    row = await c.first(
        f"select recipe, scope, id from run where {_RUN_AFTER} limit 1 offset :last",
        recipe=recipe,
        scope=scope,
        id=id_,
        last=part.most - 1,
    )
    return (row["recipe"], row["scope"], row["id"]) if row else ("", "", "")


_ENDED = "coalesce((select run.finished_at from run where run.id = {id}), case when (select run.id from run where run.id = {id}) is null then 0 end)"
_DROP_WORK = f"delete from work where kind = 'run' and ref in (select ref from {{rows}}) and {_ENDED.format(id='work.ref')} is not null returning ref"
_DROP_WAITERS = f"delete from waiter where run_id in (select ref from {{rows}}) and {_ENDED.format(id='waiter.run_id')} is not null returning run_id"


async def _of_work(c: Connection, part: Sweep) -> Finding:
    after, part.work = part.work, await _end_of(c, "ref", "work where kind = 'run' and", part.work, part.most)
    rows = await c.all(
        f"select ref from work where kind = 'run' and ref > :after and ref <= :upto and {_ENDED.format(id='work.ref')} "
        "is not null limit :named",
        after=after,
        upto=part.work or _LAST,
        named=_NAMED,
    )
    return Finding(
        "work_of_finished_run",
        _refs(rows),
        "something is due for runs that are finished or gone",
        "hub worker puts it right by itself; please report it",
    )


async def _end_of(c: Connection, column: str, table: str, after: str, most: int) -> str:
    """The last of the next rows, or '' when the table ends before: then the next round begins anew."""
    row = await c.first(
        f"select {column} as last from {table} {column} > :after order by {column} limit 1 offset :skip",
        after=after,
        skip=most - 1,
    )
    return str(row["last"]) if row else ""


async def _give_work(c: Connection, refs: Sequence[Mapping[str, Any]], now_ms: int) -> int:
    """The run is due now and asks its step again, which remembers until when it waits; what was done is not done again."""
    rows = await c.group(
        # An epoch that nobody can know: whoever held the work that is gone stays fenced off.
        "insert into work (kind, ref, queue, due_at, epoch) select 'run', run.id, run.recipe, "
        "cast(:now as bigint), cast(:now as bigint) from run join {rows} "
        "on run.id = r.ref where run.finished_at is null on conflict do nothing returning ref",
        {"ref": "text"},
        refs,
        now=now_ms,
    )
    await c.group(
        "update run set status = 'ready' from {rows} where run.id = r.ref and run.status <> 'acting'",
        {"ref": "text"},
        [{"ref": row["ref"]} for row in rows],
    )
    return len(rows)


# -- waits -------------------------------------------------------------------------------------------------------------

# An index look-up per waiter, in a form that no planner turns into a join over all events.
_MISSED = """
select w.run_id as ref, w.kind as kind, w.name as name, w.type as type, w.key as key, w.condition as condition,
w.since as since, run.trigger_data as trigger_data
from waiter w join run on run.id = w.run_id join work on work.kind = 'run' and work.ref = w.run_id
where w.run_id > :after and w.run_id <= :upto and run.finished_at is null and run.stop is null and run.wake is null
and run.status in ('waiting', 'sleeping') and work.owner is null and work.parked_on is null
and case when w.key like 'contact=%' then
    (select min(e.id) from event e where e.contact_id = substr(w.key, 9) and e.received_at >= w.since
     and e.received_at < :before and e.type = w.type and e.stage = 'routed')
else
    (select min(e.id) from event_key k join event e on e.id = k.event_id
     where k.type = w.type and k.key = w.key and e.received_at >= w.since and e.received_at < :before and e.stage = 'routed')
end is not null
order by w.run_id, w.n limit :named
"""


async def _of_waiters(c: Connection, part: Sweep, before_ms: int) -> list[Finding]:
    """Waiters of finished runs, and waiters whose event is there and was not told to the run."""
    after, part.waiter = part.waiter, await _end_of(c, "run_id", "waiter where", part.waiter, part.most)
    upto = part.waiter or _LAST
    left = await c.all(
        f"select run_id as ref from waiter where run_id > :after and run_id <= :upto and "
        f"{_ENDED.format(id='waiter.run_id')} is not null limit :named",
        after=after,
        upto=upto,
        named=_NAMED,
    )
    candidates = await c.all(_MISSED, after=after, upto=upto, before=before_ms, named=_NAMED)
    missed: dict[str, tuple[str, Mapping[str, Json]]] = {}
    for row in candidates:
        answer = await answer_to(c, row) if row["ref"] not in missed else None
        if answer is not None:
            missed[row["ref"]] = (row["kind"], answer)
    return [
        Finding(
            "waiter_of_finished_run",
            _refs(left),
            "runs that are finished or gone still wait for events",
            "hub worker puts it right by itself; please report it",
        ),
        Finding(
            "event_missed",
            tuple(missed),
            "runs wait for an event, or leave on one, that has come",
            "hub worker puts it right by itself; please report it",
            missed,
        ),
    ]


async def answer_to(c: Connection, waiter: Row) -> Mapping[str, Json] | None:
    """What a run is told of the first event that it waits for, or None when none of those that came is the one."""
    condition = from_json(waiter["condition"]) if waiter["condition"] else None
    began = from_json(waiter["trigger_data"]).get("event_id")
    async for event in events.came_since(c, waiter["type"], waiter["key"], waiter["since"]):
        row = await c.first("select name from connection where id = :id", id=event.connection_id)
        scope = events.event_scope(event, row["name"] if row else "")
        if event.id != began and events.answers_watch(scope, event, condition, waiter["since"]):
            return {"name": waiter["name"], "event": scope}
    return None


async def _tell(c: Connection, finding: Finding, now_ms: int) -> int:
    exits = {ref: answer for ref, (kind, answer) in finding.answers.items() if kind == "exit"}
    answers = {ref: answer for ref, (kind, answer) in finding.answers.items() if kind != "exit"}
    await runs.stop(c, exits, now_ms)
    await runs.wake(c, answers, now_ms)
    return len(finding.answers)


# -- effects -----------------------------------------------------------------------------------------------------------


async def _of_effects(c: Connection, part: Sweep) -> Finding:
    after, part.effect = part.effect, await _end_of(c, "key", "effect where", part.effect, part.most)
    rows = await c.all(
        "select run_id as ref from effect where key > :after and key <= :upto and state in ('planned', 'queued', "
        f"'intended') and {_ENDED.format(id='effect.run_id')} is not null limit :named",
        after=after,
        upto=part.effect or _LAST,
        named=_NAMED,
    )
    return Finding(
        "effect_without_outcome",
        _refs(rows),
        "runs are finished, and what became of one of their effects is not recorded",
        "hub runs show ID, then ask the vendor; please report it",
    )


# -- what is spent -----------------------------------------------------------------------------------------------------


async def _of_spending(c: Connection) -> list[Finding]:
    return [
        Finding(
            "cap_miscounted",
            _refs(await spending.miscounted(c, _NAMED)),
            "more was spent than caps allow, or less is counted than calls have taken",
            "hub caps list, then ask the vendor; please report it",
        ),
        Finding(
            "spend_unsettled",
            _refs(await spending.unsettled(c, _NAMED)),
            "what became of calls of runs is recorded, and what they took of a cap is not settled",
            "hub caps list; please report it",
        ),
    ]
