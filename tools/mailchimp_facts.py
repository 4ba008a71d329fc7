"""Condenses Mailchimp's API descriptions into the facts that the plugin's tests compare with.

    python tools/mailchimp_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds the swagger of the Marketing and the Transactional API and the signature vectors; writes `marketing.json`,
`transactional.json` and `signatures.json` into OUT_DIR: source, version, date, and of each operation that the connectors use
its parameters and the shape of its body. Prose is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MARKETING = "marketing-3.0.55.recombined.min.json"
_TRANSACTIONAL = "transactional-1.4.1.min.json"
_VECTORS = "signature_vectors.json"
_MEMBER = "/lists/{list_id}/members/{subscriber_hash}"
_STORE = "/ecommerce/stores/{store_id}"
_SOURCES = {
    "marketing": {
        "from": "swagger of the Marketing API, split copy in GitHub api-evangelist/mailchimp, commit 649b1e630baf",
        "version": "3.0.55",
        "date": "2026-08-22",
    },
    "transactional": {
        "from": "swagger of the Transactional API in GitHub mailchimp/mailchimp-client-lib-codegen, commit 69fce6060d38",
        "version": "1.4.1",
        "date": "2026-04-30",
    },
    "signatures": {"from": "test vectors computed from the documented schemes", "version": "1", "date": "2026-11-22"},
}
_OPERATIONS = {
    "marketing": [
        "get /",
        "get /lists",
        "post /lists/{list_id}",
        "get /lists/{list_id}/members",
        f"get {_MEMBER}",
        f"put {_MEMBER}",
        f"patch {_MEMBER}",
        f"delete {_MEMBER}",
        f"post {_MEMBER}/tags",
        f"get {_MEMBER}/events",
        f"post {_MEMBER}/events",
        "get /lists/{list_id}/segments",
        "get /lists/{list_id}/tag-search",
        "get /lists/{list_id}/merge-fields",
        "get /lists/{list_id}/webhooks",
        "post /lists/{list_id}/webhooks",
        "delete /lists/{list_id}/webhooks/{webhook_id}",
        "post /customer-journeys/journeys/{journey_id}/steps/{step_id}/actions/trigger",
        "get /templates",
        "get /campaigns",
        "post /campaigns",
        "put /campaigns/{campaign_id}/content",
        "get /campaigns/{campaign_id}/send-checklist",
        "post /campaigns/{campaign_id}/actions/send",
        "get /reports",
        "get /reports/{campaign_id}/email-activity",
        "get /reports/{campaign_id}/sent-to",
        "get /ecommerce/stores",
        *(f"{method} {_STORE}/{kind}" for kind in ("carts", "orders") for method in ("get", "post")),
        f"patch {_STORE}/carts/{{cart_id}}",
        f"get {_STORE}/carts/{{cart_id}}",
        f"delete {_STORE}/carts/{{cart_id}}",
        f"patch {_STORE}/orders/{{order_id}}",
    ],
    "transactional": [
        f"post {path}"
        for path in (
            "/users/info",
            "/messages/send",
            "/messages/send-template",
            "/messages/search",
            "/rejects/list",
            "/webhooks/list",
            "/webhooks/add",
            "/webhooks/delete",
            "/templates/list",
            "/subaccounts/list",
        )
    ],
}
_KEPT = ("type", "enum", "maxLength", "minLength", "minimum", "maximum")
# Alternatives by the dozen, of which the connectors use none.
_LEFT_OUT = {"conditions", "variate_settings", "variate_contents", "rss_opts", "social_card", "attachments", "images"}
# Objects whose names are anybody's own; the description gives one as an example.
_FREE = {"metadata"}

# A JSON object of a description; its shape is what this program looks for.
Schema = Mapping[str, Any]


def shape(schema: Schema) -> dict[str, Any]:
    """What can be checked of a value: its type, limits, and of objects the fields, of which `required` must be there."""
    kept: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
    if properties := schema.get("properties"):
        fields = {name: of for name, of in properties.items() if name not in _LEFT_OUT}
        kept["fields"] = {name: {"type": "object"} if name in _FREE else shape(of) for name, of in fields.items()}
        if required := schema.get("required"):
            kept["required"] = sorted(required)
    if isinstance(schema.get("additionalProperties"), dict):
        kept["values"] = shape(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = shape(schema["items"])
    return kept


def operation(spec: Schema, name: str) -> dict[str, Any]:
    """An operation's query parameters and its body. Raises KeyError when the description does not know it."""
    method, _, path = name.partition(" ")
    parameters = spec["paths"][path][method].get("parameters", [])
    made: dict[str, Any] = {}
    if query := {p["name"]: shape(p) for p in parameters if p["in"] == "query"}:
        made["query"] = query
    if body := next((shape(p["schema"]) for p in parameters if p["in"] == "body"), None):
        made["body"] = body
    return made


def facts(kind: str, raw: bytes) -> str:
    """One file of facts: the source, then an operation a line."""
    spec = json.loads(raw)
    source = {**_SOURCES[kind], "sha256": hashlib.sha256(raw).hexdigest(), "by": "tools/mailchimp_facts.py"}
    if kind == "signatures":
        return json.dumps({"source": source, **{k: v for k, v in spec.items() if k != "about"}}, indent=1) + "\n"
    found = {name: operation(spec, name) for name in _OPERATIONS[kind]}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(of, separators=(',', ':'))}" for name, of in found.items())
    return f'{{"source": {json.dumps(source)},\n"operations": {{\n{lines}\n}}}}\n'


def main() -> None:
    """Write the facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    given = parser.parse_args()
    for kind, name in (("marketing", _MARKETING), ("transactional", _TRANSACTIONAL), ("signatures", _VECTORS)):
        target = given.out_dir / f"{kind}.json"
        target.write_text(facts(kind, (given.spec_dir / name).read_bytes()))
        print(f"{target} ({target.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
