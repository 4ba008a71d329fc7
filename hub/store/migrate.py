"""The schema's versions: what the database has, what this release needs, and the way from one to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from hub.errors import StoreError
from hub.store.migrations.rolling import KEY
from hub.store.schema import metadata
from hub.store.session import Store, guard

_SCRIPTS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class SchemaStatus:
    """`current` is the database's revision (None: empty), `needed` this release's, `behind` the revisions between.

    During a rolling deploy `current` may be one of the next release, which serves this one.
    """

    current: str | None
    needed: str
    behind: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether this release can run on the database."""
        return not self.behind


async def status(store: Store) -> SchemaStatus:
    """Where the database stands. Raises StoreUnavailable; StoreError when it no longer serves this release."""
    async with guard(), connected(store) as connection:
        current = await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())
    scripts = ScriptDirectory.from_config(_config())
    known = [s.revision for s in reversed(list(scripts.walk_revisions()))]
    if current is not None and current not in known:
        async with store.read() as c:
            word = await c.first("select value from meta where key = :key", key=KEY)
        serves = word["value"] if word else current
        if serves not in known:
            raise StoreError(
                f"the database is at revision {current}, which serves releases from revision {serves} on; this one knows "
                f"{known[-1]} at most: upgrade tetik-hub"
            )
        return SchemaStatus(current, known[-1], ())
    behind = known[known.index(current) + 1 :] if current else known
    return SchemaStatus(current, known[-1], tuple(behind))


async def require_ready(store: Store) -> None:
    """Raise StoreError, naming the command that mends it, unless the schema is what this release needs."""
    found = await status(store)
    if not found.ready:
        raise StoreError(
            f"the database is {'empty' if found.current is None else f'at revision {found.current}'} and this release "
            f"needs {found.needed}; run `hub db upgrade`"
        )


async def require_ready_or_memory(store: Store) -> None:
    """As `require_ready`; a database in memory has no revisions and is always of this release."""
    if not store.in_memory:
        await require_ready(store)


async def upgrade(store: Store, revision: str = "head") -> None:
    """Bring the schema to `revision`. Raises StoreError when there is no way to it."""
    await _run(store, lambda config: command.upgrade(config, revision))


async def downgrade(store: Store, revision: str = "base") -> None:
    """Take the schema back to `revision`; `base` removes every table. Raises StoreError when there is no way to it."""
    await _run(store, lambda config: command.downgrade(config, revision))


async def create_in_memory(store: Store) -> None:
    """The newest schema at once, for databases that live in memory and have no past."""
    async with store.write() as c:
        for table in metadata.sorted_tables:
            made: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
            for element in made:
                await c.run(str(element.compile(dialect=sqlite.dialect())))


async def _run(store: Store, act: Any) -> None:
    def run(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        act(config)

    try:
        async with guard(), connected(store) as connection, connection.begin():
            await connection.run_sync(run)
    except CommandError as error:
        raise StoreError(f"the schema stays as it is: {error}") from error


@asynccontextmanager
async def connected(store: Store) -> AsyncIterator[AsyncConnection]:
    """A connection as Alembic wants it, of its own: migrations do not come through the pools."""
    driver = "sqlite+aiosqlite" if store.dialect == "sqlite" else "postgresql+asyncpg"
    engine = create_async_engine(store.url.set(drivername=driver), poolclass=NullPool)
    if store.dialect == "sqlite":
        # Python's driver commits before it changes a table; a migration is whole or not at all.
        event.listen(engine.sync_engine, "connect", lambda c, _: setattr(c, "isolation_level", None))
        event.listen(engine.sync_engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        async with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        await engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config
