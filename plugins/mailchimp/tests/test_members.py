"""What is done with members, over real HTTP: nobody who left is subscribed again, nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from hub import (
    ConsentSignal,
    ConsentState,
    Effect,
    Identity,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RetryableError,
    SkipStep,
)
from hub_mailchimp import mailchimp
from hub_mailchimp.marketing.events import APPEARS_WITHIN_MS, EventInput, JourneyInput, add_event, start_journey_step
from hub_mailchimp.marketing.leaving import LeaveInput, archive_member, forget, unsubscribe_member
from hub_mailchimp.marketing.members import (
    AddInput,
    AddOutput,
    FieldsInput,
    TagsInput,
    UpsertInput,
    add_members,
    add_tags,
    remove_tags,
    update_merge_fields,
    upsert_member,
)
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.state import List, hashed

from . import test_contract as contract
from .conftest import ContextMaker

ADA = "Ada@Example.test"
LEAVE = LeaveInput(list_id=DEFAULT_LIST, email=ADA)


def upsert(email: str = ADA, **more: Any) -> UpsertInput:
    return UpsertInput(list_id=DEFAULT_LIST, email=email, **more)


def members(sandbox: MailchimpSandbox) -> dict[str, dict[str, Any]]:
    return sandbox.account("main").lists[DEFAULT_LIST].members


# -- upsert ------------------------------------------------------------------------------------------------------------


async def test_somebody_new_is_subscribed_and_somebody_known_is_changed(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    async with mail() as ctx:
        new = await upsert_member.run(ctx, upsert(merge_fields={"FNAME": "Ada"}))
        known = await upsert_member.run(ctx, upsert("ada@example.test", merge_fields={"LNAME": "King"}))
    assert (new.status, new.member_id) == ("subscribed", hashed("ada@example.test"))
    assert known.member_id == new.member_id
    assert members(marketing)[new.member_id]["merge_fields"] == {"FNAME": "Ada", "LNAME": "King"}


async def test_whoever_left_stays_out(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    await marketing.subscribe(ADA)
    await marketing.unsubscribe(ADA)
    async with mail() as ctx:
        assert (await upsert_member.run(ctx, upsert(merge_fields={"FNAME": "Ada"}))).status == "unsubscribed"
    assert "status" not in marketing.log[-1].data
    assert members(marketing)[hashed(ADA)]["status"] == "unsubscribed"


async def test_whoever_left_and_was_archived_is_skipped_and_their_consent_revoked(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    await marketing.subscribe(ADA)
    await marketing.unsubscribe(ADA)
    async with mail() as ctx:
        await archive_member.run(ctx, LEAVE)
        # They left no later than they changed last, which is long ago.
        members(marketing)[hashed(ADA)]["last_changed"] = "2026-01-02T10:00:00+00:00"
        with pytest.raises(SkipStep) as caught:
            await upsert_member.run(ctx, upsert())
    assert caught.value.reason == "no_consent"
    at = datetime(2026, 1, 2, 10, tzinfo=UTC)
    assert caught.value.signals == (ConsentSignal("email", ADA, ConsentState.REVOKED, "mailchimp_compliance", at=at),)
    assert members(marketing)[hashed(ADA)]["status"] == "archived"


async def test_an_address_that_mailchimp_takes_for_fake_is_rejected_without_naming_it(mail: ContextMaker) -> None:
    async with mail() as ctx:
        with pytest.raises(Rejected, match="at email") as caught:
            await upsert_member.run(ctx, upsert("a@b@example.test"))
    assert "example.test" not in str(caught.value)
    assert caught.value.request_id == "995c5cb0-3280-4a6e-808b-3b096d0bb219"


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "nobody"},
        {"email": "a b@example.test"},
        {"list_id": ""},
        {"merge_fields": {"FNAME": True}},
        {"merge_fields": {"FNAME": None}},
        {"merge_fields": {"first name": "Ada"}},
        {"status_if_new": "cleaned"},
        {"status": "subscribed"},
    ],
)
def test_what_mailchimp_would_refuse_or_nobody_may_say_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UpsertInput.model_validate({"list_id": DEFAULT_LIST, "email": ADA, **wrong})


@pytest.mark.parametrize(("list_id", "error"), [("..", Rejected), ("../lists", NotFound), ("a/b?c#d", NotFound)])
async def test_an_id_leads_to_no_other_place(mail: ContextMaker, list_id: str, error: type[Exception]) -> None:
    async with mail() as ctx:
        with pytest.raises(error):
            await upsert_member.run(ctx, UpsertInput(list_id=list_id, email=ADA))


# -- many at once ------------------------------------------------------------------------------------------------------


def adds(*emails: str) -> list[AddInput]:
    return [AddInput(list_id=DEFAULT_LIST, email=email) for email in emails]


async def test_many_are_added_in_one_call_and_whoever_is_known_stays_as_they_are(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    await marketing.subscribe("left@example.test")
    await marketing.unsubscribe("left@example.test")
    async with mail() as ctx:
        emails = [f"p{n}@example.test" for n in range(498)]
        answers = await add_members.run_batch(ctx, adds(*emails, "left@example.test", "P1@example.test"))  # type: ignore[misc]
    outcomes = [answer.outcome for answer in answers if isinstance(answer, AddOutput)]
    assert outcomes == ["added"] * 498 + ["known", "added"]
    assert [entry.operation for entry in marketing.log] == ["add_members"]
    assert members(marketing)[hashed("left@example.test")]["status"] == "unsubscribed"


async def test_one_that_is_refused_takes_nobody_with_it(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    bad = AddInput.model_construct(
        list_id=DEFAULT_LIST, email="nobody", merge_fields={}, interests={}, language=None, status_if_new="subscribed"
    )
    async with mail() as ctx:
        good, refused = await add_members.run_batch(ctx, [*adds("ada@example.test"), bad])  # type: ignore[misc]
    assert isinstance(good, AddOutput)
    assert isinstance(refused, Rejected)
    assert refused.code == "ERROR_GENERIC"


def test_ten_thousand_take_twenty_calls() -> None:
    action = mailchimp.actions["add_member"]
    assert action.batch
    assert (action.batch.size, action.effect, action.provides) == (500, Effect.IDEMPOTENT, "audience.add")
    assert {action.batch.group_by(one) for one in adds("a@example.test", "b@example.test")} == {DEFAULT_LIST}


# -- fields, tags, leaving ---------------------------------------------------------------------------------------------


async def test_merge_fields_of_nobody_are_not_found(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    fields = FieldsInput(list_id=DEFAULT_LIST, email=ADA, merge_fields={"FNAME": "Ada"})
    async with mail() as ctx:
        with pytest.raises(NotFound, match="in the audience"):
            await update_merge_fields.run(ctx, fields)
        await marketing.subscribe(ADA)
        assert (await update_merge_fields.run(ctx, fields)).status == "subscribed"
    assert members(marketing)[hashed(ADA)]["merge_fields"] == {"FNAME": "Ada"}


async def test_tags_are_added_to_those_that_are_there_and_taken_off(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    await marketing.subscribe(ADA)
    async with mail() as ctx:
        await add_tags.run(ctx, TagsInput(list_id=DEFAULT_LIST, email=ADA, tags=["vip"]))
        await add_tags.run(ctx, TagsInput(list_id=DEFAULT_LIST, email=ADA, tags=[" trial "]))
        assert [tag["name"] for tag in members(marketing)[hashed(ADA)]["tags"]] == ["vip", "trial"]
        await remove_tags.run(ctx, TagsInput(list_id=DEFAULT_LIST, email=ADA, tags=["vip", "never there"]))
    assert [tag["name"] for tag in members(marketing)[hashed(ADA)]["tags"]] == ["trial"]


async def test_unsubscribing_who_is_not_there_is_done_already(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    async with mail() as ctx:
        with pytest.raises(SkipStep) as caught:
            await unsubscribe_member.run(ctx, LEAVE)
        assert caught.value.reason == "already_done"
        await marketing.subscribe(ADA)
        for _ in range(2):
            assert (await unsubscribe_member.run(ctx, LEAVE)).status == "unsubscribed"
    # a change that changes nothing would be found as news
    assert [entry.operation for entry in marketing.log] == ["update_member"]


async def test_archiving_twice_is_as_good_as_once_and_nobody_is_skipped(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    async with mail() as ctx:
        with pytest.raises(SkipStep):
            await archive_member.run(ctx, LEAVE)
        await marketing.subscribe(ADA)
        for _ in range(2):
            assert (await archive_member.run(ctx, LEAVE)).status == "archived"
    assert [entry.operation for entry in marketing.log] == ["archive_member"]


# -- forgetting --------------------------------------------------------------------------------------------------------


async def test_a_person_is_unsubscribed_from_every_audience_also_from_those_that_were_not_chosen(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    lists = marketing.account("main").lists
    lists["bb22"], lists["cc33"] = List("bb22", "Two"), List("cc33", "Three")
    await marketing.subscribe(ADA)
    await marketing.subscribe(ADA, list_id="bb22")
    async with mail({"lists": DEFAULT_LIST}) as ctx:
        for _ in range(2):
            await forget(ctx, Identity(email="ada@example.test"))
        await forget(ctx, Identity(phone="+14155550100"))
        await forget(ctx, Identity(email="nobody@example.test"))
    assert [lists[name].members[hashed(ADA)]["status"] for name in (DEFAULT_LIST, "bb22")] == ["unsubscribed"] * 2
    assert lists["cc33"].members == {}
    assert [entry.operation for entry in marketing.log] == ["update_member", "update_member"]


# -- events and journeys -----------------------------------------------------------------------------------------------

EVENT = EventInput(list_id=DEFAULT_LIST, email=ADA, name="cart_abandoned", properties={"cart_id": "A-77"})


async def test_an_event_whose_answer_was_lost_is_found_by_its_run(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    await marketing.subscribe(ADA)
    marketing.drop_answers = 1
    assert add_event.lookup_
    async with mail() as ctx:
        with pytest.raises(OutcomeUnknown):
            await add_event.run(ctx, EVENT)
        assert await add_event.lookup_(ctx, EVENT) is not None
        assert await add_event.lookup_(replace(ctx, reference="other", intended_at_ms=0), EVENT) is None
    assert len(marketing.log) == 1


async def test_an_event_that_is_not_there_yet_is_not_said_to_be_absent(
    marketing: MailchimpSandbox, mail: ContextMaker
) -> None:
    await marketing.subscribe(ADA)
    marketing.event_lag_ms = 20_000
    assert add_event.lookup_
    async with mail() as ctx:
        await add_event.run(ctx, EVENT)
        with pytest.raises(RetryableError) as caught:
            await add_event.lookup_(ctx, EVENT)
        assert caught.value.retry_after_s == pytest.approx(APPEARS_WITHIN_MS / 1000)
        marketing.clock.offset_ms += APPEARS_WITHIN_MS
        assert await add_event.lookup_(replace(ctx, now_ms=marketing.clock.now_ms()), EVENT) is not None


async def test_nobody_of_that_name_got_no_event(mail: ContextMaker) -> None:
    assert add_event.lookup_
    async with mail() as ctx:
        assert await add_event.lookup_(ctx, EVENT) is None


async def test_a_step_of_a_journey_is_started_for_a_member(marketing: MailchimpSandbox, mail: ContextMaker) -> None:
    step = JourneyInput(journey_id=7, step_id=3, email=ADA)
    marketing.account("main").journeys.add((7, 3))
    async with mail() as ctx:
        with pytest.raises(Rejected):
            await start_journey_step.run(ctx, step)
        await marketing.subscribe(ADA)
        assert (await start_journey_step.run(ctx, step)).step_id == 3
        with pytest.raises(NotFound):
            await start_journey_step.run(ctx, JourneyInput(journey_id=7, step_id=4, email=ADA))
    assert mailchimp.actions["start_journey_step"].effect is Effect.AT_MOST_ONCE


@pytest.mark.parametrize("name", sorted(mailchimp.actions))
def test_every_action_says_what_it_would_do_and_pretends_the_same_each_time(name: str) -> None:
    action = mailchimp.actions[name]
    given = action.input.model_validate(contract.TestMailchimp.inputs[name])
    assert "\n" not in action.dry_run(given)
    assert action.simulate_ is not None
    assert action.rehearse(given, 0) == action.rehearse(given, 0)
