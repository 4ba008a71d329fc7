"""Opened, clicked, bounced, not opened; members that no webhook told of; and the past."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hub import ActionContext, Page
from hub.clock import Clock
from hub_mailchimp import mailchimp
from hub_mailchimp.marketing import client
from hub_mailchimp.opens import Opener, opener
from hub_mailchimp.sandbox.hooks import body_of
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox

from .conftest import ContextMaker

ADA, BOB, GONE = "ada@example.test", "bob@example.test", "gone@example.test"
HOUR_MS = 3_600_000
OVERLAP_MS = 600_000


async def poll(ctx: ActionContext, name: str, cursor: str | None, since_ms: int) -> tuple[list[Any], str | None]:
    """One poll to its end: what it found, and its last cursor."""
    found: list[Any] = []
    async for page in mailchimp.polls[name].fetch(ctx, cursor, since_ms):
        found += page.items
        cursor = page.cursor
    return found, cursor


async def history(ctx: ActionContext, name: str, cursor: str | None, since_ms: int = 0) -> list[Page[Any]]:
    return [page async for page in mailchimp.histories[name].fetch(ctx, cursor, since_ms)]


def later(ctx: ActionContext, clock: Clock, ms: int) -> ActionContext:
    """The same connection, so much later."""
    clock.offset_ms += ms
    return replace(ctx, now_ms=clock.now_ms())


def facts_of(name: str, items: list[Any]) -> set[str]:
    return {mailchimp.triggers[name].event(item, 0).fact_id for item in items}


@pytest.fixture
async def campaign(marketing: MailchimpSandbox) -> str:
    """A campaign that three people got an hour ago."""
    marketing.clock.offset_ms -= HOUR_MS
    for email in (ADA, BOB, GONE):
        await marketing.subscribe(email)
    marketing.send("main", id_ := marketing.draft())
    marketing.clock.offset_ms += HOUR_MS
    return id_


# -- opened, clicked, bounced ------------------------------------------------------------------------------------------


async def test_what_people_did_is_found_once(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    await marketing.act(campaign, ADA, "click", url="https://shop.example.test/")
    await marketing.act(campaign, GONE, "bounce", type="hard")
    async with mail() as ctx:
        since_ms = ctx.now_ms - OVERLAP_MS
        [opened], _ = await poll(ctx, "email_opened", None, since_ms)
        [clicked], _ = await poll(ctx, "email_clicked", None, since_ms)
        [bounced], _ = await poll(ctx, "email_bounced", None, since_ms)
    assert (opened.email, opened.campaign_id, opened.by) == (ADA, campaign, Opener.HUMAN)
    assert (clicked.email, clicked.url) == (ADA, "https://shop.example.test/")
    assert (bounced.email, bounced.kind) == (GONE, "hard")


async def test_the_past_is_not_news_and_a_campaign_without_news_is_not_read(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open", at_ms=clock.now_ms() - HOUR_MS // 2)
    async with mail() as ctx:
        assert await poll(ctx, "email_opened", None, ctx.now_ms - OVERLAP_MS) == ([], None)
        assert ctx.http.used == {"get /reports"}  # type: ignore[attr-defined]


async def test_what_is_written_down_late_is_found_by_reading_again_and_then_no_more(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    async with mail() as ctx:
        since_ms = ctx.now_ms - OVERLAP_MS
        first, cursor = await poll(ctx, "email_opened", None, since_ms)
        # An earlier open of somebody else is written down only now.
        await marketing.act(campaign, BOB, "open", at_ms=clock.now_ms() - 60_000)
        ctx = later(ctx, clock, OVERLAP_MS)
        again, cursor = await poll(ctx, "email_opened", cursor, ctx.now_ms - 2 * OVERLAP_MS)
        assert facts_of("email_opened", first) < facts_of("email_opened", again)
        ctx.http.used.clear()  # type: ignore[attr-defined]
        ctx = later(ctx, clock, 60_000)
        assert (await poll(ctx, "email_opened", cursor, ctx.now_ms - 2 * OVERLAP_MS))[0] == []
        assert ctx.http.used == {"get /reports"}  # type: ignore[attr-defined]


async def test_a_poll_that_is_cut_off_between_pages_loses_nothing(
    marketing: MailchimpSandbox, mail: ContextMaker, monkeypatch: pytest.MonkeyPatch, campaign: str
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 1)
    for email in (ADA, BOB, GONE):
        await marketing.act(campaign, email, "open")
    async with mail() as ctx:
        since_ms = ctx.now_ms - OVERLAP_MS
        pages = mailchimp.polls["email_opened"].fetch(ctx, None, since_ms)
        first = await anext(pages)
        rest, _ = await poll(ctx, "email_opened", first.cursor, since_ms)
    assert len(first.items) == 1
    assert {item.email for item in rest} == {ADA, BOB, GONE}


async def test_two_equal_clicks_in_one_second_are_one_and_other_links_are_not(
    marketing: MailchimpSandbox, mail: ContextMaker, campaign: str
) -> None:
    for url in ("https://shop.example.test/a", "https://shop.example.test/a", "https://shop.example.test/b"):
        await marketing.act(campaign, ADA, "click", url=url)
    async with mail() as ctx:
        found, _ = await poll(ctx, "email_clicked", None, ctx.now_ms - OVERLAP_MS)
    assert len(found) == 3
    assert len(facts_of("email_clicked", found)) == 2


async def test_a_campaign_is_forgotten_after_a_month(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    async with mail() as ctx:
        _, cursor = await poll(ctx, "email_opened", None, ctx.now_ms - OVERLAP_MS)
        assert cursor
        assert campaign in cursor
        ctx = later(ctx, clock, 31 * 24 * HOUR_MS)
        marketing.send("main", other := marketing.draft())
        await marketing.act(other, ADA, "open")
        found, cursor = await poll(ctx, "email_opened", cursor, ctx.now_ms - OVERLAP_MS)
    assert [item.campaign_id for item in found] == [other]
    assert cursor
    assert campaign not in cursor


# -- by whom -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "by"),
    [
        ({"after_s": 3.0}, Opener.MACHINE),
        ({"after_s": -4.0}, Opener.MACHINE),
        ({"after_s": 60.0}, Opener.UNKNOWN),
        ({"after_s": None}, Opener.UNKNOWN),
        ({"after_s": 60.0, "clicked": True}, Opener.HUMAN),
        ({"after_s": 3.0, "clicked": True}, Opener.MACHINE),
        ({"after_s": 60.0, "bounced": True, "clicked": True}, Opener.MACHINE),
        ({"after_s": 60.0, "user_agent": "Mozilla/5.0"}, Opener.MACHINE),
        ({"after_s": 60.0, "user_agent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}, Opener.MACHINE),
        ({"after_s": 60.0, "user_agent": "Mozilla/5.0 (Macintosh) AppleWebKit/605"}, Opener.UNKNOWN),
    ],
)
def test_who_opened_is_told_as_far_as_it_can_be(given: dict[str, Any], by: Opener) -> None:
    assert opener(machine_within_s=10, **given) is by


async def test_an_open_within_the_seconds_of_the_setting_is_a_machines(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open", at_ms=clock.now_ms() - HOUR_MS + 30_000)
    for seconds, by in (("10", Opener.UNKNOWN), ("60", Opener.MACHINE)):
        async with mail({"machine_open_s": seconds}) as ctx:
            [opened], _ = await poll(ctx, "email_opened", None, 0)
        assert opened.by is by


# -- not opened --------------------------------------------------------------------------------------------------------


async def test_who_did_not_open_in_time_is_told_once(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    await marketing.act(campaign, GONE, "bounce", type="soft")
    async with mail({"not_opened_after": "2h"}) as ctx:
        since_ms = ctx.now_ms - OVERLAP_MS
        assert await poll(ctx, "email_not_opened", None, since_ms) == ([], None)
        ctx = later(ctx, clock, HOUR_MS + 60_000)
        [silent], cursor = await poll(ctx, "email_not_opened", None, since_ms)
        assert (silent.email, silent.after) == (BOB, "2h")
        assert mailchimp.triggers["email_not_opened"].event(silent, 0).fact_id.endswith(":2h")
        ctx = later(ctx, clock, 60_000)
        assert (await poll(ctx, "email_not_opened", cursor, since_ms))[0] == []


async def test_each_recipe_chooses_among_several_times_after_which_an_e_mail_counts_as_not_opened(
    marketing: MailchimpSandbox, mail: ContextMaker, campaign: str, clock: Clock
) -> None:
    # given a campaign sent an hour ago, which one of three opened at once
    await marketing.act(campaign, GONE, "open")
    async with mail({"not_opened_after": "2h 4h 3d"}) as ctx:
        since_ms, told, cursor = ctx.now_ms - OVERLAP_MS, list[tuple[str, str]](), None
        for passed_ms in (HOUR_MS + 60_000, 2 * HOUR_MS, 69 * HOUR_MS):
            ctx = later(ctx, clock, passed_ms)
            found, cursor = await poll(ctx, "email_not_opened", cursor, since_ms)
            told += [(one.email, one.after) for one in found]
            # when another one opens it between the second time and the third
            if passed_ms == 2 * HOUR_MS:
                await marketing.act(campaign, ADA, "open")
    # then each time is told of once, of whoever had not opened it by then
    assert sorted(told) == sorted([(ADA, "2h"), (BOB, "2h"), (ADA, "4h"), (BOB, "4h"), (BOB, "3d")])
    facts = {mailchimp.triggers["email_not_opened"].event(one, 0).fact_id for one in found}
    assert {fact.rpartition(":")[2] for fact in facts} == {"3d"}


async def test_campaigns_whose_time_was_over_before_the_hub_was_there_are_left_alone(
    mail: ContextMaker, campaign: str
) -> None:
    async with mail({"not_opened_after": "10m"}) as ctx:
        assert (await poll(ctx, "email_not_opened", None, ctx.now_ms - OVERLAP_MS))[0] == []


# -- campaigns that no webhook told of ---------------------------------------------------------------------------------


async def test_a_campaign_that_no_webhook_told_of_is_the_same_fact(
    marketing: MailchimpSandbox, mail: ContextMaker, campaign: str, delivered: Any
) -> None:
    data = {"id": campaign, "status": "sent", "list_id": DEFAULT_LIST, "subject": "Hello"}
    [told] = mailchimp.parse(delivered(mailchimp, body_of("campaign", data, marketing.clock.now_ms()))) or []
    async with mail() as ctx:
        since_ms = ctx.now_ms - 2 * HOUR_MS
        items, _ = await poll(ctx, "campaign_sent", None, since_ms)
        assert facts_of("campaign_sent", items) == {told.fact_id}
        assert (items[0].list_id, items[0].subject) == (DEFAULT_LIST, marketing.account("main").subject(campaign))
        assert items[0].occurred_at.timestamp() * 1000 == pytest.approx(ctx.now_ms - HOUR_MS, abs=2_000)
        assert (await poll(ctx, "campaign_sent", None, ctx.now_ms - OVERLAP_MS))[0] == []


@pytest.mark.parametrize("name", ["campaign_sent", "email_opened", "email_not_opened"])
async def test_only_campaigns_of_the_chosen_audiences_are_told(
    name: str, marketing: MailchimpSandbox, mail: ContextMaker, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    for lists, told in ((DEFAULT_LIST, True), ("another", False)):
        async with mail({"lists": lists, "not_opened_after": "10m"}) as ctx:
            assert bool((await poll(ctx, name, None, ctx.now_ms - 2 * HOUR_MS))[0]) == told


async def test_the_past_of_campaigns_is_read_once(
    marketing: MailchimpSandbox, mail: ContextMaker, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    others = [marketing.draft() for _ in range(4)]
    for other in others:
        marketing.send("main", other)
    async with mail() as ctx:
        pages = await history(ctx, "campaign_sent", None)
        told = [item.campaign_id for page in pages for item in page.items]
        assert sorted(told) == sorted([campaign, *others])
        assert await history(ctx, "campaign_sent", pages[-1].cursor) == []


# -- members that no webhook told of -----------------------------------------------------------------------------------


async def test_who_joined_changed_left_and_bounced_off_is_found(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock
) -> None:
    marketing.clock.offset_ms -= HOUR_MS
    for email in (ADA, BOB, GONE):
        await marketing.subscribe(email)
    marketing.clock.offset_ms += HOUR_MS - 5_000
    await marketing.subscribe("new@example.test")
    await marketing.change(ADA, FNAME="Ada")
    await marketing.unsubscribe(BOB)
    await marketing.clean(GONE)
    clock.offset_ms += 5_000
    found = {}
    async with mail({"member_poll": "all"}) as ctx:
        for name in ("member_subscribed", "member_updated", "member_unsubscribed", "member_cleaned"):
            items, _ = await poll(ctx, name, None, ctx.now_ms - OVERLAP_MS)
            found[name] = [item.email for item in items]
    assert found == {
        "member_subscribed": ["new@example.test"],
        "member_updated": [ADA],
        "member_unsubscribed": [BOB],
        "member_cleaned": [GONE],
    }


async def test_a_poll_names_the_fact_as_the_webhook_does(
    marketing: MailchimpSandbox, mail: ContextMaker, delivered: Any
) -> None:
    marketing.clock.offset_ms -= 5_000
    row = await marketing.subscribe(ADA)
    await marketing.unsubscribe(ADA)
    at_ms = marketing.clock.now_ms()
    marketing.clock.offset_ms += 5_000
    data = {"list_id": DEFAULT_LIST, "email": ADA, "action": "unsub", "reason": "manual", "merges": row["merge_fields"]}
    [told] = mailchimp.parse(delivered(mailchimp, body_of("unsubscribe", data, at_ms))) or []
    async with mail() as ctx:
        items, _ = await poll(ctx, "member_unsubscribed", None, 0)
    assert facts_of("member_unsubscribed", items) == {told.fact_id}


@pytest.mark.parametrize(
    ("setting", "asked"),
    [
        ("none", set()),
        ("leaving", {"member_unsubscribed", "member_cleaned"}),
        ("all", {"member_unsubscribed", "member_cleaned", "member_subscribed", "member_updated"}),
    ],
)
async def test_what_is_looked_for_is_a_setting(mail: ContextMaker, setting: str, asked: set[str]) -> None:
    used = set()
    for name in ("member_subscribed", "member_updated", "member_unsubscribed", "member_cleaned"):
        async with mail({"member_poll": setting}) as ctx:
            await poll(ctx, name, None, 0)
            used |= {name} if ctx.http.used else set()  # type: ignore[attr-defined]
    assert used == asked


async def test_what_changes_within_the_running_second_is_left_to_the_next_time(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock
) -> None:
    await marketing.subscribe(ADA)
    async with mail({"member_poll": "all"}) as ctx:
        assert (await poll(ctx, "member_subscribed", None, 0))[0] == []
        ctx = later(ctx, clock, 2_000)
        assert len((await poll(ctx, "member_subscribed", None, 0))[0]) == 1


@pytest.mark.parametrize("apart_ms", [1_000, 0])
@pytest.mark.parametrize("read", ["polls", "histories"])
async def test_who_changes_while_pages_are_read_pushes_nobody_out(
    read: str,
    apart_ms: int,
    marketing: MailchimpSandbox,
    mail: ContextMaker,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given more who left than pages hold, one after the other or all at once
    monkeypatch.setattr(client, "PAGE_SIZE", 10)
    everybody = [f"p{n}@example.test" for n in range(45)]
    marketing.clock.offset_ms -= HOUR_MS
    for email in everybody:
        await marketing.subscribe(email)
        await marketing.unsubscribe(email)
        marketing.clock.offset_ms += apart_ms
    marketing.clock.offset_ms += HOUR_MS

    # when one of those who were read already changes before the second page
    found: list[str] = []
    async with mail() as ctx:
        async for page in getattr(mailchimp, read)["member_unsubscribed"].fetch(ctx, None, 0):
            if page.items and not found:
                await marketing.change(everybody[0], FNAME="Ada")
            found += [one.email for one in page.items]

    # then
    assert set(found) == set(everybody)


# -- the past ----------------------------------------------------------------------------------------------------------


async def test_the_past_is_read_campaign_by_campaign_and_goes_on_where_it_was(
    marketing: MailchimpSandbox, mail: ContextMaker, clock: Clock, campaign: str
) -> None:
    await marketing.act(campaign, ADA, "open")
    marketing.send("main", second := marketing.draft())
    await marketing.act(second, BOB, "open")
    async with mail() as ctx:
        whole = await history(ctx, "email_opened", None)
        assert [item.campaign_id for page in whole for item in page.items] == [campaign, second]
        read_first = next(page.cursor for page in whole if campaign in page.cursor)
        rest = await history(ctx, "email_opened", read_first)
    assert [item.campaign_id for page in rest for item in page.items] == [second]


@pytest.mark.parametrize("name", ["email_opened", "member_subscribed"])
async def test_a_past_that_is_cut_off_after_every_page_is_read_once_and_ends(
    name: str, marketing: MailchimpSandbox, mail: ContextMaker, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given three people who joined at once and opened the same campaign
    monkeypatch.setattr(client, "PAGE_SIZE", 1)
    for email in (ADA, BOB, GONE):
        await marketing.act(campaign, email, "open")

    # when only one page is read at a time
    found: list[Any] = []
    cursor: str | None = None
    async with mail() as ctx:
        for _ in range(20):
            pages = mailchimp.histories[name].fetch(ctx, cursor, 0)
            page = await anext(pages, None)
            if page is None:
                break
            found, cursor = [*found, *page.items], page.cursor

    # then
    assert page is None
    assert sorted(one.email for one in found) == [ADA, BOB, GONE]


async def test_members_of_the_past_are_named_as_the_trigger_names_them(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    marketing.clock.offset_ms -= 5_000
    await marketing.subscribe(ADA)
    marketing.clock.offset_ms += 5_000
    async with mail({"member_poll": "all"}) as ctx:
        past = [item for page in await history(ctx, "member_subscribed", None) for item in page.items]
        polled, _ = await poll(ctx, "member_subscribed", None, 0)
    assert facts_of("member_subscribed", past) == facts_of("member_subscribed", polled) != set()
