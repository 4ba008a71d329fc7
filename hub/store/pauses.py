"""Pauses: what is held back, by whom and why; the work that is parked on them, and its way back (T9).

A run parks on a pause only while it locks the pause's row, and whoever ends a pause removes the row first: so that nobody
can park on a pause that is over, and be left behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hub.store import spending
from hub.store.session import Connection, Row
from hub.store.work import NEVER_MS

_PARKED = "pause:"
# Stands before the instant in a run's `work.data` when a resume found that it had waited too long since then.
LATE = "late:"
# Without a rate, what was held back is due again within so many milliseconds.
_SPREAD_MS = 5_000


@dataclass(frozen=True)
class Pause:
    """One thing that is held back: `kind` is all, recipe, connection, channel or purpose, `target` its name."""

    id: str
    kind: str
    target: str
    reason: str
    who: str
    at_ms: int

    @property
    def parks_on(self) -> str:
        """What `work.parked_on` says of work that waits for it."""
        return _PARKED + self.id

    @property
    def about(self) -> str:
        """What is held back, in words."""
        return "everything" if self.kind == "all" else f"the {self.kind} {self.target}"

    @classmethod
    def of(cls, row: Row) -> Pause:
        """From a row of the table `pause`."""
        return cls(row["id"], row["kind"], row["target"], row["reason"], row["who"], row["at"])


@dataclass(frozen=True)
class Held:
    """What a pause holds back now: runs, each before one call; batches whose call was begun; and how much of it is late.

    `late` waits longer than asked about, `expired` is past its own `valid_for`.
    """

    runs: int
    batches: int
    late: int
    expired: int


async def everything(c: Connection) -> list[Pause]:
    """Every pause, oldest first."""
    return [Pause.of(row) for row in await c.all("select * from pause order by id")]


async def get(c: Connection, kind: str, target: str) -> Pause | None:
    """The pause on this, or None."""
    row = await c.first("select * from pause where kind = :kind and target = :target", kind=kind, target=target)
    return Pause.of(row) if row else None


async def put(c: Connection, pause: Pause) -> Pause:
    """Add a pause; one on the same thing keeps its id and gets the new reason."""
    row = await c.first(
        "insert into pause (id, kind, target, reason, who, at) values (:id, :kind, :target, :reason, :who, :at) "
        "on conflict (kind, target) do update set reason = excluded.reason, who = excluded.who returning *",
        id=pause.id,
        kind=pause.kind,
        target=pause.target,
        reason=pause.reason,
        who=pause.who,
        at=pause.at_ms,
    )
    assert row is not None, "an insert that cannot be skipped returns its row"
    return Pause.of(row)


async def gone(c: Connection, parked_on: Iterable[str | None]) -> set[str]:
    """Of what work is about to be parked on, the pauses that are over; the others stay until this transaction ends."""
    ids = sorted({on.removeprefix(_PARKED) for on in parked_on if on and on.startswith(_PARKED)})
    lock = "for share of pause" if c.dialect == "postgresql" else ""
    rows = await c.group(
        f"select pause.id as id from pause join {{rows}} on pause.id = r.id order by pause.id {lock}",
        {"id": "text"},
        [{"id": id_} for id_ in ids],
    )
    return {_PARKED + id_ for id_ in ids} - {_PARKED + row["id"] for row in rows}


async def held(c: Connection, pause: Pause, *, now_ms: int, late_before_ms: int | None) -> Held:
    """How much waits for a pause to end."""
    until = _json_number(c, "effect.request", "valid_until_ms")
    row = await c.first(
        "select count(case when work.kind = 'run' then 1 end) as runs, "
        "count(case when work.kind <> 'run' then 1 end) as batches, "
        "count(case when work.kind = 'run' and cast(work.data as bigint) < :late then 1 end) as late, "
        f"count(case when {until} < :now then 1 end) as expired "
        "from work left join effect on effect.run_id = work.ref and effect.state = 'planned' and work.kind = 'run' "
        "where work.parked_on = :on",
        on=pause.parks_on,
        now=now_ms,
        late=-1 if late_before_ms is None else late_before_ms,
    )
    assert row is not None, "an aggregate always has a row"
    return Held(row["runs"], row["batches"], row["late"], row["expired"])


async def end(
    c: Connection, pause: Pause, *, now_ms: int, late_before_ms: int | None, every_ms: float | None
) -> int | None:
    """Remove a pause and make what waited for it due again, oldest first; returns how much, None when it was over already.

    What waited since before `late_before_ms` is marked late; `every_ms` is the time between two that become due.
    """
    if not await c.run("delete from pause where id = :id", id=pause.id):
        return None
    # In the order in which signals lock work, so that neither waits for the other.
    rows = await c.all(
        f"select kind from work where parked_on = :on order by ref {c.for_update}",
        on=pause.parks_on,
    )
    every_ms = _SPREAD_MS / max(1, len(rows)) if every_ms is None else every_ms
    await c.run(
        "update run set status = 'ready', reason = 'its pause has ended' "
        "where id in (select ref from work where parked_on = :on and kind = 'run')",
        on=pause.parks_on,
    )
    await c.run(
        "update work set parked_on = null, due_at = cast(:now as bigint) + cast(n.place * cast(:every as real) as bigint), "
        "data = case when work.kind <> 'run' then work.data when cast(work.data as bigint) < :late then cast(:mark as text) || work.data else work.data end "
        "from (select kind, ref, row_number() over (order by ref) - 1 as place from work where parked_on = :on) as n "
        "where work.kind = n.kind and work.ref = n.ref",
        on=pause.parks_on,
        now=now_ms,
        every=float(every_ms),
        late=-1 if late_before_ms is None else late_before_ms,
        mark=LATE,
    )
    return len(rows)


async def queued(c: Connection, batch: str) -> list[Row]:
    """The effects that wait in a batch: key, run_id, request and the run's recipe."""
    return list(
        await c.all(
            "select effect.key as key, effect.run_id as run_id, effect.state as state, effect.request as request, "
            "run.recipe as recipe from effect join run on run.id = effect.run_id "
            "where effect.batch = :batch and effect.state in ('queued', 'intended') order by effect.key",
            batch=batch,
        )
    )


async def take_out(c: Connection, pause: Pause, keys: Iterable[str], *, reason: str, now_ms: int) -> None:
    """Take queued effects out of their batch and park their runs on a pause: each decides again when it is over."""
    if await gone(c, [pause.parks_on]):
        return
    rows = await c.group(
        "delete from effect where state = 'queued' and key in (select key from {rows}) returning run_id, key",
        {"key": "text"},
        [{"key": key} for key in keys],
    )
    await spending.settle_all(c, [row["key"] for row in rows], made=False)
    given: list[dict[str, Any]] = [{"run_id": row["run_id"]} for row in rows]
    await c.group(
        "update run set status = 'parked', reason = :reason from {rows} where run.id = r.run_id",
        {"run_id": "text"},
        given,
        reason=reason,
    )
    await c.group(
        "update work set due_at = :never, epoch = epoch + 1, owner = null, claims = 0, parked_on = :on, data = :since "
        "from {rows} where work.kind = 'run' and work.ref = r.run_id",
        {"run_id": "text"},
        given,
        never=NEVER_MS,
        on=pause.parks_on,
        since=str(now_ms),
    )


def _json_number(c: Connection, column: str, name: str) -> str:
    """A number inside a column that holds JSON as text."""
    value = f"cast({column} as jsonb) ->> '{name}'" if c.dialect == "postgresql" else f"{column} ->> '{name}'"
    return f"cast({value} as bigint)"
