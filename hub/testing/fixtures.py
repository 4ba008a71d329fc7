"""Fixtures: a vendor's calls in files. A file is the bare body, or with headers and topic, a `NAME.delivery.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hub.connector import Trigger
from hub.errors import ConfigError, HubError
from hub.events import Event, Json
from hub.misfits import unprefixed

ENDING = ".delivery.json"
_KEYS = ("topic", "method", "query", "headers", "json", "text")


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """One call of a vendor. `topic` is None where only the trigger that the fixture is for can tell."""

    body: bytes
    topic: str | None = None
    method: str = "POST"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Fixture:
    """Read a fixture. Raises ConfigError naming the file, the place and the mend."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no fixture {path}: put a body there as the vendor sends it, or capture one with "
            f"`hub deliveries capture --to {path.parent}`"
        ) from None
    if not path.name.endswith(ENDING):
        return Fixture(body=body)
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ConfigError(f"the fixture {path} is no JSON: {error}; mend it there") from error
    if not isinstance(found, dict) or set(found) - set(_KEYS) or ("json" in found) == ("text" in found):
        raise ConfigError(
            f"the fixture {path} must be an object with the body as `json` or `text`, and perhaps {', '.join(_KEYS[:4])}"
        )
    content = json.dumps(found["json"], ensure_ascii=False) if "json" in found else str(found["text"])
    return Fixture(
        body=content.encode(),
        topic=found.get("topic"),
        method=found.get("method", "POST"),
        query=found.get("query", ""),
        headers={name.lower(): value for name, value in found.get("headers", {}).items()},
    )


def text_of(fixture: Fixture) -> str:
    """What stands in a `.delivery.json` file."""
    text = fixture.body.decode()
    shown: dict[str, Json] = {"topic": fixture.topic, "method": fixture.method, "query": fixture.query}
    shown = {name: value for name, value in shown.items() if value} | {"headers": dict(fixture.headers)}
    try:
        shown["json"] = json.loads(text)
    except ValueError:
        shown["text"] = text
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def explain(error: Exception, trigger: Trigger[Any], path: Path) -> str:
    """Why a fixture does not parse: the file, the place in it, and what to mend. Fixtures hold made-up people only."""
    model = trigger.payload.__name__
    cause = error.__cause__ if isinstance(error.__cause__, ValidationError) else error
    if not isinstance(cause, ValidationError):
        words = str(error) if isinstance(error, HubError) else f"{type(error).__name__}: {error}"
        return f"the fixture {path} does not parse as {trigger.type}: {words}; mend the file, or the trigger's function"
    wrong = []
    for one in cause.errors(include_url=False):
        place = ".".join(map(str, one["loc"])) or "the whole"
        mend = (
            f"add it to the file, or make it optional in {model}"
            if one["type"] == "missing"
            else f"mend the value in the file, or the type in {model}"
        )
        wrong.append(f"{place}: {unprefixed(one['msg']).lower()}; {mend}")
    return f"the fixture {path} does not parse as {trigger.type}, at {'; at '.join(wrong)}"


def require(events: list[Event], trigger: Trigger[Any], path: Path) -> list[Event]:
    """The events of this trigger; AssertionError where a fixture gives none."""
    own = [event for event in events if event.type == trigger.type]
    others = ", ".join(sorted({event.type for event in events})) or "nothing"
    assert own, (
        f"the fixture {path} parses to {others} and not to {trigger.type}: give `sample` a file that is one, or mend "
        "the trigger's function"
    )
    return own
