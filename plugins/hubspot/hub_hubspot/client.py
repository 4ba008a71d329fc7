"""Calls of HubSpot's API: records, associations, the account, and what each kind of refusal means.

(hubspot-api-client 12.0.0; developers.hubspot.com "Error handling" and "API usage details", read 2026-11-22)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from hub import (
    Account,
    ActionContext,
    ConnectorError,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    Response,
    Throttle,
    VendorUnavailable,
)
from hub.events import Json
from hub_hubspot.paths import path

READ_AT_ONCE = 100
"""Most records that one call reads or writes."""
WITH_HISTORY_AT_ONCE = 50
"""Most records that one call reads with the past of a property. (public connectors, read 2026-11-22)"""
_ASSOCIATIONS_AT_ONCE = 1000
_MAX_PAGES = 10
_SAFE_WORD = re.compile(r"[A-Za-z0-9_.-]{1,80}")

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound="PagedAnswer")


# -- the shape of answers ----------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """Anything that HubSpot answers, named as it names it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, coerce_numbers_to_str=True)


class _Next(Answer):
    after: str


class _Paging(Answer):
    next: _Next | None = None


class PagedAnswer(Answer):
    """An answer that may go on: `after` is where."""

    paging: _Paging | None = None

    @property
    def after(self) -> str | None:
        """What to ask for the next page with; None at the end."""
        return self.paging.next.after if self.paging and self.paging.next else None


class PastValue(Answer):
    """A value that a property had, since when, and who set it: `CRM_UI`, `INTEGRATION`, …"""

    value: str
    timestamp: datetime
    source_type: str | None = None


class Record(Answer):
    """A contact, deal, ticket, note or task. Property values are text; what is not set is left out."""

    id: str
    properties: Annotated[dict[str, str], BeforeValidator(lambda found: _set_only(found))]
    properties_with_history: dict[str, list[PastValue]] = {}
    created_at: datetime
    new: bool | None = None
    """Of an upsert: whether it was made by it."""
    object_write_trace_id: str | None = None


class RecordPage(PagedAnswer):
    """Records; of a search `total` says how many there are."""

    results: list[Record]
    total: int = 0


class ItemError(Answer):
    """Why one item of a batch failed. HubSpot's `message` repeats the values and is not read."""

    category: str = ""
    context: dict[str, list[str]] = {}


class Batch(Answer):
    """What came of a batch: 200 where all of it was done, 207 where some items failed."""

    results: list[Record] = []
    errors: list[ItemError] = []


class _Associated(Answer):
    to_object_id: str


class _AssociatedPage(PagedAnswer):
    results: list[_Associated]


class _From(Answer):
    id: str


class _AssociatedTo(Answer):
    from_: _From = Field(alias="from")
    to: list[_Associated]


class _AssociatedBatch(Answer):
    results: list[_AssociatedTo]


class _Details(Answer):
    portal_id: str
    time_zone: str | None = None
    company_currency: str | None = None


def _set_only(found: object) -> object:
    return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else found


def read(model: type[M], answer: Response) -> M:
    """An answer as a model. Raises OutcomeUnknown, without what it held, where it is not as the API describes it."""
    try:
        return model.model_validate(answer.json())
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or "the whole" for e in error.errors(include_input=False))
        # Without its cause, which repeats the answer.
        raise OutcomeUnknown(f"HubSpot's answer cannot be read: {fields}", status=answer.status) from None


def chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """The items in lists of at most `size`."""
    every = list(items)
    for start in range(0, len(every), size):
        yield every[start : start + size]


# -- records -----------------------------------------------------------------------------------------------------------


def by_id_or_email(contact: str) -> tuple[str, dict[str, str]]:
    """What names a contact in a path, and the query that says by which property."""
    return quote(contact, safe=""), {"idProperty": "email"} if "@" in contact else {}


async def get_contact(ctx: ActionContext, contact: str, properties: Iterable[str]) -> Record:
    """A contact by its id or e-mail address; unlike a search this sees what was just written. Raises NotFound."""
    name, query = by_id_or_email(contact)
    query["properties"] = ",".join(properties)
    answer = await ctx.http.request("GET", path(ctx.settings, "objects", f"/contacts/{name}"), params=query)
    return read(Record, answer)


async def read_records(
    ctx: ActionContext,
    kind: str,
    ids: Iterable[str],
    properties: Sequence[str],
    *,
    by: str | None = None,
    history: Sequence[str] = (),
) -> list[Record]:
    """The records with these ids (or these values of the unique property `by`); those that are not there are left out.

    With the past of the properties that `history` names.
    """
    found: list[Record] = []
    for some in chunks(dict.fromkeys(ids), WITH_HISTORY_AT_ONCE if history else READ_AT_ONCE):
        asked: dict[str, Json] = {
            "inputs": [{"id": one} for one in some],
            "properties": list(properties),
            "propertiesWithHistory": list(history),
        }
        if by:
            asked["idProperty"] = by
        answer = await ctx.http.request("POST", path(ctx.settings, "objects", f"/{kind}/batch/read"), json=asked)
        found += read(Batch, answer).results
    return found


async def contact_ids(ctx: ActionContext, contacts: Sequence[str]) -> dict[str, str]:
    """The ids of contacts that are named by id or e-mail address; addresses that nobody has are left out."""
    known = {contact: contact for contact in contacts if "@" not in contact}
    addresses = {contact: contact.lower() for contact in contacts if "@" in contact}
    if not addresses:
        return known
    wanted = ["email", "hs_additional_emails"]
    owner: dict[str, str] = {}
    for record in await read_records(ctx, "contacts", addresses.values(), wanted, by="email"):
        others = record.properties.get("hs_additional_emails", "").split(";")
        owner |= {address.lower(): record.id for address in [record.properties.get("email", ""), *others] if address}
    return known | {contact: owner[address] for contact, address in addresses.items() if address in owner}


async def update_record(ctx: ActionContext, kind: str, record: str, properties: Mapping[str, str]) -> Record:
    """Set properties of a record; a contact may be named by its e-mail address. Idempotent. Raises NotFound, Rejected."""
    name, query = by_id_or_email(record)
    answer = await ctx.http.request(
        "PATCH",
        path(ctx.settings, "objects", f"/{kind}/{name}"),
        params=query if kind == "contacts" else None,
        json={"properties": dict(properties)},
    )
    return read(Record, answer)


async def create_record(
    ctx: ActionContext, kind: str, properties: Mapping[str, str], associations: Sequence[tuple[str, int]]
) -> Record:
    """Make a record, associated with (id, HubSpot's association type) each. Not idempotent."""
    to = [
        {"to": {"id": record}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_}]}
        for record, type_ in associations
    ]
    asked = {"properties": dict(properties), "associations": to}
    return read(Record, await ctx.http.request("POST", path(ctx.settings, "objects", f"/{kind}"), json=asked))


async def associated(ctx: ActionContext, kind: str, id: str, to: str) -> list[str]:
    """The ids of all `to` records of a record. Raises OutcomeUnknown when they are too many to look through."""
    found: list[str] = []
    query = {"limit": "500"}
    for _ in range(_MAX_PAGES):
        rest = f"/{kind}/{quote(id, safe='')}/associations/{to}"
        answer = await ctx.http.request("GET", path(ctx.settings, "record_associations", rest), params=query)
        page = read(_AssociatedPage, answer)
        found += [one.to_object_id for one in page.results]
        if page.after is None:
            return found
        query["after"] = page.after
    raise OutcomeUnknown(f"more than {_MAX_PAGES * 500} {to} belong to this record: too many to look through")


async def first_associated(ctx: ActionContext, kind: str, ids: Iterable[str], to: str) -> dict[str, str]:
    """Of each record the id of its first `to` record; those without one are left out."""
    first: dict[str, str] = {}
    for some in chunks(dict.fromkeys(ids), _ASSOCIATIONS_AT_ONCE):
        answer = await ctx.http.request(
            "POST",
            path(ctx.settings, "associations", f"/{kind}/{to}/batch/read"),
            json={"inputs": [{"id": one} for one in some]},
        )
        first |= {one.from_.id: one.to[0].to_object_id for one in read(_AssociatedBatch, answer).results if one.to}
    return first


async def search(
    ctx: ActionContext,
    kind: str,
    filters: Sequence[Mapping[str, Json]],
    properties: Sequence[str],
    *,
    sort: str | None = None,
    limit: int = READ_AT_ONCE,
) -> RecordPage:
    """The first records that fit all filters. What was written lately may be missing.

    (developers.hubspot.com "Search the CRM", read 2026-11-22)
    """
    asked: dict[str, Json] = {
        "filterGroups": [{"filters": list(filters)}],
        "properties": list(properties),
        "limit": limit,
    }
    if sort:
        asked["sorts"] = [{"propertyName": sort, "direction": "ASCENDING"}]
    return read(
        RecordPage, await ctx.http.request("POST", path(ctx.settings, "objects", f"/{kind}/search"), json=asked)
    )


async def paged(
    ctx: ActionContext, address: str, query: Mapping[str, str], model: type[P], after: str | None = None
) -> AsyncIterator[P]:
    """Every page of a list, from `after` on."""
    while True:
        params = dict(query) | ({"after": after} if after else {})
        page = read(model, await ctx.http.request("GET", address, params=params))
        yield page
        after = page.after
        if after is None:
            return


async def whoami(ctx: ActionContext) -> Account:
    """The account behind the token."""
    details = read(_Details, await ctx.http.request("GET", path(ctx.settings, "account")))
    return Account(
        id=details.portal_id,
        title=f"HubSpot {details.portal_id}",
        zone=details.time_zone,
        currency=details.company_currency,
    )


class _TokenInfo(Answer):
    scopes: list[str]


async def granted(ctx: ActionContext, fields: Mapping[str, str]) -> list[str] | None:
    """What the token of a private app may do; None for another one: HubSpot documents this for private apps alone.

    (developers.hubspot.com "Private apps", read 2026-11-22)
    """
    asked: dict[str, Json] = {"tokenKey": fields["access_token"]}
    try:
        answer = await ctx.http.request("POST", "/oauth/v2/private-apps/get/access-token-info", json=asked)
    except PermanentError:
        return None  # the account has just answered: it is this address that does not know the token
    return read(_TokenInfo, answer).scopes


# -- what a refusal means ----------------------------------------------------------------------------------------------

# How long to wait for each limit that a 429 names. HubSpot documents no Retry-After; the daily one ends at midnight of the
# account's own time zone, which an answer does not tell.
_WAITS_S = {"TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0, "DAILY": 3600.0}
_LOCKED_S = 2.0


def classify(response: Response) -> ConnectorError | None:
    """What an answer means where the shared status table says too little. HubSpot's own sentences are never passed on."""
    if response.status < 300:
        return None
    body = _body(response)
    found = _by_status(response, body)
    if found:
        found.request_id = _word(body.get("correlationId"))
        found.code = _word(body.get("category")) or _word(body.get("policyName"))
    return found


def _by_status(response: Response, body: Mapping[str, Json]) -> ConnectorError | None:
    told = _told(body)
    match response.status:
        case 400:
            return Rejected(f"HubSpot does not accept it{told}: correct the values of the step")
        case 403 if body.get("category") == "MISSING_SCOPES":
            return Rejected("the token lacks a scope: grant what the plugin's README lists, then connect again")
        case 403:
            return Rejected(f"HubSpot does not allow it{told}: the account's plan or the token's owner may not do this")
        case 404:
            return NotFound(f"HubSpot has no such thing{told}: correct the id or address in the recipe")
        case 409:
            return Rejected(f"HubSpot has it already, or it changed meanwhile{told}")
        case 414:
            return Rejected("the address of the call is too long: name fewer properties")
        case 423:
            return VendorUnavailable("the record is being changed by others", retry_after_s=_LOCKED_S)
        case 429:
            return RateLimited(retry_after_s=_wait_s(response, body))
        case 477:
            return VendorUnavailable("HubSpot is moving the account", retry_after_s=_seconds(response))
        case 503:
            # Unlike elsewhere it may have been done before (developers.hubspot.com "Error handling").
            return OutcomeUnknown("HubSpot answered 503")
    return None


def throttle(response: Response) -> Throttle | None:
    """What is left of the calls in any 10 s; answers of searches do not say."""
    try:
        return Throttle(available=float(response.headers["X-HubSpot-RateLimit-Remaining"]))
    except (KeyError, ValueError):
        return None


def item_error(error: ItemError) -> ConnectorError:
    """Why one item of a batch failed."""
    kind = NotFound if error.category == "OBJECT_NOT_FOUND" else Rejected
    told = _told({"category": error.category, "context": error.context})
    return kind(f"HubSpot does not accept it{told}", code=_word(error.category))


def _body(response: Response) -> Mapping[str, Json]:
    try:
        body = response.json()
    except OutcomeUnknown:
        return {}  # a gateway's page; the status tells enough
    return body if isinstance(body, dict) else {}


def _told(body: Mapping[str, Json]) -> str:
    """HubSpot's words for it, as far as they cannot be anybody's data: categories, codes and names of properties."""
    details = [error for error in body.get("errors") or () if isinstance(error, dict)]
    named = [body.get("category"), body.get("subCategory"), *(error.get("code") for error in details)]
    words = list(dict.fromkeys(word for one in named if (word := _word(one))))
    contexts = [body.get("context"), *(error.get("context") for error in details)]
    properties = [
        word
        for context in contexts
        if isinstance(context, dict)
        for one in context.get("propertyName") or ()
        if (word := _word(one))
    ]
    if properties:
        words.append("about " + ", ".join(dict.fromkeys(properties)))
    return f" ({'; '.join(words)})" if words else ""


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _SAFE_WORD.fullmatch(value) else None


def _wait_s(response: Response, body: Mapping[str, Json]) -> float:
    return _seconds(response) or _WAITS_S.get(str(body.get("policyName")), 10.0)


def _seconds(response: Response) -> float | None:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None
