"""Connections kept open: a pool for each database. One that is of no use to anybody else afterwards is not kept."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import aiosqlite
import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no types

from hub.store.drivers import Driver, Memory, Postgres, Sqlite

# A connection whose other end is gone is noticed after about ten seconds, idle (s) or in the middle of a word (ms).
_TCP = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
_CLOSE_S = 5.0
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")
# Pages that a pool's connections keep, however large the file: what SQLite adds to the process's memory at most.
_CACHE_KB = {"writer": 65_536, "readers": 32_768}


class Pool(Protocol):
    """Lends connections."""

    def lend(self) -> AbstractAsyncContextManager[Driver]:
        """A connection for the time of the block; waits for one to come back when all are lent."""

    async def close(self) -> None:
        """Close all connections. The pool may be used again."""


class PostgresPool:
    """At most `size` connections to a PostgreSQL server."""

    def __init__(self, url: str, size: int, options: Mapping[str, str]) -> None:
        self._url, self._size, self._options = url, size, options
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Driver]:
        async with (await self._opened()).acquire(timeout=15) as connection:
            driver = Postgres(connection)
            try:
                yield driver
            except (asyncio.CancelledError, TimeoutError):
                driver.give_up()
                raise
            finally:
                if driver.is_spoilt:
                    driver.give_up()

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    # What a session was told it keeps; one left inside a transaction does not come back.
                    reset=_leave,
                    init=_notice_dead_ends,
                    timeout=5,
                    server_settings=dict(self._options),
                    statement_cache_size=500,
                )
            return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await pool.close()
            except TimeoutError:
                # A server that is silent does not say goodbye either.
                pool.terminate()


async def _leave(connection: asyncpg.Connection) -> None:
    """Nothing to reset: every statement of ours leaves the session as it was."""


async def _notice_dead_ends(connection: asyncpg.Connection) -> None:
    """Let the system close the connection when its server vanished without a word: a cut cable, a lost machine."""
    # asyncpg shows its socket nowhere else.
    end = connection._transport.get_extra_info("socket")
    if end is None or end.family == socket.AF_UNIX:
        return
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP.items():
        if hasattr(socket, name):  # not every system has them all
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class MemoryPool:
    """The one connection to a SQLite database in memory, which is that database."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(1)
        self._connection: sqlite3.Connection | None = None

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Driver]:
        async with self._room:
            if self._connection is None:
                self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=1000)
                self._connection.execute("PRAGMA foreign_keys=ON")
            yield Memory(self._connection)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqlitePool:
    """At most `size` connections to a SQLite file: the one that writes, or several that read."""

    def __init__(self, file: str, size: int) -> None:
        self._file, self._room = file, asyncio.Semaphore(size)
        self._cache_kb = _CACHE_KB["readers" if size > 1 else "writer"] // size
        self._idle: list[aiosqlite.Connection] = []

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Driver]:
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                yield Sqlite(connection)
            finally:
                self._idle.append(connection)

    async def _open(self) -> aiosqlite.Connection:
        # The driver's own BEGIN is deferred, which fails under two writers; ours is explicit.
        connection = await aiosqlite.connect(self._file, timeout=10, isolation_level=None)
        try:
            for pragma in (*_PRAGMAS, f"cache_size=-{self._cache_kb}"):
                await connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            # Its thread would keep the process from ending.
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()
