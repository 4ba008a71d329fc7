"""Keys that callers of the API bear: made once, stored as a hash, with what they allow."""

from __future__ import annotations

import hashlib
import secrets

from hub.errors import ConfigError
from hub.store.session import Store


def hash_api_key(key: str) -> str:
    """What is stored of an API key; keys are long and random, so a plain hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


async def key_of(store: Store, key: str) -> tuple[str, str] | None:
    """The name of an API key and what it allows (`read` or `write`), None for one not known. Raises StoreUnavailable."""
    async with store.read() as c:
        row = await c.first("select name, scope from api_key where hash = :hash", hash=hash_api_key(key))
    return (row["name"], row["scope"]) if row else None


async def create_api_key(store: Store, name: str, scope: str, now_ms: int) -> str:
    """A new API key (`read` or `write`), shown this once. Raises ConfigError for another scope."""
    if scope not in {"read", "write"}:
        raise ConfigError(f"{scope} is no scope; choose read or write")
    key = f"hub_{secrets.token_urlsafe(32)}"
    async with store.write() as c:
        await c.run(
            "insert into api_key (hash, name, scope, created_at) values (:hash, :name, :scope, :now)",
            hash=hash_api_key(key),
            name=name,
            scope=scope,
            now=now_ms,
        )
    return key
