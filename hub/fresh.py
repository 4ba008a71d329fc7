"""Something small out of the database that is asked for often: kept in memory, and never used when it is too old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from hub.errors import StoreUnavailable

T = TypeVar("T")

FRESH_S = 2.0
LOOK_EVERY_S = 0.8


class Fresh(Generic[T]):
    """What `read` gave last. Somebody calls `refresh` about every `LOOK_EVERY_S`; who asks gets it without waiting."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._known: T | None = None
        self._asked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read again. Raises StoreUnavailable."""
        asked = time.monotonic()
        self._known = await self._read()
        # It is as old as the question: what changed while the answer was on its way is not in it.
        self._asked_at = asked

    async def current(self) -> T:
        """What is known, asked for no more than `FRESH_S` ago. Raises StoreUnavailable when that cannot be had."""
        if not self.is_fresh:
            async with self._reading:
                if not self.is_fresh:
                    await self.refresh()
            if not self.is_fresh:
                raise StoreUnavailable(
                    "the database is too slow to say what is paused or capped; no call is made on old news"
                )
        assert self._known is not None, "what is fresh was read"
        return self._known

    @property
    def is_fresh(self) -> bool:
        """Whether it was asked for lately enough."""
        return time.monotonic() - self._asked_at < FRESH_S
