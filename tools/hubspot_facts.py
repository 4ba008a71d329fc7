"""Condenses what is known of HubSpot's API into the facts that the plugin's tests compare with.

    python tools/hubspot_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds the index of the Python package hubspot-api-client (`hubspot-api-client-12.0.0.index.json`: endpoints and
models by name and type) and hand-written facts beside it (`extra_endpoints.json`, `version_paths.json`, `constants.json`,
`signature_vectors.json`). Writes `api.json` (only what the connector uses) and `signature_vectors.json` into OUT_DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX = "hubspot-api-client-12.0.0.index.json"
_DATE = "2026-11-22"

# What the connector asks for, by the package's groups.
_OPERATIONS = {
    "crm.contacts": [
        "GET /crm/v3/objects/contacts",
        "GET /crm/v3/objects/contacts/{contactId}",
        "PATCH /crm/v3/objects/contacts/{contactId}",
        "POST /crm/v3/objects/contacts/batch/read",
        "POST /crm/v3/objects/contacts/batch/upsert",
        "POST /crm/v3/objects/contacts/search",
    ],
    "crm.deals": [
        "GET /crm/v3/objects/deals",
        "POST /crm/v3/objects/deals",
        "PATCH /crm/v3/objects/deals/{dealId}",
        "POST /crm/v3/objects/deals/batch/read",
        "POST /crm/v3/objects/deals/search",
    ],
    "crm.tickets": [
        "GET /crm/v3/objects/tickets",
        "POST /crm/v3/objects/tickets",
        "PATCH /crm/v3/objects/tickets/{ticketId}",
        "POST /crm/v3/objects/tickets/batch/read",
        "POST /crm/v3/objects/tickets/search",
    ],
    "crm.objects.notes": ["POST /crm/v3/objects/notes", "POST /crm/v3/objects/notes/batch/read"],
    "crm.objects.tasks": ["POST /crm/v3/objects/tasks", "POST /crm/v3/objects/tasks/batch/read"],
    "crm.associations.v4": [
        "GET /crm/v4/objects/{objectType}/{objectId}/associations/{toObjectType}",
        "POST /crm/v4/associations/{fromObjectType}/{toObjectType}/batch/read",
    ],
    "crm.owners": ["GET /crm/v3/owners/"],
    "crm.pipelines": ["GET /crm/v3/pipelines/{objectType}"],
    "crm.properties": ["GET /crm/v3/properties/{objectType}/{propertyName}"],
    "crm.lists": [
        "GET /crm/v3/lists/{listId}",
        "GET /crm/v3/lists/{listId}/memberships",
        "GET /crm/v3/lists/{listId}/memberships/join-order",
        "POST /crm/v3/lists/search",
        "PUT /crm/v3/lists/{listId}/memberships/add",
        "PUT /crm/v3/lists/{listId}/memberships/remove",
    ],
    "marketing.emails": ["GET /marketing/v3/emails/"],
    "marketing.forms": ["GET /marketing/v3/forms/"],
    "marketing.transactional": ["POST /marketing/v3/transactional/single-email/send"],
}
# What the package lacks, or has less of, by the names of the hand-written facts.
_EXTRA = [
    "account details (connection test)",
    "private token information",
    "marketing single send",
    "subscription status, set",
    "subscription status, get",
    "unsubscribed from all?",
    "subscription definitions",
    "form submissions",
    "legacy e-mail events",
    "send custom event",
]
# The package takes sort orders for text; HubSpot's page "Search the CRM" and public connectors send objects.
_CORRECTED = {("PublicObjectSearchRequest", "sorts"): {"type": "list[object]"}}
_MODEL = re.compile(r"\b[A-Z]\w+")


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 when the facts are written."""
    parser = argparse.ArgumentParser(description="Condense what is known of HubSpot's API into test facts.")
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    options = parser.parse_args(argv)
    found = {name: (options.spec_dir / name).read_bytes() for name in _names()}
    source = {
        "from": "Python package hubspot-api-client 12.0.0 (Apache-2.0), and hand-written facts",
        "date": _DATE,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in found.items()},
        "by": "tools/hubspot_facts.py",
    }
    read = {name: json.loads(content) for name, content in found.items()}
    options.out_dir.mkdir(parents=True, exist_ok=True)
    written = {
        "api.json": facts(read),
        "signature_vectors.json": {"vectors": read["signature_vectors.json"]["vectors"]},
    }
    for name, content in written.items():
        text = json.dumps({"source": source, **content}, indent=1, sort_keys=True, ensure_ascii=False)
        (options.out_dir / name).write_text(text + "\n")
    return 0


def _names() -> list[str]:
    return [INDEX, "extra_endpoints.json", "version_paths.json", "constants.json", "signature_vectors.json"]


def facts(read: Mapping[str, Any]) -> dict[str, object]:
    """Operations with their query and body, the models of these bodies, the dated paths, and constants."""
    apis, constants = read[INDEX]["apis"], read["constants.json"]
    operations: list[dict[str, object]] = []
    models: dict[str, object] = {}
    for group, wanted in _OPERATIONS.items():
        known = {f"{o['method']} {o['path']}": o for o in apis[group]["operations"]}
        for name in wanted:
            operation = known[name]
            operations.append(_operation(operation, sorted(operation.get("query", {})), operation.get("body")))
            models |= _models(operation.get("body") or "", apis[group]["models"])
    extra = {one["name"]: one for one in read["extra_endpoints.json"]["endpoints"]}
    for name in _EXTRA:
        one, body = extra[name], None
        if "body" in one:
            body = name.title().replace(" ", "").replace(",", "")
            models |= _hand_written(body, one["body"])
        query = [re.split(r"[ *=(]", entry)[0] for entry in one.get("query", [])]
        operations.append(_operation(one, sorted(query), body))
    return {
        "operations": operations,
        "models": models,
        "dated": [
            {"numbered": one["semantic"], "dated": one["dated"].split(" , ")}
            for one in read["version_paths.json"]["paths"]
            if one["semantic"]
        ],
        "ends": read["version_paths.json"]["semantic_versions_end"],
        "support_months": read["version_paths.json"]["date_versions"]["support_months"],
        "association_types": constants["association_type_ids_HUBSPOT_DEFINED"],
        "webhook_event_types": constants["webhook_event_types"],
        "search_operators": constants["search_operators"],
        "limits": constants["batch_limits"],
        "object_types": constants["object_type_ids"],
    }


def _operation(one: Mapping[str, Any], query: list[str], body: str | None) -> dict[str, object]:
    return {"method": one["method"], "path": one["path"].rstrip("/"), "query": query, "body": body}


def _models(name: str, known: Mapping[str, Any]) -> dict[str, object]:
    """The model of a body and those that it is made of."""
    found: dict[str, object] = {}
    waiting = _MODEL.findall(name)
    while waiting:
        model = waiting.pop()
        if model in found or model not in known:
            continue
        fields = {field: dict(_CORRECTED.get((model, field), spec)) for field, spec in known[model].items()}
        found[model] = fields
        waiting += [inner for spec in fields.values() for inner in _MODEL.findall(spec["type"])]
    return found


def _hand_written(name: str, body: Mapping[str, Any]) -> dict[str, object]:
    """A body that was written down as `{"field*": "type, a remark"}`; an asterisk says that it must be there."""
    fields: dict[str, object] = {}
    inner: dict[str, object] = {}
    for key, told in body.items():
        field = key.rstrip("*")
        spec: dict[str, object] = {"type": "object"}
        if isinstance(told, dict):
            model = f"{name}{field.title()}"
            spec = {"type": model}
            inner |= _hand_written(model, told)
        elif told.startswith("[string]"):
            spec = {"type": "list[str]"}
        elif re.fullmatch(r"[A-Z_]+(\|[A-Z_]+)*", told):
            spec = {"type": "str", "enum": told.split("|")}
        elif (word := re.split(r"[ ,]", told)[0]) in ("int", "string", "date-time"):
            spec = {"type": {"int": "int", "string": "str", "date-time": "datetime"}[word]}
        fields[field] = {**spec, **({"required": True} if key.endswith("*") else {})}
    return {name: fields, **inner}


if __name__ == "__main__":
    raise SystemExit(main())
