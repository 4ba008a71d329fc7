"""Calls that somebody has paused: their runs are set aside before the call, and nothing of theirs is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hub.connector import Action
from hub.engine import ActionDone, Decision
from hub.pauses import said, too_late
from hub.runs.hand import Hand, LetGo, Tools, planned
from hub.runs.writer import Writer
from hub.store.pauses import LATE, Pause
from hub.store.runs import Advance, EffectRow
from hub.store.work import NEVER_MS


class Holding:
    """Asks, before each call and again at the last moment, whether it is paused. In memory."""

    def __init__(self, tools: Tools, writer: Writer) -> None:
        self._tools, self._writer = tools, writer

    def late(self, hand: Hand, effect: EffectRow) -> ActionDone | None:
        """The outcome of a call that had waited too long, as its resume found. One that may have been made is not given up."""
        data = hand.claim.data or ""
        if not data.startswith(LATE) or effect.step_id != hand.row.position or effect.state != "planned":
            return None
        return ActionDone("skipped", None, too_late(int(data.removeprefix(LATE)), self._tools.clock.now_ms()))

    async def before(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], decision: Decision | None = None
    ) -> None:
        """Pass if nothing is paused; else park the run where it stands (with `decision`, where that brought it)."""
        pause = await self._pause(hand, effect, action)
        if pause is None:
            return
        change = self._parked(hand, pause, decision, effect.step_id)
        if effect.state == "planned" and action.batch is None:
            # Stored, so that people see what will be sent and its validity is counted from when it was due.
            change = replace(change, intent=effect)
        await self._park(hand, change, decision)

    async def at_last(self, hand: Hand, effect: EffectRow, action: Action[Any, Any]) -> None:
        """The last moment before the request: its intent is written, and taken back if it is paused now."""
        pause = await self._pause(hand, effect, action)
        if pause is None:
            return
        hand.result = planned(effect, self._tools.clock.now_ms(), unspent=True)
        await self._park(hand, self._parked(hand, pause, None, effect.step_id), None)

    async def _pause(self, hand: Hand, effect: EffectRow, action: Action[Any, Any]) -> Pause | None:
        return await self._tools.pauses.holding(
            recipe=hand.row.recipe,
            connection=effect.connection,
            channel=action.message.channel if action.message else None,
            purpose=effect.request.get("purpose"),
        )

    def _parked(self, hand: Hand, pause: Pause, decision: Decision | None, step_id: str) -> Advance:
        now_ms = self._tools.clock.now_ms()
        # What one pause lets go and the next one holds has waited since the first.
        waited = hand.claim.data if hand.row.status == "ready" and step_id == hand.row.position else None
        stands = self._writer.rest(hand) if decision is None else self._writer.change(hand, decision, status="parked")
        return replace(
            stands,
            status="parked",
            reason=said(pause),
            due_ms=NEVER_MS,
            parked_on=pause.parks_on,
            data=waited if waited and waited.isdigit() else str(now_ms),
        )

    async def _park(self, hand: Hand, change: Advance, decision: Decision | None) -> None:
        await self._writer.commit(hand, change)
        if decision is not None:
            await self._writer.look_back(hand, decision.exits)
        raise LetGo
