"""Events that arrive: each delivery and each event is stored once (T1), with its keys and what it says about consent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from pydantic_core import to_json

from hub.events import Event, Json
from hub.ids import new_id
from hub.store import tombstones
from hub.store.lanes import Lane
from hub.store.session import Change, Connection
from hub.values import value

# The stage of an event that was read of a connection's past: it has its person, and is never routed.
HISTORY = "history"


@value(frozen=True)
class NewEvent:
    """An event about to be stored, with the connection it belongs to ('' when no connection has its account)."""

    event: Event
    connection_id: str
    connection: str
    stage: str = "route"
    note: str | None = None
    id: str = field(default_factory=new_id)


@value(frozen=True)
class Incoming:
    """A verified delivery about to be stored. `delivery_id` is the vendor's own, None if it gives none.

    `state` is accepted, unrecognised or unreadable; `note` says why. Without `body` (polls, derived events) no delivery row
    is written.
    """

    scope: str
    delivery_id: str | None
    events: Sequence[NewEvent]
    received_at_ms: int
    connector: str = ""
    connection_id: str = ""
    topic: str = ""
    request: Mapping[str, Json] = field(default_factory=dict)
    body: bytes | None = None
    state: str = "accepted"
    note: str = ""
    id: str = field(default_factory=new_id)


@value(frozen=True)
class Stored:
    """What became of a delivery: the ids of events that are new, and how many were known already."""

    event_ids: tuple[str, ...]
    duplicates: int
    duplicate_delivery: bool


_CLAIM = """
insert into dedupe (scope, id, event_id, seen_at)
select scope, id, event_id, seen_at from {rows} where true
on conflict do nothing returning scope, id
"""
_CLAIM_COLUMNS = {"scope": "text", "id": "text", "event_id": "text", "seen_at": "bigint"}

# An event that meets itself, out of the spool or after a commit of which nobody heard, is no duplicate.
_DUPLICATE = """
update event set duplicates = event.duplicates + again.n
from (select d.event_id as event_id, count(*) as n from {rows} join dedupe d on d.scope = r.scope and d.id = r.id
where d.event_id <> r.event_id group by d.event_id) as again where event.id = again.event_id
"""

_LATE = """
select event.id as id, r.mine as mine from {rows} join dedupe d on d.scope = r.scope and d.id = r.id
join event on event.id = d.event_id join connection on connection.id = event.connection_id
where event.stage = 'history' and event.occurred_at >= connection.created_at
"""
_NO_HISTORY = """
update event set stage = r.stage, data = r.data, subject = r.subject, received_at = r.received_at, cause = r.cause,
delivery_id = r.delivery_id from {rows} where event.id = r.id
"""

_DELIVERY = """
insert into delivery (id, connector, connection_id, topic, received_at, request, body, state, note)
values (:id, :connector, :connection_id, :topic, :received_at, :request, :body, :state, :note)
on conflict (id) do nothing
"""

_EVENT = """
insert into event (id, connection_id, delivery_id, type, occurred_at, received_at, data, subject, stage, note, cause)
select id, connection_id, delivery_id, type, occurred_at, received_at, data, subject, stage, note, cause from {rows} where true
"""
_EVENT_COLUMNS = {
    "id": "text",
    "connection_id": "text",
    "delivery_id": "text",
    "type": "text",
    "occurred_at": "bigint",
    "received_at": "bigint",
    "data": "text",
    "subject": "text",
    "stage": "text",
    "note": "text",
    "cause": "text",
}

_KEY = "insert into event_key (type, key, event_id) select type, key, event_id from {rows} where true on conflict do nothing"
_KEY_COLUMNS = {"type": "text", "key": "text", "event_id": "text"}

_CONSENT = """
insert into consent (id, channel, address, purpose, state, reason, source, event_id, at)
select id, channel, address, purpose, state, reason, source, event_id, at from {rows} where true
"""
_CONSENT_COLUMNS = dict.fromkeys(
    ("id", "channel", "address", "purpose", "state", "reason", "source", "event_id"), "text"
) | {"at": "bigint"}

_ENRICH = """
insert into work (kind, ref, queue, due_at)
select 'enrich', ref, queue, due_at from {rows} where true on conflict do nothing
"""


async def ingest(c: Connection, deliveries: Sequence[Incoming]) -> list[Stored]:
    """T1: store each delivery and its events once. Two ids stand guard: the vendor's delivery id and our fact id."""
    known = await _known_deliveries(c, deliveries)
    fresh = [d for d, duplicate in zip(deliveries, known, strict=True) if not duplicate]
    new = await _claim_facts(c, fresh)
    late = await _known_as_history(c, fresh, new)
    ids_of = {id_: id_ for id_ in new} | late
    stored: list[Stored] = []
    for delivery, duplicate in zip(deliveries, known, strict=True):
        ids = tuple(ids_of[e.id] for e in delivery.events if e.id in ids_of)
        stored.append(Stored(ids, len(delivery.events) - len(ids), duplicate))
    rows = [(d, e) for d in fresh for e in d.events if e.id in new]
    taken = [(d, replace(e, id=late[e.id])) for d in fresh for e in d.events if e.id in late]
    hidden = await _of_erased(c, [(d, e) for d in fresh for e in d.events if e.id not in new and e.id not in late])
    await c.many(_DELIVERY, [_delivery_row(d, hidden=d.id in hidden) for d in fresh if d.body is not None])
    routed = [(d, e) for d, e in [*rows, *taken] if e.stage != HISTORY]
    enriched = {(e.connection, e.event.type): _enrich_row(d, e) for d, e in routed if e.stage == "enrich"}
    await c.together(
        Change(_EVENT, _EVENT_COLUMNS, [_event_row(d, e) for d, e in rows]),
        Change(_NO_HISTORY, _EVENT_COLUMNS, [_event_row(d, e) for d, e in taken]),
        # Nobody looks for what is past.
        Change(_KEY, _KEY_COLUMNS, [key for _, e in routed for key in _event_keys(e)]),
        Change(_CONSENT, _CONSENT_COLUMNS, [row for _, e in rows for row in _consent_rows(e)]),
        Change(_ENRICH, {"ref": "text", "queue": "text", "due_at": "bigint"}, list(enriched.values())),
    )
    await _note_duplicates(c, deliveries, set(ids_of))
    return stored


def _enrich_row(delivery: Incoming, new: NewEvent) -> dict[str, Any]:
    return {
        "ref": f"{new.connection}|{new.event.type}",
        "queue": str(Lane(connection=new.connection)),
        "due_at": delivery.received_at_ms,
    }


async def _known_deliveries(c: Connection, deliveries: Sequence[Incoming]) -> list[bool]:
    """For each delivery whether its id was stored before, or stands earlier in this group."""
    named = [d for d in deliveries if d.delivery_id]
    claimed = await c.group(
        _CLAIM,
        _CLAIM_COLUMNS,
        [
            {
                "scope": d.scope,
                "id": f"delivery:{d.delivery_id}",
                "event_id": d.events[0].id if d.events else None,
                "seen_at": d.received_at_ms,
            }
            for d in sorted(named, key=lambda d: (d.scope, str(d.delivery_id)))
        ],
    )
    free = {(row["scope"], row["id"]) for row in claimed}
    known = []
    for delivery in deliveries:
        key = (delivery.scope, f"delivery:{delivery.delivery_id}")
        known.append(bool(delivery.delivery_id) and key not in free)
        free.discard(key)
    return known


async def _claim_facts(c: Connection, fresh: Sequence[Incoming]) -> set[str]:
    """The ids of the events whose fact was not known."""
    owners: dict[tuple[str, str], NewEvent] = {}
    for delivery in fresh:
        for new in delivery.events:
            owners.setdefault(_fact_key(delivery, new), new)
    personal = [key for key in owners if tombstones.PERSONAL.search(key[1])]
    known = await tombstones.known_facts(c, personal)
    hidden = await _hidden_facts(c, {key: owners[key] for key in personal})
    claims = {(key[0], hidden.get(key, key[1])): new.id for key, new in owners.items() if key not in known}
    rows = [
        {"scope": scope, "id": fact, "event_id": event_id, "seen_at": fresh[0].received_at_ms}
        for (scope, fact), event_id in sorted(claims.items())
    ]
    claimed = await c.group(_CLAIM, _CLAIM_COLUMNS, rows)
    return {claims[(row["scope"], row["id"])] for row in claimed}


async def _hidden_facts(c: Connection, facts: Mapping[tuple[str, str], NewEvent]) -> dict[tuple[str, str], str]:
    """What facts are kept under that name somebody who was erased after they happened."""
    keys = {key: new.event.subject.keys(new.connection) for key, new in facts.items() if new.event.subject}
    buried = await tombstones.erased_at(c, {one for of in keys.values() for one in of})
    return {
        key: name
        for key, of in keys.items()
        if any(facts[key].event.occurred_at_ms <= buried.get(one, -1) for one in of)
        and (name := tombstones.hidden_fact(c, key[1]))
    }


async def _of_erased(c: Connection, repeated: Sequence[tuple[Incoming, NewEvent]]) -> set[str]:
    """The deliveries (ids) that repeat what is known of people who were erased: their bodies are not kept again."""
    named = [
        (d.id, key)
        for d, e in repeated
        if d.body is not None and e.event.subject is not None
        for key in e.event.subject.keys(e.connection)
    ]
    buried = await tombstones.erased_at(c, {key for _, key in named})
    return {id_ for id_, key in named if key in buried}


async def _known_as_history(c: Connection, fresh: Sequence[Incoming], new: set[str]) -> dict[str, str]:
    """Of events whose fact was read from the past before its own call came: their ids to those they are stored under.

    Only what happened since the connection is there: what is older would have started nothing.
    """
    rows = await c.group(
        _LATE,
        {"scope": "text", "id": "text", "mine": "text"},
        [
            {"scope": scope, "id": fact, "mine": e.id}
            for d in fresh
            for e in d.events
            if e.id not in new and e.stage != HISTORY
            for scope, fact in [_fact_key(d, e)]
        ],
    )
    # Of doubles in one group the first is taken.
    return {mine: id_ for id_, mine in {row["id"]: row["mine"] for row in reversed(rows)}.items()}


def _fact_key(delivery: Incoming, new: NewEvent) -> tuple[str, str]:
    # Of accounts that nobody connected, several may have a fact of one name.
    scope = new.connection_id or f"{delivery.scope}|{new.event.account or ''}"
    return (scope, f"fact:{new.event.type}:{new.event.fact_id}")


async def _note_duplicates(c: Connection, deliveries: Sequence[Incoming], new: set[str]) -> None:
    """Count what was told again on the event that was first. A poll is not told: it looks back, to find what it knows."""
    told = [d for d in deliveries if d.body is not None]
    seen = sorted((*_fact_key(d, e), e.id) for d in told for e in d.events if e.id not in new)
    await c.group(
        _DUPLICATE,
        {"scope": "text", "id": "text", "event_id": "text"},
        [{"scope": scope, "id": fact, "event_id": event_id} for scope, fact, event_id in seen],
    )


def _delivery_row(d: Incoming, *, hidden: bool) -> dict[str, Any]:
    d = replace(d, request={}, body=b"", note="erased") if hidden else d
    return {
        "id": d.id,
        "connector": d.connector,
        "connection_id": d.connection_id,
        "topic": d.topic,
        "received_at": d.received_at_ms,
        "request": to_json(d.request).decode(),
        "body": d.body,
        "state": d.state,
        "note": d.note,
    }


def _event_row(delivery: Incoming, new: NewEvent) -> dict[str, Any]:
    e = new.event
    return {
        "id": new.id,
        "connection_id": new.connection_id,
        "delivery_id": delivery.id if delivery.body is not None else None,
        "type": e.type,
        "occurred_at": e.occurred_at_ms,
        "received_at": delivery.received_at_ms,
        "data": to_json(e.data).decode(),
        "subject": to_json(vars(e.subject)).decode() if e.subject else None,
        "stage": new.stage,
        "note": new.note,
        "cause": e.cause,
    }


async def enriched(c: Connection, filled: Sequence[NewEvent]) -> None:
    """Filled-in events go on to be routed: data, person, keys and consent as they are now. Those that were erased stay empty."""
    rows = await c.group(
        "update event set data = r.data, subject = r.subject, cause = r.cause, stage = 'route' from {rows} "
        "where event.id = r.id and event.stage = 'enrich' returning event.id as id",
        {"id": "text", "data": "text", "subject": "text", "cause": "text"},
        [
            {
                "id": new.id,
                "data": to_json(new.event.data).decode(),
                "subject": to_json(vars(new.event.subject)).decode() if new.event.subject else None,
                "cause": new.event.cause,
            }
            for new in filled
        ],
    )
    done = {row["id"] for row in rows}
    taken = [new for new in filled if new.id in done]
    await c.group(_KEY, _KEY_COLUMNS, [key for new in taken for key in _event_keys(new)])
    await c.group(_CONSENT, _CONSENT_COLUMNS, [row for new in taken for row in _consent_rows(new)])


def _event_keys(new: NewEvent) -> list[dict[str, str]]:
    """What an event can be found by: its person's identities, and the fields its trigger lists in `correlate`."""
    people = new.event.subject.keys(new.connection) if new.event.subject else []
    keys = [("identity", f"{kind}:{value}") for kind, value in people]
    keys += [(new.event.type, f"{name}={value}") for name, value in new.event.correlate.items()]
    return [{"type": type_, "key": key, "event_id": new.id} for type_, key in keys]


def _consent_rows(new: NewEvent) -> list[dict[str, Any]]:
    """What an event says about consent, as rows of the ledger."""
    return [
        {
            "id": new_id(),
            "channel": s.channel,
            "address": s.address,
            "purpose": s.purpose,
            "state": s.state.value,
            "reason": s.reason,
            "source": new.event.type,
            "event_id": new.id,
            "at": s.said_at_ms(new.event.occurred_at_ms),
        }
        for s in new.event.consents
    ]


async def append_consents(c: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the consent ledger."""
    await c.group(_CONSENT, _CONSENT_COLUMNS, rows)
