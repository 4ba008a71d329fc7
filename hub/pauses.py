"""Pauses: stopping calls by everything, recipe, connection, channel or purpose, and letting them go on.

Each process keeps the pauses in memory, reads them about once a second, and makes no call on what it read longer ago than
two seconds: so a pause is in force everywhere two seconds after it was stored, whatever else is down.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from hub import shown
from hub.catalogue import nearest
from hub.clock import Clock, format_duration, parse_duration_ms, rfc3339
from hub.errors import ConfigError, NotThere
from hub.fresh import Fresh
from hub.ids import new_id
from hub.store import pauses as rows
from hub.store.pauses import Held, Pause
from hub.store.session import Connection, Store

KINDS = ("all", "recipe", "connection", "channel", "purpose")

_RATE = re.compile(r"(\d+)\s*/\s*(s|min|h)")
_PER_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000}
# Where the names of what can be paused stand, to tell a misspelt one from one that is there.
_NAMES = {
    "recipe": "select name from recipe order by name",
    "connection": "select name from connection order by name",
    "purpose": "select name from purpose order by name",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """A pause that was ended: what it had held back, and how many runs will not make their call any more."""

    pause: Pause
    released: int
    late: int


class Pauses:
    """The pauses that this process knows of. One per process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._seen: list[Pause] = []
        self.known = Fresh(self._read)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _read(self) -> list[Pause]:
        async with self._store.read() as c:
            found = await rows.everything(c)
        for pause in found:
            if pause not in self._seen:
                _log.warning("calls are paused", extra={"what": "paused", "kind": pause.kind, "target": pause.target})
        for pause in self._seen:
            if all(pause.id != other.id for other in found):
                _log.warning("a pause ended", extra={"what": "resumed", "kind": pause.kind, "target": pause.target})
        self._seen = found
        return found

    async def holding(
        self, *, recipe: str, connection: str, channel: str | None = None, purpose: str | None = None
    ) -> Pause | None:
        """The pause that holds this call back, the oldest of several, or None. Raises StoreUnavailable."""
        known = await self.known.current()
        if not known:
            return None
        mine = {"all": "", "recipe": recipe, "connection": connection, "channel": channel, "purpose": purpose}
        return next((pause for pause in known if mine[pause.kind] == pause.target), None)

    # -- changing ------------------------------------------------------------------------------------------------------

    async def pause(self, kind: str, target: str, *, reason: str, who: str) -> Pause:
        """Hold something back from now on. Raises ConfigError for what there is not, and without a reason."""
        if kind not in KINDS or (kind == "all") != (target == ""):
            raise ConfigError(f"say what to pause: all, or one {', '.join(KINDS[1:])} by its name")
        if not reason.strip():
            raise ConfigError("say why: whoever finds the runs waiting reads it")
        async with self._store.write() as c:
            await _require(c, kind, target)
            made = Pause(new_id(), kind, target, reason.strip(), who, self._clock.now_ms())
            return await rows.put(c, made)

    async def find(self, kind: str, target: str) -> Pause:
        """The pause on this. Raises ConfigError with what is paused."""
        async with self._store.read() as c:
            found = await rows.get(c, kind, target)
            every = await rows.everything(c)
        if found is None:
            wanted = Pause("", kind, target, "", "", 0).about
            there = f"paused are: {', '.join(p.about for p in every)}" if every else "nothing is paused"
            raise ConfigError(f"{wanted} is not paused; {there}")
        return found

    async def by_id(self, id_: str) -> Pause:
        """A pause by id. Raises ConfigError."""
        async with self._store.read() as c:
            found = next((pause for pause in await rows.everything(c) if pause.id == id_), None)
        if found is None:
            raise NotThere(f"there is no pause {id_}; it may have ended already")
        return found

    async def held(self, pause: Pause, *, expire_older_ms: int | None = None) -> Held:
        """What would happen if it ended now."""
        now_ms = self._clock.now_ms()
        late_before_ms = None if expire_older_ms is None else now_ms - expire_older_ms
        async with self._store.read() as c:
            return await rows.held(c, pause, now_ms=now_ms, late_before_ms=late_before_ms)

    async def resume(self, pause: Pause, *, expire_older_ms: int | None = None, every_ms: float | None = None) -> Ended:
        """End a pause: what waited for it is due again, spread out; what waited too long skips that one call.

        Raises ConfigError when somebody else has ended it meanwhile.
        """
        now_ms = self._clock.now_ms()
        late_before_ms = None if expire_older_ms is None else now_ms - expire_older_ms
        async with self._store.write() as c:
            late = (await rows.held(c, pause, now_ms=now_ms, late_before_ms=late_before_ms)).late
            released = await rows.end(c, pause, now_ms=now_ms, late_before_ms=late_before_ms, every_ms=every_ms)
        if released is None:
            raise ConfigError(f"the pause on {pause.about} has ended already; `hub pauses` shows what is paused")
        return Ended(pause, released, late)


def view(pause: Pause) -> shown.Pause:
    """A pause for people."""
    return {
        "id": pause.id,
        "kind": pause.kind,
        "target": pause.target,
        "about": pause.about,
        "reason": pause.reason,
        "who": pause.who,
        "at": rfc3339(pause.at_ms),
    }


def older_ms(duration: str) -> int:
    """How long a call may have waited at most. Raises ConfigError."""
    try:
        found = parse_duration_ms(duration)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if found < 0:
        raise ConfigError(f"{duration} is no time to have waited; write a duration such as 2h")
    return found


def every_ms(rate: str) -> float:
    """The time between two of `100/min`. Raises ConfigError."""
    found = _RATE.fullmatch(rate.strip())
    if not found or int(found[1]) == 0:
        raise ConfigError(f"{rate} is no rate; write a number per s, min or h, such as 100/min")
    return _PER_MS[found[2]] / int(found[1])


def said(pause: Pause) -> str:
    """Why a call waits, for the run's trace."""
    return f"paused: {pause.who} paused {pause.about} at {rfc3339(pause.at_ms)}: {pause.reason}"


def too_late(since_ms: int, now_ms: int) -> str:
    """Why a call is not made any more after its pause."""
    return f"too_late: a pause held it back for {format_duration(max(1, now_ms - since_ms))}, longer than was allowed"


async def _require(c: Connection, kind: str, target: str) -> None:
    """Raise ConfigError when there is nothing of this name: pausing it would pause nothing."""
    if kind not in _NAMES:
        return
    names = [row["name"] for row in await c.all(_NAMES[kind])]
    if target not in names:
        there = f"there are {', '.join(names)}" if names else f"there is no {kind} at all"
        raise ConfigError(f"there is no {kind} {target}{nearest(target, names)}; {there}")
