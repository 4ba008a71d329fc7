"""Hub time across processes: everybody reads one offset, and development mode may jump it from due instant to due instant."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from hub.clock import Clock
from hub.errors import ConfigError
from hub.store.lanes import Lane
from hub.store.session import Row, Store
from hub.store.work import NEVER_MS

_KEY = "clock_offset_ms"
_LOOK_S = 0.005
SKEW_EVERY_S = 30.0
# A clock that went so much faster or slower than time passed was set by somebody.
_SET_S = 0.5
# The longest that work may take to come to rest between two jumps, in real seconds.
_REST_LIMIT_S = 60.0
# How old an instant may be that was meant as now: a busy machine takes its time between asking and jumping.
_BLINK_MS = 10_000
# A look at the database's clock that took no longer is good enough; else the best of a few counts.
_QUICK_S, _LOOKS = 0.02, 5
# So much is no look wrong by: the clock was set, or the database is another machine's now.
_JUMP_MS = 10_000

_log = logging.getLogger(__name__)


class HubTime:
    """Keeps a process's clock in step with the database's and, in development mode, with the common offset.

    `held` tells for how many seconds yet nothing is claimed for a connection, as its vendor asked.
    """

    def __init__(
        self, store: Store, clock: Clock, *, development: bool, held: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._store, self.clock, self._development, self._held = store, clock, development, held
        self._skew_read = float("-inf")
        self._pace = 0.0
        self._ahead_ms: float | None = None
        self._jumped_at, self._jump_ms = float("-inf"), 0

    async def sync(self) -> None:
        """Read the offset (development mode) and, now and then, the database's clock."""
        if self._store.dialect != "postgresql":
            self._note_jump()
        elif self._is_skew_due():
            self._skew_read, self._pace = time.monotonic(), time.time() - time.monotonic()
            try:
                self.clock.skew_ms = await self._skew_ms()
            except BaseException:
                # Asked again when the database is back, which may have another clock then.
                self._skew_read = float("-inf")
                raise
            self._note_jump()
        if self._development:
            async with self._store.read() as c:
                row = await c.first("select value from meta where key = :key", key=_KEY)
            self.clock.offset_ms = int(row["value"]) if row else 0

    def _note_jump(self) -> None:
        """Whether the clock that hub time follows went on otherwise than time did since it was looked at last."""
        ahead_ms = (time.time() - time.monotonic()) * 1000 + self.clock.skew_ms
        before_ms, self._ahead_ms = self._ahead_ms, ahead_ms
        if before_ms is None:
            # Of what came before its start a process has only its machine's clock: where the database's is far ahead of
            # that, it may have been set a moment ago, and others may not have noticed.
            before_ms = ahead_ms - max(0, self.clock.skew_ms)
        if abs(ahead_ms - before_ms) > _JUMP_MS:
            self._jumped_at, self._jump_ms = time.monotonic(), int(ahead_ms - before_ms)
            facts = {"what": "clock_jumped", "by_ms": self._jump_ms}
            _log.warning(
                "the clock that hub time follows was set; nothing is begun until all have noticed", extra=facts
            )

    def jump_ms(self, within_s: float) -> int:
        """By how much the clock that hub time follows was set in the last seconds; 0 when it was not."""
        return self._jump_ms if time.monotonic() - self._jumped_at < within_s else 0

    async def _skew_ms(self) -> int:
        """How far the database's clock is ahead, by the quickest of a few looks: the slower, the less it says."""
        looks: list[tuple[float, float]] = []
        async with self._store.read() as c:
            while len(looks) < _LOOKS and min(looks, default=(1.0,))[0] > _QUICK_S:
                asked = time.time()
                row = await c.first("select extract(epoch from clock_timestamp())::float8 as now")
                assert row is not None, "a clock always has a time"
                took_s = time.time() - asked
                looks.append((took_s, row["now"] - asked - took_s / 2))
        took_s, ahead_s = min(looks)
        # Less than the look's own uncertainty is no skew.
        return int(ahead_s * 1000) if abs(ahead_s) > took_s / 2 else 0

    def _is_skew_due(self) -> bool:
        """Whether the skew was read long ago, or this machine's clock was set since."""
        was_set = abs(time.time() - time.monotonic() - self._pace) > _SET_S
        return was_set or time.monotonic() - self._skew_read > SKEW_EVERY_S

    async def advance(
        self, to_ms: int, *, ring: Callable[[], None], settle: Callable[[], Awaitable[object]] | None = None
    ) -> int:
        """Jump hub time to `to_ms`, stopping at every instant on the way at which something is due.

        Waits at each until nothing is unrouted, due or in hand; `settle` is awaited too (webhooks still on their way).
        Returns how many instants there were. Raises ConfigError outside development mode or for an instant in the past.
        """
        if not self._development:
            raise ConfigError(
                "the clock can only be moved in development mode: set HUB_DEVELOPMENT=true, never in production"
            )
        await self.sync()
        if to_ms < self.clock.now_ms() - _BLINK_MS:
            raise ConfigError("the clock only moves forward; name an instant to come")
        stops = 0
        while True:
            await self._rest(ring, settle)
            due_ms = await self._jump(to_ms)
            if due_ms is None:
                continue
            if due_ms > to_ms:
                return stops
            stops += 1
            ring()

    async def _jump(self, to_ms: int) -> int | None:
        """Move to the next due instant, at most to `to_ms`; returns that instant, None when work came in hand meanwhile.

        A jump while work is in hand would end its lease under it; on SQLite whoever claims waits for this transaction.
        """
        async with self._store.write() as c:
            rows = await c.all(
                "select queue, owner is not null as in_hand, min(due_at) as due from work "
                # Upkeep and looks at subscriptions are nothing to stop at: they are done wherever the clock comes to.
                "where (due_at < :never and kind not in ('upkeep', 'subscriptions')) or owner is not null "
                "group by queue, owner is not null "
                # A run that arms its wait belongs to nobody, and is due when whoever arms it has failed to.
                "union all select '', true, :never where exists "
                "(select 1 from run where finished_at is null and status = 'arming')",
                never=NEVER_MS - 1,
            )
            if any(row["in_hand"] for row in rows):
                return None
            # Of a connection that is held nothing starts before its vendor's time is up, whatever is due.
            now_ms, held = self.clock.now_ms(), self._held()
            free_ms = {connection: now_ms + int(seconds * 1000) + 1 for connection, seconds in held.items()}
            due_ms = min((max(row["due"], free_ms.get(_waits_for(row), 0)) for row in rows), default=NEVER_MS)
            ahead_ms = min(due_ms, to_ms) - now_ms
            if ahead_ms > 0:
                offset_ms = self.clock.offset_ms + ahead_ms
                await c.run(
                    "insert into meta (key, value) values (:key, :value) "
                    "on conflict (key) do update set value = excluded.value",
                    key=_KEY,
                    value=str(offset_ms),
                )
        if ahead_ms > 0:
            self.clock.offset_ms = offset_ms
        return int(due_ms)

    async def _rest(self, ring: Callable[[], None], settle: Callable[[], Awaitable[object]] | None) -> None:
        """Wait until everything that can happen at this instant has happened."""
        until = time.monotonic() + _REST_LIMIT_S
        while True:
            if settle is not None:
                await settle()
            async with self._store.read() as c:
                # One statement, so that nothing is between being due and being in hand while it looks.
                rows = await c.all(
                    "select distinct queue, owner is not null as in_hand from work where due_at <= :now or owner is not "
                    "null union all select '', true where exists (select 1 from event where stage = 'route') or exists "
                    # Events that are to be filled in have work of their own, which may have to wait for their vendor.
                    "(select 1 from run where finished_at is null and status = 'arming')",
                    now=self.clock.now_ms(),
                )
            held = self._held()
            if not any(row["in_hand"] or _waits_for(row) not in held for row in rows):
                return
            if time.monotonic() > until:
                raise ConfigError(
                    f"work did not come to rest within {_REST_LIMIT_S:.0f} s, so the clock stays; `hub runs list` shows what is going on"
                )
            ring()
            await asyncio.sleep(_LOOK_S)


def _waits_for(row: Row) -> str:
    """The connection that a row of work waits for, or ''."""
    return Lane.of(row["queue"]).connection
