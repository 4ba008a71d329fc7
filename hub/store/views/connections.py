"""Connections and their subscriptions as people see them."""

from __future__ import annotations

from pydantic_core import from_json

from hub import shown
from hub.catalogue import nearest
from hub.clock import rfc3339
from hub.errors import NotThere
from hub.store import breakers, connections, histories, subscriptions
from hub.store.session import Connection
from hub.store.views.words import when

# How subscriptions stand before they were looked at.
_NOT_YET = "not looked at yet"


async def list_connections(c: Connection, address: str, *, kept_ms: int = 0) -> list[shown.Connection]:
    """Every connection by name, with what is not quite well with it; `address` is the hub's own, '' without one.

    Of what happened before `kept_ms` events are no longer kept, so that nothing is known of it.
    """
    rests, known = await breakers.everything(c), await histories.known_since(c)
    _, rows = await connections.everything(c)
    subscribed = await subscriptions.rows(c)
    found: list[shown.Connection] = []
    for row in rows:
        rest = rests.get(row["name"])
        health, reason = row["health"], row["health_reason"]
        if health == "ok" and rest is not None:
            health, reason = "resting", f"until {rfc3339(rest.until_ms)}: {rest.reason}"
        inbound = f"/webhooks/{row['connector']}/{row['inbound_key']}"
        found.append(
            {
                "id": row["id"],
                "name": row["name"],
                "connector": row["connector"],
                "account": row["account"],
                "mode": row["mode"],
                "auth": row["auth"],
                "settings": from_json(row["settings"]),
                "health": health,
                "health_reason": reason,
                "webhook_url": f"{address.rstrip('/')}{inbound}" if address else "",
                "connected_at": rfc3339(row["created_at"]),
                "known_since": {
                    type_: rfc3339(max(since, kept_ms)) for type_, since in known.get(row["id"], {}).items()
                },
                "subscriptions": standing(subscribed[row["name"]]) if row["name"] in subscribed else None,
            }
        )
    return found


def standing(row: subscriptions.Row) -> str:
    """How a connection's subscriptions stand, in a line."""
    kept = row.kept
    if problem := trouble(row):
        return problem
    if kept.at_ms is None:
        return _NOT_YET
    return f"{len(kept.wanted)} kept, looked at {rfc3339(kept.at_ms)}"


def trouble(row: subscriptions.Row) -> str | None:
    """What is wrong with a connection's subscriptions; None when nothing is."""
    if row.parked_on is not None:
        kind, _, name = row.parked_on.partition(":")
        return f"they wait for the plugin {name}" if kind == "plugin" else "they wait until it is authorised again"
    return row.kept.problem


async def show_subscriptions(c: Connection, connection: str) -> shown.Subscriptions:
    """A connection's subscriptions as they were found and mended last. Raises NotThere."""
    found = (await subscriptions.rows(c, connection)).get(connection)
    if found is None:
        names = [row["name"] for row in (await connections.everything(c))[1]]
        if connection not in names:
            raise NotThere(
                f"there is no connection {connection}{nearest(connection, names)}; `hub connections list` shows what there is"
            )
        raise NotThere(
            f"the connector of {connection} subscribes to nothing, or no hub has run since it does: give the vendor the "
            "address that `hub connections list` shows"
        )
    kept = found.kept
    there = {one.topic for one in kept.held}
    return {
        "connection": connection,
        "address": kept.address or None,
        "wanted": kept.wanted,
        "there": [{"id": one.id, "topic": one.topic, "expires_at": when(one.expires_at_ms)} for one in kept.held],
        "missing": [topic for topic in kept.wanted if topic not in there],
        "mended": [
            {"topic": one.topic, "deed": one.deed, "why": one.why, "at": rfc3339(one.at_ms)} for one in kept.mended
        ],
        "looked_at": when(kept.at_ms),
        "next_at": when(found.due_ms),
        "problem": trouble(found),
    }
