"""How long things are kept: what is older goes, in small steps between which everything else has its turn.

Never goes what a live run may look back at, what is not routed yet, or what says who somebody is and what they agreed to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from hub.clock import DAY_MS, Clock
from hub.library import Library
from hub.program import Program
from hub.settings import Settings
from hub.steps.wait_for import WaitFor
from hub.store import retention as rows
from hub.store import work
from hub.store.retention import Aged, Walked
from hub.store.session import Row, Store
from hub.store.work import Claim

KIND, REF = "upkeep", "retention"
_EVERY_MS, _AGAIN_MS = 3_600_000, 60_000
# How long one turn may take, and how much longer than a step it rests after each, so that T1 finds the way free.
_TURN_S, _REST = 10.0, 2.0

_log = logging.getLogger(__name__)

Progress = Callable[[str, int], None]
"""Told after each step: what is being removed, and how many of it in this step."""


@dataclass(frozen=True)
class _Rule:
    """One kind of thing: what people call it, where it lies, how long it is kept."""

    name: str
    table: Aged | Walked
    keep_ms: int


def _rules(settings: Settings) -> list[_Rule]:
    events, runs = settings.keep_events_days * DAY_MS, settings.keep_runs_days * DAY_MS
    return [
        _Rule("deliveries", rows.DELIVERIES, events),
        _Rule("events", rows.EVENTS, events),
        _Rule("event keys", rows.EVENT_KEYS, events),
        _Rule("runs", rows.RUNS, runs),
        _Rule("verdicts", rows.VERDICTS, runs),
        _Rule("messages", rows.MESSAGES, settings.keep_messages_days * DAY_MS),
        _Rule("refusals", rows.REFUSALS, settings.keep_refusals_days * DAY_MS),
        _Rule("delivery and fact ids", rows.DEDUPE, settings.keep_dedupe_days * DAY_MS),
        _Rule("rota places", rows.ROTA_PLACES, runs),
    ]


class Retention:
    """Removes what is older than the settings say. `handle` is the pump's, `prune` the command line's."""

    def __init__(self, store: Store, library: Library, clock: Clock, settings: Settings) -> None:
        self._store, self._library, self._clock = store, library, clock
        self._rules = _rules(settings)

    async def handle(self, claim: Claim) -> None:
        """One turn; what it does not get done is due again in a minute. Raises StoreUnavailable."""
        state: dict[str, Any] = from_json(claim.data) if claim.data else {"rule": 0, "after": ""}
        removed: dict[str, int] = {}

        def note(name: str, count: int) -> None:
            removed[name] = removed.get(name, 0) + count

        left = await self._sweep(state["rule"], state["after"], note, until=time.monotonic() + _TURN_S)
        if total := sum(removed.values()):
            _log.info("old things were removed", extra={"what": "retention", "removed": total})
        rule, after = left or (0, "")
        async with self._store.write() as c:
            await work.give_back(
                c,
                claim,
                due_ms=self._clock.now_ms() + (_AGAIN_MS if left else _EVERY_MS),
                data=to_json({"rule": rule, "after": after}).decode(),
            )

    async def prune(self, *, dry: bool, progress: Progress) -> dict[str, int]:
        """Remove all that is too old, or only count it; returns how many of each kind. Raises StoreUnavailable."""
        removed = {rule.name: 0 for rule in self._rules}

        def note(name: str, count: int) -> None:
            removed[name] += count
            progress(name, count)

        await self._sweep(0, "", note, dry=dry)
        return removed

    async def _sweep(
        self, first: int, after: str, note: Progress, *, dry: bool = False, until: float = float("inf")
    ) -> tuple[int, str] | None:
        """All rules from the `first` on, that one from `after` on. Returns where to go on when time was up."""
        now_ms = self._clock.now_ms()
        for number in range(first, len(self._rules)):
            rule, place = self._rules[number], after if number == first else ""
            spare = await self._spared(now_ms - rule.keep_ms) if rule.table is rows.EVENTS else _nothing
            following: str | None = place
            while following is not None:
                began = time.monotonic()
                async with self._store.read() if dry else self._store.write() as c:
                    step = await rule.table.step(c, following, now_ms - rule.keep_ms, spare=spare, dry=dry)
                note(rule.name, step.removed)
                following = step.after
                if time.monotonic() > until:
                    return (number, following) if following is not None else (number + 1, "")
                await asyncio.sleep((time.monotonic() - began) * _REST)
        return None

    async def _spared(self, before_ms: int) -> Callable[[Row], bool]:
        """Which events stay although they are old: not routed, or looked back at by a live run or a silence."""
        async with self._store.read() as c:
            versions = await rows.live_versions(c, before_ms)
            calls = await rows.open_calls(c, before_ms)
            silent = await rows.silent_events(c, before_ms)
        types: dict[str, int] = {}
        for row in versions:
            for type_ in _awaited(await self._library.program(row["recipe"], row["version"])):
                types[type_] = min(row["since"], types.get(type_, row["since"]))
        # A call's outcome is looked up among the events of its own connector.
        connectors: dict[str, int] = {}
        for row in calls:
            name = row["action"].partition(".")[0]
            connectors[name] = min(row["since"], connectors.get(name, row["since"]))
        return lambda event: (
            event["stage"] not in {"routed", "unconnected", "history", "erased"}
            or event["key"] in silent
            or event["at"] >= types.get(event["type"], event["at"] + 1)
            or event["at"] >= connectors.get(event["type"].partition(".")[0], event["at"] + 1)
        )


def _nothing(_: Mapping[str, Any]) -> bool:
    return False


def _awaited(program: Program) -> set[str]:
    """The event types that runs of a program wait for or leave on, at any of their steps."""
    waits = (node.step for node in program.nodes.values() if isinstance(node.step, WaitFor))
    answers = {type_ for wait in waits for types in wait.types.values() for type_ in types}
    return answers | program.exit_types
