"""The way of a database from one version of the schema to another. Slow to import: only who changes a schema does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from hub.errors import StoreError
from hub.store.schema import metadata
from hub.store.session import Store, guard

_SCRIPTS = Path(__file__).parent / "migrations"


async def upgrade(store: Store, revision: str = "head", *, progress: Callable[[str], None] = lambda step: None) -> None:
    """Bring the schema to `revision`; `progress` is told each that was reached. Raises StoreError when there is no way to it."""

    def reached(*, step: Any, **_: Any) -> None:
        progress(f"the schema is at {step.up_revision_id}")

    await _run(store, lambda config: command.upgrade(config, revision), reached)


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


async def _run(store: Store, act: Any, reached: Callable[..., None] = lambda **_: None) -> None:
    def run(connection: Connection) -> None:
        config = _config()
        config.attributes["reached"] = reached
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
    engine = create_async_engine(make_url(store.url).set(drivername=driver), poolclass=NullPool)
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
