"""Events, what started no run for them, and the calls that brought them, as people see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic_core import from_json

from hub import shown
from hub.catalogue import nearest
from hub.clock import rfc3339
from hub.errors import NotThere
from hub.ids import key_hash
from hub.store import connections, deliveries
from hub.store.deliveries import MANY_ADDRESSES, NO_CONNECTOR
from hub.store.session import Connection, Row
from hub.store.views.runs import RUNS, run_view

EVENTS = "select event.*, connection.name as connection from event left join connection on connection.id = event.connection_id"


async def list_events(
    c: Connection,
    *,
    type_: str | None = None,
    stage: str | None = None,
    before: str | None = None,
    most: int = 50,
    installed: Callable[[], Iterable[str]] = tuple,
) -> list[shown.EventLine]:
    """Events, newest first, without their data. `installed` gives the types that triggers have, where it matters.

    Raises NotThere for a type that no trigger has and no event is of.
    """
    tests = {"event.type = :type": type_, "event.stage = :stage": stage, "event.id < :before": before}
    where = " and ".join(test for test, given in tests.items() if given is not None)
    given = {k: v for k, v in {"type": type_, "stage": stage, "before": before}.items() if v is not None}
    rows = await c.all(
        f"{EVENTS} {f'where {where}' if where else ''} order by event.id desc limit :most", most=most, **given
    )
    if type_ is not None and not rows:
        await _require_type(c, type_, installed())
    return [event_view(row) for row in rows]


async def _require_type(c: Connection, type_: str, installed: Iterable[str]) -> None:
    """Raise NotThere unless a trigger has this type, or an event is of it that came from a plugin no longer there."""
    known = set(installed)
    if type_ in known or await c.first("select 1 as known from event where type = :type limit 1", type=type_):
        return
    newest = "select type from event order by id desc limit 1000"
    known |= {row["type"] for row in await c.all(f"select distinct type from ({newest}) as newest")}
    raise NotThere(f"there is no event type {type_}{nearest(type_, known)}; `hub plugins` lists them")


async def show_event(c: Connection, event_id: str) -> shown.Event:
    """One event with its data, the runs it started, and why it started none of others. Raises NotThere."""
    row = await c.first(f"{EVENTS} where event.id = :id", id=event_id)
    if row is None:
        raise NotThere(f"there is no event {event_id}; `hub events list` shows what there is")
    # A run that an event started is one of its person's; without a person there is one of each recipe at most.
    whose = (
        "run.contact_id = :contact and run.entry_key like :key || '%'"
        if row["contact_id"]
        else "run.recipe in (select name from recipe) and run.entry_key = :key"
    )
    given = {"contact": row["contact_id"]} if row["contact_id"] else {}
    started = await c.all(f"{RUNS} where {whose} order by run.id", key=f"ev:{event_id}:", **given)
    verdicts = await c.all("select * from verdict where event_id = :id order by recipe", id=event_id)
    return {
        **event_view(row),
        "data": from_json(row["data"]),
        "started": [run_view(r) for r in started],
        "not_started": [verdict_view(v) for v in verdicts],
    }


async def events_of(
    c: Connection, contact_id: str, after: tuple[int, str], most: int
) -> list[tuple[Row, shown.WholeEvent]]:
    """A person's next events with their data, in the order in which they came, after an instant and id; with their rows."""
    rows = await c.all(
        f"{EVENTS} where event.contact_id = :contact and (event.received_at > :at "
        "or (event.received_at = :at and event.id > :id)) order by event.received_at, event.id limit :most",
        contact=contact_id,
        at=after[0],
        id=after[1],
        most=most,
    )
    return [(row, {**event_view(row), "data": from_json(row["data"])}) for row in rows]


def event_view(row: Row) -> shown.EventLine:
    """An event in one line."""
    return {
        "id": row["id"],
        "type": row["type"],
        "connection": row["connection"],
        "contact": row["contact_id"],
        "stage": row["stage"],
        "note": row["note"],
        "duplicates": row["duplicates"],
        "occurred_at": rfc3339(row["occurred_at"]),
        "received_at": rfc3339(row["received_at"]),
    }


def verdict_view(row: Row) -> shown.Verdict:
    return {
        "recipe": row["recipe"],
        "event": row["event_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "at": rfc3339(row["at"]),
    }


def delivery_view(row: Row) -> shown.Delivery:
    """A delivery without its body: `state` is accepted, unrecognised or unreadable, `note` says why."""
    return {
        "id": row["id"],
        "connector": row["connector"],
        "topic": row["topic"],
        "state": row["state"],
        "note": row["note"],
        "bytes": row["bytes"],
        "received_at": rfc3339(row["received_at"]),
    }


async def list_refusals(c: Connection, *, most: int) -> list[shown.Refusal]:
    """Calls that were refused, counted by address, reason and minute, the newest first."""
    apps, accounts = await connections.everything(c)
    owners = {(one["connector"], key_hash(one["inbound_key"])): ("app", one["name"]) for one in apps}
    owners |= {(one["connector"], key_hash(one["inbound_key"])): ("connection", one["name"]) for one in accounts}
    rows = await deliveries.refused(c, most)
    return [_refusal_view(row, *owners.get((row["connector"], row["key_hash"]), ("", None))) for row in rows]


def _refusal_view(row: Row, kind: str, owner: str | None) -> shown.Refusal:
    return {
        "connector": row["connector"],
        "connection": owner if kind == "connection" else None,
        "app": owner if kind == "app" else None,
        "key_hash": row["key_hash"],
        "reason": row["reason"],
        "count": row["count"],
        "minute": rfc3339(row["minute"] * 60_000),
        "samples": from_json(row["samples"]),
        "remedy": _remedy(row, kind, owner),
    }


def _remedy(row: Row, kind: str, owner: str | None) -> str:
    if owner is not None:
        return f"compare address and secrets with the vendor's settings: `hub {kind}s show {owner}`"
    if row["connector"] == NO_CONNECTOR:
        return "nothing here takes such calls; if something should, `hub plugins` shows which connectors there are"
    if row["key_hash"] == MANY_ADDRESSES:
        return "somebody tries addresses; nothing to do, unless calls that are meant are missing"
    return "take the address out of the vendor's settings, or give it one that `hub connections list` or `hub apps list` shows"
