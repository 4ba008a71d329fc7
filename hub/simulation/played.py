"""What is played: events with their instants, and what files of events look like (JSON lines, or one JSON list)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.catalogue import Catalogue, nearest
from hub.clock import parse_time_ms
from hub.connector import Trigger
from hub.errors import ConfigError, PayloadError
from hub.events import Event, Identity, Json
from hub.misfits import misfits
from hub.playing import GivenConsent

# Of a file that is all wrong the first mistakes say enough.
_MOST_PROBLEMS = 20


class ContactFacts(BaseModel):
    """What is known of an event's person beside what the event says: from then on it is so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    language: str | None = None
    zone: str | None = None
    tags: list[str] = Field(default_factory=list)
    attributes: dict[str, Json] = Field(default_factory=dict)

    def of(self, subject: Identity | None) -> Identity:
        """A subject with what it does not say itself."""
        known = subject or Identity()
        said = {name: value for name, value in vars(known).items() if value is not None}
        mine = {name: getattr(self, name) for name in vars(known) if hasattr(self, name)}
        return replace(known, **{**mine, **said})

    def changes(self) -> list[tuple[str, str, Json]]:
        """What is to be set on the contact itself."""
        tags: list[tuple[str, str, Json]] = [("tags", "add", self.tags)] if self.tags else []
        return [*tags, *((f"attributes.{name}", "set", value) for name, value in self.attributes.items())]


class GivenEvent(BaseModel):
    """An event in a file: `at` is its instant, `data` are the trigger's payload fields."""

    model_config = ConfigDict(extra="forbid")

    type: str
    at: str
    data: dict[str, Json] = Field(default_factory=dict)
    connection: str | None = None
    contact: ContactFacts | None = None
    consent: list[GivenConsent] = Field(default_factory=list)


@dataclass(frozen=True)
class Played:
    """What happens at one instant. `connection` None stands for the connector's own; without an event it is consent only."""

    at_ms: int
    event: Event | None = None
    connection: str | None = None
    id: str | None = None
    contact: ContactFacts | None = None
    consent: Sequence[GivenConsent] = field(default=())


def read_events(path: Path, catalogue: Catalogue) -> list[Played]:
    """The events of a file, in the order of their instants. Raises ConfigError with each FILE:LINE and the field that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"the events of {path} are no text in UTF-8; save them as that") from None
    except OSError as error:
        raise ConfigError(
            f"the events cannot be read from {path}: {error.strerror}; give a file of JSON lines, or one JSON list"
        ) from error
    found: list[Played] = []
    problems: list[str] = []
    for line, value in _values(text, path):
        try:
            found.append(_played(value, catalogue))
        except _Wrong as wrong:
            problems += [f"{path}:{line}: {one}" for one in wrong.problems]
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        raise ConfigError("\n".join([*problems[:_MOST_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]))
    return sorted(found, key=lambda one: one.at_ms)


class _Wrong(Exception):
    """One event of a file is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _values(text: str, path: Path) -> Iterator[tuple[int, Json]]:
    """Every value of JSON lines, or of a JSON list, with the line it begins on. Raises ConfigError."""
    if text.lstrip().startswith("["):
        yield from _items(text, path)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}:{number}: this line is no JSON: {error.msg}") from None


def _items(text: str, path: Path) -> Iterator[tuple[int, Json]]:
    decoder = json.JSONDecoder()
    place, line, counted = text.index("[") + 1, 1, 0

    def skipped(letters: str) -> int:
        after = place
        while after < len(text) and text[after] in letters:
            after += 1
        return after

    while True:
        place = skipped(" \t\r\n")
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]" and not text[place + 1 :].strip():
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{line}: this is no JSON list of events: {error.msg}") from None
        yield line, value
        place = skipped(" \t\r\n")
        if text[place : place + 1] == ",":
            place += 1
        elif text[place : place + 1] != "]":
            raise ConfigError(f"{path}:{line}: this is no JSON list of events: a comma or ] is missing after this one")


def _played(value: Json, catalogue: Catalogue) -> Played:
    try:
        given = GivenEvent.model_validate(value)
    except ValidationError as error:
        raise _Wrong(list(misfits(error, whole="event"))) from None
    trigger = catalogue.trigger(given.type)
    if trigger is None:
        guess = nearest(given.type, catalogue.triggers())
        raise _Wrong([f"type: there is no event {given.type}{guess}; `hub plugins` lists them"])
    try:
        at_ms = parse_time_ms(given.at)
    except ValueError:
        raise _Wrong([f"at: {given.at!r} is no instant; write it as 2026-01-05T09:00:00Z"]) from None
    event = event_of(trigger, given.data, at_ms)
    if given.contact is not None:
        event = replace(event, subject=given.contact.of(event.subject))
    return Played(at_ms, event, given.connection, None, given.contact, given.consent)


def event_of(trigger: Trigger[Any], data: Mapping[str, Json], at_ms: int) -> Event:
    """The event of a payload's fields. Raises _Wrong with the fields that do not fit."""
    try:
        return trigger.event(trigger.recall(data), at_ms)
    except ValidationError as error:
        raise _Wrong([f"data.{one}" for one in misfits(error, whole="event")]) from None
    except PayloadError as error:
        raise _Wrong([f"data: {error}"]) from None


def stored_event(trigger: Trigger[Any], data: Mapping[str, Json], at_ms: int, event_id: str) -> Event:
    """As `event_of`, of an event that the hub stored. Raises ConfigError naming it."""
    try:
        return event_of(trigger, data, at_ms)
    except _Wrong as wrong:
        raise ConfigError(
            f"the stored event {event_id} no longer fits {trigger.type}: {wrong}; choose a later --since"
        ) from None
