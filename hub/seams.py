"""Named places in the code at which a test may kill, freeze or fail the process. Otherwise nothing happens there.

A place is named for what has just been done, or is about to be: `run.claimed`, `ingest.commit`. `HUB_SEAM` arms one in
development mode only.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

from hub.errors import ConfigError, StoreUnavailable

PLACES = {
    "ingest.commit": "deliveries are written, their transaction is not committed",
    "ingest.committed": "deliveries are committed, nobody was answered or rung",
    "ingest.answered": "a delivery is answered",
    "spool.written": "deliveries are in the spool and synced, nobody was answered",
    "spool.replaying": "part of a file of the spool is stored, the rest is not",
    "spool.replayed": "all of a file of the spool is stored, the file is still there",
    "route.commit": "events are routed, their transaction is not committed",
    "route.committed": "routed events are committed, nobody was rung",
    "run.claimed": "work is claimed, nothing was done with it",
    "run.commit": "a group of runs is written, its transaction is not committed",
    "run.committed": "a group of runs is committed, nobody went on with it",
    "wait.registered": "a wait is committed, whether its event was there already was not asked",
    "sleep.registered": "a sleep is committed",
    "run.finished": "a run's end is committed, nobody was told",
    "call.intended": "an intent is committed, the request has not left",
    "call.answered": "a vendor's answer was read, its outcome is not written",
    "batch.frozen": "a batch's effects are fixed, the request has not left",
    "batch.answered": "a batch's answer was read, its outcomes are not written",
    "batch.settled": "a batch's outcomes are committed, nobody was told",
    "history.commit": "a page of the past is written with its cursor, their transaction is not committed",
    "history.committed": "a page of the past is committed, the next one was not asked for",
    "subscription.created": "a vendor made a subscription, its secret is not stored",
    "erase.commit": "a step of an erasure is written, its transaction is not committed",
    "erase.committed": "a step of an erasure is committed, the next one is not begun",
    "merge.commit": "two contacts are one, their transaction is not committed",
    "token.answered": "a vendor gave a new token, which is not stored",
}

_WHAT = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "drain": lambda: os.kill(os.getpid(), signal.SIGTERM),
}

_at: Callable[[str], None] | None = None


def reach(place: str) -> None:
    """The program is at `place`."""
    if _at is not None:
        _at(place)


def arm(given: str) -> None:
    """Do something at a place: `run.claimed=kill`, or from its third passing on: `run.claimed#3=kill`.

    `kill`, `freeze` (SIGSTOP) and `drain` (SIGTERM) happen once; `fail` raises StoreUnavailable at every passing from then
    on. Raises ConfigError for a place or a deed that there is not.
    """
    global _at
    found = re.fullmatch(r"([\w.]+)(?:#(\d+))?=(\w+)", given)
    if not found or found[1] not in PLACES or found[3] not in (*_WHAT, "fail"):
        raise ConfigError(
            f"HUB_SEAM: {given} is no PLACE[#N]=DEED; places are {', '.join(PLACES)}; deeds are kill, freeze, drain, fail"
        )
    wanted, nth, deed, passed = found[1], int(found[2] or 1), found[3], 0

    def at(place: str) -> None:
        nonlocal passed
        if place != wanted:
            return
        passed += 1
        if deed == "fail" and passed >= nth:
            raise StoreUnavailable(f"made to fail at {place}")
        if passed == nth and deed != "fail":
            _WHAT[deed]()

    _at = at


def disarm() -> None:
    """Let everything pass again."""
    global _at
    _at = None
