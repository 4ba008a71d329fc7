"""The clients of both products: whose account it is, where calls go, which answer is which error."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest

from hub import (
    AuthExpired,
    ChoiceQuery,
    Concurrency,
    Connector,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    VendorUnavailable,
)
from hub.connector import sandbox_secret
from hub.http import Answer, error_for
from hub_mailchimp import hub_register_connectors, mailchimp, mandrill
from hub_mailchimp.marketing import client
from hub_mailchimp.marketing.client import data_centre, everything, member_id, rfc3339
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.transactional import MandrillSandbox

from .conftest import ContextMaker, Listener

KEY = "0123456789abcdef0123456789abcdef"


def test_both_are_offered() -> None:
    offered: list[Connector] = []
    hub_register_connectors(offered.append)
    assert [connector.name for connector in offered] == ["mailchimp", "mandrill"]


# -- where calls go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "centre"),
    [
        ({"api_key": f"{KEY}-us21"}, "us21"),
        ({"api_key": f"{KEY}-eu1-us6"}, "us6"),
        ({"server": "us7", "access_token": "t"}, "us7"),
        ({"api_key": KEY}, "us0"),
        ({"api_key": f"{KEY}-evil.example.com/x?"}, "us0"),
        ({"api_key": f"{KEY}-us1.evil"}, "us0"),
        ({"api_key": f"{KEY}-us1\n"}, "us0"),
        ({"server": "us7/../evil", "access_token": "t"}, "us0"),
    ],
)
def test_no_key_chooses_another_host_than_a_data_centre(fields: dict[str, str], centre: str) -> None:
    assert data_centre(fields) == centre
    assert mailchimp.base_url(fields) == f"https://{centre}.api.mailchimp.com/3.0"


def test_the_version_of_the_api_is_pinned_by_a_setting() -> None:
    fields = {"api_key": "0" * 32 + "-us21", "api_version": "3.1"}
    assert mailchimp.base_url(fields) == "https://us21.api.mailchimp.com/3.1"
    assert mandrill.base_url({"api_version": "1.0"}) == "https://mandrillapp.com/api/1.0"


def test_a_key_that_is_none_is_refused_when_it_is_given() -> None:
    [field] = [f for f in mailchimp.auth[0].fields if f.name == "api_key"]
    assert field.pattern
    assert re.fullmatch(field.pattern, f"{KEY}-us21")
    for wrong in (KEY, f"{KEY}-us1.evil.example", f"{KEY}-us21\n", f"x{KEY}-us21"):
        assert not re.fullmatch(field.pattern, wrong)


def test_a_token_goes_to_the_metadata_under_another_name() -> None:
    headers = mailchimp.auth[1].headers
    assert headers({"access_token": "t"}) == {"Authorization": "OAuth t"}
    assert headers({"access_token": "t", "server": "us7"}) == {"Authorization": "Bearer t"}
    given = mailchimp.auth[0].headers({"api_key": "k", "account": "main"})["Authorization"]
    assert b64decode(given.removeprefix("Basic ")) == b"main:k"


async def test_whose_account_it_is(mail: ContextMaker, single: ContextMaker) -> None:
    assert mailchimp.whoami
    assert mandrill.whoami
    async with mail() as ctx:
        found = await mailchimp.whoami(ctx)
    assert (found.id, found.title, found.zone, found.fields) == ("main", "main Ltd", "Europe/Rome", {})
    async with single() as ctx:
        assert (await mandrill.whoami(ctx)).id == "public-main"


def test_a_member_is_named_by_the_lower_case_address_and_a_time_has_no_fraction() -> None:
    assert member_id(" Ada@Example.test ") == member_id("ada@example.test")
    assert rfc3339(1_795_169_730_999) == "2026-11-20T10:15:30Z"


async def test_a_collection_is_read_over_its_pages_without_links(
    marketing: MailchimpSandbox, mail: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    for number in range(5):
        await marketing.subscribe(f"p{number}@example.test")

    class Row(client.Answer):
        email_address: str

    async with mail() as ctx:
        rows = await everything(ctx, f"/lists/{DEFAULT_LIST}/members", "members", Row)
    assert [row.email_address for row in rows] == [f"p{number}@example.test" for number in range(5)]


# -- errors ------------------------------------------------------------------------------------------------------------


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def problem(title: str, status: int) -> dict[str, Any]:
    return {"title": title, "status": status, "detail": "ada@example.test is no good", "instance": "i-1"}


def meaning(connector: Connector, given: Answer) -> Exception | None:
    assert connector.classify
    return connector.classify(given) or error_for(given)


@pytest.mark.parametrize(
    ("status", "title", "error"),
    [
        (401, "API Key Invalid", AuthExpired),
        (401, "Something new", AuthExpired),
        (403, "User Disabled", AuthExpired),
        (403, "Compliance Related", AuthExpired),
        (403, "Forbidden", PermanentError),
        (403, "Something new", PermanentError),
        (404, "Resource Not Found", NotFound),
        (404, "Something new", NotFound),
        (405, "Method Not Allowed", Rejected),
        (400, "Invalid Resource", Rejected),
        (400, "Member In Compliance State", Rejected),
        (400, "Member Exists", Rejected),
        (429, "Too Many Requests", RateLimited),
        (500, "Internal Server Error", OutcomeUnknown),
        (503, "Service Unavailable", VendorUnavailable),
    ],
)
def test_a_problem_of_marketing_is_told_by_its_title_and_without_the_person(
    status: int, title: str, error: type[Exception]
) -> None:
    found = meaning(mailchimp, answer(status, problem(title, status)))
    assert type(found) is error
    assert "ada@" not in str(found)


def test_a_title_that_nobody_knows_is_not_passed_on() -> None:
    found = meaning(mailchimp, answer(400, problem("ada@example.test is bad", 400)))
    assert isinstance(found, Rejected)
    assert (found.code, found.request_id) == (None, "i-1")


@pytest.mark.parametrize(
    ("status", "error"), [(403, RateLimited), (429, RateLimited), (404, NotFound), (502, OutcomeUnknown)]
)
@pytest.mark.parametrize("body", [b"", b"<html>Access denied</html>", b"[]", b'"x"'])
def test_an_answer_of_the_edge_is_read_by_its_status(status: int, error: type[Exception], body: bytes) -> None:
    assert type(meaning(mailchimp, answer(status, body))) is error


def test_a_refused_token_is_one_also_with_200() -> None:
    assert isinstance(meaning(mailchimp, answer(200, {"error": "invalid_token"})), AuthExpired)
    assert meaning(mailchimp, answer(200, {"health_status": "Everything's Chimpy!"})) is None
    assert meaning(mailchimp, answer(204, b"")) is None


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (500, "Invalid_Key", AuthExpired),
        (401, "Invalid_Key", AuthExpired),
        (500, "ValidationError", Rejected),
        (500, "PaymentRequired", PermanentError),
        (404, "Unknown_Template", NotFound),
        (500, "Unknown_Subaccount", NotFound),
        (500, "GeneralError", OutcomeUnknown),
        (500, "Something_New", OutcomeUnknown),
        (400, "Something_New", Rejected),
        (429, "Something_New", RateLimited),
    ],
)
def test_an_error_of_transactional_is_told_by_its_name_whatever_the_status(
    status: int, name: str, error: type[Exception]
) -> None:
    body = {"status": "error", "code": -1, "name": name, "message": "ada@example.test is no good"}
    found = meaning(mandrill, answer(status, body))
    assert type(found) is error
    assert "ada@" not in str(found)


async def test_the_eleventh_call_at_once_is_refused_and_the_budget_leaves_some_for_others(
    marketing: MailchimpSandbox, mail: ContextMaker, listener: Listener
) -> None:
    assert list(mailchimp.budgets) == [Concurrency(6)]
    marketing._at_once = 10
    async with mail() as ctx:
        with pytest.raises(RateLimited):
            await ctx.http.request("GET", "/lists")
        marketing._at_once = 0
        await asyncio.gather(*[ctx.http.request("GET", "/lists") for _ in range(10)])


# -- choices -----------------------------------------------------------------------------------------------------------


async def test_what_can_be_chosen(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    account = marketing.account("main")
    account.templates.append({"id": 7, "name": "Cart", "type": "user"})
    account.lists[DEFAULT_LIST].segment("vip")

    async def labels(name: str, search: str = "") -> list[tuple[str, str]]:
        async with mail() as ctx:
            query = ChoiceQuery(search=search, within={"list_id": DEFAULT_LIST})
            return [(choice.id, choice.label) for choice in (await mailchimp.choices[name](ctx, query)).items]

    assert await labels("lists") == [(DEFAULT_LIST, "News")]
    assert await labels("lists", "ews") == [(DEFAULT_LIST, "News")]
    assert await labels("lists", "old") == []
    assert await labels("segments") == [("9000", "vip")]
    assert await labels("tags", "IP") == [("vip", "vip")]
    assert await labels("merge_fields", "first") == [("FNAME", "First name")]
    assert await labels("templates") == [("7", "Cart")]
    assert await labels("stores") == []


async def test_choices_are_asked_for_page_by_page_and_within_an_audience(
    marketing: MailchimpSandbox, mail: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_mailchimp.marketing.client.PAGE_SIZE", 2)
    for name in ("a", "b", "c"):
        marketing.account("main").lists[DEFAULT_LIST].segment(name)
    read: Callable[..., Any] = mailchimp.choices["segments"]
    async with mail() as ctx:
        first = await read(ctx, ChoiceQuery(within={"list_id": DEFAULT_LIST}))
        second = await read(ctx, ChoiceQuery(cursor=first.cursor, within={"list_id": DEFAULT_LIST}))
        with pytest.raises(Rejected, match="audience first"):
            await read(ctx, ChoiceQuery(within={}))
    assert [choice.label for choice in (*first.items, *second.items)] == ["a", "b", "c"]
    assert (first.cursor, second.cursor) == ("2", None)


async def test_templates_and_subaccounts_of_transactional_can_be_chosen(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    transactional.templates["main"] = [{"slug": "cart", "name": "Your cart"}, {"slug": "old", "name": ""}]
    transactional.subaccounts["main"] = [{"id": "one", "name": "First"}]
    async with single() as ctx:
        found = (await mandrill.choices["templates"](ctx, ChoiceQuery(within={}))).items
        assert [(choice.id, choice.label) for choice in found] == [("cart", "Your cart"), ("old", "old")]
        # one without a title is found by what it is shown as
        found = (await mandrill.choices["templates"](ctx, ChoiceQuery(search="ol", within={}))).items
        assert [choice.id for choice in found] == ["old"]
        found = (await mandrill.choices["subaccounts"](ctx, ChoiceQuery(search="fir", within={}))).items
        assert [(choice.id, choice.label) for choice in found] == [("one", "First")]


def test_a_sandbox_key_is_the_one_that_the_hub_derives(marketing: MailchimpSandbox) -> None:
    assert marketing.secret("main", "api_key") == sandbox_secret("mailchimp", "main", "api_key")
