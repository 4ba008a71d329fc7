"""The client: which answer is which error, what is never repeated, addresses of each version, the account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import date
from typing import Any

import pytest

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    ConnectorError,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    VendorUnavailable,
)
from hub.http import Answer, error_for
from hub_hubspot import hubspot
from hub_hubspot.client import Record, classify, contact_ids, read, read_records, throttle, whoami
from hub_hubspot.paths import DEFAULT, ENDS, path
from hub_hubspot.sandbox import HubspotSandbox, Portal

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
SECRET_WORDS = "ada@example.test is not valid"


def answer(status: int, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    content = {"status": "error", "message": SECRET_WORDS, "correlationId": "c-1", **body}
    return Answer(status, headers or {}, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        (answer(400, category="VALIDATION_ERROR"), Rejected, "VALIDATION_ERROR"),
        (answer(401, category="INVALID_AUTHENTICATION"), AuthExpired, ""),
        (answer(403, category="MISSING_SCOPES"), Rejected, "scope"),
        (answer(403, category="BANNED"), Rejected, "plan"),
        (answer(404, category="OBJECT_NOT_FOUND"), NotFound, "no such thing"),
        (answer(409, category="CONFLICT"), Rejected, "already"),
        (answer(414), Rejected, "fewer properties"),
        (answer(423), VendorUnavailable, "changed by others"),
        (answer(477, {"Retry-After": "3600"}), VendorUnavailable, "moving"),
        (answer(500), OutcomeUnknown, "500"),
        (answer(502), OutcomeUnknown, "502"),
        (answer(503), OutcomeUnknown, "503"),
        (answer(504), OutcomeUnknown, "504"),
        (answer(524), OutcomeUnknown, "524"),
        (Answer(400, {}, b"<html>"), Rejected, "accept"),
        (Answer(404, {}, b"[]"), NotFound, "no such thing"),
    ],
)
def test_status_and_category_tell_the_error(found: Answer, error: type[Exception], said: str) -> None:
    problem = classify(found) or error_for(found)
    assert type(problem) is error
    assert said in str(problem)
    assert "ada" not in str(problem)


@pytest.mark.parametrize(
    ("found", "wait_s"),
    [
        (answer(429, policyName="TEN_SECONDLY_ROLLING"), 10),
        (answer(429, policyName="SECONDLY"), 1),
        (answer(429, policyName="DAILY"), 3600),
        (answer(429, policyName="ELSE"), 10),
        (answer(429, {"Retry-After": "7"}, policyName="DAILY"), 7),
        (Answer(429, {}, b""), 10),
    ],
)
def test_a_limit_is_waited_for_as_its_policy_asks(found: Answer, wait_s: float) -> None:
    problem = classify(found)
    assert isinstance(problem, RateLimited)
    assert problem.retry_after_s == wait_s


@pytest.mark.parametrize(("status", "wait_s"), [(423, 2), (477, 5)])
def test_a_record_or_account_that_is_busy_is_asked_again_later(status: int, wait_s: float) -> None:
    problem = classify(answer(status, {"Retry-After": "5"} if status == 477 else {}))
    assert isinstance(problem, VendorUnavailable)
    assert problem.retry_after_s == wait_s


def test_an_error_names_properties_and_codes_and_never_values() -> None:
    details = [
        {"message": SECRET_WORDS, "code": "INVALID_EMAIL", "context": {"propertyName": ["email", "ada@example.test"]}},
        {"message": SECRET_WORDS, "code": SECRET_WORDS},
    ]
    problem = classify(answer(400, category="VALIDATION_ERROR", errors=details))
    assert isinstance(problem, ConnectorError)
    assert "(VALIDATION_ERROR; INVALID_EMAIL; about email)" in str(problem)
    assert "ada" not in str(problem)
    assert (problem.code, problem.request_id) == ("VALIDATION_ERROR", "c-1")


def test_a_success_is_no_error_even_in_part() -> None:
    assert classify(answer(200)) is None
    assert classify(answer(207, category="VALIDATION_ERROR")) is None


def test_what_is_left_of_the_calls_is_read_where_it_is_told() -> None:
    told = throttle(answer(200, {"X-HubSpot-RateLimit-Remaining": "42"}))
    assert told is not None
    assert told.available == 42
    assert throttle(answer(200)) is None
    assert throttle(answer(200, {"X-HubSpot-RateLimit-Remaining": "many"})) is None


@pytest.mark.parametrize("body", [b"[]", b'{"id": "1"}', b'{"id": "1", "properties": [], "createdAt": "x"}'])
def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown_and_says_no_value(body: bytes) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        read(Record, Answer(200, {}, body))
    assert caught.value.__cause__ is None


# -- records -----------------------------------------------------------------------------------------------------------


async def test_more_records_than_one_call_takes_are_read_in_several(portal: Portal, context: ContextMaker) -> None:
    ids = [portal.make("contacts", {"email": f"p{n}@example.test"}, 0).id for n in range(201)]
    async with context() as ctx:
        found = await read_records(ctx, "contacts", [*ids, "999", ids[0]], ["email"])
    assert [record.id for record in found] == ids
    assert len(portal.calls) == 3


async def test_contacts_are_found_by_any_of_their_addresses(portal: Portal, context: ContextMaker) -> None:
    ada = portal.make(
        "contacts", {"email": "ada@example.test", "hs_additional_emails": "a@example.test;Al@example.test"}, 0
    )
    names = ["ADA@example.test", "al@example.test", ada.id, "nobody@example.test"]
    async with context() as ctx:
        found = await contact_ids(ctx, names)
    assert found == dict.fromkeys(names[:3], ada.id)


async def test_the_account_names_itself(context: ContextMaker) -> None:
    async with context() as ctx:
        assert await whoami(ctx) == Account("62515", "HubSpot 62515", "Europe/Istanbul", "EUR")


async def test_a_token_of_another_account_is_refused(sandbox: HubspotSandbox, context: ContextMaker) -> None:
    async with context({"portal_id": "99999"}) as ctx:
        with pytest.raises(AuthExpired):
            await whoami(ctx)


# -- versions ----------------------------------------------------------------------------------------------------------


def test_the_ends_of_versions_are_those_that_are_known(facts: dict[str, Any]) -> None:
    assert ENDS["v3"].isoformat() == facts["ends"]["v4"]
    for version, end in ENDS.items():
        if re.fullmatch(r"\d{4}-\d\d", version):
            begun = date.fromisoformat(version + "-01")
            months = (end.year - begun.year) * 12 + end.month - begun.month
            assert months == facts["support_months"]
    assert hubspot.versions
    assert hubspot.versions.ends is ENDS


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09", "2027-03"])
async def test_every_version_is_asked_at_its_own_addresses(version: str, context: ContextMaker, witness: Any) -> None:
    async with context({"api_version": version}) as ctx:
        assert (await whoami(ctx)).id == "62515"
        await read_records(ctx, "contacts", ["1"], [])
    assert [version in one.path for one in witness.requests] == [True, True]


def test_what_has_no_dated_address_is_asked_at_the_numbered_one() -> None:
    settings = {"api_version": "2026-09"}
    assert path(settings, "submissions", "/f") == "/form-integrations/v1/submissions/forms/f"
    assert path(settings, "forms") == "/marketing/v3/forms"
    assert path(settings, "email_events") == "/email/public/v1/events"
    assert path(settings, "custom_events") == "/events/custom/2026-09/send"
    assert path({}, "objects") == f"/crm/objects/{DEFAULT}"
    assert path({"api_version": "v3"}, "token") == "/oauth/v3/token"
