"""How this hub is doing: what Prometheus scrapes, what health checks ask, what `hub top` shows.

Counters are this process's own; what is due, late, waiting or parked is the whole hub's, read from the database at most
every two seconds, however many ask.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from hub import shown
from hub.clock import Clock
from hub.errors import StoreUnavailable
from hub.events import Json
from hub.limits import Limits
from hub.metrics import Metrics
from hub.spool import Spool
from hub.store import pulse
from hub.store.processes import Process
from hub.store.pulse import Alive, Due, Pulse, age_s
from hub.store.session import Store
from hub.worker.bell import Bell
from hub.worker.pump import Pump

# As old as a reading may be before the database is asked again, and how long PostgreSQL may take over each statement.
_KEPT_S = 2.0
_STATEMENT_LIMIT_MS = 2_000
# Longer than any look at a database that is away may take: only a pump that hangs or died is silent for so long.
SILENT_S = 90.0
_BREAKER = {"probing": 1, "open": 2}

_log = logging.getLogger(__name__)


class Vitals:
    """The readings of one process."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        pump: Pump,
        bell: Bell,
        limits: Limits,
        spool: Spool | None = None,
    ) -> None:
        self._store, self._clock, self._metrics = store, clock, metrics
        self._pump, self._bell, self._limits = pump, bell, limits
        self.own: Process | None = None
        """This process as it shows itself to the others."""
        self._pulse: Pulse | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        metrics.watch("in_hand", "Pieces of work in hand.", lambda: pump.busy)
        metrics.watch("slots", "Pieces of work that may be in hand.", lambda: pump.slots)
        metrics.watch("pump_silent_seconds", "Since when the pump has not looked for work.", lambda: pump.silent_s)
        if spool is not None:
            metrics.watch("spool_records", "Deliveries in the spool.", lambda: spool.depth.records)
            metrics.watch("spool_bytes", "Bytes in the spool.", lambda: spool.depth.bytes)

    # -- for Prometheus --------------------------------------------------------------------------------------------

    async def exposition(self) -> bytes:
        """Everything in Prometheus' text format. Without the database only what this process counts, and `hub_store_up` 0."""
        try:
            families = _families(await self.pulse())
        except StoreUnavailable as error:
            _log.warning("the database cannot be read for metrics", extra={"what": "pulse_failed", "error": str(error)})
            families = [_gauge("store_up", "Whether the database could be read.", 0)]
        return generate_latest(self._metrics.registry) + generate_latest(_Fixed(families))

    async def pulse(self) -> Pulse:
        """The newest reading of the database. Raises StoreUnavailable."""
        async with self._reading:
            if self._pulse is None or time.monotonic() - self._read_at > _KEPT_S:
                async with self._store.read() as c, pulse.bounded(c, _STATEMENT_LIMIT_MS):
                    self._pulse = await pulse.read(c, now_ms=self._clock.now_ms(), real_ms=_real_ms())
                self._read_at = time.monotonic()
            return self._pulse

    # -- health ----------------------------------------------------------------------------------------------------

    def silence(self) -> str | None:
        """Why this process is not alive, although it answers; None when it is."""
        if (silent_s := self._pump.silent_s) > SILENT_S:
            return f"the pump has not looked for work for {silent_s:.0f} s; restart this process"
        return None

    async def worries(self) -> list[str]:
        """What makes this process slower than it could be, although it is ready."""
        trouble = await self._bell.trouble()
        return [] if trouble is None else [trouble]

    # -- signs of life ---------------------------------------------------------------------------------------------

    def tally(self) -> dict[str, Json]:
        """What this process counted since it started, and its calls under way and held back by connection."""
        held = {name: round(seconds, 1) for name, seconds in self._limits.held().items()}
        return {**self._metrics.tally(), "in_flight": self._limits.in_flight(), "held_s": held}

    async def show(self) -> shown.Vitals:
        """The whole hub for `hub top`, with this process's own counts as they are now. Raises StoreUnavailable."""
        return pulse.view(await self.pulse(), self._alive())

    def _alive(self) -> Alive | None:
        if self.own is None:
            return None
        slots = self._pump.slots if self.own.kind != "api" else 0
        return Alive(self.own, _real_ms(), self._pump.busy, slots, self.tally())


def _real_ms() -> int:
    return int(time.time() * 1000)


class _Fixed:
    """What was read a moment ago, as `generate_latest` wants it."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hub_{name}", about, value=value)


def _by(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"hub_{name}", about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _families(found: Pulse) -> list[Metric]:
    """The database's side. Each process exposes the same: take the maximum, not the sum."""
    parked: dict[str, float] = {}
    for on, count in found.parked.items():
        parked[on.partition(":")[0]] = parked.get(on.partition(":")[0], 0) + count
    up_to = f"at most {pulse.MOST:,} are counted"
    return [
        _gauge("store_up", "Whether the database could be read.", 1),
        _gauge("events_unrouted", f"Events not routed yet; {up_to}.", found.unrouted),
        _gauge("ingest_lag_seconds", "The age of the oldest unrouted event.", age_s(found, found.unrouted_since_ms)),
        *_lanes(found, up_to),
        _gauge("waiting", f"Runs that go on later; where more than {pulse.MOST:,} wait, an estimate.", found.waiting),
        _by("parked_now", f"Work set aside; {up_to} per thing it is parked on.", "reason", parked),
        _gauge("unknown_last_day", f"Effects of the last day whose outcome is unknown; {up_to}.", found.unknown),
        _by(
            "breaker_state",
            "Breakers that are not closed: 1 being tried, 2 open.",
            "connection",
            {name: _BREAKER.get(state, 2) for name, state in found.breakers.items()},
        ),
        _by("processes", "Processes that gave a sign of life.", "kind", _kinds(found)),
    ]


def _lanes(found: Pulse, up_to: str) -> list[Metric]:
    """What is due, by recipe and connection; ranks are added up."""
    due = GaugeMetricFamily("hub_due", f"Work due now; {up_to} per lane.", labels=["recipe", "connection"])
    late = GaugeMetricFamily(
        "hub_oldest_due_seconds",
        "How late the oldest due work is, also where it is held back.",
        labels=["recipe", "connection"],
    )
    whose: dict[tuple[str, str], list[Due]] = {}
    for lane in found.lanes:
        whose.setdefault((lane.lane.recipe, lane.lane.connection), []).append(lane)
    for labels, lanes in whose.items():
        due.add_metric(labels, sum(lane.due for lane in lanes))
        late.add_metric(labels, max(age_s(found, lane.since_ms) for lane in lanes))
    return [due, late]


def _kinds(found: Pulse) -> dict[str, float]:
    kinds: dict[str, float] = {}
    for alive in found.processes:
        kinds[alive.process.kind] = kinds.get(alive.process.kind, 0) + 1
    return kinds
