"""T4: the last moment before a call. Is the run still held, wanted and permitted? Then the intent is written."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from math import isfinite
from typing import Any

from pydantic import BaseModel

from hub import engine
from hub.clock import rfc3339
from hub.connector import Action, Message
from hub.engine import ActionDone, Arrival
from hub.errors import HookFailed
from hub.events import CHANNELS, ConsentState, e164
from hub.hookspecs import Veto
from hub.ids import new_id
from hub.purposes import LedgerEntry, LegalClass, Permission, Purpose, permits
from hub.runs.hand import Hand, LetGo, Tools, result_of, stopped
from hub.runs.writer import Writer
from hub.spending import CapReached
from hub.store import contacts, events, runs
from hub.store.runs import EffectRow
from hub.store.session import Connection
from hub.store.spending import Cap

# What waited for a spending cap is due again over so long a time after its period has ended.
_SPREAD_MS = 60_000
# What a plugin says is kept to, within reason.
_LONGEST_REASON = 500
_LONGEST_DELAY_S = 30 * 24 * 3600.0

_log = logging.getLogger(__name__)


class Gate:
    """Asks everything that may still hold a call back, under the contact's lock."""

    def __init__(self, tools: Tools, writer: Writer) -> None:
        self._tools, self._writer = tools, writer

    @property
    def vetoing(self) -> bool:
        return bool(self._tools.plugins.manager.hook.hub_before_effect.get_hookimpls())

    async def passes(
        self, hand: Hand, program: engine.Program, effect: EffectRow, action: Action[Any, Any], input_: BaseModel
    ) -> EffectRow | Arrival:
        """The last moment before a call: may it still be made? Writes and returns the intent, or says why not.

        Each call has a token of its own, so that a late answer to an earlier one is never taken for this one's.
        """
        veto = await self._ask_plugins(hand, effect)
        if veto is not None:
            return veto
        now_ms = self._tools.clock.now_ms()
        since_ms = effect.intended_at_ms if effect.attempts else now_ms
        intent = replace(
            effect, state="intended", token=new_id(), attempts=effect.attempts + 1, intended_at_ms=since_ms
        )
        hold_on = False
        answer: ActionDone | None = None
        async with self._capped(hand, effect) as caps, self._tools.store.write() as c:
            if hand.row.contact_id:
                await contacts.lock(c, [hand.row.contact_id])
            held = await runs.hold(c, hand.row.id, hand.claim.epoch)
            if not held.held:
                raise LetGo
            if held.stop is not None:
                hand.row = replace(hand.row, stop=held.stop)
            elif action.message is not None and (hold_on := await self._news_waiting(c, hand, program, action, input_)):
                pass
            elif action.message is not None:
                answer = await self._permission(c, hand, effect, action, input_, now_ms)
            if held.stop is None and not hold_on and answer is None:
                if caps or effect.request.get("spent"):
                    intent = await self._tools.spending.take(c, intent, caps, action, input_)
                await runs.intend(c, intent)
        if hand.row.stop is not None:
            hand.result = result_of(effect, "withdrawn", "withdrawn", "the run was stopped", None, now_ms)
            return stopped(hand.row.stop)
        if hold_on:
            await self._writer.give_back(hand, delay_s=0.02, reason="news about this person is being sorted first")
        if answer is None:
            return intent
        hand.result = result_of(effect, "skipped", "skipped", answer.reason, None, now_ms)
        return answer

    async def reserve(
        self, hand: Hand, effect: EffectRow, action: Action[Any, Any], input_: BaseModel
    ) -> EffectRow | ActionDone:
        """May an effect be left to a batch? Returns it, marked when it counts under a spending cap, or a plugin's no.

        Raises LetGo when a cap is reached.
        """
        if veto := await self._ask_plugins(hand, effect):
            return veto
        if not await self._tools.spending.caps(hand.row.recipe, effect.connection):
            return effect
        # It was not called before, whatever a process that died at this place had counted.
        marked = replace(effect, request={**effect.request, "spent": True})
        async with self._capped(hand, effect) as caps, self._tools.store.write() as c:
            if not (await runs.hold(c, hand.row.id, hand.claim.epoch)).held:
                raise LetGo
            return await self._tools.spending.take(c, marked, caps, action, input_)

    @asynccontextmanager
    async def _capped(self, hand: Hand, effect: EffectRow) -> AsyncIterator[list[Cap]]:
        """The spending caps on a call; when it would exceed one, all is taken back and the run waits for the next period."""
        caps = await self._tools.spending.caps(hand.row.recipe, effect.connection)
        try:
            yield caps
        except CapReached as reached:
            charge = reached.charge
            await self._tools.spending.warn(charge)
            change = replace(
                self._writer.rest(hand),
                status="parked",
                reason=str(reached),
                due_ms=charge.until_ms + int(_SPREAD_MS * self._tools.jitter()),
                parked_on=charge.cap.parks_on,
                # Stored, so that people see what will be sent; a batch takes only what is not stored yet.
                intent=effect if effect.state == "planned" and effect.batch is None else None,
            )
            await self._writer.commit(hand, change)
            await self._tools.spending.look_back(charge)
            raise LetGo from None
        if caps:
            await self._tools.spending.warn()

    async def _ask_plugins(self, hand: Hand, effect: EffectRow) -> ActionDone | None:
        if not self.vetoing:
            return None
        try:
            vetoes = await self._tools.plugins.gather(
                "hub_before_effect",
                limit_s=self._tools.hook_limit_s,
                action=effect.action,
                input=effect.request["input"],
                run_id=hand.row.id,
                contact_id=hand.row.contact_id,
            )
            answers = [answer for answer in vetoes if answer is not None]
            if not all(_is_veto(answer) for answer in answers):
                raise HookFailed("(one of them)", "hub_before_effect", "its answer is no Veto that can be kept to")
        except HookFailed as error:  # an effect is never sent past a broken guard
            facts = {"plugin": error.plugin, "run_id": hand.row.id}
            _log.exception("a plugin's guard failed", extra={"what": "hook_failed", **facts})
            await self._writer.give_back(hand, delay_s=30, reason=f"a plugin's guard failed: {error}", counted=True)
        for veto in answers:
            reason = str(veto.reason)[:_LONGEST_REASON]
            if veto.delay_s is not None:
                delay_s = min(veto.delay_s, _LONGEST_DELAY_S)
                await self._writer.give_back(hand, delay_s=delay_s, reason=f"a plugin said later: {reason}")
            return ActionDone("skipped", None, f"vetoed: {reason}")
        return None

    async def _news_waiting(
        self,
        c: Connection,
        hand: Hand,
        program: engine.Program,
        action: Action[Any, Any],
        input_: BaseModel,
    ) -> bool:
        """Whether an event that may end this run is stored but not routed yet."""
        if not program.exit_types or hand.row.contact_id is None:
            return False
        known = await contacts.identities(c, [hand.row.contact_id])
        people = [f"{kind}:{value}" for kind, value in known.get(hand.row.contact_id, [])]
        return any(event.type in program.exit_types for _, event in await events.unrouted_of(c, people))

    async def _permission(
        self,
        c: Connection,
        hand: Hand,
        effect: EffectRow,
        action: Action[Any, Any],
        input_: BaseModel,
        now_ms: int,
    ) -> ActionDone | None:
        """Valid still, consent given, not suppressed: then the message is reserved. Else the reason it stays."""
        assert action.message is not None, "only messages are asked about"
        valid_until_ms = effect.request.get("valid_until_ms")
        if valid_until_ms is not None and now_ms > int(valid_until_ms):
            return ActionDone("skipped", None, f"too_late: valid until {rfc3339(int(valid_until_ms))}")
        name = effect.request.get("purpose")
        purpose = self._tools.library.purpose(str(name)) if name else None
        if purpose is None:
            return ActionDone("skipped", None, no_purpose(name))
        if unfit := unfit_for(action.message, purpose):
            return ActionDone("skipped", None, unfit)
        missing = await self._unconfirmed(c, hand, effect, purpose)
        if missing:
            return ActionDone("skipped", None, missing)
        permission = await permitted(c, action.message, address_of(action.message, input_), purpose)
        if not permission.allowed:
            return ActionDone("skipped", None, permission.reason)
        await runs.reserve_message(
            c,
            effect.key,
            contact_id=hand.row.contact_id,
            channel=action.message.channel,
            purpose=purpose.name,
            recipe=hand.row.recipe,
            at_ms=now_ms,
        )
        return None

    async def _unconfirmed(self, c: Connection, hand: Hand, effect: EffectRow, purpose: Purpose) -> str | None:
        """A service message passes only as the confirmation of a step that was done."""
        if purpose.legal_class is not LegalClass.SERVICE:
            return None
        step = effect.request.get("confirms")
        if step and await runs.effect_state(c, hand.row.id, str(step)) == "done":
            return None
        return f"no_consent: a service message confirms a step that was done, and {step or 'no step'} was not"


def no_purpose(name: object) -> str:
    """Why a message whose purpose nobody knows stays."""
    return f"no_consent: there is no purpose {name}; add it to purposes.yaml"


def unfit_for(message: Message[Any], purpose: Purpose) -> str | None:
    """Why a purpose is none for messages on this channel, or None."""
    if purpose.channel is not None and purpose.channel != message.channel:
        return f"no_consent: the purpose {purpose.name} is for {purpose.channel}"
    return None


async def permitted(c: Connection, message: Message[Any], address: str, purpose: Purpose) -> Permission:
    """What an address's ledger says about a message of this purpose now."""
    ledger = await contacts.ledger(c, [(message.channel, address)])
    entries = [
        LedgerEntry(ConsentState(row["state"]), row["purpose"], row["reason"], row["at"])
        for row in ledger.get((message.channel, address), [])
    ]
    return permits(entries, purpose)


def _is_veto(answer: object) -> bool:
    """Whether a guard's answer says what to do."""
    if not isinstance(answer, Veto):
        return False
    delay_s: object = answer.delay_s
    return delay_s is None or (isinstance(delay_s, int | float) and isfinite(delay_s) and delay_s >= 0)


def address_of(message: Message[Any], input_: BaseModel) -> str:
    """The address as the consent ledger writes it."""
    given = str(message.to(input_))
    if message.channel in CHANNELS["phone"]:
        return e164(given) or given
    return given.strip().lower()
