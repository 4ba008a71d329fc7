"""Made-up events: a payload that fits a trigger, made from its fields, for tests and previews of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hub.clock import rfc3339
from hub.connector import Trigger
from hub.errors import ConfigError
from hub.events import Json

PERSON: Mapping[str, Json] = {
    "email": "ada@example.com",
    "phone": "+14155550100",
    "first_name": "Ada",
    "last_name": "Acar",
    "language": "en",
}
"""Somebody who does not exist."""

_PHONES = ("phone", "from_number", "to_number")
_MONEY = {"amount_minor": 7200, "currency": "EUR"}
_DEPTH = 6


def sample(trigger: Trigger[Any], at_ms: int, person: Mapping[str, Json] = PERSON) -> dict[str, Json]:
    """The payload fields of a made-up event about `person` (email, phone, names, language; None for not known).

    Fields that may be empty are filled where their name says with what. Raises ConfigError when none can be made.
    """
    schema = trigger.payload.model_json_schema(by_alias=False, mode="validation")
    made: dict[str, Json] = _Maker(schema.get("$defs", {}), at_ms, person).of("", schema, _DEPTH)
    required = schema.get("required", [])
    while True:
        try:
            trigger.recall(made)
            return made
        except ValidationError as error:
            wrong = {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]} & made.keys()
            if not wrong - set(required):
                fields = ", ".join(sorted(wrong)) or "all of it"
                raise ConfigError(
                    f"no event of {trigger.type} can be made up, because of {fields}; name a stored one with --event"
                ) from None
            made = {name: value for name, value in made.items() if name not in wrong - set(required)}


class _Maker:
    """Values for JSON Schemas."""

    def __init__(self, definitions: Mapping[str, Json], at_ms: int, person: Mapping[str, Json]) -> None:
        self._definitions, self._at, self._person = definitions, rfc3339(at_ms), person

    def of(self, name: str, schema: Mapping[str, Json], depth: int) -> Json:
        if "$ref" in schema:
            return self.of(name, self._definitions[schema["$ref"].rpartition("/")[2]], depth)
        if len(schema.get("allOf", ())) == 1:
            return self.of(name, schema["allOf"][0], depth)
        if "anyOf" in schema:
            several = schema["anyOf"]
            kinds = [one for one in several if one.get("type") != "null"]
            if len(kinds) < len(several) and not _is_told(self._resolved(kinds[0])):
                return None
            return self.of(name, kinds[0], depth)
        if "const" in schema or "enum" in schema:
            return schema.get("const", (schema.get("enum") or [None])[0])
        match schema.get("type"):
            case "object" if depth:
                return self._object(schema, depth)
            case "array" if depth and "properties" in self._resolved(schema.get("items", {})):
                return [self.of(name, schema["items"], depth - 1)]
            case "array":
                return []
            case "string":
                return self._text(name, schema)
            case "integer" | "number":
                return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            case "boolean":
                return False
        return {} if schema.get("type") == "object" else None

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json]:
        properties = schema.get("properties", {})
        if set(properties) == set(_MONEY):
            return dict(_MONEY)
        return {name: self.of(name, one, depth - 1) for name, one in properties.items()}

    def _resolved(self, schema: Mapping[str, Json]) -> Mapping[str, Json]:
        found: Mapping[str, Json] = self._definitions.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
        return found

    def _text(self, name: str, schema: Mapping[str, Json]) -> Json:
        if schema.get("format") == "date-time":
            return self._at
        for field in (*self._person, *_PHONES):
            if name == field or name.endswith(f"_{field}"):
                return self._person.get("phone" if field in _PHONES else field)
        if name.endswith("url"):
            return f"https://example.com/{name.removesuffix('url').strip('_')}"
        if name == "channel":
            return "sms"
        return f"{name.replace('_', '-')}-1"


def _is_told(schema: Mapping[str, Json]) -> bool:
    """Whether a field that may be empty is filled: with text or money it is, with a choice, an instant or a number it is not."""
    if set(schema.get("properties", ())) == set(_MONEY):
        return True
    return schema.get("type") == "string" and "format" not in schema and "enum" not in schema
