"""What `hub doctor` asks the tables: where nothing comes any more, what is refused, what was set aside.

No statement looks at more than `MOST` events, so that it costs a large hub no more than a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.store.pulse import MOST
from hub.store.retries import POISON
from hub.store.session import Connection

_HOUR_MIN = 60
_DAY_HOURS = 24


@dataclass(frozen=True)
class Heard:
    """When a connection was added, and when its last event came; None for none among the newest `MOST` of all."""

    since_ms: int
    last_ms: int | None


@dataclass(frozen=True)
class Refused:
    """How many calls of a connector were refused in the last hour, and per hour of the day before."""

    connector: str
    last_hour: int
    usual: float


@dataclass(frozen=True)
class Aside:
    """What waits for somebody: runs set aside as poison, events that could not be routed, or whose plugin is missing."""

    poison: int
    quarantined: int
    without_plugin: int


async def heard(c: Connection) -> dict[str, Heard]:
    """Each connection by id."""
    last = await c.all(
        "select connection_id as id, max(received_at) as at from (select connection_id, received_at from event "
        "order by id desc limit :most) as newest group by connection_id",
        most=MOST,
    )
    at = {row["id"]: row["at"] for row in last}
    return {
        row["id"]: Heard(row["created_at"], at.get(row["id"]))
        for row in await c.all("select id, created_at from connection")
    }


async def refused(c: Connection, now_ms: int) -> list[Refused]:
    """The connectors of which calls were refused within the last hour."""
    minute = now_ms // 60_000
    rows = await c.all(
        "select connector, sum(case when minute > :hour then count else 0 end) as recent, sum(count) as every "
        "from refusal where minute > :day group by connector order by connector",
        hour=minute - _HOUR_MIN,
        day=minute - _HOUR_MIN * (_DAY_HOURS + 1),
    )
    return [
        Refused(row["connector"], int(row["recent"]), (int(row["every"]) - int(row["recent"])) / _DAY_HOURS)
        for row in rows
        if row["recent"]
    ]


async def aside(c: Connection) -> Aside:
    """How much waits for somebody, each counted up to `MOST`."""
    return Aside(
        poison=await _count(c, f"work where parked_on = '{POISON}'"),
        quarantined=await _count(
            c, "(select stage from event order by id desc limit :most) as e where stage = 'quarantined'"
        ),
        without_plugin=await _count(c, "event where stage = 'plugin'"),
    )


async def _count(c: Connection, what: str) -> int:
    row = await c.first(f"select count(*) as n from (select 1 from {what} limit :most) as few", most=MOST)
    return int(row["n"]) if row else 0
