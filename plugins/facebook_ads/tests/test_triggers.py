"""Leads from the webhook, filled in and polled; troubles of audiences and the ad account."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hub import ConsentSignal, ConsentState, Delivery, InboundRequest, NotFound, RateLimited
from hub.clock import FrozenClock, parse_duration_ms
from hub.testing.contract.stage import hub_of
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.sandbox import FacebookSandbox
from hub_facebook_ads.sandbox.business import Business
from hub_facebook_ads.triggers.leads import Lead, _GraphLead, lead_submitted
from hub_facebook_ads.triggers.problems import AdAccountProblem, AudienceProblem

AD_ACCOUNT, PAGE, FORM = "act_111", "119440231087027", "1391684086110361"
BOTH = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE}


def events_of(body: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = InboundRequest("POST", "https://hub.example/in", {}, raw)
    return facebook_ads.parse(Delivery(request, "facebook_ads", "ads", PAGE, "leadgen", 0))


def lead(id: str, **fields: Any) -> Lead:
    return Lead(leadgen_id=id, page_id=PAGE, created_at=1790000000, **fields)


async def filled(ctx: Any, *leads: Lead) -> list[Lead]:
    assert lead_submitted.enrich_
    return list(await lead_submitted.enrich_(ctx, leads))


async def polled(name: str, ctx: Any, cursor: str | None = None, since_ms: int = 0) -> tuple[list[Any], str | None]:
    found: list[Any] = []
    async for page in facebook_ads.polls[name].fetch(ctx, cursor, since_ms):
        found += page.items
        cursor = page.cursor
    return found, cursor


# -- the webhook -------------------------------------------------------------------------------------------------------


def test_a_call_brings_the_ids(fixture: Callable[[str], bytes]) -> None:
    [event] = events_of(fixture("lead_submitted.json"))
    assert event.fact_id == "lead_submitted:1530066778863063"
    assert (event.account, event.data["ad_id"]) == (PAGE, "120250549031410414")
    assert event.occurred_at_ms == 1_790_000_000_000
    assert event.data["retrieved"] is False


def test_one_call_may_bring_leads_of_several_pages_and_other_changes() -> None:
    def change(lead: Any, page: Any) -> dict[str, Any]:
        return {"field": "leadgen", "value": {"leadgen_id": lead, "page_id": page, "created_time": 1790000000}}

    body = {
        "object": "page",
        "entry": [
            {"id": "111", "changes": [change("1", "111"), {"field": "feed", "value": {}}, change(2, 111)]},
            {"id": "222", "changes": [{"field": "leadgen", "value": {"leadgen_id": 3, "created_time": "1790000000"}}]},
            {"id": "333"},
        ],
    }
    assert [(event.fact_id, event.account) for event in events_of(body)] == [
        ("lead_submitted:1", "111"),
        ("lead_submitted:2", "111"),
        ("lead_submitted:3", "222"),
    ]


async def test_the_sandbox_s_calls_are_believed_and_lead_to_the_lead(
    sandbox: FacebookSandbox, business: Business, inbox: Any, ctx: Any
) -> None:
    # when
    assert await sandbox.lead(inbox.url, PAGE, form_id=FORM, ad_id="7", answers={"full_name": "Jäne/Doe"}) == 200

    # then
    [event] = inbox.events
    assert b"\\/" in inbox.requests[0].body or b"/" not in inbox.requests[0].body
    [whole] = await filled(ctx, Lead.model_validate(event.data))
    assert (whole.full_name, whole.ad_id, whole.form_id) == ("Jäne/Doe", "7", FORM)


async def test_leads_come_again_doubled_and_together(sandbox: FacebookSandbox, business: Business, inbox: Any) -> None:
    # given
    ids = [business.lead(1790000000 + at, {"form_id": FORM})["id"] for at in range(5)]

    # when
    await sandbox.deliver(inbox.url, PAGE, ids, entries=2)
    await sandbox.deliver(inbox.url, PAGE, list(reversed(ids)))

    # then
    facts = [event.fact_id for event in inbox.events]
    assert len(facts) == 10
    assert set(facts) == {f"lead_submitted:{one}" for one in ids}
    assert len(json.loads(inbox.requests[0].body)["entry"]) == 2


async def test_a_hub_takes_a_lead_once_for_its_page_s_connection() -> None:
    settings = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE, "consent_checkboxes": "optin_1=email"}

    async with hub_of(facebook_ads, settings, work=True) as (hub, sandbox):
        assert isinstance(sandbox, FacebookSandbox)
        # given
        connection = await hub.connections.by_name("facebook_ads")
        business = sandbox.business(AD_ACCOUNT, PAGE)
        made = business.lead(hub.clock.now_ms() // 1000, {"form_id": FORM, "ticked": {"optin_1": True}})
        signed: list[tuple[bytes, dict[str, str]]] = []

        async def kept(address: str, body: bytes, headers: Any) -> int:
            signed.append((body, {name.lower(): value for name, value in headers.items()}))
            return 200

        sandbox.post = kept  # type: ignore[method-assign, assignment]  # the hub listens nowhere here
        await sandbox.deliver("https://hub.example/in", PAGE, [made["id"]])

        # when
        for _ in range(2):
            for body, headers in signed:
                given = {"method": "POST", "query": "", "headers": headers, "body": body}
                await hub.ingest.receive("facebook_ads", connection.inbound_key, **given)
        await hub.time.advance(hub.clock.now_ms() + 60_000, ring=hub.ring)

        # then
        async with hub.store.read() as c:
            stored = await c.all("select data, subject, stage from event")
            consents = await c.all("select channel, address, state from consent")
        [event] = stored
        assert json.loads(event["data"])["email"] == "jane@example.com"
        assert json.loads(event["subject"])["email"] == "jane@example.com"
        assert [(row["channel"], row["address"], row["state"]) for row in consents] == [
            ("email", "jane@example.com", "granted")
        ]


# -- filling in --------------------------------------------------------------------------------------------------------


def test_a_lead_as_meta_writes_it(fixture: Callable[[str], bytes], facts: Any) -> None:
    raw = json.loads(fixture("lead.json"))
    assert set(raw) <= set(facts.known["fields"]["Lead"])
    settings = {"consent_checkboxes": "optin_1=email optin_1=sms:offers optin_2=whatsapp"}

    whole = _GraphLead.model_validate(raw).of_page(PAGE, settings)

    assert whole.answers == {
        "email": "jane@example.com",
        "full_name": "Jane Doe",
        "phone_number": "+14155550100",
        "which_product?": "scarf",
    }
    assert (whole.email, whole.phone, whole.ticked) == ("jane@example.com", "+14155550100", ["optin_1"])
    assert whole.created_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    event = lead_submitted.event(whole, 0)
    assert event.subject
    assert (event.subject.email, event.subject.phone) == ("jane@example.com", "+14155550100")
    assert event.consents == (
        ConsentSignal("email", "jane@example.com", ConsentState.GRANTED, "facebook_lead_form"),
        ConsentSignal("sms", "+14155550100", ConsentState.GRANTED, "facebook_lead_form", "offers"),
    )


def test_a_ticked_box_grants_nothing_that_nobody_said_it_does(fixture: Callable[[str], bytes]) -> None:
    whole = _GraphLead.model_validate(json.loads(fixture("lead.json"))).of_page(PAGE, {})
    assert lead_submitted.event(whole, 0).consents == ()
    assert whole.ticked == ["optin_1"]


async def test_the_fields_are_asked_for_by_name(ctx: Any, business: Business, sandbox: FacebookSandbox) -> None:
    made = business.lead(1790000000, {"form_id": FORM, "ad_id": "7", "campaign_id": "9"})
    [whole] = await filled(ctx, lead(made["id"]))
    assert (whole.campaign_id, whole.platform, whole.retrieved) == ("9", "fb", True)
    assert "custom_disclaimer_responses" in sandbox.asked[-1][3]["fields"]


async def test_several_of_one_form_are_read_together(ctx: Any, business: Business, sandbox: FacebookSandbox) -> None:
    # given
    ids = [business.lead(1790000000 + at, {"form_id": FORM})["id"] for at in range(90)]

    # when
    whole = await filled(ctx, *[lead(one, form_id=FORM) for one in ids])

    # then
    assert [one.leadgen_id for one in whole] == ids
    assert all(one.retrieved for one in whole)
    assert len(sandbox.asked) == 1


async def test_a_lead_that_is_gone_stays_as_it_came_and_holds_nobody_up(ctx: Any, business: Business) -> None:
    business.form(id=FORM)
    made = business.lead(1790000000, {"form_id": FORM})
    gone, there = await filled(ctx, lead("404", form_id=FORM), lead(made["id"], form_id=FORM))
    assert (gone.retrieved, there.retrieved) == (False, True)


async def test_a_permission_that_is_gone_is_no_lead_that_is_gone(ctx: Any) -> None:
    with pytest.raises(NotFound):
        await filled(ctx, lead("404", form_id="404"))
    with pytest.raises(NotFound):
        await filled(ctx, lead("404"))


async def test_a_throttling_is_for_all(ctx: Any, sandbox: FacebookSandbox, business: Business) -> None:
    made = business.lead(1790000000, {"form_id": FORM})
    sandbox.error_codes = [(80005, 0)]
    with pytest.raises(RateLimited):
        await filled(ctx, lead(made["id"], form_id=FORM))


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_what_no_webhook_brought_is_found_in_all_forms(ctx: Any, business: Business, clock: FrozenClock) -> None:
    # given
    now_s = clock.now_ms() // 1000
    old = business.lead(now_s - 7200, {"form_id": FORM})["id"]
    new = {business.lead(now_s - at, {"form_id": form})["id"] for form in (FORM, "9") for at in range(120)}

    # when
    found, _ = await polled("lead_submitted", ctx, since_ms=clock.now_ms() - 3_600_000)

    # then
    assert {one.leadgen_id for one in found} == new
    assert old not in new
    assert {one.page_id for one in found} == {PAGE}


async def test_the_same_second_as_the_last_poll_is_asked_for_again(
    ctx: Any, business: Business, clock: FrozenClock
) -> None:
    business.lead(clock.now_ms() // 1000, {"form_id": FORM})
    found, _ = await polled("lead_submitted", ctx, since_ms=clock.now_ms())
    assert len(found) == 1


async def test_an_ad_account_without_a_page_has_no_leads(context: Any, sandbox: FacebookSandbox) -> None:
    async with context({"ad_account_id": AD_ACCOUNT}) as ctx:
        assert await polled("lead_submitted", ctx) == ([], None)
    assert sandbox.asked == []


async def test_history_goes_on_after_the_last_page_that_was_stored(
    ctx: Any, business: Business, sandbox: FacebookSandbox, clock: FrozenClock
) -> None:
    # given
    now_s = clock.now_ms() // 1000
    for form in ("1", "2", "3"):
        for at in range(150):
            business.lead(now_s - at - 1, {"form_id": form})
    history = facebook_ads.histories["lead_submitted"]
    all_pages = [page async for page in history.fetch(ctx, None, 0)]
    assert [len(page.items) for page in all_pages] == [100, 50] * 3

    # when it breaks off after each page in turn
    for stored in range(1, len(all_pages)):
        rest = [page async for page in history.fetch(ctx, all_pages[stored - 1].cursor, 0)]

        # then
        assert [[one.leadgen_id for one in page.items] for page in rest] == [
            [one.leadgen_id for one in page.items] for page in all_pages[stored:]
        ]


async def test_history_goes_back_ninety_days(
    ctx: Any, sandbox: FacebookSandbox, business: Business, clock: FrozenClock
) -> None:
    business.form(id=FORM)
    history = facebook_ads.histories["lead_submitted"]
    assert [page async for page in history.fetch(ctx, None, 0)]
    [filtering] = sandbox.asked[-1][3]["filtering"]
    assert filtering["value"] == (clock.now_ms() - parse_duration_ms("90d")) // 1000 - 1
    assert (filtering["field"], filtering["operator"]) == ("time_created", "GREATER_THAN")


def test_the_history_names_the_facts_as_the_webhook_does(fixture: Callable[[str], bytes]) -> None:
    whole = _GraphLead.model_validate(json.loads(fixture("lead.json"))).of_page(PAGE, {})
    [event] = events_of(fixture("lead_submitted.json"))
    assert lead_submitted.event(whole, 0).fact_id == event.fact_id


# -- troubles ----------------------------------------------------------------------------------------------------------

_FLAGGED = {"code": 471, "description": "The custom audience or lookalike is blocked"}
_NORMAL = {"code": 200, "description": "Normal"}


def test_samples_of_what_is_asked_for_fit(fixture: Callable[[str], bytes]) -> None:
    for model in (AudienceProblem, AdAccountProblem):
        name = {AudienceProblem: "audience_problem", AdAccountProblem: "ad_account_problem"}[model]
        trigger = facebook_ads.triggers[name]
        assert trigger.sample
        assert trigger.event(model.model_validate_json(fixture(trigger.sample)), 0).type == f"facebook_ads.{name}"


async def test_an_audience_s_trouble_is_told_once_and_again_when_it_comes_back(ctx: Any, business: Business) -> None:
    # given
    for number in range(30):
        business.audience(f"Audience {number}")
    troubled = business.audience("High income", operation_status=_FLAGGED)

    # when
    first, cursor = await polled("audience_problem", ctx)
    second, cursor = await polled("audience_problem", ctx, cursor)
    troubled["operation_status"] = _NORMAL
    third, cursor = await polled("audience_problem", ctx, cursor)
    troubled["operation_status"] = _FLAGGED
    fourth, cursor = await polled("audience_problem", ctx, cursor)

    # then
    assert [(one.audience_id, one.code, one.occurrence) for one in first] == [(troubled["id"], 471, 1)]
    assert (second, third) == ([], [])
    assert [one.occurrence for one in fourth] == [2]
    facts = {facebook_ads.triggers["audience_problem"].event(one, 0).fact_id for one in (*first, *fourth)}
    assert len(facts) == 2


async def test_a_page_that_was_stored_is_not_told_again_after_a_crash(ctx: Any, business: Business) -> None:
    for number in range(40):
        business.audience(f"Audience {number}", operation_status=_FLAGGED)
    poll = facebook_ads.polls["audience_problem"]
    pages = poll.fetch(ctx, None, 0)
    first = await anext(pages)
    await pages.aclose()
    rest, _ = await polled("audience_problem", ctx, first.cursor)
    told = [one.audience_id for one in (*first.items, *rest)]
    assert len(told) == len(set(told)) == 40


async def test_which_states_are_problems_is_the_connection_s_to_say(context: Any, business: Business) -> None:
    business.audience("Small", operation_status={"code": 411, "description": "Low match rate"})
    async with context(BOTH) as ctx:
        assert (await polled("audience_problem", ctx))[0] == []
    async with context({**BOTH, "audience_problem_codes": "411 471"}) as ctx:
        assert [one.code for one in (await polled("audience_problem", ctx))[0]] == [411]


@pytest.mark.parametrize(
    ("status", "state", "ads_run"),
    [(2, "disabled", False), (3, "unsettled", False), (9, "in_grace_period", True), (777, "unknown", False)],
)
async def test_an_ad_account_that_is_not_active_is_told_of(
    ctx: Any, business: Business, status: int, state: str, ads_run: bool
) -> None:
    business.ad_account["account_status"] = status
    [problem], cursor = await polled("ad_account_problem", ctx)
    assert (problem.status, problem.state, problem.ads_run) == (status, state, ads_run)
    assert (await polled("ad_account_problem", ctx, cursor))[0] == []


async def test_an_active_ad_account_is_no_problem_and_a_page_has_none(context: Any) -> None:
    async with context(BOTH) as ctx:
        assert (await polled("ad_account_problem", ctx))[0] == []
    async with context({"page_id": PAGE}) as ctx:
        assert await polled("ad_account_problem", ctx) == ([], None)
        assert await polled("audience_problem", ctx) == ([], None)
