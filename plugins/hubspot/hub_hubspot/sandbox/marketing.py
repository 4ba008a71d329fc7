"""The sandbox's forms, e-mails, consent and custom events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hub.clock import rfc3339
from hub_hubspot.sandbox.crm import Handler
from hub_hubspot.sandbox.portal import Fields, Refusal
from hub_hubspot.sandbox.serving import Asked, Served, page_of

_STATES = {"SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED"}
_BASES = {
    "LEGITIMATE_INTEREST_PQL",
    "LEGITIMATE_INTEREST_CLIENT",
    "LEGITIMATE_INTEREST_OTHER",
    "PERFORMANCE_OF_CONTRACT",
    "CONSENT_WITH_NOTICE",
    "NON_GDPR",
    "PROCESS_AND_STORE",
}


def _required(body: Any, *names: str) -> None:
    missing = [name for name in names if not isinstance(body, dict) or body.get(name) in (None, "")]
    if missing:
        raise Refusal(400, "VALIDATION_ERROR", f"missing: {missing}", errors=[{"message": "missing", "in": missing[0]}])


# -- forms -------------------------------------------------------------------------------------------------------------


def forms(asked: Asked) -> Served:
    types = asked.query.get("formTypes", "hubspot")
    found = [form for form in asked.portal.forms if types == "all" or form["formType"] in types.split(",")]
    page, paging = page_of(found, asked.query, 20)
    return Served({"results": page, **paging})


def submissions(asked: Asked) -> Served:
    form = next((form for form in asked.portal.forms if form["id"] == asked.match["form"]), None)
    if form is None:
        raise Refusal(404, "OBJECT_NOT_FOUND", "no form with this id")
    told = asked.portal.told_by(form)
    if int(asked.query.get("limit") or 20) > 50:
        raise Refusal(400, "VALIDATION_ERROR", "limit is larger than 50")
    page, paging = page_of(told, asked.query, 20)
    return Served({"results": page, **paging})


# -- e-mail ------------------------------------------------------------------------------------------------------------


def emails(asked: Asked) -> Served:
    page, paging = page_of(asked.portal.emails, asked.query, 10)
    return Served({"total": len(asked.portal.emails), "results": page, **paging})


def send(asked: Asked) -> Served:
    """Send one e-mail; the same `sendId` again sends nothing."""
    body = asked.body
    _required(body, "emailId", "message")
    _required(body["message"], "to")
    if not any(email["id"] == str(body["emailId"]) for email in asked.portal.emails):
        raise Refusal(404, "OBJECT_NOT_FOUND", "no e-mail with this id")
    send_id, to = body["message"].get("sendId"), body["message"]["to"].lower()
    status: Fields = {"requestedAt": rfc3339(asked.now_ms), "statusId": f"status-{len(asked.portal.sent) + 1}"}
    if to in asked.portal.opted_out or any(
        state == "UNSUBSCRIBED" and who == to for (who, _), state in asked.portal.consents.items()
    ):
        return Served({**status, "status": "COMPLETE", "sendResult": "PREVIOUSLY_UNSUBSCRIBED_PORTAL"})
    if send_id and send_id in asked.portal.sent:
        return Served({**asked.portal.sent[send_id], "status": "COMPLETE", "sendResult": "IDEMPOTENT_IGNORE"})
    if send_id:
        asked.portal.sent[send_id] = status
    asked.record("send_email", **body)
    return Served({**status, "status": "PENDING"})


def email_events(asked: Asked) -> Served:
    query = asked.query
    start, end = int(query.get("startTimestamp") or 0), int(query.get("endTimestamp") or asked.now_ms)
    type_ = query.get("eventType")
    found = [e for e in asked.portal.email_events if start <= e["created"] <= end and type_ in (None, e["type"])]
    found.sort(key=lambda event: -event["created"])
    offset, limit = int(query.get("offset") or 0), min(1000, int(query.get("limit") or 100))
    some, stop = found[offset : offset + limit], offset + limit
    return Served({"events": some, "hasMore": stop < len(found), "offset": str(stop)})


# -- consent -----------------------------------------------------------------------------------------------------------


def definitions(asked: Asked) -> Served:
    return Served({"status": "COMPLETE", "results": asked.portal.topics})


def set_status(asked: Asked) -> Served:
    body, email = asked.body, asked.match["email"].lower()
    _required(body, "subscriptionId", "statusState", "channel")
    if (
        body["statusState"] not in _STATES
        or body["channel"] != "EMAIL"
        or body.get("legalBasis", "NON_GDPR") not in _BASES
    ):
        raise Refusal(400, "VALIDATION_ERROR", "a value is none of those allowed")
    if not any(topic["id"] == str(body["subscriptionId"]) for topic in asked.portal.topics):
        raise Refusal(404, "OBJECT_NOT_FOUND", "no subscription type with this id")
    key = (email, str(body["subscriptionId"]))
    was, left = asked.portal.consents.get(key), asked.portal.opted_out.get(email)
    reason = "NO_STATUS_CHANGE" if was == body["statusState"] else "REQUESTED_CHANGE_OCCURRED"
    if body["statusState"] == "SUBSCRIBED" and (left is not None or was == "UNSUBSCRIBED"):
        reason = "RESUBSCRIBE_OCCURRED"
        asked.portal.opted_out.pop(email, None)
    asked.portal.consents[key] = body["statusState"]
    asked.portal.consents_at[key] = asked.now_ms
    asked.record("set_status", email=email, **body)
    return Served(_done([{**_status(asked, email, key[1]), "setStatusSuccessReason": reason}]))


def statuses(asked: Asked) -> Served:
    """What an address said about each type. (developers.hubspot.com "Retrieve subscription preferences", read 2026-11-29)"""
    email = _asked_email(asked)
    return Served(_done([_status(asked, email, type_) for who, type_ in asked.portal.consents if who == email]))


def unsubscribed(asked: Asked) -> Served:
    """Whether an address is unsubscribed from all; empty where it is not. (the same, "unsubscribed status")"""
    email = _asked_email(asked)
    at = asked.portal.opted_out.get(email)
    told = {"subscriberIdString": email, "channel": "EMAIL", "wideStatusType": "PORTAL_WIDE", "status": "UNSUBSCRIBED"}
    return Served(_done([] if at is None else [{**told, "timestamp": rfc3339(at)}]))


def _asked_email(asked: Asked) -> str:
    if asked.query.get("channel") != "EMAIL":
        raise Refusal(400, "VALIDATION_ERROR", "channel is missing")
    return asked.match["email"].lower()


def _status(asked: Asked, email: str, type_: str) -> Fields:
    return {
        "subscriberIdString": email,
        "subscriptionId": int(type_),
        "channel": "EMAIL",
        "source": "API",
        "status": asked.portal.consents[email, type_],
        "timestamp": rfc3339(asked.portal.consents_at.get((email, type_), 0)),
    }


def _done(results: list[Fields]) -> Fields:
    return {"status": "COMPLETE", "results": results}


def token_info(asked: Asked) -> Served:
    """What a private app's token may do. (developers.hubspot.com "Private apps", read 2026-11-22)"""
    _required(asked.body, "tokenKey")
    if asked.portal.scopes is None or asked.body["tokenKey"] != asked.token:
        raise Refusal(404, "OBJECT_NOT_FOUND", "no private app has this token")
    portal = int(asked.portal.id)
    return Served({"userId": 901, "hubId": portal, "appId": 1, "scopes": asked.portal.scopes})


# -- custom events, the account ----------------------------------------------------------------------------------------


def custom_event(asked: Asked) -> Served:
    body = asked.body
    _required(body, "eventName")
    if not body["eventName"].startswith(f"pe{asked.portal.id}_"):
        raise Refusal(400, "VALIDATION_ERROR", "no event definition of this name")
    if not any(body.get(name) for name in ("email", "objectId", "utk")):
        raise Refusal(400, "VALIDATION_ERROR", "nothing says whose event it is")
    uuid = body.get("uuid")
    if uuid is None or uuid not in asked.portal.occurrences:
        asked.portal.occurrences.add(uuid)
        asked.record("custom_event", **body)
    return Served(status=204)


def details(asked: Asked) -> Served:
    return Served(
        {
            "portalId": int(asked.portal.id),
            "accountType": "SANDBOX",
            "timeZone": "Europe/Istanbul",
            "companyCurrency": "EUR",
            "uiDomain": "app.hubspot.com",
        }
    )


_DATED = r"{version:\d{4}-\d\d}"


def routes() -> Iterator[tuple[str, str, Handler]]:
    """(method, path, handler) in both the numbered and the dated spelling."""
    yield "GET", "/marketing/v3/forms", forms
    yield "GET", "/form-integrations/v1/submissions/forms/{form}", submissions
    yield "GET", "/email/public/v1/events", email_events
    for path in ("/marketing/v3/emails", f"/marketing/emails/{_DATED}"):
        yield "GET", path, emails
    for path in (
        "/marketing/v4/email/single-send",
        f"/marketing/email-campaigns/{_DATED}/single-send",
        "/marketing/v3/transactional/single-email/send",
        f"/marketing/transactional/{_DATED}/single-email/send",
    ):
        yield "POST", path, send
    for path in ("/communication-preferences/v4", f"/communication-preferences/{_DATED}"):
        yield "GET", path + "/definitions", definitions
        yield "POST", path + "/statuses/{email}", set_status
        yield "GET", path + "/statuses/{email}", statuses
        yield "GET", path + "/statuses/{email}/unsubscribe-all", unsubscribed
    for path in ("/events/v3/send", f"/events/{_DATED}/send", f"/events/custom/{_DATED}/send"):
        yield "POST", path, custom_event
    yield "POST", "/oauth/v2/private-apps/get/access-token-info", token_info
    for path in ("/account-info/v3/details", f"/account-info/{_DATED}/details"):
        yield "GET", path, details
