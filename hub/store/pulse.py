"""How the hub is doing, as the database knows it: what is due, late, waiting, parked, unknown; and who is at work.

Each statement is carried by an index and looks at no more than `MOST` rows, so that a hub with a million waiting runs
answers as fast as an empty one. What may be more than `MOST` is counted up to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic_core import from_json

from hub import shown
from hub.clock import DAY_MS
from hub.events import Json
from hub.store.lanes import Lane
from hub.store.processes import DEAD_AFTER_MS, Process
from hub.store.session import Connection
from hub.store.work import NEVER_MS

MOST = 10_000


@dataclass(frozen=True)
class Due:
    """A lane in which something is due: how much (at most MOST), and since when the oldest."""

    lane: Lane
    due: int
    since_ms: int


@dataclass(frozen=True)
class Alive:
    """A process that gave a sign of life lately (`seen_at_ms` is real time). `tally` is what it counted since it started."""

    process: Process
    seen_at_ms: int
    busy: int
    slots: int
    tally: Mapping[str, Json]


@dataclass(frozen=True)
class Pulse:
    """One look at the database.

    `parked` says of each thing that work is parked on how much is; `breakers` the state of each that is not closed, by
    connection; `connections` the health of each by name; `waiting` how many runs go on later.
    """

    at_ms: int
    real_ms: int
    unrouted: int
    unrouted_since_ms: int | None
    lanes: tuple[Due, ...]
    waiting: int
    waiting_estimated: bool
    parked: Mapping[str, int]
    unknown: int
    breakers: Mapping[str, str]
    connections: Mapping[str, str]
    processes: tuple[Alive, ...]

    @property
    def due(self) -> int:
        """How much is due now."""
        return sum(lane.due for lane in self.lanes)

    @property
    def due_since_ms(self) -> int | None:
        """Since when the oldest due work is due."""
        return min((lane.since_ms for lane in self.lanes), default=None)


@asynccontextmanager
async def bounded(c: Connection, limit_ms: int) -> AsyncIterator[None]:
    """Reads that PostgreSQL breaks off after `limit_ms` each; SQLite is bounded by the rows that are looked at."""
    if c.dialect != "postgresql":
        yield
        return
    async with c.driver.transaction():
        await c.run(f"set local statement_timeout = {int(limit_ms)}")
        yield


async def read(c: Connection, *, now_ms: int, real_ms: int) -> Pulse:
    """Look once. `now_ms` is hub time, `real_ms` real time."""
    oldest = await c.first("select received_at from event where stage = 'route' order by id limit 1")
    waiting, estimated = await _waiting(c, now_ms)
    breakers = await c.all("select connection, state from breaker order by connection limit 1000")
    connections = await c.all("select name, health from connection order by name limit 1000")
    return Pulse(
        at_ms=now_ms,
        real_ms=real_ms,
        unrouted=await _count(c, "event where stage = 'route'"),
        unrouted_since_ms=oldest["received_at"] if oldest else None,
        lanes=await lanes(c, now_ms),
        waiting=waiting,
        waiting_estimated=estimated,
        parked=await _parked(c),
        unknown=await _count(c, "effect where state = 'unknown' and finished_at > :since", since=now_ms - DAY_MS),
        breakers={row["connection"]: row["state"] for row in breakers},
        connections={row["name"]: row["health"] for row in connections},
        processes=await processes(c, real_ms),
    )


async def _count(c: Connection, what: str, **parameters: int) -> int:
    row = await c.first(f"select count(*) as n from (select 1 from {what} limit :most) as few", most=MOST, **parameters)
    return int(row["n"]) if row else 0


# A queue after the other, each found by the index where the last one ends; then its due rows alone.
_LANES = """
with recursive lane(queue) as (
    select min(queue) from work
    union all
    select (select min(work.queue) from work where work.queue > lane.queue) from lane where lane.queue is not null
)
select queue,
    (select min(work.due_at) from work where work.queue = lane.queue) as since,
    (select count(*) from (select 1 from work where work.queue = lane.queue and work.due_at <= :now limit :most) as due) as due
from lane where queue is not null limit 1000
"""


async def lanes(c: Connection, now_ms: int) -> tuple[Due, ...]:
    """The lanes in which something is due."""
    rows = await c.all(_LANES, now=now_ms, most=MOST)
    return tuple(Due(Lane.of(row["queue"]), row["due"], row["since"]) for row in rows if row["due"])


_LATER = "work where due_at > :now and due_at < :never"
_WAITING = f"""
select count(*) as later, count(case when kind = 'run' and owner is null then 1 end) as runs
from (select kind, owner from {_LATER} limit :most) as few
"""


async def _waiting(c: Connection, now_ms: int) -> tuple[int, bool]:
    """The runs that go on later, and whether that is an estimate.

    Where more than MOST is not due yet, it is the share of runs among so many, of what the index of SQLite counts or
    PostgreSQL takes the table for.
    """
    few = await c.first(_WAITING, now=now_ms, never=NEVER_MS, most=MOST)
    assert few is not None, "a count has a row"
    if few["later"] < MOST:
        return int(few["runs"]), False
    if c.dialect == "postgresql":
        every = await c.first("select cast(reltuples as bigint) as n from pg_class where oid = 'work'::regclass")
    else:
        every = await c.first(f"select count(*) as n from {_LATER}", now=now_ms, never=NEVER_MS)
    return max(few["runs"], (every["n"] if every else 0) * few["runs"] // few["later"]), True


_PARKED = """
with recursive parked(reason) as (
    select min(parked_on) from work where parked_on is not null
    union all
    select (select min(work.parked_on) from work where work.parked_on > parked.reason) from parked
    where parked.reason is not null
)
select reason,
    (select count(*) from (select 1 from work where work.parked_on = parked.reason limit :most) as few) as n
from parked where reason is not null limit 1000
"""


async def _parked(c: Connection) -> dict[str, int]:
    """What work is parked on, and how much; a pause is named by what it holds back and not by its id."""
    pauses = await c.all("select id, kind, target from pause limit 1000")
    names: dict[str, str] = {f"pause:{row['id']}": f"pause:{row['target'] or row['kind']}" for row in pauses}
    found = [(str(row["reason"]), int(row["n"])) for row in await c.all(_PARKED, most=MOST)]
    return {names.get(on, on): count for on, count in found}


# -- signs of life -----------------------------------------------------------------------------------------------------


async def processes(c: Connection, real_ms: int) -> tuple[Alive, ...]:
    """The processes that gave a sign of life lately, oldest first."""
    rows = await c.all(
        "select * from process where seen_at > :since order by started_at, id limit 1000",
        since=real_ms - DEAD_AFTER_MS,
    )
    return tuple(
        Alive(
            process=Process(row["id"], row["kind"], row["version"], row["started_at"]),
            seen_at_ms=row["seen_at"],
            busy=row["busy"],
            slots=row["slots"],
            tally=from_json(row["tally"]) if row["tally"] else {},
        )
        for row in rows
    )


# -- for people --------------------------------------------------------------------------------------------------------


def view(found: Pulse, own: Alive | None = None) -> shown.Vitals:
    """A reading as JSON; `own` takes the place of what that process wrote of itself seconds ago."""
    processes = {alive.process.id: alive for alive in found.processes}
    if own is not None:
        processes[own.process.id] = own
    return {
        "at_ms": found.at_ms,
        "processes": [_process_view(alive, found.real_ms) for alive in processes.values()],
        "totals": _totals(processes.values()),
        "due": found.due,
        "oldest_due_s": age_s(found, found.due_since_ms),
        "waiting": found.waiting,
        "waiting_estimated": found.waiting_estimated,
        "unrouted": found.unrouted,
        "ingest_lag_s": age_s(found, found.unrouted_since_ms),
        "parked": dict(found.parked),
        "unknown_last_day": found.unknown,
        "connections": _connections(found, list(processes.values())),
    }


def _process_view(alive: Alive, real_ms: int) -> shown.Process:
    process = alive.process
    return {
        "id": process.id,
        "kind": process.kind,
        "version": process.version,
        "up_s": max(0, real_ms - process.started_at_ms) // 1000,
        "seen_s": max(0, real_ms - alive.seen_at_ms) // 1000,
        "busy": alive.busy,
        "slots": alive.slots,
    }


def _totals(processes: Iterable[Alive]) -> shown.Totals:
    tallies = [process.tally for process in processes]
    effects: dict[str, int] = {}
    for tally in tallies:
        for outcome, count in tally.get("effects", {}).items():
            effects[outcome] = effects.get(outcome, 0) + count
    return {
        "deliveries": sum(tally.get("deliveries", 0) for tally in tallies),
        "events": sum(tally.get("events", 0) for tally in tallies),
        "runs_started": sum(tally.get("runs_started", 0) for tally in tallies),
        "runs_finished": sum(tally.get("runs_finished", 0) for tally in tallies),
        "effects": effects,
    }


def _connections(found: Pulse, processes: list[Alive]) -> list[shown.ConnectionVitals]:
    views: list[shown.ConnectionVitals] = []
    for name, health in found.connections.items():
        due = [lane for lane in found.lanes if lane.lane.connection == name]
        since_ms = min((lane.since_ms for lane in due), default=None)
        views.append(
            {
                "name": name,
                "health": health,
                "in_flight": sum(p.tally.get("in_flight", {}).get(name, 0) for p in processes),
                "held_s": max((p.tally.get("held_s", {}).get(name, 0) for p in processes), default=0),
                "breaker": found.breakers.get(name, "closed"),
                "due": sum(lane.due for lane in due),
                "oldest_due_s": age_s(found, since_ms),
            }
        )
    return views


def age_s(found: Pulse, since_ms: int | None) -> float:
    """How old something is, in seconds; 0 for nothing."""
    return 0.0 if since_ms is None else max(0.0, (found.at_ms - since_ms) / 1000)
