"""The way from a command into the hub: settings, the event loop, the store, the services."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hub.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from hub.clock import Clock
    from hub.process import Hub
    from hub.settings import Settings
    from hub.store.session import Connection, Store

T = TypeVar("T")

API_KEY_FILE = "api-key"
KEY_VARIABLE = "HUB_API_KEY"
# Where an embedded hub says how it can be reached while it runs.
RUNNING_FILE = "running.json"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (read, not listened on)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Enter the event loop: the one place of the command line that does."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def current_settings() -> Settings:
    """The settings, with the address of the embedded hub that runs on the data directory, if one does."""
    from hub.settings import load_settings

    settings = load_settings()
    if not settings.embedded:
        return settings
    known: dict[str, str | int | None] = {"sandbox_url": settings.sandbox_url or _url(settings.host, settings.port + 1)}
    file = settings.data_dir / RUNNING_FILE
    if file.exists():
        known |= json.loads(file.read_text())
    return settings.model_copy(update=known)


# Read by the command line alone, or by what it starts.
_OTHER_VARIABLES = ("HUB_DEBUG", KEY_VARIABLE)


def unknown_variables() -> list[str]:
    """A sentence for each HUB_… variable, of the environment or of `.env`, that means nothing; with the nearest right name."""
    from dotenv import dotenv_values

    from hub.catalogue import nearest
    from hub.settings import Settings

    known = [*(f"HUB_{name.upper()}" for name in Settings.model_fields), *_OTHER_VARIABLES]
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    # Those of the tests are none of the hub's.
    strange = sorted(
        name for name in given - set(known) if name.startswith("HUB_") and not name.startswith("HUB_TEST_")
    )
    return [f"{name} is set, and there is no such setting{nearest(name, known)}" for name in strange]


def local_url(settings: Settings) -> str:
    """The address at which this machine reaches the hub."""
    return _url(settings.host, settings.port)


def _url(host: str, port: int) -> str:
    host = _ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def api_key(settings: Settings) -> str:
    """This machine's API key: of the environment, else the one that the embedded hub left in its data directory.

    Raises ConfigError when there is none.
    """
    file = settings.data_dir / API_KEY_FILE
    if key := os.environ.get(KEY_VARIABLE):
        return key
    if database_file(settings) is not None and file.exists():
        return file.read_text().strip()
    raise ConfigError(
        f"no API key: there is no file {file}; start `hub up`, which makes one, or set {KEY_VARIABLE} to a key made "
        "with `hub api-keys create`"
    )


def database_file(settings: Settings) -> Path | None:
    """The SQLite file, or None when the database is a server."""
    return Path(settings.store_url().removeprefix("sqlite:///")) if settings.embedded else None


def require_database(settings: Settings) -> None:
    """Raise StoreError when there is no SQLite file yet: a command that reads must not make an empty one."""
    file = database_file(settings)
    if file is not None and not file.exists():
        raise StoreError(f"there is no database at {file} yet; run `hub up` first, or set HUB_DATA_DIR to where it is")


@asynccontextmanager
async def bare_store(settings: Settings, *, pool: int = 1) -> AsyncIterator[Store]:
    """The store, whatever its schema. Made here and not by `hub.process`, which takes a second to import."""
    from hub.store.session import Store

    store = Store(settings.store_url(), pool=pool)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_existing_store() -> AsyncIterator[Store]:
    """The store of a hub that was started before. Raises StoreError, StoreUnavailable."""
    from hub.store import revisions

    settings = current_settings()
    require_database(settings)
    async with bare_store(settings) as store:
        await revisions.require_ready(store)
        yield store


async def hub_clock(store: Store) -> Clock:
    """A clock that shows hub time, as the running hub has it."""
    from hub.clock import Clock
    from hub.timetravel import HubTime

    clock = Clock()
    await HubTime(store, clock, development=current_settings().development).sync()
    return clock


def read(query: Callable[[Connection], Awaitable[T]]) -> T:
    """The answer of one query, straight from the database: no hub needs to run."""

    async def answer() -> T:
        async with open_existing_store() as store, store.read() as c:
            return await query(c)

    return run(answer())


def with_hub(act: Callable[[Hub], Awaitable[T]]) -> T:
    """What `act` returns, given all services of a hub that does no work of its own.

    A plugin that cannot be loaded is left out, so that it does not stand in the way of the others.
    """
    from hub.process import open_hub

    async def answer() -> T:
        settings = current_settings()
        require_database(settings)
        async with open_hub(settings, quarantine=True, pool=2) as hub:
            return await act(hub)

    return run(answer())
