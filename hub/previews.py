"""Previews: what a recipe's actions would say to a real person, rendered as the engine does. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from hub import engine, text
from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339
from hub.conditions import Truth
from hub.connections import Connections
from hub.connector import Action, Message
from hub.errors import ConfigError, NotThere
from hub.events import Json
from hub.misfits import unprefixed
from hub.purposes import LegalClass, Purpose
from hub.recipes import bind, load
from hub.recipes.ids import Placed, every_step
from hub.runs.gate import address_of, no_purpose, permitted, unfit_for
from hub.samples import sample
from hub.store import contacts, events, views
from hub.store.events import StoredEvent, event_scope
from hub.store.session import Connection, Store

# Among so many of the newest events a misspelt id is looked for.
_NEWEST_EVENTS = 500


@dataclass(frozen=True)
class MessagePreview:
    """To whom a message would go, and whether it may. `to` None: its address comes from a step that has not run."""

    channel: str
    to: str | None
    purpose: str
    allowed: bool | None
    reason: str


@dataclass(frozen=True)
class StepPreview:
    """One action: its rendered input, and what of it is open until earlier steps have run."""

    step: str
    does: str
    action: str
    connection: str
    input: Mapping[str, Json]
    open: Sequence[str]
    """Places of the input that hold values of steps not yet run, which are written `[steps.NAME.FIELD]`."""
    problems: Sequence[str]
    text: str | None
    """What would be done in one line; None while the input is open or wrong."""
    message: MessagePreview | None


@dataclass(frozen=True)
class Preview:
    """What every action would be. `event` None: the trigger's data are made up."""

    recipe: str
    contact: str
    trigger: str
    event: str | None
    notes: Sequence[str]
    steps: Sequence[StepPreview]


class Previewer:
    """Previews for one hub."""

    def __init__(self, store: Store, connections: Connections, catalogue: Catalogue, clock: Clock) -> None:
        self._store, self._connections, self._catalogue, self._clock = store, connections, catalogue, clock

    async def preview(
        self,
        source: str,
        purposes: Mapping[str, Purpose],
        *,
        contact: str,
        event: str | None = None,
        step: str | None = None,
        file: str | None = None,
        previous: Mapping[str, Json] | None = None,
    ) -> Preview:
        """The actions of a recipe for a contact (id, e-mail address or phone number) and a stored event.

        Raises RecipeErrors for a wrong recipe, NotThere for a contact or event that is not there, ConfigError for a step.
        """
        recipe = load(source, self._catalogue, file=file, previous=previous)
        bound = bind(recipe.definition, self._catalogue, await self._connections.names())
        program = engine.compile(bound)
        wanted = [one for one in every_step(bound) if "do" in one.raw]
        if step is not None:
            wanted = _named(bound, wanted, step)
        async with self._store.read() as c:
            contact_id = await views.find_contact(c, contact)
            facts = (await contacts.facts(c, [contact_id]))[contact_id]
            trigger, notes = await self._trigger(c, bound, program, event, contact_id, facts)
            scope = {
                "trigger": trigger,
                "contact": facts,
                "run": {"id": "preview", "started_at": rfc3339(self._clock.now_ms()), "ended_by": "done"},
                "vars": dict(program.vars),
                "links": {},
                "now": rfc3339(self._clock.now_ms()),
            }
            steps = [await self._step(c, one, scope, purposes) for one in wanted]
        return Preview(recipe.name, contact_id, str(trigger["type"]), event, notes, steps)

    # -- the event -----------------------------------------------------------------------------------------------------

    async def _trigger(
        self,
        c: Connection,
        bound: Mapping[str, Json],
        program: engine.Program,
        event: str | None,
        contact_id: str,
        facts: Mapping[str, Json],
    ) -> tuple[dict[str, Json], list[str]]:
        if event is None:
            return self._made_up(bound, facts), []
        stored = await _event(c, event)
        if stored.type not in program.event_types:
            starts = " or ".join(sorted(program.event_types))
            raise ConfigError(f"the event {event} is a {stored.type}; this recipe starts by {starts}")
        scope = event_scope(stored, self._connections.name_of(stored.connection_id))
        notes = []
        if stored.contact_id != contact_id:
            notes.append("the event is about somebody else than the contact")
        judgement = engine.admits(program, stored.type, scope, str(scope["connection"]))
        if judgement.truth is not Truth.TRUE:
            notes.append(f"the event would not start the recipe: {judgement.reason}")
        return scope, notes

    def _made_up(self, bound: Mapping[str, Json], facts: Mapping[str, Json]) -> dict[str, Json]:
        start = bound["on"][0]
        trigger = self._catalogue.trigger(start["types"][0])
        assert trigger is not None, "a checked recipe's triggers are there"
        now_ms = self._clock.now_ms()
        person = {name: facts[name] for name in ("email", "phone", "first_name", "last_name", "language")}
        payload = trigger.recall(sample(trigger, now_ms, person))
        made = StoredEvent("preview", trigger.type, "", now_ms, now_ms, payload.model_dump(mode="json"), None)
        return event_scope(made, start["from"][0])

    # -- the steps -----------------------------------------------------------------------------------------------------

    async def _step(
        self, c: Connection, one: Placed, scope: Mapping[str, Json], purposes: Mapping[str, Purpose]
    ) -> StepPreview:
        raw = one.raw
        action = self._catalogue.action(raw["action"])
        assert action is not None, "a bound step's action is there"
        rendered, open_, problems = _render(raw.get("with") or {}, scope)
        input_, wrong = _checked(action, rendered, open_)
        problems += wrong
        message = None
        if action.message is not None:
            message = await _message(c, action.message, raw, input_, rendered, open_, action, purposes)
        return StepPreview(
            step=raw["id"],
            does=raw["do"],
            action=raw["action"],
            connection=raw["connection"],
            input=rendered,
            open=open_,
            problems=problems,
            text=action.dry_run(input_) if input_ is not None and not open_ and not problems else None,
            message=message,
        )


def _named(bound: Mapping[str, Json], actions: Sequence[Placed], step: str) -> list[Placed]:
    found = [one for one in actions if one.raw["id"] == step]
    if found:
        return found
    names = [str(one.raw["id"]) for one in actions]
    if any(one.raw["id"] == step for one in every_step(bound)):
        raise ConfigError(f"the step {step} calls nothing, so there is nothing to show; actions are {', '.join(names)}")
    raise ConfigError(f"there is no step {step}{nearest(step, names)}; actions are {', '.join(names) or 'none'}")


async def _event(c: Connection, event_id: str) -> StoredEvent:
    found = await events.get(c, event_id)
    if found is None:
        newest = [str(row["id"]) for row in await views.list_events(c, most=_NEWEST_EVENTS)]
        raise NotThere(
            f"there is no event {event_id}{nearest(event_id, newest)}; `hub events list` shows what there is"
        )
    return found


# -- rendering ---------------------------------------------------------------------------------------------------------


def _render(given: Mapping[str, Json], scope: Mapping[str, Json]) -> tuple[dict[str, Json], list[str], list[str]]:
    """An input rendered piece by piece: the values, the places that are open, and what is wrong."""
    open_: list[str] = []
    problems: list[str] = []

    def rendered(value: Json, place: str) -> Json:
        if isinstance(value, Mapping):
            return {key: rendered(one, f"{place}/{key}" if place else str(key)) for key, one in value.items()}
        if isinstance(value, list):
            return [rendered(one, f"{place}/{index}") for index, one in enumerate(value)]
        if not text.is_template(value):
            return value
        waits = list(_of_steps(value))
        if waits:
            open_.append(place)
        try:
            return text.render(value, {**scope, "steps": _placeholders(waits)}, path=place)
        except text.TextError as error:
            if not waits:
                problems.append(str(error))
            # A filter may not know what to make of a value that is not there yet.
            return value

    return {name: rendered(value, name) for name, value in given.items()}, open_, problems


def _of_steps(source: str) -> Iterator[tuple[str, ...]]:
    """The paths below `steps` that a template reads."""
    for reference in text.paths(source):
        if reference.path and reference.path[0] == "steps" and len(reference.path) > 1:
            yield tuple(map(str, reference.path[1:]))


def _placeholders(paths: Sequence[tuple[str, ...]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for path in sorted(paths, key=len):
        inside = found
        for segment in path[:-1]:
            below = inside.setdefault(segment, {})
            if not isinstance(below, dict):
                break
            inside = below
        else:
            inside.setdefault(path[-1], f"[steps.{'.'.join(path)}]")
    return found


def _checked(
    action: Action[Any, Any], rendered: Mapping[str, Json], open_: Sequence[str]
) -> tuple[BaseModel | None, list[str]]:
    """The input as its model, or None; and what is wrong with it where nothing is open."""
    try:
        input_: BaseModel = action.input.model_validate(rendered)
        return input_, []
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
    told = [(str(one["loc"][0]) if one["loc"] else "", unprefixed(one["msg"])) for one in found]
    opened = {place.partition("/")[0] for place in open_}
    return None, [f"{name or action.type}: {message}" for name, message in told if name not in opened]


async def _message(
    c: Connection,
    message: Message[Any],
    raw: Mapping[str, Json],
    input_: BaseModel | None,
    rendered: Mapping[str, Json],
    open_: Sequence[str],
    action: Action[Any, Any],
    purposes: Mapping[str, Purpose],
) -> MessagePreview:
    name = str(raw.get("purpose"))
    purpose = purposes.get(name)
    if purpose is None:
        return MessagePreview(message.channel, None, name, False, no_purpose(name))
    address = _address(message, input_, rendered, action)
    if address is None or "[steps." in address:
        reason = "its address comes from a step that has not run" if open_ else "it has no address"
        return MessagePreview(message.channel, None, name, None if open_ else False, reason)
    if unfit := unfit_for(message, purpose):
        return MessagePreview(message.channel, address, name, False, unfit)
    permission = await permitted(c, message, address, purpose)
    reason = permission.reason
    if permission.allowed and purpose.legal_class is LegalClass.SERVICE:
        reason = f"{reason}, if {raw.get('confirms')} was done"
    return MessagePreview(message.channel, address, name, permission.allowed, reason)


def _address(
    message: Message[Any], input_: BaseModel | None, rendered: Mapping[str, Json], action: Action[Any, Any]
) -> str | None:
    """The address, also where another field of the input is open; None where there is none."""
    try:
        given = input_ if input_ is not None else action.input.model_construct(**rendered)
        return address_of(message, given) if message.to(given) else None
    except AttributeError:
        return None
