"""MMS, WhatsApp, schedules and look-ups over real HTTP to the sandbox; where they may go, and how they are found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from hub import ActionContext, ConsentSignal, ConsentState, Effect, NotFound, OutcomeUnknown, Rejected, SkipStep
from hub.connector import Action
from hub_twilio import twilio
from hub_twilio.actions.cancelling import CancelledMessage, CancelMessage, cancel_message
from hub_twilio.actions.lookups import LookedUpNumber, LookupNumber, lookup_number
from hub_twilio.actions.mms import SendMms, send_mms
from hub_twilio.actions.scheduling import ScheduleSms, ScheduleWhatsapp, schedule_sms, schedule_whatsapp
from hub_twilio.actions.sms import SendSms, send_sms
from hub_twilio.actions.whatsapp import SendWhatsapp, send_whatsapp
from hub_twilio.finding import APPEARS_WITHIN_MS
from hub_twilio.sandbox import Template, TwilioSandbox

SENDER = "+14155550199"
SERVICE = "MG000000000000000000000000000000c3"
PERSON = "+14155550100"
TEMPLATE = "HX000000000000000000000000000000d4"
PICTURE = "https://example.com/picture.jpg"
SERVED = {"messaging_service_sid": SERVICE}
ON_WHATSAPP = {"whatsapp_from": SENDER}

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]

MMS = SendMms(to=PERSON, body="Look", media_urls=[PICTURE, f"{PICTURE}?2"])
HELLO = SendWhatsapp(to=PERSON, body="Hello")
WELCOME = SendWhatsapp(to=PERSON, template=TEMPLATE, variables={"1": "Şule"})


def later(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


@pytest.fixture
def templated(sandbox: TwilioSandbox, account: str) -> None:
    found = sandbox.account(account)
    found.templates[TEMPLATE] = Template(sid=TEMPLATE, account=account, name="Welcome", body="Hello {{1}}!")


async def look(ctx: ActionContext, action: Action[Any, Any], input: BaseModel) -> Any:
    assert action.lookup_
    return await action.lookup_(replace(ctx, now_ms=ctx.now_ms + APPEARS_WITHIN_MS + 1), input)


# -- MMS ---------------------------------------------------------------------------------------------------------------


async def test_files_are_sent_with_a_text(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    async with context() as ctx:
        made = await send_mms.run(ctx, MMS)
    message = sandbox.account(account).messages[made.message_id]
    assert [url for url, _ in message.media] == MMS.media_urls
    assert (message.body, message.from_number, sandbox.log[0].operation) == ("Look", SENDER, "send_mms")


async def test_files_are_sent_without_a_text(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    async with context(SERVED) as ctx:
        made = await send_mms.run(ctx, SendMms(to=PERSON, media_urls=[PICTURE]))
    message = sandbox.account(account).messages[made.message_id]
    assert (message.body, message.service, len(message.media)) == ("", SERVICE, 1)


@pytest.mark.parametrize("urls", [[], [PICTURE] * 11, ["picture.jpg"], ["ftp://example.com/x"]])
def test_what_is_no_file_that_twilio_can_fetch_is_refused_at_once(urls: list[str]) -> None:
    with pytest.raises(ValidationError):
        SendMms(to=PERSON, media_urls=urls)


async def test_a_lost_mms_is_found_by_its_text_and_files(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.drop_answers = 1
    async with context() as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_mms.run(ctx, MMS)
        found = await look(ctx, send_mms, MMS)
    assert [found.message_id] == [entry.data["sid"] for entry in sandbox.log]


async def test_an_mms_without_a_text_is_never_told_from_others(context: ContextMaker) -> None:
    bare = SendMms(to=PERSON, media_urls=[PICTURE])
    async with context() as ctx:
        assert await look(ctx, send_mms, bare) is None
        await send_mms.run(ctx, bare)
        with pytest.raises(OutcomeUnknown, match=r"\(1\)"):
            await look(ctx, send_mms, bare)


async def test_the_same_text_with_other_files_leaves_it_open(context: ContextMaker) -> None:
    async with context() as ctx:
        await send_mms.run(ctx, MMS.model_copy(update={"media_urls": [PICTURE]}))
        with pytest.raises(OutcomeUnknown):
            await look(ctx, send_mms, MMS)


# -- texts that Twilio rewrites ----------------------------------------------------------------------------------------


async def test_links_are_shortened_by_a_service_and_the_message_is_found_again(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sms = SendSms(to=PERSON, body="Pay: https://shop.example.com/carts/77?step=pay now", shorten_links=True)
    sandbox.drop_answers = 1
    async with context({"from_number": SENDER, **SERVED}) as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_sms.run(ctx, sms)
        found = await look(ctx, send_sms, sms)
    message = sandbox.account(account).messages[found.message_id]
    assert list(message.links.values()) == ["https://shop.example.com/carts/77?step=pay"]
    assert "shop.example.com" not in message.body


async def test_without_a_service_links_are_not_shortened(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context() as ctx:
        with pytest.raises(Rejected, match="only a Messaging Service shortens links"):
            await send_sms.run(ctx, SendSms(to=PERSON, body="x", shorten_links=True))
    assert sandbox.log == []


@pytest.mark.parametrize("rewritten", ['Caf? "Sule" - hello...', "Cafe Sule hello http://twil.example/1"])
async def test_a_text_whose_characters_were_replaced_leaves_it_open(rewritten: str, context: ContextMaker) -> None:
    """Smart encoding puts plain characters in the place of others."""
    text = {
        'Caf? "Sule" - hello...': "Caf? “Şule” – hello…",
        "Cafe Sule hello http://twil.example/1": "Café Şule hello",
    }
    async with context() as ctx:
        await send_sms.run(ctx, SendSms(to=PERSON, body=rewritten))
        with pytest.raises(OutcomeUnknown, match=r"\(1\)"):
            await look(ctx, send_sms, SendSms(to=PERSON, body=text[rewritten]))


# -- WhatsApp ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("templated")
async def test_a_template_is_sent_with_its_variables(
    listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sandbox.readers.add(f"whatsapp:{PERSON}")
    async with context(ON_WHATSAPP, callback_url=listener.address) as ctx:
        made = await send_whatsapp.run(ctx, WELCOME)
    await sandbox.settle()
    message = sandbox.account(account).messages[made.message_id]
    assert (made.to, made.from_number) == (PERSON, SENDER)
    assert (message.to, message.from_number) == (f"whatsapp:{PERSON}", f"whatsapp:{SENDER}")
    assert message.body == "Hello Şule!"
    assert [dict(call.form)["MessageStatus"] for call in listener.calls] == ["sent", "delivered", "read"]


async def test_free_text_is_delivered_within_a_day_of_the_person_s_last_message(
    listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    async with context(ON_WHATSAPP, callback_url=listener.address) as ctx:
        await send_whatsapp.run(ctx, HELLO)
        await sandbox.settle()
        await sandbox.text("", account, f"whatsapp:{PERSON}", f"whatsapp:{SENDER}", "Hi")
        await send_whatsapp.run(ctx, HELLO)
        await sandbox.settle()
    told = [dict(call.form) for call in listener.calls]
    assert [(one["MessageStatus"], one.get("ErrorCode")) for one in told] == [
        ("failed", "63016"),
        ("sent", None),
        ("delivered", None),
    ]


@pytest.mark.parametrize(
    ("settings", "step", "sender"),
    [
        ({**ON_WHATSAPP, **SERVED, "from_number": "+14155550177"}, {}, (f"whatsapp:{SENDER}", None)),
        ({**SERVED, "from_number": "+14155550177"}, {}, (None, SERVICE)),
        (ON_WHATSAPP, {"from_number": "+14155550188"}, ("whatsapp:+14155550188", None)),
        (ON_WHATSAPP, {"from_number": "whatsapp:+14155550188"}, ("whatsapp:+14155550188", None)),
        (ON_WHATSAPP, {"messaging_service_sid": SERVICE}, (None, SERVICE)),
    ],
)
async def test_whatsapp_leaves_from_its_own_default(
    settings: dict[str, str],
    step: dict[str, str],
    sender: tuple[str | None, str | None],
    sandbox: TwilioSandbox,
    context: ContextMaker,
    witness: Any,
) -> None:
    async with context(settings) as ctx:
        await send_whatsapp.run(ctx, HELLO.model_copy(update=step))
    asked = dict(witness.requests[-1].form)
    assert (asked.get("From"), asked.get("MessagingServiceSid")) == sender


async def test_without_a_whatsapp_sender_nothing_is_asked(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context({"from_number": SENDER}) as ctx:
        with pytest.raises(Rejected, match="whatsapp_from"):
            await send_whatsapp.run(ctx, HELLO)
    assert sandbox.log == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"template": TEMPLATE, "body": "Hello"},
        {"template": TEMPLATE, "media_urls": [PICTURE]},
        {"body": "Hello", "variables": {"1": "Jane"}},
        {"body": "x" * 1601},
    ],
)
def test_a_whatsapp_message_is_a_template_or_text_of_its_own(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SendWhatsapp(to=PERSON, **content)


async def test_a_template_that_is_no_sid_is_not_sent(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    async with context(ON_WHATSAPP) as ctx:
        with pytest.raises(Rejected, match="template is no SID"):
            await send_whatsapp.run(ctx, SendWhatsapp(to=PERSON, template="Welcome"))
        with pytest.raises(NotFound):
            await send_whatsapp.run(ctx, WELCOME)
    assert sandbox.log == []


async def test_who_opted_out_on_whatsapp_is_blocked_there_alone(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    await sandbox.text("", account, f"whatsapp:{PERSON}", f"whatsapp:{SENDER}", "Stop")
    async with context({**ON_WHATSAPP, "from_number": SENDER}) as ctx:
        with pytest.raises(SkipStep) as caught:
            await send_whatsapp.run(ctx, HELLO)
        await send_sms.run(ctx, SendSms(to=PERSON, body="Hello"))
    assert caught.value.signals == (ConsentSignal("whatsapp", PERSON, ConsentState.BLOCKED, "stop"),)


async def test_a_lost_whatsapp_text_is_found_again(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.drop_answers = 1
    async with context(ON_WHATSAPP) as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_whatsapp.run(ctx, HELLO)
        found = await look(ctx, send_whatsapp, HELLO)
    assert (found.from_number, found.to) == (SENDER, PERSON)
    assert [found.message_id] == [entry.data["sid"] for entry in sandbox.log]


@pytest.mark.usefixtures("templated")
async def test_a_template_is_not_told_from_other_messages_by_the_list(context: ContextMaker) -> None:
    async with context(ON_WHATSAPP) as ctx:
        assert await look(ctx, send_whatsapp, WELCOME) is None
        await send_whatsapp.run(ctx, WELCOME)
        with pytest.raises(OutcomeUnknown):
            await look(ctx, send_whatsapp, WELCOME)


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("templated")
async def test_messages_are_scheduled_sent_when_due_and_cancelled_before(
    sandbox: TwilioSandbox, context: ContextMaker, account: str, witness: Any
) -> None:
    async with context(SERVED) as ctx:
        sms = ScheduleSms(to=PERSON, body="Today!", send_at=later(hours=2), media_urls=[PICTURE])
        first = await schedule_sms.run(ctx, sms)
        assert dict(witness.requests[-1].form)["SendAt"] == sms.send_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        whatsapp = ScheduleWhatsapp(to=PERSON, template=TEMPLATE, send_at=later(days=1))
        second = await schedule_whatsapp.run(ctx, whatsapp)
        cancelled = await cancel_message.run(ctx, CancelMessage(message_id=second.message_id))
        again = await cancel_message.run(ctx, CancelMessage(message_id=second.message_id))
        kept = sandbox.account(account).messages
        assert await sandbox.send_due() == 0
        kept[first.message_id].send_at_ms = sandbox.clock.now_ms()
        assert await sandbox.send_due() == 1
        late = await cancel_message.run(ctx, CancelMessage(message_id=first.message_id))
    assert (first.status, second.status) == ("scheduled", "scheduled")
    assert cancelled == again == CancelledMessage(message_id=second.message_id, canceled=True, status="canceled")
    assert late == CancelledMessage(message_id=first.message_id, canceled=False, status="delivered")
    assert [entry.operation for entry in sandbox.log] == ["schedule_message", "schedule_message", "cancel_message"]


@pytest.mark.parametrize("ahead", [{"seconds": 299}, {"days": 35, "seconds": 30}, {"days": -1}])
async def test_a_time_that_twilio_would_refuse_is_not_asked_for(
    ahead: dict[str, float], sandbox: TwilioSandbox, context: ContextMaker, witness: Any
) -> None:
    async with context(SERVED) as ctx:
        with pytest.raises(Rejected, match="5 minutes and at most 35 days"):
            await schedule_sms.run(ctx, ScheduleSms(to=PERSON, body="x", send_at=later(**ahead)))
    assert witness.requests == []


async def test_only_a_service_schedules(sandbox: TwilioSandbox, context: ContextMaker, witness: Any) -> None:
    async with context() as ctx:
        with pytest.raises(Rejected, match="only a Messaging Service schedules"):
            await schedule_sms.run(ctx, ScheduleSms(to=PERSON, body="x", send_at=later(hours=1)))
    assert witness.requests == []


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        ScheduleSms.model_validate({"to": PERSON, "body": "x", "send_at": "2026-11-22T12:00:00"})


async def test_a_message_that_nobody_knows_cannot_be_cancelled(context: ContextMaker) -> None:
    async with context() as ctx:
        with pytest.raises(NotFound):
            await cancel_message.run(ctx, CancelMessage(message_id=f"SM{'0' * 32}"))


# -- where messages may go ---------------------------------------------------------------------------------------------

_SENDING: list[tuple[Action[Any, Any], BaseModel]] = [
    (send_sms, SendSms(to="+491701234567", body="x")),
    (send_mms, SendMms(to="+491701234567", media_urls=[PICTURE])),
    (send_whatsapp, SendWhatsapp(to="+491701234567", body="x")),
    (schedule_sms, ScheduleSms(to="+491701234567", body="x", send_at=later(days=1))),
    (schedule_whatsapp, ScheduleWhatsapp(to="+491701234567", body="x", send_at=later(days=1))),
]


def test_every_action_that_writes_to_a_person_is_asked_about_countries() -> None:
    assert {action.name for action, _ in _SENDING} == {n for n, one in twilio.actions.items() if one.message}


@pytest.mark.parametrize(("action", "input"), _SENDING, ids=[action.name for action, _ in _SENDING])
async def test_a_number_of_another_country_is_refused_before_any_call(
    action: Action[Any, Any], input: BaseModel, sandbox: TwilioSandbox, context: ContextMaker, witness: Any
) -> None:
    senders = {"from_number": SENDER, **ON_WHATSAPP, **SERVED}
    async with context({**senders, "allowed_countries": "US, TR"}) as ctx:
        with pytest.raises(Rejected, match="is of DE, and this connection sends to TR, US only") as caught:
            await action.run(ctx, input)
    assert "+49" not in str(caught.value)
    assert witness.requests == []
    async with context({**senders, "allowed_countries": "DE"}) as ctx:
        await action.run(ctx, input)
    assert len(sandbox.log) == 1


@pytest.mark.parametrize(
    ("to", "countries"),
    [
        ("+18765550123", "US"),  # Jamaica has North America's code, and is no part of the United States
        ("+88213300000", "US"),  # a satellite network is of no country
    ],
)
async def test_countries_are_told_by_more_than_their_calling_code(
    to: str, countries: str, context: ContextMaker, witness: Any
) -> None:
    async with context({"from_number": SENDER, "allowed_countries": countries}) as ctx:
        with pytest.raises(Rejected, match="nothing was sent"):
            await send_sms.run(ctx, SendSms(to=to, body="x"))
    assert witness.requests == []


# -- what a cap counts -------------------------------------------------------------------------------------------------


def test_caps_count_segments_files_and_whatsapp_messages() -> None:
    long = "x" * 161
    assert (
        send_mms.spends("segments", SendMms(to=PERSON, body=long, media_urls=[PICTURE])),
        send_mms.spends("mms", MMS),
    ) == (2, 1)
    assert send_mms.spends("segments", SendMms(to=PERSON, media_urls=[PICTURE])) == 1
    assert (send_whatsapp.spends("whatsapp", HELLO), send_whatsapp.spends("segments", HELLO)) == (1, 0)
    sms = ScheduleSms(to=PERSON, body=long, send_at=later(days=1))
    assert (schedule_sms.spends("segments", sms), schedule_sms.spends("mms", sms)) == (2, 0)
    assert lookup_number.spends("lookups", LookupNumber(number=PERSON, line_type=True)) == 1
    assert lookup_number.spends("lookups", LookupNumber(number=PERSON)) == 0


# -- look-ups ----------------------------------------------------------------------------------------------------------


async def test_a_number_is_looked_up_with_its_kind_of_line(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    sandbox.landlines.add("+14155550111")
    async with context() as ctx:
        mobile = await lookup_number.run(ctx, LookupNumber(number=PERSON, line_type=True))
        landline = await lookup_number.run(ctx, LookupNumber(number="+14155550111", line_type=True))
        plain = await lookup_number.run(ctx, LookupNumber(number="0170 1234567", country="DE"))
        wrong = await lookup_number.run(ctx, LookupNumber(number="+1 banana/../x"))
    assert (mobile.valid, mobile.number, mobile.country, mobile.line_type) == (True, PERSON, "US", "mobile")
    assert (mobile.national_format, mobile.carrier) == ("(415) 555-0100", "Example Mobile")
    assert landline.line_type == "landline"
    assert (plain.number, plain.country, plain.line_type) == ("+491701234567", "DE", None)
    assert wrong == LookedUpNumber(valid=False, reasons=["NOT_A_NUMBER"])


# -- declarations ------------------------------------------------------------------------------------------------------


def test_each_action_says_truly_what_may_be_done_after_a_lost_answer() -> None:
    effects = {name: action.effect for name, action in twilio.actions.items()}
    assert effects == {
        "send_sms": Effect.RECONCILABLE,
        "send_mms": Effect.RECONCILABLE,
        "send_whatsapp": Effect.RECONCILABLE,
        "schedule_sms": Effect.AT_MOST_ONCE,
        "schedule_whatsapp": Effect.AT_MOST_ONCE,
        "cancel_message": Effect.IDEMPOTENT,
        "lookup_number": Effect.IDEMPOTENT,
    }


def test_what_it_provides_and_lacks() -> None:
    provided = {one.provides for one in twilio.actions.values() if one.provides}
    assert provided == {"sms.send", "mms.send", "whatsapp.send", "sms.schedule", "whatsapp.schedule", "phone.lookup"}
    assert "email.send" in twilio.lacks


def test_consent_is_asked_for_by_the_channel_that_the_person_sees() -> None:
    channels = {name: one.message.channel for name, one in twilio.actions.items() if one.message}
    assert channels == {
        "send_sms": "sms",
        "send_mms": "sms",
        "schedule_sms": "sms",
        "send_whatsapp": "whatsapp",
        "schedule_whatsapp": "whatsapp",
    }


@pytest.mark.parametrize(
    ("action", "input", "text"),
    [
        (send_mms, MMS, f"MMS with 2 files to {PERSON}: Look"),
        (send_mms, SendMms(to=PERSON, media_urls=[PICTURE]), f"MMS with 1 file to {PERSON}"),
        (send_whatsapp, HELLO, f"WhatsApp to {PERSON}: Hello"),
        (send_whatsapp, WELCOME, f"WhatsApp to {PERSON}: template {TEMPLATE} (1=Şule)"),
        (
            schedule_sms,
            ScheduleSms(to=PERSON, body="Hi", send_at=datetime(2026, 11, 22, 12, tzinfo=UTC)),
            f"SMS to {PERSON} at 2026-11-22T12:00:00Z: Hi",
        ),
        (lookup_number, LookupNumber(number=PERSON, line_type=True), f"Look up {PERSON} with its kind of line"),
    ],
)
def test_a_dry_run_says_what_would_be_done(action: Action[Any, Any], input: BaseModel, text: str) -> None:
    assert action.dry_run(input) == text


@pytest.mark.parametrize(("action", "input"), [*_SENDING, (cancel_message, CancelMessage(message_id="SM" + "0" * 32))])
def test_a_rehearsal_pretends_the_same_for_the_same(action: Action[Any, Any], input: BaseModel) -> None:
    pretended = action.rehearse(input, 0)
    assert pretended == action.rehearse(input, 5)
    assert json.loads(pretended.model_dump_json())["message_id"].startswith("SM")
