"""The brokers: Dramatiq on Redis between processes, Dramatiq in memory within one. Messages are bells and may be lost."""

from __future__ import annotations

from collections.abc import Iterable

import dramatiq
import redis
from dramatiq import Worker
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import ConnectionClosed

QUEUE = "bell"
# How long a look at an empty queue takes; a ring ends it at once. The end of a process waits for it.
_LOOK_S = 0.5
# The same within the process, between Dramatiq's threads.
_LOOK_WITHIN_MS = 100
# Of rings that nobody waits for so many are kept; each costs one futile look later.
_RINGS_KEPT = 10


class _PromptBroker(RedisBroker):
    """Dramatiq's broker on Redis, whose consumers wait for the next message instead of asking again and again.

    Dramatiq's own sleep between two looks: 37 ms until a bell is heard on average, or a good part of a core when idle.
    """

    def enqueue(self, message: dramatiq.Message[object], *, delay: int | None = None) -> dramatiq.Message[object]:
        sent = super().enqueue(message, delay=delay)
        rings = self.rings(message.queue_name)
        with self.client.pipeline(transaction=False) as pipe:
            pipe.rpush(rings, 1)
            pipe.ltrim(rings, -_RINGS_KEPT, -1)
            pipe.execute()
        return sent

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        return _PromptConsumer(super().consume(queue_name, prefetch, timeout=0), self, self.rings(queue_name))

    def rings(self, queue_name: str) -> str:
        """The key of the list that waiting consumers block on."""
        return f"{self.namespace}:{queue_name}.rings"


class _PromptConsumer(Consumer):
    """Looks for a message; when there is none it waits until one is rung for, and says that there was none."""

    def __init__(self, inner: Consumer, broker: _PromptBroker, rings: str) -> None:
        self._inner, self._broker, self._rings = inner, broker, rings

    def __next__(self) -> MessageProxy | None:
        message = next(self._inner)
        if message is None:
            try:
                self._broker.client.blpop([self._rings], timeout=_LOOK_S)
            except redis.ConnectionError as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # not annotated by Dramatiq
        return message

    def ack(self, message: MessageProxy) -> None:
        self._inner.ack(message)

    def nack(self, message: MessageProxy) -> None:
        self._inner.nack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self._inner.requeue(messages)

    def close(self) -> None:
        self._inner.close()


def make_broker(redis_url: str | None) -> Broker:
    """A broker without retries, results or time limits: the store keeps the work, so a lost bell costs a moment."""
    if redis_url is None:
        return StubBroker(middleware=[])
    return _PromptBroker(  # type: ignore[no-untyped-call]  # not annotated by Dramatiq
        # Given a URL, Dramatiq would leave out the time limits.
        client=redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=2),
        middleware=[],
        namespace="tetik-hub",
        # Bells are never worth keeping: what is not fetched within a minute is dropped by the next maintenance.
        heartbeat_timeout=60_000,
    )


def make_worker(broker: Broker) -> Worker:
    """The thread that hears the bells of this broker."""
    return Worker(broker, queues={QUEUE}, worker_threads=1, worker_timeout=_LOOK_WITHIN_MS)


def reach(broker: Broker) -> None:
    """Ask Redis for a sign of life; blocks. Raises what its client raises."""
    if isinstance(broker, RedisBroker):
        broker.client.ping()


__all__ = ["QUEUE", "dramatiq", "make_broker", "make_worker", "reach"]
