"""Authorisations that were begun: who may finish them, until when, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from hub.store.session import Connection, Row

_KEPT_MS = 86_400_000


async def add(c: Connection, *, settings: Mapping[str, str], scopes: Sequence[str], **row: Any) -> None:
    """Insert one; those that ended a day ago are removed."""
    await c.run("delete from authorisation where expires_at < :before", before=row["expires_at"] - _KEPT_MS)
    await c.run(
        "insert into authorisation (id, connector, name, connection, app_id, auth, mode, settings, scopes, secret, key_id, "
        "expires_at) values (:id, :connector, :name, :connection, :app_id, :auth, :mode, :settings, :scopes, :secret, "
        ":key_id, :expires_at)",
        settings=to_json(settings).decode(),
        scopes=to_json(list(scopes)).decode(),
        **row,
    )


async def by_id(c: Connection, id_: str) -> Row | None:
    """One by its id."""
    return await c.first("select * from authorisation where id = :id", id=id_)


async def by_state(c: Connection, state: str) -> Row | None:
    """The one that a vendor's answer belongs to."""
    return await c.first("select * from authorisation where state = :state", state=state)


async def bind(c: Connection, id_: str, *, session: str, state: str, now_ms: int) -> bool:
    """Only this browser session may finish it from now on, with this state; False when another one has it, or it ended."""
    return bool(
        await c.run(
            "update authorisation set session = :session, state = :state where id = :id and used_at is null "
            "and expires_at > :now and coalesce(session, :session) = :session",
            id=id_,
            session=session,
            state=state,
            now=now_ms,
        )
    )


async def use(c: Connection, id_: str, now_ms: int) -> bool:
    """Take it, once; False when somebody did, or it ended."""
    return bool(
        await c.run(
            "update authorisation set used_at = :now where id = :id and used_at is null and expires_at > :now",
            id=id_,
            now=now_ms,
        )
    )


async def conclude(c: Connection, id_: str, outcome: str, detail: str) -> None:
    """How it ended: `connected` with the connection's name, or `failed` with the reason."""
    await c.run(
        "update authorisation set outcome = :outcome, detail = :detail where id = :id",
        id=id_,
        outcome=outcome,
        detail=detail,
    )
