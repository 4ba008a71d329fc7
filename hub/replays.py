"""Routing a stored event again, after a recipe was published or mended: what it has started, it starts no second time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hub import shown
from hub.clock import DAY_MS, Clock, rfc3339
from hub.errors import ConfigError
from hub.store import events, views
from hub.store.session import Store

_LOOK_EVERY_S = 0.2
# Why an event cannot be routed again, by its stage.
_NOT_NOW = {
    "route": "it is about to be routed; a running hub does so at once",
    "enrich": "its vendor has not filled it in yet, so it was never routed; `hub connections test` says whether it can",
    "plugin": "the plugin of its connector is not loaded; it is routed by itself when that is there again",
    "history": "it is of the past, which `hub connections backfill` has read: it starts nothing",
    "unconnected": "nobody connected its account; add the connection, and have the vendor send it again",
    "erased": "whom it was about was erased, and with them what it said",
}

_log = logging.getLogger(__name__)


async def replay(
    store: Store, clock: Clock, event_id: str, *, who: str, keep_runs_days: int, ring: Callable[[], None]
) -> None:
    """Have an event routed again. Every published recipe that it has not started is asked anew.

    Raises NotThere; ConfigError when it is not at a stage for that, or so old that the runs it started may be gone: then
    nobody knows what it has started.
    """
    now_ms = clock.now_ms()
    async with store.write() as c:
        found = await views.show_event(c, event_id)
        came = await c.first("select received_at from event where id = :id", id=event_id)
        assert came is not None, "it was just shown"
        if came["received_at"] <= now_ms - keep_runs_days * DAY_MS:
            raise ConfigError(
                f"the event {event_id} came at {rfc3339(came['received_at'])}: runs are kept for {keep_runs_days} days "
                "(HUB_KEEP_RUNS_DAYS), so nobody knows any more what it has started; it stays as it is"
            )
        if not await events.route_again(c, event_id, who=who, at_ms=now_ms):
            why = _NOT_NOW.get(found["stage"], f"it is at the stage {found['stage']}")
            raise ConfigError(f"the event {event_id} cannot be replayed: {why}")
    _log.warning("an event is replayed", extra={"what": "event_replayed", "event_id": event_id, "who": who})
    ring()


async def outcome(store: Store, event_id: str, *, limit_s: float) -> shown.Event:
    """The event as `views.show_event` has it, once it is routed, or as it is after `limit_s`."""
    until = asyncio.get_running_loop().time() + limit_s
    while True:
        async with store.read() as c:
            found = await views.show_event(c, event_id)
        if found["stage"] != "route" or asyncio.get_running_loop().time() >= until:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)
