"""The bell: tells a worker that there may be something to do. Dropping any or all rings is harmless."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hub.worker.broker import QUEUE, dramatiq, make_broker, make_worker, reach

SHARD = 0
# A broker that is down is not asked again for so long.
_REST_S = 2.0
# Two rings are at least so far apart: each costs the hearing worker as much as a database statement.
_SPACE_S = 0.005
# A health check must be answered sooner than its caller gives up.
_ANSWER_S = 0.5

_log = logging.getLogger(__name__)


class Bell:
    """Rings from any task of this process; with `listen` also hears the rings of every process on the same broker.

    Rings that come while one is on its way, or just after, are one more ring: a flood of events costs few messages. Without
    Redis only this process can hear, so nothing is sent until it listens.
    """

    def __init__(self, redis_url: str | None) -> None:
        self._alone = redis_url is None
        self._broker = make_broker(redis_url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bell")
        self._worker = make_worker(self._broker)
        self._heard: Callable[[], object] = lambda: None
        self._actor = dramatiq.actor(broker=self._broker, queue_name=QUEUE, actor_name="ring")(self._hear)
        self._ringing = False
        self._again = False
        self._resting = False
        self._listening = False
        self._asking: asyncio.Future[None] | None = None

    def _hear(self, shard: int) -> None:
        self._heard()

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` in the running loop at every ring."""
        loop = asyncio.get_running_loop()
        self._heard = lambda: loop.call_soon_threadsafe(heard)
        self._listening = True
        self._worker.start()

    def ring(self) -> None:
        """Ring, from within the loop; returns at once and never fails."""
        if self._alone and not self._listening:
            return
        if self._ringing or self._resting:
            self._again = True
            return
        self._ringing = True
        sending = asyncio.get_running_loop().run_in_executor(self._thread, self._send)
        sending.add_done_callback(self._rang)

    def _send(self) -> None:
        self._actor.send(SHARD)

    def _rang(self, sending: asyncio.Future[None]) -> None:
        self._ringing = False
        if sending.cancelled():
            return
        self._resting = True
        if (error := sending.exception()) is not None:
            # Without a bell workers look once a second: slower, nothing lost.
            _log.warning("the bell cannot be rung", extra={"what": "bell_down", "error": type(error).__name__})
        sending.get_loop().call_later(_SPACE_S if error is None else _REST_S, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self._again:
            self._again = False
            self.ring()

    async def trouble(self) -> str | None:
        """Why other processes cannot be rung now; None when they can, or when there is none."""
        if self._alone:
            return None
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done():
            # In a thread of its own, and at most one: a broker that hangs does so for seconds.
            self._asking = loop.run_in_executor(None, reach, self._broker)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await asyncio.shield(self._asking)
        except Exception as error:  # whatever a broker's client raises: it cannot be rung
            return f"Redis does not answer ({type(error).__name__}), so workers look only once a second"
        return None

    async def close(self) -> None:
        """Stop hearing and ringing."""
        loop = asyncio.get_running_loop()
        if self._listening:
            self._heard = lambda: None
            await loop.run_in_executor(None, self._worker.stop, 2000)
        self._thread.shutdown(wait=False, cancel_futures=True)
        await loop.run_in_executor(None, self._broker.close)
