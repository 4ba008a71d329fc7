"""Stored events: routing them, once or again, and finding them for whoever waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from pydantic_core import from_json

from hub.clock import rfc3339
from hub.conditions import Truth, judge
from hub.events import Identity, Json
from hub.store.events.arriving import HISTORY
from hub.store.session import Change, Connection, Row
from hub.values import value

# How the note of an event begins that is routed again.
_AGAIN = "replayed at "
# Vendors' clocks run behind or give whole seconds: an event this much older than a wait still answers it.
_CLOCK_TOLERANCE_MS = 60_000
_PAGE = 50
# Our own processes agree on the time to within this: an answer may bear an earlier instant than the run it answers.
_SKEW_MS = 250


@value(frozen=True)
class StoredEvent:
    """An event as stored. One that is routed `again` was routed before: its person and what it told those who waited stay."""

    id: str
    type: str
    connection_id: str
    occurred_at_ms: int
    received_at_ms: int
    data: Mapping[str, Json]
    subject: Identity | None
    contact_id: str | None = None
    cause: str | None = None
    again: bool = False

    @classmethod
    def of(cls, row: Row) -> StoredEvent:
        """From a row of the table `event`."""
        return cls(
            id=row["id"],
            type=row["type"],
            connection_id=row["connection_id"],
            occurred_at_ms=row["occurred_at"],
            received_at_ms=row["received_at"],
            data=from_json(row["data"]),
            subject=Identity(**from_json(row["subject"])) if row["subject"] else None,
            contact_id=row["contact_id"],
            cause=row["cause"],
            again=bool(row.get("again")),
        )


def event_scope(event: StoredEvent, connection: str) -> dict[str, Json]:
    """An event as recipes see it: its data and `type`, `occurred_at`, `event_id`, `connection`."""
    return {
        **event.data,
        "type": event.type,
        "occurred_at": rfc3339(event.occurred_at_ms),
        "event_id": event.id,
        "connection": connection,
    }


def answers_watch(event: Mapping[str, Json], stored: StoredEvent, condition: Json, since_ms: int) -> bool:
    """Whether an event that matched a watch's key is the one waited for: in time, and its condition true."""
    if stored.received_at_ms < since_ms - _SKEW_MS or stored.occurred_at_ms < since_ms - _CLOCK_TOLERANCE_MS:
        return False
    return condition is None or judge(condition, {"event": event}).truth is Truth.TRUE


_FIELDS = "id, type, connection_id, occurred_at, received_at, data, subject, contact_id, cause"


async def unrouted(c: Connection, most: int) -> list[StoredEvent]:
    """The oldest unrouted events, locked; those that another worker has locked are passed over."""
    rows = await c.all(
        f"select {_FIELDS}, coalesce(note like '{_AGAIN}%', false) as again from event where stage = 'route' "
        f"order by id limit :most {c.skip_locked}",
        most=most,
    )
    return [StoredEvent.of(row) for row in rows]


def mark_routed(contacts: Mapping[str, str | None]) -> Change:
    """Events (id to contact id) are routed."""
    return Change(
        "update event set stage = 'routed', contact_id = r.contact_id from {rows} where event.id = r.id",
        {"id": "text", "contact_id": "text"},
        [{"id": id_, "contact_id": contact_id} for id_, contact_id in contacts.items()],
    )


async def set_aside(c: Connection, waiting: Mapping[str, str]) -> None:
    """These events (id to connector) are routed when the connector's plugin is loaded again."""
    await c.group(
        "update event set stage = 'plugin', note = r.note from {rows} where event.id = r.id",
        {"id": "text", "note": "text"},
        [{"id": id_, "note": f"the plugin of {name} is not loaded; install it"} for id_, name in waiting.items()],
    )


async def take_up(c: Connection, connector: str) -> int:
    """What was set aside for want of a connector's plugin is routed next; returns how many."""
    return await c.run(
        "update event set stage = 'route', note = null where stage = 'plugin' "
        "and substr(type, 1, length(cast(:prefix as text))) = :prefix",
        prefix=f"{connector}.",
    )


async def to_enrich(c: Connection, connection_id: str, type_: str, most: int) -> list[StoredEvent]:
    """The oldest events of a connection and type that wait to be filled in."""
    rows = await c.all(
        f"select {_FIELDS} from event where stage = 'enrich' and type = :type and connection_id = :connection "
        "order by id limit :most",
        type=type_,
        connection=connection_id,
        most=most,
    )
    return [StoredEvent.of(row) for row in rows]


async def quarantine(c: Connection, event_id: str, reason: str) -> None:
    """Set an event aside that cannot be routed, with the reason; `hub events list --stage quarantined` shows it."""
    await c.run(
        f"update event set stage = 'quarantined', note = case when note like '{_AGAIN}%' then note || '; ' else '' end "
        "|| cast(:reason as text) where id = :id and stage in ('enrich', 'route')",
        id=event_id,
        reason=reason,
    )


async def route_again(c: Connection, event_id: str, *, who: str, at_ms: int) -> bool:
    """An event that was routed, or could not be, is routed next; False when it is at another stage meanwhile."""
    said = f"{_AGAIN}{rfc3339(at_ms)} by {who}"
    return bool(
        await c.run(
            # One that never came through is routed as if it came now.
            f"update event set note = case when stage = 'routed' or note like '{_AGAIN}%' then cast(:said as text) end, "
            "stage = 'route' where id = :id and stage in ('routed', 'quarantined')",
            id=event_id,
            said=said,
        )
    )


async def get(c: Connection, event_id: str) -> StoredEvent | None:
    """One event, or None."""
    row = await c.first(f"select {_FIELDS} from event where id = :id", id=event_id)
    return StoredEvent.of(row) if row else None


async def found_by_key(c: Connection, type_: str, key: str, since_ms: int = 0) -> list[StoredEvent]:
    """Events of a type with a correlated field (`message_id=SM1`) received since an instant, the first 50, oldest first."""
    rows = await c.all(
        f"select {_FIELDS} from event where id in (select event_id from event_key where type = :type and key = :key) "
        "and received_at >= :since order by id limit 50",
        type=type_,
        key=key,
        since=since_ms - _SKEW_MS,
    )
    return [StoredEvent.of(row) for row in rows]


async def came_since(c: Connection, type_: str, key: str, since_ms: int) -> AsyncIterator[StoredEvent]:
    """What a waiter for this type and key (`contact=…`, `message_id=SM1`) may be answered by, oldest first.

    A contact's is read some at a time, since whoever asks stops at the first that fits.
    """
    field, _, contact_id = key.partition("=")
    if field != "contact":
        for event in await found_by_key(c, type_, key, since_ms):
            yield event
        return
    at_ms, id_ = since_ms - _SKEW_MS, ""
    while True:
        rows = await c.all(
            f"select {_FIELDS} from event where contact_id = :contact and type = :type and stage <> '{HISTORY}' "
            "and received_at >= :at and (received_at > :at or id > :id) order by received_at, id limit :most",
            contact=contact_id,
            type=type_,
            at=at_ms,
            id=id_,
            most=_PAGE,
        )
        for row in rows:
            yield StoredEvent.of(row)
        if len(rows) < _PAGE:
            return
        at_ms, id_ = rows[-1]["received_at"], rows[-1]["id"]


async def unrouted_of(c: Connection, identities: Sequence[str]) -> list[tuple[str, StoredEvent]]:
    """Unrouted events about one of these identities (`email:…`), each with the identity that matched."""
    rows = await c.group(
        f"select k.key as identity, {', '.join('e.' + f for f in _FIELDS.split(', '))} from event e "
        "join event_key k on k.event_id = e.id join {rows} on r.type = k.type and r.key = k.key where e.stage = 'route'",
        {"key": "text", "type": "text"},
        [{"type": "identity", "key": identity} for identity in identities],
    )
    return [(row["identity"], StoredEvent.of(row)) for row in rows]
