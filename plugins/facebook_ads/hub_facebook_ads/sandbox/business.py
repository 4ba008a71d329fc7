"""What stands behind one sandbox connection: an ad account and a Page with all that is theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]  # a node as the Graph API writes it

_OF_ONE = {"EXTERN_ID", "EMAIL", "PHONE", "MADID"}
_DEDUPE_MS = 48 * 3_600_000
MOST_AUDIENCES = 500
APP_ID = "1000000000000001"
"""The app that every token of the sandbox is of."""


@dataclass
class Business:
    """The state of one account. Times are hub milliseconds, given by the caller."""

    account: str
    """What its connection is most likely found by, for the log: the Page if one was named, else the ad account."""
    ad_account: Fields
    page: Fields
    first_id: int
    audiences: dict[str, Fields] = field(default_factory=dict)
    members: dict[str, list[frozenset[tuple[str, str]]]] = field(default_factory=dict)
    """By audience: each person as (key, cell) pairs."""
    sessions: dict[tuple[str, int], Fields] = field(default_factory=dict)
    """By audience and session id."""
    campaigns: dict[str, Fields] = field(default_factory=dict)
    ad_sets: dict[str, Fields] = field(default_factory=dict)
    pixels: dict[str, Fields] = field(default_factory=dict)
    events: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """When an event came first, by pixel, name and event id."""
    forms: dict[str, Fields] = field(default_factory=dict)
    leads: dict[str, Fields] = field(default_factory=dict)
    subscribed: dict[str, list[str]] = field(default_factory=dict)
    """The fields of the Page by app."""
    terms_accepted: bool = True

    def next_id(self) -> str:
        """An id that nothing else at Meta has."""
        self.first_id += 1
        return str(self.first_id)

    def audience(self, name: str, **fields: Any) -> Fields:
        """Make an audience."""
        made = str(fields.get("id") or self.next_id())
        self.audiences[made] = {
            "name": name,
            "subtype": "CUSTOM",
            "description": "",
            "operation_status": {"code": 200, "description": "Normal"},
            "approximate_count_lower_bound": -1,
            "approximate_count_upper_bound": -1,
            **fields,
            "id": made,
        }
        self.members.setdefault(made, [])
        return self.audiences[made]

    def add(self, audience: str, people: list[frozenset[tuple[str, str]]]) -> None:
        """Put people in; who shares a value with somebody there is that person."""
        self.remove(audience, people)
        self.members[audience] += people

    def remove(self, audience: str, people: list[frozenset[tuple[str, str]]]) -> None:
        """Take people out by any value they share that is one person's alone."""
        gone = {pair for person in people for pair in person if pair[0] in _OF_ONE}
        self.members[audience] = [one for one in self.members[audience] if gone.isdisjoint(one)]

    def counts(self, pixel: str, event: Fields, now_ms: int) -> bool:
        """Whether an event counts: it did not come within 48 hours before."""
        key = (pixel, str(event["event_name"]), str(event.get("event_id")))
        first = self.events.get(key)
        if event.get("event_id") and first is not None and now_ms - first < _DEDUPE_MS:
            return False
        self.events[key] = now_ms
        return True

    def lead(self, now_s: int, fields: Fields) -> Fields:
        """Somebody fills in a form; `answers` and `ticked` are what they said."""
        form = str(fields.get("form_id") or next(iter(self.forms), "") or self.form()["id"])
        if form not in self.forms:
            self.form(id=form)
        made = str(fields.get("id") or self.next_id())
        answers = fields.get("answers") or {"email": "jane@example.com", "full_name": "Jane Doe"}
        self.leads[made] = {
            "id": made,
            "created_time": int(fields.get("created_time") or now_s),
            "form_id": form,
            "platform": "fb",
            "is_organic": not fields.get("ad_id"),
            **{name: fields[name] for name in ("ad_id", "ad_name", "campaign_id", "campaign_name") if name in fields},
            "field_data": [{"name": name, "values": [value]} for name, value in answers.items()],
            "custom_disclaimer_responses": [
                {"checkbox_key": key, "is_checked": "1" if ticked else ""}
                for key, ticked in (fields.get("ticked") or {}).items()
            ],
        }
        return self.leads[made]

    def form(self, **fields: Any) -> Fields:
        """A form of the Page."""
        made = str(fields.get("id") or self.next_id())
        self.forms[made] = {"name": f"Form {made}", "status": "ACTIVE", **fields, "id": made}
        return self.forms[made]


def opened(ad_account: str, page: str, account: str, first_id: int) -> Business:
    """A business with a campaign, an ad set and a pixel."""
    made = Business(
        account=account,
        ad_account={
            "id": ad_account,
            "account_id": ad_account.removeprefix("act_"),
            "name": "Wool and more",
            "currency": "EUR",
            "timezone_name": "Europe/Istanbul",
            "account_status": 1,
            "disable_reason": 0,
        },
        page={"id": page, "name": "Wool and more"},
        first_id=first_id,
    )
    number = ad_account.removeprefix("act_")
    made.campaigns[f"{number}1"] = {"id": f"{number}1", "name": "Winter", "status": "ACTIVE", "daily_budget": "2000"}
    made.ad_sets[f"{number}2"] = {"id": f"{number}2", "name": "Winter, Istanbul", "status": "ACTIVE"}
    made.pixels[f"{number}3"] = {"id": f"{number}3", "name": "Shop"}
    return made
