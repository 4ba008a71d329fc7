"""The processes that are at work: each says so every few seconds, and who has been silent for long is dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import to_json

from hub.events import Json
from hub.store.session import Connection

DEAD_AFTER_MS = 30_000


@dataclass(frozen=True)
class Process:
    """A process as it shows itself. `kind` is `api`, `worker` or `up`; only the last two make calls."""

    id: str
    kind: str
    version: str
    started_at_ms: int


async def beat(
    c: Connection, process: Process, *, busy: int, slots: int, now_ms: int, tally: Mapping[str, Json] | None = None
) -> int:
    """A sign of life, with what the process counted since it started; the dead are removed.

    Returns how many living processes make calls.
    """
    await c.run(
        "insert into process (id, kind, version, started_at, seen_at, busy, slots, tally) "
        "values (:id, :kind, :version, :started, :now, :busy, :slots, :tally) "
        "on conflict (id) do update set seen_at = excluded.seen_at, busy = excluded.busy, slots = excluded.slots, "
        "tally = excluded.tally",
        id=process.id,
        kind=process.kind,
        version=process.version,
        started=process.started_at_ms,
        now=now_ms,
        busy=busy,
        slots=slots,
        tally=to_json(tally or {}).decode(),
    )
    await c.run("delete from process where seen_at < :dead", dead=now_ms - DEAD_AFTER_MS)
    row = await c.first("select count(*) as n from process where kind in ('worker', 'up')")
    assert row is not None, "an aggregate always has a row"
    return int(row["n"])


async def leave(c: Connection, id_: str) -> None:
    """A process that ends in order is gone at once."""
    await c.run("delete from process where id = :id", id=id_)
