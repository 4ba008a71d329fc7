"""Sending over real HTTP to the sandbox, and finding out afterwards what was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub import (
    ActionContext,
    ConsentSignal,
    ConsentState,
    Effect,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    RetryableError,
    SkipStep,
    VendorUnavailable,
)
from hub.events import Json
from hub_twilio import twilio
from hub_twilio.actions.fields import SentMessage
from hub_twilio.actions.sms import SendSms, describe, pretend, request_form, send_sms
from hub_twilio.finding import APPEARS_WITHIN_MS
from hub_twilio.sandbox import TwilioSandbox

SENDER = "+14155550199"
SERVICE = "MG000000000000000000000000000000c3"
PERSON = "+14155550100"
HI = SendSms(to=PERSON, body="Hi Jane")
LATER_MS = APPEARS_WITHIN_MS + 1

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


def sent_to(sandbox: TwilioSandbox, person: str = PERSON) -> list[str]:
    return [entry.data["sid"] for entry in sandbox.log if entry.data["to"] == person]


async def look(ctx: ActionContext, input: SendSms = HI, after_ms: int = 0) -> SentMessage | None:
    assert send_sms.lookup_
    return await send_sms.lookup_(replace(ctx, now_ms=ctx.now_ms + after_ms), input)


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_a_message_is_sent_from_the_default_number(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context() as ctx:
        sent = await send_sms.run(ctx, HI)
    assert sent == SentMessage(message_id=sent.message_id, status="queued", to=PERSON, from_number=SENDER, segments=1)
    assert sent_to(sandbox) == [sent.message_id]
    assert sandbox.log[0].data["body"] == "Hi Jane"


async def test_a_messaging_service_chooses_the_sender_later(context: ContextMaker) -> None:
    async with context({"messaging_service_sid": SERVICE}) as ctx:
        sent = await send_sms.run(ctx, HI)
    assert (sent.status, sent.from_number, sent.messaging_service_sid, sent.segments) == ("accepted", None, SERVICE, 0)


async def test_the_sender_of_the_step_replaces_the_default(context: ContextMaker) -> None:
    async with context({"messaging_service_sid": SERVICE}) as ctx:
        sent = await send_sms.run(ctx, HI.model_copy(update={"from_number": "+14155550198"}))
    assert (sent.from_number, sent.messaging_service_sid) == ("+14155550198", None)


async def test_without_any_sender_nothing_is_asked(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context({}) as ctx:
        with pytest.raises(Rejected, match="set from_number or messaging_service_sid"):
            await send_sms.run(ctx, HI)
    assert sandbox.log == []


async def test_the_callback_carries_the_reference_and_asks_for_repeats(context: ContextMaker) -> None:
    async with context(callback_url="https://hub.example.com/in/abc", reference="run-1_2") as ctx:
        address = dict(request_form(ctx, HI))["StatusCallback"]
    assert address == "https://hub.example.com/in/abc?reference=run-1_2#rc=3&rp=ct,rt,5xx"


async def test_the_callback_keeps_a_query_that_the_address_has(context: ContextMaker) -> None:
    async with context(callback_url="https://hub.example.com/in?tenant=7") as ctx:
        assert "?tenant=7&reference=" in dict(request_form(ctx, HI))["StatusCallback"]


async def test_without_a_public_url_there_is_no_callback(context: ContextMaker) -> None:
    async with context() as ctx:
        assert "StatusCallback" not in dict(request_form(ctx, HI))


async def test_the_status_callbacks_name_the_step(listener: Any, sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context(callback_url=listener.address, reference="run-1") as ctx:
        await send_sms.run(ctx, HI)
        await sandbox.settle()
    assert [dict(call.query)["reference"] for call in listener.calls] == ["run-1", "run-1"]
    assert [dict(call.form)["MessageStatus"] for call in listener.calls] == ["sent", "delivered"]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["banana", "4155550100", "whatsapp:+14155550100", "messenger:123", ""])
def test_an_address_that_is_no_phone_number_is_refused_at_once(to: str) -> None:
    with pytest.raises(ValidationError, match="country code"):
        SendSms(to=to, body="Hi")


def test_a_number_is_normalised() -> None:
    assert SendSms(to="+1 (415) 555-0100", body="Hi").to == PERSON


@pytest.mark.parametrize("body", ["", "x" * 1601])
def test_a_text_that_is_empty_or_too_long_is_refused_at_once(body: str) -> None:
    with pytest.raises(ValidationError):
        SendSms(to=PERSON, body=body)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (21211, Rejected, "number is not valid"),
        (21612, Rejected, "cannot be reached"),
        (21614, Rejected, "not a mobile number"),
        (21408, Rejected, "Geo permissions"),
        (21606, Rejected, "from_number"),
        (21703, Rejected, "sender pool"),
        (21611, VendorUnavailable, "queue"),
        (99999, Rejected, "errors/99999"),
    ],
)
async def test_a_refusal_says_what_to_do(
    code: int, error: type[Exception], words: str, sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    sandbox.refuse[PERSON] = code
    async with context() as ctx:
        with pytest.raises(error, match=words) as caught:
            await send_sms.run(ctx, HI)
    assert (getattr(caught.value, "code", None), getattr(caught.value, "connector", None)) == (str(code), "twilio")
    # Twilio's own sentence holds the number.
    assert PERSON not in str(caught.value)
    assert sandbox.log == []


async def test_a_full_queue_is_tried_again_much_later(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.refuse[SENDER] = 21611
    async with context() as ctx:
        with pytest.raises(VendorUnavailable) as caught:
            await send_sms.run(ctx, HI)
    assert caught.value.retry_after_s == 3600


async def test_a_throttled_call_is_rate_limited_and_sends_nothing(
    sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    sandbox.throttle_until_ms = sandbox.clock.now_ms() + 60_000
    async with context() as ctx:
        with pytest.raises(RateLimited):
            await send_sms.run(ctx, HI)
    assert sandbox.log == []


async def test_a_vendor_that_is_down_is_unavailable(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.fail_next = 1
    async with context() as ctx:
        with pytest.raises(VendorUnavailable):
            await send_sms.run(ctx, HI)


# -- consent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"from_number": SENDER}, {"messaging_service_sid": SERVICE}])
async def test_a_person_who_opted_out_is_skipped_and_their_address_blocked(
    settings: dict[str, str], listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sandbox.pools[SERVICE] = SENDER
    await sandbox.text(listener.address, account, PERSON, SENDER, "Stop")
    async with context(settings) as ctx:
        with pytest.raises(SkipStep) as caught:
            await send_sms.run(ctx, HI)
        assert caught.value.reason == "no_consent"
        assert caught.value.signals == (ConsentSignal("sms", PERSON, ConsentState.BLOCKED, "stop"),)
        assert sandbox.log == []

        await sandbox.text(listener.address, account, PERSON, SENDER, "START")
        assert (await send_sms.run(ctx, HI)).to == PERSON


# -- the look-up -------------------------------------------------------------------------------------------------------


async def test_a_lost_answer_is_found_again_exactly_once(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.drop_answers = 1
    async with context() as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_sms.run(ctx, HI)
        found = await look(ctx)
    assert found is not None
    assert sent_to(sandbox) == [found.message_id]


async def test_a_lost_answer_of_a_service_is_found_again(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.drop_answers = 1
    async with context({"messaging_service_sid": SERVICE}) as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_sms.run(ctx, HI)
        found = await look(ctx)
    assert found is not None
    assert (found.messaging_service_sid, [found.message_id]) == (SERVICE, sent_to(sandbox))


async def test_a_message_that_never_left_is_certainly_absent_after_a_while(
    sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        with pytest.raises(RetryableError) as caught:
            await look(ctx)
        assert caught.value.retry_after_s == pytest.approx(APPEARS_WITHIN_MS / 1000)
        assert await look(ctx, after_ms=LATER_MS) is None
    assert sandbox.log == []


@pytest.mark.parametrize(
    "other",
    [
        SendSms(to=PERSON, body="Something else"),
        SendSms(to="+14155550101", body="Hi Jane"),
        SendSms(to=PERSON, body="Hi Jane", from_number="+14155550198"),
        SendSms(to=PERSON, body="Hi Jane", messaging_service_sid=SERVICE),
    ],
)
async def test_other_messages_are_not_taken_for_ours(other: SendSms, context: ContextMaker) -> None:
    async with context() as ctx:
        await send_sms.run(ctx, other)
        assert await look(ctx, after_ms=LATER_MS) is None


async def test_the_same_text_of_long_ago_is_not_taken_for_ours(context: ContextMaker) -> None:
    async with context() as ctx:
        await send_sms.run(ctx, HI)
        later = replace(ctx, intended_at_ms=ctx.now_ms + 120_000, now_ms=ctx.now_ms + 300_000)
        assert await look(later) is None


async def test_what_the_person_texts_us_is_not_taken_for_ours(
    listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    await sandbox.text(listener.address, account, SENDER, PERSON, "Hi Jane")
    async with context() as ctx:
        assert await look(ctx, after_ms=LATER_MS) is None


async def test_several_equal_messages_leave_it_open(context: ContextMaker) -> None:
    async with context() as ctx:
        await send_sms.run(ctx, HI)
        await send_sms.run(ctx, HI)
        with pytest.raises(OutcomeUnknown, match=r"\(2\)"):
            await look(ctx)


async def test_a_message_with_a_notice_before_the_text_leaves_it_open(context: ContextMaker) -> None:
    async with context() as ctx:
        await send_sms.run(ctx, SendSms(to=PERSON, body="Sent from a trial account - Hi Jane"))
        with pytest.raises(OutcomeUnknown, match=r"\(1\)"):
            await look(ctx, after_ms=LATER_MS)


async def test_the_list_is_read_over_its_pages(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context() as ctx:
        first = await send_sms.run(ctx, HI)
        for number in range(120):
            await send_sms.run(ctx, SendSms(to=PERSON, body=f"Number {number}"))
        found = await look(ctx)
    assert found is not None
    assert found.message_id == first.message_id


def sighting(message_id: str, status: str) -> dict[str, Json]:
    return {
        "message_id": message_id,
        "channel": "sms",
        "from_number": SENDER,
        "to_number": PERSON,
        "messaging_service_sid": None,
        "status": status,
        "final": status == "delivered",
        "error_code": None,
        "reference": "run-1",
    }


async def test_a_callback_with_our_reference_settles_it_without_asking_twilio(
    sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    asked: list[str] = []

    async def sightings(type: str) -> Sequence[Mapping[str, Json]]:
        asked.append(type)
        return [sighting("SM7", "delivered"), sighting("SM7", "sent")]

    sandbox.fail_next = 1
    async with context(sightings=sightings) as ctx:
        found = await look(ctx)
    assert found == SentMessage(message_id="SM7", status="delivered", to=PERSON, from_number=SENDER)
    assert asked == ["twilio.sms_status"]
    assert sandbox.fail_next == 1


async def test_without_a_callback_the_list_is_asked(context: ContextMaker) -> None:
    async def sightings(type: str) -> Sequence[Mapping[str, Json]]:
        return []

    async with context(sightings=sightings) as ctx:
        sent = await send_sms.run(ctx, HI)
        found = await look(ctx)
    assert found is not None
    assert found.message_id == sent.message_id


async def test_a_look_up_that_is_refused_says_so(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.throttle_until_ms = sandbox.clock.now_ms() + 60_000
    async with context() as ctx:
        with pytest.raises(RateLimited):
            await look(ctx, after_ms=LATER_MS)


# -- rehearsals and declarations ---------------------------------------------------------------------------------------


@given(body=st.text(min_size=1, max_size=1600))
def test_a_rehearsal_gives_the_same_made_up_message_for_the_same_input(body: str) -> None:
    sms = SendSms(to=PERSON, body=body)
    assert pretend(sms, 0) == pretend(sms, 0)
    assert re.fullmatch(r"SM[0-9a-f]{32}", pretend(sms, 0).message_id)
    assert pretend(sms, 0).message_id != pretend(sms.model_copy(update={"to": "+14155550101"}), 0).message_id


def test_a_dry_run_says_who_gets_what() -> None:
    assert describe(HI) == f"SMS to {PERSON}: Hi Jane"


def test_sending_is_declared_as_a_message_that_can_be_looked_up() -> None:
    action = twilio.actions["send_sms"]
    assert (action.provides, action.effect) == ("sms.send", Effect.RECONCILABLE)
    assert action.message
    assert (action.message.channel, action.message.to(HI)) == ("sms", PERSON)


async def test_a_full_request_keeps_to_twilios_document(
    operation: Callable[[str, str], dict[str, Any]], context: ContextMaker
) -> None:
    full = SendSms(
        to=PERSON,
        body="x" * 1600,
        from_number=SENDER,
        messaging_service_sid=SERVICE,
        validity_s=36_000,
        shorten_links=True,
    )
    async with context(callback_url="https://hub.example.com/in") as ctx:
        await send_sms.run(ctx, full)
        form = dict(request_form(ctx, full))
    # The witness has looked at the values.
    assert set(form) <= set(operation("POST", "/Messages.json")["form"])
    assert {"ValidityPeriod", "ShortenUrls", "StatusCallback", "MessagingServiceSid"} <= set(form)


def test_the_input_allows_what_twilios_document_allows(operation: Callable[[str, str], dict[str, Any]]) -> None:
    fields = SendSms.model_json_schema()["properties"]
    parameters = operation("POST", "/Messages.json")["form"]
    validity = fields["validity_s"]["anyOf"][0]
    assert fields["body"]["maxLength"] == parameters["Body"]["maxLength"]
    assert (validity["minimum"], validity["maximum"]) == (
        parameters["ValidityPeriod"]["minimum"],
        parameters["ValidityPeriod"]["maximum"],
    )


@pytest.mark.parametrize("sid", ["MG1", "My service", "MG" + "g" * 32])
async def test_a_service_that_is_no_sid_is_not_sent_through(
    sid: str, sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        with pytest.raises(Rejected, match="no SID"):
            await send_sms.run(ctx, HI.model_copy(update={"messaging_service_sid": sid}))
    assert sandbox.log == []
