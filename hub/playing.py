"""A hub in memory that plays events on a clock that jumps: nothing leaves the machine, a wait of a day takes milliseconds.

What decides is what decides live: the same router, engine, gate and store. Only actions pretend. Recipe tests and
simulations stand on it; what they make of what happened is theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from hub.catalogue import Catalogue
from hub.clock import FrozenClock
from hub.documents import read
from hub.events import ConsentState, Event, Json, e164
from hub.ids import new_id
from hub.plugins import Plugins
from hub.process import Hub, open_hub
from hub.settings import Settings, load_settings
from hub.steps.do import best_fit
from hub.store import contacts, events, work
from hub.store.events import Incoming, NewEvent
from hub.vault import generate_key

# Playing ends when nothing is due any more, at the latest so long after the last event.
HORIZON_MS = 400 * 24 * 3_600_000


class GivenConsent(BaseModel):
    """A statement about an address that no event carries."""

    model_config = ConfigDict(extra="forbid")

    channel: str
    address: str
    state: ConsentState = ConsentState.GRANTED
    purpose: str = "*"
    reason: str = "given by the test"


def rehearsal_settings() -> Settings:
    """Settings of a hub that lives in memory, may jump, and reaches nobody."""
    return load_settings(
        database_url="sqlite:///:memory:",
        development=True,
        keys=[generate_key()],
        redis_url=None,
        sandbox_url=None,
        slots=50,
    )


@dataclass(frozen=True)
class Stage:
    """A hub on which events are played, and its clock."""

    hub: Hub
    clock: FrozenClock

    async def advance(self, to_ms: int) -> None:
        """Let time pass until `to_ms`; stops at every instant on the way at which something is due."""
        while True:
            await self.hub.pump.settle()
            async with self.hub.store.read() as c:
                due_ms = await work.next_due_ms(c)
            if due_ms is None or due_ms > to_ms:
                self._move(to_ms)
                return
            self._move(due_ms)

    def _move(self, to_ms: int) -> None:
        self.clock.offset_ms += max(0, to_ms - self.clock.now_ms())

    async def agree(self, given: Iterable[GivenConsent]) -> None:
        """Put statements into the consent ledger, as of now."""
        async with self.hub.store.write() as c:
            await events.append_consents(
                c,
                [
                    {
                        "id": new_id(),
                        "channel": consent.channel,
                        "address": e164(consent.address) or consent.address.strip().lower(),
                        "purpose": consent.purpose,
                        "state": consent.state.value,
                        "reason": consent.reason,
                        "source": "test",
                        "event_id": None,
                        "at": self.clock.now_ms(),
                    }
                    for consent in given
                ],
            )

    async def connection_of(self, connector: str) -> str:
        """The name of the connection that an event of this connector belongs to where none is named."""
        names = (await self.hub.connections.names()).get(connector, [])
        return connector if connector in names or not names else min(names)

    async def new(self, event: Event, connection: str, *, id_: str | None = None) -> NewEvent:
        """An event of a connection, about to happen. Raises ConfigError when there is no such connection."""
        found = await self.hub.connections.by_name(connection)
        return NewEvent(event, found.id, found.name, id=id_ or new_id())

    async def introduce(self, new: NewEvent, changes: Sequence[tuple[str, str, Json]]) -> None:
        """Make an event's person known before it happens, and change them as a recipe's `set` would."""
        if new.event.subject is None:
            return
        sighting = contacts.Sighting(new.id, new.connection, new.event.subject, self.clock.now_ms())
        async with self.hub.store.write() as c:
            contact_id = (await contacts.resolve(c, [sighting])).get(new.id)
            if contact_id is not None and changes:
                await contacts.change(c, contact_id, changes)

    async def happen(self, happened: Iterable[NewEvent]) -> None:
        """Store events as if they had just come through the door, and let follow what follows at once."""
        now_ms = self.clock.now_ms()
        async with self.hub.store.write() as c:
            await events.ingest(c, [Incoming(one.connection_id, None, [one], now_ms) for one in happened])
        await self.hub.pump.settle()


@asynccontextmanager
async def stage(plugins: Plugins, start_ms: int, *, connections: Mapping[str, Iterable[str]]) -> AsyncIterator[Stage]:
    """A stage whose clock stands at `start_ms`. `connections` maps a connector to the names of its pretended connections."""
    clock = FrozenClock(start_ms)
    async with open_hub(rehearsal_settings(), plugins=plugins, clock=clock, rehearsal=True) as hub:
        for connector, names in connections.items():
            for name in sorted(names):
                await hub.connections.pretend(connector, name)
        yield Stage(hub, clock)


def connections_named(sources: Iterable[str], catalogue: Catalogue) -> dict[str, set[str]]:
    """The connections that recipes can be played with: those their texts name, and else one of each connector's own name.

    What is wrong with a text is not looked at; whoever publishes it does.
    """
    named: dict[str, set[str]] = {}
    for source in sources:
        value = read(source).value
        if not isinstance(value, dict):
            continue
        lines = value.get("connections")
        for thing, name in lines.items() if isinstance(lines, dict) else ():
            provider = _provider(str(thing), value, catalogue)
            if provider and isinstance(name, str):
                named.setdefault(provider, set()).add(name)
        for start in _starts(value.get("on")):
            names = start.get("from", [])
            for connector in _connectors_of(str(start.get("event")), catalogue)[:1]:
                named.setdefault(connector, set()).update([names] if isinstance(names, str) else map(str, names))
    return {name: named.get(name) or {name} for name in catalogue.connectors}


def _provider(thing: str, recipe: Json, catalogue: Catalogue) -> str | None:
    """The connector that a line of `connections:` is about: of several that do it, the one the recipe's input is for."""
    if thing not in catalogue.connectors and (actions := catalogue.actions_for(thing)):
        return best_fit(actions, next(_inputs(thing, recipe), {})).connector
    return next(iter(_connectors_of(thing, catalogue)), None)


def _inputs(does: str, value: Json) -> Iterator[Mapping[str, Json]]:
    """The input of each step that does it, wherever it stands."""
    if isinstance(value, dict) and value.get("do") == does and isinstance(value.get("with"), dict):
        yield value["with"]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _inputs(does, part)


def _connectors_of(name: str, catalogue: Catalogue) -> list[str]:
    """The connectors that a connector's name, an action, an event or a capability stands for."""
    if name in catalogue.connectors:
        return [name]
    actions = {action.connector for action in catalogue.actions_for(name)}
    return sorted(actions | {trigger.connector for trigger in catalogue.triggers_for(name)})


def _starts(on: Json) -> list[dict[str, Json]]:
    several = on.get("any_of", [on]) if isinstance(on, dict) else []
    return [one for one in several if isinstance(one, dict)] if isinstance(several, list) else []
