"""Condenses Twilio's OpenAPI document into the facts that the plugin's tests compare with.

    python tools/twilio_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds `twilio_api_v2010.json` of GitHub twilio/twilio-oai (`spec/json`); writes `messages.json` into OUT_DIR.
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

SPEC = "twilio_api_v2010.json"
_PATH = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
_FORM = "application/x-www-form-urlencoded"
_LIMITS = ("type", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "enum", "nullable")
# Limits that the document states only in its prose.
_CHARACTERS = re.compile(r"up to ([\d,]+) characters in length")
_RANGE = re.compile(r"integers from `(\d+)` to `(\d+)`")

# The document itself names neither its release nor its date: (release, date) by SHA-256 of the file.
_RELEASES = {
    "99cae87a6bb1725f71363364cbd30282a13140374b2d5f9bdd5bdfa5d4c8a6d7": ("2.6.7", "2026-04-14"),
}

# A JSON object of the document; its shape is what this program looks for.
Schema = Mapping[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description="Condense Twilio's OpenAPI document into test facts.")
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    options = parser.parse_args(argv)
    raw = (options.spec_dir / SPEC).read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest not in _RELEASES:
        print(f"{SPEC} has the unknown SHA-256 {digest}: add its release and date to _RELEASES", file=sys.stderr)
        return 1
    release, date = _RELEASES[digest]
    source = {
        "from": f"GitHub twilio/twilio-oai, spec/json/{SPEC}",
        "licence": "MIT",
        "release": release,
        "date": date,
        "sha256": digest,
        "by": "tools/twilio_facts.py",
    }
    options.out_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"source": source, **facts(json.loads(raw))}, indent=1, sort_keys=True)
    (options.out_dir / "messages.json").write_text(text + "\n")
    return 0


def facts(spec: Schema) -> dict[str, object]:
    """Parameters of sending and listing, the Message resource and its statuses; of the prose only the limits."""
    path, schemas = spec["paths"][_PATH], spec["components"]["schemas"]
    form = path["post"]["requestBody"]["content"][_FORM]["schema"]
    message = schemas["api.v2010.account.message"]["properties"]
    return {
        "create": {
            "required": form["required"],
            "parameters": {name: _limits(schema, schemas) for name, schema in form["properties"].items()},
        },
        "list": {p["name"]: _limits(p["schema"], schemas) for p in path["get"]["parameters"] if p["in"] == "query"},
        "message": {name: _limits(schema, schemas) for name, schema in message.items()},
        "statuses": schemas["message_enum_status"]["enum"],
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
