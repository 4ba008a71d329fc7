"""Reads the events of an app's webhook: up to 100 in a list, of one or several accounts, in any order, some repeated.

(developers.hubspot.com "Webhooks", read 2026-11-22)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from hub import Delivery, Identity, PayloadError, e164
from hub.events import Json
from hub_hubspot.client import PastValue, Record

TOPIC = "events"
# What generic events (`object.creation`) call the kinds of records.
_KINDS = {"0-1": "contact", "0-3": "deal", "0-5": "ticket"}


def _moment(value: object) -> object:
    """Milliseconds since 1970, as HubSpot writes times in events; anything else as it is."""
    return value / 1000 if isinstance(value, int) and not isinstance(value, bool) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


class Payload(BaseModel):
    """What all payloads keep to: ids are text, what is not used is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, populate_by_name=True)


class Change(Payload):
    """Something that happened to one record. `source` is who did it: `CRM_UI`, `FORM`, `INTEGRATION` (also the hub), …"""

    portal_id: str = Field(alias="portalId")
    occurred_at: Moment = Field(alias="occurredAt")
    source: str | None = Field(None, alias="changeSource")


class Person(Payload):
    """The contact that an event is about, as far as it is known; webhooks carry only ids, the rest is filled in."""

    contact_id: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    lifecycle_stage: str | None = None
    owner_id: str | None = None
    properties: dict[str, str] = {}
    """The properties that the setting `contact_properties` names, by their internal names."""


def identity(person: Person) -> Identity:
    """Whom an event is about. Numbers that cannot be read without a country are left out."""
    return Identity(
        email=person.email,
        phone=e164(person.phone) if person.phone else None,
        vendor=person.contact_id,
        first_name=person.first_name,
        last_name=person.last_name,
    )


def told(delivery: Delivery, kind: str, *what: str) -> Iterator[dict[str, Json]]:
    """The events of one kind of record (`contact`) and of these things that happen to it (`creation`).

    Documentation names the type `subscriptionType` and in places `eventType`. Raises PayloadError for what is no list.
    """
    events = delivery.json()
    if not isinstance(events, list):
        raise PayloadError("the body is no list of events")
    for event in events:
        if not isinstance(event, dict):
            raise PayloadError("an entry of the body is no event")
        of, _, happened = str(event.get("subscriptionType") or event.get("eventType") or "").partition(".")
        if of == "object":
            of = _KINDS.get(str(event.get("objectTypeId")), "")
        if of == kind and happened in what:
            yield event


def fact(*parts: str) -> str:
    """Names a change by what identifies it, as a digest: values may be long, and somebody's data.

    HubSpot's `eventId` is not unique, and another subscription to the same change has another one, so it is left out; so is
    `attemptNumber`, which a redelivery raises.
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def at(moment: datetime) -> str:
    """An instant as part of a fact: milliseconds since 1970."""
    return str(round(moment.timestamp() * 1000))


# -- the contact -------------------------------------------------------------------------------------------------------

_NAMES = {
    "email": "email",
    "phone": "phone",
    "first_name": "firstname",
    "last_name": "lastname",
    "lifecycle_stage": "lifecyclestage",
    "owner_id": "hubspot_owner_id",
}


def contact_properties(settings: Mapping[str, str]) -> list[str]:
    """The properties of contacts that payloads carry: the usual ones, then those of the setting."""
    return [*_NAMES.values(), *named(settings, "contact_properties")]


def value_of(past: PastValue) -> dict[str, Json]:
    """What a change is by HubSpot's history, as a webhook would tell it."""
    return {
        "propertyValue": past.value,
        "occurred_at": past.timestamp.isoformat(),
        "source": past.source_type,
    }


def named(settings: Mapping[str, str], field: str) -> list[str]:
    """The entries of a setting that is a list separated by commas."""
    text = settings.get(field)
    return [entry for one in (text or "").split(",") if (entry := one.strip())]


def missed(settings: Mapping[str, str], kind: str) -> list[str]:
    """The properties of a kind of record (`deal`) whose missed changes the setting `missed_changes` asks for."""
    entries = (entry.partition(".") for entry in named(settings, "missed_changes"))
    return list(dict.fromkeys(name for of, _, name in entries if of == kind))


def of_contact(record: Record, settings: Mapping[str, str]) -> dict[str, Json]:
    """A contact's record as fields of `Person`."""
    found = {name: record.properties.get(property_) or None for name, property_ in _NAMES.items()}
    more = {
        name: record.properties[name] for name in named(settings, "contact_properties") if name in record.properties
    }
    return {**found, "contact_id": record.id, "properties": more}
