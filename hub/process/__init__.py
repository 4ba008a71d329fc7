"""The composition root: makes one process's services out of settings; `running` starts them and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub import __version__, pepper, seams
from hub.backfills import Backfills
from hub.batches import Batches
from hub.breaker import Breakers
from hub.choosing import Choosing
from hub.clock import Clock
from hub.connections import Connections
from hub.connections.authorising import Authorising
from hub.erasing import Erasing
from hub.errands import Errands
from hub.errors import ConfigError
from hub.forgetting import Forgetting
from hub.http import Transport
from hub.ids import new_id
from hub.ingest import Ingest
from hub.library import Library
from hub.limits import Limits
from hub.limits.shared import Shared
from hub.loops import Loops
from hub.merging import Merging
from hub.metrics import Metrics
from hub.notices import Notices
from hub.pauses import Pauses
from hub.plugins import Plugins, load_plugins
from hub.process.running import guarding, here, receiving, sandboxes, working
from hub.retention import Retention
from hub.retries import Retries
from hub.routing import Router
from hub.runs import Runner, Tools
from hub.settings import Settings
from hub.sources import Sources
from hub.spending import Spending
from hub.spool import Spool
from hub.store import revisions
from hub.store.session import Store
from hub.subscribing import Subscribing
from hub.timetravel import HubTime
from hub.traces import Traces
from hub.vault import make_vault
from hub.vitals import Vitals
from hub.watchdog import Watchdog
from hub.withdrawals import Withdrawals
from hub.worker.bell import Bell
from hub.worker.pump import Pump

__all__ = [
    "Hub",
    "guarding",
    "here",
    "make_traces",
    "open_hub",
    "open_store",
    "receiving",
    "sandboxes",
    "working",
]

# A machine may have started a minute ago, and a clock may have been set back.
_EPOCH_S = 1e9
_TRACED_BY = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = logging.getLogger(__name__)


@dataclass
class Hub:
    """The services of one process."""

    settings: Settings
    store: Store
    clock: Clock
    time: HubTime
    plugins: Plugins
    connections: Connections
    authorising: Authorising
    backfills: Backfills
    choosing: Choosing
    library: Library
    limits: Limits
    pauses: Pauses
    spending: Spending
    retries: Retries
    bell: Bell
    ingest: Ingest
    retention: Retention
    erasing: Erasing
    merging: Merging
    pump: Pump
    metrics: Metrics
    traces: Traces
    vitals: Vitals
    watchdog: Watchdog

    def ring(self) -> None:
        """Tell workers, in this process and others, that there is something to do."""
        self.pump.wake()
        self.bell.ring()


def make_traces(environment: Mapping[str, str]) -> Traces:
    """Spans if OpenTelemetry's standard variables ask for them. Raises ConfigError without the extra `otel`."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = environment.get("OTEL_TRACES_EXPORTER", "") == "none"
    if disabled or none or not any(environment.get(name) for name in _TRACED_BY):
        return Traces()
    try:
        from hub import tracing
    except ImportError as error:
        raise ConfigError(
            f"OTEL_… asks for traces and {error.name} is not installed: pip install 'tetik-hub[otel]', or set "
            "OTEL_SDK_DISABLED=true"
        ) from error
    return Traces(tracing.make(environment, __version__))


@asynccontextmanager
async def open_store(
    settings: Settings, *, upgrade: bool = False, pool: int = 6, progress: Callable[[str], None] = lambda step: None
) -> AsyncIterator[Store]:
    """The store with the schema this release needs. Raises StoreError naming the command, StoreUnavailable.

    With `upgrade` (the embedded hub) an older SQLite file is brought up to date by itself, after a copy was made;
    `progress` is told what it is at.
    """
    store = Store(settings.store_url(), pool=pool, lease_s=settings.lease_s)
    if settings.embedded and not store.in_memory:
        # People's data and the keys lie here: for the owner only.
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if store.in_memory:
            # Slow to import, and nothing for a process whose schema is there.
            from hub.store import migrate

            await migrate.create_in_memory(store)
        elif upgrade and store.file and not (found := await revisions.status(store)).ready:
            from hub.store import migrate

            copy = None
            if found.current is not None:
                progress(f"copying {store.file}")
                copy = _back_up(Path(store.file))
            await migrate.upgrade(store, progress=progress)
            if copy is not None:
                _log.info(
                    "the database was brought up to date",
                    extra={"what": "schema_upgraded", "was": found.current, "now": found.needed, "copy": str(copy)},
                )
        else:
            await revisions.require_ready(store)
        yield store
    finally:
        await store.close()


def _back_up(file: Path) -> Path:
    """Keep a copy of an existing database before its schema changes; returns where."""
    copy = file.with_suffix(f"{file.suffix}.before-upgrade")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@asynccontextmanager
async def open_hub(
    settings: Settings,
    *,
    plugins: Plugins | None = None,
    clock: Clock | None = None,
    upgrade: bool = False,
    quarantine: bool = False,
    rehearsal: bool = False,
    pool: int = 6,
    traces: Traces | None = None,
) -> AsyncIterator[Hub]:
    """All services, made but not yet running: `serve` and `pump.run` are the caller's to start."""
    plugins = plugins or load_plugins(quarantine=quarantine)
    clock = clock or Clock()
    if settings.seam:
        if not settings.development:
            raise ConfigError(
                "HUB_SEAM is for tests, and needs HUB_DEVELOPMENT=true; unset it, never set either in production"
            )
        seams.arm(settings.seam)
    async with open_store(settings, upgrade=upgrade, pool=pool) as store:
        transport = Transport(
            sandbox_url=settings.sandbox_url, limit=max(100, settings.slots), allowed=settings.private_hosts
        )
        bell = Bell(settings.redis_url)
        limits = _limits(settings, store, clock)
        traces = traces or Traces()
        try:
            yield await _assemble(settings, store, clock, plugins, transport, bell, limits, traces, rehearsal=rehearsal)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, traces.close)
            await limits.close()
            await bell.close()
            await transport.close()
            plugins.close()


def _limits(settings: Settings, store: Store, clock: Clock) -> Limits:
    def now() -> float:
        """Budgets live in real time, but a clock that jumps refills them too; never below zero, where all is free."""
        return _EPOCH_S + time.monotonic() + clock.offset_ms / 1000

    shared = Shared(settings.redis_url, new_id(), lambda: clock.offset_ms) if settings.redis_url else None
    breakers = Breakers(store, clock, monotonic=now)
    return Limits(now, breakers=breakers, shared=shared, alone=settings.embedded, in_hand=settings.slots)


async def _assemble(
    settings: Settings,
    store: Store,
    clock: Clock,
    plugins: Plugins,
    transport: Transport,
    bell: Bell,
    limits: Limits,
    traces: Traces,
    *,
    rehearsal: bool,
) -> Hub:
    # What is told to ring exists before the pump that hears it.
    rung: list[Callable[[], None]] = []

    def ring() -> None:
        for one in rung:
            one()

    hub_time = HubTime(store, clock, development=settings.development, held=limits.held)
    await hub_time.sync()
    vault = make_vault(settings)
    peppered = await pepper.load(store, vault)
    connections = Connections(
        store,
        vault,
        plugins.catalogue,
        clock,
        transport=transport,
        public_url=settings.address,
        noted=limits.noted,
    )
    choosing = Choosing(connections, plugins.catalogue, limits)
    # A rehearsal asks nobody: there a label stays the label.
    asked = None if rehearsal else choosing
    library = Library(store, plugins.catalogue, connections, clock, choosing=asked, pretended=rehearsal)
    loops = Loops(depth=settings.loop_depth, entries=settings.loop_entries, window_s=settings.loop_window_s)
    metrics = Metrics()
    seen: dict[str, Any] = {"metrics": metrics, "traces": traces}
    erasing = Erasing(store, plugins.catalogue, clock, peppered, lease_s=settings.lease_s)
    notices = Notices(store, plugins, clock, lease_s=settings.lease_s, hook_limit_s=settings.hook_limit_s)
    withdrawals = Withdrawals(library, plugins.catalogue, clock)
    router = Router(
        store,
        library,
        connections,
        plugins.catalogue,
        clock,
        loops,
        notices,
        # What is played again erases nobody, and no vendor hears of it.
        erasing=None if rehearsal else erasing,
        withdrawals=None if rehearsal else withdrawals,
        **seen,
    )
    pauses = Pauses(store, clock)
    spending = Spending(store, library, connections, plugins.catalogue, clock, zone=settings.zone)
    tools = Tools(
        store=store,
        library=library,
        connections=connections,
        plugins=plugins,
        clock=clock,
        limits=limits,
        pauses=pauses,
        spending=spending,
        notices=notices,
        **seen,
        zone=settings.zone,
        hook_limit_s=settings.hook_limit_s,
        lease_s=settings.lease_s,
        rehearsal=rehearsal,
    )
    upkeep = Retention(store, library, clock, settings)
    errands = Errands(store, connections, clock, limits, metrics=metrics, rehearsal=rehearsal)
    pump = Pump(
        store,
        hub_time,
        router,
        Runner(tools),
        Sources(store, connections, plugins, clock, errands, ring=ring, traces=traces, rehearsal=rehearsal),
        Subscribing(
            store,
            connections,
            library,
            plugins,
            clock,
            errands,
            metrics=metrics,
            public=settings.public_url is not None,
        ),
        Batches(
            store,
            connections,
            plugins,
            clock,
            limits,
            pauses,
            rehearsal=rehearsal,
            jitter=tools.jitter,
            notices=notices,
            **seen,
        ),
        upkeep,
        notices,
        erasing,
        Forgetting(store, connections, plugins.catalogue, clock, errands, peppered, withdrawals),
        slots=settings.slots,
        lease_s=settings.lease_s,
        limits=limits,
        ring=bell.ring,
        metrics=metrics,
    )
    folder = settings.spool_folder()
    ingest = Ingest(
        store,
        connections,
        plugins.catalogue,
        clock,
        public_url=settings.address,
        ring=ring,
        spool=Spool(folder, vault, most_bytes=settings.spool_mb * 1_000_000) if folder else None,
        **seen,
    )
    hub = Hub(
        settings=settings,
        store=store,
        clock=clock,
        time=hub_time,
        plugins=plugins,
        connections=connections,
        authorising=Authorising(store, clock, vault, connections, transport, settings.address),
        backfills=Backfills(store, connections, plugins.catalogue, clock, ring=ring),
        choosing=choosing,
        library=library,
        limits=limits,
        pauses=pauses,
        spending=spending,
        retries=Retries(store, library, plugins.catalogue, clock, notices, zone=settings.zone),
        bell=bell,
        ingest=ingest,
        retention=upkeep,
        erasing=erasing,
        merging=Merging(store, clock),
        pump=pump,
        metrics=metrics,
        traces=traces,
        vitals=Vitals(store, clock, metrics, pump=pump, bell=bell, limits=limits, spool=ingest.spool),
        watchdog=Watchdog(
            store, clock, metrics, lease_s=settings.lease_s, held=limits.behind, stuck=pump.stuck, ring=ring
        ),
    )
    rung.append(hub.ring)
    return hub
