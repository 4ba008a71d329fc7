"""What a sandbox account of Mailchimp Marketing holds, and how it shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.clock import to_datetime

Row = dict[str, Any]
"""One resource, as the API shows it."""


def iso(ms: int) -> str:
    """A time as the API writes it."""
    return to_datetime(ms // 1000 * 1000).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def hashed(email: str) -> str:
    """A member's id."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


@dataclass
class List:
    """An audience."""

    id: str
    name: str
    members: dict[str, Row] = field(default_factory=dict)
    webhooks: dict[str, Row] = field(default_factory=dict)
    events: dict[str, list[Row]] = field(default_factory=dict)
    segments: list[Row] = field(default_factory=list)
    merge_fields: list[Row] = field(default_factory=list)

    def segment(self, name: str) -> Row:
        """A tag or segment by its name; made when there is none."""
        for known in self.segments:
            if known["name"] == name:
                return known
        made: Row = {"id": 9000 + len(self.segments), "name": name, "type": "static", "list_id": self.id}
        self.segments.append(made)
        return made


@dataclass
class Store:
    """A shop: carts and orders by their ids. `products` are those that lines may name; None for any."""

    id: str
    list_id: str
    products: set[str] | None = None
    carts: dict[str, Row] = field(default_factory=dict)
    orders: dict[str, Row] = field(default_factory=dict)


@dataclass
class Account:
    """One account: everything by its id."""

    name: str
    lists: dict[str, List] = field(default_factory=dict)
    campaigns: dict[str, Row] = field(default_factory=dict)
    sent_to: dict[str, list[Row]] = field(default_factory=dict)
    activity: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)
    templates: list[Row] = field(default_factory=list)
    journeys: set[tuple[int, int]] = field(default_factory=set)

    def subject(self, campaign: str) -> str:
        """What a campaign's e-mails are headed with."""
        return str(self.campaigns[campaign]["settings"].get("subject_line", ""))

    def report(self, campaign: Row) -> Row:
        """A sent campaign's report."""
        events = [event for of in self.activity.get(campaign["id"], {}).values() for event in of]

        def last(action: str) -> str:
            return max((e["timestamp"] for e in events if e["action"] == action), default="")

        bounces = [e["type"] for e in events if e["action"] == "bounce"]
        return {
            "id": campaign["id"],
            "list_id": campaign["recipients"]["list_id"],
            "subject_line": self.subject(campaign["id"]),
            "send_time": campaign["send_time"],
            "emails_sent": len(self.sent_to.get(campaign["id"], ())),
            "opens": {"opens_total": sum(e["action"] == "open" for e in events), "last_open": last("open")},
            "clicks": {"clicks_total": sum(e["action"] == "click" for e in events), "last_click": last("click")},
            "bounces": {
                "hard_bounces": bounces.count("hard"),
                "soft_bounces": bounces.count("soft"),
                "syntax_errors": 0,
            },
            "_links": [{"rel": "self"}],
        }


def page(name: str, rows: Iterable[Row], query: Mapping[str, str], **more: Any) -> Row:
    """A page of a collection; 10 rows unless asked otherwise. Links are left out where the query says so."""
    found = list(rows)
    offset, count = int(query.get("offset", "0")), int(query.get("count", "10"))
    hidden = set(query.get("exclude_fields", "").split(","))
    shown = [{k: v for k, v in row.items() if f"{name}.{k}" not in hidden} for row in found[offset : offset + count]]
    whole: Row = {name: shown, **more, "total_items": len(found), "_links": [{"rel": "self"}]}
    return {k: v for k, v in whole.items() if k not in hidden}


def member(list_: List, email: str, status: str, at_ms: int, merge_fields: Row) -> Row:
    """A new member."""
    return {
        "id": hashed(email),
        "email_address": email,
        "unique_email_id": hashed(email)[:10],
        "status": status,
        "merge_fields": dict(merge_fields),
        "timestamp_opt": iso(at_ms) if status == "subscribed" else "",
        "last_changed": iso(at_ms),
        "tags_count": 0,
        "tags": [],
        "list_id": list_.id,
        "_links": [{"rel": "self"}],
    }
