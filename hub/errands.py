"""Errands: work for a connection that is no run. Done with a slot and a token of it, renewed, parked or tried again later.

What is to be done is the caller's; how it goes on when it cannot be done now is here, once for all kinds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from hub.backoff import MAX_CLAIMS, backoff_s
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.errors import AuthExpired, HubError, NoSuchConnection, OutcomeUnknown, RateLimited, RetryableError
from hub.limits import Limits
from hub.metrics import Metrics
from hub.store import work
from hub.store.lanes import Lane
from hub.store.session import Store
from hub.store.work import Claim

_log = logging.getLogger(__name__)


class Unconnected(Exception):
    """The connection or declaration of a piece of work is gone, so the work is too."""


class Missing(Exception):
    """The plugin of a piece of work is not loaded; its first argument is the connector's name."""


@dataclass(frozen=True)
class Errand:
    """What is to be done for whom. `failed` gives what the work remembers when it is to be tried again; None: as before.

    `cost` is what it takes from the connection's budgets before it is begun, `draws` the same of those kept apart.
    """

    connection: Connection
    act: Callable[[], Awaitable[None]]
    failed: Callable[[HubError], str] | None = None
    cost: int = 1
    draws: Mapping[str, int] = field(default_factory=dict)


class Errands:
    """Does errands of claimed work. Afterwards the work is finished, due again, or parked."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        clock: Clock,
        limits: Limits,
        *,
        metrics: Metrics,
        rehearsal: bool = False,
    ) -> None:
        self._store, self._connections, self._clock, self._limits = store, connections, clock, limits
        self._metrics, self._rehearsal = metrics, rehearsal

    async def do(self, claim: Claim, begin: Callable[[], Awaitable[Errand | None]]) -> None:
        """Find out what a piece of work is about (None: it is settled already) and do it. Raises StoreUnavailable."""
        errand = None
        try:
            errand = await begin()
            if claim.claims > MAX_CLAIMS:
                raise HubError(
                    f"claimed {MAX_CLAIMS} times without getting on; the logs of processes that ended say why"
                )
            if errand is not None:
                await self._limited(claim, errand)
        except Unconnected as error:
            await self._drop(claim, error)
        except Missing as error:
            async with self._store.write() as c:
                await work.park(c, claim, f"plugin:{error}")
            self._metrics.parked("plugin")
        except AuthExpired as error:
            await self._expired(claim, error, errand)
        except HubError as error:
            await self._later(claim, error, errand)
        except Exception as error:  # a plugin may raise anything; it is asked again like a vendor that fails
            _log.exception("a connector raised", extra={"what": "source_raised", "kind": claim.kind, "ref": claim.name})
            problem = HubError(f"the connector raised {type(error).__name__}; mend the plugin")
            await self._later(claim, problem, errand)

    async def more(self, claim: Claim, connection: Connection) -> float | None:
        """Take what another call of an errand under way takes of the budget: None, or seconds until it may be there.

        Whoever waits goes first.
        """
        if self._rehearsal:
            return None
        connector = self._connections.connector(connection.connector)
        refused = await self._limits.take(connection.name, connector, 1, Lane.of(claim.queue).rank)
        if refused is not None:
            return refused.wait_s
        # The slot of the errand is still held.
        self._limits.release(connection.name)
        return None

    async def _limited(self, claim: Claim, errand: Errand) -> None:
        """Do it with a slot and a token of its connection, or later."""
        name, connector = errand.connection.name, self._connections.connector(errand.connection.connector)
        rank = Lane.of(claim.queue).rank
        refused = None
        if not self._rehearsal:
            refused = await self._limits.take(name, connector, errand.cost, rank, draws=errand.draws, waited=True)
        if refused is not None:
            self._metrics.limited(name)
            async with self._store.write() as c:
                due_ms = self._clock.now_ms() + max(50, int(refused.wait_s * 1000))
                await work.give_back(c, claim, due_ms=due_ms, attempts=claim.attempts)
            return
        try:
            await errand.act()
        finally:
            if not self._rehearsal:
                self._limits.release(name)

    async def _expired(self, claim: Claim, error: AuthExpired, errand: Errand | None) -> None:
        """The credentials are refused: renew what can be renewed, once; else the work waits for a new authorisation."""
        try:
            connection = await self._connections.by_name(claim.ref.partition("|")[0])
        except NoSuchConnection as gone:
            # Whoever removed it meanwhile has given its token back.
            await self._drop(claim, gone)
            return
        try:
            renewed = await self._connections.tokens.renew_refused(connection)
        except AuthExpired as again:
            renewed, error = False, again
        except (RetryableError, OutcomeUnknown) as failed:
            await self._later(claim, failed, errand)
            return
        if renewed or not await self._connections.unhealthy(connection, str(error)):
            async with self._store.write() as c:
                await work.give_back(c, claim, due_ms=self._clock.now_ms() + 50, attempts=claim.attempts)
            return
        async with self._store.write() as c:
            await work.park(c, claim, f"connection:{connection.name}")
        self._metrics.parked("connection")
        await self._connections.unpark_if_healthy(connection)

    async def _drop(self, claim: Claim, why: Exception) -> None:
        _log.info("work of a removed connection is dropped", extra={"what": "work_dropped", "reason": str(why)})
        async with self._store.write() as c:
            await work.finish(c, claim)

    async def _later(self, claim: Claim, error: HubError, errand: Errand | None) -> None:
        """Try again later: when the vendor said, else doubling to an hour, for as long as the work is worth."""
        retry_after_s = error.retry_after_s if isinstance(error, RetryableError) else None
        if isinstance(error, RateLimited):
            await self._limits.push(claim.ref.partition("|")[0], retry_after_s)
        wait_s = backoff_s(claim.attempts + 1, random.random(), retry_after_s)  # noqa: S311  (jitter guards nothing)
        _log.warning(
            "an errand failed; trying again",
            extra={"what": "source_failed", "kind": claim.kind, "ref": claim.name, "error": str(error)},
        )
        remembered = errand.failed(error) if errand is not None and errand.failed is not None else None
        due_ms = self._clock.now_ms() + int(wait_s * 1000)
        async with self._store.write() as c:
            await work.give_back(c, claim, due_ms=due_ms, data=remembered, attempts=claim.attempts + 1)
