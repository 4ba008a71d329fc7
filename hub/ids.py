"""Ids: UUID version 7 as text, so that they sort by time and cannot be guessed."""

from __future__ import annotations

import secrets
import uuid

from uuid_utils import uuid7

_EFFECTS = uuid.UUID("6f1f0c0e-5f0c-5f52-9a55-9c1f0a9d2d11")


def new_id() -> str:
    """A new id for a row."""
    return str(uuid7())


def new_inbound_key() -> str:
    """The unguessable part of a webhook address."""
    return secrets.token_urlsafe(18)


def idempotency_key(effect_key: str) -> str:
    """The UUID that vendors get as idempotency key: the same for every attempt of an effect."""
    return str(uuid.uuid5(_EFFECTS, effect_key))


def reference(effect_key: str) -> str:
    """The short name of an effect at the vendor: URL-safe, the same for every attempt, tells nothing about the person."""
    return uuid.uuid5(_EFFECTS, "reference:" + effect_key).hex
