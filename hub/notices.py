"""Telling plugins what was stored, at least once: told at once by whoever stored it, else by whoever claims the notice.

What no loaded plugin wants to hear is never written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from pydantic_core import from_json

from hub.backoff import FEW_ATTEMPTS, MAX_CLAIMS
from hub.clock import Clock
from hub.errors import StoreUnavailable
from hub.ids import new_id
from hub.plugins import Plugins
from hub.store import notices, work
from hub.store.grouped import Grouped
from hub.store.notices import Kept, Notice
from hub.store.session import Store
from hub.store.work import Claim

AFTER_EFFECT, RUN_FINISHED = "hub_after_effect", "hub_run_finished"
# What nobody here implements is left for a while to processes that have the plugin.
_ELSEWHERE_MS = 60_000

_log = logging.getLogger(__name__)


class Notices:
    """Makes notices of what was stored, tells them, and handles claimed work of their kind."""

    def __init__(self, store: Store, plugins: Plugins, clock: Clock, *, lease_s: float, hook_limit_s: float) -> None:
        self._store, self._plugins, self._clock, self._limit_s = store, plugins, clock, hook_limit_s
        hooks = plugins.manager.hook
        self._heard = frozenset(h for h in (AFTER_EFFECT, RUN_FINISHED) if getattr(hooks, h).get_hookimpls())
        self._owner = f"n-{new_id()}"
        # Plugins get no more than the limit to hear it, so that nobody renews the lease.
        self._lease_ms = int(max(lease_s, 2 * hook_limit_s) * 1000)
        self._told: Grouped[Kept, None] = Grouped(self._finish, most=200, bound=100_000)

    def of_effect(
        self, key: str, token: str | None, *, action: str, run_id: str, outcome: str, in_hand: bool = True
    ) -> tuple[Notice, ...]:
        """That an effect has its outcome; with a `token` only if it is that try's. Nothing when no plugin wants to know."""
        if AFTER_EFFECT not in self._heard:
            return ()
        arguments = {"action": action, "run_id": run_id, "outcome": outcome}
        due_ms, owner = self._hand(in_hand)
        return (Notice(f"effect|{key}", AFTER_EFFECT, arguments, due_ms, owner, key, token),)

    def of_end(self, run_id: str, *, recipe: str, ended_by: str, in_hand: bool = True) -> tuple[Notice, ...]:
        """That a run has ended. Nothing when no plugin wants to know."""
        if RUN_FINISHED not in self._heard:
            return ()
        arguments = {"run_id": run_id, "recipe": recipe, "ended_by": ended_by}
        return (Notice(f"run|{run_id}", RUN_FINISHED, arguments, *self._hand(in_hand)),)

    def _hand(self, in_hand: bool) -> tuple[int, str | None]:
        now_ms = self._clock.now_ms()
        return (now_ms + self._lease_ms, self._owner) if in_hand else (now_ms, None)

    async def tell(self, kept: Sequence[Kept]) -> None:
        """Tell what was just committed, all of it side by side. What fails now is told again when its lease is over."""
        await asyncio.gather(*(self._tell(one) for one in kept))

    async def _tell(self, kept: Kept) -> None:
        await self._plugins.notify(kept.notice.hook, limit_s=self._limit_s, **kept.notice.arguments)
        try:
            await self._told.submit(kept)
        except StoreUnavailable as error:
            _log.warning(
                "plugins will be told again",
                extra={"what": "notice_kept", "ref": kept.notice.ref, "error": str(error)},
            )

    async def _finish(self, told: Sequence[Kept]) -> Sequence[None]:
        async with self._store.write() as c:
            await notices.finish(c, told)
        return [None] * len(told)

    async def handle(self, claim: Claim) -> None:
        """Tell what whoever stored it did not live to tell. Raises StoreUnavailable."""
        about = from_json(claim.data or "{}")
        if claim.claims > MAX_CLAIMS:
            # Whoever tells it dies of it; a notice that nobody can hear must not take every worker along.
            _say_lost(claim, about["hook"], f"claimed {MAX_CLAIMS} times, and no process lived to tell it")
        elif about["hook"] in self._heard:
            await self._plugins.notify(about["hook"], limit_s=self._limit_s, **about["arguments"])
        elif claim.attempts < FEW_ATTEMPTS:
            async with self._store.write() as c:
                due_ms = self._clock.now_ms() + _ELSEWHERE_MS
                await work.give_back(c, claim, due_ms=due_ms, attempts=claim.attempts + 1)
            return
        else:
            _say_lost(claim, about["hook"], "the plugin that wants to know is not loaded any more")
        async with self._store.write() as c:
            await work.finish(c, claim)


def _say_lost(claim: Claim, hook: str, reason: str) -> None:
    _log.error("plugins were not told", extra={"what": "notice_lost", "hook": hook, "ref": claim.ref, "reason": reason})
