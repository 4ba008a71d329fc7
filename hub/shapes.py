"""What a dotted path will hold, known before anything runs: follows paths through JSON Schemas of payloads and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic import BaseModel

from hub.events import Json

_SIZED = {"array", "string", "object"}


@dataclass(frozen=True)
class Shape:
    """One place of a JSON value. An empty schema may hold anything.

    `optional` names fields that are there on some paths only, `definitions` are the schema's `$defs`.
    """

    schema: Mapping[str, Json] = field(default_factory=dict)
    definitions: Mapping[str, Json] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def names(self) -> list[str]:
        """The fields it is known to have."""
        return sorted({name for one in self._variants() for name in one.get("properties", {})})

    def kinds(self) -> frozenset[str]:
        """What it may be: JSON types beside null, with `money` and `time` for these; empty when it may be anything."""
        return frozenset(kind for one in self._variants() for kind in _kinds(one))

    def choices(self) -> list[Json] | None:
        """The values it is limited to, or None."""
        found: list[Json] = []
        for one in self._variants():
            if "const" in one:
                found.append(one["const"])
            elif "enum" in one:
                found.extend(one["enum"])
            else:
                return None
        return found or None

    def child(self, name: str) -> Shape | None:
        """The shape of a field or index below, or None when there can be none."""
        variants = self._variants()
        if not variants:
            return Shape()
        for one in variants:
            if (found := _child(one, name)) is not None:
                return Shape(found, self.definitions)
        return None

    def _variants(self) -> list[Mapping[str, Json]]:
        """The schemas it may follow, references resolved, null left out; empty when it may be anything."""
        found: list[Mapping[str, Json]] = []
        pending = [self.schema]
        while pending:
            one = pending.pop()
            if "$ref" in one:
                pending.append(self.definitions.get(one["$ref"].rpartition("/")[2], {}))
            elif "anyOf" in one or "oneOf" in one:
                pending.extend(one.get("anyOf") or one["oneOf"])
            elif len(one.get("allOf", ())) == 1:
                pending.append(one["allOf"][0])
            elif one.get("type") != "null":
                if not {"type", "properties", "enum", "const"} & one.keys():
                    return []
                found.append(one)
        return found


def _kinds(schema: Mapping[str, Json]) -> Iterable[str]:
    if set(schema.get("properties", {})) == {"amount_minor", "currency"}:
        return ("money",)
    if schema.get("format") == "date-time":
        return ("time",)
    kind = schema.get("type")
    if kind is None and "enum" in schema:
        return {_json_type(value) for value in schema["enum"]}
    if kind is None and "const" in schema:
        return (_json_type(schema["const"]),)
    kinds = kind if isinstance(kind, list) else [kind or "object"]
    return ("number" if k == "integer" else k for k in kinds if k != "null")


def _json_type(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"


def _child(schema: Mapping[str, Json], name: str) -> Mapping[str, Json] | None:
    if name in schema.get("properties", {}):
        found: Mapping[str, Json] = schema["properties"][name]
        return found
    if name == "size" and schema.get("type") in _SIZED:
        return {"type": "integer"}
    if schema.get("type") == "array" and (name.lstrip("-").isdigit() or name in ("first", "last")):
        items: Mapping[str, Json] = schema.get("items", {})
        return items
    more = schema.get("additionalProperties", "properties" not in schema)
    if schema.get("type") == "object" and more:
        return more if isinstance(more, Mapping) else {}
    return None


def of_fields(fields: Mapping[str, Shape]) -> Shape:
    """An object with these fields and no others."""
    definitions = {name: d for shape in fields.values() for name, d in shape.definitions.items()}
    properties = {name: shape.schema for name, shape in fields.items()}
    return Shape({"type": "object", "properties": properties, "additionalProperties": False}, definitions)


TEXT = Shape({"type": "string"})
TIME = Shape({"type": "string", "format": "date-time"})
TEXTS = Shape({"type": "array", "items": {"type": "string"}})
ANY = Shape()


def of_model(model: type[BaseModel]) -> Shape:
    """The shape of a model's values as JSON."""
    return _of_model(model)


@lru_cache(maxsize=1024)
def _of_model(model: type[BaseModel]) -> Shape:
    schema = model.model_json_schema(mode="serialization")
    return Shape({k: v for k, v in schema.items() if k != "$defs"}, schema.get("$defs", {}))


def common(shapes: Sequence[Shape]) -> Shape:
    """What all of several objects have: the fields every one of them knows, of the first one's shape."""
    if len(shapes) == 1:
        return shapes[0]
    shared = set.intersection(*(set(shape.names()) for shape in shapes)) if shapes else set()
    return of_fields({name: shapes[0].child(name) or ANY for name in sorted(shared)})


def merged(shapes: Sequence[Shape]) -> Shape:
    """What any of several objects has: the fields at least one of them knows."""
    if len(shapes) == 1:
        return shapes[0]
    fields: dict[str, Shape] = {}
    for shape in shapes:
        for name in shape.names():
            fields.setdefault(name, shape.child(name) or ANY)
    return of_fields(fields)
