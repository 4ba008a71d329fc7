"""Emptying what is stored about somebody: what they did and what was done for them stays as a count, without content.

Rows are found by the contact they are about and lose that as they are emptied, so that what was begun can be gone on with
anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic_core import from_json, to_json

from hub.events import Identity
from hub.store import spending
from hub.store.session import Connection, Row
from hub.store.tombstones import Key

STAGE = "erased"
"""The stage of an event that is empty."""

NOTHING = "{}"
"""What an emptied object is."""

ERASED = "erased"
"""What an emptied text says."""

STEP = 100
"""How many runs or events a step empties."""

_LIVE = """
select run.id as id, work.owner as owner from run left join work on work.kind = 'run' and work.ref = run.id
where run.contact_id = :contact and run.finished_at is null order by run.id
"""


# -- runs --------------------------------------------------------------------------------------------------------------


async def live_runs(c: Connection, contact_id: str) -> tuple[list[str], list[str]]:
    """Somebody's runs that go on, locked: those that nobody has in hand, and those that somebody has."""
    await c.all(
        "select ref from work where kind = 'run' and ref in "
        "(select id from run where contact_id = :contact and finished_at is null) order by ref " + c.for_update,
        contact=contact_id,
    )
    rows = await c.all(_LIVE, contact=contact_id)
    return [r["id"] for r in rows if r["owner"] is None], [r["id"] for r in rows if r["owner"] is not None]


async def end_runs(c: Connection, run_ids: Iterable[str], now_ms: int) -> None:
    """These runs are cancelled here and now: whoever had one in hand can write nothing of it any more.

    A call that may have been made is of unknown outcome; its late answer is not written down.
    """
    given, columns = [{"run_id": id_} for id_ in sorted(run_ids)], {"run_id": "text"}
    among = "in (select run_id from {rows})"
    await c.group(f"delete from work where kind = 'run' and ref {among}", columns, given)
    reserved = await c.group(
        f"select key from effect where state in ('planned', 'queued') and run_id {among}", columns, given
    )
    await spending.settle_all(c, [row["key"] for row in reserved], made=False)
    await c.group(f"delete from waiter where run_id {among}", columns, given)
    await c.group(
        "update effect set outcome = case when state = 'intended' then 'unknown' else 'withdrawn' end, "
        "state = case when state = 'intended' then 'unknown' else 'withdrawn' end, reason = :why, finished_at = :now, "
        f"token = '', batch = null where state in ('planned', 'queued', 'intended') and run_id {among}",
        columns,
        given,
        why=ERASED,
        now=now_ms,
    )
    await c.group(
        "delete from message where sent_at is null and effect_key in "
        "(select key from effect where state = 'withdrawn' and run_id in (select run_id from {rows}))",
        columns,
        given,
    )
    await c.group(
        "update run set status = 'cancelled', ended_by = 'cancelled', reason = :why, finished_at = :now, wake = null, "
        "stop = null from {rows} where run.id = r.run_id and coalesce(run.finished_at, 0) = 0",
        columns,
        given,
        why=ERASED,
        now=now_ms,
    )


async def empty_runs(c: Connection, contact_id: str) -> int:
    """Empty the next of somebody's runs, which have all ended; returns how many."""
    rows = await c.all(
        "select id, recipe, scope from run where contact_id = :contact order by id limit :most",
        contact=contact_id,
        most=STEP,
    )
    given, columns = [{"run_id": row["id"]} for row in rows], {"run_id": "text"}
    among = "in (select run_id from {rows})"
    await c.group(
        "delete from entry where exists (select 1 from {rows} where entry.recipe = r.recipe and entry.scope = r.scope)",
        {"recipe": "text", "scope": "text"},
        [{"recipe": row["recipe"], "scope": row["scope"]} for row in rows if row["scope"]],
    )
    await c.group(
        "update effect set request = '{\"input\": {}}', response = null, reason = case when reason is null then null "
        f"else :why end, batch = null where run_id {among}",
        columns,
        given,
        why=ERASED,
    )
    await c.group(f"update step set reason = :why where run_id {among}", columns, given, why=ERASED)
    await c.group(
        "update run set contact_id = null, scope = '', trigger_data = '{}', ctx = '{}', wake = null, stop = null, "
        "reason = :why from {rows} where run.id = r.run_id",
        columns,
        given,
        why=ERASED,
    )
    return len(rows)


async def empty_mentions(c: Connection, contact_id: str) -> None:
    """Somebody's messages and verdicts are nobody's."""
    await c.run("update message set contact_id = null where contact_id = :contact", contact=contact_id)
    await c.run(
        "update verdict set contact_id = null, reason = :why where contact_id = :contact",
        contact=contact_id,
        why=ERASED,
    )


# -- events ------------------------------------------------------------------------------------------------------------


async def events_of(c: Connection, contact_id: str) -> list[str]:
    """The next of somebody's events."""
    rows = await c.all(
        "select id from event where contact_id = :contact order by received_at, id limit :most",
        contact=contact_id,
        most=STEP,
    )
    return [row["id"] for row in rows]


async def events_about(c: Connection, keys: Iterable[Key], until_ms: int) -> list[str]:
    """The next events up to an instant that name one of these identities, are nobody's yet, and are not empty."""
    rows = await c.group(
        "select event.id as id from event_key join event on event.id = event_key.event_id "
        "where event_key.type = 'identity' and event_key.key in (select key from {rows}) and event.contact_id is null "
        f"and event.stage <> '{STAGE}' and event.occurred_at <= :until order by event.id limit {STEP}",
        {"key": "text"},
        [{"key": f"{kind}:{value}"} for kind, value in keys],
        until=until_ms,
    )
    return [row["id"] for row in rows]


async def empty_events(c: Connection, event_ids: Sequence[str], note: str) -> int:
    """Empty events: their data, whom they are about, what they are found by, the consent they brought and the call they
    came in. Id, type and times stay, so that the same fact counts once. Returns how many deliveries were emptied.
    """
    if not event_ids:
        return 0
    rows = await c.group(
        "select event.id as id, event.type as type, event.data as data, event.subject as subject, "
        "event.delivery_id as delivery_id, coalesce(connection.name, event.connection_id) as connection "
        "from event join {rows} on event.id = r.id left join connection on connection.id = event.connection_id",
        {"id": "text"},
        [{"id": id_} for id_ in event_ids],
    )
    await c.group(
        "delete from event_key where exists "
        "(select 1 from {rows} where event_key.type = r.type and event_key.key = r.key and event_key.event_id = r.event_id)"
        if c.dialect == "sqlite"
        else "delete from event_key using {rows} "
        "where event_key.type = r.type and event_key.key = r.key and event_key.event_id = r.event_id",
        {"type": "text", "key": "text", "event_id": "text"},
        [key for row in rows for key in _keys_of(row)],
    )
    given = [{"id": row["id"]} for row in rows]
    await c.group(
        f"update event set data = '{NOTHING}', subject = null, contact_id = null, cause = null, note = :note, "
        f"stage = '{STAGE}' from {{rows}} where event.id = r.id",
        {"id": "text"},
        given,
        note=note,
    )
    await c.group(
        "update verdict set contact_id = null, reason = :why where event_id in (select id from {rows})",
        {"id": "text"},
        given,
        why=ERASED,
    )
    await c.group(
        "delete from work where kind = 'debounce' and data in (select data from {rows})",
        {"data": "text"},
        [{"data": to_json({"event_id": row["id"]}).decode()} for row in rows],
    )
    return await empty_deliveries(c, {row["delivery_id"] for row in rows if row["delivery_id"]})


def _keys_of(row: Row) -> list[dict[str, str]]:
    """What an event may be found by: its person's identities, and any of its fields."""
    subject = Identity(**from_json(row["subject"])) if row["subject"] else Identity()
    found = [("identity", f"{kind}:{value}") for kind, value in subject.keys(row["connection"])]
    found += [(row["type"], f"{name}={value}") for name, value in from_json(row["data"]).items() if value is not None]
    return [{"type": type_, "key": key, "event_id": row["id"]} for type_, key in found]


async def empty_deliveries(c: Connection, ids: Iterable[str]) -> int:
    """Empty calls as they came: what is left is when they came, and for which topic. Returns how many."""
    rows = await c.group(
        f"update delivery set body = :nothing, request = '{NOTHING}', note = :why where id in (select id from {{rows}}) "
        f"and (length(body) > 0 or request <> '{NOTHING}') returning id",
        {"id": "text"},
        [{"id": id_} for id_ in sorted(ids)],
        nothing=b"",
        why=ERASED,
    )
    return len(rows)


async def empty_deliveries_of(
    c: Connection, connection_id: str, after: str, until_ms: int, most: int
) -> tuple[int, str | None]:
    """Empty the calls for a connection among the next so many after an id; returns how many, and where to go on from."""
    rows = await c.all(
        "select id, connection_id, received_at from delivery where id > :after order by id limit :most",
        after=after,
        most=most,
    )
    found = [r["id"] for r in rows if r["connection_id"] == connection_id and r["received_at"] <= until_ms]
    return await empty_deliveries(c, found), rows[-1]["id"] if len(rows) == most else None


async def drop_consents(c: Connection, event_ids: Iterable[str]) -> None:
    """Take back the statements that events brought which are not taken any more; they are not older than their events."""
    ids = sorted(event_ids)
    await c.group(
        "delete from consent where id > :first and event_id in (select id from {rows})",
        {"id": "text"},
        [{"id": id_} for id_ in ids],
        first=min(ids, default=""),
    )


async def refuse_old(c: Connection, until: Mapping[str, int]) -> set[str]:
    """Empty those of these events that happened up to an instant each, when whom they are about was erased; returns them.

    What somebody does after their erasure is a new beginning, and is let through.
    """
    rows = await c.group(
        "select event.id as id from event join {rows} on event.id = r.id where event.occurred_at <= r.until",
        {"id": "text", "until": "bigint"},
        [{"id": id_, "until": at_ms} for id_, at_ms in until.items()],
    )
    old = sorted(row["id"] for row in rows)
    await empty_events(c, old, "it is about somebody who was erased after it happened")
    await drop_consents(c, old)
    return set(old)
