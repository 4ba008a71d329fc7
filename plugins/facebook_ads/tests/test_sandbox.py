"""That the sandbox behaves like Meta, with Meta's own library as its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adspixel import AdsPixel
from facebook_business.adobjects.campaign import Campaign
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.lead import Lead
from facebook_business.adobjects.leadgenform import LeadgenForm
from facebook_business.adobjects.page import Page
from facebook_business.adobjects.serverside.event import Event
from facebook_business.adobjects.serverside.user_data import UserData
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from hub import AuthExpired
from hub.testing.sandbox import SandboxServer, load_sandbox
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.actions.members import Member, add_to_audience
from hub_facebook_ads.client import whoami
from hub_facebook_ads.sandbox import APP_ID, FacebookSandbox
from hub_facebook_ads.sandbox.business import Business

AD_ACCOUNT, PAGE = "act_111", "119440231087027"


@pytest.fixture
def official(server: SandboxServer, business: Business, secret: Callable[[str], str]) -> FacebookAdsApi:
    """Meta's own client, with the sandbox in Meta's place; it sends the proof by itself."""
    session = FacebookSession(APP_ID, secret("app_secret"), secret("access_token"))
    session.GRAPH = f"{server.url}/facebook_ads"
    return FacebookAdsApi(session, api_version="v26.0")


async def ask(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(function, *args, **kwargs)


# -- the official library ----------------------------------------------------------------------------------------------


async def test_the_official_client_reads_the_ad_account(official: FacebookAdsApi) -> None:
    found = await ask(AdAccount(AD_ACCOUNT, api=official).api_get, fields=["name", "currency", "account_status"])
    assert (found["currency"], found["account_status"]) == ("EUR", 1)


async def test_the_official_client_makes_an_audience_and_fills_it(official: FacebookAdsApi, business: Business) -> None:
    # given
    made = await ask(
        AdAccount(AD_ACCOUNT, api=official).create_custom_audience,
        params={"name": "Theirs", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"},
    )
    schema, people = ["EMAIL", "PHONE"], [["Jane@Example.com", "+1 415 555 0100"], ["john@example.com", "14155550101"]]

    # when
    audience = CustomAudience(made["id"], api=official)
    added = await ask(audience.add_users, schema, people, is_raw=True, session={"session_id": 7, "batch_seq": 1})
    removed = await ask(audience.remove_users, schema, people[:1], is_raw=True)
    sessions = await ask(audience.get_sessions, params={"session_id": 7})

    # then
    assert added.json()["num_received"] == 2
    assert removed.json()["num_received"] == 1
    assert len(business.members[made["id"]]) == 1
    assert sessions[0]["num_received"] == "2"


async def test_the_official_client_and_the_connector_mean_the_same_people(
    official: FacebookAdsApi, business: Business, ctx: Any
) -> None:
    audience = str(business.audience("Ours")["id"])
    await add_to_audience.run(ctx, Member(audience_id=audience, email="Jane@Example.com ", phone="+14155550100"))
    theirs = CustomAudience(audience, api=official)
    await ask(theirs.remove_users, ["EMAIL"], [["jane@example.com"]], is_raw=True)
    assert business.members[audience] == []


async def test_the_official_client_pages_through_audiences(official: FacebookAdsApi, business: Business) -> None:
    for number in range(45):
        business.audience(f"Audience {number}")
    account = AdAccount(AD_ACCOUNT, api=official)
    names = await ask(lambda: [one["name"] for one in account.get_custom_audiences(["name"], {"limit": 20})])
    assert names == [f"Audience {number}" for number in range(45)]


async def test_the_official_client_reads_leads(official: FacebookAdsApi, business: Business) -> None:
    made = business.lead(1790000000, {"form_id": "222", "answers": {"email": "jane@example.com"}})
    minimum = await ask(Lead(made["id"], api=official).api_get)
    forms = await ask(Page(PAGE, api=official).get_lead_gen_forms)
    leads = await ask(LeadgenForm("222", api=official).get_leads, ["id", "platform"])
    assert minimum["field_data"] == [{"name": "email", "values": ["jane@example.com"]}]
    assert "platform" not in minimum
    assert [one["id"] for one in forms] == ["222"]
    assert [one["platform"] for one in leads] == ["fb"]


async def test_the_official_client_sends_events_and_pauses_a_campaign(
    official: FacebookAdsApi, business: Business, clock: Any
) -> None:
    event = Event("Purchase", clock.now_ms() // 1000, action_source=None, event_id="1")
    event.user_data = UserData(email="jane@example.com")
    wanted = {**event.normalize(), "action_source": "other"}
    sent = await ask(AdsPixel("1113", api=official).create_event, params={"data": [json.dumps(wanted)]})
    await ask(Campaign("1111", api=official).api_update, params={"status": Campaign.Status.paused})
    assert sent["events_received"] == 1
    assert business.campaigns["1111"]["status"] == "PAUSED"


async def test_the_official_client_subscribes_a_page(official: FacebookAdsApi, business: Business) -> None:
    await ask(Page(PAGE, api=official).create_subscribed_app, params={"subscribed_fields": ["leadgen"]})
    assert business.subscribed == {APP_ID: ["leadgen"]}


@pytest.mark.parametrize(
    ("app_secret", "token", "code"), [("wrong", None, 100), (None, "wrong", 190), ("wrong", "wrong", 190)]
)
async def test_the_official_client_is_refused_with_wrong_credentials(
    server: SandboxServer,
    business: Business,
    secret: Callable[[str], str],
    app_secret: str | None,
    token: str | None,
    code: int,
) -> None:
    session = FacebookSession(APP_ID, app_secret or secret("app_secret"), token or secret("access_token"))
    session.GRAPH = f"{server.url}/facebook_ads"
    account = AdAccount(AD_ACCOUNT, api=FacebookAdsApi(session, api_version="v26.0"))
    with pytest.raises(FacebookRequestError) as refused:
        await ask(account.api_get)
    assert refused.value.api_error_code() == code


async def test_a_call_without_a_proof_is_refused(
    server: SandboxServer, business: Business, secret: Callable[[str], str], sandbox: FacebookSandbox
) -> None:
    url = f"{server.url}/facebook_ads/v26.0/{AD_ACCOUNT}"
    headers = {"Authorization": f"Bearer {secret('access_token')}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, 100)
        sandbox.proof_required = False
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 200


async def test_the_official_client_understands_a_throttling(official: FacebookAdsApi, sandbox: FacebookSandbox) -> None:
    sandbox.throttle_until_ms = sandbox.clock.now_ms() + 1
    with pytest.raises(FacebookRequestError) as limited:
        await ask(AdAccount(AD_ACCOUNT, api=official).api_get)
    assert limited.value.api_error_code() == 80003
    assert "x-business-use-case-usage" in {name.lower() for name in limited.value.http_headers()}


async def test_an_ad_account_and_its_page_may_be_two_connections(
    context: Any, sandbox: FacebookSandbox, business: Business, inbox: Any
) -> None:
    async with context({"ad_account_id": AD_ACCOUNT}) as ads, context({"page_id": PAGE}) as page:
        assert (await whoami(ads)).id == AD_ACCOUNT
        assert (await whoami(page)).id == PAGE
        assert (await whoami(ads)).id == AD_ACCOUNT
    assert await sandbox.lead(inbox.url, PAGE) == 200


async def test_what_nobody_told_of_is_opened_by_its_own_token(context: Any, sandbox: FacebookSandbox) -> None:
    async with context({"ad_account_id": "act_5"}) as ads, context({"page_id": "6"}) as page:
        assert (await whoami(ads)).id == "act_5"
        assert (await whoami(page)).id == "6"
    async with context({"ad_account_id": "act_7"}, token="act_8 has another") as stranger:
        with pytest.raises(AuthExpired):
            await whoami(stranger)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, 100),
        ({"schema": "EMAIL_SHA256", "data": [["x"]]}, 2650),
        ({"schema": ["EMAIL", "NAME"], "data": [["x", "y"]]}, 100),
        ({"schema": ["EMAIL"], "data": []}, 100),
        ({"schema": ["EMAIL", "PHONE"], "data": [["x"]]}, 100),
        ({"schema": ["EXTERN_ID"], "data": [["x"]] * 10_001}, 1),
    ],
)
async def test_a_wrong_upload_is_refused(official: FacebookAdsApi, business: Business, payload: Any, code: int) -> None:
    audience = business.audience("Ours")["id"]
    params = {"payload": payload} if payload else {}
    with pytest.raises(FacebookRequestError) as refused:
        await ask(official.call, "POST", (audience, "users"), params=params)
    assert refused.value.api_error_code() == code


async def test_what_is_not_hashed_is_counted_as_invalid(official: FacebookAdsApi, business: Business) -> None:
    audience = business.audience("Ours")["id"]
    payload = {"schema": ["EMAIL"], "data": [["jane@example.com"]]}
    answer = await ask(official.call, "POST", (audience, "users"), params={"payload": payload})
    assert answer.json()["num_invalid_entries"] == 1
    assert business.members[audience] == []


async def test_what_is_not_there_looks_like_what_may_not_be_seen(official: FacebookAdsApi) -> None:
    with pytest.raises(FacebookRequestError) as refused:
        await ask(CustomAudience("404", api=official).api_get)
    assert (refused.value.api_error_code(), refused.value.api_error_subcode()) == (100, 33)


# -- webhooks and the app ----------------------------------------------------------------------------------------------


async def test_an_app_is_subscribed_after_a_greeting_and_its_page_then_calls(
    server: SandboxServer, sandbox: FacebookSandbox, business: Business, inbox: Any, secret: Callable[[str], str]
) -> None:
    # given
    url = f"{server.url}/facebook_ads/v26.0/{APP_ID}/subscriptions"
    token = f"{APP_ID}|{secret('app_secret')}"
    form = {"object": "page", "callback_url": inbox.url, "fields": "leadgen", "access_token": token}

    async with aiohttp.ClientSession() as session:
        # when
        async with session.post(url, data={**form, "verify_token": "another"}) as refused:
            assert refused.status == 400
        async with session.post(url, data={**form, "verify_token": inbox.secrets["verify_token"]}) as made:
            assert made.status == 200
        unsubscribed = await sandbox.lead(None, PAGE)
        business.subscribed[APP_ID] = ["leadgen"]
        status = await sandbox.lead(None, PAGE)

    # then
    assert (unsubscribed, status, len(inbox.events)) == (0, 200, 1)


async def test_a_lead_is_made_by_hand(server: SandboxServer, inbox: Any) -> None:
    async with aiohttp.ClientSession() as session:
        body = {
            "page": PAGE,
            "address": inbox.url,
            "answers": {"email": "jane@example.com"},
            "ticked": {"optin_1": True},
        }
        async with session.post(f"{server.url}/facebook_ads/_sandbox/lead", json=body) as answer:
            assert (await answer.json()) == {"status": 200}
        async with session.post(f"{server.url}/facebook_ads/_sandbox/business", json={"page": PAGE}) as answer:
            assert (await answer.json())["page"]["id"] == PAGE
    assert len(inbox.events) == 1


def test_it_is_found_by_its_name(clock: Any) -> None:
    assert isinstance(load_sandbox(facebook_ads, clock), FacebookSandbox)
