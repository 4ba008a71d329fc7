"""People: finding or making the contact of an event, what is known of them, and the consent ledger of their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from hub.events import Identity, Json
from hub.ids import new_id
from hub.store import blanking, tombstones
from hub.store.session import Change, Connection, Row
from hub.store.tombstones import Key

_KEYS = {"kind": "text", "value": "text"}
_ABOUT = ("first_name", "last_name", "language", "zone")


@dataclass(frozen=True)
class Sighting:
    """An event's subject: who it says it is about, in which connection, at what time."""

    event_id: str
    connection: str
    subject: Identity
    at_ms: int


async def resolve(c: Connection, sightings: Sequence[Sighting], *, past: bool = False) -> dict[str, str]:
    """The contact of each event (event id to contact id), made where nobody is known; the contacts are locked.

    The strongest known identity decides: the vendor's id, then e-mail, then phone. Identities that nobody has yet are
    added to that contact; one that belongs to somebody else stays theirs, since merging people is never a side effect
    (`hub.merging` does it on an operator's word).
    With `past` the events are old: what they say about a person fills in only what is not known.
    An event of somebody's time before they were erased has no contact: it is emptied.
    """
    keys = {s.event_id: s.subject.keys(s.connection) for s in sightings}
    owners, buried = await _known(c, {key for found in keys.values() for key in found})
    if buried:
        # As everywhere the strongest identity that is known decides, also that of somebody who is not there any more.
        whose = {id_: next((k for k in found if k in owners or k in buried), None) for id_, found in keys.items()}
        until = {id_: buried[key] for id_, key in whose.items() if key in buried}
        refused = await blanking.refuse_old(c, until)
        sightings = [s for s in sightings if s.event_id not in refused]
    created: dict[str, dict[str, Any]] = {}
    added: dict[tuple[str, str], str] = {}
    contact_of: dict[str, str] = {}
    for sighting in sightings:
        mine = keys[sighting.event_id]
        if not mine:
            continue
        contact_id = next((owners[key] for key in mine if key in owners), None)
        if contact_id is None:
            contact_id = new_id()
            created[contact_id] = {"id": contact_id, "created_at": sighting.at_ms, **dict.fromkeys(_ABOUT)}
        for key in mine:
            if key not in owners:
                owners[key] = added[key] = contact_id
        contact_of[sighting.event_id] = contact_id
    by_event = {s.event_id: s for s in sightings}
    moved = await _add(c, created, _learnt(sightings, contact_of, created), added, by_event)
    contact_of = {event_id: moved.get(contact_id, contact_id) for event_id, contact_id in contact_of.items()}
    # Nobody else sees those made here; they are locked as they are.
    known = await lock(c, (id_ for id_ in contact_of.values() if id_ not in created))
    await _learn(c, _learnt(sightings, contact_of, known, past=past))
    gone = {id_ for id_ in contact_of.values() if id_ not in created and id_ not in known}
    return await _without(c, gone, sightings, contact_of, past=past) if gone else contact_of


async def _without(
    c: Connection, gone: set[str], sightings: Sequence[Sighting], contact_of: Mapping[str, str], *, past: bool
) -> dict[str, str]:
    """These contacts were erased or merged since they were found: what was added to them goes, and their events are looked at again."""
    await c.group(
        "delete from identity where contact_id in (select id from {rows})",
        {"id": "text"},
        [{"id": id_} for id_ in sorted(gone)],
    )
    again = await resolve(c, [s for s in sightings if contact_of.get(s.event_id) in gone], past=past)
    return {event_id: id_ for event_id, id_ in contact_of.items() if id_ not in gone} | again


_KNOWN = """
select identity.kind as kind, identity.value as value, identity.contact_id as contact_id, cast(null as bigint) as erased_at
from identity join {rows} on identity.kind = r.kind and identity.value = r.value
union all
select r.kind, r.value, null, tombstone.erased_at from tombstone join {rows} on {match tombstone.hash hash}
"""


async def _known(c: Connection, keys: Iterable[Key]) -> tuple[dict[Key, str], dict[Key, int]]:
    """Whose each of these identities is, and when it was erased."""
    if c.hashed is None:
        return await owners_of(c, keys), {}
    rows = await c.group(
        _KNOWN,
        {**_KEYS, "hash": "text"},
        [{"kind": kind, "value": value, "hash": c.hashed(kind, value)} for kind, value in sorted(keys)],
    )
    owners = {(row["kind"], row["value"]): row["contact_id"] for row in rows if row["contact_id"] is not None}
    return owners, {(row["kind"], row["value"]): row["erased_at"] for row in rows if row["erased_at"] is not None}


async def owners_of(c: Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """The contacts that these identities belong to, of those that are anybody's."""
    rows = await c.group(
        "select identity.kind as kind, identity.value as value, identity.contact_id as contact_id "
        "from identity join {rows} on identity.kind = r.kind and identity.value = r.value",
        _KEYS,
        [{"kind": kind, "value": value} for kind, value in sorted(keys)],
    )
    return {(row["kind"], row["value"]): row["contact_id"] for row in rows}


async def _add(
    c: Connection,
    created: Mapping[str, Mapping[str, Any]],
    learnt: Mapping[str, Mapping[str, Any]],
    added: Mapping[tuple[str, str], str],
    sightings: Mapping[str, Sighting],
) -> dict[str, str]:
    """Make contacts and give identities to theirs; where another worker was quicker, its contact is the person.

    Returns the contacts that were made in vain, each with the one that stands for the same person.
    """
    at_ms = max((s.at_ms for s in sightings.values()), default=0)
    won = await c.together(
        Change(
            "insert into contact (id, tags, attributes, created_at, first_name, last_name, language, zone) "
            "select id, '[]', '{}', created_at, first_name, last_name, language, zone from {rows} where true",
            {"id": "text", "created_at": "bigint", **dict.fromkeys(_ABOUT, "text")},
            [{**row, **learnt.get(id_, {})} for id_, row in created.items()],
        ),
        Change(
            "insert into identity (kind, value, contact_id, added_at) "
            "select kind, value, contact_id, added_at from {rows} where true on conflict do nothing returning kind, value",
            {**_KEYS, "contact_id": "text", "added_at": "bigint"},
            [
                {"kind": kind, "value": value, "contact_id": contact_id, "added_at": at_ms}
                for (kind, value), contact_id in sorted(added.items())
            ],
        ),
    )
    lost = set(added) - {(row["kind"], row["value"]) for row in won}
    if not lost:
        return {}
    owners = await owners_of(c, lost)
    moved: dict[str, str] = {}
    # Strongest first, as they were added. Somebody known already stays who they are, without the identity.
    for key, contact_id in added.items():
        if key in owners and contact_id in created:
            moved.setdefault(contact_id, owners[key])
    await c.group(
        "update identity set contact_id = r.owner from {rows} where identity.contact_id = r.id",
        {"id": "text", "owner": "text"},
        [{"id": mine, "owner": owner} for mine, owner in moved.items()],
    )
    # Nobody has seen the contacts that were made in vain.
    await c.group(
        "delete from contact where id in (select id from {rows})", {"id": "text"}, [{"id": id_} for id_ in moved]
    )
    return moved


async def lock(c: Connection, contact_ids: Iterable[str]) -> dict[str, Row]:
    """Lock contacts, in the order of their ids so that nobody waits in a circle; returns their rows by id."""
    on = "for update of contact" if c.dialect == "postgresql" else ""
    rows = await c.group(
        "select contact.* from contact join {rows} on contact.id = r.id order by contact.id " + on,
        {"id": "text"},
        [{"id": id_} for id_ in sorted(set(contact_ids))],
    )
    return {row["id"]: row for row in rows}


def _learnt(
    sightings: Sequence[Sighting],
    contact_of: Mapping[str, str],
    known: Mapping[str, Mapping[str, Any]],
    *,
    past: bool = False,
) -> dict[str, dict[str, Any]]:
    """What is new about the known contacts: names, language and zone; what an event does not say stays."""
    changed: dict[str, dict[str, Any]] = {}
    for sighting in sightings:
        contact_id = contact_of.get(sighting.event_id)
        news = sighting.subject.attributes()
        if contact_id is None or contact_id not in known:
            continue
        if past:
            news = {name: value for name, value in news.items() if known[contact_id][name] is None}
        if not news:
            continue
        current = changed.get(contact_id) or {name: known[contact_id][name] for name in _ABOUT}
        if any(current[name] != value for name, value in news.items()):
            changed[contact_id] = {**current, **news}
    return changed


async def _learn(c: Connection, changed: Mapping[str, Mapping[str, Any]]) -> None:
    await c.group(
        "update contact set first_name = r.first_name, last_name = r.last_name, language = r.language, zone = r.zone "
        "from {rows} where contact.id = r.id",
        {"id": "text", **dict.fromkeys(_ABOUT, "text")},
        [{"id": id_, **values} for id_, values in sorted(changed.items())],
    )


async def facts(c: Connection, contact_ids: Iterable[str]) -> dict[str, dict[str, Json]]:
    """What recipes may know of contacts, by id: id, email, phone, first_name, last_name, language, zone, tags, attributes."""
    given = [{"id": id_} for id_ in sorted(set(contact_ids))]
    rows = await c.group("select contact.* from contact join {rows} on contact.id = r.id", {"id": "text"}, given)
    known = await identities(c, [row["id"] for row in rows])
    return {row["id"]: _fact(row, known.get(row["id"], [])) for row in rows}


def _fact(row: Row, keys: Sequence[tuple[str, str]]) -> dict[str, Json]:
    first = dict(reversed(keys))
    return {
        "id": row["id"],
        "email": first.get("email"),
        "phone": first.get("phone"),
        **{name: row[name] for name in _ABOUT},
        "tags": from_json(row["tags"]),
        "attributes": from_json(row["attributes"]),
    }


async def identities(c: Connection, contact_ids: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """The (kind, value) identities of contacts, oldest first."""
    rows = await c.group(
        "select identity.contact_id as contact_id, identity.kind as kind, identity.value as value from identity "
        "join {rows} on identity.contact_id = r.id order by identity.added_at, identity.kind, identity.value",
        {"id": "text"},
        [{"id": id_} for id_ in contact_ids],
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault(row["contact_id"], []).append((row["kind"], row["value"]))
    return found


async def change(c: Connection, contact_id: str, changes: Sequence[tuple[str, str, Json]]) -> None:
    """A recipe's `set`, as (field, operation, value): `attributes.NAME` or a named field `set`, `tags` `add` or `remove`.

    Nothing is known of somebody who was erased meanwhile.
    """
    row = (await lock(c, [contact_id])).get(contact_id)
    if row is None:
        return
    attributes, tags = from_json(row["attributes"]), from_json(row["tags"])
    fields = {name: row[name] for name in _ABOUT}
    for name, operation, value in changes:
        if name == "tags":
            words = [str(word) for word in (value if isinstance(value, list) else [value])]
            tags = [tag for tag in tags if tag not in words]
            tags += words if operation == "add" else []
        elif name.startswith("attributes."):
            attributes[name.removeprefix("attributes.")] = value
        else:
            fields[name] = value
    await c.run(
        "update contact set first_name = :first_name, last_name = :last_name, language = :language, zone = :zone, "
        "tags = :tags, attributes = :attributes where id = :id",
        id=contact_id,
        tags=to_json(tags).decode(),
        attributes=to_json(attributes).decode(),
        **fields,
    )


async def ledger(c: Connection, addresses: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Row]]:
    """The consent ledger of (channel, address) pairs, oldest statement first, with what it says under a hash since an erasure."""
    given = {pair: pair for pair in addresses}
    given |= {(pair[0], name): pair for pair in list(given) if (name := tombstones.hidden(c, pair[1]))}
    rows = await c.group(
        "select k.channel as channel, k.address as address, k.purpose as purpose, k.state as state, k.reason as reason, "
        "k.source as source, k.event_id as event_id, k.at as at from consent k join {rows} on k.channel = r.channel and k.address = r.address "
        "order by k.at, k.id",
        {"channel": "text", "address": "text"},
        [{"channel": channel, "address": address} for channel, address in sorted(given)],
    )
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(given[row["channel"], row["address"]], []).append(row)
    return found
