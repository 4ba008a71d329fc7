"""What a connection and an app are, as read from the store; their secrets stay there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from hub.store.session import Row


@dataclass(frozen=True)
class Connection:
    """One authorised account, secrets left out."""

    id: str
    name: str
    connector: str
    account: str
    mode: str
    auth: str
    settings: Mapping[str, str]
    inbound_key: str
    app_id: str | None
    health: str
    health_reason: str | None
    token_epoch: int
    token_expires_at_ms: int | None
    scopes: frozenset[str] | None = None
    """What a person granted; None where that is not known."""

    @property
    def sandbox(self) -> bool:
        """Whether its calls are led to the sandbox."""
        return self.mode == "sandbox"


@dataclass(frozen=True)
class App:
    """One registration of ours at a vendor: its inbound address serves all of its connections."""

    id: str
    name: str
    connector: str
    settings: Mapping[str, str]
    inbound_key: str


def connection_of(row: Row) -> Connection:
    """From a row of the table `connection`."""
    values: dict[str, Any] = {
        name: row[name]
        for name in (
            "id",
            "name",
            "connector",
            "account",
            "mode",
            "auth",
            "inbound_key",
            "app_id",
            "health",
            "health_reason",
        )
    }
    return Connection(
        **values,
        settings=from_json(row["settings"]),
        token_epoch=row["token_epoch"],
        token_expires_at_ms=row["token_expires_at"],
        scopes=frozenset(from_json(row["scopes"])) if row["scopes"] else None,
    )
