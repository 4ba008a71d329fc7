"""What is left of people who were erased: keyed hashes of their identities, and of the addresses in the consent ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hub.events import CHANNELS, ConsentState, addresses
from hub.ids import new_id
from hub.store.session import Connection, Row

Key = tuple[str, str]
"""An identity: its kind and value."""

HASHED = "erased:"
"""How an address in the consent ledger begins that was erased; its hash follows."""

PERSONAL = re.compile(r"@|%40|\+\d{7}|%2B\d{7}")
"""Facts that may name somebody; of those who were erased they are kept as hashes."""

ERASURE = "erasure"
"""The reason of the statement that an erasure leaves in the ledger: a consent given before it does not count."""


# -- the pepper --------------------------------------------------------------------------------------------------------


async def pepper(c: Connection, id_: str) -> Row | None:
    """The sealed pepper: `secret`, `key_id`; None when none was made yet."""
    return await c.first("select secret, key_id from pepper where id = :id", id=id_)


async def keep_pepper(c: Connection, id_: str, secret: bytes, key_id: str) -> None:
    """Keep a sealed pepper unless there is one."""
    await c.run(
        "insert into pepper (id, secret, key_id) values (:id, :secret, :key_id) on conflict (id) do nothing",
        id=id_,
        secret=secret,
        key_id=key_id,
    )


async def drop_unused_pepper(c: Connection, id_: str) -> bool:
    """Drop a pepper under which nobody was erased; False when somebody was."""
    return bool(
        await c.run("delete from pepper where id = :id and not exists (select 1 from tombstone limit 1)", id=id_)
    )


# -- identities --------------------------------------------------------------------------------------------------------


async def bury(c: Connection, keys: Iterable[Key], at_ms: int) -> None:
    """These identities were erased at an instant; of several erasures the last one counts."""
    hashed = _hash_of(c)
    await c.group(
        "insert into tombstone (hash, erased_at) select hash, :at from {rows} where true "
        "on conflict (hash) do update set erased_at = excluded.erased_at",
        {"hash": "text"},
        [{"hash": hash_} for hash_ in sorted({hashed(*key) for key in keys})],
        at=at_ms,
    )


async def erased_at(c: Connection, keys: Iterable[Key]) -> dict[Key, int]:
    """When each of these identities was erased, of those that were. Nobody is where the store does not hash."""
    if c.hashed is None:
        return {}
    hashes = {c.hashed(*key): key for key in keys}
    rows = await c.group(
        "select hash, erased_at from tombstone where hash in (select hash from {rows})",
        {"hash": "text"},
        [{"hash": hash_} for hash_ in sorted(hashes)],
    )
    return {hashes[row["hash"]]: row["erased_at"] for row in rows}


def _hash_of(c: Connection) -> Callable[[str, str], str]:
    assert c.hashed is not None, "whoever erases has loaded the pepper"
    return c.hashed


# -- addresses in the ledger -------------------------------------------------------------------------------------------


def hidden(c: Connection, address: str) -> str | None:
    """An address as the ledger writes it once it was erased; None where the store does not hash."""
    return None if c.hashed is None else HASHED + c.hashed("address", address)


async def hide(c: Connection, keys: Sequence[Key], event_id: str | None, at_ms: int) -> int:
    """Hash the addresses of these identities in the ledger, and state that what they agreed to is over.

    A statement is never changed otherwise: a block still stands, and a consent that is given later counts. Returns how many
    statements there were.
    """
    hashed = _hash_of(c)
    known = await c.all("select distinct channel from purpose where channel is not null")
    every = sorted({row["channel"] for row in known} | {name for names in CHANNELS.values() for name in names})
    values = {value for kind, value in keys if kind in CHANNELS}
    pairs = [
        {"address": address, "channel": channel, "hidden": HASHED + hashed("address", address)}
        for address in sorted(values)
        for channel in every
    ]
    done = await c.group(
        "update consent set address = r.hidden from {rows} "
        "where consent.channel = r.channel and consent.address = r.address returning consent.id as id",
        {"address": "text", "channel": "text", "hidden": "text"},
        pairs,
    )
    await c.many(
        "insert into consent (id, channel, address, purpose, state, reason, source, event_id, at) "
        "values (:id, :channel, :address, '*', :state, :reason, 'hub', :event_id, :at)",
        [
            {
                "id": new_id(),
                "channel": channel,
                "address": HASHED + hashed("address", address),
                "state": ConsentState.REVOKED.value,
                "reason": ERASURE,
                "event_id": event_id,
                "at": at_ms,
            }
            for channel, address in addresses(keys)
        ],
    )
    return len(done)


# -- facts -------------------------------------------------------------------------------------------------------------


def hidden_fact(c: Connection, fact: str) -> str | None:
    """A fact's key as `dedupe` keeps it when it named somebody who was erased; None where the store does not hash."""
    return None if c.hashed is None else HASHED + c.hashed("fact", fact)


async def known_facts(c: Connection, facts: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (scope, fact) are known under their hash."""
    rows: list[dict[str, Any]] = [
        {"scope": scope, "fact": fact, "hidden": name} for scope, fact in facts if (name := hidden_fact(c, fact))
    ]
    found = await c.group(
        "select r.scope as scope, r.fact as fact from {rows} join dedupe on dedupe.scope = r.scope and dedupe.id = r.hidden",
        {"scope": "text", "fact": "text", "hidden": "text"},
        rows,
    )
    return {(row["scope"], row["fact"]) for row in found}


async def hide_facts(c: Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Keep these facts (scope, id) under their hashes."""
    for scope, id_ in keys:
        await c.run(
            "insert into dedupe (scope, id, event_id, seen_at) select scope, :new, event_id, seen_at from dedupe "
            "where scope = :scope and id = :id on conflict do nothing",
            scope=scope,
            id=id_,
            new=hidden_fact(c, id_),
        )
        await c.run("delete from dedupe where scope = :scope and id = :id", scope=scope, id=id_)


async def hide_facts_of(c: Connection, scope: str, after: str, until_ms: int, most: int) -> str | None:
    """Hide what may name somebody among a connection's next so many facts; returns where to go on from."""
    rows = await c.all(
        "select id, seen_at from dedupe where scope = :scope and id > :after order by id limit :most",
        scope=scope,
        after=after,
        most=most,
    )
    await hide_facts(c, [(scope, r["id"]) for r in rows if r["seen_at"] <= until_ms and PERSONAL.search(r["id"])])
    return rows[-1]["id"] if len(rows) == most else None
