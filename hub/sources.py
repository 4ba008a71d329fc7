"""Events that do not come through the door: derived after silence, filled in by the vendor, and polled."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connector import Poll, Trigger
from hub.errands import Errand, Errands, Missing, Unconnected
from hub.errors import ConfigError
from hub.events import Event
from hub.plugins import Plugins
from hub.store import events, work
from hub.store.events import Incoming, NewEvent, StoredEvent
from hub.store.session import Connection as Transaction
from hub.store.session import Store
from hub.store.work import Claim
from hub.traces import Traces

ENRICH_MOST = 100
_GIVE_UP_AFTER = 12


@dataclass(frozen=True)
class _About:
    """What a piece of work is about: `connection|connector.trigger[|key]`."""

    connection: Connection
    trigger: Trigger[Any]


class Sources:
    """Handles claimed work of the kinds debounce, enrich and poll. `ring` is called after events were stored."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        plugins: Plugins,
        clock: Clock,
        errands: Errands,
        *,
        ring: Callable[[], None],
        traces: Traces,
        rehearsal: bool = False,
    ) -> None:
        self._store, self._connections, self._plugins, self._clock = store, connections, plugins, clock
        self._errands, self._ring, self._traces, self._rehearsal = errands, ring, traces, rehearsal
        self._kinds = {"debounce": self._debounce, "enrich": self._enrich, "poll": self._poll}

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of work that are done here."""
        return self._kinds

    async def handle(self, claim: Claim) -> None:
        """Do one piece of work; afterwards it is finished, due again, or parked. Raises StoreUnavailable."""
        await self._errands.do(claim, partial(self._begin, claim))

    async def _begin(self, claim: Claim) -> Errand:
        about = await self._about(claim)
        return Errand(about.connection, partial(self._kinds[claim.kind], claim, about))

    async def _about(self, claim: Claim) -> _About:
        name, type_, *_ = claim.ref.split("|", 2)
        trigger = self._plugins.catalogue.trigger(type_)
        if trigger is None:
            raise Missing(type_.partition(".")[0])
        try:
            return _About(await self._connections.by_name(name), trigger)
        except ConfigError as error:
            raise Unconnected(str(error)) from error

    # -- silence ---------------------------------------------------------------------------------------------------

    async def _debounce(self, claim: Claim, about: _About) -> None:
        """The silence lasted: if the vendor agrees, the derived event is stored, and the work removed with it."""
        trigger, connection = about.trigger, about.connection
        async with self._store.read() as c:
            source = await events.get(c, from_json(claim.data or "{}")["event_id"])
        if source is None:
            raise Unconnected("its event was removed")
        payload = trigger.payload.model_validate(source.data)
        if trigger.confirm_ and not self._rehearsal and not await self._confirmed(trigger, connection, payload):
            async with self._store.write() as c:
                await work.finish(c, claim)
            return
        event = replace(trigger.event(payload, self._clock.now_ms()), cause=source.cause)
        began_ns, stored = time.time_ns(), tuple[str, ...]()
        async with self._store.write() as c:
            # Activity during the confirmation moved the work on; then this silence was none.
            if await work.finish(c, claim):
                stored = await self._store_events(c, connection, [event])
        self._traces.delivered(stored, began_ns, connector=connection.connector, outcome="derived")
        self._ring()

    async def _confirmed(self, trigger: Trigger[Any], connection: Connection, payload: BaseModel) -> bool:
        assert trigger.confirm_ is not None, "asked only of triggers that confirm"
        return await trigger.confirm_(await self._connections.context(connection), payload)

    # -- filling in ------------------------------------------------------------------------------------------------

    async def _enrich(self, claim: Claim, about: _About) -> None:
        """Fill in the oldest events of this connection and type, then let them be routed."""
        trigger, connection = about.trigger, about.connection
        async with self._store.read() as c:
            waiting = await events.to_enrich(c, connection.id, trigger.type, ENRICH_MOST)
        if waiting:
            if claim.attempts >= _GIVE_UP_AFTER:
                await self._set_aside(claim, waiting)
                return
            assert trigger.enrich_ is not None, "only triggers with an enrichment have such work"
            payloads = [trigger.payload.model_validate(e.data) for e in waiting]
            filled = await trigger.enrich_(await self._connections.context(connection), payloads)
            if len(filled) != len(waiting):
                raise ConfigError(
                    f"the enrichment of {trigger.type} returned {len(filled)} payloads for {len(waiting)}; mend the plugin"
                )
            rows = [self._filled(connection, trigger, e, payload) for e, payload in zip(waiting, filled, strict=True)]
            async with self._store.write() as c:
                await events.enriched(c, rows)
            self._ring()
        async with self._store.write() as c:
            if len(waiting) == ENRICH_MOST or await events.to_enrich(c, connection.id, trigger.type, 1):
                await work.give_back(c, claim, due_ms=self._clock.now_ms())
            else:
                await work.finish(c, claim)

    def _filled(
        self, connection: Connection, trigger: Trigger[Any], event: StoredEvent, payload: BaseModel
    ) -> NewEvent:
        made = trigger.event(payload, event.received_at_ms)
        return NewEvent(replace(made, occurred_at_ms=event.occurred_at_ms), connection.id, connection.name, id=event.id)

    async def _set_aside(self, claim: Claim, waiting: Sequence[StoredEvent]) -> None:
        async with self._store.write() as c:
            for event in waiting:
                await events.quarantine(c, event.id, f"it could not be filled in after {claim.attempts} attempts")
            await work.give_back(c, claim, due_ms=self._clock.now_ms())

    # -- polling ---------------------------------------------------------------------------------------------------

    async def _poll(self, claim: Claim, about: _About) -> None:
        """Ask the vendor for what is new; each page's events and the cursor after it are stored together."""
        poll = self._poll_of(about)
        started_ms = self._clock.now_ms()
        state: dict[str, Any] = from_json(claim.data) if claim.data else {"cursor": None, "since_ms": started_ms}
        context = await self._connections.context(about.connection)
        async for page in poll.fetch(context, state["cursor"], state["since_ms"] - poll.overlap_s * 1000):
            state["cursor"] = page.cursor
            made, began_ns = [about.trigger.event(item, self._clock.now_ms()) for item in page.items], time.time_ns()
            async with self._store.write() as c:
                moved = await c.run(
                    "update work set data = :data where kind = :kind and ref = :ref and epoch = :epoch",
                    data=to_json(state).decode(),
                    kind=claim.kind,
                    ref=claim.ref,
                    epoch=claim.epoch,
                )
                if not moved:
                    return
                stored = await self._store_events(c, about.connection, made)
            self._traces.delivered(stored, began_ns, connector=about.connection.connector, outcome="polled")
            self._ring()
        async with self._store.write() as c:
            done = to_json({**state, "since_ms": started_ms}).decode()
            await work.give_back(c, claim, due_ms=started_ms + poll.every_s * 1000, data=done)

    def _poll_of(self, about: _About) -> Poll[Any]:
        poll = self._connections.connector(about.connection.connector).polls.get(about.trigger.name)
        if poll is None:
            raise Unconnected(f"{about.trigger.type} is no longer polled")
        return poll

    async def _store_events(self, c: Transaction, connection: Connection, made: Sequence[Event]) -> tuple[str, ...]:
        """Store what was not known; returns the ids of that."""
        new = [NewEvent(event, connection.id, connection.name) for event in made]
        (stored,) = await events.ingest(c, [Incoming(connection.id, None, new, self._clock.now_ms())])
        return stored.event_ids
