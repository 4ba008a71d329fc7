"""Authorisation, errors by code, the vendor's count, and what whoami and choices read."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from multidict import CIMultiDict

from hub import (
    AuthExpired,
    ChoiceQuery,
    ConnectorError,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    Rejected,
    RetryableError,
    Subscription,
)
from hub.http import Answer
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.choices import audiences, campaigns, forms, pages, pixels
from hub_facebook_ads.client import CALLS_PER_HOUR, throttle, whoami
from hub_facebook_ads.connector import appsecret_proof
from hub_facebook_ads.errors import classify
from hub_facebook_ads.sandbox import ALL_SCOPES, FacebookSandbox
from hub_facebook_ads.sandbox.business import Business
from hub_facebook_ads.subscriptions import LeadSubscriptions

AD_ACCOUNT, PAGE = "act_111", "119440231087027"


def answer(body: Any, status: int = 400, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), raw)


def failed(code: int, subcode: int = 0, **more: Any) -> dict[str, Any]:
    message = "Jane Doe jane@example.com does not fit"
    error = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "Atrace", **more}
    return {"error": error | ({"error_subcode": subcode} if subcode else {})}


# -- authorisation -----------------------------------------------------------------------------------------------------


def test_the_vector_of_the_proof() -> None:
    proof = "b893e14e5f9055cd8bbaba4e7b1a51106428518daf4f9a0e493ef3e8f490a28f"
    assert appsecret_proof("meta_app_secret_0001", "EAAtoken") == proof
    for kind in facebook_ads.auth:
        fields = {"access_token": "EAAtoken", "app_secret": "meta_app_secret_0001"}
        assert kind.params
        assert kind.params(fields) == {"appsecret_proof": proof}
        assert kind.headers(fields) == {"Authorization": "Bearer EAAtoken"}


def test_a_token_of_another_gets_another_proof() -> None:
    assert appsecret_proof("s", "EAAtoken") != appsecret_proof("s", "EAAother")


def test_a_connection_is_found_by_its_page_else_by_its_ad_account() -> None:
    assert facebook_ads.account({"ad_account_id": AD_ACCOUNT}) == AD_ACCOUNT
    assert facebook_ads.account({"ad_account_id": AD_ACCOUNT, "page_id": PAGE}) == PAGE
    assert facebook_ads.account({"page_id": PAGE}) == PAGE


async def test_the_account_is_told_with_its_zone_and_currency(context: Any) -> None:
    async with context() as ctx:
        both = await whoami(ctx)
    async with context({"ad_account_id": AD_ACCOUNT}) as ctx:
        ad_account = await whoami(ctx)
    async with context({"page_id": PAGE}) as ctx:
        page = await whoami(ctx)
    assert (both.id, ad_account.id, page.id) == (PAGE, AD_ACCOUNT, PAGE)
    assert (ad_account.zone, ad_account.currency, page.currency) == ("Europe/Istanbul", "EUR", None)


async def test_an_address_of_a_call_holds_no_token(context: Any, sandbox: FacebookSandbox) -> None:
    seen: list[str] = []
    original = sandbox._answer

    async def noted(request: Any) -> Any:
        seen.append(str(request.url))
        return await original(request)

    sandbox._answer = noted  # type: ignore[method-assign]  # only looks on
    async with context() as ctx:
        await whoami(ctx)
        token = ctx.http.credentials["access_token"]
    assert seen
    assert not any(token in url or "access_token" in url for url in seen)


async def test_a_version_that_nears_its_end_is_told_to_the_operator(
    context: Any, sandbox: FacebookSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.version_ends = True
    with caplog.at_level(logging.WARNING):
        async with context() as ctx:
            await whoami(ctx)
    assert {record.what for record in caplog.records} == {"api_version_ending"}
    assert {record.version for record in caplog.records} == {"v26.0"}


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "subcode", "expected"),
    [
        (1, 0, OutcomeUnknown),
        (1, 99, OutcomeUnknown),
        (2, 0, OutcomeUnknown),
        (3, 0, PermanentError),
        (4, 0, RateLimited),
        (10, 0, PermanentError),
        (17, 0, RateLimited),
        (32, 0, RateLimited),
        (100, 0, Rejected),
        (100, 33, NotFound),
        (100, 1713230, PermanentError),
        (100, 2804003, Rejected),
        (102, 0, AuthExpired),
        (105, 0, Rejected),
        (190, 0, AuthExpired),
        (190, 458, AuthExpired),
        (190, 460, AuthExpired),
        (190, 463, AuthExpired),
        (190, 467, AuthExpired),
        (200, 0, PermanentError),
        (200, 1870050, PermanentError),
        (200, 1870090, PermanentError),
        (294, 0, PermanentError),
        (299, 0, PermanentError),
        (341, 0, RetryableError),
        (368, 0, RetryableError),
        (613, 0, RateLimited),
        (613, 1996, RateLimited),
        (1487301, 0, NotFound),
        (1487366, 0, NotFound),
        (100, 1487366, NotFound),
        (2650, 0, PermanentError),
        (2650, 1870144, Rejected),
        (2650, 1870145, RetryableError),
        (2655, 0, PermanentError),
        (5000, 0, OutcomeUnknown),
        (21009, 0, OutcomeUnknown),
        (80000, 0, RateLimited),
        (80003, 0, RateLimited),
        (80014, 0, RateLimited),
        (99999, 0, Rejected),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
def test_the_code_decides_and_not_the_status(
    code: int, subcode: int, expected: type[ConnectorError], status: int
) -> None:
    if code == 99999 and status == 500:
        expected = OutcomeUnknown
    error = classify(answer(failed(code, subcode), status))
    assert isinstance(error, expected)
    assert (error.code, error.request_id) == (f"{code}/{subcode}" if subcode else str(code), "Atrace")
    assert error.code in str(error)
    assert "jane" not in str(error).lower()


def test_a_throttling_waits_for_the_minutes_that_meta_estimates() -> None:
    count = json.dumps({"1": [{"type": "custom_audience", "estimated_time_to_regain_access": 7}], "2": [{}]})
    told = classify(answer(failed(80003), x_business_use_case_usage=count))
    untold = classify(answer(failed(80003)))
    assert isinstance(told, RateLimited)
    assert told.retry_after_s == 7 * 60
    assert isinstance(untold, RateLimited)
    assert untold.retry_after_s == 60


def test_a_passing_fault_is_asked_again_whatever_its_code() -> None:
    assert isinstance(classify(answer(failed(99999, is_transient=True))), OutcomeUnknown)
    assert isinstance(classify(answer(failed(190, is_transient=True))), OutcomeUnknown)
    assert isinstance(classify(answer(failed(190, 463, is_transient=True))), AuthExpired)


@pytest.mark.parametrize("success", [False, "false", "False"])
def test_a_good_status_may_say_that_nothing_was_done(success: Any) -> None:
    assert isinstance(classify(answer({"success": success}, 200)), Rejected)


@pytest.mark.parametrize("body", [{"success": True}, {"success": "true"}, {"data": []}, {"id": "1"}, []])
def test_a_good_answer_is_none(body: Any) -> None:
    assert classify(answer(body, 200)) is None


@pytest.mark.parametrize("status", [200, 400, 500, 502])
def test_a_web_page_is_no_answer(status: int) -> None:
    assert isinstance(classify(answer(b"<!DOCTYPE html><title>Sorry</title>", status)), OutcomeUnknown)


def test_what_is_no_json_is_left_to_the_status_or_unknown() -> None:
    assert classify(answer(b"", 403)) is None
    assert isinstance(classify(answer(b"", 200)), OutcomeUnknown)
    assert isinstance(classify(answer({"error": {"code": "odd"}}, 400)), OutcomeUnknown)


def test_a_refusal_names_the_fields_and_meta_s_sentence_unless_it_quotes_somebody() -> None:
    data = {"blame_field_specs": [["data", "0", "currency"], ["user", "jane@example.com"]]}
    named = classify(answer(failed(100, error_user_msg="The currency is wrong", error_data=data)))
    quoted = classify(answer(failed(100, error_user_title="Wrong value", error_user_msg="jane@example.com is wrong")))
    assert str(named) == "Meta refused the call (100) at data.0.currency: The currency is wrong"
    assert str(quoted) == "Meta refused the call (100): Wrong value"


async def test_errors_come_the_same_way_over_http(context: Any, sandbox: FacebookSandbox) -> None:
    async with context() as ctx:
        sandbox.web_page_next = 1
        with pytest.raises(OutcomeUnknown, match="web page"):
            await whoami(ctx)
        sandbox.error_codes = [(190, 463)]
        with pytest.raises(AuthExpired, match="expired"):
            await whoami(ctx)
        sandbox.throttle_until_ms, sandbox.wait_minutes = sandbox.clock.now_ms() + 1, 3
        with pytest.raises(RateLimited) as limited:
            await whoami(ctx)
    assert limited.value.retry_after_s == 180


# -- the vendor's count ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "share"), [(0, 1.0), (28, 67 / 95), (75, 20 / 95), (95, 0.0), (120, 0.0)])
def test_the_fullest_count_says_how_much_is_left(percent: int, share: float) -> None:
    counts = json.dumps({"1": [{"call_count": percent, "total_time": 0}, {"call_count": 0, "total_cputime": percent}]})
    told = throttle(answer({}, 200, x_business_use_case_usage=counts))
    assert told
    assert told.available == pytest.approx(share * CALLS_PER_HOUR)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_app_usage": '{"call_count":50,"total_cputime":1,"total_time":1}'},
        {"x_ad_account_usage": '{"acc_id_util_pct":50.0,"reset_time_duration":100}'},
    ],
)
def test_other_counts_are_heard_too(headers: dict[str, str]) -> None:
    told = throttle(answer({}, 200, **headers))
    assert told
    assert told.available == pytest.approx(45 / 95 * CALLS_PER_HOUR)


@pytest.mark.parametrize("value", ["", "no json", "[]", '{"1": "odd"}', '{"1": [{"call_count": "many"}]}'])
def test_a_count_that_cannot_be_read_says_nothing(value: str) -> None:
    assert throttle(answer({}, 200, x_business_use_case_usage=value)) is None


# -- choices -----------------------------------------------------------------------------------------------------------


async def test_all_audiences_can_be_chosen_page_by_page(context: Any, business: Business) -> None:
    # given
    for number in range(25):
        business.audience(f"Audience {number}")

    # when
    async with context() as ctx:
        first = await audiences(ctx, ChoiceQuery(within={}))
        second = await audiences(ctx, ChoiceQuery(within={}, cursor=first.cursor))
        found = await audiences(ctx, ChoiceQuery(within={}, search="audience 7"))

    # then
    assert (len(first.items), len(second.items), second.cursor) == (20, 5, None)
    assert {one.label for one in (*first.items, *second.items)} == {f"Audience {number}" for number in range(25)}
    assert [(one.label, one.hint) for one in found.items] == [("Audience 7", "custom")]


async def test_everything_else_can_be_chosen_too(context: Any, business: Business) -> None:
    business.form(id="222", name="Scarves")
    async with context() as ctx:
        for read, label in ((campaigns, "Winter"), (pixels, "Shop"), (pages, "Wool and more"), (forms, "Scarves")):
            assert [one.label for one in (await read(ctx, ChoiceQuery(within={}))).items] == [label]
        assert [one.hint for one in (await campaigns(ctx, ChoiceQuery(within={}))).items] == ["active"]
        assert (await facebook_ads.choices["ad_sets"](ctx, ChoiceQuery(within={}))).items[0].id == "1112"


async def test_an_ad_account_has_no_forms_and_a_page_no_audiences(context: Any) -> None:
    async with context({"ad_account_id": AD_ACCOUNT}) as ctx:
        with pytest.raises(Rejected, match="page_id"):
            await forms(ctx, ChoiceQuery(within={}))
    async with context({"page_id": PAGE}) as ctx:
        with pytest.raises(Rejected, match="ad_account_id"):
            await audiences(ctx, ChoiceQuery(within={}))


# -- subscriptions -----------------------------------------------------------------------------------------------------

APP = {"page_id": PAGE, "app_id": "1000000000000001"}
HERE = "https://hub.example/webhooks/facebook_ads/k"
OF_APP = "app/page/leadgen"


async def test_a_page_is_subscribed_once_and_keeps_what_it_had(
    context: Any, sandbox: FacebookSandbox, business: Business
) -> None:
    # given
    business.subscribed = {"1000000000000001": ["feed"], "77": ["leadgen"]}
    kept = LeadSubscriptions()

    async with context(APP, callback_url=HERE) as ctx:
        # when
        made = await kept.create(ctx, "leadgen", HERE)
        again = await kept.create(ctx, "leadgen", HERE)

        # then
        assert made == again
        assert business.subscribed["1000000000000001"] == ["feed", "leadgen"]
        listed = {(one.id, one.topic, one.address) for one in await kept.list(ctx)}
    assert listed == {
        ("1000000000000001:feed", "feed", HERE),
        ("1000000000000001:leadgen", "leadgen", HERE),
        ("77:leadgen", "leadgen", "app:77"),
    }


async def test_one_field_is_taken_back_and_the_others_stay(context: Any, business: Business) -> None:
    business.subscribed = {"1000000000000001": ["feed", "leadgen"], "77": ["leadgen"]}
    kept = LeadSubscriptions()
    async with context(APP, callback_url=HERE) as ctx:
        own = next(one for one in await kept.list(ctx) if one.topic == "leadgen" and one.address == HERE)
        theirs = next(one for one in await kept.list(ctx) if one.address != HERE)
        await kept.delete(ctx, own)
        await kept.delete(ctx, own)
        with pytest.raises(Rejected):
            await kept.delete(ctx, theirs)
    assert business.subscribed == {"1000000000000001": ["feed"], "77": ["leadgen"]}


async def test_nothing_is_wanted_where_the_app_or_the_page_is_not_known(context: Any) -> None:
    kept = LeadSubscriptions()
    async with context(APP) as ctx:
        assert list(await kept.wanted(ctx, ["leadgen"])) == ["leadgen", OF_APP]
    for settings in ({"page_id": PAGE}, {"ad_account_id": AD_ACCOUNT}):
        async with context(settings) as ctx:
            assert list(await kept.wanted(ctx, ["leadgen"])) == []
    async with context({"ad_account_id": AD_ACCOUNT}) as ctx:
        assert list(await kept.list(ctx)) == []


async def test_the_app_is_told_where_to_call_and_greets_first(
    context: Any, sandbox: FacebookSandbox, inbox: Any
) -> None:
    # given
    kept = LeadSubscriptions()
    async with context(APP, callback_url=inbox.url) as ctx:
        # when
        made = await kept.create(ctx, OF_APP, inbox.url)
        again = await kept.create(ctx, OF_APP, inbox.url)

        # then
        assert made == again
        assert sandbox.callbacks["page"]["callback_url"] == inbox.url
        assert [one for one in await kept.list(ctx) if one.topic == OF_APP] == [made]
        await kept.delete(ctx, made)
        await kept.delete(ctx, made)
        assert [one for one in await kept.list(ctx) if one.topic == OF_APP] == []
    assert sandbox.callbacks == {}


async def test_a_field_of_the_app_is_taken_back_and_its_others_stay(
    context: Any, sandbox: FacebookSandbox, inbox: Any
) -> None:
    kept = LeadSubscriptions()
    sandbox.callbacks["page"] = {"callback_url": inbox.url, "fields": ["feed"]}
    async with context(APP, callback_url=inbox.url) as ctx:
        made = await kept.create(ctx, OF_APP, inbox.url)
        assert sandbox.callbacks["page"]["fields"] == ["feed", "leadgen"]
        await kept.delete(ctx, made)
    assert sandbox.callbacks["page"] == {"callback_url": inbox.url, "fields": ["feed"]}


async def test_an_address_that_another_tool_set_for_the_app_is_never_replaced(
    context: Any, sandbox: FacebookSandbox, inbox: Any
) -> None:
    # given
    theirs = {"callback_url": "https://other.example/hook?token=t0p", "fields": ["leadgen"], "active": False}
    sandbox.callbacks["page"] = dict(theirs)
    kept = LeadSubscriptions()
    async with context(APP, callback_url=inbox.url) as ctx:
        # when
        with pytest.raises(Rejected, match=r"other\.example") as refused:
            await kept.create(ctx, OF_APP, inbox.url)
        ours = Subscription(id="x", topic=OF_APP, address=inbox.url)
        await kept.delete(ctx, ours)

    # then
    assert "t0p" not in str(refused.value)
    assert sandbox.callbacks["page"] == theirs


async def test_one_that_meta_switched_off_is_not_there_and_is_made_anew(
    context: Any, sandbox: FacebookSandbox, inbox: Any
) -> None:
    kept = LeadSubscriptions()
    sandbox.callbacks["page"] = {"callback_url": inbox.url, "fields": ["leadgen"], "active": False}
    async with context(APP, callback_url=inbox.url) as ctx:
        assert [one for one in await kept.list(ctx) if one.topic == OF_APP] == []
        made = await kept.create(ctx, OF_APP, inbox.url)
        assert [one for one in await kept.list(ctx) if one.topic == OF_APP] == [made]


async def test_a_former_address_of_ours_is_moved_and_not_deleted_after(
    context: Any, sandbox: FacebookSandbox, inbox: Any
) -> None:
    kept = LeadSubscriptions()
    sandbox.callbacks["page"] = {"callback_url": "https://old.example/webhooks/facebook_ads/k", "fields": ["leadgen"]}
    async with context(APP, callback_url=inbox.url) as ctx:
        [former] = [one for one in await kept.list(ctx) if one.topic == OF_APP]
        made = await kept.create(ctx, OF_APP, inbox.url)
        await kept.delete(ctx, former)
        assert [one for one in await kept.list(ctx) if one.topic == OF_APP] == [made]
    assert former.id != made.id


async def test_a_wrong_secret_of_the_app_is_no_end_of_the_token(context: Any, sandbox: FacebookSandbox) -> None:
    kept = LeadSubscriptions()
    async with context(APP, callback_url=HERE) as ctx:
        sandbox.error_codes = [(190, 0)]
        with pytest.raises(Rejected, match="app_secret"):
            await kept.create(ctx, OF_APP, HERE)


def test_the_app_s_own_token_and_its_proof() -> None:
    fields = {"access_token": "EAAtoken", "app_id": "77", "app_secret": "s"}
    of_app = facebook_ads.app_auth
    assert of_app
    assert of_app.params
    assert of_app.headers(fields) == {"Authorization": "Bearer 77|s"}
    assert of_app.params(fields) == {"appsecret_proof": appsecret_proof("s", "77|s")}


# -- what the token is -------------------------------------------------------------------------------------------------

BOTH = {"ad_account_id": AD_ACCOUNT, **APP}


async def test_a_token_that_never_ends_and_lacks_nothing_is_warned_of_nothing(context: Any) -> None:
    async with context(BOTH) as ctx:
        assert (await whoami(ctx)).warnings == ()


async def test_a_token_that_ends_is_warned_of(context: Any, sandbox: FacebookSandbox) -> None:
    sandbox.token = {"type": "USER", "expires_at": 1798761600}
    async with context(BOTH) as ctx:
        [told] = (await whoami(ctx)).warnings
    assert "2027-01-01T00:00:00Z" in told
    assert "system user" in told


async def test_scopes_that_the_token_lacks_are_named_by_what_the_connection_is_for(
    context: Any, sandbox: FacebookSandbox
) -> None:
    sandbox.token = {"scopes": [one for one in ALL_SCOPES if one not in {"leads_retrieval", "ads_management"}]}
    async with context(BOTH) as ctx:
        [told] = (await whoami(ctx)).warnings
    assert "ads_management, leads_retrieval" in told
    async with context({"page_id": PAGE, "app_id": APP["app_id"]}) as ctx:
        [told] = (await whoami(ctx)).warnings
    assert "leads_retrieval" in told
    assert "ads_management" not in told


async def test_without_an_app_id_the_token_cannot_be_looked_at(context: Any, sandbox: FacebookSandbox) -> None:
    sandbox.token = {"expires_at": 1798761600}
    async with context({"ad_account_id": AD_ACCOUNT, "page_id": PAGE}) as ctx:
        [told] = (await whoami(ctx)).warnings
    assert "app_id" in told


async def test_a_token_of_another_app_is_warned_of_and_fails_no_test(context: Any, sandbox: FacebookSandbox) -> None:
    async with context(BOTH) as ctx:
        sandbox.error_codes = [None, None, (100, 0)]
        found = await whoami(ctx)
    assert found.title
    assert "cannot be looked at" in found.warnings[0]
