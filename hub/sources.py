"""Events that do not come through the door: derived after silence, filled in by the vendor, polled, read of the past."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from hub import seams
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connector import History, Page, Poll, Trigger
from hub.errands import Errand, Errands, Missing, Unconnected
from hub.errors import ConfigError, ConnectorError, HubError, PluginError, StoreUnavailable
from hub.events import Event
from hub.plugins import Plugins
from hub.store import events, histories, work
from hub.store.events import Incoming, NewEvent, StoredEvent
from hub.store.histories import Progress
from hub.store.session import Connection as Transaction
from hub.store.session import Store
from hub.store.work import Claim
from hub.traces import Traces

ENRICH_MOST = 100
_GIVE_UP_AFTER = 12
# So long the past is read in one go: longer than a page takes, short enough for everything else to have its turn.
_READING_S = 10.0
_VENDOR_WORD = re.compile(r"[\w.-]{1,40}", re.ASCII)


class _Lost(Exception):
    """Somebody else holds this work meanwhile."""


@dataclass(frozen=True)
class _About:
    """What a piece of work is about: `connection|connector.trigger[|key]`."""

    connection: Connection
    trigger: Trigger[Any]


class Sources:
    """Handles claimed work of the kinds debounce, enrich, poll and backfill. `ring` is called after events were stored."""

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
        self._kinds = {
            "debounce": self._debounce,
            "enrich": self._enrich,
            "poll": self._poll,
            histories.KIND: self._read,
        }

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of work that are done here."""
        return self._kinds

    async def handle(self, claim: Claim) -> None:
        """Do one piece of work; afterwards it is finished, due again, or parked. Raises StoreUnavailable."""
        await self._errands.do(claim, partial(self._begin, claim))

    async def _begin(self, claim: Claim) -> Errand:
        about = await self._about(claim)
        poll = self._poll_of(about) if claim.kind == "poll" else None
        takes: dict[str, Any] = {"cost": poll.cost, "draws": poll.draws} if poll else {}
        # What the events will say if it never succeeds; for the other kinds `data` is what they go on from.
        failed = _in_short if claim.kind == "enrich" else None
        return Errand(about.connection, partial(self._kinds[claim.kind], claim, about), failed, **takes)

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
        payload = trigger.recall(source.data)
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
            payloads = [trigger.recall(e.data) for e in waiting]
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
        reason = f"it could not be filled in after {claim.attempts} attempts; the last one: {claim.data or 'not known'}"
        async with self._store.write() as c:
            for event in waiting:
                await events.quarantine(c, event.id, reason)
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
                if not await work.remember(c, claim, to_json(state).decode()):
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

    # -- the past --------------------------------------------------------------------------------------------------

    async def _read(self, claim: Claim, about: _About) -> None:
        """Read on in a connection's past, page by page; each page's events and the cursor after it are stored together."""
        history, name = self._history_of(about), about.connection.name
        assert claim.data is not None, "it is made with what it is to read"
        progress, until = Progress.of(claim.data), time.monotonic() + _READING_S
        again_s: float | None = None
        try:
            context = await self._connections.context(about.connection)
            async with _pages(history.fetch(context, progress.cursor, progress.since_ms)) as pages:
                while (found := await _next(pages, about.trigger, progress.since_ms)) is not None:
                    cursor, made = found
                    async with self._store.write() as c:
                        new = await histories.store(c, about.connection.id, name, made, self._clock.now_ms())
                        progress = progress.after(cursor, made, new)
                        if not await work.remember(c, claim, progress.json()):
                            raise _Lost
                        seams.reach("history.commit")
                    seams.reach("history.committed")
                    again_s = 0.0 if time.monotonic() > until else await self._errands.more(claim, about.connection)
                    if again_s is not None:
                        break
        except _Lost:
            return
        except StoreUnavailable:
            raise
        except HubError as error:
            async with self._store.write() as c:
                await work.remember(c, claim, replace(progress, problem=str(error)).json())
            raise
        async with self._store.write() as c:
            if again_s is not None:
                await work.give_back(c, claim, due_ms=self._clock.now_ms() + int(again_s * 1000))
            elif await work.finish(c, claim):
                await histories.finished(c, about.connection.id, about.trigger.type, progress, self._clock.now_ms())

    def _history_of(self, about: _About) -> History[Any]:
        history = self._connections.connector(about.connection.connector).histories.get(about.trigger.name)
        if history is None:
            raise Unconnected(f"the past of {about.trigger.type} is no longer read")
        return history


@asynccontextmanager
async def _pages(pages: AsyncIterator[Page[Any]]) -> AsyncIterator[AsyncIterator[Page[Any]]]:
    """Pages that may be left before their end."""
    try:
        yield pages
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _next(
    pages: AsyncIterator[Page[Any]], trigger: Trigger[Any], since_ms: int
) -> tuple[str, list[Event]] | None:
    """The next page's cursor and events, or None at the end.

    What its vendor gives no time is taken for as old as can be: it outweighs nothing that is newer. Raises PluginError for
    whatever a plugin raises that is no error of the hub's.
    """
    try:
        page = await anext(pages, None)
        return None if page is None else (page.cursor, [trigger.event(item, since_ms) for item in page.items])
    except HubError:
        raise
    except Exception as error:  # a plugin may raise anything, and its words may repeat somebody's data
        raise PluginError(
            trigger.connector, f"the past of {trigger.type} cannot be read ({type(error).__name__}); mend it"
        ) from error


def _in_short(error: HubError) -> str:
    """An error for an event's note: a vendor's own sentences may repeat personal data, so only its status and code."""
    if not isinstance(error, ConnectorError):
        return str(error)
    facts = [f"status {error.status}"] if error.status is not None else []
    facts += [f"code {error.code}"] if error.code and _VENDOR_WORD.fullmatch(error.code) else []
    return ", ".join([type(error).__name__, *facts])
