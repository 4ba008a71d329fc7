"""Ids: UUID version 7 as text, so that they sort by time and cannot be guessed."""

from __future__ import annotations

import hashlib
import re
import secrets

from uuid_utils import UUID, uuid5, uuid7

_REFERENCE = re.compile(r"[0-9a-f]{40}")
_EFFECTS = UUID("6f1f0c0e-5f0c-5f52-9a55-9c1f0a9d2d11")


def new_id() -> str:
    """A new id for a row."""
    return str(uuid7())


def new_inbound_key() -> str:
    """The unguessable part of a webhook address."""
    return secrets.token_urlsafe(18)


def key_hash(inbound_key: str) -> str:
    """What is kept of a webhook address whose call was refused: enough to know one of ours again, not to call it."""
    return hashlib.sha256(inbound_key.encode()).hexdigest()[:12]


def idempotency_key(effect_key: str) -> str:
    """The UUID that vendors get as idempotency key: the same for every attempt of an effect."""
    return str(uuid5(_EFFECTS, effect_key))


def reference(effect_key: str) -> str:
    """The short name of an effect at the vendor: URL-safe, the same for every attempt, tells nothing about the person.

    It begins with the run, so that a vendor who gives it back leads us there (`run_of`); a batch's call has no one run.
    """
    digest = uuid5(_EFFECTS, "reference:" + effect_key).hex
    try:
        return UUID(effect_key.partition(":")[0]).hex + digest[:8]
    except ValueError:
        return digest


def run_of(reference: str) -> str | None:
    """The id of the run that a reference names, or None when it is none of ours. Whether there is such a run is not asked."""
    if not _REFERENCE.fullmatch(reference):
        return None
    return str(UUID(reference[:32]))


def id_floor(at_ms: int) -> str:
    """What the ids of all rows made since an instant of real time are greater than."""
    digits = f"{max(0, at_ms):012x}"
    return f"{digits[:8]}-{digits[8:]}"
