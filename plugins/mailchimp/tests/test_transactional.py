"""Single e-mails: sent once, looked for when an answer is lost, and what becomes of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from hub import (
    ActionContext,
    ConsentSignal,
    ConsentState,
    Delivery,
    Effect,
    Event,
    Identity,
    InboundRequest,
    Json,
    NotFound,
    OutcomeUnknown,
    PayloadError,
    Rate,
    Rejected,
    RetryableError,
    SignatureError,
    SkipStep,
    Subscription,
)
from hub_mailchimp import mandrill
from hub_mailchimp.sandbox.transactional import EVENTS, MandrillSandbox, seal
from hub_mailchimp.transactional.actions import (
    FOUND_WITHIN_MS,
    SendEmail,
    SendTemplate,
    SentEmail,
    send_email,
    send_template,
)
from hub_mailchimp.transactional.webhook import KEYS

from . import test_contract as contract
from .conftest import FIXTURES, NOW_MS, ContextMaker, Listener, facts

ADA = "ada@example.test"
HI = SendEmail(to=ADA, subject="Your cart", html="<p>Hi</p>")
URL = "https://hub.example.test/in/mandrill/abc"
assert mandrill.webhook
assert mandrill.subscriptions
WEBHOOK, HOOKS = mandrill.webhook, mandrill.subscriptions


def sent(sandbox: MandrillSandbox) -> list[str]:
    return [entry.data["id"] for entry in sandbox.log if entry.operation == "send"]


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_an_e_mail_is_sent_with_the_reference_of_its_run(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    async with single(reference="run-1") as ctx:
        made = await send_email.run(ctx, HI.model_copy(update={"metadata": {"shop": "1"}}))
    assert made == SentEmail(message_id=made.message_id, status="sent", to=ADA)
    message = transactional.messages["main"][made.message_id]
    assert message["metadata"] == {"shop": "1", "hub_run": "run-1"}
    assert (message["sender"], message["subject"]) == ("team@example.test", "Your cart")


async def test_a_template_makes_an_e_mail_and_an_unknown_one_is_not_found(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    mail = SendTemplate(to=ADA, template="cart", content={"main": "Hi"})
    async with single() as ctx:
        with pytest.raises(NotFound, match="slug"):
            await send_template.run(ctx, mail)
        transactional.templates["main"] = [{"slug": "cart", "name": "Cart"}]
        made = await send_template.run(ctx, mail)
    assert transactional.messages["main"][made.message_id]["template"] == "cart"


async def test_without_any_sender_nothing_is_asked(transactional: MandrillSandbox, single: ContextMaker) -> None:
    async with single() as ctx:
        bare = replace(ctx, settings={})
        with pytest.raises(Rejected, match="set from_email"):
            await send_email.run(bare, HI)
    assert transactional.log == []


@pytest.mark.parametrize(
    ("reason", "state", "why"),
    [
        ("hard-bounce", ConsentState.BLOCKED, "hard_bounce"),
        ("spam", ConsentState.BLOCKED, "spam"),
        ("unsub", ConsentState.REVOKED, "unsub"),
    ],
)
async def test_an_address_that_the_vendor_writes_to_no_more_is_skipped_and_remembered(
    transactional: MandrillSandbox, single: ContextMaker, reason: str, state: ConsentState, why: str
) -> None:
    transactional.refuse[ADA] = reason
    transactional.refused_at[ADA] = "2026-01-02 10:00:00"
    async with single() as ctx:
        with pytest.raises(SkipStep) as caught:
            await send_email.run(ctx, HI)
    assert caught.value.reason == "no_consent"
    # As of when it was said, which the list of refused addresses tells, and not as of this attempt.
    at = datetime(2026, 1, 2, 10, tzinfo=UTC)
    assert caught.value.signals == (ConsentSignal("email", ADA, state, why, at=at),)
    assert transactional.log == []


async def test_an_address_that_is_refused_for_a_reason_that_no_list_tells_is_refused_as_of_now(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    transactional.refuse[ADA] = "unsub"
    transactional.refused_at[ADA] = None
    async with single() as ctx:
        with pytest.raises(SkipStep) as caught:
            await send_email.run(ctx, HI)
    assert caught.value.signals == (ConsentSignal("email", ADA, ConsentState.REVOKED, "unsub"),)


@pytest.mark.parametrize("reason", ["soft-bounce", "custom", "invalid-sender", "test-mode-limit", "unsigned", "rule"])
async def test_a_refusal_with_200_is_one(transactional: MandrillSandbox, single: ContextMaker, reason: str) -> None:
    transactional.refuse[ADA] = reason
    async with single() as ctx:
        with pytest.raises(Rejected, match=reason) as caught:
            await send_email.run(ctx, HI)
    assert caught.value.code == reason
    assert ADA not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "nobody"},
        {"html": None},
        {"subject": ""},
        {"tags": ["_mine"]},
        {"tags": ["x" * 50]},
        {"metadata": {str(n): "" for n in range(10)}},
    ],
)
def test_what_would_be_refused_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SendEmail.model_validate({**HI.model_dump(), **wrong})


def test_sending_is_declared_as_a_message_that_can_be_looked_up() -> None:
    action = mandrill.actions["send_email"]
    assert (action.provides, action.effect) == ("email.send", Effect.RECONCILABLE)
    assert mandrill.actions["send_template"].effect is Effect.RECONCILABLE
    assert action.message
    assert (action.message.channel, action.message.to(HI)) == ("email", ADA)


@pytest.mark.parametrize("name", ["send_email", "send_template"])
def test_a_rehearsal_is_the_same_each_time_and_a_dry_run_one_line(name: str) -> None:
    action = mandrill.actions[name]
    given = action.input.model_validate(contract.TestMandrill.inputs[name])
    assert action.rehearse(given, 0) == action.rehearse(given, 1)
    assert action.rehearse(given.model_copy(update={"to": "bob@example.test"}), 0) != action.rehearse(given, 0)
    assert ADA in action.dry_run(given)
    assert "\n" not in action.dry_run(given)


# -- the look-up -------------------------------------------------------------------------------------------------------


async def look(ctx: ActionContext, after_ms: int = 0) -> SentEmail | None:
    assert send_email.lookup_
    return await send_email.lookup_(replace(ctx, now_ms=ctx.now_ms + after_ms), HI)


async def test_a_lost_answer_is_found_once_the_search_knows_of_it(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    transactional.drop_answers = 1
    async with single() as ctx:
        with pytest.raises(OutcomeUnknown):
            await send_email.run(ctx, HI)
        # the search lags, so that nothing found means nothing yet
        with pytest.raises(RetryableError) as caught:
            await look(ctx)
        assert caught.value.retry_after_s == pytest.approx(FOUND_WITHIN_MS / 1000)
        transactional.clock.offset_ms += transactional.index_lag_ms
        found = await look(ctx, transactional.index_lag_ms)
    assert found
    assert sent(transactional) == [found.message_id]


async def test_one_that_never_left_is_absent_only_when_two_searches_say_so(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    async with single() as ctx:
        await send_email.run(replace(ctx, reference="another"), HI)
        transactional.clock.offset_ms += FOUND_WITHIN_MS
        assert await look(ctx, FOUND_WITHIN_MS) is None


async def test_a_query_that_finds_nothing_is_not_believed(transactional: MandrillSandbox, single: ContextMaker) -> None:
    async with single({"search_query": "u_other:{reference}"}) as ctx:
        made = await send_email.run(ctx, HI)
        transactional.clock.offset_ms += FOUND_WITHIN_MS
        assert (await look(ctx, FOUND_WITHIN_MS)) == made


async def test_one_that_was_refused_is_as_good_as_none(transactional: MandrillSandbox, single: ContextMaker) -> None:
    transactional.refuse[ADA] = "rule"
    async with single() as ctx:
        with pytest.raises(Rejected):
            await send_email.run(ctx, HI)
        transactional.clock.offset_ms += FOUND_WITHIN_MS
        assert await look(ctx, FOUND_WITHIN_MS) is None


async def test_too_many_to_see_leaves_it_open(
    transactional: MandrillSandbox, single: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_mailchimp.transactional.actions._MOST", 100)
    async with single() as ctx:
        for number in range(100):
            await send_email.run(replace(ctx, reference=f"other-{number}"), HI)
        transactional.clock.offset_ms += FOUND_WITHIN_MS
        with pytest.raises(OutcomeUnknown, match="search_query"):
            await look(ctx, FOUND_WITHIN_MS)


async def test_a_webhook_with_our_reference_settles_it_without_asking(
    transactional: MandrillSandbox, single: ContextMaker
) -> None:
    asked: list[str] = []

    async def sightings(type: str) -> Sequence[Mapping[str, Json]]:
        asked.append(type)
        return [{"message_id": "m-7", "email": ADA, "occurred_at": "2026-11-20T10:15:30Z"}]

    transactional.fail_next = 1
    async with single(sightings=sightings) as ctx:
        assert await look(ctx) == SentEmail(message_id="m-7", status="sent", to=ADA)
    assert asked == ["mandrill.email_sent"]
    assert transactional.fail_next == 1


# -- recognising a call ------------------------------------------------------------------------------------------------


def call(body: bytes, *, url: str = URL, method: str = "POST", signature: str | None = None) -> InboundRequest:
    headers = {} if signature is None else {"x-mandrill-signature": signature}
    return InboundRequest(method, url, headers, body, NOW_MS)


@pytest.mark.parametrize("vector", facts("signatures")["transactional"], ids=lambda vector: vector["expected"])
def test_the_vectors(vector: dict[str, Any]) -> None:
    body = urlencode(vector["form"]).encode()
    good = call(body, url=vector["url"], signature=vector["expected"])
    WEBHOOK.verify(good, {KEYS: f"1131:{vector['webhook_key']}"})
    WEBHOOK.verify(good, {KEYS: f"other-key 1131:{vector['webhook_key']}"})
    for bad in (
        replace(good, url=f"{vector['url']}x"),
        replace(good, body=body + b"&more=1"),
        replace(good, headers={}),
        replace(good, headers={"x-mandrill-signature": "é"}),
    ):
        with pytest.raises(SignatureError):
            WEBHOOK.verify(bad, {KEYS: vector["webhook_key"]})
    with pytest.raises(SignatureError, match="letter by letter"):
        WEBHOOK.verify(good, {KEYS: "another"})


def test_fields_are_signed_in_the_order_of_their_names() -> None:
    body, signed = b"b=2&a=1", f"{URL}a1b2"
    signature = base64.b64encode(hmac.digest(b"key", signed.encode(), hashlib.sha1)).decode()
    WEBHOOK.verify(call(body, signature=signature), {KEYS: "key"})


def test_a_body_that_is_no_form_is_refused() -> None:
    with pytest.raises(SignatureError, match="no form"):
        WEBHOOK.verify(call(b"\xff", signature="x"), {KEYS: "key"})


@pytest.mark.parametrize(
    ("method", "body", "answered"),
    [
        ("HEAD", b"", True),
        ("GET", b"", True),
        ("POST", b"mandrill_events=%5B%5D", True),
        ("POST", b"mandrill_events=%5B%7B%7D%5D", False),
        ("POST", b"", False),
        ("POST", b"\xff", False),
    ],
)
def test_the_address_is_tried_before_there_is_a_key(method: str, body: bytes, answered: bool) -> None:
    assert WEBHOOK.greets_first
    assert (WEBHOOK.handshake(call(body, method=method), {}) is not None) == answered


# -- the webhook -------------------------------------------------------------------------------------------------------


async def test_one_webhook_tells_everything_and_its_key_can_be_read_again(
    transactional: MandrillSandbox, single: ContextMaker, listener: Listener
) -> None:
    async with single() as ctx:
        [topic] = await HOOKS.wanted(ctx, ["messages"])
        assert await HOOKS.wanted(ctx, []) == []
        made = await HOOKS.create(ctx, topic, listener.address)
        assert await HOOKS.list(ctx) == [made]
        assert await HOOKS.create(ctx, topic, listener.address) == made
        await send_email.run(ctx, HI)
        await transactional.settle()
        await HOOKS.delete(ctx, made)
        await HOOKS.delete(ctx, made)
        assert await HOOKS.list(ctx) == []
    assert listener.tries == ["HEAD"]
    assert set(topic.split(",")) == set(EVENTS)
    # the first call, with no events, is signed with a key that nobody knows
    first, told = listener.calls
    assert WEBHOOK.handshake(first, {}) is not None
    WEBHOOK.verify(told, {KEYS: f"{made.id}:{made.secret}"})


async def test_one_that_was_changed_by_hand_is_of_a_topic_that_nobody_wants(
    transactional: MandrillSandbox, single: ContextMaker, listener: Listener
) -> None:
    async with single() as ctx:
        [topic] = await HOOKS.wanted(ctx, ["messages"])
        made = await HOOKS.create(ctx, topic, listener.address)
        transactional.webhooks["main"][int(made.id)]["events"].remove("spam")
        [found] = await HOOKS.list(ctx)
    assert isinstance(found, Subscription)
    assert found.topic != topic


# -- what becomes of e-mails -------------------------------------------------------------------------------------------

Delivered = Callable[..., Delivery]


def parsed(delivered: Delivered, body: bytes) -> list[Event]:
    return mandrill.parse(delivered(mandrill, body)) or []


@pytest.mark.parametrize(
    ("name", "provides", "consent"),
    [
        ("email_sent", None, None),
        ("email_opened", "email.opened", None),
        ("email_clicked", "email.clicked", None),
        ("email_hard_bounced", "email.bounced", (ConsentState.BLOCKED, "hard_bounce")),
        ("email_soft_bounced", None, None),
        ("email_marked_spam", None, (ConsentState.BLOCKED, "complaint")),
        ("email_unsubscribed", "email.unsubscribed", (ConsentState.REVOKED, "mandrill_unsubscribed")),
        ("email_rejected", None, None),
    ],
)
def test_each_kind_of_event_is_one_and_names_the_step_that_sent_it(
    delivered: Delivered, name: str, provides: str | None, consent: tuple[ConsentState, str] | None
) -> None:
    [event] = parsed(delivered, (FIXTURES / "transactional" / f"{name}.txt").read_bytes())
    assert event.type == f"mandrill.{name}"
    assert event.subject == Identity(email=ADA)
    assert event.correlate == {"message_id": "9f1c0e77aa4b4f2c8d21", "reference": "run-0193-step-4"}
    assert event.cause == "run-0193-step-4"
    assert event.data["metadata"] == {"hub_run": "run-0193-step-4", "shop": "1"}
    assert mandrill.triggers[name].provides == provides
    assert [(signal.state, signal.reason) for signal in event.consents] == ([consent] if consent else [])


def test_many_events_in_one_call_each_find_their_trigger_and_others_are_left_alone(delivered: Delivered) -> None:
    event = {"_id": "m", "ts": 1795169800, "msg": {"_id": "m", "email": ADA, "metadata": []}}
    events = [{**event, "event": kind, "_id": f"m{n}"} for n in range(120) for kind in ("open", "click", "deferral")]
    events = [{**one, "url": "https://shop.example.test/"} for one in events]
    events.append({"type": "blacklist", "action": "add", "ts": 1795169900, "reject": {"email": ADA}})
    found = parsed(delivered, urlencode({"mandrill_events": json.dumps(events)}).encode())
    assert {event.type for event in found} == {"mandrill.email_opened", "mandrill.email_clicked"}
    assert len({event.fact_id for event in found}) == 240
    assert found[0].data["metadata"] == {}


@pytest.mark.parametrize(
    ("more", "by"),
    [
        ({}, "unknown"),
        ({"ts": 1795166003}, "machine"),
        ({"user_agent": "Mozilla/5.0"}, "machine"),
        ({"clicks": [{"ts": 1795169700}]}, "human"),
        ({"state": "bounced"}, "machine"),
    ],
)
def test_who_opened_is_told_as_far_as_it_can_be(delivered: Delivered, more: dict[str, Any], by: str) -> None:
    message = {"_id": "m", "ts": 1795166000, "email": ADA, **{k: more[k] for k in ("clicks", "state") if k in more}}
    agent = more.get("user_agent", "Mozilla/5.0 (X11) Gecko/20100101")
    event = {"event": "open", "_id": "m", "ts": more.get("ts", 1795169730), "user_agent": agent, "msg": message}
    [found] = parsed(delivered, urlencode({"mandrill_events": json.dumps([event])}).encode())
    assert found.data["by"] == by


@pytest.mark.parametrize(
    "events",
    [
        "",
        "{",
        "{}",
        "[1]",
        '[{"event": "open", "ts": 1}]',
        '[{"event": "open", "_id": "m", "ts": 1, "msg": {}}]',
        '[{"event": "send", "_id": "m", "ts": "ada@example.test", "msg": {"email": "ada@example.test"}}]',
    ],
)
def test_what_cannot_be_read_is_said_without_the_person(delivered: Delivered, events: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parsed(delivered, urlencode({"mandrill_events": events}).encode())
    assert ADA not in str(caught.value)


def test_the_sandbox_seals_as_the_vectors_do() -> None:
    for vector in facts("signatures")["transactional"]:
        assert seal(vector["webhook_key"], vector["url"], vector["form"]) == vector["expected"]


def test_look_ups_search_no_more_than_twenty_times_a_minute() -> None:
    [rate] = [budget for budget in mandrill.budgets if isinstance(budget, Rate) and budget.apart]
    assert rate.limit + 60 * rate.per_s == 20
    # as often as a look-up asks at most
    looked_up = {name: action.lookup_draws for name, action in mandrill.actions.items() if action.lookup_}
    assert looked_up == {"send_email": {rate.name: 2}, "send_template": {rate.name: 2}}
