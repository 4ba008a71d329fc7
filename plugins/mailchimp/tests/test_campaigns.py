"""Campaigns are sent once, whatever is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from hub import OutcomeUnknown, Rejected, RetryableError
from hub_mailchimp.marketing.campaigns import APPEARS_WITHIN_MS, CampaignInput, send_campaign
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox

from .conftest import ContextMaker

NEWS: dict[str, Any] = {
    "list_id": DEFAULT_LIST,
    "subject": "November news",
    "from_name": "Team",
    "reply_to": "team@example.test",
    "html": "<p>Hello</p>",
}


def campaign(**more: Any) -> CampaignInput:
    return CampaignInput.model_validate({**NEWS, **more})


def sent(sandbox: MailchimpSandbox) -> list[str]:
    return [entry.data["id"] for entry in sandbox.log if entry.operation == "send_campaign"]


@pytest.fixture(autouse=True)
async def people(marketing: MailchimpSandbox) -> None:
    for name in ("ada", "bob"):
        await marketing.subscribe(f"{name}@example.test")


async def test_a_campaign_reaches_the_audience(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    async with mail() as ctx:
        made = await send_campaign.run(ctx, campaign())
    assert sent(marketing) == [made.campaign_id]
    assert len(marketing.account("main").sent_to[made.campaign_id]) == 2


async def test_a_campaign_reaches_a_segment_alone(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    list_ = marketing.account("main").lists[DEFAULT_LIST]
    segment = list_.segment("vip")
    next(iter(list_.members.values()))["tags"] = [{"id": segment["id"], "name": "vip"}]
    async with mail() as ctx:
        made = await send_campaign.run(ctx, campaign(segment_id=segment["id"]))
    assert [one["email_address"] for one in marketing.account("main").sent_to[made.campaign_id]] == ["ada@example.test"]


@pytest.mark.parametrize("lost", range(3))
async def test_whichever_answer_is_lost_it_is_sent_once(
    marketing: MailchimpSandbox, mail: ContextMaker, lost: int
) -> None:
    """Of creating, of its content, of sending."""
    assert send_campaign.lookup_
    async with mail() as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_campaign.run(replace(ctx, http=_Cutting(ctx.http, marketing, lost)), campaign())
        found = await send_campaign.lookup_(ctx, campaign())
        # a draft is as good as none: the next attempt finishes it
        assert (found is None) == (lost < 2)
        if found is None:
            found = await send_campaign.run(ctx, campaign())
    assert sent(marketing) == [found.campaign_id]
    assert len(marketing.account("main").campaigns) == 1


class _Cutting:
    """Loses the answer of one of the calls that change something."""

    def __init__(self, inner: Any, sandbox: MailchimpSandbox, which: int) -> None:
        self._inner, self._sandbox, self._left = inner, sandbox, which

    async def request(self, method: str, path: str, **given: Any) -> Any:
        if method != "GET":
            self._sandbox.drop_answers = int(self._left == 0)
            self._left -= 1
        return await self._inner.request(method, path, **given)


async def test_it_may_be_too_early_to_say_that_there_is_none(mail: ContextMaker) -> None:
    assert send_campaign.lookup_
    async with mail() as ctx:
        with pytest.raises(RetryableError):
            await send_campaign.lookup_(ctx, campaign())
        assert await send_campaign.lookup_(replace(ctx, now_ms=ctx.now_ms + APPEARS_WITHIN_MS), campaign()) is None


async def test_the_campaign_of_another_run_is_not_taken_for_ours(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    async with mail() as ctx:
        await send_campaign.run(replace(ctx, reference="another"), campaign())
        await send_campaign.run(ctx, campaign())
    assert len(sent(marketing)) == 2


async def test_what_the_checklist_names_is_said_and_nothing_is_sent(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    marketing.account("main").lists[DEFAULT_LIST].members.clear()
    async with mail() as ctx:
        with pytest.raises(Rejected, match="Audience"):
            await send_campaign.run(ctx, campaign())
    assert sent(marketing) == []


async def test_a_name_that_nobody_looked_up_is_refused_before_anything_is_made(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    async with mail() as ctx:
        with pytest.raises(Rejected, match="segment_id"):
            await send_campaign.run(ctx, campaign(segment_id="Regulars"))
    assert marketing.account("main").campaigns == {}
    assert campaign(segment_id=9000).segment_id == "9000"


@pytest.mark.parametrize("wrong", [{"html": None}, {"template_id": 7}, {"reply_to": "team"}, {"subject": ""}])
def test_a_campaign_has_one_content_and_an_address_for_answers(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        campaign(**wrong)
