"""How much of everything there is."""

from __future__ import annotations

from collections.abc import Sequence

from hub import shown
from hub.store.session import Connection, Row
from hub.store.views.words import STATUS


async def counts(c: Connection) -> shown.Counts:
    """How much of everything there is: events, duplicates, refusals, runs by status, effects by state."""
    events = await c.first("select count(*) as n, coalesce(sum(duplicates), 0) as duplicates from event")
    refused = await c.first("select coalesce(sum(count), 0) as n from refusal")
    by_status = await c.all("select status, count(*) as n from run group by status order by status")
    ended = await c.all(
        "select ended_by, count(*) as n from run where ended_by is not null group by ended_by order by ended_by"
    )
    by_state = await c.all("select state, count(*) as n from effect group by state order by state")
    deliveries = await c.all("select state, count(*) as n from delivery group by state order by state")
    assert events is not None, "an aggregate always has a row"
    assert refused is not None, "an aggregate always has a row"
    return {
        "events": int(events["n"]),
        "duplicates": int(events["duplicates"]),
        "refused": int(refused["n"]),
        "deliveries": _by(deliveries, "state"),
        "runs": _by(by_status, "status"),
        "ended_by": _by(ended, "ended_by"),
        "effects": _by(by_state, "state"),
    }


def _by(rows: Sequence[Row], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        word = STATUS.get(str(row[name]), str(row[name]))
        found[word] = found.get(word, 0) + int(row["n"])
    return found
