"""What is read of a hub to play its events again elsewhere, and written there before they are played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from hub.events import Json, addresses
from hub.store import contacts
from hub.store.events import StoredEvent, append_consents
from hub.store.session import Change, Connection, Row

PAGE = 500

_CONTACT = dict.fromkeys(("id", "tags", "attributes", "first_name", "last_name", "language", "zone"), "text")
_IDENTITY = {"kind": "text", "value": "text", "contact_id": "text", "added_at": "bigint"}


@dataclass(frozen=True)
class Answer:
    """What one call came to."""

    action: str
    input: Mapping[str, Json]
    output: Mapping[str, Json]


@dataclass(frozen=True)
class Before:
    """What was so at an instant, as far as the hub kept it: people, their identities and consent, entries of one recipe."""

    people: Sequence[Row] = ()
    identities: Sequence[Row] = ()
    consents: Sequence[Row] = ()
    entries: Mapping[tuple[str, str], Sequence[int]] = field(default_factory=dict)


async def received(c: Connection, after: tuple[int, str], to_ms: int) -> list[StoredEvent]:
    """A page of the events that recipes saw, in the order in which they came, after an instant and id."""
    rows = await c.all(
        "select id, type, connection_id, occurred_at, received_at, data, subject, contact_id, cause from event "
        "where stage in ('route', 'routed') and received_at < :until "
        "and (received_at > :at or (received_at = :at and id > :id)) order by received_at, id limit :most",
        until=to_ms,
        at=after[0],
        id=after[1],
        most=PAGE,
    )
    return [StoredEvent.of(row) for row in rows]


async def consents(c: Connection, from_ms: int, to_ms: int) -> list[Row]:
    """The statements of a span of time that no event made, such as a vendor's refusal."""
    return list(
        await c.all(
            "select channel, address, purpose, state, reason, at from consent "
            "where event_id is null and at >= :start and at < :until order by at, id",
            start=from_ms,
            until=to_ms,
        )
    )


async def before(c: Connection, recipe: str, people: Sequence[str], at_ms: int) -> Before:
    """What was so of these people at an instant. Names, tags and attributes have no history: they are as they are now."""
    wanted = [{"id": id_} for id_ in people]
    known = await c.group(
        "select contact.* from contact join {rows} on contact.id = r.id where contact.created_at < :at",
        {"id": "text"},
        wanted,
        at=at_ms,
    )
    identities = await c.group(
        "select identity.* from identity join {rows} on identity.contact_id = r.id",
        {"id": "text"},
        wanted,
    )
    stated = await contacts.ledger(c, addresses((row["kind"], row["value"]) for row in identities))
    entries = await c.group(
        "select entry.scope as scope, entry.times as times from entry join {rows} "
        "on entry.recipe = r.recipe and entry.scope = r.id",
        {"id": "text", "recipe": "text"},
        [{"id": row["id"], "recipe": recipe} for row in known],
    )
    times = {(recipe, row["scope"]): [t for t in from_json(row["times"]) if t < at_ms] for row in entries}
    ids = {row["id"] for row in known}
    return Before(
        known,
        [row for row in identities if row["contact_id"] in ids and row["added_at"] < at_ms],
        [
            {**row, "channel": channel, "address": address}
            for (channel, address), rows in stated.items()
            for row in rows
            if row["at"] < at_ms
        ],
        {key: found for key, found in times.items() if found},
    )


async def answers(c: Connection, recipe: str, from_ms: int) -> list[Answer]:
    """What the calls of a recipe's runs came to since an instant, oldest first."""
    rows = await c.all(
        "select e.action as action, e.request as request, e.response as response from effect e "
        "join run r on r.id = e.run_id where r.recipe = :recipe and e.state = 'done' and e.intended_at >= :start "
        "order by e.intended_at, e.key",
        recipe=recipe,
        start=from_ms,
    )
    return [
        Answer(row["action"], from_json(row["request"])["input"], from_json(row["response"]))
        for row in rows
        if row["response"]
    ]


async def put(c: Connection, known: Before) -> None:
    """Write down what was so, in a hub that knows none of it."""
    await c.together(
        Change(
            "insert into contact (id, tags, attributes, created_at, first_name, last_name, language, zone) "
            "select id, tags, attributes, created_at, first_name, last_name, language, zone from {rows} where true",
            {**_CONTACT, "created_at": "bigint"},
            known.people,
        ),
        Change(
            "insert into identity (kind, value, contact_id, added_at) "
            "select kind, value, contact_id, added_at from {rows} where true",
            _IDENTITY,
            known.identities,
        ),
        Change(
            "insert into entry (recipe, scope, times) select recipe, scope, times from {rows} where true",
            {"recipe": "text", "scope": "text", "times": "text"},
            [
                {"recipe": recipe, "scope": scope, "times": to_json(list(times)).decode()}
                for (recipe, scope), times in known.entries.items()
            ],
        ),
    )
    await append_consents(c, [{**row, "id": f"before-{n}", "event_id": None} for n, row in enumerate(known.consents)])


async def forget_silence(c: Connection) -> None:
    """No event is derived from silence: where stored events are played, those that were derived are among them."""
    await c.run("delete from work where kind = 'debounce'")
