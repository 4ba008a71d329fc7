"""Removing what is old enough, a small step at a time, without an index that only this would need.

Ids are UUIDs of version 7, so what is old lies at the beginning of a primary key; the row's own time decides. Tables with
other keys are walked as they lie on disk (docs/decisions/0008-spool-and-retention.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.store.session import Connection, Row

# How many rows a step looks at, or on PostgreSQL how many pages of a walked table.
STEP_ROWS, STEP_PAGES = 500, 64


@dataclass(frozen=True)
class Step:
    """What one step removed (or would), and where the next one begins; None at the end of the table."""

    removed: int
    after: str | None


@dataclass(frozen=True)
class Aged:
    """A table in the order of its ids. `at` is when a row came to its end (null: not yet); `also` goes with it."""

    table: str
    key: str
    at: str
    more: str = ""
    also: Mapping[str, str] | None = None

    async def step(self, c: Connection, after: str, before_ms: int, *, spare: Callable[[Row], bool], dry: bool) -> Step:
        """Look at the next rows after an id and remove those that are old, but not those that `spare` names."""
        rows = await c.all(
            f"select {self.key} as key, max({self.at}) as at{self.more} from {self.table} "
            f"where {self.key} > :after and {self.key} < :bound group by {self.key} order by {self.key} limit :most",
            after=after,
            bound=first_id_at(before_ms),
            most=STEP_ROWS,
        )
        doomed = [
            {"key": row["key"]} for row in rows if row["at"] is not None and row["at"] < before_ms and not spare(row)
        ]
        if not dry:
            for table, key in (*(self.also or {}).items(), (self.table, self.key)):
                await c.group(f"delete from {table} where {key} in (select key from {{rows}})", {"key": "text"}, doomed)
        return Step(len(doomed), rows[-1]["key"] if len(rows) == STEP_ROWS else None)


@dataclass(frozen=True)
class Walked:
    """A table whose key says nothing about age. `old` is true of rows that may go if also `loose` is."""

    table: str
    old: str
    loose: str = "true"

    async def step(self, c: Connection, after: str, before_ms: int, *, spare: Callable[[Row], bool], dry: bool) -> Step:
        """Walk on from a place in the file and remove what is old there; `spare` is never asked."""
        given: dict[str, Any] = {"before": before_ms, "bound": first_id_at(before_ms)}
        if c.dialect == "postgresql":
            low, high, there_is_more = await self._pages(c, int(after or 0))
            # asyncpg's form of a row's place: page and number.
            given |= {"low": (low, 0), "high": (high, 0)}
            here = "ctid >= cast(:low as tid) and ctid < cast(:high as tid)"
        else:
            low, high, there_is_more = await self._rows(c, int(after or 0), given)
            given |= {"low": low, "high": high}
            here = "rowid > :low and rowid <= :high"
        where = f"where {here} and {self.old} and {self.loose}"
        if dry:
            found = await c.first(f"select count(*) as n from {self.table} {where}", **given)
            removed = int(found["n"]) if found else 0
        else:
            removed = await c.run(f"delete from {self.table} {where}", **given)
        return Step(removed, str(high) if there_is_more else None)

    async def _pages(self, c: Connection, low: int) -> tuple[int, int, bool]:
        found = await c.first(
            f"select pg_relation_size('{self.table}') / cast(current_setting('block_size') as bigint) as pages"
        )
        high = low + STEP_PAGES
        return low, high, bool(found and found["pages"] > high)

    async def _rows(self, c: Connection, low: int, given: Mapping[str, Any]) -> tuple[int, int, bool]:
        """The next rows. Rows lie in the order in which they came, so where none is old any more the walk ends."""
        found = await c.first(
            f"select max(place) as high, count(*) as n, sum(old) as old from (select rowid as place, {self.old} as old "
            f"from {self.table} where rowid > :low order by rowid limit :most)",
            low=low,
            most=STEP_ROWS * 2,
            **given,
        )
        assert found is not None, "an aggregate always has a row"
        return low, found["high"] or low, bool(found["old"])


DELIVERIES = Aged("delivery", "id", "received_at")
EVENTS = Aged("event", "id", "received_at", ", max(type) as type, max(stage) as stage")
RUNS = Aged("run", "id", "finished_at", also={"step": "run_id", "effect": "run_id", "waiter": "run_id"})
VERDICTS = Aged("verdict", "event_id", "at")
# Keys of effects begin with the id of their run.
MESSAGES = Aged("message", "effect_key", "reserved_at")
EVENT_KEYS = Walked(
    "event_key", "event_id < :bound", "not exists (select 1 from event where event.id = event_key.event_id)"
)
REFUSALS = Walked("refusal", "minute * 60000 < :before")
DEDUPE = Walked("dedupe", "seen_at < :before")
ROTA_PLACES = Walked("rota_place", "at < :before")


def first_id_at(ms: int) -> str:
    """The lowest id of version 7 that can have been made at an instant."""
    digits = f"{max(0, ms):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


async def live_versions(c: Connection, before_ms: int) -> list[Row]:
    """The recipe versions that live runs started before an instant stand on, each with the start of its first one."""
    return list(
        await c.all(
            "select recipe, version, min(started_at) as since from run "
            "where finished_at is null and id < :bound and started_at < :before group by recipe, version",
            bound=first_id_at(before_ms),
            before=before_ms,
        )
    )


async def open_calls(c: Connection, before_ms: int) -> list[Row]:
    """The actions of calls whose outcome may still be looked up, made before an instant, each with its first intent."""
    return list(
        await c.all(
            "select effect.action as action, min(effect.intended_at) as since from run join effect on effect.run_id = run.id "
            "where run.finished_at is null and run.id < :bound and effect.state = 'intended' "
            "and effect.intended_at < :before group by effect.action",
            bound=first_id_at(before_ms),
            before=before_ms,
        )
    )


async def silent_events(c: Connection, before_ms: int) -> set[str]:
    """The ids of events older than an instant whose silence is still waited for."""
    rows = await c.all(
        "select data from work where kind = 'debounce' and data < :bound",
        bound='{"event_id":"' + first_id_at(before_ms),
    )
    return {row["data"].split('"')[3] for row in rows}
