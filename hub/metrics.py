"""What one process counts, in memory, for Prometheus to read: no statement is made for it, and nothing waits.

Labels are names that somebody gave (connectors, connections, actions, recipes) and words of ours; never an id, never a
person. What has to be asked of the database is in `hub.vitals`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hub.errors import HubError
from hub.events import Json

_LAG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_CALL_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_GROUP = (1, 2, 5, 10, 20, 50, 100, 200)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def word_of(error: BaseException) -> str:
    """An error as a word for a label: its class (`rate_limited`), or `raised` for what is no error of ours."""
    return _HUMP.sub("_", type(error).__name__).lower() if isinstance(error, HubError) else "raised"


class Metrics:
    """The counters of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ingested = self._counter("ingest", "Calls of vendors, by what became of them.", "connector", "outcome")
        self._refused = self._counter("ingest_refused", "Calls refused, by why.", "connector", "reason")
        self._groups = self._histogram("group_size", "How many were written in one transaction.", _GROUP, "transaction")
        self._route_lag = self._histogram("route_lag_seconds", "From an event's arrival until it was routed.", _LAG_S)
        self._dispatch_lag = self._histogram("dispatch_lag_seconds", "From work's due time until its claim.", _LAG_S)
        self._started = self._counter("runs_started", "Runs started.", "recipe")
        self._finished = self._counter("runs_finished", "Runs that ended, by how.", "recipe", "status")
        self._parked = self._counter("parked", "Work set aside, by what it is parked on.", "reason")
        self._effects = self._counter(
            "effects", "Effects, by what became of them.", "action", "effect_class", "outcome"
        )
        self._retries = self._counter("retries", "Effects to be tried again, by why.", "action", "reason")
        self._calls = self._histogram("call_seconds", "Calls of actions.", _CALL_S, "connector", "outcome")
        self._waits = self._counter("limit_waits", "Runs given back, no budget or slot being free.", "connection")
        self._subscribed = self._counter(
            "subscriptions_mended", "Subscriptions at vendors, by what was done about them.", "connector", "deed"
        )
        self._findings = Gauge("hub_findings", "What the watchdog found last.", ["kind"], registry=self.registry)
        self._mended = self._counter("findings_mended", "What the watchdog mended by itself.", "kind")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"hub_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"hub_{name}", about, labels, buckets=buckets, registry=self.registry)

    def watch(self, name: str, about: str, ask: Callable[[], float]) -> None:
        """A gauge `hub_<name>` that is asked for when somebody reads it; `ask` only looks at memory."""
        Gauge(f"hub_{name}", about, registry=self.registry).set_function(ask)

    # -- the way in ------------------------------------------------------------------------------------------------

    def ingested(self, connector: str, outcome: str) -> None:
        """A call was answered: accepted, duplicate, unrecognised, unreadable, refused or unavailable."""
        self._ingested.labels(connector, outcome).inc()

    def refused(self, connector: str, reason: str) -> None:
        """A call was refused; `reason` is a word such as `signature_error`."""
        self._refused.labels(connector, reason).inc()
        self.ingested(connector, "refused")

    def grouped(self, transaction: str, size: int) -> None:
        """So many were written in one transaction: `ingest` (T1) or `advance` (T5)."""
        self._groups.labels(transaction).observe(size)

    def routed(self, lag_s: float) -> None:
        """An event was routed, so long after it came."""
        self._route_lag.observe(max(0.0, lag_s))

    # -- runs ------------------------------------------------------------------------------------------------------

    def run_started(self, recipe: str) -> None:
        """A run was stored with its work."""
        self._started.labels(recipe).inc()

    def claimed(self, lag_s: float) -> None:
        """Work was claimed, so long after it was due."""
        self._dispatch_lag.observe(max(0.0, lag_s))

    def run_finished(self, recipe: str, status: str) -> None:
        """A run ended: done, failed or cancelled."""
        self._finished.labels(recipe, status).inc()

    def parked(self, on: str) -> None:
        """Work was set aside; of `connection:acme` only `connection` is counted."""
        self._parked.labels(on.partition(":")[0]).inc()

    # -- the way out -----------------------------------------------------------------------------------------------

    def effect(self, action: str, effect_class: str, outcome: str) -> None:
        """An effect ended: done, failed, skipped, withdrawn or unknown."""
        self._effects.labels(action, effect_class, outcome).inc()

    def retried(self, action: str, reason: str) -> None:
        """An effect will be tried again; `reason` is a word such as `rate_limited`."""
        self._retries.labels(action, reason).inc()

    def called(self, connector: str, outcome: str, seconds: float) -> None:
        """An action was run: `done`, or the word of its error."""
        self._calls.labels(connector, outcome).observe(seconds)

    def limited(self, connection: str) -> None:
        """A run was given back because the connection's budget was empty or its slots were full."""
        self._waits.labels(connection).inc()

    def subscribed(self, connector: str, deed: str) -> None:
        """A subscription at a vendor was created, deleted or renewed."""
        self._subscribed.labels(connector, deed).inc()

    # -- the watchdog ----------------------------------------------------------------------------------------------

    def found(self, kind: str, count: int) -> None:
        """What the watchdog's last look found of a kind."""
        self._findings.labels(kind).set(count)

    def mended(self, kind: str, count: int) -> None:
        """The watchdog put so many right."""
        self._mended.labels(kind).inc(count)

    # -- in sum ----------------------------------------------------------------------------------------------------

    def tally(self) -> dict[str, Json]:
        """What was counted since the process began, in sum: deliveries, events, runs started and finished, effects by outcome."""
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        effects: dict[str, int] = {}
        for sample in samples:
            if sample.name == "hub_effects_total":
                outcome = sample.labels["outcome"]
                effects[outcome] = effects.get(outcome, 0) + int(sample.value)
        sums = {
            "deliveries": "hub_ingest_total",
            "events": "hub_route_lag_seconds_count",
            "runs_started": "hub_runs_started_total",
            "runs_finished": "hub_runs_finished_total",
        }
        counted = {key: int(sum(s.value for s in samples if s.name == name)) for key, name in sums.items()}
        return {**counted, "effects": effects}
