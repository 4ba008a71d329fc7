"""Group commit: many waiting callers, one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hub.errors import StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")

Flush = Callable[[Sequence[T]], Awaitable[Sequence[R]]]


class Full(StoreUnavailable):
    """More is waiting to be stored than the hub holds in memory. Nothing of this was stored; try again."""


class Late(StoreUnavailable):
    """The database was too slow, so that nobody waits any more. It may have been stored all the same."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[T, R]):
    """An item and who waits for it."""

    item: T
    written: asyncio.Future[R]
    given_up: bool = False


class Grouped(Generic[T, R]):
    """Collects items and hands them to `flush` in groups; each caller gets its own item's result.

    While one group is being written the next one gathers, so groups grow with the load and nobody waits when idle.
    If a group fails for another reason than an outage it is repeated item by item, so that only the culprit fails.
    """

    def __init__(
        self, flush: Flush[T, R], *, most: int, flushers: int = 1, bound: int = 5000, linger_s: float = 0.0
    ) -> None:
        self._flush, self._most, self._flushers, self._bound = flush, most, flushers, bound
        self._linger_s = linger_s
        self._waiting: list[_Waiting[T, R]] = []
        self._writers: set[asyncio.Task[None]] = set()
        self._writing = 0

    @property
    def depth(self) -> int:
        """How many items wait to be written."""
        return len(self._waiting)

    async def submit(self, item: T, *, patience_s: float | None = None) -> R:
        """Write the item with the next group. Raises Full, StoreUnavailable, or what the item itself caused.

        After `patience_s` it raises Late, and the item is not written any more unless its group was begun.
        """
        if len(self._waiting) >= self._bound:
            raise Full()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        one = _Waiting(item, future)
        self._waiting.append(one)
        if self._writing < self._flushers:
            self._writing += 1
            task = asyncio.ensure_future(self._write())
            self._writers.add(task)
            task.add_done_callback(self._writers.discard)
        # Whoever waits may be cancelled; the item is written nevertheless.
        if patience_s is not None:
            await asyncio.wait((future,), timeout=patience_s)
            if not future.done():
                one.given_up = True
                future.cancel()
                raise Late()
        return await future

    async def _write(self) -> None:
        try:
            while self._waiting:
                # One turn of the loop lets callers that are ready at the same moment join the group.
                await asyncio.sleep(self._linger_s)
                waiting = [one for one in self._waiting if not one.given_up]
                group, self._waiting = waiting[: self._most], waiting[self._most :]
                await self._settle(group)
        finally:
            # Here, and not when the task is seen to have ended: who submits in between would wait for nobody.
            self._writing -= 1

    async def _settle(self, group: Sequence[_Waiting[T, R]]) -> None:
        if not group:
            return
        try:
            results = await self._flush([one.item for one in group])
        except Exception as error:  # every failure belongs to the callers that wait for it
            if len(group) > 1 and not isinstance(error, StoreUnavailable):
                for single in group:
                    await self._settle([single])
                return
            for one in group:
                if not one.written.done():
                    one.written.set_exception(error)
                    one.written.exception()  # the caller may be gone; then nobody is left to be told
            return
        for one, result in zip(group, results, strict=True):
            if not one.written.done():
                one.written.set_result(result)
