"""Apps and connections: their rows, secrets sealed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from hub.store.session import Connection, Row
from hub.values import value

_GENERATION = "connections"
NEEDS_REAUTHORISATION = "needs re-authorisation"
"""The health of a connection whose credentials are over."""


def _listed(scopes: Collection[str] | None) -> str | None:
    return None if scopes is None else to_json(sorted(scopes)).decode()


async def everything(c: Connection) -> tuple[list[Row], list[Row]]:
    """All apps and all connections."""
    apps = await c.all("select * from app order by name")
    connections = await c.all("select * from connection order by name")
    return list(apps), list(connections)


async def generation(c: Connection, key: str = _GENERATION) -> int:
    """Counts changes, so that other processes know when to read again."""
    row = await c.first("select value from meta where key = :key", key=key)
    return int(row["value"]) if row else 0


async def changed(c: Connection, key: str = _GENERATION) -> None:
    """Tell every process that connections (or whatever `key` names) changed."""
    await c.run(
        "insert into meta (key, value) values (:key, '1') "
        "on conflict (key) do update set value = cast(cast(meta.value as bigint) + 1 as text)",
        key=key,
    )


async def add_app(c: Connection, *, settings: Mapping[str, str], **row: Any) -> bool:
    """Insert an app; False when there is one of its name."""
    added = await c.run(
        "insert into app (id, connector, name, inbound_key, settings, secret, key_id, created_at) "
        "values (:id, :connector, :name, :inbound_key, :settings, :secret, :key_id, :created_at) on conflict do nothing",
        settings=to_json(settings).decode(),
        **row,
    )
    await changed(c)
    return bool(added)


async def replace_app(
    c: Connection, id_: str, *, was: bytes, settings: Mapping[str, str], secret: bytes, key_id: str
) -> bool:
    """New settings and secrets for an app, unless these changed meanwhile.

    Everybody reads again in either case: a key that was changed leaves processes with what is no longer there.
    """
    done = await c.run(
        "update app set settings = :settings, secret = :secret, key_id = :key_id where id = :id and secret = :was",
        id=id_,
        settings=to_json(settings).decode(),
        secret=secret,
        key_id=key_id,
        was=was,
    )
    await changed(c)
    return bool(done)


async def keep_app(c: Connection, id_: str) -> bool:
    """Whether an app is there; it neither goes nor gets connections until the transaction ends."""
    return await c.first(f"select 1 as one from app where id = :id {c.for_update}", id=id_) is not None


async def connections_of(c: Connection, app_id: str) -> list[str]:
    """The names of the connections that belong to an app."""
    return [
        row["name"] for row in await c.all("select name from connection where app_id = :id order by name", id=app_id)
    ]


async def remove_app(c: Connection, id_: str) -> None:
    """Delete an app, to which no connection belongs, with its secrets."""
    await c.run("delete from app where id = :id", id=id_)
    await changed(c)


async def add(
    c: Connection,
    *,
    settings: Mapping[str, str],
    token_expires_at: int | None = None,
    scopes: Sequence[str] | None = None,
    **row: Any,
) -> bool:
    """Insert a connection; False when there is one of its name or account."""
    added = await c.run(
        "insert into connection (id, connector, name, app_id, account, inbound_key, auth, mode, settings, secret, key_id, "
        "token_expires_at, scopes, health, created_at) values (:id, :connector, :name, :app_id, :account, :inbound_key, "
        ":auth, :mode, :settings, :secret, :key_id, :token_expires_at, :scopes, 'ok', :created_at) on conflict do nothing",
        settings=to_json(settings).decode(),
        token_expires_at=token_expires_at,
        scopes=_listed(scopes),
        **row,
    )
    await changed(c)
    return bool(added)


async def remove(c: Connection, id_: str, name: str) -> None:
    """Delete a connection with all that is kept of it: credentials, how far it was polled and its past read, its subscriptions,
    its rotas, and whether it rests."""
    await c.run("delete from connection where id = :id", id=id_)
    await c.run("delete from rota where connection_id = :id", id=id_)
    await c.run("delete from breaker where connection = :name", name=name)
    await c.run("delete from known_since where connection_id = :id", id=id_)
    # Where a poll goes on means nothing to another account that is given the name.
    await c.run("delete from work where kind in ('poll', 'backfill') and ref like :of", of=f"{name}|%")
    await drop_work(c, "subscriptions", name)
    await changed(c)


async def drop_work(c: Connection, kind: str, ref: str) -> None:
    """Nobody is to do a piece of work any more; who is at it finds it gone."""
    await c.run("delete from work where kind = :kind and ref = :ref", kind=kind, ref=ref)


async def set_scopes(c: Connection, id_: str, scopes: Collection[str] | None, *, epoch: int) -> None:
    """What a connection's credentials may do, unless these were replaced since `epoch`; None where that is not known."""
    await c.run(
        "update connection set scopes = :scopes where id = :id and token_epoch = :epoch",
        id=id_,
        epoch=epoch,
        scopes=_listed(scopes),
    )


async def replace_secret(
    c: Connection,
    id_: str,
    *,
    settings: Mapping[str, str],
    secret: bytes,
    key_id: str,
    at_ms: int,
    token_expires_at: int | None = None,
    scopes: Sequence[str] | None = None,
) -> None:
    """New settings and credentials for a connection, which is healthy again."""
    await c.run(
        "update connection set settings = :settings, secret = :secret, key_id = :key_id, health = 'ok', "
        "health_reason = null, token_epoch = token_epoch + 1, token_expires_at = :expires, scopes = :scopes, "
        "token_lease = null, token_lease_until = null, authorised_at = :at where id = :id",
        id=id_,
        settings=to_json(settings).decode(),
        secret=secret,
        key_id=key_id,
        at=at_ms,
        expires=token_expires_at,
        scopes=_listed(scopes),
    )
    await changed(c)


async def settings(c: Connection, id_: str) -> Mapping[str, str] | None:
    """A connection's settings as they are now, kept from others until the transaction ends; None when it is gone."""
    row = await c.first(f"select settings from connection where id = :id {c.for_update}", id=id_)
    found: Mapping[str, str] | None = None if row is None else from_json(row["settings"])
    return found


async def replace_settings(c: Connection, id_: str, settings: Mapping[str, str]) -> None:
    """Other settings for a connection, whose credentials stay."""
    await c.run(
        "update connection set settings = :settings where id = :id", id=id_, settings=to_json(settings).decode()
    )
    await changed(c)


async def sealed(c: Connection, id_: str) -> Row | None:
    """A connection's sealed credentials as they are now, kept from others until the transaction ends: secret, key_id."""
    return await c.first(f"select secret, key_id from connection where id = :id {c.for_update}", id=id_)


async def store_token(
    c: Connection,
    id_: str,
    *,
    epoch: int,
    secret: bytes,
    key_id: str,
    expires_at_ms: int | None,
    scopes: Sequence[str] | None = None,
) -> bool:
    """T8: a refreshed token, unless another process was quicker. Scopes that the vendor did not repeat stay."""
    won = await c.run(
        "update connection set secret = :secret, key_id = :key_id, token_expires_at = :expires, "
        "scopes = coalesce(:scopes, scopes), token_epoch = token_epoch + 1, token_lease = null, token_lease_until = null "
        "where id = :id and token_epoch = :epoch",
        id=id_,
        epoch=epoch,
        secret=secret,
        key_id=key_id,
        expires=expires_at_ms,
        scopes=_listed(scopes),
    )
    await changed(c)
    return bool(won)


# The tables that hold what is sealed with the operator's keys.
_SEALED = ("app", "connection", "authorisation", "pepper")


async def sealed_otherwise(c: Connection, key_id: str) -> list[Row]:
    """Credentials sealed with another key than this one: kind, id, secret, key_id."""
    parts = [f"select '{kind}' as kind, id, secret, key_id from {kind} where key_id <> :key_id" for kind in _SEALED]
    return list(await c.all(" union all ".join(parts) + " order by kind, id", key_id=key_id))


async def reseal(c: Connection, kind: str, id_: str, *, was: bytes, secret: bytes, key_id: str) -> bool:
    """The same credentials under another key, unless they changed meanwhile."""
    assert kind in _SEALED, "only these tables hold credentials"
    return bool(
        await c.run(
            f"update {kind} set secret = :secret, key_id = :key_id where id = :id and secret = :was",
            id=id_,
            secret=secret,
            key_id=key_id,
            was=was,
        )
    )


async def sealed_by_key(c: Connection) -> dict[str, int]:
    """How many records each key seals, by key id."""
    parts = " union all ".join(f"select key_id from {kind}" for kind in _SEALED)
    return {
        row["key_id"]: row["n"] for row in await c.all(f"select key_id, count(*) as n from ({parts}) k group by key_id")
    }


async def accounts_by_key(c: Connection) -> frozenset[str]:
    """The ids of the keys that seal the credentials of connections and apps."""
    rows = await c.all("select key_id from connection union select key_id from app")
    return frozenset(row["key_id"] for row in rows)


async def set_health(c: Connection, id_: str, health: str, reason: str | None, *, epoch: int | None = None) -> bool:
    """What the hub knows about whether the connection works; with `epoch` only of credentials that are still the same."""
    known = await c.run(
        "update connection set health = :health, health_reason = :reason where id = :id "
        "and token_epoch = coalesce(cast(:epoch as integer), token_epoch)",
        id=id_,
        health=health,
        reason=reason,
        epoch=epoch,
    )
    await changed(c)
    return bool(known)


@value(frozen=True)
class Ended:
    """That a vendor ended the access that a connection had at an instant, and how we know."""

    at_ms: int
    reason: str


async def end_access(c: Connection, ended: Mapping[str, Ended]) -> set[str]:
    """The credentials of these connections (by id) are over, as their vendors say; returns those of which it is so.

    Credentials that were given after their vendor ended access are others than those it ended.
    """
    # In one order, so that nobody waits in a circle.
    over = {
        id_
        for id_ in sorted(ended)
        if await c.run(
            "update connection set health = :health, health_reason = :reason "
            "where id = :id and coalesce(authorised_at, created_at) <= :at",
            id=id_,
            health=NEEDS_REAUTHORISATION,
            reason=ended[id_].reason,
            at=ended[id_].at_ms,
        )
    }
    if over:
        await changed(c)
    return over


async def is_healthy(c: Connection, id_: str) -> bool:
    """Whether the connection works, as far as the hub knows."""
    return await c.first("select 1 as one from connection where id = :id and health = 'ok'", id=id_) is not None


async def lease_token(c: Connection, id_: str, *, epoch: int, owner: str, now_ms: int, until_ms: int) -> bool:
    """Be the only one that renews the token of this epoch until `until_ms`; False when another process is, or has been."""
    return bool(
        await c.run(
            "update connection set token_lease = :owner, token_lease_until = :until "
            "where id = :id and token_epoch = :epoch and (token_lease_until is null or token_lease_until <= :now)",
            id=id_,
            epoch=epoch,
            owner=owner,
            now=now_ms,
            until=until_ms,
        )
    )


async def free_token(c: Connection, id_: str, owner: str) -> None:
    """The renewal failed: somebody else may try."""
    await c.run(
        "update connection set token_lease = null, token_lease_until = null where id = :id and token_lease = :owner",
        id=id_,
        owner=owner,
    )
