"""The sandbox's records, associations, searches, owners, pipelines and lists, as the CRM's part of the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hub.clock import parse_time_ms, rfc3339
from hub_hubspot.sandbox.portal import KINDS, LIFECYCLE, Fields, ListOf, Portal, Refusal, Row
from hub_hubspot.sandbox.serving import Asked, Served, page_of

# Association type to the two kinds, from and to.
_TYPES = {
    3: ("deals", "contacts"),
    4: ("contacts", "deals"),
    15: ("contacts", "tickets"),
    16: ("tickets", "contacts"),
    202: ("notes", "contacts"),
    204: ("tasks", "contacts"),
    214: ("notes", "deals"),
    216: ("tasks", "deals"),
    228: ("notes", "tickets"),
    230: ("tasks", "tickets"),
}
_MOST, _MOST_WITH_HISTORY = 100, 50
_WINDOW = 10_000
_STATIC = {"MANUAL", "SNAPSHOT"}
_SEARCHED: dict[str, Callable[[str, Fields], bool]] = {
    "EQ": lambda value, f: value == _comparable(f["value"]),
    "NEQ": lambda value, f: value != _comparable(f["value"]),
    "GT": lambda value, f: _number(value) > _number(f["value"]),
    "GTE": lambda value, f: _number(value) >= _number(f["value"]),
    "LT": lambda value, f: _number(value) < _number(f["value"]),
    "LTE": lambda value, f: _number(value) <= _number(f["value"]),
    "IN": lambda value, f: value in [_comparable(one) for one in f["values"]],
    "HAS_PROPERTY": lambda value, f: bool(value),
    "NOT_HAS_PROPERTY": lambda value, f: not value,
    "CONTAINS_TOKEN": lambda value, f: f["value"].strip("*").lower() in value.lower(),
}


def _kind(asked: Asked) -> str:
    kind = asked.match["kind"]
    if kind not in KINDS:
        raise Refusal(400, "VALIDATION_ERROR", f"Unable to infer object type from: {kind}")
    return kind


# -- records -----------------------------------------------------------------------------------------------------------


def create(asked: Asked) -> Served:
    kind, body = _kind(asked), asked.body
    row = asked.portal.make(kind, _properties(body), asked.now_ms)
    for one in body.get("associations") or []:
        for type_ in one["types"]:
            if (found := _TYPES.get(type_["associationTypeId"])) is None or found[0] != kind:
                raise Refusal(400, "VALIDATION_ERROR", "invalid association type")
            asked.portal.find(found[1], one["to"]["id"])
            asked.portal.join(kind, row.id, found[1], one["to"]["id"])
    asked.record(f"create_{kind}", id=row.id, properties=_properties(body), associations=body.get("associations") or [])
    asked.created(kind, row)
    return Served(asked.portal.shown(kind, row, row.properties), 201)


def show(asked: Asked) -> Served:
    kind = _kind(asked)
    row = asked.portal.find(kind, asked.match["id"], asked.query.get("idProperty"))
    return Served(asked.portal.shown(kind, row, _names(asked.query.get("properties"))))


def every(asked: Asked) -> Served:
    kind, history = _kind(asked), _names(asked.query.get("propertiesWithHistory"))
    most = _MOST_WITH_HISTORY if history else _MOST
    if int(asked.query.get("limit") or 10) > most:
        raise Refusal(400, "VALIDATION_ERROR", f"limit is larger than {most}")
    page, paging = page_of(list(asked.portal.rows[kind].values()), asked.query, 10)
    names = _names(asked.query.get("properties"))
    return Served({"results": [asked.portal.shown(kind, row, names, history) for row in page], **paging})


def update(asked: Asked) -> Served:
    kind, properties = _kind(asked), _properties(asked.body)
    row = asked.portal.find(kind, asked.match["id"], asked.query.get("idProperty"))
    changed = asked.portal.change(kind, row, properties, asked.now_ms)
    asked.record(f"update_{kind}", id=row.id, properties=properties)
    asked.changed(kind, row, changed)
    return Served(asked.portal.shown(kind, row, properties))


def read_many(asked: Asked) -> Served:
    kind, body, portal = _kind(asked), asked.body, asked.portal
    history = body["propertiesWithHistory"]
    results, errors = [], []
    for name in dict.fromkeys(one["id"] for one in _inputs(body, _MOST_WITH_HISTORY if history else _MOST)):
        try:
            row = portal.find(kind, name, body.get("idProperty"))
            results.append(portal.shown(kind, row, body["properties"], history))
        except Refusal as refusal:
            errors.append({**refusal.body, "context": {"ids": [name]}})
    return _batch(asked, results, errors)


def upsert_many(asked: Asked) -> Served:
    kind, inputs = _kind(asked), _inputs(asked.body)
    names = [(one.get("idProperty"), one["id"].lower()) for one in inputs]
    if len(set(names)) < len(names):
        raise Refusal(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
    results, errors, done = [], [], []
    for one in inputs:
        trace, by = one.get("objectWriteTraceId"), one.get("idProperty")
        try:
            results.append({**_upsert(asked, kind, one), "objectWriteTraceId": trace})
            done.append({"id": one["id"], "properties": one["properties"]})
        except Refusal as refusal:
            if trace is None:
                raise
            errors.append({**refusal.body, "context": {"objectWriteTraceId": [trace]}, "idProperty": by})
    if done:
        asked.record(f"upsert_{kind}", inputs=done)
    return _batch(asked, results, errors)


def _upsert(asked: Asked, kind: str, one: Fields) -> Fields:
    portal, by = asked.portal, one.get("idProperty")
    properties = {str(by): one["id"], **_properties(one)} if by else _properties(one)
    try:
        row, new = portal.find(kind, one["id"], by), False
    except Refusal:
        row, new = portal.make(kind, properties, asked.now_ms), True
        asked.created(kind, row)
    else:
        asked.changed(kind, row, portal.change(kind, row, properties, asked.now_ms))
    return {**portal.shown(kind, row, properties), "new": new}


def _batch(asked: Asked, results: list[Fields], errors: list[Fields]) -> Served:
    now = rfc3339(asked.now_ms)
    body: Fields = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    return Served(body | {"numErrors": len(errors), "errors": errors}, 207) if errors else Served(body)


def _inputs(body: Fields, most: int = _MOST) -> list[Fields]:
    inputs: list[Fields] = body.get("inputs") or []
    if len(inputs) > most:
        raise Refusal(400, "VALIDATION_ERROR", f"The maximum batch size is {most}")
    return inputs


def _properties(body: Fields) -> dict[str, str]:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise Refusal(400, "VALIDATION_ERROR", "properties are missing")
    return properties


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


# -- searching ---------------------------------------------------------------------------------------------------------


def search(asked: Asked) -> Served:
    kind, body, portal = _kind(asked), asked.body, asked.portal
    start, limit = int(body.get("after") or 0), int(body.get("limit") or 10)
    if limit > 200 or start + limit > _WINDOW:
        raise Refusal(400, "VALIDATION_ERROR", "paging beyond what a search gives")
    groups = body.get("filterGroups") or []
    indexed = [row for row in portal.rows[kind].values() if row.updated_ms <= asked.now_ms - asked.search_lag_ms]
    found = [row for row in indexed if not groups or any(_fits(portal, kind, row, group) for group in groups)]
    for sort in reversed(body.get("sorts") or []):
        found.sort(
            key=lambda row: _sortable(portal.valued(kind, row).get(sort["propertyName"], "")),
            reverse=sort.get("direction") == "DESCENDING",
        )
    some = found[start : start + limit]
    more = start + limit < len(found)
    paging = {"paging": {"next": {"after": str(start + limit)}}} if more else {}
    if asked.body.get("filterGroups"):
        asked.record("search", kind=kind, filters=groups)
    results = [portal.shown(kind, row, body.get("properties") or []) for row in some]
    return Served({"total": len(found), "results": results, **paging})


def _fits(portal: Portal, kind: str, row: Row, group: Fields) -> bool:
    values = portal.valued(kind, row)
    for one in group["filters"]:
        if one["operator"] not in _SEARCHED:
            raise Refusal(400, "VALIDATION_ERROR", f"the sandbox does not search by {one['operator']}")
        if not _SEARCHED[one["operator"]](_comparable(values.get(one["propertyName"], "")), one):
            return False
    return True


def _comparable(value: str) -> str:
    return value.lower()


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float(parse_time_ms(value.upper()) if value else 0)


def _sortable(value: str) -> tuple[float, str]:
    try:
        return _number(value), ""
    except ValueError:
        return 0.0, value


# -- associations ------------------------------------------------------------------------------------------------------


def associations(asked: Asked) -> Served:
    kind = _kind(asked)
    asked.portal.find(kind, asked.match["id"])
    every_one = asked.portal.pairs.get((kind, asked.match["id"], asked.match["to"]), [])
    page, paging = page_of(every_one, asked.query, 500)
    return Served({"results": [_association(one) for one in page], **paging})


def associations_of_many(asked: Asked) -> Served:
    kind, to = _kind(asked), asked.match["to"]
    results = [
        {"from": {"id": one["id"]}, "to": [_association(other) for other in ids]}
        for one in asked.body["inputs"]
        if (ids := asked.portal.pairs.get((kind, one["id"], to)))
    ]
    return _batch(asked, results, [])


def _association(id: str) -> Fields:
    return {"toObjectId": id, "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": 1, "label": None}]}


# -- owners, pipelines, properties -------------------------------------------------------------------------------------


def owners(asked: Asked) -> Served:
    email = asked.query.get("email")
    found = [owner for owner in asked.portal.owners if email is None or owner["email"] == email.lower()]
    page, paging = page_of(found, asked.query, 100)
    return Served({"results": page, **paging})


def pipelines(asked: Asked) -> Served:
    kind = _kind(asked)
    if kind not in ("deals", "tickets"):
        raise Refusal(404, "OBJECT_NOT_FOUND", "no pipelines")
    return Served({"results": list(_PIPELINES[kind])})


def _pipeline(id: str, label: str, stages: dict[str, str]) -> Fields:
    listed = [
        {"id": stage, "label": name, "displayOrder": order, "archived": False, "metadata": {}}
        for order, (stage, name) in enumerate(stages.items())
    ]
    return {"id": id, "label": label, "displayOrder": 0, "archived": False, "stages": listed}


_PIPELINES = {
    "deals": [
        _pipeline("default", "Sales Pipeline", {"appointmentscheduled": "Appointment", "closedwon": "Closed won"}),
        _pipeline("77", "Renewals", {"771": "Due", "772": "Renewed"}),
    ],
    "tickets": [_pipeline("0", "Support Pipeline", {"1": "New", "2": "Waiting on contact", "4": "Closed"})],
}


def property_(asked: Asked) -> Served:
    kind, name = _kind(asked), asked.match["name"]
    if name not in asked.portal.known[kind]:
        raise Refusal(404, "OBJECT_NOT_FOUND", f"Property {name} does not exist")
    values = LIFECYCLE if name == "lifecyclestage" else ()
    options = [{"label": value.title(), "value": value, "hidden": False} for value in values]
    return Served({"name": name, "label": name.title(), "type": "string", "options": options})


# -- lists -------------------------------------------------------------------------------------------------------------


def _list(asked: Asked) -> ListOf:
    found = asked.portal.lists.get(asked.match["list"])
    if found is None:
        raise Refusal(404, "OBJECT_NOT_FOUND", f"List does not exist with ID {asked.match['list']}.")
    return found


def show_list(asked: Asked) -> Served:
    return Served({"list": _shown_list(_list(asked))})


def search_lists(asked: Asked) -> Served:
    body = asked.body
    wanted, start, count = body.get("processingTypes"), int(body.get("offset") or 0), int(body.get("count") or 20)
    found = [
        one
        for one in asked.portal.lists.values()
        if (not wanted or one.processing in wanted) and (body.get("query") or "").lower() in one.name.lower()
    ]
    some = [_shown_list(one) | {"additionalProperties": {}} for one in found[start : start + count]]
    more = start + count < len(found)
    return Served({"lists": some, "total": len(found), "offset": start + len(some), "hasMore": more})


def members(asked: Asked) -> Served:
    return Served(_members(asked, sorted(_list(asked).members.items(), key=lambda m: int(m[0]))))


def members_by_joining(asked: Asked) -> Served:
    return Served(_members(asked, sorted(_list(asked).members.items(), key=lambda m: -m[1])))


def _members(asked: Asked, every_one: list[tuple[str, int]]) -> Fields:
    page, paging = page_of(every_one, asked.query, 100)
    return {"results": [{"recordId": who, "membershipTimestamp": rfc3339(at)} for who, at in page], **paging}


def add_members(asked: Asked) -> Served:
    return _change_members(asked, "add_members", lambda members, who: members.setdefault(who, asked.now_ms))


def remove_members(asked: Asked) -> Served:
    return _change_members(asked, "remove_members", lambda members, who: members.pop(who, None))


def _change_members(asked: Asked, operation: str, change: Callable[[dict[str, int], str], Any]) -> Served:
    found, ids = _list(asked), asked.body
    if found.processing not in _STATIC:
        raise Refusal(400, "VALIDATION_ERROR", "The list is not a MANUAL or SNAPSHOT list")
    known = [one for one in ids if one in asked.portal.rows["contacts"]]
    before = set(found.members)
    for one in known:
        change(found.members, one)
    asked.record(operation, list=found.id, ids=known)
    return Served(
        {
            "recordsIdsAdded": sorted(set(found.members) - before),
            "recordIdsRemoved": sorted(before - set(found.members)),
            "recordIdsMissing": [one for one in ids if one not in known],
        }
    )


def _shown_list(one: ListOf) -> Fields:
    return {
        "listId": one.id,
        "name": one.name,
        "objectTypeId": "0-1",
        "processingType": one.processing,
        "processingStatus": "COMPLETE",
        "listVersion": 1,
    }


Handler = Callable[[Asked], Served]


def routes() -> Iterator[tuple[str, str, Handler]]:
    """(method, path, handler) in both the numbered and the dated spelling."""
    for objects, record_associations, pairs in (
        ("/crm/v3/objects", "/crm/v4/objects", "/crm/v4/associations"),
        (
            r"/crm/objects/{version:\d{4}-\d\d}",
            r"/crm/objects/{version:\d{4}-\d\d}",
            r"/crm/associations/{version:\d{4}-\d\d}",
        ),
    ):
        yield "POST", objects + "/{kind}/search", search
        yield "POST", objects + "/{kind}/batch/read", read_many
        yield "POST", objects + "/{kind}/batch/upsert", upsert_many
        yield "POST", objects + "/{kind}", create
        yield "GET", objects + "/{kind}", every
        yield "GET", objects + "/{kind}/{id}", show
        yield "PATCH", objects + "/{kind}/{id}", update
        yield "GET", record_associations + "/{kind}/{id}/associations/{to}", associations
        yield "POST", pairs + "/{kind}/{to}/batch/read", associations_of_many
    for version in ("v3", r"{version:\d{4}-\d\d}"):
        yield "GET", f"/crm/owners/{version}" if version != "v3" else "/crm/v3/owners", owners
        lists = f"/crm/lists/{version}" if version != "v3" else "/crm/v3/lists"
        yield "POST", lists + "/search", search_lists
        yield "GET", lists + "/{list}", show_list
        yield "GET", lists + "/{list}/memberships", members
        yield "GET", lists + "/{list}/memberships/join-order", members_by_joining
        yield "PUT", lists + "/{list}/memberships/add", add_members
        yield "PUT", lists + "/{list}/memberships/remove", remove_members
        yield "GET", (f"/crm/pipelines/{version}" if version != "v3" else "/crm/v3/pipelines") + "/{kind}", pipelines
        named = f"/crm/properties/{version}" if version != "v3" else "/crm/v3/properties"
        yield "GET", named + "/{kind}/{name}", property_
