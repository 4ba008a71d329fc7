"""A database as full as after a year: one run that the hub itself brought to where it stands, copied a million times.

Every row that belongs to the run is copied with ids, addresses and facts of its own, so that each copy goes on like the
original when it is woken or becomes due.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from hub.store.schema import metadata
from hub.store.session import Connection, Row, Store

_CHUNK = 50_000
_DIALECTS = {"postgresql": postgresql.dialect(), "sqlite": sqlite.dialect()}
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What belongs to a run, from its own row outwards; each statement may use what those before it found.
_PARTS = {
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
        found = {table: await c.all(statement, run=run_id) for table, statement in _PARTS.items()}
    if not found["run"]:
        raise ValueError(f"there is no run {run_id}")
    varied = _varied(found, copies.word)
    for low in range(copies.first, copies.first + copies.count, _CHUNK):
        high = min(low + _CHUNK, copies.first + copies.count) - 1
        async with store.write() as c:
            for table, rows in found.items():
                for row in rows:
                    await _copy(c, table, row, varied, copies, low, high)


def _varied(found: Mapping[str, Sequence[Row]], word: str) -> tuple[str, ...]:
    """What must differ between two copies: the ids of the copied rows, and the word."""
    ids = {row["id"] for rows in found.values() for row in rows if "id" in row and _ID.fullmatch(str(row["id"]))}
    return (*sorted(ids), word)


async def _copy(
    c: Connection, table: str, row: Row, varied: Sequence[str], copies: Copies, low: int, high: int
) -> None:
    given: dict[str, Any] = {"low": low, "high": high}

    def parameter(value: object, kind: str) -> str:
        given[f"p{len(given)}"] = value
        return f"cast(:p{len(given) - 1} as {kind})"

    def copied(name: str, value: object) -> str:
        if table == "work" and name == "due_at" and copies.due_ms is not None:
            return f"{copies.due_ms} + (n - {copies.first}) * {copies.spread_ms} / {copies.count}"
        if not isinstance(value, str):
            return parameter(value, str(metadata.tables[table].c[name].type.compile(_DIALECTS[c.dialect])))
        pieces = (piece for piece in re.split("({})".format("|".join(map(re.escape, varied))), value) if piece)
        return (
            " || ".join(
                _varying(c, piece, parameter) if piece in varied else parameter(piece, "text") for piece in pieces
            )
            or "''"
        )

    values = ", ".join(copied(name, value) for name, value in row.items())
    await c.run(f"insert into {table} ({', '.join(row)}) select {values} from {_numbers(c)}", **given)


def _varying(c: Connection, piece: str, parameter: Callable[[object, str], str]) -> str:
    """SQL for what differs between copies: an id ends in the copy's number, the word is followed by it."""
    if not _ID.fullmatch(piece):
        return f"{parameter(f'{piece}-', 'text')} || cast(n as text)"
    digits = "lpad(cast(n as text), 12, '0')" if c.dialect == "postgresql" else "printf('%012d', n)"
    return f"{parameter(piece[:24], 'text')} || {digits}"


def _numbers(c: Connection) -> str:
    if c.dialect == "postgresql":
        return "generate_series(cast(:low as bigint), cast(:high as bigint)) as n"
    return "(with recursive s(n) as (select :low union all select n + 1 from s where n < :high) select n from s)"
