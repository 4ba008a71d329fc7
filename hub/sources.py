"""Events that do not come through the door: derived after silence, filled in by the vendor, and polled."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from hub.backoff import MAX_CLAIMS, backoff_s
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connector import Poll, Trigger
from hub.errors import AuthExpired, ConfigError, ConnectorError, HubError, OutcomeUnknown, RateLimited, RetryableError
from hub.events import Event
from hub.limits import Limits
from hub.metrics import Metrics
from hub.plugins import Plugins
from hub.store import events, work
from hub.store.events import Incoming, NewEvent, StoredEvent
from hub.store.lanes import Lane
from hub.store.session import Connection as Transaction
from hub.store.session import Store
from hub.store.work import Claim
from hub.traces import Traces

ENRICH_MOST = 100
_GIVE_UP_AFTER = 12
_VENDOR_WORD = re.compile(r"[\w.-]{1,40}", re.ASCII)

_log = logging.getLogger(__name__)


class _Unconnected(Exception):
    """The connection or trigger of a piece of work is gone, so the work is too."""


class _Missing(Exception):
    """The plugin of a piece of work is not loaded; its first argument is the connector's name."""


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
        limits: Limits,
        *,
        ring: Callable[[], None],
        metrics: Metrics,
        traces: Traces,
        rehearsal: bool = False,
    ) -> None:
        self._store, self._connections, self._plugins, self._clock = store, connections, plugins, clock
        self._limits, self._ring, self._rehearsal = limits, ring, rehearsal
        self._metrics, self._traces = metrics, traces
        self._kinds = {"debounce": self._debounce, "enrich": self._enrich, "poll": self._poll}

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of work that are done here."""
        return self._kinds

    async def handle(self, claim: Claim) -> None:
        """Do one piece of work; afterwards it is finished, due again, or parked. Raises StoreUnavailable."""
        try:
            about = await self._about(claim)
            if claim.claims > MAX_CLAIMS:
                raise HubError(
                    f"claimed {MAX_CLAIMS} times without getting on; the logs of processes that ended say why"
                )
            await self._limited(claim, about)
        except _Unconnected as error:
            _log.info("work of a removed connection is dropped", extra={"what": "work_dropped", "reason": str(error)})
            async with self._store.write() as c:
                await work.finish(c, claim)
        except _Missing as error:
            async with self._store.write() as c:
                await work.park(c, claim, f"plugin:{error}")
            self._metrics.parked("plugin")
        except AuthExpired as error:
            await self._expired(claim, error)
        except HubError as error:
            await self._later(claim, error)
        except Exception as error:  # a plugin may raise anything; it is asked again like a vendor that fails
            _log.exception("a source raised", extra={"what": "source_raised", "kind": claim.kind, "ref": claim.name})
            await self._later(claim, HubError(f"the connector raised {type(error).__name__}; mend the plugin"))

    async def _expired(self, claim: Claim, error: AuthExpired) -> None:
        """The credentials are refused: renew what can be renewed, once; else the work waits for a new authorisation."""
        connection = await self._connections.by_name(claim.ref.partition("|")[0])
        try:
            renewed = await self._connections.tokens.renew_refused(connection)
        except AuthExpired as again:
            renewed, error = False, again
        except (RetryableError, OutcomeUnknown) as failed:
            await self._later(claim, failed)
            return
        if renewed or not await self._connections.unhealthy(connection, str(error)):
            async with self._store.write() as c:
                await work.give_back(c, claim, due_ms=self._clock.now_ms() + 50, attempts=claim.attempts)
            return
        async with self._store.write() as c:
            await work.park(c, claim, f"connection:{connection.name}")
        self._metrics.parked("connection")
        await self._connections.unpark_if_healthy(connection)

    async def _limited(self, claim: Claim, about: _About) -> None:
        """Handle it with a slot and a token of its connection, or later."""
        name, connector = about.connection.name, self._connections.connector(about.connection.connector)
        rank = Lane.of(claim.queue).rank
        refused = None if self._rehearsal else await self._limits.take(name, connector, 1, rank, waited=True)
        if refused is not None:
            self._metrics.limited(name)
            async with self._store.write() as c:
                due_ms = self._clock.now_ms() + max(50, int(refused.wait_s * 1000))
                await work.give_back(c, claim, due_ms=due_ms, attempts=claim.attempts)
            return
        try:
            await self._kinds[claim.kind](claim, about)
        finally:
            if not self._rehearsal:
                self._limits.release(name)

    async def _about(self, claim: Claim) -> _About:
        name, type_, *_ = claim.ref.split("|", 2)
        trigger = self._plugins.catalogue.trigger(type_)
        if trigger is None:
            raise _Missing(type_.partition(".")[0])
        try:
            return _About(await self._connections.by_name(name), trigger)
        except ConfigError as error:
            raise _Unconnected(str(error)) from error

    async def _later(self, claim: Claim, error: HubError) -> None:
        """Try again later: when the vendor said, else doubling to an hour, for as long as the work is worth."""
        retry_after_s = error.retry_after_s if isinstance(error, RetryableError) else None
        if isinstance(error, RateLimited):
            await self._limits.push(claim.ref.partition("|")[0], retry_after_s)
        wait_s = backoff_s(claim.attempts + 1, random.random(), retry_after_s)  # noqa: S311  (jitter guards nothing)
        _log.warning(
            "a source failed; trying again",
            extra={
                "what": "source_failed",
                "kind": claim.kind,
                "ref": claim.name,
                "error": str(error),
            },
        )
        async with self._store.write() as c:
            due_ms = self._clock.now_ms() + int(wait_s * 1000)
            # What the events will say if it never succeeds; for the other kinds `data` is what they go on from.
            data = _in_short(error) if claim.kind == "enrich" else None
            await work.give_back(c, claim, due_ms=due_ms, data=data, attempts=claim.attempts + 1)

    # -- silence ---------------------------------------------------------------------------------------------------

    async def _debounce(self, claim: Claim, about: _About) -> None:
        """The silence lasted: if the vendor agrees, the derived event is stored, and the work removed with it."""
        trigger, connection = about.trigger, about.connection
        async with self._store.read() as c:
            source = await events.get(c, from_json(claim.data or "{}")["event_id"])
        if source is None:
            raise _Unconnected("its event was removed")
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
            raise _Unconnected(f"{about.trigger.type} is no longer polled")
        return poll

    async def _store_events(self, c: Transaction, connection: Connection, made: Sequence[Event]) -> tuple[str, ...]:
        """Store what was not known; returns the ids of that."""
        new = [NewEvent(event, connection.id, connection.name) for event in made]
        (stored,) = await events.ingest(c, [Incoming(connection.id, None, new, self._clock.now_ms())])
        return stored.event_ids


def _in_short(error: HubError) -> str:
    """An error for an event's note: a vendor's own sentences may repeat personal data, so only its status and code."""
    if not isinstance(error, ConnectorError):
        return str(error)
    facts = [f"status {error.status}"] if error.status is not None else []
    facts += [f"code {error.code}"] if error.code and _VENDOR_WORD.fullmatch(error.code) else []
    return ", ".join([type(error).__name__, *facts])
