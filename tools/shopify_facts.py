"""Cuts Shopify's API descriptions down to what the connector's operations touch, for its tests to check them against.

    python tools/shopify_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds `admin_<version>.json.gz` (GraphQL introspection) and `webhook_topics_<version>.json`; OUT_DIR gets one
`admin_<version>.json` each: source, version, date, the types as lines of GraphQL's schema language, and the topics of the
connector's triggers. Objects keep only the fields that are used, with all their arguments; inputs and enums stay whole.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_client_schema,
    get_named_type,
    is_specified_directive,
    is_specified_scalar_type,
    parse,
    validate,
    visit,
)

from hub_shopify import shopify
from hub_shopify.api import OPERATIONS
from hub_shopify.subscriptions import PRIVACY_TOPICS

_SOURCE = "introspection of the Admin GraphQL API in the npm package @shopify/dev-mcp 1.16.0 (ISC licence)"


class _Used(Visitor):
    """Collects the fields that an operation selects, by the type that has them."""

    def __init__(self, info: TypeInfo, fields: dict[str, dict[str, GraphQLField]]) -> None:
        super().__init__()
        self._info, self._fields = info, fields

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        parent, field = self._info.get_parent_type(), self._info.get_field_def()
        if parent is not None and field is not None and not node.name.value.startswith("__"):
            self._fields[parent.name][node.name.value] = field

    def enter_inline_fragment(self, node: InlineFragmentNode, *_: Any) -> None:
        if node.type_condition is not None:
            self._fields[node.type_condition.name.value] |= {}


def used_fields(schema: GraphQLSchema, documents: list[str]) -> dict[str, dict[str, GraphQLField]]:
    """The selected fields by type name. Raises SystemExit when a document does not fit the schema."""
    fields: dict[str, dict[str, GraphQLField]] = defaultdict(dict)
    for document in documents:
        parsed = parse(document)
        if errors := validate(schema, parsed):
            raise SystemExit("\n".join(map(str, errors)))
        info = TypeInfo(schema)
        visit(parsed, TypeInfoVisitor(info, _Used(info, fields)))
    return fields


def schema_lines(schema: GraphQLSchema, fields: dict[str, dict[str, GraphQLField]]) -> list[str]:
    """The used part of the schema in its own language, one definition a line, sorted by name."""
    wanted: dict[str, GraphQLNamedType] = {name: schema.type_map[name] for name in fields}
    todo = [
        get_named_type(type_)
        for selected in fields.values()
        for field in selected.values()
        for type_ in (field.type, *(arg.type for arg in field.args.values()))
    ]
    while todo:
        named = todo.pop()
        if named.name in wanted or is_specified_scalar_type(named):
            continue
        wanted[named.name] = named
        if isinstance(named, GraphQLInputObjectType):
            todo += [get_named_type(field.type) for field in named.fields.values()]
    assert schema.query_type
    assert schema.mutation_type
    roots = f"schema {{ query: {schema.query_type.name}, mutation: {schema.mutation_type.name} }}"
    return [roots, *_directives(schema), *(_definition(wanted[name], fields, wanted) for name in sorted(wanted))]


def _directives(schema: GraphQLSchema) -> list[str]:
    """Shopify's own directives; those of GraphQL itself go without saying."""
    return [
        f"directive @{d.name}({', '.join(f'{n}: {a.type}' for n, a in d.args.items())}) "
        f"on {' | '.join(location.name for location in d.locations)}"
        for d in schema.directives
        if not is_specified_directive(d)
    ]


def _definition(
    type_: GraphQLNamedType, fields: dict[str, dict[str, GraphQLField]], wanted: dict[str, GraphQLNamedType]
) -> str:
    if isinstance(type_, GraphQLScalarType):
        return f"scalar {type_.name}"
    if isinstance(type_, GraphQLEnumType):
        return f"enum {type_.name} {{ {' '.join(type_.values)} }}"
    if isinstance(type_, GraphQLUnionType):
        return f"union {type_.name} = {' | '.join(t.name for t in type_.types if t.name in fields)}"
    if isinstance(type_, GraphQLInputObjectType):
        one_of = " @oneOf" if type_.is_one_of else ""
        return f"input {type_.name}{one_of} {{ {', '.join(f'{n}: {f.type}' for n, f in type_.fields.items())} }}"
    kind = "interface" if isinstance(type_, GraphQLInterfaceType) else "type"
    assert isinstance(type_, GraphQLObjectType | GraphQLInterfaceType)
    selected = dict(fields[type_.name])
    of = [one for one in type_.interfaces if one.name in wanted]
    for interface in of:
        # What stands for an interface must have its fields, asked for or not.
        selected |= {name: type_.fields[name] for name in fields[interface.name]}
    implements = f" implements {' & '.join(one.name for one in of)}" if of else ""
    shown = ", ".join(_field(*item) for item in sorted(selected.items()))
    return f"{kind} {type_.name}{implements} {{ {shown} }}"


def _field(name: str, field: GraphQLField) -> str:
    args = ", ".join(f"{name}: {arg.type}" for name, arg in field.args.items())
    return f"{name}({args}): {field.type}" if args else f"{name}: {field.type}"


def facts(spec_dir: Path, version: str) -> dict[str, Any]:
    """The compact facts of one API version."""
    with gzip.open(spec_dir / f"admin_{version}.json.gz") as file:
        schema = build_client_schema(json.load(file)["data"], assume_valid=True)
    topics = {topic for trigger in shopify.triggers.values() for topic in trigger.topics}.difference(PRIVACY_TOPICS)
    known = json.loads((spec_dir / f"webhook_topics_{version}.json").read_text())
    return {
        "source": _SOURCE,
        "version": version,
        "made": datetime.now(UTC).date().isoformat(),
        "schema": schema_lines(schema, used_fields(schema, [operation.document for operation in OPERATIONS])),
        "topics": {row["topic"]: row["enum"] for row in known if row["topic"] in topics},
        "topic_scopes": {row["topic"]: row["scopes_any_of"] for row in known if row["topic"] in topics},
    }


def main() -> None:
    """Write the facts of every version found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    given = parser.parse_args()
    for path in sorted(given.spec_dir.glob("admin_*.json.gz")):
        version = re.sub(r"^admin_|\.json\.gz$", "", path.name)
        target = given.out_dir / f"admin_{version}.json"
        target.write_text(json.dumps(facts(given.spec_dir, version), indent=1) + "\n")
        print(f"{target} ({target.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
