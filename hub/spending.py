"""Spending caps: how much a connection or a recipe may spend per day and per month. What is over waits for the next period.

The caps are kept in memory like pauses, so that a call without one costs nothing; what is used is counted at the gate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from hub import shown
from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339, to_datetime, to_ms
from hub.connections import Connections
from hub.connector import Action, Effect
from hub.errors import ConfigError, NotThere
from hub.fresh import Fresh
from hub.ids import new_id
from hub.library import Library
from hub.store import spending as rows
from hub.store.runs import EffectRow
from hub.store.session import Connection, Store
from hub.store.spending import Cap, Charge

KINDS = ("connection", "recipe")
PERIODS = ("day", "month")
UNITS = ("calls", "messages")
_NEAR = 0.8

_log = logging.getLogger(__name__)


class CapReached(Exception):
    """A call would exceed a cap. Raised inside the gate's transaction, which takes everything back."""

    def __init__(self, charge: Charge) -> None:
        super().__init__(f"the cap of {charge.cap.about} is reached; it goes on after {rfc3339(charge.until_ms)}")
        self.charge = charge


class Spending:
    """The caps that this process knows of. One per process. `zone` is where days and months begin."""

    def __init__(
        self, store: Store, library: Library, connections: Connections, catalogue: Catalogue, clock: Clock, *, zone: str
    ) -> None:
        self._store, self._library, self._connections = store, library, connections
        self._catalogue, self._clock, self._zone = catalogue, clock, ZoneInfo(zone)
        self._near: list[Charge] = []
        self.known = Fresh(self._read)

    async def _read(self) -> list[Cap]:
        async with self._store.read() as c:
            return await rows.everything(c)

    # -- at the gate ---------------------------------------------------------------------------------------------------

    async def caps(self, recipe: str, connection: str) -> list[Cap]:
        """The caps on a call; in memory. Raises StoreUnavailable."""
        mine = {"recipe": recipe, "connection": connection}
        return [cap for cap in await self.known.current() if mine[cap.kind] == cap.target]

    async def take(
        self, c: Connection, intent: EffectRow, caps: Iterable[Cap], action: Action[Any, Any], input_: BaseModel
    ) -> EffectRow:
        """Count a call that is about to be made; returns its intent, marked. Raises CapReached: then roll back."""
        if intent.request.get("spent"):
            # An earlier call of this effect is known not to have been made, or is one with this one; but what is simply
            # done again may have been done twice.
            made = action.effect is Effect.IDEMPOTENT and action.batch is None
            await rows.settle_all(c, [intent.key], made=made)
        charges = [self._charge(cap, action.spends(cap.unit, input_)) for cap in caps]
        charges = sorted((x for x in charges if x.amount > 0), key=lambda x: x.cap.subject)
        if not charges:
            return intent
        refused, used = await rows.take(c, intent.key, intent.token, charges)
        if refused is not None:
            raise CapReached(refused)
        for charge, now_used in zip(charges, used, strict=True):
            mark = charge.cap.most * _NEAR
            if now_used - charge.amount < mark <= now_used:
                self._near.append(charge)
        return replace(intent, request={**intent.request, "spent": True})

    async def warn(self, reached: Charge | None = None) -> None:
        """Say once per period that a cap is nearly used up, or reached."""
        near, self._near = self._near, []
        told = [(charge, "near") for charge in near] + ([(reached, "reached")] if reached else [])
        for charge, word in told:
            async with self._store.write() as c:
                first = await rows.warn_once(c, charge, word)
            if first:
                text = "a spending cap is reached" if word == "reached" else "a spending cap is nearly used up"
                _log.warning(text, extra={"what": f"cap_{word}", "cap": charge.cap.subject, "most": charge.cap.most})

    async def look_back(self, reached: Charge) -> None:
        """After a run was parked on a cap: it goes on if that was changed or removed before anybody could find it parked."""
        await self.known.refresh()
        if reached.cap not in await self.known.current():
            async with self._store.write() as c:
                await rows.release(c, reached.cap, self._clock.now_ms())

    def _charge(self, cap: Cap, amount: int) -> Charge:
        begin, end = window(cap.per, to_datetime(self._clock.now_ms()).astimezone(self._zone))
        return Charge(cap, amount, to_ms(begin), to_ms(end))

    # -- changing ------------------------------------------------------------------------------------------------------

    async def set(self, kind: str, target: str, *, per: str, most: int, unit: str = "calls") -> Cap:
        """Set a cap, or the limit of the one there is. Raises ConfigError naming what is wrong."""
        if kind not in KINDS or per not in PERIODS or most < 0:
            raise ConfigError("a cap is on a connection or a recipe, per day or month, and not below 0")
        units = await self._units(kind, target)
        if unit not in units:
            raise ConfigError(f"nothing there spends {unit}{nearest(unit, units)}; there are {', '.join(units)}")
        async with self._store.write() as c:
            cap = await rows.put(c, Cap(new_id(), kind, target, per, unit, most, self._clock.now_ms()))
            await rows.release(c, cap, self._clock.now_ms())
        return cap

    async def _units(self, kind: str, target: str) -> list[str]:
        """What may be counted there. Raises ConfigError when there is no such connection or recipe."""
        if kind == "connection":
            connector = self._connections.connector((await self._connections.by_name(target)).connector)
            actions = list(connector.actions.values())
        else:
            await self._library.source(target)
            actions = [a for connector in self._catalogue.connectors.values() for a in connector.actions.values()]
        return [*UNITS, *sorted({unit for action in actions for unit in action.units})]

    async def remove(self, id_: str) -> Cap:
        """Remove a cap; runs that wait for it go on. Raises ConfigError."""
        async with self._store.write() as c:
            found = next((cap for cap in await rows.everything(c) if cap.id == id_), None)
            if found is None:
                raise NotThere(f"there is no cap {id_}; `hub caps list` shows what there is")
            await rows.remove(c, found)
            await rows.release(c, found, self._clock.now_ms())
        return found

    async def shown(self) -> list[shown.CapUsed]:
        """Every cap with what was used of it in its present period."""
        async with self._store.read() as c:
            caps = await rows.everything(c)
            charges = [self._charge(cap, 0) for cap in caps]
            used = await rows.used(c, charges)
        return [view(x, used.get(x.cap.id, 0)) for x in charges]


def view(charge: Charge, used: int) -> shown.CapUsed:
    """A cap for people; `until` is when its present period ends."""
    cap = charge.cap
    return {
        "id": cap.id,
        "kind": cap.kind,
        "target": cap.target,
        "per": cap.per,
        "unit": cap.unit,
        "most": cap.most,
        "used": used,
        "until_at": rfc3339(charge.until_ms),
    }


def window(per: str, now: datetime) -> tuple[datetime, datetime]:
    """The day or month around a local time: from midnight to midnight there, whatever daylight saving does."""
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if per == "day":
        return begin, begin + timedelta(days=1)
    begin = begin.replace(day=1)
    return begin, (begin + timedelta(days=32)).replace(day=1)
