"""The pump: routes what came in and claims what is due, keeps the leases, and drains when it is told to stop.

The database says what there is to do. A bell only makes the next look come sooner.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from operator import itemgetter
from typing import Any

from hub import seams
from hub.batches import Batches
from hub.deadline import Deadline, instant
from hub.erasing import Erasing
from hub.errors import ConfigError, HubError, StoreUnavailable
from hub.forgetting import Forgetting
from hub.ids import new_id
from hub.limits import Limits
from hub.metrics import Metrics
from hub.notices import Notices
from hub.retention import KIND as UPKEEP
from hub.retention import Retention
from hub.routing import BATCH, Router
from hub.runs import Hand, Runner
from hub.sources import Sources
from hub.store import runs, work
from hub.store.erasures import ERASE, FORGET
from hub.store.lanes import Lane
from hub.store.notices import KIND as NOTICE
from hub.store.runs import EffectRow, Lease
from hub.store.session import Connection, Store
from hub.store.subscriptions import KIND as SUBSCRIPTIONS
from hub.store.work import Claim
from hub.subscribing import Subscribing
from hub.timetravel import SKEW_EVERY_S, HubTime
from hub.worker.shares import most_of_one, share_out

# The longest that the work of one instant may take in a rehearsal, in real seconds.
_REST_LIMIT_S = 60.0
_FLOOR_S = 1.0
_CLAIM_MOST = 100
_RENEWALS_PER_LEASE = 5
# What is due and cannot be claimed is full, or another worker's in this moment.
_BUSY_S = 0.05
_SOON_S = 0.005
# From so many lanes on they are read once a second and not at every look.
_MANY_LANES, _LANES_S = 100, 1.0
# Work of a kind that only a newer release knows is offered to its processes again and again.
_UNKNOWN_S = 5.0
# After the database failed, look again so soon; doubling to the second.
_OUTAGE_S = (0.2, 5.0)

_log = logging.getLogger(__name__)


class PumpEnded(HubError):
    """The pump ended by itself, so this process does no work any more. Its log says why; start it again, and report it."""


class Pump:
    """One per process that works. `ring` tells the other processes when there is more than this one can take."""

    def __init__(
        self,
        store: Store,
        time_: HubTime,
        router: Router,
        runner: Runner,
        sources: Sources,
        subscribing: Subscribing,
        batches: Batches,
        retention: Retention,
        notices: Notices,
        erasing: Erasing,
        forgetting: Forgetting,
        *,
        slots: int,
        lease_s: float,
        limits: Limits,
        ring: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._store, self._time, self._router, self._runner = store, time_, router, runner
        self._batches, self._notices = batches, notices
        self._others = {
            UPKEEP: retention.handle,
            NOTICE: notices.handle,
            ERASE: erasing.handle,
            FORGET: forgetting.handle,
            SUBSCRIPTIONS: subscribing.handle,
            **dict.fromkeys(sources.kinds, sources.handle),
        }
        self._slots, self._lease_s, self._limits, self._ring = slots, lease_s, limits, ring
        self._metrics = metrics
        self._owner = f"w-{new_id()}"
        self._claims: dict[tuple[str, str], Claim] = {}
        self._deadlines: dict[tuple[str, str], Deadline] = {}
        self._since: dict[tuple[str, str], float] = {}
        self._hands: dict[tuple[str, str], Hand] = {}
        self._looked: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_route, self._to_claim = asyncio.Event(), asyncio.Event()
        # Whether the last claim took all that could be done. If not, what is free is shared out, and new runs must not
        # overtake what waits longer.
        self._calm = True
        self._stopping = False
        self._lanes: tuple[float, dict[str, int]] = (float("-inf"), {})
        # By when every process has noticed that the clock was set; on SQLite there is no other.
        self._notice_s = SKEW_EVERY_S if store.dialect == "postgresql" else 0.0

    @property
    def busy(self) -> int:
        """How much work is in hand."""
        return len(self._tasks)

    @property
    def slots(self) -> int:
        """How much work may be in hand."""
        return self._slots

    @property
    def silent_s(self) -> float:
        """Since when the loop that is longest silent has not looked, in seconds; 0 while the pump does not run."""
        return time.monotonic() - min(self._looked.values()) if self._looked else 0.0

    def stuck(self, limit_s: float) -> list[tuple[str, str]]:
        """The work in hand (kind, ref) of which nothing was committed for so long."""
        then = time.monotonic() - limit_s
        touched = {key: hand.touched for key, hand in self._hands.items()}
        return [key for key, since in self._since.items() if max(since, touched.get(key, since)) < then]

    def wake(self) -> None:
        """Look now: first for what to route, then for what is due."""
        self._to_route.set()

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Work until `stop` is set, then let what is in hand finish for at most `drain_s` seconds.

        Raises PumpEnded when one of its loops ended by itself, after letting what is in hand finish.
        """
        doing: tuple[Coroutine[Any, Any, None], ...] = (
            self._routing(),
            self._claiming(),
            self._renewing(),
            self._freeing(),
        )
        loops = [asyncio.create_task(loop) for loop in doing]
        told = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait([told, *loops], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        await self._drain(loops, drain_s)
        self._looked.clear()
        if told not in ended:
            reason = next((task.exception() for task in ended if not task.cancelled()), None)
            _log.critical("the pump ended by itself", exc_info=reason, extra={"what": "pump_ended"})
            raise PumpEnded from reason

    async def settle(self) -> None:
        """Instead of `run`: do everything that can be done at this instant, then return. For rehearsals, whose clock stands
        still meanwhile and which are alone on their store; nothing is renewed and nobody is rung.

        Raises ConfigError when work does not come to rest.
        """
        until = time.monotonic() + _REST_LIMIT_S
        while time.monotonic() < until:
            asked = instant()
            routed = await self._router.route(Lease(self._owner, self._lease_end_ms(), self._slots))
            for claim, row in routed.in_hand:
                self._take(Hand(claim, row, Deadline(self._lease_s, asked)), None)
            claims = await self._claim(lambda c: work.claim(c, most=self._slots, **self._terms()))
            if doing := self._tasks | self._notices.telling:
                await asyncio.wait(doing)
            elif not routed.events and not claims:
                return
        raise ConfigError(f"work did not come to rest within {_REST_LIMIT_S:.0f} s, so the clock stays")

    async def _drain(self, loops: list[asyncio.Task[None]], drain_s: float) -> None:
        self._stopping = True
        self._to_route.set()
        self._to_claim.set()
        await asyncio.wait(loops[:2], timeout=drain_s)
        if doing := self._tasks | self._notices.telling:
            await asyncio.wait(doing, timeout=drain_s)
        if left := self._tasks | self._notices.telling:
            # What is left is fenced by its lease: another worker goes on from what is stored.
            _log.warning("stopping with work in hand", extra={"what": "drain_over", "left": len(left)})
        for task in (*loops, *left):
            task.cancel()
        await asyncio.gather(*loops, *left, return_exceptions=True)

    # -- the loops -------------------------------------------------------------------------------------------------

    async def _routing(self) -> None:
        async def look() -> float | None:
            await self._time.sync()
            # A process that has room takes new runs in hand as they are made; while it has not, they queue up.
            asked, most = instant(), most_of_one(self._slots) - len(self._tasks) if self._calm else 0
            routed = await self._router.route(Lease(self._owner, self._lease_end_ms(), max(0, most)))
            for claim, row in routed.in_hand:
                self._take(Hand(claim, row, Deadline(self._lease_s, asked)), None)
            self._to_claim.set()
            if routed.events:
                self._share()
            return 0.0 if routed.events >= BATCH or routed.more else None

        await self._forever("route", look, self._to_route)

    async def _claiming(self) -> None:
        async def look() -> float | None:
            await self._time.sync()
            if self._jump_ms():
                return None
            most = min(self._slots - len(self._tasks), _CLAIM_MOST)
            if most <= 0:
                return None
            if not self._calm or self._limits.crowded or len(self._tasks) >= most_of_one(self._slots):
                return await self._claim_shares(most)
            # Most looks find nothing due; this read costs a third of a claim that finds nothing.
            if (early_s := await self._until_due()) != 0.0:
                self._calm = True
                return early_s
            most = min(most, most_of_one(self._slots) - len(self._tasks))
            claims = await self._claim(lambda c: work.claim(c, most=most, **self._terms()))
            self._calm = len(claims) < most
            if not self._calm:
                self._share()
            return 0.0 if claims else _BUSY_S

        await self._forever("claim", look, self._to_claim)

    async def _claim_shares(self, most: int) -> float | None:
        """Share the free slots out between the lanes that have due work; returns how long to rest, as a look does."""
        lanes = await self._known_lanes()
        now_ms = self._time.clock.now_ms()
        due = [Lane.of(queue) for queue, at_ms in sorted(lanes.items(), key=itemgetter(1)) if at_ms <= now_ms]
        rooms = {lane.connection: self._limits.outlook(lane.connection).room for lane in due}
        portions = share_out(
            due,
            slots=self._slots,
            free=most,
            in_hand=Counter(Lane.of(claim.queue).owner for claim in self._claims.values()),
            room=rooms.__getitem__,
            draw=random.random(),  # noqa: S311  (shares slots out, guards nothing)
        )
        if not portions:
            # What nothing can be done about is overtaken by everybody.
            self._calm = all(room == 0 for room in rooms.values())
            return self._rest_s(lanes, now_ms)
        asked = {str(lane): n for lane, n in portions.items()}
        claims = await self._claim(lambda c: work.claim_from(c, asked, **self._terms()))
        got, calls = Counter(claim.queue for claim in claims), Counter[str]()
        for lane, n in portions.items():
            calls[lane.connection] += n
        # So is what its connection has no room for: when a vendor hangs, its lane is never claimed empty.
        self._calm = all(
            got[str(lane)] < n or calls[lane.connection] == rooms[lane.connection] for lane, n in portions.items()
        )
        if not self._calm:
            self._share()
        if not claims:
            # Whatever was due is another process's: what is known of the lanes is old.
            self._lanes = (float("-inf"), {})
        return 0.0 if claims else _BUSY_S

    async def _known_lanes(self) -> dict[str, int]:
        """When each lane's earliest work is due; where there are many of them, as it was up to a second ago."""
        read_at, lanes = self._lanes
        if len(lanes) < _MANY_LANES or time.monotonic() - read_at > _LANES_S:
            async with self._store.read() as c:
                lanes = await work.lanes(c)
            self._lanes = (time.monotonic(), lanes)
        return lanes

    def _rest_s(self, lanes: Mapping[str, int], now_ms: int) -> float | None:
        """Seconds until something more can be claimed, if nothing changes before; None when that is not known."""
        rests = []
        for queue, at_ms in lanes.items():
            if at_ms > now_ms:
                rests.append((at_ms - now_ms) / 1000)
            elif outlook_s := self._limits.outlook(Lane.of(queue).connection).again_s:
                rests.append(max(_SOON_S, outlook_s))
        return min(rests, default=None)

    def _terms(self) -> dict[str, Any]:
        return {
            # By a clock that was just set others' leases look as if they had ended, or ours to them: then nothing is due. Asked
            # here as well, since it may have been noticed after the look began.
            "now_ms": 0 if self._jump_ms() else self._time.clock.now_ms(),
            "lease_ms": int(self._lease_s * 1000),
            "owner": self._owner,
        }

    def _share(self) -> None:
        """More may be due than this process can take: let another one look as well."""
        if len(self._tasks) >= self._slots // 2:
            self._ring()

    async def _forever(self, name: str, look: Callable[[], Awaitable[float | None]], bell: asyncio.Event) -> None:
        pause_s = _OUTAGE_S[0]
        while not self._stopping:
            bell.clear()
            self._looked[name] = time.monotonic()
            try:
                rest_s = await look()
                pause_s = _OUTAGE_S[0]
            except StoreUnavailable as error:
                _log.warning("the database is away; trying again", extra={"what": "store_away", "error": str(error)})
                rest_s, pause_s = pause_s, min(pause_s * 2, _OUTAGE_S[1])
            except ConfigError as error:
                _log.error("a look for work failed; trying again", extra={"what": "look_failed", "error": str(error)})
                rest_s, pause_s = pause_s, min(pause_s * 2, _OUTAGE_S[1])
            except Exception:  # one failed look must not end the process's work
                _log.exception("a look for work failed; trying again", extra={"what": "look_failed"})
                rest_s, pause_s = pause_s, min(pause_s * 2, _OUTAGE_S[1])
            if rest_s == 0.0:
                await asyncio.sleep(0)
                continue
            floor_s = _FLOOR_S * random.uniform(0.8, 1.2)  # noqa: S311  (spreads looks, guards nothing)
            try:
                async with asyncio.timeout(min(floor_s, rest_s) if rest_s is not None else floor_s):
                    await bell.wait()
            except TimeoutError:
                pass  # nobody rang: look anyway

    async def _until_due(self) -> float | None:
        async with self._store.read() as c:
            due_ms = await work.next_due_ms(c)
        return None if due_ms is None else max(0.0, (due_ms - self._time.clock.now_ms()) / 1000)

    def _lease_end_ms(self) -> int:
        """Also by the clock that others may still go by, when it was set back."""
        return self._time.clock.now_ms() + int(self._lease_s * 1000) + max(0, -self._jump_ms())

    def _jump_ms(self) -> int:
        """By how much the clock was set, until every process has noticed and renewed what it holds; else 0."""
        return self._time.jump_ms(self._notice_s + self._lease_s / 2)

    # -- claiming --------------------------------------------------------------------------------------------------

    async def _claim(self, take: Callable[[Connection], Awaitable[list[Claim]]]) -> list[Claim]:
        asked = instant()
        async with self._store.write() as c:
            claims = await take(c)
        ids = [claim.ref for claim in claims if claim.kind == "run"]
        if ids:
            seams.reach("run.claimed")
            async with self._store.read() as c:
                rows = await runs.load(c, ids)
                # A run claimed for the first time has no effects yet.
                again = [claim.ref for claim in claims if claim.kind == "run" and claim.epoch > 1]
                open_effects = await runs.open_effects(c, again)
        for claim in claims:
            deadline = Deadline(self._lease_s, asked)
            if claim.kind == "batch":
                self._start(claim, deadline, self._batches.handle(claim, deadline))
            elif claim.kind != "run":
                self._start(claim, deadline, self._others.get(claim.kind, self._leave)(claim))
            elif claim.ref in rows:
                self._take(Hand(claim, rows[claim.ref], deadline), open_effects.get(claim.ref))
        return claims

    def _take(self, hand: Hand, open_effect: EffectRow | None) -> None:
        self._hands[(hand.claim.kind, hand.claim.ref)] = hand
        self._start(hand.claim, hand.deadline, self._runner.advance(hand, open_effect))

    async def _leave(self, claim: Claim) -> None:
        """Leave work that this release does not know to one that does."""
        _log.warning(
            "work of an unknown kind is left to newer releases", extra={"what": "work_left", "kind": claim.kind}
        )
        async with self._store.write() as c:
            await work.give_back(c, claim, due_ms=self._time.clock.now_ms() + int(_UNKNOWN_S * 1000))

    def _start(self, claim: Claim, deadline: Deadline, doing: Awaitable[None]) -> None:
        self._claims[(claim.kind, claim.ref)] = claim
        self._deadlines[(claim.kind, claim.ref)] = deadline
        self._since[(claim.kind, claim.ref)] = time.monotonic()
        self._metrics.claimed((self._time.clock.now_ms() - claim.was_due_at) / 1000)
        task = asyncio.ensure_future(self._do(claim, doing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, claim: Claim, doing: Awaitable[None]) -> None:
        try:
            await doing
        except StoreUnavailable as error:
            # The lease ends by itself and the work is claimed again.
            _log.warning("work was cut off", extra={"what": "work_cut_off", "ref": claim.name, "error": str(error)})
        except Exception:  # the rim of the worker: logged once, the lease brings the work back
            _log.exception("work failed", extra={"what": "work_failed", "kind": claim.kind, "ref": claim.name})
        finally:
            key = (claim.kind, claim.ref)
            # A process that stood still may hold the same work a second time, under its new claim.
            if self._claims.get(key) is claim:
                del self._claims[key], self._deadlines[key], self._since[key]
                self._hands.pop(key, None)
            self._to_claim.set()

    # -- leases (T7) -----------------------------------------------------------------------------------------------

    async def _renewing(self) -> None:
        while True:
            self._looked["renew"] = time.monotonic()
            await asyncio.sleep(self._lease_s / _RENEWALS_PER_LEASE)
            held = dict(self._claims)
            if not held:
                continue
            asked = instant()
            try:
                async with self._store.write(urgent=True) as c:
                    kept = await work.renew(
                        c,
                        owner=self._owner,
                        until_ms=self._lease_end_ms(),
                        held=[(*key, claim.epoch) for key, claim in held.items()],
                    )
            except StoreUnavailable:
                continue  # leases stay as they are, so calls stop by themselves before they end
            except Exception:  # without renewals nothing would ever be called again
                _log.exception("leases could not be renewed; trying again", extra={"what": "renew_failed"})
                continue
            for key, claim in held.items():
                if self._claims.get(key) is not claim:
                    continue
                if key in kept:
                    self._deadlines[key].renewed(asked)
                else:
                    self._deadlines[key].lost()

    async def _freeing(self) -> None:
        """What a process holds locked that stands still for longer than its lease is let go of, and what a clock that was
        set back would hold for hours.
        """
        while True:
            await asyncio.sleep(self._lease_s)
            try:
                async with self._store.write() as c:
                    ended = await work.end_stuck(c, self._lease_s)
                    if not self._jump_ms() and self._time.jump_ms(self._notice_s + 3 * self._lease_s) < 0:
                        # Whoever lives has renewed what it holds by now.
                        await work.shorten(c, until_ms=self._lease_end_ms())
            except StoreUnavailable:
                continue  # it is looked at again after a lease
            except Exception:  # a server may refuse it; work goes on without
                _log.exception("stuck sessions could not be ended", extra={"what": "free_failed"})
                continue
            if ended:
                _log.warning("sessions of a process that stands still were ended", extra={"what": "freed", "n": ended})
