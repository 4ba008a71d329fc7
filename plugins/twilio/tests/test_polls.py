"""What no webhook told, and what happened before: found in Twilio's lists, under the facts that webhooks name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from hub import ActionContext, ConsentSignal, ConsentState, Delivery, Event, Identity, Rejected
from hub_twilio import twilio
from hub_twilio.actions.sms import SendSms, send_sms
from hub_twilio.sandbox import TwilioSandbox
from hub_twilio.triggers.polls import WEBHOOK_TAKES_MS

SENDER, PERSON = "+14155550199", "+14155550100"
HOUR_MS = 3_600_000

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]
DeliveryMaker = Callable[..., Delivery]


def event(trigger: str, item: Any) -> Event:
    return twilio.triggers[trigger].event(item, 0)


async def polled(ctx: ActionContext, trigger: str, since_ms: int = 0) -> list[Event]:
    pages = [page async for page in twilio.polls[trigger].fetch(ctx, None, since_ms)]
    return [event(trigger, item) for page in pages for item in page.items]


async def past(ctx: ActionContext, trigger: str, cursor: str | None = None) -> list[tuple[list[Event], str]]:
    pages = twilio.histories[trigger].fetch(ctx, cursor, 0)
    return [([event(trigger, item) for item in page.items], page.cursor) async for page in pages]


def facts_of(events: list[Event]) -> list[str]:
    return [one.fact_id for one in events]


@pytest.fixture
async def told(listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str) -> Any:
    """What webhooks told of messages in both directions, which are an hour old by now."""
    picture = [("https://example.com/picture.jpg", "image/png")]
    await sandbox.text(listener.address, account, PERSON, SENDER, "Stop")
    await sandbox.text(listener.address, account, PERSON, SENDER, "Start")
    await sandbox.text(listener.address, account, PERSON, SENDER, "Look here", picture)
    await sandbox.text(listener.address, account, f"whatsapp:{PERSON}", f"whatsapp:{SENDER}", "Hello")
    sandbox.undeliverable["+14155550102"] = 30003
    async with context(callback_url=listener.address, reference="run-1") as ctx:
        for to in (PERSON, "+14155550102"):
            await send_sms.run(ctx, SendSms(to=to, body="Hi"))
            await sandbox.settle()
    sandbox.age(account, HOUR_MS)
    return listener.calls


def webhook_events(calls: Any, account: str) -> dict[str, list[Event]]:
    assert twilio.webhook
    found: dict[str, list[Event]] = {}
    for call in calls:
        made = twilio.parse(Delivery(call, "twilio", "texts", account, twilio.webhook.topic(call), 0)) or []
        for one in made:
            found.setdefault(one.type.removeprefix("twilio."), []).append(one)
    return found


@pytest.mark.parametrize(
    "trigger",
    ["sms_received", "mms_received", "whatsapp_received", "opted_out", "opted_in", "sms_delivered", "sms_failed"],
)
async def test_a_poll_names_the_facts_that_webhooks_named(
    trigger: str, told: Any, context: ContextMaker, account: str
) -> None:
    wanted = webhook_events(told, account)[trigger]
    async with context() as ctx:
        found = await polled(ctx, trigger)
    assert facts_of(found) == facts_of(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert (one.subject, one.consents) == (other.subject, other.consents)
        timeless = {"sent_at", "changed_at", "reference", "opt_out"}
        assert {k: v for k, v in one.data.items() if k not in timeless} == {
            k: v for k, v in other.data.items() if k not in timeless
        }
        assert one.data.get("opt_out") == other.data.get("opt_out")


async def test_a_poll_knows_when_it_happened(
    told: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    async with context() as ctx:
        [stop] = await polled(ctx, "opted_out")
        [failed] = await polled(ctx, "sms_failed")
    hour_ago = sandbox.clock.now_ms() - HOUR_MS
    assert stop.occurred_at_ms == pytest.approx(hour_ago, abs=30_000)
    assert failed.occurred_at_ms == pytest.approx(hour_ago, abs=30_000)
    assert (failed.data["error_code"], failed.data["reason"], failed.cause) == ("30003", "unreachable_now", None)


async def test_what_a_webhook_may_still_tell_is_left_to_it(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    await sandbox.text("", account, PERSON, SENDER, "Hello")
    async with context() as ctx:
        assert await polled(ctx, "sms_received") == []
        sandbox.age(account, WEBHOOK_TAKES_MS + 1000)
        assert len(await polled(ctx, "sms_received")) == 1


async def test_what_is_older_than_asked_for_is_not_told(
    told: Any, sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        assert await polled(ctx, "sms_received", sandbox.clock.now_ms() - HOUR_MS // 2) == []
        assert len(await polled(ctx, "sms_received", sandbox.clock.now_ms() - 2 * HOUR_MS)) == 4


async def test_a_status_that_changed_is_told_also_of_a_message_of_hours_ago(
    told: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sandbox.age(account, 9 * HOUR_MS)
    message = next(m for m in sandbox.account(account).messages.values() if m.status == "delivered")
    message.status, message.updated_ms = "undelivered", sandbox.clock.now_ms() - HOUR_MS
    async with context() as ctx:
        found = await polled(ctx, "sms_status", sandbox.clock.now_ms() - 2 * HOUR_MS)
    assert facts_of(found) == [f"sms_status:{message.sid}:undelivered"]


async def test_what_twilio_has_in_hand_is_no_news(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    async with context() as ctx:
        await send_sms.run(ctx, SendSms(to=PERSON, body="Hi"))
        await sandbox.settle()
        sandbox.age(account, HOUR_MS)
        (message,) = sandbox.account(account).messages.values()
        for status, facts in {"queued": 0, "sending": 0, "sent": 1, "canceled": 1}.items():
            message.status = status
            assert len(await polled(ctx, "sms_status")) == facts


async def test_many_messages_are_told_oldest_first_in_pages(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sids = [(await sandbox.text("", account, PERSON, SENDER, f"Number {n}")).sid for n in range(1250)]
    sandbox.age(account, HOUR_MS)
    async with context() as ctx:
        pages = [page async for page in twilio.polls["sms_received"].fetch(ctx, None, 0)]
    assert [item.message_id for page in pages for item in page.items] == sids
    assert len(pages) == 13


# -- the past ----------------------------------------------------------------------------------------------------------


async def test_the_past_of_messages_goes_on_at_any_page(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sids = [(await sandbox.text("", account, PERSON, SENDER, f"Number {n}")).sid for n in range(2100)]
    async with context() as ctx:
        pages = await past(ctx, "sms_received")
        assert [fact for events, _ in pages for fact in facts_of(events)] == [
            f"sms_received:{sid}" for sid in reversed(sids)
        ]
        assert len(pages) == 3
        for number, (_, cursor) in enumerate(pages, 1):
            assert await past(ctx, "sms_received", cursor) == pages[number:]


@pytest.mark.parametrize("trigger", sorted(twilio.histories))
async def test_everything_that_is_polled_has_a_past(trigger: str) -> None:
    assert trigger in twilio.polls


async def test_the_past_of_opt_outs_reaches_the_ledger_at_its_time(
    told: Any, sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        [(events, _)] = await past(ctx, "sms_received")
    said = [one for one in events if one.consents]
    assert [one.consents[0].state for one in said] == [ConsentState.GRANTED, ConsentState.BLOCKED]
    assert said[1].consents == (ConsentSignal("sms", PERSON, ConsentState.BLOCKED, "stop"),)
    assert said[1].occurred_at_ms <= said[0].occurred_at_ms < sandbox.clock.now_ms() - HOUR_MS + 30_000


# -- calls -------------------------------------------------------------------------------------------------------------


async def test_calls_that_ended_are_told_those_that_ended_first_first(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    first = sandbox.called(account, PERSON, SENDER, seconds=95)
    sandbox.age(account, HOUR_MS)
    second = sandbox.called(account, "client:jane", SENDER)
    sandbox.called(account, PERSON, SENDER, status="busy")
    outbound = sandbox.called(account, SENDER, "+14155550105")
    outbound.direction = "outbound-api"
    async with context() as ctx:
        found = await polled(ctx, "call_completed")
        recent = await polled(ctx, "call_completed", sandbox.clock.now_ms() - HOUR_MS // 2)
        [(gone, cursor)] = await past(ctx, "call_completed")
        assert await past(ctx, "call_completed", cursor) == []
    assert facts_of(found) == [f"call_completed:{call.sid}" for call in (first, second, outbound)]
    assert facts_of(recent) == facts_of(found)[1:]
    assert facts_of(gone) == facts_of(found)
    assert (found[0].data["duration_s"], found[0].subject) == (95, Identity(phone=PERSON))
    assert found[1].subject == Identity()
    assert found[2].subject == Identity(phone="+14155550105")


async def test_calls_are_not_asked_for_where_nobody_wants_them(context: ContextMaker, witness: Any) -> None:
    async with context({"poll_calls": "no"}) as ctx:
        assert await polled(ctx, "call_completed") == []
    assert witness.requests == []


async def test_a_key_that_may_not_read_calls_says_nothing_about_the_connection(
    sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        sandbox.refuse_next = 401
        with pytest.raises(Rejected, match="set poll_calls to no"):
            await polled(ctx, "call_completed")


async def test_calls_are_read_over_their_pages(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    for _ in range(1010):
        sandbox.called(account, PERSON, SENDER)
    async with context() as ctx:
        assert len(await polled(ctx, "call_completed")) == 1010
