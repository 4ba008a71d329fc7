"""Forgetting: vendors take somebody out of their audiences and lists, when that person is erased or withdraws a consent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

from pydantic_core import from_json

from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connector import Forget
from hub.errands import Errand, Errands, Missing
from hub.errors import ConfigError, NotFound
from hub.events import Identity, addresses
from hub.ids import idempotency_key, reference
from hub.pepper import Pepper
from hub.store import contacts, erasures, work
from hub.store.session import Store
from hub.store.tombstones import Key
from hub.store.work import Claim
from hub.withdrawals import Withdrawals


class Forgetting:
    """Handles claimed work of the kind forget: `connection|owner`, as in `hub.store.erasures`."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        catalogue: Catalogue,
        clock: Clock,
        errands: Errands,
        pepper: Pepper,
        withdrawals: Withdrawals,
    ) -> None:
        self._store, self._connections, self._catalogue, self._clock = store, connections, catalogue, clock
        self._errands, self._pepper, self._withdrawals = errands, pepper, withdrawals

    async def handle(self, claim: Claim) -> None:
        """Tell one vendor; afterwards the work is finished, due again, or parked. Raises StoreUnavailable."""
        await self._errands.do(claim, partial(self._begin, claim))

    async def _begin(self, claim: Claim) -> Errand | None:
        name, _, owner = claim.ref.partition("|")
        try:
            connection = await self._connections.by_name(name)
        except ConfigError:  # removed since: nobody can tell its vendor any more
            await self._spare(claim)
            return None
        connector = self._catalogue.connectors.get(connection.connector)
        if connector is None:
            raise Missing(connection.connector)
        people = self._erased(claim, owner) if claim.data else await self._withdrawn(owner)
        if connector.forget_ is None or not people:
            await self._spare(claim)
            return None
        identities = _identities(people, name)
        return Errand(connection, partial(self._forget, claim, connection, connector.forget_, identities))

    def _erased(self, claim: Claim, owner: str) -> list[Key]:
        keys = from_json(self._pepper.open(claim.data or "", owner)["keys"])
        return [(kind, value) for kind, value in keys]

    async def _withdrawn(self, contact_id: str) -> list[Key]:
        """Somebody's identities, if they still withhold a consent to marketing: whoever has agreed anew meanwhile is not forgotten."""
        async with self._store.read() as c:
            keys = (await contacts.identities(c, [contact_id])).get(contact_id, [])
            ledger = await contacts.ledger(c, addresses(keys))
        return keys if any(map(self._withdrawals.stands, ledger.values())) else []

    async def _forget(
        self, claim: Claim, connection: Connection, forget: Forget, identities: Sequence[Identity]
    ) -> None:
        key = f"forget:{claim.ref}"
        context = await self._connections.context(
            connection, reference=reference(key), idempotency_key=idempotency_key(key)
        )
        for identity in identities:
            try:
                await forget(context, identity)
            except NotFound:
                continue  # whom a vendor does not know it has forgotten
        async with self._store.write() as c:
            if await work.finish(c, claim):
                name, _, owner = claim.ref.partition("|")
                await erasures.forgot(c, owner, name, self._clock.now_ms())

    async def _spare(self, claim: Claim) -> None:
        async with self._store.write() as c:
            name, _, owner = claim.ref.partition("|")
            if await work.finish(c, claim):
                await erasures.not_asked(c, owner, name)


def _identities(keys: Sequence[Key], connection: str) -> list[Identity]:
    """Somebody as one vendor may know them: their first id, address and number together, then the others."""
    of = {kind: [value for k, value in keys if k == kind] for kind in ("email", "phone", f"id:{connection}")}
    return [Identity(email=email, phone=phone, vendor=vendor) for email, phone, vendor in zip_longest(*of.values())]
