"""How much a connection may do now: calls in flight, and rates as its vendor allows them. In memory, per process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.connector import Concurrency, Connector, Rate

DEFAULT_CONCURRENCY = 32
# How soon a run looks again when all of a connection's calls are in flight.
_BUSY_S = 0.25


@dataclass
class _Use:
    in_flight: int = 0
    not_before: float = 0.0
    # Generic cell rate algorithm: the theoretical arrival time of the next unit, per budget.
    arrival: dict[str, float] = field(default_factory=dict)


class Limits:
    """The budgets of every connection, as declared by its connector. `monotonic` is real time in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._uses: dict[str, _Use] = {}

    def take(self, connection: str, connector: Connector, cost: float) -> float:
        """Take a slot and `cost` from each rate: 0 when granted (then `release` it), else seconds until worth asking."""
        use, now = self._uses.setdefault(connection, _Use()), self._now()
        if use.in_flight >= _concurrency(connector):
            return _BUSY_S
        wait = use.not_before - now
        rates = [b for b in connector.budgets if isinstance(b, Rate)]
        arrivals = {rate.name: max(use.arrival.get(rate.name, 0.0), now) + cost / rate.per_s for rate in rates}
        for rate in rates:
            wait = max(wait, arrivals[rate.name] - now - rate.limit / rate.per_s)
        if wait > 0:
            return wait
        use.arrival |= arrivals
        use.in_flight += 1
        return 0.0

    def release(self, connection: str) -> None:
        """Give the slot back after the call."""
        self._uses[connection].in_flight -= 1

    def push(self, connection: str, seconds: float) -> None:
        """The vendor said: not before that many seconds from now."""
        use = self._uses.setdefault(connection, _Use())
        use.not_before = max(use.not_before, self._now() + seconds)

    def held(self) -> dict[str, float]:
        """The connections that wait as long as their vendor asked: name to the seconds that are left."""
        now = self._now()
        return {name: use.not_before - now for name, use in self._uses.items() if use.not_before > now + _BUSY_S}

    def full(self) -> list[str]:
        """The connections for which nothing is to be claimed now."""
        return list(self.held())


def _concurrency(connector: Connector) -> int:
    return next((b.limit for b in connector.budgets if isinstance(b, Concurrency)), DEFAULT_CONCURRENCY)
