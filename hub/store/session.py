"""One store, two databases: pools, transactions, and the few places where SQL differs.

Hot statements take a whole group as one JSON parameter, so that a group costs as many round trips as a single row.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no types
from pydantic_core import to_json

from hub.errors import StoreError, StoreUnavailable
from hub.store.drivers import Driver
from hub.store.drivers import Row as Row
from hub.store.pools import MemoryPool, Pool, PostgresPool, SqlitePool


def _pg_options(lease_s: float) -> dict[str, str]:
    return {
        "application_name": "tetik-hub",
        # A process that hangs inside a transaction must not hold its locks for as long as its leases.
        "idle_in_transaction_session_timeout": str(int(lease_s * 500)),
        "lock_timeout": "10000",
        "statement_timeout": "60000",
        "jit": "off",
        # Plans are made while tables are small and kept while they grow: reading a whole table must never look cheap
        # (docs/decisions/0012-plans-and-releases.md).
        "enable_seqscan": "off",
    }


# The longest that anybody waits for one transaction, its connection and its turn included; longer than a lock's 10 s, so
# that the database's own word comes first, and short enough for a lease to be renewed twice.
LIMIT_S = 12.0


def _address(url: str) -> tuple[str, str, str | None]:
    """A database's dialect, its address as drivers want it, and its file where it is one.

    Raises StoreError for what is no database's address; it may hold a password, so it is not repeated.
    """
    scheme, _, rest = url.partition("://")
    dialect = scheme.partition("+")[0]
    if dialect == "sqlite" and (not rest or rest.startswith("/")):
        file = rest.partition("?")[0][1:]
        return dialect, f"sqlite://{rest}", None if file in {"", ":memory:"} else file
    if dialect == "postgresql":
        # A port that is no number raises here, and not when somebody connects.
        with suppress(ValueError):
            _ = urlsplit(f"{dialect}://{rest}").port
            return dialect, f"{dialect}://{rest}", None
    elif rest and dialect.isidentifier() and dialect != "sqlite":
        raise StoreError(f"the database {dialect} is not supported; use sqlite:///FILE or postgresql://…")
    raise StoreError(
        "the address of the database cannot be read; write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    )


class Store:
    """The database. `dialect` is `sqlite` or `postgresql`. Make it with `open_store`, close it at the end."""

    def __init__(self, url: str, *, pool: int = 6, lease_s: float = 30.0) -> None:
        self.dialect, self.url, self.file = _address(url)
        # How identities of people who were erased are recognised: `hub.pepper` sets it.
        self.hashed: Callable[[str, str], str] | None = None
        self._writer: Pool
        self._reader: Pool
        if self.dialect == "sqlite":
            # A database in memory lives in its one connection, so readers share it.
            self._writer = SqlitePool(self.file, 1) if self.file else MemoryPool()
            self._reader = SqlitePool(self.file, 4) if self.file else self._writer
            # Who is not urgent waits for the first one and then for the second: of these only one at a time is ever in the
            # way of those who are urgent.
            self._queue, self._turn = asyncio.Lock(), asyncio.Lock()
        else:
            self._writer = self._reader = PostgresPool(self.url, pool, _pg_options(lease_s))

    @property
    def in_memory(self) -> bool:
        """Whether this is a database that lives in memory only: rehearsals and tests."""
        return self.dialect == "sqlite" and not self.file

    @asynccontextmanager
    async def write(self, *, urgent: bool = False, limit_s: float = LIMIT_S) -> AsyncIterator[Connection]:
        """One write transaction, committed at the end. Raises StoreUnavailable when it cannot be, or not within the limit.

        On SQLite, which has one writer, `urgent` ones wait for two others at most, however many are queued.
        """
        async with (
            guard(),
            asyncio.timeout(limit_s),
            self._in_turn(urgent),
            self._writer.lend() as driver,
            driver.transaction(),
        ):
            yield Connection(driver, self.dialect, self.hashed)

    @asynccontextmanager
    async def _in_turn(self, urgent: bool) -> AsyncIterator[None]:
        if self.dialect == "postgresql":
            yield
        else:
            async with nullcontext() if urgent else self._queue, self._turn:
                yield

    @asynccontextmanager
    async def read(self, *, limit_s: float = LIMIT_S) -> AsyncIterator[Connection]:
        """Reads, each statement for itself. Raises StoreUnavailable when the database cannot be reached."""
        if self.in_memory:
            async with self.write(limit_s=limit_s) as connection:
                yield connection
        else:
            async with guard(), asyncio.timeout(limit_s), self._reader.lend() as driver:
                yield Connection(driver, self.dialect, self.hashed)

    async def close(self) -> None:
        """Close all connections."""
        await self._writer.close()
        await self._reader.close()


@dataclass(frozen=True)
class Change:
    """A statement on a group of rows, as for `Connection.group`."""

    statement: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


class Connection:
    """A connection in hand: executes statements of this package. Rows come back as mappings.

    `hashed` names an identity (kind, value) as those of erased people are kept; None where nobody can recognise them.
    """

    def __init__(self, driver: Driver, dialect: str, hashed: Callable[[str, str], str] | None = None) -> None:
        self.driver, self.dialect, self.hashed = driver, dialect, hashed

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
        row per mapping; the first column is never null. `{match t.a x}` says `t.a = r.x`. `parameters` are the same for
        all. Returns what the statement returns.

        Tables that are empty at times (`work`, `waiter`) are looked up by `in (select x from {rows})` or `{match}`, never
        joined by `=`: what PostgreSQL takes for empty it would rather read than look up, for as long as it keeps the plan.
        """
        given = list(rows)
        if not given:
            return []
        whole, listed = _written_out(statement, self.dialect, tuple(columns.items()), "")
        return await self.driver.rows(whole, {**_given(given, listed, ""), **parameters})

    async def together(self, *changes: Change) -> Sequence[Row]:
        """Execute several changes as one: none of them sees what another does, and no two touch the same row.

        Returns what the last one returns, which may be a select. On PostgreSQL it is one round trip.
        """
        wanted = [change for change in changes if change.rows]
        if self.dialect == "postgresql" and wanted:
            parts = tuple((change.statement, tuple(change.columns.items())) for change in wanted)
            whole, listed = _as_one(parts)
            given = [_given(change.rows, listed[n], f"_{n}") for n, change in enumerate(wanted)]
            return await self.driver.rows(whole, {name: value for one in given for name, value in one.items()})
        returned: Sequence[Row] = []
        for change in wanted:
            returned = await self.group(change.statement, change.columns, change.rows)
        return returned

    @property
    def within_a_second(self) -> str:
        """A random number of milliseconds below a thousand: spreads what becomes due together."""
        return "cast(random() * 999 as bigint)" if self.dialect == "postgresql" else "abs(random() % 1000)"

    def listed(self, column: str) -> str:
        """All values of a column as one text, with spaces between them."""
        return f"{'string_agg' if self.dialect == 'postgresql' else 'group_concat'}({column}, ' ')"

    @property
    def for_update(self) -> str:
        """What locks rows until the end of the transaction; SQLite's single writer has them locked already."""
        return "for update" if self.dialect == "postgresql" else ""

    @property
    def skip_locked(self) -> str:
        """What locks rows and passes over those that somebody else has locked."""
        return "for update skip locked" if self.dialect == "postgresql" else ""


_Columns = tuple[tuple[str, str], ...]
_AMONG = re.compile(r"\bin \(select (\w+) from \{rows\}\)")
_MATCH = re.compile(r"\{match ([\w.]+) (\w+)\}")


def _given(rows: Sequence[Mapping[str, Any]], listed: Sequence[str], suffix: str) -> dict[str, Any]:
    """A group as parameters: whole, and the columns that are wanted as lists."""
    lists = {f"each_{name}{suffix}": [row[name] for row in rows] for name in listed}
    return {f"rows{suffix}": to_json(rows).decode(), **lists}


@cache
def _as_one(changes: tuple[tuple[str, _Columns], ...]) -> tuple[str, list[tuple[str, ...]]]:
    """PostgreSQL's way to execute several changes at once: all but the last stand before it as `with`.

    The second answer is what each change takes as lists.
    """
    parts = [_written_out(text, "postgresql", columns, f"_{n}") for n, (text, columns) in enumerate(changes)]
    before = ", ".join(f"c{n} as ({part})" for n, (part, _) in enumerate(parts[:-1]))
    return (f"with {before} {parts[-1][0]}" if before else parts[-1][0]), [listed for _, listed in parts]


@cache
def _written_out(statement: str, dialect: str, columns: _Columns, suffix: str) -> tuple[str, tuple[str, ...]]:
    """A group's statement in a dialect's own words, and the columns that it takes as lists too.

    A list is a bound that no planner can miss: an index looks its values up, and nothing else of the table is read. The
    empty text keeps the equality beside it from being a way into the table.
    """
    listed: tuple[str, ...] = ()
    if dialect == "postgresql":
        statement = _MATCH.sub(r"\1 in (select \2 from {rows}) and \1 || '' = r.\2", statement)
        listed = tuple(dict.fromkeys(_AMONG.findall(statement)))
        statement = _AMONG.sub(rf"= any(cast(:each_\1{suffix} as text[]))", statement)
    else:
        statement = _MATCH.sub(r"\1 = r.\2", statement)
    return statement.replace("{rows}", _relation(dialect, columns, f"rows{suffix}")), listed


def _relation(dialect: str, columns: _Columns, parameter: str) -> str:
    if dialect == "postgresql":
        typed, first = ", ".join(f"{name} {kind}" for name, kind in columns), f"given.{columns[0][0]}::text"
        # The planner takes such a relation for a hundred rows, and then reads whole tables to join them with it. Behind
        # a test that it knows nothing about it expects a single row, and looks the others up by key, however many there
        # are.
        return (
            f"(select * from jsonb_to_recordset(cast(:{parameter} as jsonb)) as given({typed}) "
            f"where {first} || '' = {first}) as r"
        )
    picked = ", ".join(f"value ->> '{name}' as {name}" for name, _ in columns)
    return f"(select {picked} from json_each(:{parameter})) as r"


def _cause(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return "there is no host of its name"
        case ConnectionRefusedError():
            return "nothing listens at its address"
        case _:
            return type(error).__name__


@asynccontextmanager
async def guard() -> AsyncIterator[None]:
    """Tell "the database cannot be used now" from every other error."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the database cannot be reached: {_cause(error)}") from error
    except (asyncpg.PostgresError, sqlite3.Error) as error:
        if _is_outage(error):
            raise StoreUnavailable(f"the database cannot be used now: {_reason(error)}") from error
        raise
    except asyncpg.InternalClientError as error:
        # asyncpg is confused about a connection that ended under it: whether it was closed before or after a commit is open.
        raise StoreUnavailable("the connection to the database was lost") from error
    except asyncpg.InterfaceError as error:
        if "closed" in str(error):
            raise StoreUnavailable("the connection to the database was lost") from error
        raise


# SQLSTATE classes and codes of PostgreSQL that mean "not now": connection, resources, time limit, operator, read-only,
# system error, and a transaction that was ended in favour of another one.
_OUTAGE_STATES = ("08", "53", "57014", "57P", "25006", "58", "55P03", "25P03", "40")
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
