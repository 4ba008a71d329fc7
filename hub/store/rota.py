"""Whose turn it is: how many places of a connection's rota were given, and which effect got which."""

from __future__ import annotations

from hub.store.session import Connection


async def take(c: Connection, connection_id: str, name: str, reference: str, at_ms: int) -> int:
    """The place of an effect in a rota, from 0; the next one for an effect that has none yet."""
    rota = {"connection": connection_id, "name": name}
    # Locked before it is looked for: two attempts of one effect at the same moment come one after the other.
    await c.run(
        "insert into rota (connection_id, name, given) values (:connection, :name, 0) "
        "on conflict (connection_id, name) do update set given = rota.given",
        **rota,
    )
    row = await c.first(
        "select place from rota_place where reference = :reference and connection_id = :connection and name = :name",
        reference=reference,
        **rota,
    )
    if row is not None:
        return int(row["place"])
    row = await c.first(
        "update rota set given = given + 1 where connection_id = :connection and name = :name "
        "returning given - 1 as place",
        **rota,
    )
    assert row is not None, "it was locked above"
    await c.run(
        "insert into rota_place (reference, connection_id, name, place, at) "
        "values (:reference, :connection, :name, :place, :at)",
        reference=reference,
        place=row["place"],
        at=at_ms,
        **rota,
    )
    return int(row["place"])
