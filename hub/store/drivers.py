"""The two database drivers, spoken to directly: statements with named parameters go in, plain rows come out.

Neither they nor the pools of `hub.store.pools` go through SQLAlchemy: that costs three times the processor time and, on
SQLite, four times the changes of thread (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cache
from typing import Any, Protocol

import aiosqlite
import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no types

Row = Mapping[str, Any]
"""One row, by column name."""

# As in SQLAlchemy's text(): `:name`, but not a cast (`::text`).
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)(?!:)")


class Driver(Protocol):
    """One connection, in the hands of one task."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Commit at the end, or roll back after an error."""

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Execute; returns every row, none for a statement that returns no rows."""

    async def run(self, statement: str, parameters: Mapping[str, Any]) -> int:
        """Execute; returns the number of rows changed."""

    async def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row, in one go."""

    def give_up(self) -> None:
        """The caller was cut short and does not know what the database is doing: never wait for this connection again."""

    @property
    def is_spoilt(self) -> bool:
        """Whether the connection is of no use to anybody else: closed, or left inside a transaction."""


class Postgres:
    """asyncpg's connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        transaction = self._connection.transaction()
        try:
            await transaction.start()
            try:
                yield
            except (asyncio.CancelledError, TimeoutError):
                raise
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
        except (asyncio.CancelledError, TimeoutError):
            # A rollback would wait for the same silent server; it rolls back by itself when the connection is gone.
            self.give_up()
            raise

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        numbered, names = _numbered(statement)
        return [dict(row) for row in await self._connection.fetch(numbered, *(parameters[name] for name in names))]

    async def run(self, statement: str, parameters: Mapping[str, Any]) -> int:
        numbered, names = _numbered(statement)
        done: str = await self._connection.execute(numbered, *(parameters[name] for name in names))
        # The server's word on it, such as `UPDATE 3`, `INSERT 0 3` or `SET`.
        count = done.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        numbered, names = _numbered(statement)
        await self._connection.executemany(numbered, [[row[name] for name in names] for row in rows])

    # A connection that ended is its pool's again, and answers every question with an error. That error would take the place
    # of the one on its way: whoever was cancelled would seem not to be, and go on.

    def give_up(self) -> None:
        with suppress(asyncpg.InterfaceError):
            self._connection.terminate()

    @property
    def is_spoilt(self) -> bool:
        try:
            return bool(self._connection.is_closed() or self._connection.is_in_transaction())
        except asyncpg.InterfaceError:
            return True


class Sqlite:
    """aiosqlite's connection; every call to it is a change of thread, so there is one per statement."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        connection.row_factory = sqlite3.Row

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            # The driver's own BEGIN is deferred, which fails under two writers.
            await self._connection.execute("BEGIN IMMEDIATE")
            yield
        except BaseException:
            # Also after a BEGIN that was cancelled: it runs to its end in the connection's thread, before this.
            await self._connection.rollback()
            raise
        await self._connection.commit()

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        found = await self._connection.execute_fetchall(statement, parameters)
        return [dict(row) for row in found]

    async def run(self, statement: str, parameters: Mapping[str, Any]) -> int:
        cursor = await self._connection.execute(statement, parameters)
        return int(cursor.rowcount)

    async def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._connection.executemany(statement, rows)

    def give_up(self) -> None:
        """Nothing: what the connection's thread has begun it ends, and the rollback waits for that."""

    @property
    def is_spoilt(self) -> bool:
        return False


class Memory:
    """A SQLite database in memory, asked on the spot: its answers take less time than a change of thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.row_factory = sqlite3.Row

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        return [dict(row) for row in self._connection.execute(statement, parameters).fetchall()]

    async def run(self, statement: str, parameters: Mapping[str, Any]) -> int:
        return int(self._connection.execute(statement, parameters).rowcount)

    async def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._connection.executemany(statement, rows)

    def give_up(self) -> None:
        """Nothing: no statement is ever on its way."""

    @property
    def is_spoilt(self) -> bool:
        return False


@cache
def _numbered(statement: str) -> tuple[str, list[str]]:
    """A statement with `$1` for its first parameter, and so on, as PostgreSQL wants it; and their names in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        name = found[1]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, statement), names
