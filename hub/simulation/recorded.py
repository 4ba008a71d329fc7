"""What this hub stored, to be played again: events, the people they are about, consent, entries and vendors' answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from hub.catalogue import Catalogue
from hub.connector import Action
from hub.events import Json
from hub.playing import GivenConsent
from hub.plugins import Plugins
from hub.process import Hub
from hub.simulation.played import Played, stored_event
from hub.store import replaying
from hub.store.replaying import Answer, Before


@dataclass(frozen=True)
class Recorded:
    """What the hub knows of a span of time."""

    played: Sequence[Played]
    connections: Mapping[str, Sequence[str]]
    before: Before = field(default_factory=Before)
    """What was so when it began."""
    answers: Sequence[Answer] = ()
    """What calls of the recipe came to, oldest first."""


async def recorded(hub: Hub, recipe: str, from_ms: int, to_ms: int) -> Recorded:
    """Everything about the events received from `from_ms` until before `to_ms`."""
    found: list[Played] = []
    people: set[str] = set()
    catalogue = hub.plugins.catalogue
    await hub.connections.refresh(force=True)
    async with hub.store.read() as c:
        after: tuple[int, str] = (from_ms, "")
        while page := await replaying.received(c, after, to_ms):
            for one in page:
                trigger = catalogue.trigger(one.type)
                name = hub.connections.name_of(one.connection_id)
                if trigger is None or not name:
                    continue
                event = stored_event(trigger, one.data, one.received_at_ms, one.id)
                event = replace(event, subject=one.subject, cause=None, occurred_at_ms=one.occurred_at_ms)
                found.append(Played(one.received_at_ms, event, name, one.id))
                people |= {one.contact_id} if one.contact_id else set()
            after = (page[-1].received_at_ms, page[-1].id)
        found += [_consent(row) for row in await replaying.consents(c, from_ms, to_ms)]
        before = await replaying.before(c, recipe, sorted(people), from_ms)
        answers = await replaying.answers(c, recipe, from_ms)
    played = sorted(found, key=lambda one: one.at_ms)
    return Recorded(played, await hub.connections.names(), before, answers)


def _consent(row: Mapping[str, Any]) -> Played:
    given = {name: row[name] for name in ("channel", "address", "state", "purpose", "reason")}
    return Played(row["at"], consent=[GivenConsent.model_validate(given)])


def answering(plugins: Plugins, answers: Sequence[Answer]) -> Plugins:
    """Plugins whose actions give the answer that the same call got before; other calls pretend as in every rehearsal."""
    known: dict[bytes, deque[Mapping[str, Json]]] = {}
    for one in answers:
        action = plugins.catalogue.action(one.action)
        key = _key_of(action, one.input) if action else None
        if key is not None:
            known.setdefault(key, deque()).append(one.output)
    if not known:
        return plugins
    connectors = {
        name: replace(connector, actions={key: _answering(a, known) for key, a in connector.actions.items()})
        for name, connector in plugins.catalogue.connectors.items()
    }
    return replace(plugins, catalogue=Catalogue(connectors, plugins.catalogue.unusable))


def _key_of(action: Action[Any, Any], given: Mapping[str, Json]) -> bytes | None:
    """What tells calls apart, None for an input that the action no longer takes."""
    try:
        return _key(action, action.input.model_validate(given))
    except ValidationError:
        return None


def _key(action: Action[Any, Any], input_: BaseModel) -> bytes:
    return to_json([action.type, input_.model_dump(mode="json")])


def _answering(action: Action[Any, Any], known: Mapping[bytes, deque[Mapping[str, Json]]]) -> Action[Any, Any]:
    def answer(input_: BaseModel, now_ms: int) -> BaseModel:
        queue = known.get(_key(action, input_))
        if queue:
            try:
                output: BaseModel = action.output.model_validate(queue[0])
            except ValidationError:
                # An older release of the plugin said it in another form: pretend.
                queue.clear()
            else:
                queue.popleft()
                return output
        pretended: BaseModel = action.rehearse(input_, now_ms)
        return pretended

    return replace(action, simulate_=answer)
