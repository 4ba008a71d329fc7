"""A process at work: the services that run by themselves while it lasts, started and ended in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from hub import __version__, retention
from hub.clock import Clock
from hub.errors import ConfigError, HubError, StoreUnavailable
from hub.fresh import LOOK_EVERY_S
from hub.ids import new_id
from hub.plugins import Plugins
from hub.presence import present
from hub.spool import replaying
from hub.store import connections as rows
from hub.store import events, work
from hub.store.processes import Process

if TYPE_CHECKING:
    from hub.process import Hub
    from hub.testing.sandbox import SandboxServer

_UPKEEP_AFTER_MS = 600_000

_log = logging.getLogger(__name__)


@asynccontextmanager
async def here(hub: Hub, kind: str) -> AsyncIterator[None]:
    """The process shows itself to the others while this lasts; `kind` as in `hub.store.processes`.

    Raises ConfigError where its keys open nothing that is stored: every call would fail.
    """
    await _require_keys(hub)
    started_ms = hub.clock.now_ms() - hub.clock.offset_ms
    process = Process(new_id(), kind, __version__, started_ms)
    calling = kind != "api"
    hub.vitals.own = process
    async with present(
        hub.store,
        hub.clock,
        process,
        slots=hub.settings.slots if calling else 0,
        busy=lambda: hub.pump.busy,
        tally=lambda: {**hub.vitals.tally(), "keys": hub.connections.key_ids},
        heard=hub.limits.heard,
    ):
        yield


async def _require_keys(hub: Hub) -> None:
    async with hub.store.read() as c:
        sealed = await rows.accounts_by_key(c)
    known = hub.connections.key_ids
    if not sealed or sealed & {*known}:
        return
    settings = hub.settings
    held = "HUB_KEYS" if settings.keys or not settings.embedded else f"the file {settings.data_dir / 'keys'}"
    raise ConfigError(
        f"no credentials of this database open: they are sealed with {', '.join(sorted(sealed))}, and {held} holds "
        f"{', '.join(known)}; put the key back that belongs to this database, or, if it is lost, give each account new "
        "credentials by `hub connections reauthorise NAME`, or remove it and add it again"
    )


@asynccontextmanager
async def working(
    hub: Hub, kind: str = "worker", *, resume_s: float = 15.0, ended: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """The pump runs and hears the bell; at the end it drains.

    What another process set aside for want of a plugin that this one has is taken up at the start and each `resume_s`
    seconds. A pump that ends by itself calls `ended`; PumpEnded is then raised here, at the end.
    """
    async with here(hub, kind), hub.limits.kept(), _pumping(hub, resume_s, ended):
        yield


@asynccontextmanager
async def guarding(hub: Hub) -> AsyncIterator[None]:
    """The watchdog looks while this lasts."""
    looking = asyncio.create_task(hub.watchdog.run())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


@asynccontextmanager
async def _pumping(hub: Hub, resume_s: float, ended: Callable[[], object]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    await _resume(hub)
    await hub.connections.attend_all()
    if not hub.store.in_memory:
        async with hub.store.write() as c:
            # Not at once: a process that starts has other things to do.
            first_ms = hub.clock.now_ms() + _UPKEEP_AFTER_MS
            await work.add_if_absent(c, retention.KIND, retention.REF, retention.KIND, first_ms)
    hub.bell.listen(hub.pump.wake)
    running = asyncio.create_task(hub.pump.run(stop, drain_s=hub.settings.drain_s))
    running.add_done_callback(lambda _: ended())
    resuming = asyncio.create_task(_resuming(hub, resume_s))
    watching = asyncio.create_task(_watch_operators(hub))
    try:
        yield
    finally:
        resuming.cancel()
        with suppress(asyncio.CancelledError):
            await resuming
        stop.set()
        await running
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch_operators(hub: Hub) -> None:
    """What operators hold back or limit is read again and again while this process makes calls."""
    while True:
        # While the database is away the pump says so, and no call is made on what was read too long ago.
        with suppress(StoreUnavailable):
            await hub.pauses.known.refresh()
            await hub.spending.known.refresh()
        await asyncio.sleep(LOOK_EVERY_S)


async def _resume(hub: Hub) -> None:
    async with hub.store.write() as c:
        found = 0
        for name in hub.plugins.catalogue.connectors:
            found += await work.unpark(c, f"plugin:{name}", hub.clock.now_ms())
            found += await events.take_up(c, name)
    if found:
        hub.ring()


async def _resuming(hub: Hub, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await _resume(hub)
        except HubError as error:
            _log.warning(
                "what waits for plugins is looked at later", extra={"what": "resume_failed", "error": str(error)}
            )


@asynccontextmanager
async def receiving(hub: Hub) -> AsyncIterator[None]:
    """Everything that taking calls needs beside the door: the spool is open and replayed, refusals are written down each
    second, and hub time follows the database's. Raises ConfigError when the spool's folder cannot be used.
    """
    spool = hub.ingest.spool
    doing = [_each_second(lambda: _flush_refusals(hub)), _each_second(lambda: _sync_time(hub))]
    if spool is not None:
        await spool.open()
        doing.append(replaying(spool, hub.ingest.store_kept))
    tasks = [asyncio.create_task(one) for one in doing]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if spool is not None:
            spool.close()
        await _flush_refusals(hub)


async def _each_second(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(1)
        await act()


async def _sync_time(hub: Hub) -> None:
    try:
        await hub.time.sync()
    except HubError as error:
        # The clock goes on as it was.
        _log.warning("the database's clock cannot be read now", extra={"what": "clock_kept", "error": str(error)})


async def _flush_refusals(hub: Hub) -> None:
    try:
        await hub.ingest.flush_refusals()
    except HubError as error:
        # They are kept and written with the next second's.
        _log.warning("refusals cannot be written now", extra={"what": "refusals_kept", "error": str(error)})


@asynccontextmanager
async def sandboxes(
    plugins: Plugins, clock: Clock, *, host: str, port: int, before: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[SandboxServer]:
    """The sandboxes of all loaded connectors on one port; `before` is awaited before each call."""
    # Brings an HTTP server along, which most processes do without.
    from hub.testing.sandbox import SandboxServer, load_sandbox

    made = {name: load_sandbox(connector, clock) for name, connector in plugins.catalogue.connectors.items()}
    there = {name: made_ for name, made_ in made.items() if made_ is not None}
    async with SandboxServer(there, host=host, port=port, before=before) as server:
        yield server
