"""Where Twilio sends incoming messages: set where nothing was, and nobody else's ever touched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from hub import ActionContext, NotFound, Rejected, Subscription
from hub_twilio import twilio
from hub_twilio.connector import authorisation
from hub_twilio.sandbox import TwilioSandbox
from hub_twilio.subscriptions import InboundAddresses, places

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]

SENDER = "+14155550199"
SERVICE = "MG000000000000000000000000000000c3"
KEY = "k-7f3a"
ADDRESS = f"https://hub.example.com/webhooks/twilio/{KEY}"
FORMER = f"https://old.example.com/hub/webhooks/twilio/{KEY}"
FOREIGN = "https://other.example.com/sms?token=hush"

kept = twilio.subscriptions
assert isinstance(kept, InboundAddresses)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"from_number": SENDER, "messaging_service_sid": SERVICE}, [SENDER, SERVICE]),
        ({"from_number": "ACME"}, []),
        ({"from_number": "12345"}, []),
        ({"from_number": SENDER, "receive_on": f"+14155550198 ,{SERVICE},{SERVICE}"}, ["+14155550198", SERVICE]),
        ({}, []),
    ],
)
async def test_the_default_senders_are_listened_to_unless_others_are_named(
    settings: dict[str, str], expected: list[str], context: ContextMaker
) -> None:
    assert places(settings) == expected
    async with context(settings) as ctx:
        assert await kept.wanted(ctx, ["events", "message", "status"]) == [f"message:{one}" for one in expected]
        assert await kept.wanted(ctx, ["status"]) == []


@pytest.mark.parametrize("place", [SENDER, SERVICE])
async def test_an_address_is_set_listed_and_taken_away_again(
    place: str, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    def set_to() -> str | None:
        found = sandbox.account(account)
        return found.number(SENDER).sms_url if place == SENDER else found.service(SERVICE).inbound_url

    async with context() as ctx:
        made = await kept.create(ctx, f"message:{place}", ADDRESS)
        assert set_to() == f"{ADDRESS}#rc=3&rp=ct,rt,5xx"
        assert await kept.list(ctx) == [made]
        assert await kept.create(ctx, made.topic, ADDRESS) == made
        assert (made.topic, made.address) == (f"message:{place}", ADDRESS)
        await kept.delete(ctx, made)
        await kept.delete(ctx, made)
        assert await kept.list(ctx) == []
    assert not set_to()


@pytest.mark.parametrize("place", [SENDER, SERVICE])
async def test_somebody_else_s_address_is_listed_reported_and_left_alone(
    place: str, sandbox: TwilioSandbox, context: ContextMaker, account: str, witness: Any
) -> None:
    found = sandbox.account(account)
    found.number(SENDER).sms_url = FOREIGN
    found.service(SERVICE).inbound_url = FOREIGN
    async with context() as ctx:
        assert {one.address for one in await kept.list(ctx)} == {FOREIGN}
        with pytest.raises(Rejected, match=r"to other\.example\.com already") as caught:
            await kept.create(ctx, f"message:{place}", ADDRESS)
        # What somebody sees as ours may have been replaced meanwhile.
        await kept.delete(ctx, Subscription(id="x", topic=f"message:{place}", address=ADDRESS))
    assert "hush" not in str(caught.value)
    assert (found.number(SENDER).sms_url, found.service(SERVICE).inbound_url) == (FOREIGN, FOREIGN)
    assert {asked.method for asked in witness.requests} == {"GET"}


@pytest.mark.parametrize("there", [FORMER, f"{FORMER}#rc=3", "https://demo.twilio.com/welcome/sms/reply"])
async def test_an_address_of_former_times_and_twilios_own_demonstration_are_replaced(
    there: str, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    sandbox.account(account).number(SENDER).sms_url = there
    async with context() as ctx:
        [before] = await kept.list(ctx)
        made = await kept.create(ctx, f"message:{SENDER}", ADDRESS)
        assert before.id != made.id
        # The hub then takes the former one for gone: the new one stays.
        await kept.delete(ctx, before)
        assert await kept.list(ctx) == [made]


async def test_a_place_whose_address_would_not_be_called_is_reported(
    sandbox: TwilioSandbox, context: ContextMaker, account: str, witness: Any
) -> None:
    found = sandbox.account(account)
    found.number(SENDER).application = f"AP{'0' * 32}"
    found.service(SERVICE).numbers_decide = True
    async with context() as ctx:
        with pytest.raises(Rejected, match="TwiML application"):
            await kept.create(ctx, f"message:{SENDER}", ADDRESS)
        with pytest.raises(Rejected, match="leaves it to its numbers"):
            await kept.create(ctx, f"message:{SERVICE}", ADDRESS)
    assert {asked.method for asked in witness.requests} == {"GET"}


async def test_a_number_of_another_account_is_reported(
    sandbox: TwilioSandbox, context: ContextMaker, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    monkeypatch.setattr(sandbox.account(account), "number", lambda phone: None)
    async with context() as ctx:
        with pytest.raises(NotFound, match="no number of this account"):
            await kept.create(ctx, f"message:{SENDER}", ADDRESS)


async def test_an_api_key_may_set_addresses_too(sandbox: TwilioSandbox, context: ContextMaker, account: str) -> None:
    sandbox.account(account)
    key = {"api_key_sid": f"SK{'0' * 32}", "api_key_secret": sandbox.secret(account, "api_key_secret")}
    async with context() as ctx:
        keyed = replace(ctx, http=replace(ctx.http, authorisation=authorisation(key)))  # type: ignore[type-var]
        made = await kept.create(keyed, f"message:{SERVICE}", ADDRESS)
        assert await kept.list(keyed) == [made]


async def test_a_person_s_message_is_told_where_the_hub_asked_for_it(
    listener: Any, sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    async with context() as ctx:
        await kept.create(ctx, f"message:{SENDER}", listener.address)
        await sandbox.text("", account, "+14155550100", SENDER, "Hello")
    assert [dict(call.form)["Body"] for call in listener.calls] == ["Hello"]


async def test_a_key_that_may_not_read_numbers_says_nothing_about_the_connection(
    sandbox: TwilioSandbox, context: ContextMaker
) -> None:
    async with context() as ctx:
        sandbox.refuse_next = 401
        with pytest.raises(Rejected, match="give its API key that permission"):
            await kept.list(ctx)
