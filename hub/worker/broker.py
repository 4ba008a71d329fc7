"""The brokers: Dramatiq on Redis between processes, Dramatiq in memory within one. Messages are bells and may be lost."""

from __future__ import annotations

import dramatiq
from dramatiq import Worker
from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker

QUEUE = "bell"
# How long Dramatiq's consumer sleeps at most between looks at Redis; its default of a second is felt by every first bell.
_LOOK_MS = 100


def make_broker(redis_url: str | None) -> Broker:
    """A broker without retries, results or time limits: the store keeps the work, so a lost bell costs a moment."""
    if redis_url is None:
        return StubBroker(middleware=[])
    return RedisBroker(  # type: ignore[no-untyped-call]  # dramatiq's signature is not annotated
        url=redis_url,
        middleware=[],
        namespace="tetik-hub",
        socket_timeout=5,
        socket_connect_timeout=2,
        # Bells are never worth keeping: what is not fetched within a minute is dropped by the next maintenance.
        heartbeat_timeout=60_000,
    )


def make_worker(broker: Broker) -> Worker:
    """The thread that hears the bells of this broker."""
    return Worker(broker, queues={QUEUE}, worker_threads=1, worker_timeout=_LOOK_MS)


__all__ = ["QUEUE", "dramatiq", "make_broker", "make_worker"]
