"""A database as full as after a year: one run that the hub itself brought to where it stands, copied a million times.

Every row that belongs to the run is copied with ids, addresses and facts of its own, so that each copy goes on like the
original when it is woken or becomes due.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from hub.store.schema import metadata
from hub.store.session import Row, Store

_CHUNK, _CHUNK_S = 50_000, 120.0
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What belongs to a run, from its own row outwards; each statement may use what those before it found.
PARTS = {
    "run": "select * from run where id = :run",
    "work": "select * from work where kind = 'run' and ref = :run",
    "waiter": "select * from waiter where run_id = :run",
    "step": "select * from step where run_id = :run",
    "effect": "select * from effect where run_id = :run",
    "message": "select * from message where effect_key in (select key from effect where run_id = :run)",
    "entry": "select * from entry where (recipe, scope) in (select recipe, scope from run where id = :run)",
    "contact": "select * from contact where id in (select contact_id from run where id = :run)",
    "identity": "select * from identity where contact_id in (select contact_id from run where id = :run)",
    "event": "select * from event where contact_id in (select contact_id from run where id = :run)",
    "event_key": "select * from event_key where event_id in (select id from event where contact_id in "
    "(select contact_id from run where id = :run))",
    "dedupe": "select * from dedupe where event_id in (select id from event where contact_id in "
    "(select contact_id from run where id = :run))",
    "consent": "select * from consent where event_id in (select id from event where contact_id in "
    "(select contact_id from run where id = :run))",
    "delivery": "select * from delivery where id in (select delivery_id from event where contact_id in "
    "(select contact_id from run where id = :run))",
}


@dataclass(frozen=True)
class Copies:
    """How many copies, the word that stands in every address and fact of the original, and when they become due.

    The due times are spread evenly from `due_ms` over `spread_ms`; without `due_ms` all are the original's.
    """

    count: int
    word: str
    due_ms: int | None = None
    spread_ms: int = 0
    first: int = 1


async def multiply(store: Store, run_id: str, copies: Copies) -> None:
    """Copy a run with all that belongs to it. The nth copy's word is `<word>-<n>`. Raises ValueError when there is no run."""
    async with store.read() as c:
        found = {table: await c.all(statement, run=run_id) for table, statement in PARTS.items()}
    if not found["run"]:
        raise ValueError(f"there is no run {run_id}")
    for low in range(copies.first, copies.first + copies.count, _CHUNK):
        high = min(low + _CHUNK, copies.first + copies.count) - 1
        async with store.write(limit_s=_CHUNK_S) as c:
            for table, rows in found.items():
                for row in rows:
                    statement, given = _Copying(store.dialect, found, copies).of(table, row)
                    await c.run(statement, low=low, high=high, **given)


class _Copying:
    """Writes the statement that copies a row, with what differs from copy to copy as expressions of its number `n`."""

    def __init__(self, dialect: str, found: Mapping[str, Sequence[Row]], copies: Copies) -> None:
        postgres = dialect == "postgresql"
        self._dialect = postgresql.dialect() if postgres else sqlite.dialect()
        digits = "lpad(cast(n as text), 12, '0')" if postgres else "printf('%012d', n)"
        self._numbers = (
            "generate_series(cast(:low as bigint), cast(:high as bigint)) as n"
            if postgres
            else "(with recursive s(n) as (select :low union all select n + 1 from s where n < :high) select n from s)"
        )
        self._given: dict[str, Any] = {}
        rows = (row for rows in found.values() for row in rows)
        self._varied = {
            row["id"]: f"{self._parameter(row['id'][:24])} || {digits}"
            for row in rows
            if _ID.fullmatch(row.get("id", ""))
        }
        self._varied[copies.word] = f"{self._parameter(f'{copies.word}-')} || cast(n as text)"
        self._due: str | None = None
        if copies.due_ms is not None and found["work"]:
            self._due = f"{copies.due_ms} + (n - {copies.first}) * {copies.spread_ms} / {copies.count}"
            # It stands in the run's own memory too.
            self._varied[str(found["work"][0]["due_at"])] = f"cast({self._due} as text)"

    def of(self, table: str, row: Row) -> tuple[str, dict[str, Any]]:
        """The statement for the copies `low` to `high` of a row, and its other parameters."""
        values = [
            self._due if self._due and (table, name) == ("work", "due_at") else self._value(table, name, row[name])
            for name in row
        ]
        return f"insert into {table} ({', '.join(row)}) select {', '.join(values)} from {self._numbers}", self._given

    def _value(self, table: str, name: str, value: object) -> str:
        if not isinstance(value, str):
            return self._parameter(value, metadata.tables[table].c[name].type.compile(self._dialect))
        pieces = (piece for piece in re.split(f"({'|'.join(map(re.escape, self._varied))})", value) if piece)
        return " || ".join(self._varied.get(piece) or self._parameter(piece) for piece in pieces) or "''"

    def _parameter(self, value: object, kind: str = "text") -> str:
        name = f"p{len(self._given)}"
        self._given[name] = value
        return f"cast(:{name} as {kind})"
