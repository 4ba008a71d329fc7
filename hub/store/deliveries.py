"""What came in, as it came: deliveries and refusals, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hub.store.session import Connection, Row

NO_CONNECTOR = "(unknown)"
"""Stands for the connector of a refusal when there is none of the name that was called."""
MANY_ADDRESSES = "(many)"
"""Stands for the address when so many were called that they are not told apart."""


@dataclass(frozen=True)
class Refusal:
    """How often calls were refused for one reason at one address in one minute, with a few body-less samples (JSON)."""

    connector: str
    key_hash: str
    reason: str
    minute: int
    count: int
    samples: str


async def count_refusals(c: Connection, refusals: Sequence[Refusal]) -> None:
    """Add to the counts."""
    await c.group(
        "insert into refusal (connector, key_hash, reason, minute, count, samples) "
        "select connector, key_hash, reason, minute, count, samples from {rows} where true "
        "on conflict (connector, key_hash, reason, minute) do update set count = refusal.count + excluded.count",
        {
            "connector": "text",
            "key_hash": "text",
            "reason": "text",
            "minute": "bigint",
            "count": "bigint",
            "samples": "text",
        },
        [asdict(refusal) for refusal in refusals],
    )


async def refused(c: Connection, most: int) -> list[Row]:
    """The newest refusal counts."""
    return list(await c.all("select * from refusal order by minute desc, count desc limit :most", most=most))


async def whole(c: Connection, *, connection_id: str | None, topic: str | None, most: int) -> list[Row]:
    """The newest deliveries with their bodies and what came with them, oldest first."""
    rows = await c.all(
        "select id, connector, connection_id, topic, received_at, request, body, state from delivery "
        "where (cast(:connection as text) is null or connection_id = :connection) "
        "and (cast(:topic as text) is null or topic = :topic) order by id desc limit :most",
        connection=connection_id,
        topic=topic,
        most=most,
    )
    return list(reversed(rows))


async def topics(c: Connection) -> set[str]:
    """The topics of the newest deliveries."""
    newest = "select topic from delivery order by id desc limit 1000"
    return {row["topic"] for row in await c.all(f"select distinct topic from ({newest}) as newest")}


async def listed(c: Connection, *, state: str | None, most: int, before: str | None = None) -> list[Row]:
    """The newest deliveries without their bodies; `before` is the id to go on from."""
    return list(
        await c.all(
            "select id, connector, connection_id, topic, received_at, state, note, length(body) as bytes from delivery "
            "where (cast(:state as text) is null or state = :state) and (cast(:before as text) is null or id < :before) "
            "order by id desc limit :most",
            state=state,
            before=before,
            most=most,
        )
    )
