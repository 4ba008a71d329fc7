"""A whole hub from one database into another: every row as it is, in one transaction of each of the two.

The target is therefore empty or complete, whenever the copy ends; the row of `meta` that says so is written last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no types
from pydantic_core import from_json, to_json
from sqlalchemy import Table

from hub.clock import rfc3339
from hub.errors import StoreError
from hub.store import migrate, revisions, schema
from hub.store.processes import DEAD_AFTER_MS
from hub.store.session import Connection, Row, Store

# The key in `meta` under which a target says what it is a copy of.
_MARK = "copied"
_PAGE = 500
# A copy takes as long as it takes.
_LIMIT_S = 7 * 24 * 3600.0
_BITS = 128

Progress = Callable[[str, int], None]
"""Told the table and how many of its rows were dealt with so far."""


@dataclass(frozen=True)
class Copied:
    """A table that is the same on both sides: how many rows, and the checksum over all of them."""

    table: str
    rows: int
    checksum: str


@dataclass
class _Sum:
    """Counts rows and adds up their checksums: the order, which is each database's own, does not matter."""

    rows: int = 0
    total: int = 0

    def add(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        for row in rows:
            values = repr([row[name] for name in columns]).encode()
            self.total += int.from_bytes(blake2b(values, digest_size=_BITS // 8).digest(), "big")
        self.total %= 1 << _BITS
        self.rows += len(rows)

    @property
    def checksum(self) -> str:
        return f"{self.total:0{_BITS // 4}x}"


def tables() -> list[Table]:
    """What is copied, in an order that suits foreign keys: everything but who is at work, which nobody is."""
    return [table for table in schema.metadata.sorted_tables if table is not schema.process]


async def copy(
    source: Store, target: Store, *, now_ms: int, progress: Progress = lambda table, rows: None
) -> list[Copied]:
    """Copy every row and compare both sides; the target is as before when anything is wrong. `now_ms` is real time.

    Raises StoreError when a hub is at work on the source, when the target is not empty, when a schema is not of this
    release, and when the two sides differ at the end; StoreUnavailable.
    """
    await _require_schema(source, "the database to copy from", "run `hub db upgrade` first")
    await require_nobody(source)
    await _prepare(target)
    # Reading holds other writers off a SQLite file, and sees one state of a PostgreSQL database.
    async with _unhurried(source, reading=True) as c, _unhurried(target) as into:
        await _require_empty(into)
        # Migrations leave rows here, and the source has the same.
        await into.run("delete from meta")
        copied = [await _copy_table(c, into, table, progress) for table in tables()]
        await require_nobody(source)
        made = {"at": rfc3339(now_ms), "from": source.dialect, "rows": sum(table.rows for table in copied)}
        await into.run("insert into meta (key, value) values (:key, :value)", key=_MARK, value=to_json(made).decode())
    if target.dialect == "postgresql":
        async with target.read() as c:
            for table in tables():
                await c.run(f"analyze {table.name}")
    return copied


@asynccontextmanager
async def _unhurried(store: Store, *, reading: bool = False) -> AsyncIterator[Connection]:
    """A transaction that may take long."""
    async with store.write(limit_s=_LIMIT_S) as c:
        if store.dialect == "postgresql":
            if reading:
                await c.run("set transaction isolation level repeatable read, read only")
            await c.run("set local idle_in_transaction_session_timeout = 0")
        yield c


# -- what must be so ---------------------------------------------------------------------------------------------------


async def require_nobody(store: Store) -> None:
    """Raise StoreError while processes are at work on a PostgreSQL database; a SQLite file is locked by its owner."""
    if store.dialect != "postgresql":
        return
    async with store.read() as c:
        alive = await c.all(
            "select kind, count(*) as n from process where seen_at > "
            "cast(extract(epoch from clock_timestamp()) * 1000 as bigint) - :dead group by kind order by kind",
            dead=DEAD_AFTER_MS,
        )
    if alive:
        who = ", ".join(f"{row['n']} {row['kind']}" for row in alive)
        raise StoreError(
            f"a hub is at work on the database to copy from ({who}); stop all its processes, wait "
            f"{DEAD_AFTER_MS // 1000} seconds if some were killed, and copy again"
        )


async def _require_schema(store: Store, which: str, mend: str) -> None:
    found = await revisions.status(store)
    if found.current != found.needed:
        at = "empty" if found.current is None else f"at revision {found.current}"
        raise StoreError(f"{which} is {at}, and this release copies revision {found.needed}; {mend}")


async def _prepare(target: Store) -> None:
    """Give an empty database the schema. Raises StoreError when it holds something, or has another schema."""
    if (await revisions.status(target)).current is None:
        async with target.read() as c:
            strange = await c.first(
                "select table_name as name from information_schema.tables where table_schema = current_schema() limit 1"
                if target.dialect == "postgresql"
                else "select name from sqlite_master where type = 'table' limit 1"
            )
        if strange:
            raise StoreError(
                f"the target holds tables of something else, such as {strange['name']}; name an empty database"
            )
        await migrate.upgrade(target)
    await _require_schema(target, "the target", "name an empty database, which gets the schema by itself")
    async with target.read() as c:
        await _require_empty(c)


async def _require_empty(c: Connection) -> None:
    mark = await c.first("select value from meta where key = :key", key=_MARK)
    if mark:
        made = from_json(mark["value"])
        raise StoreError(
            f"the target holds a whole copy already: {made['rows']:,} rows of {made['at']}, from {made['from']}; set "
            "HUB_DATABASE_URL to it and start, or name an empty database"
        )
    for table in schema.metadata.sorted_tables:
        if table is not schema.meta and await c.first(f"select 1 as one from {table.name} limit 1"):
            raise StoreError(
                f"the target is not empty: there are rows in {table.name}; name an empty database, or empty this one by "
                "`hub db downgrade --to base` with HUB_DATABASE_URL set to it"
            )


# -- a table -----------------------------------------------------------------------------------------------------------


async def _copy_table(c: Connection, into: Connection, table: Table, progress: Progress) -> Copied:
    columns = [column.name for column in table.columns]
    names = ", ".join(columns)
    insert = f"insert into {table.name} ({names}) values ({', '.join(f':{name}' for name in columns)})"
    here, there = _Sum(), _Sum()
    async for rows in _pages(c, table):
        here.add(rows, columns)
        try:
            await into.many(insert, rows)
        except asyncpg.DataError as error:
            first = [str(rows[0][column.name]) for column in table.primary_key.columns]
            raise StoreError(
                f"PostgreSQL does not take a row of {table.name}, one of the {len(rows)} from {' '.join(first)} on "
                f"({type(error).__name__}); nothing was copied, please report it"
            ) from error
        progress(table.name, here.rows)
    async for rows in _pages(into, table):
        there.add(rows, columns)
    if here != there:
        raise StoreError(
            f"the table {table.name} is not the same in the target: {here.rows} rows with the checksum {here.checksum} "
            f"became {there.rows} with {there.checksum}; nothing was copied, please report it"
        )
    return Copied(table.name, here.rows, here.checksum)


async def _pages(c: Connection, table: Table) -> AsyncIterator[Sequence[Row]]:
    """All rows, a few at a time, by primary key."""
    names = ", ".join(column.name for column in table.columns)
    keys = [column.name for column in table.primary_key.columns]
    order, after = ", ".join(keys), ""
    # Of a source that is itself a copy, the mark is its own.
    kept = f"where key <> '{_MARK}'" if table is schema.meta else ""
    given: Mapping[str, Any] = {}
    while rows := await c.all(
        f"select {names} from {table.name} {kept} {after} order by {order} limit :page_size", page_size=_PAGE, **given
    ):
        yield rows
        after = f"{'and' if kept else 'where'} ({order}) > ({', '.join(f':after_{key}' for key in keys)})"
        given = {f"after_{key}": rows[-1][key] for key in keys}
