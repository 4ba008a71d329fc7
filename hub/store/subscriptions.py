"""The subscriptions of each connection, as they were found and mended last: what its piece of work remembers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from hub.store import work
from hub.store.lanes import Lane, Rank
from hub.store.session import Connection
from hub.store.work import NEVER_MS

KIND = "subscriptions"
_MOST_MENDED = 50


class Held(BaseModel):
    """One subscription at the vendor. `life_ms` is the longest time it was seen to have left, None without an end."""

    model_config = ConfigDict(frozen=True)

    id: str
    topic: str
    expires_at_ms: int | None = None
    life_ms: int | None = None


class Mended(BaseModel):
    """What was done about one: `deed` is created, deleted or renewed."""

    model_config = ConfigDict(frozen=True)

    at_ms: int
    topic: str
    deed: str
    why: str


class Kept(BaseModel):
    """What is known of a connection's subscriptions. `topics` are those of triggers, `wanted` those to subscribe to.

    `others` are topics that other accounts of the app want; `epoch` tells the credentials that it was looked at with. `gap`
    says that events may have been missed, and that the polls were not asked about it yet.
    """

    address: str = ""
    epoch: int = -1
    topics: list[str] = []
    others: list[str] = []
    wanted: list[str] = []
    held: list[Held] = []
    mended: list[Mended] = []
    at_ms: int | None = None
    next_ms: int = 0
    problem: str | None = None
    gap: bool = False

    def with_mended(self, more: list[Mended]) -> list[Mended]:
        """What was mended, newest first, with some more; the oldest are forgotten."""
        return [*reversed(more), *self.mended][:_MOST_MENDED]


class Row(BaseModel):
    """A connection's row of work: what it remembers, when it is done again, and what it is set aside for."""

    kept: Kept
    due_ms: int | None
    parked_on: str | None


def remembered(data: str | None) -> Kept:
    """What a piece of work remembers."""
    return Kept.model_validate_json(data) if data else Kept()


async def ensure(c: Connection, connection: str, now_ms: int) -> None:
    """Have the subscriptions of a connection looked at from now on."""
    await work.add_if_absent(c, KIND, connection, str(Lane(connection=connection, rank=Rank.BULK)), now_ms)


async def are_looked_after(c: Connection, connection_id: str) -> bool:
    """Whether a connection is there, and its subscriptions are looked at: not so from when it is being removed."""
    row = await c.first(
        "select 1 as one from connection join work on work.kind = :kind and work.ref = connection.name "
        "where connection.id = :id",
        kind=KIND,
        id=connection_id,
    )
    return row is not None


async def hasten(c: Connection, now_ms: int, connection: str | None = None) -> None:
    """Look at those of one connection, or of all, at once. Who is at it sees by itself what has changed meanwhile."""
    of, given = ("and ref = :ref", {"ref": connection}) if connection is not None else ("", {})
    await c.run(
        f"update work set due_at = :now where kind = :kind {of} and owner is null and parked_on is null and due_at > :now",
        now=now_ms,
        kind=KIND,
        **given,
    )


async def hasten_polls(c: Connection, connection: str, now_ms: int) -> None:
    """Ask the vendor at once for what a connection's webhooks may have missed."""
    await c.run(
        "update work set due_at = :now where kind = 'poll' and ref like :of and owner is null and parked_on is null "
        "and due_at > :now",
        now=now_ms,
        of=f"{connection}|%",
    )


async def rows(c: Connection, connection: str | None = None) -> dict[str, Row]:
    """What is known of the subscriptions, of one connection or of all, by the connection's name."""
    of, given = ("and ref = :ref", {"ref": connection}) if connection is not None else ("", {})
    found = await c.all(
        f"select ref, data, due_at, owner, parked_on from work where kind = :kind {of} order by ref", kind=KIND, **given
    )
    return {
        row["ref"]: Row(
            kept=remembered(row["data"]),
            due_ms=None if row["owner"] or row["due_at"] >= NEVER_MS else row["due_at"],
            parked_on=row["parked_on"],
        )
        for row in found
    }
