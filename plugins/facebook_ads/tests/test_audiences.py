"""Audiences, campaigns and budgets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from facebook_business.adobjects.campaign import Campaign as OfficialCampaign
from facebook_business.adobjects.customaudience import CustomAudience
from pydantic import ValidationError

from hub import Money, NotFound, PermanentError, Rejected, RetryableError
from hub_facebook_ads.actions.audiences import (
    Lookalike,
    NewAudience,
    create_audience,
    create_lookalike,
    find_audience,
)
from hub_facebook_ads.actions.campaigns import Budget, Campaign, pause_campaign, resume_campaign, set_budget
from hub_facebook_ads.money import minor_units
from hub_facebook_ads.sandbox import FacebookSandbox
from hub_facebook_ads.sandbox.business import Business

# -- audiences ---------------------------------------------------------------------------------------------------------


async def test_an_audience_is_made_once_and_taken_from_then_on(ctx: Any, business: Business) -> None:
    # when
    made = await create_audience.run(ctx, NewAudience(name="Back again", description="Came back"))
    taken = await create_audience.run(replace(ctx, reference="another"), NewAudience(name="Back again"))

    # then
    assert (made.existed, taken.existed, taken.audience_id) == (False, True, made.audience_id)
    [audience] = business.audiences.values()
    assert audience["description"] == "Came back [test-reference]"
    assert audience["subtype"] == CustomAudience.Subtype.custom


async def test_a_lost_answer_s_audience_is_found_by_its_mark_even_when_it_was_renamed(
    ctx: Any, business: Business
) -> None:
    made = await create_audience.run(ctx, NewAudience(name="Back again"))
    business.audiences[made.audience_id]["name"] = "Came back"
    found = await find_audience(ctx, NewAudience(name="Back again"))
    assert found is not None
    assert (found.audience_id, found.existed) == (made.audience_id, False)


async def test_of_several_of_one_name_all_take_the_same(ctx: Any, business: Business) -> None:
    for number in ("9", "10", "11"):
        business.audience("Back again", id=number)
    assert (await create_audience.run(ctx, NewAudience(name="Back again"))).audience_id == "9"


async def test_it_is_too_early_to_say_that_there_is_none(ctx: Any) -> None:
    with pytest.raises(RetryableError) as early:
        await find_audience(replace(ctx, now_ms=ctx.now_ms + 10_000), NewAudience(name="Back again"))
    assert early.value.retry_after_s == 20
    assert await find_audience(replace(ctx, now_ms=ctx.now_ms + 30_000), NewAudience(name="Back again")) is None


async def test_the_five_hundredth_is_the_last(ctx: Any, business: Business, sandbox: FacebookSandbox) -> None:
    for number in range(500):
        business.audience(f"Audience {number}")
    with pytest.raises(Rejected, match="500"):
        await create_audience.run(ctx, NewAudience(name="One more"))
    assert not [asked for asked in sandbox.asked if asked[0] == "POST"]


async def test_the_terms_must_be_accepted(ctx: Any, business: Business) -> None:
    business.terms_accepted = False
    with pytest.raises(PermanentError, match="terms"):
        await create_audience.run(ctx, NewAudience(name="Back again"))


async def test_a_lookalike_follows_the_specification(ctx: Any, business: Business, facts: Any) -> None:
    # given
    origin = business.audience("Customers")["id"]

    # when
    made = await create_lookalike.run(ctx, Lookalike(name="Alike", origin_audience_id=origin, country="TR", ratio=0.02))

    # then
    spec = business.audiences[made.audience_id]["lookalike_spec"]
    assert spec == {"type": "similarity", "country": "TR", "ratio": 0.02, "starting_ratio": 0.0}
    assert set(spec) <= set(facts.known["fields"]["LookalikeSpec"])
    assert business.audiences[made.audience_id]["subtype"] == CustomAudience.Subtype.lookalike


async def test_a_lookalike_needs_its_origin(ctx: Any) -> None:
    with pytest.raises(NotFound):
        await create_lookalike.run(ctx, Lookalike(name="Alike", origin_audience_id="404", country="TR"))


async def test_a_name_of_a_lookalike_is_none_of_an_audience(ctx: Any, business: Business) -> None:
    origin = business.audience("Alike")["id"]
    made = await create_lookalike.run(ctx, Lookalike(name="Alike", origin_audience_id=origin, country="TR"))
    assert made.audience_id != origin


# -- campaigns ---------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_paused_and_resumed(ctx: Any, business: Business) -> None:
    paused = await pause_campaign.run(ctx, Campaign(campaign_id="1111"))
    assert paused.status == business.campaigns["1111"]["status"] == OfficialCampaign.Status.paused
    resumed = await resume_campaign.run(ctx, Campaign(campaign_id="1111"))
    assert resumed.status == business.campaigns["1111"]["status"] == OfficialCampaign.Status.active


async def test_a_campaign_that_is_not_there_is_not_found(ctx: Any) -> None:
    with pytest.raises(NotFound):
        await pause_campaign.run(ctx, Campaign(campaign_id="404"))


@pytest.mark.parametrize("wrong", ["Winter", "1111/adsets", "me", ""])
async def test_what_is_no_id_goes_into_no_path(ctx: Any, wrong: str) -> None:
    """A label is text until its id is published, and an id may come out of an event."""
    with pytest.raises(Rejected, match="digits alone"):
        await pause_campaign.run(ctx, Campaign(campaign_id=wrong))


async def test_a_budget_is_set_a_day_or_in_all_of_a_campaign_or_ad_set(ctx: Any, business: Business) -> None:
    await set_budget.run(ctx, Budget(campaign_id="1111", daily="50.00 EUR"))
    await set_budget.run(ctx, Budget(ad_set_id="1112", lifetime="900.50 EUR"))
    assert business.campaigns["1111"]["daily_budget"] == "5000"
    assert business.ad_sets["1112"]["lifetime_budget"] == "90050"


async def test_another_currency_than_the_account_s_changes_nothing(ctx: Any, business: Business) -> None:
    with pytest.raises(Rejected, match="EUR"):
        await set_budget.run(ctx, Budget(campaign_id="1111", daily="50.00 USD"))
    assert business.campaigns["1111"]["daily_budget"] == "2000"


@pytest.mark.parametrize(
    "fields",
    [
        {"daily": "50.00 EUR"},
        {"campaign_id": "1", "ad_set_id": "2", "daily": "50.00 EUR"},
        {"campaign_id": "1"},
        {"campaign_id": "1", "daily": "50.00 EUR", "lifetime": "50.00 EUR"},
        {"campaign_id": "1", "daily": "0.00 EUR"},
        {"campaign_id": "1", "daily": "-1.00 EUR"},
        {"campaign_id": "1", "daily": "50.50 HUF"},
    ],
)
def test_a_budget_is_one_amount_for_one_thing(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50.00 EUR", 5000),
        ("5000 JPY", 5000),
        ("5000.00 HUF", 5000),
        ("5000.00 TWD", 5000),
        ("1500.00 COP", 1500),
        ("1.230 BHD", 123),
    ],
)
def test_amounts_are_counted_as_meta_counts_them(text: str, expected: int) -> None:
    assert minor_units(Money.parse(text)) == expected


def test_an_amount_that_is_finer_than_meta_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="finer"):
        minor_units(Money.parse("1.234 BHD"))


async def test_a_change_that_meta_says_was_not_made_is_refused(ctx: Any, sandbox: FacebookSandbox) -> None:
    sandbox.failure_next = 1
    with pytest.raises(Rejected, match="not done"):
        await pause_campaign.run(ctx, Campaign(campaign_id="1111"))


def test_rehearsals_and_dry_runs_call_nobody() -> None:
    budget = Budget(campaign_id="1111", daily="50.00 EUR")
    assert set_budget.dry_run(budget) == "let campaign 1111 spend 50.00 EUR a day"
    assert set_budget.rehearse(budget, 0).amount == Money.parse("50.00 EUR")
    assert pause_campaign.rehearse(Campaign(campaign_id="1"), 0).status == "PAUSED"
    assert json.loads(create_audience.rehearse(NewAudience(name="A"), 0).model_dump_json())["name"] == "A"


def test_a_lookalike_takes_people_who_are_more_alike_than_those_it_leaves_out() -> None:
    made = Lookalike(name="L", origin_audience_id="1", country="US", ratio=0.015, starting_ratio=0.01)
    assert create_lookalike.describe_
    assert "from 1% to 1.5%" in create_lookalike.describe_(made)
    with pytest.raises(ValidationError, match="starting_ratio"):
        Lookalike(name="L", origin_audience_id="1", country="US", ratio=0.02, starting_ratio=0.02)
