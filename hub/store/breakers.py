"""Breakers that are not closed: one row per connection that rests. Every change is a compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass

from hub.store.session import Connection


@dataclass(frozen=True)
class Rest:
    """A connection that rests until `until_ms`; while `probing`, one process asks whether it works again."""

    connection: str
    probing: bool
    until_ms: int
    trips: int
    reason: str
    since_ms: int


async def everything(c: Connection) -> dict[str, Rest]:
    """The connections that rest, by name."""
    rows = await c.all("select connection, state, until, trips, reason, since from breaker")
    return {
        r["connection"]: Rest(r["connection"], r["state"] == "probing", r["until"], r["trips"], r["reason"], r["since"])
        for r in rows
    }


async def open_(c: Connection, connection: str, *, until_ms: int, reason: str, now_ms: int) -> bool:
    """Let a connection rest; False when it rests already, so that one process alone gives the alarm."""
    return bool(
        await c.run(
            "insert into breaker (connection, state, until, trips, reason, since) "
            "values (:connection, 'open', :until, 1, :reason, :now) on conflict (connection) do nothing",
            connection=connection,
            until=until_ms,
            reason=reason,
            now=now_ms,
        )
    )


async def probe(c: Connection, connection: str, *, until_ms: int, now_ms: int) -> bool:
    """Be the one that asks; False when another one does. Who dies over it is forgotten at `until_ms`."""
    return bool(
        await c.run(
            "update breaker set state = 'probing', until = :until where connection = :connection and until <= :now",
            connection=connection,
            until=until_ms,
            now=now_ms,
        )
    )


async def reopen(c: Connection, connection: str, *, until_ms: int, reason: str) -> bool:
    """It does not work yet: rest again."""
    return bool(
        await c.run(
            "update breaker set state = 'open', until = :until, trips = trips + 1, reason = :reason "
            "where connection = :connection and state = 'probing'",
            connection=connection,
            until=until_ms,
            reason=reason,
        )
    )


async def close(c: Connection, connection: str) -> bool:
    """It works again."""
    return bool(
        await c.run("delete from breaker where connection = :connection and state = 'probing'", connection=connection)
    )
