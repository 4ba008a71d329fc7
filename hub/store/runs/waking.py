"""Runs that wait: who waits for an event, and telling them that it came (T10) or that they shall end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store.session import Connection
from hub.values import value


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
