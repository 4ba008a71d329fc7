"""Erasing: a person, or everybody who is known through one connection only. What vendors ask for by events is ordered here.

The order itself ends the person's runs and makes them unknown, in one transaction; emptying what is stored follows in small
steps, each of which may be the last one of its process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json, to_json

from hub import seams
from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.connector import Privacy
from hub.errors import NotThere
from hub.pepper import Pepper
from hub.store import blanking, connections, contacts, erasures, runs, sweeping, tombstones, work
from hub.store.erasures import Order
from hub.store.events import StoredEvent
from hub.store.session import Connection, Row, Store
from hub.store.sweeping import needles, scrubbed
from hub.store.tombstones import Key
from hub.store.work import Claim

# How long one turn may take, and how much longer than a step it rests after each, so that everything else has its turn.
_TURN_S, _REST = 10.0, 1.0
# How often it is looked whether somebody's runs, or parts of an erasure, have ended.
_LOOK_MS = 200
_PEOPLE, _CALLS = 50, 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _State:
    """How far an erasure has come. It is sealed as long as it is needed, and goes with the work."""

    begun_ms: int
    step: str
    keys: tuple[Key, ...] = ()
    contact: str | None = None
    connection: str = ""
    connection_id: str = ""
    part: bool = False
    table: int = 0
    after: tuple[Any, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> str:
        """The id that a step which goes by one id has come to; '' at its beginning."""
        return str(self.after[0]) if self.after else ""

    def plus(self, **found: int) -> _State:
        """So much more was found."""
        return replace(self, counts=self.counts | {k: self.counts.get(k, 0) + n for k, n in found.items() if n})

    def to(self, step: str) -> _State:
        """At the beginning of another step."""
        return replace(self, step=step, table=0, after=())


@dataclass(frozen=True)
class _Wait:
    """Nothing can be done now; look again soon."""

    state: _State


class Erasing:
    """Orders erasures, and carries them out: `handle` is the pump's."""

    def __init__(self, store: Store, catalogue: Catalogue, clock: Clock, pepper: Pepper, *, lease_s: float) -> None:
        self._store, self._catalogue, self._clock, self._pepper = store, catalogue, clock, pepper
        # A call that is under way when somebody is erased has ended by then, and so has the lease of whoever died over it.
        self._grace_ms = int(lease_s * 2000)
        self._steps: dict[str, Callable[[Connection, str, _State], Awaitable[_State | _Wait | None]]] = {
            "runs": self._runs,
            "forget": self._forget,
            "history": self._history,
            "events": self._events,
            "sweep": self._sweep,
            "people": self._people,
            "calls": self._calls,
            "facts": self._facts,
            "parts": self._parts,
            "end": self._end,
        }

    # -- ordering --------------------------------------------------------------------------------------------------

    async def erase(self, contact_id: str, *, reason: str, who: str) -> Row:
        """Erase somebody: nothing is sent to them from here on; what is stored is emptied next. Returns the record.

        Raises NotThere when they are unknown.
        """
        async with self._store.write() as c:
            known = (await contacts.identities(c, [contact_id])).get(contact_id, [])
            told = scrubbed(reason, needles(known))
            order = Order(erasures.PERSON, who, told, self._clock.now_ms())
            id_ = await self._person(c, contact_id, [], order)
            if id_ is None:
                raise NotThere("nobody is known by this id any more; `hub contacts erasures` shows who was erased when")
            found = await erasures.get(c, id_)
        assert found is not None, "it was just written"
        _log.warning("somebody is erased", extra={"what": "erasure_ordered", "erasure": id_})
        return found

    async def asked(self, c: Connection, event: StoredEvent, connection: str, privacy: Privacy) -> str | None:
        """Do what a vendor asks for by an event, in the transaction that routes it; returns whom it is about.

        An event that had somebody erased is emptied with them, and is about nobody.
        """
        keys = event.subject.keys(connection) if event.subject else []
        owners = await contacts.owners_of(c, keys)
        contact_id = next((owners[key] for key in keys if key in owners), None)
        # What belongs to somebody else stays theirs.
        keys = [key for key in keys if owners.get(key, contact_id) == contact_id]
        now_ms, who = self._clock.now_ms(), event.type
        if privacy is Privacy.EXPORT_PERSON:
            await erasures.request(c, event.id, contact_id, event.connection_id, event.type, now_ms)
            return contact_id
        if privacy is Privacy.ERASE_ACCOUNT:
            order = Order(erasures.ACCOUNT, who, "the vendor asked for it", now_ms, event.id)
            id_ = await erasures.order(c, order)
            state = _State(now_ms, "people", connection=connection, connection_id=event.connection_id)
            await self._queue(c, id_, state)
            return None
        order = Order(erasures.PERSON, who, "the vendor asked for it", now_ms, event.id)
        known = None if contact_id is None else await self._person(c, contact_id, keys, order)
        if known is None and contact_id is not None:
            # Erased or merged since it was looked who they are: asked again, they are somebody else or nobody.
            return await self.asked(c, event, connection, privacy)
        if known is None:
            known = await erasures.order(c, order)
            await erasures.bury(c, keys, event.id, now_ms)
            await self._queue(c, known, _State(now_ms, "forget", keys=tuple(keys)))
        await blanking.empty_events(c, [event.id], f"it had somebody erased: {known}")
        return None

    async def _person(self, c: Connection, contact_id: str, more: Sequence[Key], order: Order) -> str | None:
        """Make somebody unknown and order the rest; None when they are unknown already."""
        keys = await erasures.close(c, contact_id, order.event_id, order.at_ms)
        if keys is None:
            return None
        new = [key for key in more if key not in keys]
        await erasures.bury(c, new, order.event_id, order.at_ms)
        id_ = await erasures.order(c, order)
        part = order.part_of is not None
        state = _State(order.at_ms, "runs", keys=(*keys, *new), contact=contact_id, part=part).plus(people=1)
        await self._queue(c, id_, state)
        return id_

    async def _queue(self, c: Connection, id_: str, state: _State) -> None:
        await erasures.queue(c, id_, self._sealed(id_, state), state.begun_ms)

    # -- carrying out ----------------------------------------------------------------------------------------------

    async def handle(self, claim: Claim) -> None:
        """One turn of an erasure; what it does not get done is due again at once. Raises StoreUnavailable."""
        assert claim.data is not None, "it is made with what it is about"
        state, until, due_ms = self._opened(claim.ref, claim.data), time.monotonic() + _TURN_S, 0
        while time.monotonic() < until and not due_ms:
            began = time.monotonic()
            async with self._store.write() as c:
                found = await self._steps[state.step](c, claim.ref, state)
                if found is None:
                    await work.finish(c, claim)
                    _log.info("an erasure is done", extra={"what": "erasure_done", "erasure": claim.ref})
                    return
                if isinstance(found, _Wait):
                    due_ms, found = self._clock.now_ms() + _LOOK_MS, found.state
                state = found
                if not await work.remember(c, claim, self._sealed(claim.ref, state)):
                    return
                seams.reach("erase.commit")
            seams.reach("erase.committed")
            await asyncio.sleep((time.monotonic() - began) * _REST)
        async with self._store.write() as c:
            await work.give_back(c, claim, due_ms=due_ms or self._clock.now_ms())

    async def _runs(self, c: Connection, _: str, state: _State) -> _State | _Wait:
        """Wait until nobody has a run of theirs in hand; whoever has not let go by the end of the grace is cut off."""
        assert state.contact is not None, "only of somebody who was known there are runs"
        idle, in_hand = await blanking.live_runs(c, state.contact)
        now_ms = self._clock.now_ms()
        await blanking.end_runs(c, idle, now_ms)
        if in_hand and now_ms < state.begun_ms + self._grace_ms:
            await runs.stop(c, {id_: {"cancel": blanking.ERASED, "event": None} for id_ in in_hand}, now_ms)
            return _Wait(state)
        await blanking.end_runs(c, in_hand, now_ms)
        return state.to("forget")

    async def _forget(self, c: Connection, id_: str, state: _State) -> _State:
        """Have every connection forget them whose connector can, or is not loaded here so that nobody knows."""
        known = self._catalogue.connectors
        _, rows = await connections.everything(c)
        able = [
            row["name"] for row in rows if row["connector"] not in known or known[row["connector"]].forget_ is not None
        ]
        if state.keys:
            data = self._pepper.seal({"keys": to_json(state.keys).decode()}, id_)
            await erasures.ask(c, id_, able, self._clock.now_ms(), data)
        return state.to("history")

    async def _history(self, c: Connection, _: str, state: _State) -> _State:
        done = 0 if state.contact is None else await blanking.empty_runs(c, state.contact)
        state = state.plus(runs=done)
        return state if done else state.to("events")

    async def _events(self, c: Connection, id_: str, state: _State) -> _State:
        ids = [] if state.contact is None else await blanking.events_of(c, state.contact)
        ids = ids or await blanking.events_about(c, state.keys, state.begun_ms)
        if ids:
            calls = await blanking.empty_events(c, ids, f"whom it was about was erased: {id_}")
            return state.plus(events=len(ids), calls=calls)
        if state.contact is not None:
            await blanking.empty_mentions(c, state.contact)
        # Where everybody of a connection goes, looking everything through for each of them would never end.
        return state.to("end" if state.part else "sweep")

    async def _sweep(self, c: Connection, _: str, state: _State) -> _State:
        if state.table == len(sweeping.TABLES):
            return state.to("end")
        table, wanted = sweeping.TABLES[state.table], needles(state.keys)
        count, after = await sweeping.sweep(c, table, state.after, wanted, state.begun_ms)
        state = state.plus(**{"calls" if table.table == "delivery" else "mentions": count})
        if after is None:
            return replace(state, table=state.table + 1, after=())
        return replace(state, after=tuple(after))

    # -- an account ------------------------------------------------------------------------------------------------

    async def _people(self, c: Connection, id_: str, state: _State) -> _State:
        """Order the erasure of those among the next contacts who are known through the connection only."""
        found, following = await erasures.known_only_through(
            c, state.connection_id, state.connection, state.last, _PEOPLE
        )
        done = 0
        for contact_id in found:
            order = Order(erasures.PERSON, "the hub", "part of an account's erasure", self._clock.now_ms(), part_of=id_)
            done += await self._person(c, contact_id, [], order) is not None
        state = state.plus(people=done)
        return state.to("calls") if following is None else replace(state, after=(following,))

    async def _calls(self, c: Connection, _: str, state: _State) -> _State:
        calls, following = await blanking.empty_deliveries_of(
            c, state.connection_id, state.last, state.begun_ms, _CALLS
        )
        state = state.plus(calls=calls)
        return state.to("facts") if following is None else replace(state, after=(following,))

    async def _facts(self, c: Connection, _: str, state: _State) -> _State:
        following = await tombstones.hide_facts_of(c, state.connection_id, state.last, state.begun_ms, _CALLS)
        return state.to("parts") if following is None else replace(state, after=(following,))

    async def _parts(self, c: Connection, id_: str, state: _State) -> _State | _Wait:
        return _Wait(state) if await erasures.parts_open(c, id_) else state.to("end")

    async def _end(self, c: Connection, id_: str, state: _State) -> None:
        people = state.counts.get("people", 0)
        note = None if people else "nobody was known"
        await erasures.finish(c, id_, state.counts, self._clock.now_ms(), note=note)

    # -- sealing ---------------------------------------------------------------------------------------------------

    def _sealed(self, id_: str, state: _State) -> str:
        return self._pepper.seal({"state": to_json(state).decode()}, id_)

    def _opened(self, id_: str, sealed: str) -> _State:
        raw = from_json(self._pepper.open(sealed, id_)["state"])
        keys = tuple((kind, value) for kind, value in raw.pop("keys"))
        return _State(keys=keys, after=tuple(raw.pop("after")), **raw)
