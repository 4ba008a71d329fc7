"""The breaker of each connection: a vendor that fails again and again is left alone for a while, by all processes.

Each process counts for itself, the state is in the database. A connection that rests is tried by one call after a while;
if that works, calls go on, few at first, else it rests twice as long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from hub.clock import Clock, format_duration
from hub.errors import StoreUnavailable
from hub.store import breakers
from hub.store.breakers import Rest
from hub.store.session import Store

WINDOW_S = 60
MIN_CALLS = 10
FAILING = 0.5
_FIRST_REST_MS = 30_000
_LONGEST_REST_MS = 900_000
# Longer than any call: who has not answered by then was killed.
_PROBE_MS = 30_000
# After a rest, calls in flight grow to what is allowed over so long.
_RAMP_S = 10.0
_LOOK_S = 1.0

_log = logging.getLogger(__name__)


class Ring:
    """Calls and failures of the last minute, second by second."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[int, int]] = {}

    def add(self, second: int, *, failed: bool) -> None:
        """One call."""
        calls, failures = self._seconds.get(second, (0, 0))
        self._seconds[second] = (calls + 1, failures + failed)
        if len(self._seconds) > WINDOW_S:
            self._seconds = {at: n for at, n in self._seconds.items() if at > second - WINDOW_S}

    def sums(self, second: int) -> tuple[int, int]:
        """Calls and failures of the minute that ends with this second."""
        recent = [n for at, n in self._seconds.items() if second - WINDOW_S < at <= second]
        return sum(calls for calls, _ in recent), sum(failures for _, failures in recent)


@dataclass(frozen=True)
class _Verdict:
    """What this process found out and has yet to write."""

    connection: str
    deed: str
    """`open`, `reopen` or `close`."""
    reason: str
    trips: int


class Breakers:
    """The breakers as this process sees them. Asking is in memory; `keep` reads and writes in the background."""

    def __init__(self, store: Store, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock, self._now = store, clock, monotonic
        self._rings: dict[str, Ring] = {}
        self._rests: Mapping[str, Rest] = {}
        self._asked_at: dict[str, float] = {}
        self._closed_at: dict[str, float] = {}
        self._verdicts: list[_Verdict] = []
        self._news = asyncio.Event()

    # -- before a call ---------------------------------------------------------------------------------------------

    def rests(self) -> Mapping[str, Rest]:
        """The connections that rest, by name."""
        return self._rests

    def left_s(self) -> dict[str, float]:
        """The connections that may not even be tried yet, with the seconds that are left."""
        found = {name: self.rest(name) for name in self._rests}
        return {name: rest[0] for name, rest in found.items() if rest is not None and rest[0] > 0}

    def rest(self, connection: str) -> tuple[float, str] | None:
        """Seconds until a connection is tried again (0: it may be tried now) and why it rests; None when it works."""
        row = self._rests.get(connection)
        if row is None:
            return None
        left_s = max(0.0, (row.until_ms - self._clock.now_ms()) / 1000)
        # What the call under way will find out is known sooner than at its latest.
        return (min(left_s, _LOOK_S) if row.probing else left_s), row.reason

    async def admits(self, connection: str) -> bool:
        """Whether a call may be made now: always when the connection works, else for the one that tries it."""
        row = self._rests.get(connection)
        if row is None:
            return True
        now_ms = self._clock.now_ms()
        if row.until_ms > now_ms:
            return False
        # Nobody else of this process asks while the answer is under way.
        self._replace(replace(row, probing=True, until_ms=now_ms + int(_LOOK_S * 1000)))
        async with self._store.write() as c:
            won = await breakers.probe(c, connection, until_ms=now_ms + _PROBE_MS, now_ms=now_ms)
        if won:
            self._asked_at[connection] = time.monotonic()
            self._replace(replace(row, probing=True, until_ms=now_ms + _PROBE_MS))
        return won

    def ramp(self, connection: str) -> float:
        """Which part of its calls in flight a connection may have: less than 1 just after a rest."""
        closed_at = self._closed_at.get(connection)
        if closed_at is None:
            return 1.0
        part = (self._now() - closed_at) / _RAMP_S
        if part >= 1:
            del self._closed_at[connection]
        return min(1.0, part)

    # -- after a call ----------------------------------------------------------------------------------------------

    def noted(self, connection: str, outage: str | None, began: float, *, counted: bool = True) -> None:
        """A call that began at the monotonic instant `began` came back; `outage` says how the vendor failed, if it did."""
        row = self._rests.get(connection)
        if row is not None:
            if connection in self._asked_at and began >= self._asked_at[connection]:
                del self._asked_at[connection]
                self._judge(row, outage)
            return
        if not counted:
            return
        ring, second = self._rings.setdefault(connection, Ring()), int(self._now())
        ring.add(second, failed=outage is not None)
        calls, failures = ring.sums(second) if outage is not None else (0, 0)
        if calls >= MIN_CALLS and failures >= FAILING * calls:
            reason = f"{failures} of {calls} calls failed within a minute, the last one: {outage}"
            self._decide(_Verdict(connection, "open", reason, 1))

    def _judge(self, row: Rest, outage: str | None) -> None:
        if outage is None:
            self._decide(_Verdict(row.connection, "close", "", 0))
        else:
            self._decide(_Verdict(row.connection, "reopen", f"it still fails: {outage}", row.trips + 1))

    def _decide(self, verdict: _Verdict) -> None:
        """In this process it holds at once; it is written in the background."""
        if verdict.deed == "close":
            self._rests = {name: row for name, row in self._rests.items() if name != verdict.connection}
            self._closed_at[verdict.connection] = self._now()
        else:
            now_ms = self._clock.now_ms()
            until_ms = now_ms + rest_ms(verdict.trips)
            self._replace(Rest(verdict.connection, False, until_ms, verdict.trips, verdict.reason, now_ms))
        self._rings.pop(verdict.connection, None)
        self._verdicts.append(verdict)
        self._news.set()

    def _replace(self, row: Rest) -> None:
        self._rests = {**self._rests, row.connection: row}

    # -- the database ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Until cancelled: write what was found out, and see what others found out within a second."""
        while True:
            # While the database is away they are kept.
            with suppress(StoreUnavailable):
                await self.sync()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                pass  # nothing new here: look what the others found

    async def sync(self) -> None:
        """Write this process's verdicts and read all breakers. Raises StoreUnavailable; verdicts are then kept."""
        self._news.clear()
        while self._verdicts:
            await self._write(self._verdicts[0])
            self._verdicts.pop(0)
        async with self._store.read() as c:
            rests = await breakers.everything(c)
        if self._verdicts:
            return  # newer than what was read
        for name in self._rests.keys() - rests.keys():
            self._closed_at[name] = self._now()
        for name in rests.keys() - self._rests.keys():
            self._rings.pop(name, None)
        self._asked_at = {name: at for name, at in self._asked_at.items() if name in rests}
        self._rests = rests

    async def _write(self, verdict: _Verdict) -> None:
        now_ms, name = self._clock.now_ms(), verdict.connection
        until_ms = now_ms + rest_ms(verdict.trips)
        about = {"connection": name, "reason": verdict.reason}
        async with self._store.write() as c:
            match verdict.deed:
                case "open":
                    done = await breakers.open_(c, name, until_ms=until_ms, reason=verdict.reason, now_ms=now_ms)
                case "reopen":
                    done = await breakers.reopen(c, name, until_ms=until_ms, reason=verdict.reason)
                case _:
                    done = await breakers.close(c, name)
        if done and verdict.deed == "open":
            _log.warning("a connection rests: its vendor fails", extra={"what": "breaker_open", **about})
        elif done and verdict.deed == "close":
            _log.info("a connection works again", extra={"what": "breaker_closed", "connection": name})
        elif done:
            rest = format_duration(rest_ms(verdict.trips))
            _log.info("a connection rests on", extra={"what": "breaker_reopened", "rest": rest, **about})


def rest_ms(trips: int) -> int:
    """How long a connection rests when it has failed so many times in a row."""
    return int(min(_LONGEST_REST_MS, _FIRST_REST_MS * 2 ** (min(max(trips, 1), 16) - 1)))
