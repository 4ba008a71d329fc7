"""How much a connection may do now: calls in flight, rates, and instants, as its vendor allows them, for all processes.

With Redis the processes share what a connector declares, tokens and slots taken a few at a time. Without it (embedded) a
process has all to itself; while Redis is away each keeps to its share. What is refused gets a turn, and is not slept for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil, inf

from hub.backoff import LONGEST_TOLD_S
from hub.breaker import Breakers
from hub.connector import Concurrency, Connector, Rate, Throttle
from hub.errors import ConnectorError, NotSent, OutcomeUnknown, RateLimited, VendorUnavailable
from hub.http import Answer
from hub.limits import rates
from hub.limits.shared import Away, Shared
from hub.limits.turns import Turns
from hub.store.lanes import Rank

DEFAULT_CONCURRENCY = 32
# How soon a call is tried again when all of a connection's calls are in flight; it is not claimed before one ends.
_FULL_S = 0.05
# How many calls are let through to wait for a slot, in times of the slots; and how long each waits in memory: most calls
# take less, and to be given back costs a commit.
_AHEAD, _PATIENCE_S = 4, 0.1
# How soon to ask Redis again for a slot that other processes have.
_DENIED_S = 0.2
# How often the processes tell each other what is held and which slots they need.
_LOOK_S = 0.5
# Each process's share when they cannot ask each other: somewhat less than all together.
_SHARE = 0.8
# A vendor that says "slower" without saying how long: doubling from a second.
_LONGEST_PUSH_S = 60.0
_TOLERANCE_S = 0.05
_NOTHING: Mapping[str, float] = {}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Not now: seconds until it is worth asking again, and why, for people."""

    wait_s: float
    why: str


@dataclass(frozen=True)
class Outlook:
    """How many calls of a connection are worth claiming now (None: as many as there are); else seconds until one is."""

    room: int | None
    again_s: float = 0.0


_OPEN = Outlook(None)


@dataclass(eq=False)
class _Waiting:
    """One call that waits for a slot; `given` is done when it has one."""

    rank: Rank
    given: asyncio.Future[None]


@dataclass
class _Use:
    """What this process knows of a connection."""

    concurrency: int = DEFAULT_CONCURRENCY
    # A concurrency that the connector declares holds for all processes together; the default is each one's own.
    shares_slots: bool = False
    in_flight: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    not_before: float = 0.0
    strikes: int = 0
    cost: float = 1.0
    turns: Turns = field(default_factory=Turns)
    rates: Sequence[Rate] = ()
    declared: Sequence[Rate] | None = None
    # When the bucket of each rate is full again.
    full_at: dict[str, float] = field(default_factory=dict)
    # Tokens in hand and until when; how many to ask for next; until when so many are not to be had.
    tokens: float = 0.0
    tokens_until: float = 0.0
    batch: float = 0.0
    none_until: float = 0.0
    none_cost: float = 0.0
    # Slots that Redis gave us, how many were used at once lately, and until when there are no more.
    slots: int = 0
    peak: int = 0
    denied_until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Limits:
    """The limits of every connection. `now` is real time in seconds that jumps when hub time does.

    `alone` says that no other process makes calls. `processes` is how many do (see `heard`). `in_hand` is how much this
    process can have in hand: of that one connection's calls take at most a quarter, and those that wait for them as much
    again, whatever its vendor allows. When it hangs, the rest is left for the others.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        breakers: Breakers | None = None,
        shared: Shared | None = None,
        alone: bool = True,
        in_hand: int = 4_000,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._now, self._draw, self._in_hand = now, draw, in_hand
        self._breakers, self._shared, self._alone = breakers, shared, alone
        self._uses: defaultdict[str, _Use] = defaultdict(_Use)
        self._was_away = False
        self.processes = 1

    # -- before and after a call -----------------------------------------------------------------------------------

    async def take(
        self,
        connection: str,
        connector: Connector,
        cost: float,
        rank: Rank = Rank.TRANSACTIONAL,
        *,
        draws: Mapping[str, float] = _NOTHING,
        waited: bool = False,
        hold: bool = True,
    ) -> Refusal | None:
        """Take a slot and `cost` from each rate: None when granted (then `release` it). `waited`: its turn has come.

        `draws` is what it takes from rates that are kept apart, by their names.
        Without `hold` the slot is left for `slot`: whoever has something to write before the call must not hold it so long.
        """
        use = self._use(connection, connector)
        if barred := self._barred(connection, use, cost, rank):
            return barred
        if not (await self._take_slot(connection, use) if hold else self._may_wait(connection, use)):
            return self._full(connection)
        granted = False
        try:
            # First: what is refused afterwards has cost some of these, and calls that draw wait for these more than for others.
            if refused := await self.draw(connection, connector, draws, rank, waited=waited):
                return refused
            wait_s = await self._take_tokens(connection, use, connector, cost, rank, waited)
            if wait_s is not None:
                return self._later(use, rank, self._now(), cost, wait_s, f"waiting for the budget of {connection}")
            granted = self._breakers is None or await self._breakers.admits(connection)
            return None if granted else Refusal(1.0, f"{connection} is being tried by another call")
        finally:
            if hold and not granted:
                self.release(connection)

    async def draw(
        self,
        connection: str,
        connector: Connector,
        draws: Mapping[str, float],
        rank: Rank = Rank.TRANSACTIONAL,
        *,
        waited: bool = False,
    ) -> Refusal | None:
        """Take from rates that are kept apart, and from nothing else; None when granted. Raises PluginError."""
        for name, cost in draws.items():
            # A count of its own, beside that of the connection.
            key = f"{connection}|{name}"
            use = self._uses[key]
            if use.declared is None:
                use.declared = use.rates = [rates.rate_apart(connector, name)]
            wait_s = await self._take_tokens(key, use, connector, cost, rank, waited)
            if wait_s is not None:
                return self._later(use, rank, self._now(), cost, wait_s, f"waiting for the {name} of {connection}")
        return None

    @asynccontextmanager
    async def slot(self, connection: str, rank: Rank) -> AsyncIterator[Refusal | None]:
        """A slot for a call that was granted without one, right before it is made; or why it cannot be made now."""
        use = self._uses[connection]
        if not await self._take_slot(connection, use) and not await self._await_slot(connection, use, rank):
            yield self._full(connection)
            return
        try:
            # Those who called meanwhile may have been told to wait.
            left_s = use.not_before - self._now()
            yield Refusal(left_s, f"{connection} asked to wait") if left_s > 0 else None
        finally:
            self.release(connection)

    def _barred(self, connection: str, use: _Use, cost: float, rank: Rank) -> Refusal | None:
        """Why nobody may call now, whatever the slots and budgets."""
        now, rest = self._now(), self._breakers.rest(connection) if self._breakers else None
        if rest is not None and rest[0] > 0:
            return Refusal(rest[0] * (1 + self._draw()), f"{connection} is resting: {rest[1]}")
        if use.not_before > now:
            return self._later(use, rank, now, cost, use.not_before - now, f"{connection} asked to wait")
        return None

    @staticmethod
    def _full(connection: str) -> Refusal:
        return Refusal(_FULL_S, f"all calls to {connection} are in flight")

    def release(self, connection: str) -> None:
        """Give the slot back after the call, or to the next one that waits for it."""
        use = self._uses[connection]
        if use.waiting and use.in_flight <= self._most(connection, use, self._now()):
            next_ = min(use.waiting, key=lambda w: w.rank)
            use.waiting.remove(next_)
            next_.given.set_result(None)
        else:
            use.in_flight -= 1

    async def push(self, connection: str, seconds: float | None) -> None:
        """The vendor said "slower": nobody calls for so long, by default longer each time."""
        use, now = self._uses[connection], self._now()
        if seconds is None:
            if use.not_before > now:
                return  # the calls that were in flight together are one word of the vendor's
            seconds = min(_LONGEST_PUSH_S, 2.0**use.strikes)
            use.strikes = min(use.strikes + 1, 10)
        seconds = min(LONGEST_TOLD_S, seconds)
        use.not_before = max(use.not_before, now + seconds)
        if self._shared:
            # While Redis is away the other processes are told by the vendor themselves.
            with suppress(Away):
                await self._shared.push(connection, seconds)

    def noted(
        self,
        connection: str,
        connector: Connector,
        answer: Answer | None,
        problem: Exception | None,
        began: float,
    ) -> None:
        """What came of one request that began at the monotonic instant `began`: for the breaker and the buckets."""
        use = self._uses[connection]
        if problem is None:
            use.strikes = 0
        if self._breakers:
            outage = str(problem) if _is_outage(problem) else None
            self._breakers.noted(connection, outage, began, counted=not isinstance(problem, RateLimited))
        if answer is not None and connector.throttle is not None:
            try:
                told = connector.throttle(answer)
            except Exception:  # a plugin may raise anything; what was done is done
                _log.exception(
                    "a connector cannot read its throttle",
                    extra={"what": "throttle_failed", "connector": connector.name},
                )
                return
            if told is not None:
                self._correct(use, connector, told)

    # -- what is worth claiming ------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether some connection cannot take everything that is due for it."""
        now = self._now()
        if self._breakers and self._breakers.rests():
            return True
        return any(
            use.not_before > now or use.turns.pending(now) or use.in_flight >= self._most(name, use, now)
            for name, use in self._uses.items()
        )

    def behind(self) -> set[str]:
        """The connections that cannot take everything that is due for them: what waits there is late on purpose."""
        now, resting = self._now(), set(self._breakers.rests()) if self._breakers else set()
        return resting | {
            name
            for name, use in self._uses.items()
            if use.not_before > now or use.turns.pending(now) or use.in_flight >= self._most(name, use, now)
        }

    def in_flight(self) -> dict[str, int]:
        """The calls of this process that are under way, by connection."""
        return {name: use.in_flight for name, use in self._uses.items() if use.in_flight}

    def held(self) -> dict[str, float]:
        """The connections that nothing is claimed for, however long it takes: name to the seconds that are left."""
        now = self._now()
        found = {name: use.not_before - now for name, use in self._uses.items() if use.not_before > now}
        for name, left_s in self._breakers.left_s().items() if self._breakers else ():
            found[name] = max(left_s, found.get(name, 0.0))
        return found

    def outlook(self, connection: str) -> Outlook:
        """What is worth claiming for a connection now."""
        now, use = self._now(), self._uses.get(connection)
        rest = self._breakers.rest(connection) if self._breakers else None
        if rest is not None:
            return Outlook(0, rest[0]) if rest[0] > 0 else Outlook(1)
        if use is None:
            return _OPEN
        if use.not_before > now:
            return Outlook(0, use.not_before - now)
        room: float = max(0, self._most(connection, use, now) - use.in_flight)
        if not room:
            return Outlook(0, _DENIED_S)
        if use.turns.pending(now):
            share = self._share
            there = [share * rates.available(rate, use.full_at.get(rate.name, 0.0), now) for rate in use.rates]
            calls = (min(there, default=inf) + (use.tokens if use.tokens_until > now else 0.0)) / use.cost
            if calls < 1:
                slowest = min((rate.per_s * share for rate in use.rates), default=1.0)
                return Outlook(0, max(0.005, (1 - calls) * use.cost / slowest))
            room = min(room, calls)
        return Outlook(int(room))

    # -- turns -----------------------------------------------------------------------------------------------------

    def _later(self, use: _Use, rank: Rank, now: float, cost: float, wait_s: float, why: str) -> Refusal:
        """A refusal with a turn of its own, so that those who wait do not all come back at once."""
        use.cost = cost
        slowest = min((rate.per_s for rate in use.rates), default=None)
        if slowest is None:
            return Refusal(wait_s * (1 + 0.2 * self._draw()), why)
        asking = self._shared is not None and not self._shared.is_away
        step_s = cost / (slowest * (1 / self.processes if asking else self._share))
        return Refusal(use.turns.give(rank, now, wait_s, step_s, self._draw()), why)

    # -- calls in flight -------------------------------------------------------------------------------------------

    def _use(self, connection: str, connector: Connector) -> _Use:
        use = self._uses[connection]
        if use.declared is None:
            use.declared = use.rates = rates.rates_of(connector)
            found = [budget.limit for budget in connector.budgets if isinstance(budget, Concurrency)]
            use.concurrency, use.shares_slots = (min(found), True) if found else (DEFAULT_CONCURRENCY, False)
        return use

    def _most(self, connection: str, use: _Use, now: float) -> int:
        """How many calls may be in flight, as far as this process knows without asking."""
        ramp = self._breakers.ramp(connection) if self._breakers else 1.0
        most = max(1, min(self._in_hand // 4, ceil(use.concurrency * ramp)))
        if not use.shares_slots:
            return most
        if self._asks(use):
            return most if use.denied_until <= now else min(most, use.slots)
        return min(most, max(1, int(use.concurrency * self._share)))

    def _asks(self, use: _Use) -> bool:
        return self._shared is not None and not self._shared.is_away and use.shares_slots

    def _may_wait(self, connection: str, use: _Use) -> bool:
        """Whether one more call may be let through to wait for a slot."""
        most = min(max(2, self._in_hand // 2), _AHEAD * self._most(connection, use, self._now()))
        return use.in_flight + len(use.waiting) < most

    async def _take_slot(self, connection: str, use: _Use) -> bool:
        if use.in_flight >= self._most(connection, use, self._now()):
            return False
        if self._asks(use) and use.in_flight >= use.slots:
            async with use.asking:
                if use.in_flight >= use.slots and not await self._ask_for_slots(connection, use):
                    return False
            if use.in_flight >= self._most(connection, use, self._now()):
                return False
        use.in_flight += 1
        use.peak = max(use.peak, use.in_flight)
        return True

    async def _await_slot(self, connection: str, use: _Use, rank: Rank) -> bool:
        """Whether a call of this process ended soon enough to leave its slot."""
        if not use.in_flight:
            return False  # other processes have them all
        waiting = _Waiting(rank, asyncio.get_running_loop().create_future())
        use.waiting.append(waiting)
        try:
            await asyncio.wait([waiting.given], timeout=_PATIENCE_S)
        except asyncio.CancelledError:
            if waiting.given.done():
                self.release(connection)
            raise
        finally:
            if not waiting.given.done():
                use.waiting.remove(waiting)
        return waiting.given.done()

    async def _ask_for_slots(self, connection: str, use: _Use) -> bool:
        """Ask for as many slots again as are held; whether there is one more. Away counts: then the share is asked."""
        assert self._shared is not None, "asked only where there is somebody to ask"
        want = min(use.concurrency, max(use.in_flight + 1, 2 * use.slots))
        try:
            use.slots = await self._shared.slots(connection, busy=use.in_flight, want=want, limit=use.concurrency)
        except Away:
            return True
        if use.in_flight < use.slots:
            return True
        use.denied_until = self._now() + _DENIED_S
        return False

    # -- rates -----------------------------------------------------------------------------------------------------

    @property
    def _share(self) -> float:
        return 1.0 if self._alone else _SHARE / max(1, self.processes)

    async def _take_tokens(
        self, connection: str, use: _Use, connector: Connector, cost: float, rank: Rank, waited: bool
    ) -> float | None:
        """None when granted, else seconds until there may be enough."""
        if not use.rates:
            return None
        now = self._now()
        if all(use.full_at.get(rate.name, 0.0) <= now for rate in use.rates):
            use.turns = Turns()  # nobody wants anything: who was ahead is gone
        if use.turns.must_queue(rank, now, waited=waited, draw=self._draw()):
            return max(0.0, use.none_until - now)
        if self._shared is None:
            return self._take_own(use, cost, now)
        if self._spend(use, cost, now):
            return None
        async with use.asking:
            now = self._now()
            if self._spend(use, cost, now):
                return None
            if use.none_until > now and cost >= use.none_cost:
                return use.none_until - now
            try:
                return await self._take_shared(self._shared, connection, use, connector, cost)
            except Away:
                self._distrust(away=True)
                return self._take_own(use, cost, self._now())

    def _spend(self, use: _Use, cost: float, now: float) -> bool:
        if use.tokens < cost or use.tokens_until <= now:
            return False
        use.tokens -= cost
        return True

    async def _take_shared(
        self, shared: Shared, connection: str, use: _Use, connector: Connector, cost: float
    ) -> float | None:
        """Ask Redis for a few tokens at once: more when the last ones were all used in time."""
        dearest = max((action.cost for action in connector.actions.values()), default=1)
        kept = rates.keep_back(use.rates, max(dearest, cost))
        asked = self._now()
        used_up = use.tokens < cost and asked < use.tokens_until
        use.batch = min(kept, max(cost, use.batch * 2)) if used_up else cost
        told = [max(0.0, use.full_at.get(rate.name, 0.0) - asked - _TOLERANCE_S) for rate in use.rates]
        if self._was_away:
            told = [rate.limit / rate.per_s for rate in use.rates]
        bursts = rates.bursts(use.rates, kept)
        taken = await shared.take(connection, use.rates, bursts, told, cost=cost, want=max(cost, use.batch))
        self._distrust(away=False)
        use.full_at = {rate.name: asked + in_s for rate, in_s in zip(use.rates, taken.full_in_s, strict=True)}
        if taken.tokens < cost:
            use.tokens = 0.0
            use.none_until, use.none_cost = asked + taken.wait_s, cost
            return taken.wait_s
        use.tokens, use.tokens_until = taken.tokens - cost, asked + rates.HOLD_S
        return None

    def _take_own(self, use: _Use, cost: float, now: float) -> float | None:
        share = self._share
        own = [replace(rate, limit=rate.limit * share, per_s=rate.per_s * share) for rate in use.rates]
        taken = rates.take(own, use.full_at, cost, now)
        if isinstance(taken, float):
            use.none_until = now + taken
            return taken
        use.full_at |= taken
        return None

    def _distrust(self, *, away: bool) -> None:
        """Redis went or came back: nobody knows what the others used meanwhile, so every bucket is taken for empty."""
        if away == self._was_away:
            return
        self._was_away = away
        now = self._now()
        for use in self._uses.values():
            use.full_at = {rate.name: now + rate.limit / rate.per_s for rate in use.rates}
            use.tokens = 0.0

    def _correct(self, use: _Use, connector: Connector, told: Throttle) -> None:
        """The vendor's own count: its limits replace the declared ones, and what it says is left is never exceeded."""
        declared = use.declared if use.declared is not None else rates.rates_of(connector)
        if not any(rate.name == told.name for rate in declared):
            return
        use.declared = declared
        use.rates = [
            Rate(told.limit or rate.limit, told.per_s or rate.per_s, rate.name) if rate.name == told.name else rate
            for rate in (use.rates or declared)
        ]
        now = self._now()
        for rate in use.rates:
            if rate.name == told.name:
                full_at = now + (rate.limit - told.available) / rate.per_s
                use.full_at[rate.name] = max(use.full_at.get(rate.name, 0.0), full_at)
        use.tokens = min(use.tokens, told.available)

    # -- the other processes ---------------------------------------------------------------------------------------

    def heard(self, calling: int) -> None:
        """So many living processes make calls: what each keeps to while they cannot ask each other."""
        self.processes = max(1, calling)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this lasts the process agrees with the others about what is held, who has which slots, and who rests."""
        keeping = [asyncio.create_task(self._keep(self._shared))] if self._shared else []
        keeping += [asyncio.create_task(self._breakers.keep())] if self._breakers else []
        try:
            yield
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, shared: Shared) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            # That Redis is away was said once, where it was found out.
            with suppress(Away):
                await self.look(shared)

    async def look(self, shared: Shared) -> None:
        """One exchange with the other processes. Raises Away."""
        now = self._now()
        for name, seconds in (await shared.held()).items():
            use = self._uses[name]
            use.not_before = max(use.not_before, now + seconds)
        for name, use in self._uses.items():
            if use.shares_slots and (use.slots or use.in_flight):
                async with use.asking:
                    want, use.peak = max(use.peak, use.in_flight), use.in_flight
                    use.slots = await shared.slots(name, busy=use.in_flight, want=want, limit=use.concurrency)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._shared:
            await self._shared.close()


def _is_outage(problem: Exception | None) -> bool:
    """Whether an answer, or its absence, says that the vendor does not work."""
    if isinstance(problem, VendorUnavailable | NotSent | OutcomeUnknown):
        return True
    return isinstance(problem, ConnectorError) and problem.status is not None and problem.status >= 500
