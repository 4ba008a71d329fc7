"""What is read of a connection's past: storing it, how far a reading has come, since when what happened is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic_core import from_json, to_json

from hub.events import Event
from hub.store import contacts, events
from hub.store.events import HISTORY, Incoming, NewEvent
from hub.store.session import Connection, Row

KIND = "backfill"
"""The kind of work that reads a connection's past; its ref is `connection|type`."""


@dataclass(frozen=True)
class Progress:
    """How far the reading of one event type's past has come: the cursor to go on from, and what was read up to there.

    `new` of the `items` were not known before; `oldest_ms` and `newest_ms` are instants at which they happened.
    """

    since_ms: int
    cursor: str | None = None
    pages: int = 0
    items: int = 0
    new: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None
    problem: str | None = None

    @classmethod
    def of(cls, data: str) -> Progress:
        """From what `json` made, maybe of another release."""
        found = from_json(data)
        return cls(**{name: value for name, value in found.items() if name in cls.__dataclass_fields__})

    def json(self) -> str:
        """As it is kept."""
        return to_json(vars(self)).decode()

    def after(self, cursor: str, happened: Sequence[Event], new: int) -> Progress:
        """The progress once another page is stored."""
        instants = [event.occurred_at_ms for event in happened]
        return replace(
            self,
            cursor=cursor,
            pages=self.pages + 1,
            items=self.items + len(happened),
            new=self.new + new,
            oldest_ms=min((at for at in (self.oldest_ms, *instants) if at is not None), default=None),
            newest_ms=max((at for at in (self.newest_ms, *instants) if at is not None), default=None),
            problem=None,
        )


async def store(c: Connection, connection_id: str, connection: str, happened: Sequence[Event], now_ms: int) -> int:
    """Store what happened once, with its people and what it says about consent; returns how many were not known.

    It is never routed: it starts, wakes and ends nothing.
    """
    new = [NewEvent(event, connection_id, connection, stage=HISTORY) for event in happened]
    (stored,) = await events.ingest(c, [Incoming(connection_id, None, new, now_ms)])
    fresh = set(stored.event_ids)
    # The newest word about a person counts.
    told = sorted((e for e in new if e.id in fresh and e.event.subject), key=lambda e: e.event.occurred_at_ms)
    people = await contacts.resolve(
        c,
        [contacts.Sighting(e.id, connection, e.event.subject, now_ms) for e in told if e.event.subject],
        past=True,
    )
    await c.group(
        "update event set contact_id = r.contact_id from {rows} where event.id = r.id",
        {"id": "text", "contact_id": "text"},
        [{"id": id_, "contact_id": contact_id} for id_, contact_id in people.items()],
    )
    return len(fresh)


async def finished(c: Connection, connection_id: str, type_: str, progress: Progress, now_ms: int) -> None:
    """All that happened since an instant is known; what was known further back stays so."""
    await c.run(
        "insert into known_since (connection_id, type, since, progress, finished_at) "
        "values (:connection, :type, :since, :progress, :now) on conflict (connection_id, type) do update set "
        "since = case when excluded.since < known_since.since then excluded.since else known_since.since end, "
        "progress = excluded.progress, finished_at = excluded.finished_at",
        connection=connection_id,
        type=type_,
        since=progress.since_ms,
        progress=progress.json(),
        now=now_ms,
    )


async def read_of(c: Connection, connection_id: str) -> dict[str, Row]:
    """The readings of a connection that came to their end, by event type."""
    rows = await c.all("select * from known_since where connection_id = :id", id=connection_id)
    return {row["type"]: row for row in rows}


async def under_way(c: Connection, refs: Iterable[str]) -> dict[str, Row]:
    """The work of readings that are not at their end, by ref: `data`, `due_at`, `owner` and `parked_on`."""
    rows = await c.group(
        "select ref, data, due_at, owner, parked_on from work where kind = 'backfill' and ref in (select ref from {rows})",
        {"ref": "text"},
        [{"ref": ref} for ref in refs],
    )
    return {row["ref"]: row for row in rows}


async def stop(c: Connection, refs: Iterable[str]) -> int:
    """Give readings up; what they stored stays. Returns how many there were."""
    rows = await c.group(
        "delete from work where kind = 'backfill' and ref in (select ref from {rows}) returning ref",
        {"ref": "text"},
        [{"ref": ref} for ref in refs],
    )
    return len(rows)


async def known_since(c: Connection) -> Mapping[str, dict[str, int]]:
    """By connection id and event type since when what happened is known, where the past was read."""
    found: dict[str, dict[str, int]] = {}
    for row in await c.all("select connection_id, type, since from known_since order by connection_id, type"):
        found.setdefault(row["connection_id"], {})[row["type"]] = row["since"]
    return found
