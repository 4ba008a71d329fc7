"""Condenses Twilio's OpenAPI documents into the facts that the plugin's tests compare with.

    python tools/twilio_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds the documents of GitHub twilio/twilio-oai (`spec/json`); writes `api.json` into OUT_DIR: of each operation that
the connector uses its parameters, and the shapes of what is answered. Prose is left out, but for the limits in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FORM = "application/x-www-form-urlencoded"
_LIMITS = ("type", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "enum", "nullable")
# Limits that the documents state only in their prose.
_CHARACTERS = re.compile(r"up to ([\d,]+) characters in length")
_RANGE = re.compile(r"integers from `(\d+)` to `(\d+)`")

_ACCOUNT = "/2010-04-01/Accounts/{AccountSid}"
_OPERATIONS = {
    "twilio_api_v2010.json": [
        "get /2010-04-01/Accounts/{Sid}.json",
        f"get {_ACCOUNT}/Messages.json",
        f"post {_ACCOUNT}/Messages.json",
        f"get {_ACCOUNT}/Messages/{{Sid}}.json",
        f"post {_ACCOUNT}/Messages/{{Sid}}.json",
        f"get {_ACCOUNT}/Messages/{{MessageSid}}/Media.json",
        f"get {_ACCOUNT}/Calls.json",
        f"get {_ACCOUNT}/IncomingPhoneNumbers.json",
        f"post {_ACCOUNT}/IncomingPhoneNumbers/{{Sid}}.json",
        f"get {_ACCOUNT}/SMS/ShortCodes.json",
    ],
    "twilio_messaging_v1.json": ["get /v1/Services", "get /v1/Services/{Sid}", "post /v1/Services/{Sid}"],
    "twilio_messaging_v2.json": ["get /v2/Channels/Senders"],
    "twilio_lookups_v2.json": ["get /v2/PhoneNumbers/{PhoneNumber}"],
}
_RESOURCES = {
    "twilio_api_v2010.json": {
        "message": "api.v2010.account.message",
        "media": "api.v2010.account.message.media",
        "call": "api.v2010.account.call",
        "number": "api.v2010.account.incoming_phone_number",
        "short_code": "api.v2010.account.short_code",
    },
    "twilio_messaging_v1.json": {"service": "messaging.v1.service"},
    "twilio_messaging_v2.json": {"sender": "messaging.v2.channels_sender_response"},
    "twilio_lookups_v2.json": {"lookup": "LookupResponse", "line": "LineTypeIntelligenceInfo"},
}
_ENUMS = {"twilio_api_v2010.json": {"message_status": "message_enum_status", "call_status": "call_enum_status"}}

# The documents name neither their release nor their date: (release, date) by SHA-256 of each file.
_RELEASES = {
    "99cae87a6bb1725f71363364cbd30282a13140374b2d5f9bdd5bdfa5d4c8a6d7": ("2.6.7", "2026-04-14"),
    "ef8fb6b6bfee2334d3cad7ca58568a8984165a4337e7dbb1753d1c257a9e8a52": ("2.6.7", "2026-04-14"),
    "05846095ee959c6c6bf382cea34fc0bc1e149cba78b42303b3dcb495b101ef4e": ("2.6.7", "2026-04-14"),
    "306ca9c1653700ec2e1dd0154dc3bbab7cd0480124e8332e4ac17597771b4120": ("2.6.7", "2026-04-14"),
}

# A JSON object of a document; its shape is what this program looks for.
Schema = Mapping[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description="Condense Twilio's OpenAPI documents into test facts.")
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    options = parser.parse_args(argv)
    sources: list[dict[str, str]] = []
    found: dict[str, Any] = {"operations": [], "resources": {}, "enums": {}}
    for name in _OPERATIONS:
        raw = (options.spec_dir / name).read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        if digest not in _RELEASES:
            print(f"{name} has the unknown SHA-256 {digest}: add its release and date to _RELEASES", file=sys.stderr)
            return 1
        release, date = _RELEASES[digest]
        sources.append({"file": name, "release": release, "date": date, "sha256": digest})
        _add(found, name, json.loads(raw))
    source = {
        "from": "GitHub twilio/twilio-oai, spec/json",
        "licence": "MIT",
        "files": sources,
        "by": "tools/twilio_facts.py",
    }
    options.out_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"source": source, **found}, indent=1, sort_keys=True)
    (options.out_dir / "api.json").write_text(text + "\n")
    return 0


def _add(found: dict[str, Any], name: str, spec: Schema) -> None:
    """Add what one document says of the operations, resources and enums that are wanted of it."""
    schemas = spec["components"]["schemas"]
    found["operations"] += [_operation(spec, *wanted.split(" ")) for wanted in _OPERATIONS[name]]
    for kind, schema in _RESOURCES[name].items():
        properties = schemas[schema]["properties"]
        found["resources"][kind] = {field: _limits(one, schemas) for field, one in properties.items()}
    for kind, schema in _ENUMS.get(name, {}).items():
        found["enums"][kind] = schemas[schema]["enum"]


def _operation(spec: Schema, method: str, path: str) -> dict[str, Any]:
    """One operation: its host, and the parameters in its path, its query and its form."""
    schemas, place = spec["components"]["schemas"], spec["paths"][path]
    operation = place[method]
    given: dict[str, dict[str, object]] = {"path": {}, "query": {}}
    required = []
    for one in operation.get("parameters", []):
        given[one["in"]][one["name"]] = _limits(one["schema"], schemas)
        if one.get("required"):
            required.append(one["name"])
    form = operation.get("requestBody", {}).get("content", {}).get(_FORM, {}).get("schema", {})
    return {
        "method": method.upper(),
        "host": place["servers"][0]["url"].removeprefix("https://"),
        "path": path,
        "parameters": given["path"],
        "query": given["query"],
        "form": {name: _limits(schema, schemas) for name, schema in form.get("properties", {}).items()},
        "required": sorted({*required, *form.get("required", [])}),
    }


def _limits(schema: Schema, schemas: Schema) -> dict[str, object]:
    if reference := schema.get("$ref"):
        schema = schemas[reference.rpartition("/")[2]]
    kept = {name: schema[name] for name in _LIMITS if name in schema}
    if match := _CHARACTERS.search(schema.get("description", "")):
        kept["maxLength"] = int(match[1].replace(",", ""))
    if match := _RANGE.search(schema.get("description", "")):
        kept["minimum"], kept["maximum"] = int(match[1]), int(match[2])
    if "items" in schema:
        kept["items"] = _limits(schema["items"], schemas)
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
