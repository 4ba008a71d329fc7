"""One store, two databases: pools, transactions, and the few places where SQL differs.

Hot statements take a whole group as one JSON parameter, so that a group costs as many round trips as a single row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no types
from pydantic_core import to_json
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hub.errors import StoreError, StoreUnavailable
from hub.store.drivers import Driver, Postgres, Sqlite
from hub.store.drivers import Row as Row

_PG_OPTIONS = {
    # A worker that hangs inside a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "15000",
    "lock_timeout": "10000",
    "statement_timeout": "60000",
    "jit": "off",
}


class Store:
    """The database. `dialect` is `sqlite` or `postgresql`. Make it with `open_store`, close it at the end."""

    def __init__(self, url: str, *, pool: int = 6) -> None:
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        self.file: str | None = None
        if self.dialect == "sqlite":
            self.file = None if parsed.database in {None, "", ":memory:"} else parsed.database
            self._writer = _sqlite_engine(self.file, size=1, begin="BEGIN IMMEDIATE")
            # A database in memory lives in its one connection, so readers share it.
            self._reader = self._writer if self.in_memory else _sqlite_engine(self.file, size=4, begin="BEGIN")
            self._lock: asyncio.Lock | None = asyncio.Lock()
        elif self.dialect == "postgresql":
            self._writer = self._reader = create_async_engine(
                parsed.set(drivername="postgresql+asyncpg"),
                pool_size=pool,
                max_overflow=0,
                pool_timeout=15,
                pool_pre_ping=False,
                # A connection left inside a transaction is thrown away instead (see `_in_hand`).
                pool_reset_on_return=None,
                connect_args={"server_settings": _PG_OPTIONS, "timeout": 5, "statement_cache_size": 500},
            )
            self._lock = None
        else:
            raise StoreError(f"the database {parsed.drivername} is not supported; use sqlite:///FILE or postgresql://…")

    @property
    def in_memory(self) -> bool:
        """Whether this is a database that lives in memory only: rehearsals and tests."""
        return self.dialect == "sqlite" and not self.file

    @property
    def writer(self) -> AsyncEngine:
        """The engine that writes: migrations need it."""
        return self._writer

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """One write transaction, committed at the end. Raises StoreUnavailable when the database cannot be written."""
        async with (
            self._lock or nullcontext(),
            _guard(),
            self._in_hand(self._writer) as connection,
            connection.driver.transaction(),
        ):
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """Reads, each statement for itself. Raises StoreUnavailable when the database cannot be reached."""
        if self.in_memory:
            async with self.write() as connection:
                yield connection
        else:
            async with _guard(), self._in_hand(self._reader) as connection:
                yield connection

    @asynccontextmanager
    async def _in_hand(self, engine: AsyncEngine) -> AsyncIterator[Connection]:
        """A connection out of a pool; one that is closed or not clean afterwards does not go back."""
        async with engine.connect() as raw:
            inner = raw.sync_connection.connection.driver_connection  # type: ignore[union-attr]  # it is connected
            driver: Driver = Postgres(inner) if self.dialect == "postgresql" else Sqlite(inner)  # type: ignore[arg-type]
            try:
                yield Connection(raw, driver, self.dialect)
            finally:
                if driver.is_spoilt:
                    await raw.invalidate()

    async def close(self) -> None:
        """Close all connections."""
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()


class Connection:
    """A connection in hand: executes statements of this package. Rows come back as mappings."""

    def __init__(self, raw: AsyncConnection, driver: Driver, dialect: str) -> None:
        self.raw, self.driver, self.dialect = raw, driver, dialect

    async def all(self, statement: str, **parameters: Any) -> Sequence[Row]:
        """Every row."""
        return await self.driver.rows(statement, parameters)

    async def first(self, statement: str, **parameters: Any) -> Row | None:
        """The first row, or None."""
        return next(iter(await self.driver.rows(statement, parameters)), None)

    async def run(self, statement: str, **parameters: Any) -> int:
        """Execute; returns the number of rows changed."""
        return await self.driver.run(statement, parameters)

    async def many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row, in one go."""
        if rows:
            await self.driver.many(statement, rows)

    async def group(
        self, statement: str, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], **parameters: Any
    ) -> Sequence[Row]:
        """Execute once for a whole group.

        `{rows}` in the statement stands for a relation `r` with `columns` (name to `text`, `bigint` or `boolean`), one
        row per mapping; `parameters` are the same for all. Returns what the statement returns.
        """
        given = [{name: row.get(name) for name in columns} for row in rows]
        if not given:
            return []
        whole = statement.replace("{rows}", _relation(self.dialect, tuple(columns.items())))
        return await self.driver.rows(whole, {"rows": to_json(given).decode(), **parameters})

    @property
    def within_a_second(self) -> str:
        """A random number of milliseconds below a thousand: spreads what becomes due together."""
        return "cast(random() * 999 as bigint)" if self.dialect == "postgresql" else "abs(random() % 1000)"

    @property
    def for_update(self) -> str:
        """What locks rows until the end of the transaction; SQLite's single writer has them locked already."""
        return "for update" if self.dialect == "postgresql" else ""

    @property
    def skip_locked(self) -> str:
        """What locks rows and passes over those that somebody else has locked."""
        return "for update skip locked" if self.dialect == "postgresql" else ""


@cache
def _relation(dialect: str, columns: tuple[tuple[str, str], ...]) -> str:
    if dialect == "postgresql":
        typed = ", ".join(f"{name} {kind}" for name, kind in columns)
        return f"jsonb_to_recordset(cast(:rows as jsonb)) as r({typed})"
    picked = ", ".join(f"value ->> '{name}' as {name}" for name, _ in columns)
    return f"(select {picked} from json_each(:rows)) as r"


def _sqlite_engine(file: str | None, *, size: int, begin: str) -> AsyncEngine:
    if file:
        sizes: dict[str, Any] = {"pool_size": size, "max_overflow": 0, "pool_timeout": 30, "pool_reset_on_return": None}
        engine = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args={"timeout": 10}, **sizes)
    else:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:")

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(dbapi_connection: Any, _: object) -> None:
        # The driver's own BEGIN is deferred, which fails under two writers; ours is explicit (see below).
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=10000",
            "cache_size=-65536",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_explicitly(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


@asynccontextmanager
async def _guard() -> AsyncIterator[None]:
    """Tell "the database cannot be used now" from every other error."""
    try:
        yield
    except (OSError, PoolTimeout) as error:
        raise StoreUnavailable(f"the database cannot be reached: {type(error).__name__}") from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_outage(error.orig):
            raise StoreUnavailable(f"the database cannot be used now: {_reason(error.orig)}") from error
        raise
    except (asyncpg.PostgresError, sqlite3.Error) as error:
        if _is_outage(error):
            raise StoreUnavailable(f"the database cannot be used now: {_reason(error)}") from error
        raise
    except (SQLAlchemyError, asyncpg.InterfaceError) as error:
        if "closed" in str(error):
            raise StoreUnavailable("the connection to the database was lost") from error
        raise


# SQLSTATE classes and codes of PostgreSQL that mean "not now": connection, resources, operator, read-only, system error.
_OUTAGE_STATES = ("08", "53", "57P", "25006", "58", "55P03", "25P03")
_SQLITE_OUTAGES = ("readonly", "locked", "disk", "unable to open", "i/o error", "full")


def _refuse_other_files(error: BaseException | None) -> None:
    if "file is not a database" in str(error):
        raise StoreError("the database file is not a SQLite database; name another one in HUB_DATABASE_URL") from None


def _is_outage(error: BaseException | None) -> bool:
    _refuse_other_files(error)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state:
        return str(state).startswith(_OUTAGE_STATES)
    text_ = str(error).lower()
    return isinstance(error, sqlite3.OperationalError) and any(word in text_ for word in _SQLITE_OUTAGES)


def _reason(error: BaseException | None) -> str:
    # Drivers' messages may repeat parameters; the first line of a server's own message does not.
    return str(error).split("\n")[0][:200]
