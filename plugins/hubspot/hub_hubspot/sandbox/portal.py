"""One account of the sandbox: its records, lists, forms, e-mails and people, and the rules that HubSpot keeps them by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.clock import rfc3339

# A JSON object as HubSpot writes or reads it.
Fields = dict[str, Any]

KINDS = ("contacts", "deals", "tickets", "notes", "tasks")
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "deals": ("dealname", "dealstage"),
    "tickets": ("subject", "hs_pipeline_stage"),
    "notes": ("hs_timestamp",),
    "tasks": ("hs_timestamp",),
}
_COMMON = {"hs_object_id", "createdate", "hs_lastmodifieddate", "hubspot_owner_id"}
_PROPERTIES: Mapping[str, set[str]] = {
    "contacts": {
        "email",
        "firstname",
        "lastname",
        "phone",
        "lifecyclestage",
        "lastmodifieddate",
        "hs_email_optout",
        "hs_additional_emails",
        "company",
        "city",
    },
    "deals": {"dealname", "dealstage", "pipeline", "amount", "hub_reference"},
    "tickets": {"subject", "hs_pipeline", "hs_pipeline_stage", "hub_reference"},
    "notes": {"hs_timestamp", "hs_note_body"},
    "tasks": {"hs_timestamp", "hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_priority", "hs_task_type"},
}
LIFECYCLE = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class Refusal(Exception):
    """HubSpot's no: a status and the body of an error."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": "error", "message": message, "correlationId": "sandbox-1", "category": category, **more}


@dataclass
class Row:
    """A record: its present values, and for each property what it was since when, newest first."""

    id: str
    created_ms: int
    updated_ms: int
    properties: dict[str, str] = field(default_factory=dict)
    history: dict[str, list[tuple[str, int]]] = field(default_factory=dict)


@dataclass
class ListOf:
    """A list of contacts; only static ones take members by hand."""

    id: str
    name: str
    processing: str = "MANUAL"
    members: dict[str, int] = field(default_factory=dict)
    """Contact id to when it joined."""


@dataclass
class Portal:
    """An account, by its portal id. Tests may read and change everything."""

    id: str
    rows: dict[str, dict[str, Row]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    pairs: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    """(kind, id, other kind) to the ids of the other kind."""
    known: dict[str, set[str]] = field(default_factory=lambda: {k: set(p) | _COMMON for k, p in _PROPERTIES.items()})
    """The properties that exist, by kind."""
    owners: list[Fields] = field(default_factory=list)
    lists: dict[str, ListOf] = field(default_factory=dict)
    forms: list[Fields] = field(default_factory=list)
    submissions: dict[str, list[Fields]] = field(default_factory=dict)
    email_events: list[Fields] = field(default_factory=list)
    emails: list[Fields] = field(default_factory=list)
    topics: list[Fields] = field(default_factory=list)
    """Subscription types."""
    consents: dict[tuple[str, str], str] = field(default_factory=dict)
    """The state of an address and subscription type."""
    consents_at: dict[tuple[str, str], int] = field(default_factory=dict)
    opted_out: dict[str, int] = field(default_factory=dict)
    """Who unsubscribed from all e-mail, and when (ms)."""
    scopes: list[str] | None = field(default_factory=lambda: ["oauth"])
    """What the token of its private app may do; None for a token that is of no private app."""
    sent: dict[str, Fields] = field(default_factory=dict)
    occurrences: set[str] = field(default_factory=set)
    calls: list[int] = field(default_factory=list)
    searches: list[int] = field(default_factory=list)
    last_id: int = 10_000

    def next_id(self) -> str:
        """An id that nothing here has yet."""
        self.last_id += 1
        return str(self.last_id)

    # -- records -------------------------------------------------------------------------------------------------------

    def find(self, kind: str, name: str, by: str | None = None) -> Row:
        """A record by its id or a unique property. Raises Refusal."""
        row = self.rows[kind].get(name) if by is None else self.holder(kind, by, name)
        if row is None:
            raise Refusal(404, "OBJECT_NOT_FOUND", f"Object not found. objectId: {name}")
        return row

    def holder(self, kind: str, property_: str, value: str) -> Row | None:
        """The record whose property has this value, in any case; a contact's further addresses count as well."""
        wanted = value.lower()
        for row in self.rows[kind].values():
            extra = row.properties.get("hs_additional_emails", "").split(";") if property_ == "email" else []
            if wanted in {row.properties.get(property_, "").lower(), *(one.lower() for one in extra)} - {""}:
                return row
        return None

    def make(self, kind: str, properties: Mapping[str, str], now_ms: int) -> Row:
        """A new record. Raises Refusal where something is missing, wrong, or taken."""
        self.check(kind, properties)
        missing = [name for name in _REQUIRED.get(kind, ()) if not properties.get(name)]
        if kind == "contacts" and not any(properties.get(name) for name in ("email", "firstname", "lastname")):
            missing = ["email"]
        if missing:
            raise _invalid(f"required properties are missing: {missing}", missing, "MISSING_REQUIRED_PROPERTY")
        if kind == "contacts" and (taken := self.holder(kind, "email", properties.get("email", ""))):
            raise Refusal(409, "CONFLICT", f"Contact already exists. Existing ID: {taken.id}")
        row = Row(self.next_id(), now_ms, now_ms)
        self.rows[kind][row.id] = row
        self._set(kind, row, properties, now_ms)
        return row

    def change(self, kind: str, row: Row, properties: Mapping[str, str], now_ms: int) -> list[tuple[str, str]]:
        """Set properties; returns (name, value) of those that changed. Raises Refusal."""
        self.check(kind, properties)
        return self._set(kind, row, properties, now_ms)

    def check(self, kind: str, properties: Mapping[str, Any]) -> None:
        """Raise Refusal for properties that do not exist or values that are none."""
        if strange := [name for name in properties if name not in self.known[kind]]:
            raise _invalid(f"Property values were not valid: {strange}", strange, "PROPERTY_DOESNT_EXIST")
        if wrong := [name for name, value in properties.items() if not isinstance(value, str)]:
            raise _invalid("values must be text", wrong, "INVALID_FORMAT")
        address = properties.get("email")
        if kind == "contacts" and address and not _ADDRESS.fullmatch(address):
            raise _invalid(f"Email address {address} is invalid", ["email"], "INVALID_EMAIL")
        stage = properties.get("lifecyclestage")
        if kind == "contacts" and stage and stage not in LIFECYCLE:
            raise _invalid(f"{stage} was not one of the allowed options", ["lifecyclestage"], "INVALID_OPTION")

    def _set(self, kind: str, row: Row, properties: Mapping[str, str], now_ms: int) -> list[tuple[str, str]]:
        changed = []
        for name, value in properties.items():
            if name == "lifecyclestage" and _is_backward(row.properties.get(name, ""), value):
                continue
            if row.properties.get(name, "") != value:
                row.properties[name] = value
                row.history.setdefault(name, []).insert(0, (value, now_ms))
                changed.append((name, value))
        row.updated_ms = now_ms if changed else row.updated_ms
        return changed

    def shown(self, kind: str, row: Row, wanted: Iterable[str] = (), history: Iterable[str] = ()) -> Fields:
        """A record as the API shows it: the properties asked for and those that always come along."""
        every = self.valued(kind, row)
        modified = "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
        names = dict.fromkeys([*wanted, "createdate", "hs_object_id", modified])
        found: Fields = {
            "id": row.id,
            "properties": {name: every.get(name) for name in names},
            "createdAt": rfc3339(row.created_ms),
            "updatedAt": rfc3339(row.updated_ms),
            "archived": False,
        }
        if asked := list(history):
            found["propertiesWithHistory"] = {name: _past(row, name) for name in asked}
        return found

    def valued(self, kind: str, row: Row) -> dict[str, str]:
        """All values of a record, with those that HubSpot keeps itself."""
        modified = "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
        own = {"createdate": rfc3339(row.created_ms), modified: rfc3339(row.updated_ms), "hs_object_id": row.id}
        return {**{name: value for name, value in row.properties.items() if value}, **own}

    # -- forms ---------------------------------------------------------------------------------------------------------

    def told_by(self, form: Fields) -> list[Fields]:
        """The submissions of a form, newest first. Raises Refusal for the comments on a blog."""
        if form["formType"] == "blog_comment":
            raise Refusal(400, "FORM_TYPE_NOT_ALLOWED", "submissions of this type of form are not available")
        return sorted(self.submissions.get(form["id"], []), key=lambda one: -one["submittedAt"])

    # -- what belongs together -----------------------------------------------------------------------------------------

    def join(self, kind: str, id: str, other: str, other_id: str) -> None:
        """Associate two records, in both directions."""
        for key, value in (((kind, id, other), other_id), ((other, other_id, kind), id)):
            known = self.pairs.setdefault(key, [])
            if value not in known:
                known.append(value)


def _past(row: Row, name: str) -> list[Fields]:
    return [{"value": v, "timestamp": rfc3339(at), "sourceType": "CRM_UI"} for v, at in row.history.get(name, [])]


def _is_backward(now: str, wanted: str) -> bool:
    return bool(now and wanted) and LIFECYCLE.index(wanted) < LIFECYCLE.index(now)


def _invalid(message: str, names: list[str], code: str) -> Refusal:
    errors = [{"message": message, "code": code, "context": {"propertyName": names}}]
    return Refusal(400, "VALIDATION_ERROR", message, errors=errors)
