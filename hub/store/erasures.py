"""Records of what was erased, of what people want to know of themselves, and of which vendors are to forget whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import to_json

from hub.ids import new_id
from hub.store import blanking, contacts, merges, runs, tombstones, work
from hub.store.lanes import Lane, Rank
from hub.store.session import Connection, Row
from hub.store.tombstones import Key

ERASE, FORGET = "erase", "forget"
"""The kinds of work: erasing somebody, and telling one vendor to forget somebody."""

PERSON, ACCOUNT = "person", "account"
"""What an erasure is about."""

OPEN, DONE = "open", "done"
"""The states of an erasure, and of a request."""


@dataclass(frozen=True)
class Order:
    """An erasure as it is ordered: what of, at whose word and why, by which event, and as part of which one."""

    kind: str
    who: str
    reason: str
    at_ms: int
    event_id: str | None = None
    part_of: str | None = None


# -- erasures ----------------------------------------------------------------------------------------------------------


async def order(c: Connection, wanted: Order) -> str:
    """Record an erasure; returns its id."""
    id_ = new_id()
    await c.run(
        "insert into erasure (id, kind, reason, who, event_id, part_of, state, at) "
        "values (:id, :kind, :reason, :who, :event, :part_of, :state, :at)",
        id=id_,
        kind=wanted.kind,
        reason=wanted.reason,
        who=wanted.who,
        event=wanted.event_id,
        part_of=wanted.part_of,
        state=OPEN,
        at=wanted.at_ms,
    )
    return id_


async def queue(c: Connection, id_: str, data: str, due_ms: int) -> None:
    """Have an erasure carried out; `data` is sealed."""
    await work.add_if_absent(c, ERASE, id_, ERASE, due_ms, data)


async def close(c: Connection, contact_id: str, event_id: str | None, at_ms: int) -> list[Key] | None:
    """Nothing is known of somebody from here on, and nothing is done for them any more; None when they are gone already.

    Their runs end, at once where nobody has them in hand; the contact is deleted, its identities are kept as hashes and
    returned, since what is stored is still to be emptied.
    """
    if not await contacts.lock(c, [contact_id]):
        return None
    idle, in_hand = await blanking.live_runs(c, contact_id)
    await blanking.end_runs(c, idle, at_ms)
    await runs.stop(c, {id_: {"cancel": blanking.ERASED, "event": None} for id_ in in_hand}, at_ms)
    keys = (await contacts.identities(c, [contact_id])).get(contact_id, [])
    await bury(c, keys, event_id, at_ms)
    await c.run("delete from identity where contact_id = :contact", contact=contact_id)
    await c.run("delete from contact where id = :contact", contact=contact_id)
    await merges.forget(c, contact_id)
    await unask(c, contact_id, list(await asked_of(c, contact_id)))
    await c.run(
        "update export_request set contact_id = null, state = :done, answered_at = coalesce(answered_at, :at), "
        "who = coalesce(who, :who) where contact_id = :contact",
        contact=contact_id,
        done=DONE,
        at=at_ms,
        who=tombstones.ERASURE,
    )
    return keys


async def bury(c: Connection, keys: Sequence[Key], event_id: str | None, at_ms: int) -> None:
    """These identities are known by their hashes only, and what they agreed to before does not count."""
    await tombstones.bury(c, keys, at_ms)
    await tombstones.hide(c, keys, event_id, at_ms)


async def known_only_through(
    c: Connection, connection_id: str, connection: str, after: str, most: int
) -> tuple[list[str], str | None]:
    """Of the next contacts after an id those who are known through this connection only, and where to go on from."""
    rows = await c.all("select id from contact where id > :after order by id limit :most", after=after, most=most)
    mine = await c.group(
        "select r.id as id from {rows} where (exists (select 1 from identity where identity.contact_id = r.id "
        "and identity.kind = :kind) or exists (select 1 from event where event.contact_id = r.id "
        "and event.connection_id = :connection)) and not exists (select 1 from identity where identity.contact_id = r.id "
        "and identity.kind like 'id:%' and identity.kind <> :kind) and not exists (select 1 from event "
        "where event.contact_id = r.id and event.connection_id <> :connection)",
        {"id": "text"},
        [{"id": row["id"]} for row in rows],
        kind=f"id:{connection}",
        connection=connection_id,
    )
    return sorted(row["id"] for row in mine), rows[-1]["id"] if len(rows) == most else None


async def finish(c: Connection, id_: str, counts: Mapping[str, int], at_ms: int, *, note: str | None = None) -> None:
    """An erasure is done; how much of what it found."""
    await c.run(
        "update erasure set state = :done, counts = :counts, finished_at = :at, note = coalesce(:note, note) where id = :id",
        id=id_,
        done=DONE,
        counts=to_json(dict(counts)).decode(),
        at=at_ms,
        note=note,
    )


async def parts_open(c: Connection, id_: str) -> bool:
    """Whether parts of an erasure are not done yet."""
    row = await c.first("select 1 as one from erasure where part_of = :id and state = :open limit 1", id=id_, open=OPEN)
    return row is not None


async def listed(c: Connection, *, before: str | None = None, most: int = 50) -> list[Row]:
    """Erasures, newest first, without those that are parts of others; each with `asked` and `forgot`: how many connections
    were to forget, and how many did."""
    test, given = ("and id < :before", {"before": before}) if before is not None else ("", {})
    rows = await c.all(
        f"select * from erasure where part_of is null {test} order by id desc limit :most", most=most, **given
    )
    return await _with_forgetting(c, rows)


async def get(c: Connection, id_: str) -> Row | None:
    """One erasure, as `listed` has it."""
    rows = await c.all("select * from erasure where id = :id", id=id_)
    return next(iter(await _with_forgetting(c, rows)), None)


async def _with_forgetting(c: Connection, rows: Sequence[Row]) -> list[Row]:
    given = [{"id": row["id"]} for row in rows]
    found = await c.group(
        "select r.id as id, count(*) as asked, count(forgetting.done_at) as forgot from {rows} "
        "join forgetting on forgetting.owner = r.id "
        "or forgetting.owner in (select erasure.id from erasure where erasure.part_of = r.id) group by r.id",
        {"id": "text"},
        given,
    )
    counts = {row["id"]: (row["asked"], row["forgot"]) for row in found}
    return [
        {**row, "asked": asked, "forgot": forgot} for row in rows for asked, forgot in [counts.get(row["id"], (0, 0))]
    ]


# -- forgetting --------------------------------------------------------------------------------------------------------


async def ask(c: Connection, owner: str, connections: Iterable[str], now_ms: int, data: str | None = None) -> None:
    """These connections are to forget somebody: the contact `owner`, or whom the sealed `data` of an erasure names."""
    names = sorted(set(connections))
    await c.group(
        "insert into forgetting (owner, connection, asked_at) select owner, connection, :now from {rows} where true "
        "on conflict (owner, connection) do update set asked_at = excluded.asked_at, done_at = null",
        {"owner": "text", "connection": "text"},
        [{"owner": owner, "connection": name} for name in names],
        now=now_ms,
    )
    await work.put(
        c,
        [
            {
                "kind": FORGET,
                "ref": f"{name}|{owner}",
                "queue": str(Lane(connection=name, rank=Rank.TRANSACTIONAL)),
                "due_at": now_ms,
                "data": data,
            }
            for name in names
        ],
    )


async def forgot(c: Connection, owner: str, connection: str, now_ms: int) -> None:
    """A connection has forgotten somebody."""
    await c.run(
        "update forgetting set done_at = :now where owner = :owner and connection = :connection",
        owner=owner,
        connection=connection,
        now=now_ms,
    )


async def not_asked(c: Connection, owner: str, connection: str) -> None:
    """A connection need not forget somebody after all."""
    await c.run(
        "delete from forgetting where owner = :owner and connection = :connection", owner=owner, connection=connection
    )


async def unask(c: Connection, owner: str, connections: Iterable[str]) -> None:
    """Nobody is to forget somebody under this name any more, nor did."""
    given = [{"ref": f"{name}|{owner}", "connection": name} for name in sorted(connections)]
    columns = {"ref": "text", "connection": "text"}
    await c.group(
        "delete from work where kind = :kind and ref in (select ref from {rows})", columns, given, kind=FORGET
    )
    await c.group(
        "delete from forgetting where owner = :owner and connection in (select connection from {rows})",
        columns,
        given,
        owner=owner,
    )


async def asked_of(c: Connection, owner: str) -> dict[str, Row]:
    """The connections that were asked to forget somebody, by name: `asked_at`, `done_at`."""
    rows = await c.all("select * from forgetting where owner = :owner order by connection", owner=owner)
    return {row["connection"]: row for row in rows}


# -- requests ----------------------------------------------------------------------------------------------------------


async def request(
    c: Connection, event_id: str, contact_id: str | None, connection_id: str, type_: str, at_ms: int
) -> None:
    """Somebody wants to know what is known of them."""
    await c.run(
        "insert into export_request (id, contact_id, connection_id, type, state, at) "
        "values (:id, :contact, :connection, :type, :open, :at) on conflict (id) do nothing",
        id=event_id,
        contact=contact_id,
        connection=connection_id,
        type=type_,
        open=OPEN,
        at=at_ms,
    )


async def requests(c: Connection, *, state: str | None = None, before: str | None = None, most: int = 50) -> list[Row]:
    """Requests, newest first, with their connection's name."""
    tests = {"q.state = :state": state, "q.id < :before": before}
    where = " and ".join(test for test, given in tests.items() if given is not None)
    given = {name: value for name, value in {"state": state, "before": before}.items() if value is not None}
    return list(
        await c.all(
            "select q.*, connection.name as connection from export_request q "
            f"left join connection on connection.id = q.connection_id {f'where {where}' if where else ''} "
            "order by q.id desc limit :most",
            most=most,
            **given,
        )
    )


async def open_requests(c: Connection) -> tuple[int, int | None]:
    """How many requests wait for an answer, and since when the oldest one does."""
    row = await c.first("select count(*) as n, min(at) as since from export_request where state = :open", open=OPEN)
    assert row is not None, "an aggregate always has a row"
    return int(row["n"]), row["since"]


async def answered(
    c: Connection, *, who: str, at_ms: int, id_: str | None = None, contact_id: str | None = None
) -> int:
    """Requests are answered: one, or all that a contact has open; returns how many."""
    which = "id = :of" if id_ is not None else "contact_id = :of"
    return await c.run(
        f"update export_request set state = :done, who = :who, answered_at = :at where {which} and state = :open",
        of=id_ if id_ is not None else contact_id,
        done=DONE,
        open=OPEN,
        who=who,
        at=at_ms,
    )
