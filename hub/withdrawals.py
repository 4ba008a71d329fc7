"""Withdrawals: when somebody takes their consent to marketing back, every vendor that can is told to forget them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.events import ConsentSignal, ConsentState
from hub.library import Library
from hub.purposes import LegalClass
from hub.store import contacts, erasures
from hub.store.events import StoredEvent
from hub.store.session import Connection, Row

_log = logging.getLogger(__name__)

_WITHDRAWN = {ConsentState.REVOKED, ConsentState.BLOCKED}


class Withdrawals:
    """Looks at what events say about consent, in the transaction that routes them."""

    def __init__(self, library: Library, catalogue: Catalogue, clock: Clock) -> None:
        self._library, self._catalogue, self._clock = library, catalogue, clock

    async def look(self, c: Connection, batch: Iterable[StoredEvent], contact_of: Mapping[str, str | None]) -> None:
        """Have whoever withdraws by one of these events be forgotten, once for each time that they do."""
        able = [connector.name for connector in self._catalogue.connectors.values() if connector.forget_ is not None]
        if not able:
            return
        told = [(e, contact_id, s) for e in batch if (contact_id := contact_of[e.id]) for s in self._withdrawn(e)]
        if not told:
            return
        ledger = await contacts.ledger(c, {(s.channel, s.address) for _, _, s in told})
        people = {
            contact_id
            for event, contact_id, s in told
            if self._is_new(ledger.get((s.channel, s.address), []), s.said_at_ms(event.occurred_at_ms), event.id)
        }
        rows = await c.all("select name, connector from connection order by name")
        names = [row["name"] for row in rows if row["connector"] in able]
        for contact_id in sorted(people):
            await erasures.ask(c, contact_id, names, self._clock.now_ms())

    def _withdrawn(self, event: StoredEvent) -> list[ConsentSignal]:
        trigger = self._catalogue.trigger(event.type)
        if trigger is None or trigger.consent is None:
            return []
        try:
            signals = tuple(trigger.consent(trigger.recall(event.data)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # What an earlier version of the plugin stored. The ledger has what it said; only its vendors are not told.
            facts = {"event_id": event.id, "error": type(error).__name__}
            _log.warning("an event's consent cannot be read again", extra={"what": "withdrawal_unread", **facts})
            return []
        return [s for s in signals if s.state in _WITHDRAWN and self._is_marketing(s.purpose)]

    def _is_marketing(self, name: str) -> bool:
        purpose = None if name == "*" else self._library.purpose(name)
        return purpose is None or purpose.legal_class is LegalClass.MARKETING

    def _about_marketing(self, statements: Sequence[Row]) -> list[Row]:
        return [row for row in statements if self._is_marketing(row["purpose"])]

    def stands(self, statements: Sequence[Row]) -> bool:
        """Whether the last word on an address about marketing is no; statements are the ledger's, oldest first."""
        rows = self._about_marketing(statements)
        return bool(rows) and _is_withdrawal(rows[-1])

    def _is_new(self, statements: Sequence[Row], at_ms: int, event_id: str) -> bool:
        """Whether a withdrawal at an instant is the last word on an address, and not the repetition of another one.

        Of those of one instant, which a vendor repeats with every later change, it is the first.
        """
        rows = self._about_marketing(statements)
        own_at = next((at for at, row in enumerate(rows) if row["event_id"] == event_id), len(rows))
        before = [row for at, row in enumerate(rows) if row["at"] < at_ms or (row["at"] == at_ms and at < own_at)]
        return not any(row["at"] > at_ms for row in rows) and not (before and _is_withdrawal(before[-1]))


def _is_withdrawal(statement: Row) -> bool:
    """Whether a statement of the ledger says no."""
    return ConsentState(statement["state"]) in _WITHDRAWN
