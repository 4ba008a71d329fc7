"""The watchdog: looks for what must not be, mends what can be mended without guessing, and says the rest.

Any number of processes may have one; the database lets one look at a time. A finding counts only when a second look, a
moment later, sees it too: between two commits much looks wrong that is not.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict

from pydantic_core import from_json, to_json

from hub.clock import Clock
from hub.errors import StoreUnavailable
from hub.metrics import Metrics
from hub.store import invariants, pulse
from hub.store.invariants import Finding, Sweep
from hub.store.session import Connection, Store

EVERY_S = 30.0
_AGAIN_S = 2.0
_STATEMENT_LIMIT_MS = 5_000
# Of work in hand something is committed at each step; a call must be over before a lease is.
_STUCK_LEASES = 10
_NAMED = 10
_KEY = "watchdog"
_KINDS = (
    "work_overdue",
    "event_unrouted",
    "enrichment_without_work",
    "run_without_work",
    "batch_without_work",
    "work_of_finished_run",
    "waiter_of_finished_run",
    "event_missed",
    "effect_without_outcome",
    "cap_miscounted",
    "spend_unsettled",
    "work_stuck",
)

_log = logging.getLogger(__name__)


class Watchdog:
    """Looks each half minute. `held` are the connections that are late on purpose, `stuck` the work in hand for too long."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        lease_s: float,
        held: Callable[[], Collection[str]],
        stuck: Callable[[float], Sequence[tuple[str, str]]],
        ring: Callable[[], None],
    ) -> None:
        self._store, self._clock, self._metrics, self._lease_s = store, clock, metrics, lease_s
        self._held, self._stuck, self._ring = held, stuck, ring

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311  (spreads looks, guards nothing)
            try:
                self._report_stuck()
                if await self._is_our_turn():
                    await self.look()
            except StoreUnavailable as error:
                # Whoever works says so already; a look that was missed is made up by the next.
                _log.info("the watchdog could not look", extra={"what": "watchdog_blind", "error": str(error)})
            except Exception:  # whatever is wrong with looking must not end the looking
                _log.exception("the watchdog failed", extra={"what": "watchdog_failed"})

    async def look(self, *, again_s: float = _AGAIN_S) -> list[Finding]:
        """Look twice; returns what both looks found, reported, and mended where that is safe. Raises StoreUnavailable."""
        sweep = await self._sweep()
        first = await self._find(Sweep(**asdict(sweep)))
        confirmed: list[Finding] = []
        if first:
            await asyncio.sleep(again_s)
            second = {finding.kind: finding for finding in await self._find(Sweep(**asdict(sweep)))}
            both = [f.only(second[f.kind].refs) for f in first if f.kind in second]
            confirmed = [finding for finding in both if finding.refs]
        for kind in _KINDS[:-1]:
            self._metrics.found(kind, sum(len(f.refs) for f in confirmed if f.kind == kind))
        for finding in confirmed:
            await self._deal_with(finding)
        return confirmed

    async def _find(self, sweep: Sweep) -> list[Finding]:
        async with self._store.read() as c, pulse.bounded(c, _STATEMENT_LIMIT_MS):
            found = await invariants.findings(
                c,
                now_ms=self._clock.now_ms(),
                lease_ms=int(self._lease_s * 1000),
                held=self._held(),
                sweep=sweep,
            )
        async with self._store.write() as c:
            await _put(c, f"{_KEY}_sweep", to_json(asdict(sweep)).decode())
        return found

    async def _deal_with(self, finding: Finding) -> None:
        async with self._store.write() as c:
            mended = await invariants.mend(c, finding, self._clock.now_ms())
        facts = {
            "what": "finding_mended" if mended else "finding",
            "kind": finding.kind,
            "count": len(finding.refs),
            "refs": [_safe(ref) for ref in finding.refs[:_NAMED]],
        }
        if mended:
            self._metrics.mended(finding.kind, mended)
            self._ring()
            # Nothing of ours should ever need this.
            _log.error("what must not be was found and put right; please report it", extra=facts)
        else:
            facts |= {"about": finding.message, "mend": finding.mend}
            _log.warning("what must not be was found", extra=facts)

    def _report_stuck(self) -> None:
        stuck = self._stuck(self._lease_s * _STUCK_LEASES)
        self._metrics.found("work_stuck", len(stuck))
        if stuck:
            runs = [ref for kind, ref in stuck if kind == "run"][:_NAMED]
            _log.warning(
                "work in hand does not get on; when this process is restarted another one goes on with it",
                extra={"what": "work_stuck", "count": len(stuck), "runs": runs},
            )

    # -- one at a time ---------------------------------------------------------------------------------------------

    async def _is_our_turn(self) -> bool:
        """Whether nobody has looked for a while; then we do. Real time, as the database's clock has it."""
        now_ms = self._clock.now_ms() - self._clock.offset_ms
        async with self._store.write() as c:
            await c.run("insert into meta (key, value) values (:key, '0') on conflict do nothing", key=_KEY)
            ours = await c.run(
                "update meta set value = :now where key = :key and cast(value as bigint) <= :then",
                now=str(now_ms),
                key=_KEY,
                then=now_ms - int(EVERY_S * 800),
            )
        return bool(ours)

    async def _sweep(self) -> Sweep:
        """Where the last look, maybe another process's, ended."""
        async with self._store.read() as c:
            row = await c.first("select value from meta where key = :key", key=f"{_KEY}_sweep")
        given = from_json(row["value"]) if row else {}
        return Sweep(**given | ({"run": tuple(given["run"])} if given else {}))


def _safe(ref: str) -> str:
    """A piece of work without its last part, which may name a person or a list of them."""
    return "|".join(ref.split("|")[:2])


async def _put(c: Connection, key: str, value: str) -> None:
    await c.run(
        "insert into meta (key, value) values (:key, :value) on conflict (key) do update set value = excluded.value",
        key=key,
        value=value,
    )
