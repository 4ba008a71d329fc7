"""What the sandbox does for each node and edge: required parameters, limits, and the refusals of Meta's guides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hub_facebook_ads.sandbox.answers import Fields, GraphError, hidden, invalid, paged, picked
from hub_facebook_ads.sandbox.business import APP_ID, MOST_AUDIENCES, Business

Record = Callable[..., None]

_HEX = re.compile(r"[0-9a-f]{64}")
_PLAIN = {"EXTERN_ID", "MADID", "APPUID", "PAGEUID", "LOOKALIKE_VALUE"}
_KNOWN = {
    "EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY", "MADID", "EXTERN_ID",
    "DATA_PROCESSING_OPTIONS", "DATA_PROCESSING_OPTIONS_COUNTRY", "DATA_PROCESSING_OPTIONS_STATE",
}  # fmt: skip
_SOURCES = {"USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"}
_ACTION_SOURCES = {
    "email", "website", "app", "phone_call", "chat", "physical_store", "system_generated", "business_messaging", "other",
}  # fmt: skip
_MOST_ROWS, _MOST_EVENTS = 10_000, 1000
_DAY_S = 86_400
_LEAD_USUAL = ("created_time", "id", "field_data")


class Graph:
    """One call on one business. `record` notes what was carried out."""

    def __init__(self, business: Business, asked: Fields, now_ms: int, url: str, record: Record) -> None:
        self._of, self._asked, self._now_ms, self._url = business, asked, now_ms, url
        self._record = record

    def answer(self, method: str, node: str, edge: str | None) -> Fields:
        """The body of the answer. Raises GraphError."""
        kind = self.kind(node)
        found = _HANDLERS.get((method, kind, edge))
        if found is None:
            raise GraphError(100, f"Unsupported {method.lower()} request: {kind} has no such edge")
        return found(self, node)

    def kind(self, node: str) -> str:
        of = self._of
        kinds = {
            "ad_account": {of.ad_account["id"]},
            "page": {of.page["id"]},
            "me": {"me"},
            "audience": of.audiences,
            "campaign": of.campaigns,
            "ad_set": of.ad_sets,
            "pixel": of.pixels,
            "form": of.forms,
            "lead": of.leads,
        }
        kind = next((kind for kind, ids in kinds.items() if node in ids), None)
        if kind is None:
            raise hidden(node)
        return kind

    def _page(self, nodes: list[Fields], *usual: str) -> Fields:
        return paged(nodes, self._asked, usual, self._url)

    def _needed(self, name: str) -> Any:
        value = self._asked.get(name)
        if value in (None, ""):
            raise invalid(f"The parameter {name} is required.", name)
        return value

    # -- reading -------------------------------------------------------------------------------------------------------

    def ad_account(self, node: str) -> Fields:
        return picked(self._of.ad_account, self._asked.get("fields"), ("account_id",))

    def page(self, node: str) -> Fields:
        return picked(self._of.page, self._asked.get("fields"), ("name",))

    def campaign(self, node: str) -> Fields:
        return picked(self._of.campaigns[node], self._asked.get("fields"), ())

    def audience(self, node: str) -> Fields:
        return picked(self._of.audiences[node], self._asked.get("fields"), ())

    def accounts(self, node: str) -> Fields:
        return self._page([self._of.page], "name")

    def campaigns(self, node: str) -> Fields:
        return self._page(list(self._of.campaigns.values()))

    def ad_sets(self, node: str) -> Fields:
        return self._page(list(self._of.ad_sets.values()))

    def pixels(self, node: str) -> Fields:
        return self._page(list(self._of.pixels.values()))

    def audiences(self, node: str) -> Fields:
        return self._page(list(self._of.audiences.values()))

    def forms(self, node: str) -> Fields:
        return self._page(list(self._of.forms.values()), "name", "status")

    def lead(self, node: str) -> Fields:
        return picked(_written(self._of.leads[node]), self._asked.get("fields"), _LEAD_USUAL)

    def leads(self, node: str) -> Fields:
        found = [lead for lead in self._of.leads.values() if lead["form_id"] == node and self._passes(lead)]
        newest = sorted(found, key=lambda lead: (-lead["created_time"], lead["id"]))
        return self._page([_written(lead) for lead in newest], *_LEAD_USUAL)

    def _passes(self, lead: Fields) -> bool:
        for one in self._asked.get("filtering") or ():
            if one.get("field") != "time_created" or one.get("operator") not in _COMPARED:
                raise invalid("Filtering field or operator is not supported", "filtering")
            if not _COMPARED[one["operator"]](lead["created_time"], int(one["value"])):
                return False
        return True

    def session(self, node: str) -> Fields:
        wanted = int(self._asked.get("session_id") or 0)
        sessions = self._of.sessions.items()
        found = [one for (audience, number), one in sessions if audience == node and wanted in {0, number}]
        return {"data": found}

    # -- audiences -----------------------------------------------------------------------------------------------------

    def create_audience(self, node: str) -> Fields:
        of, subtype = self._of, self._asked.get("subtype")
        if not of.terms_accepted:
            raise GraphError(200, "Custom Audience Terms Not Accepted", subcode=1870090)
        name = self._needed("name")
        given: Fields = {"subtype": subtype, "description": str(self._asked.get("description") or "")}
        if subtype == "CUSTOM":
            if self._needed("customer_file_source") not in _SOURCES:
                raise invalid("customer_file_source must be one of the known", "customer_file_source")
        elif subtype == "LOOKALIKE":
            origin, spec = str(self._needed("origin_audience_id")), self._needed("lookalike_spec")
            spec = json.loads(spec) if isinstance(spec, str) else spec
            if origin not in of.audiences:
                raise hidden(origin)
            if not (isinstance(spec, dict) and spec.get("country") and 0.01 <= float(spec.get("ratio", 0)) <= 0.2):
                raise invalid("lookalike_spec needs a country and a ratio from 0.01 to 0.20", "lookalike_spec")
            given["lookalike_spec"] = spec
        else:
            raise invalid("subtype must be CUSTOM or LOOKALIKE here", "subtype")
        if sum(one["subtype"] == subtype for one in of.audiences.values()) >= MOST_AUDIENCES:
            raise GraphError(2654, "Too many audiences")
        made = of.audience(name, **given)
        self._record("create_audience", of.account, id=made["id"], name=name, **given)
        return {"id": made["id"]}

    def add_users(self, node: str) -> Fields:
        return self._users(node, "add_users", self._of.add)

    def remove_users(self, node: str) -> Fields:
        return self._users(node, "remove_users", self._of.remove)

    def _users(self, node: str, operation: str, change: Callable[..., None]) -> Fields:
        if self._of.audiences[node]["operation_status"]["code"] == 471:
            raise GraphError(100, "Invalid parameter", subcode=1713230, error_user_title="Audience Upload Blocked")
        schema, rows, bad = self._rows()
        change(node, [frozenset(row) for row in rows if row])
        self._record(
            operation, self._of.account, audience=node, schema=schema, rows=rows, session=self._asked.get("session")
        )
        return self._received(node, len(rows), bad)

    def forget_users(self, node: str) -> Fields:
        schema, rows, bad = self._rows()
        for audience in self._of.audiences:
            self._of.remove(audience, [frozenset(row) for row in rows])
        self._record("forget_users", self._of.account, schema=schema, rows=rows, session=self._asked.get("session"))
        return self._received(node, len(rows), bad)

    def _rows(self) -> tuple[list[str], list[list[tuple[str, str]]], dict[str, str]]:
        """The schema, each row as pairs of what is known, and the invalid cells with why."""
        payload = self._needed("payload")
        schema, data = payload.get("schema"), payload.get("data")
        if isinstance(schema, str):
            raise GraphError(
                2650, "created from data source FILE_IMPORTED.MULTI_HASHES, which does not support this schema"
            )
        if not isinstance(schema, list) or not schema or not set(schema) <= _KNOWN:
            raise invalid("payload: schema must list known keys", "payload")
        if not isinstance(data, list) or not data:
            raise invalid("payload: data is missing", "payload")
        if len(data) > _MOST_ROWS:
            raise GraphError(1, "An unknown error occurred", subcode=99, status=500)
        if any(not isinstance(row, list) or len(row) != len(schema) for row in data):
            raise invalid("payload: each row needs a value for each key of the schema", "payload")
        rows: list[list[tuple[str, str]]] = []
        bad: dict[str, str] = {}
        for row in data:
            pairs = [(key, cell) for key, cell in zip(schema, row, strict=True) if isinstance(cell, str) and cell]
            wrong = {
                cell: f"{key} must be hashed" for key, cell in pairs if key not in _PLAIN and not _HEX.fullmatch(cell)
            }
            bad |= wrong
            rows.append([pair for pair in pairs if pair[1] not in wrong])
        return schema, rows, bad

    def _received(self, node: str, count: int, bad: dict[str, str]) -> Fields:
        session = self._asked.get("session") or {}
        number = session.get("session_id", 0)
        if session and not (isinstance(number, int) and 0 < number < 2**63 and session.get("batch_seq", 0) >= 1):
            raise invalid("session: session_id and batch_seq must be positive", "session")
        self._of.sessions[node, number] = {
            "session_id": str(number),
            "stage": "preprocessing" if not session.get("last_batch_flag") else "uploading",
            "num_received": str(count),
            "num_invalid_entries": str(len(bad)),
        }
        return {
            "audience_id": node,
            "session_id": str(number),
            "num_received": count,
            "num_invalid_entries": len(bad),
            "invalid_entry_samples": bad,
        }

    # -- events --------------------------------------------------------------------------------------------------------

    def send_events(self, node: str) -> Fields:
        data = self._needed("data")
        if not isinstance(data, list) or not 0 < len(data) <= _MOST_EVENTS:
            raise invalid(f"data must hold 1 to {_MOST_EVENTS} events", "data")
        # One that is wrong has all of them refused.
        data = [json.loads(event) if isinstance(event, str) else event for event in data]
        for at, event in enumerate(data):
            self._check(at, event)
        for event in data:
            if self._of.counts(node, event, self._now_ms):
                self._record("event", self._of.account, pixel=node, **event)
        return {"events_received": len(data), "messages": [], "fbtrace_id": "sandbox"}

    def _check(self, at: int, event: Fields) -> None:
        for name in ("event_name", "event_time", "user_data", "action_source"):
            if not event.get(name):
                raise invalid(f"data: {name} is missing", "data", str(at), name)
        source = event["action_source"]
        if source not in _ACTION_SOURCES:
            raise invalid("data: action_source is not known", "data", str(at), "action_source")
        hashed = (set(event["user_data"]) & {"em", "ph", "ge", "db", "ln", "fn", "ct", "st", "zp", "country"}) or ()
        for name in hashed:
            values = event["user_data"][name]
            if not all(_HEX.fullmatch(value) for value in (values if isinstance(values, list) else [values])):
                raise invalid("data: user_data must be hashed", "data", str(at), "user_data", name)
        if not re.fullmatch(r"[A-Z]{3}", str(event.get("custom_data", {}).get("currency", "EUR"))):
            raise invalid("data: currency is no ISO 4217 code", "data", str(at), "custom_data", "currency")
        age_s = self._now_ms / 1000 - int(event["event_time"])
        if age_s > _DAY_S * (62 if source == "physical_store" else 7):
            raise GraphError(100, "Invalid parameter", subcode=2804003, error_user_title="Event Timestamp Too Old")

    # -- campaigns and the Page ----------------------------------------------------------------------------------------

    def change_campaign(self, node: str) -> Fields:
        return self._change(self._of.campaigns[node])

    def change_ad_set(self, node: str) -> Fields:
        return self._change(self._of.ad_sets[node])

    def _change(self, node: Fields) -> Fields:
        wanted: Fields = {
            name: str(self._asked[name])
            for name in ("status", "daily_budget", "lifetime_budget")
            if name in self._asked
        }
        if wanted.get("status", "PAUSED") not in {"ACTIVE", "PAUSED"}:
            raise invalid("status must be ACTIVE or PAUSED", "status")
        for name in ("daily_budget", "lifetime_budget"):
            if name in wanted and not wanted[name].isdecimal():
                raise invalid(f"{name} must be a whole number", name)
        node.update(wanted)
        self._record("change", self._of.account, id=node["id"], **wanted)
        return {"success": True}

    def subscribe(self, node: str) -> Fields:
        wanted = self._needed("subscribed_fields")
        fields = wanted if isinstance(wanted, list) else str(wanted).split(",")
        self._of.subscribed[APP_ID] = fields
        self._record("subscribe", self._of.account, page=node, fields=fields)
        return {"success": True}

    def unsubscribe(self, node: str) -> Fields:
        self._of.subscribed.pop(APP_ID, None)
        self._record("unsubscribe", self._of.account, page=node)
        return {"success": True}

    def subscriptions(self, node: str) -> Fields:
        apps = [{"id": app, "name": "An app", "subscribed_fields": names} for app, names in self._of.subscribed.items()]
        return {"data": apps}


_COMPARED: dict[str, Callable[[int, int], bool]] = {
    "GREATER_THAN": lambda a, b: a > b,
    "GREATER_THAN_OR_EQUAL": lambda a, b: a >= b,
    "LESS_THAN": lambda a, b: a < b,
}
_HANDLERS: dict[tuple[str, str, str | None], Callable[[Graph, str], Fields]] = {
    ("GET", "ad_account", None): Graph.ad_account,
    ("GET", "ad_account", "customaudiences"): Graph.audiences,
    ("POST", "ad_account", "customaudiences"): Graph.create_audience,
    ("DELETE", "ad_account", "usersofanyaudience"): Graph.forget_users,
    ("GET", "ad_account", "campaigns"): Graph.campaigns,
    ("GET", "ad_account", "adsets"): Graph.ad_sets,
    ("GET", "ad_account", "adspixels"): Graph.pixels,
    ("GET", "audience", None): Graph.audience,
    ("POST", "audience", "users"): Graph.add_users,
    ("DELETE", "audience", "users"): Graph.remove_users,
    ("GET", "audience", "sessions"): Graph.session,
    ("GET", "campaign", None): Graph.campaign,
    ("POST", "campaign", None): Graph.change_campaign,
    ("POST", "ad_set", None): Graph.change_ad_set,
    ("POST", "pixel", "events"): Graph.send_events,
    ("GET", "me", "accounts"): Graph.accounts,
    ("GET", "page", None): Graph.page,
    ("GET", "page", "leadgen_forms"): Graph.forms,
    ("GET", "page", "subscribed_apps"): Graph.subscriptions,
    ("POST", "page", "subscribed_apps"): Graph.subscribe,
    ("DELETE", "page", "subscribed_apps"): Graph.unsubscribe,
    ("GET", "form", "leads"): Graph.leads,
    ("GET", "lead", None): Graph.lead,
}


def _written(lead: Fields) -> Fields:
    at = datetime.fromtimestamp(lead["created_time"], UTC)
    return {**lead, "created_time": f"{at:%Y-%m-%dT%H:%M:%S}+0000"}
