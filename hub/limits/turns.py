"""Turns: who has to wait for a rate is told when to come back, one after the other at that rate, the more urgent first."""

from __future__ import annotations

from hub.store.lanes import Rank

# What the less urgent get while the more urgent wait: never nothing.
LESSER_SHARE = 0.1
# Nobody is sent further away: what is ahead may be cancelled. Beyond it they are claimed only as tokens come in.
HORIZON_S = 30.0


class Turns:
    """The turns of one connection, as one process gives them out. Times are seconds of the same clock."""

    def __init__(self) -> None:
        self._next = dict.fromkeys(Rank, 0.0)

    def pending(self, now: float) -> bool:
        """Whether anybody was told to come back later."""
        return any(at > now for at in self._next.values())

    def must_queue(self, rank: Rank, now: float, *, waited: bool, draw: float) -> bool:
        """Whether a call has to stand behind others: who comes new behind all as urgent, who waited behind the more urgent,
        and even then one in ten goes on."""
        if any(at > now for other, at in self._next.items() if other < rank):
            return not waited or draw >= LESSER_SHARE
        return not waited and self._next[rank] > now

    def give(self, rank: Rank, now: float, wait_s: float, step_s: float, draw: float) -> float:
        """Seconds until this call's turn: not before `wait_s`, `step_s` after the one before it."""
        if any(at > now for other, at in self._next.items() if other < rank):
            step_s /= LESSER_SHARE
        at = max(now + wait_s, self._next[rank])
        if at > now + wait_s + HORIZON_S:
            return wait_s + HORIZON_S * draw
        self._next[rank] = at + step_s
        return at - now
