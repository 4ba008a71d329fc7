"""How inner states and instants are written for people."""

from __future__ import annotations

from hub.clock import rfc3339
from hub.store.work import NEVER_MS

# What people see of a run's inner states.
STATUS = {"acting": "running", "arming": "waiting"}


def when(ms: int | None) -> str | None:
    """An instant; None where there is none, or it never comes."""
    return rfc3339(ms) if ms is not None and ms < NEVER_MS - 1 else None
