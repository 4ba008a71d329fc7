"""Loops: what our own effects cause must not start us over and over.

Where a vendor gives our reference back, the run that caused an event is known; where none does, only how often the same
person enters the same recipe can tell. Waits and exits are answered by such events all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hub.clock import format_duration
from hub.ids import id_floor
from hub.store import loops as rows
from hub.store.loops import Cause
from hub.store.session import Connection

# Ids are of real time, which runs behind hub time and may differ a little between machines.
_SKEW_MS = 60_000
_REMEMBERED = 1_000

_log = logging.getLogger(__name__)


@dataclass
class Lately:
    """What is known about one batch of events: causes by reference, entries by (recipe, contact), counted on."""

    causes: Mapping[str, Cause] = field(default_factory=dict)
    entered: dict[tuple[str, str], int] = field(default_factory=dict)

    def depth(self, cause: str | None) -> int:
        """How deep a run would stand that an event with this cause starts: 0 for what we did not cause."""
        found = self.causes.get(cause) if cause else None
        return 0 if found is None else found.depth + 1

    def enter(self, recipe: str, contact_id: str | None) -> None:
        """Count one more entry."""
        if contact_id is not None:
            self.entered[recipe, contact_id] = self.entered.get((recipe, contact_id), 0) + 1


class Loops:
    """Says whether an event may start a recipe: at most `depth` runs may cause each other, `entries` per `window_s`."""

    def __init__(self, *, depth: int, entries: int, window_s: int) -> None:
        self._depth, self._entries, self._window_s = depth, entries, window_s
        self._warned: dict[tuple[str, str], int] = {}

    async def look(
        self, c: Connection, causes: Iterable[str | None], entries: Iterable[tuple[str, str | None]], now_ms: int
    ) -> Lately:
        """Read what is needed to judge a batch of events: two statements at most."""
        window_ms = self._window_s * 1000
        entered = await rows.entered_lately(
            c,
            [(recipe, contact) for recipe, contact in entries if contact is not None],
            since_ms=now_ms - window_ms,
            id_floor=id_floor(int(time.time() * 1000) - window_ms - _SKEW_MS),
        )
        return Lately(await rows.causes(c, [cause for cause in causes if cause]), entered)

    def refusal(
        self, lately: Lately, recipe: str, contact_id: str | None, cause: str | None, now_ms: int
    ) -> tuple[str, str] | None:
        """Why an event may not start a recipe: an outcome word and a sentence; None when it may."""
        found = lately.causes.get(cause) if cause else None
        if found is not None and found.recipe == recipe:
            return "loop", f"loop: this event was caused by a run of the same recipe: {found.run_id}"
        if lately.depth(cause) > self._depth:
            assert found is not None, "only what we caused is deep"
            return (
                "loop",
                f"loop: {self._depth} runs in a row were started by each other's effects, the last was {found.run_id}",
            )
        if contact_id is None or lately.entered.get((recipe, contact_id), 0) < self._entries:
            return None
        self._warn(recipe, contact_id, now_ms)
        return "loop_suspected", (
            f"loop suspected: entered {self._entries} times in {format_duration(self._window_s * 1000)}; "
            "if that is meant, raise HUB_LOOP_ENTRIES"
        )

    def _warn(self, recipe: str, contact_id: str, now_ms: int) -> None:
        """Once per recipe, person and window."""
        key, window_ms = (recipe, contact_id), self._window_s * 1000
        if now_ms - self._warned.get(key, -window_ms) < window_ms:
            return
        if len(self._warned) >= _REMEMBERED:
            self._warned.clear()
        self._warned[key] = now_ms
        _log.warning(
            "a loop is suspected", extra={"what": "loop_suspected", "recipe": recipe, "contact_id": contact_id}
        )
