"""Condenses Meta's API specifications into the facts that the plugin's tests compare with.

    python tools/facebook_ads_facts.py SPEC_DIR OUT_DIR

SPEC_DIR holds the nodes of GitHub facebook/facebook-business-sdk-codegen (`api_specs/specs`, whole or cut to the edges
below); writes `graph.json` into OUT_DIR: the parameters of the edges that the connector uses, the fields of what they
return, and the enumerations among them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SOURCE = {
    "from": "GitHub facebook/facebook-business-sdk-codegen, api_specs/specs",
    "commit": "ad2b0b6f",
    "date": "2026-04-15",
    "licence": "Meta's SDK licence; facts only",
    "by": "tools/facebook_ads_facts.py",
}
# What the tests call a node: its specification, and the edges (None is the node itself) that are used of it.
_USED: Mapping[str, tuple[str, tuple[tuple[str, str | None], ...]]] = {
    "ad_account": (
        "AdAccount.subset",
        (
            ("GET", None),
            ("GET", "customaudiences"),
            ("POST", "customaudiences"),
            ("DELETE", "usersofanyaudience"),
            ("GET", "adspixels"),
        ),
    ),
    "audience": ("CustomAudience", (("GET", None), ("POST", "users"), ("DELETE", "users"), ("GET", "sessions"))),
    "pixel": ("AdsPixel", (("POST", "events"),)),
    "page": (
        "Page.subset",
        (
            ("GET", None),
            ("GET", "leadgen_forms"),
            ("GET", "subscribed_apps"),
            ("POST", "subscribed_apps"),
            ("DELETE", "subscribed_apps"),
        ),
    ),
    "form": ("LeadgenForm", (("GET", "leads"),)),
    "lead": ("Lead", (("GET", None),)),
    "app": ("Application.subset", (("GET", "subscriptions"), ("POST", "subscriptions"), ("DELETE", "subscriptions"))),
}
# Shapes inside fields and parameters.
_INNER = (
    "CustomAudienceSession",
    "CustomAudienceStatus",
    "LookalikeSpec",
    "UserLeadGenDisclaimerResponse",
    "UserLeadGenFieldData",
)
_ENUM = re.compile(r"\w+_enum_param")

Spec = Mapping[str, Any]  # a JSON object of the specifications


def facts(spec_dir: Path) -> dict[str, Any]:
    """The compact facts. Raises KeyError when an edge is not in the specifications."""
    specs = {name: _read(spec_dir, spec) for name, (spec, _) in _USED.items()}
    edges: dict[str, Any] = {}
    for node, (_, used) in _USED.items():
        known = {(api["method"], api.get("endpoint")): api for api in specs[node]["apis"]}
        edges |= {f"{method} {node}/{edge or ''}": _edge(known[method, edge]) for method, edge in used}
    enums = {enum["name"]: enum["values"] for enum in json.loads((spec_dir / "enum_types.subset.json").read_text())}
    named = set(_ENUM.findall(json.dumps(edges)))
    fields = {_type(spec): _fields(specs[node]) for node, (spec, _) in _USED.items()}
    return {
        "source": _SOURCE,
        "edges": edges,
        "fields": fields | {name: _fields(_read(spec_dir, name)) for name in _INNER},
        "enums": {name: values for name, values in enums.items() if name in named},
    }


def _edge(api: Spec) -> dict[str, Any]:
    parameters = api.get("params") or ()
    return {
        "returns": api.get("return"),
        "required": [one["name"] for one in parameters if one.get("required")],
        "parameters": {one["name"]: one["type"] for one in parameters},
    }


def _fields(spec: Spec) -> dict[str, str]:
    return {field["name"]: field["type"] for field in spec["fields"]}


def _type(spec: str) -> str:
    return spec.removesuffix(".subset")


def _read(spec_dir: Path, name: str) -> Spec:
    found: Spec = json.loads((spec_dir / f"{name}.json").read_text())
    return found


def main() -> None:
    """Write the facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    given = parser.parse_args()
    given.out_dir.mkdir(parents=True, exist_ok=True)
    target = given.out_dir / "graph.json"
    target.write_text(json.dumps(facts(given.spec_dir), indent=1, sort_keys=True) + "\n")
    print(f"{target} ({target.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
