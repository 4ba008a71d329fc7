"""How long work in hand is surely this process's own, by a clock that goes on while the process or its machine stands still."""

from __future__ import annotations

import time

_MARGIN_S = 3.0
# Python's monotonic clock stands still with a machine that is suspended; Linux has one that does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def instant() -> float:
    """Now, in seconds; only differences mean something."""
    return time.clock_gettime(_CLOCK)


def margin_s(length_s: float) -> float:
    """How long before the end of a lease every call must have ended, so that its outcome can be written."""
    return min(_MARGIN_S, length_s / 10)


def call_limit_s(length_s: float, wanted_s: float) -> float:
    """How long a call may take: what its action wants, but never more than surely fits between two renewals of a lease."""
    return min(wanted_s, length_s * 0.78 - margin_s(length_s))


class Deadline:
    """The lease of one piece of work. `asked` is the instant before it was asked for: it may be older than we know."""

    def __init__(self, length_s: float, asked: float) -> None:
        self._length_s = length_s
        self._until = asked + length_s

    def renewed(self, asked: float) -> None:
        """It lasts its whole length again."""
        self._until = asked + self._length_s

    def lost(self) -> None:
        """Somebody else has the work."""
        self._until = float("-inf")

    @property
    def over(self) -> bool:
        """Whether somebody else may have the work by now."""
        return instant() > self._until

    def limit_s(self, wanted_s: float) -> float:
        """How long a call may take under it."""
        return call_limit_s(self._length_s, wanted_s)

    def lasts(self, seconds: float) -> bool:
        """Whether a call that takes so long would end in time for its outcome to be written."""
        return instant() + seconds + margin_s(self._length_s) <= self._until
