"""The generic cell rate algorithm, pure: what a bucket holds is told by the instant at which it will be full again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.connector import Connector, Rate
from hub.errors import PluginError

# How long tokens taken from the shared bucket may be kept before they are used.
HOLD_S = 0.1
_ROUNDING = 1e-9


def rates_of(connector: Connector) -> list[Rate]:
    """The rates of a connector from which every call takes."""
    return [budget for budget in connector.budgets if isinstance(budget, Rate) and not budget.apart]


def rate_apart(connector: Connector, name: str) -> Rate:
    """A rate from which only some calls take. Raises PluginError where the connector declares none of this name."""
    for budget in connector.budgets:
        if isinstance(budget, Rate) and budget.apart and budget.name == name:
            return budget
    raise PluginError(
        connector.name, f"no budget named {name} is kept apart: declare Rate(…, name={name!r}, apart=True)"
    )


def keep_back(rates: Sequence[Rate], dearest: float) -> float:
    """How many tokens a process may take at once and keep for HOLD_S; 0 when each is to be taken when it is used.

    What is kept may be used later than it was taken, so in one window as much more may be used as flows in meanwhile.
    That much is kept out of the bucket (see `bursts`), and it must leave room for the dearest call.
    """
    if not rates:
        return 0.0
    kept = min(min(rate.per_s * HOLD_S, rate.limit / 2, rate.limit - dearest) for rate in rates)
    return kept if kept >= 2 else 0.0


def bursts(rates: Sequence[Rate], kept: float) -> list[float]:
    """What the bucket of each rate may hold at most, when processes keep tokens."""
    return [rate.limit - (rate.per_s * HOLD_S if kept else 0.0) for rate in rates]


def available(rate: Rate, full_at: float, now: float) -> float:
    """The tokens in a bucket that is full again at `full_at` (seconds)."""
    return rate.limit - max(0.0, full_at - now) * rate.per_s


def take(rates: Sequence[Rate], full_at: Mapping[str, float], cost: float, now: float) -> float | dict[str, float]:
    """Take `cost` from every bucket: when each will be full again, or seconds until there is enough in all of them.

    A call that costs more than a bucket holds is made when that is full, and the next ones wait for it.
    """
    lacking = [
        (min(cost, rate.limit) - available(rate, full_at.get(rate.name, 0.0), now)) / rate.per_s for rate in rates
    ]
    if (wait_s := max(lacking, default=0.0)) > _ROUNDING:
        return wait_s
    return {rate.name: max(full_at.get(rate.name, 0.0), now) + cost / rate.per_s for rate in rates}
