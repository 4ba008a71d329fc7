"""Whether a database is sound: the file, the schema with its indexes and constraints, and what must always be true of the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Dialect
from sqlalchemy.schema import CreateIndex

from hub.errors import StoreError
from hub.store import invariants, migrate, pulse, revisions, schema
from hub.store.invariants import Finding
from hub.store.session import Connection, Store

# A look at everything takes as long as it takes.
_LIMIT_S = 24 * 3600.0
# What is late is no defect of the database: nobody needs to be at work. `hub doctor` tells.
_LATE = frozenset({"work_overdue", "event_unrouted"})
_BACKUP = "stop the hub and go back to the last backup (docs/operating.md)"


async def check(store: Store, *, lease_ms: int, progress: Callable[[str], None] = lambda step: None) -> list[Finding]:
    """Everything that is not as it must be; what a finding makes pointless is left out. `progress` is told what it is at.

    Raises StoreUnavailable when the database cannot be looked at.
    """
    try:
        progress("1 of 3: the database itself")
        async with store.read(limit_s=_LIMIT_S) as c, pulse.bounded(c, int(_LIMIT_S * 1000)):
            damage = [finding async for finding in (_file(c) if store.dialect == "sqlite" else _server(c))]
            if any(finding.kind == "file_damaged" for finding in damage):
                return damage
        progress("2 of 3: the schema and its indexes")
        if behind := await _schema(store):
            return [*damage, *behind]
        progress("3 of 3: what must be true of the rows")
        async with store.read(limit_s=_LIMIT_S) as c, pulse.bounded(c, int(_LIMIT_S * 1000)):
            wrong = await invariants.lasting(c, lease_ms=lease_ms)
    except sqlite3.DatabaseError as error:
        return [_damaged(str(error))]
    return [*damage, *(finding for finding in wrong if finding.kind not in _LATE)]


# -- the database itself -----------------------------------------------------------------------------------------------


def _damaged(*what: str) -> Finding:
    return Finding(
        "file_damaged",
        what,
        f"the database file is damaged: {'; '.join(what)}",
        f"{_BACKUP}; `sqlite3 FILE .recover` saves what can be read of this one",
    )


async def _file(c: Connection) -> AsyncIterator[Finding]:
    said = [str(row["quick_check"]) for row in await c.all("pragma quick_check(10)")]
    if said != ["ok"]:
        yield _damaged(*said)
        return
    strays = [f"{row['table']} {row['rowid']}" for row in await c.all("pragma foreign_key_check")]
    if strays:
        yield _stray(strays)


def _stray(rows: Sequence[str]) -> Finding:
    return Finding(
        "row_without_owner",
        tuple(rows),
        f"rows refer to what is not there: {', '.join(rows[:5])}",
        "add what is missing again, or remove the rows; please report it",
    )


async def _server(c: Connection) -> AsyncIterator[Finding]:
    failed = await c.first(
        "select coalesce(checksum_failures, 0) as n from pg_stat_database where datname = current_database()"
    )
    if failed and failed["n"]:
        yield Finding(
            "pages_damaged",
            (str(failed["n"]),),
            f"PostgreSQL read {failed['n']} pages whose checksum was wrong",
            f"look at the server's disks and its log; {_BACKUP}",
        )
    broken = await c.all(
        "select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = current_schema() "
        "and not (i.indisvalid and i.indisready) order by c.relname"
    )
    for row in broken:
        yield Finding(
            "index_invalid",
            (row["name"],),
            f"the index {row['name']} is not used: it was not made to its end",
            f"in the database: reindex index {row['name']}",
        )
    strays = await c.all(
        "select id from connection where app_id is not null and not exists (select 1 from app where app.id = app_id) limit 100"
    )
    if strays:
        yield _stray([f"connection {row['id']}" for row in strays])


# -- the schema --------------------------------------------------------------------------------------------------------


async def _schema(store: Store) -> list[Finding]:
    """What the schema lacks, compared with the tables of this release. Anything more than that is the operator's own."""
    try:
        found = await revisions.status(store)
    except StoreError as error:
        return [Finding("schema_newer", (), str(error), "upgrade tetik-hub")]
    if not found.ready:
        current = found.current or "empty"
        message = f"the schema is {current}, this release needs {found.needed}"
        return [Finding("schema_behind", found.behind, message, "hub db upgrade")]
    if found.current != found.needed:
        # Of a later release, which this one does not know in full.
        return []
    async with migrate.connected(store) as connection:
        dialect = connection.dialect
        differences = await connection.run_sync(
            lambda c: compare_metadata(MigrationContext.configure(c), schema.metadata)
        )
    return list(_lacking(differences, dialect))


def _lacking(differences: Sequence[Any], dialect: Dialect) -> Iterator[Finding]:
    """Alembic's differences as findings: tuples that begin with what to do, or lists of such for one column."""
    for one in differences:
        what, *about = one[0] if isinstance(one, list) else one
        if what == "add_index":
            index = about[0]
            written = CreateIndex(index).compile(dialect=dialect)
            yield Finding(
                "index_missing",
                (index.name,),
                f"the index {index.name} of {index.table.name} is missing: what needs it reads the whole table",
                f"in the database: {' '.join(str(written).split())}",
            )
        elif what == "add_constraint":
            constraint = about[0]
            yield _differs(
                f"the constraint {constraint.name} of {constraint.table.name} is missing", str(constraint.name)
            )
        elif what == "add_table":
            yield _differs(f"the table {about[0].name} is missing", about[0].name)
        elif what == "add_column":
            yield _differs(f"the column {about[2].name} of {about[1]} is missing", f"{about[1]}.{about[2].name}")
        elif what.startswith("modify_"):
            yield _differs(
                f"the column {about[2]} of {about[1]} is not as it was made ({what[7:]})", f"{about[1]}.{about[2]}"
            )


def _differs(message: str, ref: str) -> Finding:
    return Finding("schema_differs", (ref,), message, _BACKUP)
