"""Deliveries and events: `arriving` stores each of them once, `stored` routes them and finds them again."""

from hub.store.events.arriving import HISTORY, Incoming, NewEvent, Stored, append_consents, enriched, ingest
from hub.store.events.stored import (
    StoredEvent,
    answers_watch,
    came_since,
    event_scope,
    found_by_key,
    get,
    mark_routed,
    quarantine,
    route_again,
    set_aside,
    take_up,
    to_enrich,
    unrouted,
    unrouted_of,
)

__all__ = [
    "HISTORY",
    "Incoming",
    "NewEvent",
    "Stored",
    "StoredEvent",
    "answers_watch",
    "append_consents",
    "came_since",
    "enriched",
    "event_scope",
    "found_by_key",
    "get",
    "ingest",
    "mark_routed",
    "quarantine",
    "route_again",
    "set_aside",
    "take_up",
    "to_enrich",
    "unrouted",
    "unrouted_of",
]
