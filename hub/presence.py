"""A process's sign of life: every few seconds it says that it is there, and learns how many others make calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from hub.clock import Clock
from hub.errors import StoreUnavailable
from hub.events import Json
from hub.store import processes
from hub.store.processes import Process
from hub.store.session import Store

_EVERY_S = 5.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def present(
    store: Store,
    clock: Clock,
    process: Process,
    *,
    slots: int,
    busy: Callable[[], int] = lambda: 0,
    tally: Callable[[], Mapping[str, Json]] = dict,
    heard: Callable[[int], None] = lambda calling: None,
) -> AsyncIterator[None]:
    """The process shows itself while this lasts. `tally` is what it tells of itself; `heard` is told how many
    living processes make calls.
    """

    async def beat() -> None:
        # Real time: a clock that jumps must not make anybody look dead.
        now_ms = clock.now_ms() - clock.offset_ms
        async with store.write() as c:
            heard(await processes.beat(c, process, busy=busy(), slots=slots, now_ms=now_ms, tally=tally()))

    async def keep() -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            # While the database is away nobody gets on; it is shown again with the next beat.
            with suppress(StoreUnavailable):
                await beat()

    await beat()
    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        try:
            async with store.write() as c:
                await processes.leave(c, process.id)
        except StoreUnavailable as error:
            _log.info("the process is left to be found dead", extra={"what": "leave_failed", "error": str(error)})
