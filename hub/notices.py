"""Telling plugins what was stored, at least once: told at once by whoever stored it, else by whoever claims the notice.

What no loaded plugin wants to hear is never written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from hub.backoff import FEW_ATTEMPTS, MAX_CLAIMS
from hub.clock import Clock
from hub.errors import StoreUnavailable
from hub.events import Event
from hub.ids import new_id
from hub.plugins import Plugins
from hub.store import events, notices, work
from hub.store.events import StoredEvent
from hub.store.grouped import Grouped
from hub.store.notices import Kept, Notice
from hub.store.session import Store
from hub.store.work import Claim

EVENT_RECEIVED, AFTER_EFFECT, RUN_FINISHED = "hub_event_received", "hub_after_effect", "hub_run_finished"
# Of so many events plugins are told side by side by whoever routed them; of the others as of any work that is due.
_BESIDE = 100
# What nobody here implements is left for a while to processes that have the plugin.
_ELSEWHERE_MS = 60_000

_log = logging.getLogger(__name__)


class Notices:
    """Makes notices of what was stored, tells them, and handles claimed work of their kind."""

    def __init__(self, store: Store, plugins: Plugins, clock: Clock, *, lease_s: float, hook_limit_s: float) -> None:
        self._store, self._plugins, self._clock, self._limit_s = store, plugins, clock, hook_limit_s
        hooks = plugins.manager.hook
        known = (EVENT_RECEIVED, AFTER_EFFECT, RUN_FINISHED)
        self._heard = frozenset(h for h in known if getattr(hooks, h).get_hookimpls())
        self._owner = f"n-{new_id()}"
        # Plugins get no more than the limit to hear it, so that nobody renews the lease.
        self._lease_ms = int(max(lease_s, 2 * hook_limit_s) * 1000)
        self._told: Grouped[Kept, None] = Grouped(self._finish, most=200, bound=100_000)
        self.telling: set[asyncio.Task[None]] = set()
        """Of which events plugins are being told beside everything else."""

    def of_events(self, ids: Sequence[str], *, in_hand: bool = True) -> tuple[Notice, ...]:
        """That events were stored and routed, or set aside. Nothing when no plugin wants to know.

        A notice names its event and holds nothing of it, so that what is erased meanwhile is nowhere else.
        """
        if EVENT_RECEIVED not in self._heard:
            return ()
        room = _BESIDE - len(self.telling) if in_hand else 0
        return tuple(
            Notice(f"event|{id_}", EVENT_RECEIVED, {"event_id": id_}, *self._hand(n < room))
            for n, id_ in enumerate(ids)
        )

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
        await asyncio.gather(*(self._tell(one, one.notice.arguments) for one in kept))

    def tell_beside(self, kept: Sequence[Kept], routed: Mapping[str, StoredEvent]) -> None:
        """Begin to tell of events that were just committed, those that are in hand; a slow plugin holds nobody up."""
        for one in kept:
            if one.notice.owner is not None:
                about = _about(routed[str(one.notice.arguments["event_id"])])
                task = asyncio.ensure_future(self._tell(one, about))
                self.telling.add(task)
                task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self.telling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its lease brings it back.
            _log.error("plugins could not be told", exc_info=error, extra={"what": "work_failed", "kind": notices.KIND})

    async def _tell(self, kept: Kept, arguments: Mapping[str, Any]) -> None:
        await self._plugins.notify(kept.notice.hook, limit_s=self._limit_s, **arguments)
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
            arguments = await self._stored(about["hook"], about["arguments"])
            if arguments is not None:
                await self._plugins.notify(about["hook"], limit_s=self._limit_s, **arguments)
        elif claim.attempts < FEW_ATTEMPTS:
            async with self._store.write() as c:
                due_ms = self._clock.now_ms() + _ELSEWHERE_MS
                await work.give_back(c, claim, due_ms=due_ms, attempts=claim.attempts + 1)
            return
        else:
            _say_lost(claim, about["hook"], "the plugin that wants to know is not loaded any more")
        async with self._store.write() as c:
            await work.finish(c, claim)

    async def _stored(self, hook: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a hook is called with; None when the event is gone, and there is nothing to tell any more."""
        if hook != EVENT_RECEIVED:
            return arguments
        async with self._store.read() as c:
            stored = await events.get(c, arguments["event_id"])
        return _about(stored) if stored else None


def _about(stored: StoredEvent) -> Mapping[str, Any]:
    event = Event(stored.type, stored.id, stored.occurred_at_ms, stored.data, stored.subject)
    return {"event": event, "event_id": stored.id}


def _say_lost(claim: Claim, hook: str, reason: str) -> None:
    _log.error("plugins were not told", extra={"what": "notice_lost", "hook": hook, "ref": claim.ref, "reason": reason})
