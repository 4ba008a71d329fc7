"""The client: which answer is which error, credentials, the account behind them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from hub import (
    Account,
    ActionContext,
    AuthExpired,
    Connector,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Response,
    VendorUnavailable,
)
from hub.http import Answer, error_for
from hub_twilio import hub_register_connectors, twilio
from hub_twilio.client import Message, create_message, messages_to, whoami
from hub_twilio.connector import authorisation
from hub_twilio.errors import OptedOut, classify
from hub_twilio.sandbox import TwilioSandbox

ContextMaker = Callable[..., AbstractAsyncContextManager[ActionContext]]


def answer(status: int, code: object = None, body: bytes | None = None) -> Answer:
    made = json.dumps({"code": code, "message": "Twilio's words", "status": status}).encode()
    return Answer(status, {}, made if body is None else body)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, 20003, AuthExpired),
        (404, 20404, NotFound),
        (429, 20429, RateLimited),
        (400, 21211, Rejected),
        (400, 21610, OptedOut),
        (400, 21611, VendorUnavailable),
        (400, 21612, Rejected),
        (400, 21614, Rejected),
        (403, 21408, Rejected),
        (400, 45678, Rejected),
        (400, None, Rejected),
        (401, 45678, AuthExpired),
        (503, 45678, VendorUnavailable),
        (500, 45678, OutcomeUnknown),
    ],
)
def test_code_and_status_together_tell_the_error(status: int, code: int | None, error: type[Exception]) -> None:
    found = classify(answer(status, code)) or error_for(answer(status, code))
    assert type(found) is error
    assert "Twilio's words" not in str(found)


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"[]", b'"x"', b'{"code": "x"}', b""])
def test_an_answer_that_is_not_twilios_is_told_by_its_status(body: bytes) -> None:
    assert classify(answer(502, body=body)) is None


def test_a_success_is_no_error() -> None:
    assert classify(answer(201, 21610)) is None


class FixedHttp:
    """A way out whose every answer is the same."""

    def __init__(self, found: Response) -> None:
        self.found = found

    async def request(self, method: str, path: str, **options: Any) -> Response:
        return self.found


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"sid": "", "status": "queued", "to": "+14155550100"}'])
async def test_a_success_that_cannot_be_read_leaves_the_outcome_unknown(body: bytes) -> None:
    ctx = ActionContext(
        connection="texts",
        connection_id="1",
        account="AC1",
        settings={},
        http=FixedHttp(Answer(201, {}, body)),
        now_ms=0,
    )
    with pytest.raises(OutcomeUnknown):
        await create_message(ctx, [("To", "+14155550100")])


async def test_a_list_without_end_leaves_the_outcome_unknown() -> None:
    page = {"messages": [{"sid": "SM1", "status": "sent", "to": "+14155550100"}], "next_page_uri": "/next"}
    ctx = ActionContext(
        connection="texts",
        connection_id="1",
        account="AC1",
        settings={},
        http=FixedHttp(Answer(200, {}, json.dumps(page).encode())),
        now_ms=0,
    )
    with pytest.raises(OutcomeUnknown, match="too many"):
        await messages_to(ctx, "+14155550100", 0)


def test_a_message_is_read_as_twilio_writes_it() -> None:
    message = Message.model_validate(
        {
            "sid": "SM1",
            "status": "accepted",
            "to": "+14155550100",
            "from": None,
            "num_segments": "0",
            "date_created": "Sun, 22 Nov 2026 10:00:00 +0000",
            "a_new_field": {},
        }
    )
    assert message.is_since(1_795_341_600_000)
    assert not message.is_since(1_795_341_600_001)
    assert (message.from_number, message.num_segments, message.text) == (None, 0, "")


@pytest.mark.parametrize("date", ["Sun, 22 Nov 2026 10:00:00 -0000", "Sun, 22 Nov 2026 12:00:00 +0200"])
def test_a_date_of_any_zone_is_the_same_instant(date: str) -> None:
    message = Message.model_validate({"sid": "SM1", "status": "sent", "to": "+1", "date_created": date})
    assert message.is_since(1_795_341_600_000)
    assert not message.is_since(1_795_341_600_001)


def test_calls_are_authorised_by_the_token_or_by_a_key() -> None:
    token = authorisation({"account_sid": "AC1", "auth_token": "secret"})
    key = authorisation({"account_sid": "AC1", "auth_token": "x", "api_key_sid": "SK1", "api_key_secret": "key-secret"})
    assert base64.b64decode(token["Authorization"].removeprefix("Basic ")) == b"AC1:secret"
    assert base64.b64decode(key["Authorization"].removeprefix("Basic ")) == b"SK1:key-secret"


async def test_the_account_names_itself(context: ContextMaker, account: str) -> None:
    async with context() as ctx:
        assert await whoami(ctx) == Account(id=account, title="Sandbox")


async def test_a_connection_with_an_api_key_may_call(
    sandbox: TwilioSandbox, context: ContextMaker, account: str
) -> None:
    key = {"api_key_sid": f"SK{'0' * 32}", "api_key_secret": sandbox.secret(account, "api_key_secret")}
    async with context() as ctx:
        keyed = replace(ctx, http=replace(ctx.http, authorisation=authorisation(key)))  # type: ignore[type-var]
        assert (await whoami(keyed)).id == account


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_may_only_read_messages_is_tested_by_those(
    status: int, sandbox: TwilioSandbox, context: ContextMaker, account: str, witness: Any
) -> None:
    async with context() as ctx:
        sandbox.refuse_next = status
        assert await whoami(ctx) == Account(id=account, title=account)
    assert [request.path.rpartition("/")[2] for request in witness.requests] == [f"{account}.json", "Messages.json"]


async def test_credentials_of_another_account_are_refused(sandbox: TwilioSandbox, context: ContextMaker) -> None:
    other = f"AC{'f' * 32}"
    foreign = authorisation({"account_sid": other, "auth_token": sandbox.secret(other, "auth_token")})
    async with context() as ctx:
        with pytest.raises(AuthExpired):
            await whoami(replace(ctx, http=replace(ctx.http, authorisation=foreign)))  # type: ignore[type-var]


def test_every_field_that_holds_a_secret_is_marked() -> None:
    fields = [*twilio.fields, *(field for auth in twilio.auth for field in auth.fields)]
    assert {f.name for f in fields if f.secret} == {
        "auth_token",
        "auth_token_secondary",
        "api_key_secret",
        "shared_key_secret",
    }
    assert twilio.webhook
    assert set(twilio.webhook.secrets) <= {f.name for f in fields if f.secret}


def test_account_and_service_ids_are_checked_as_twilio_writes_them(facts: dict[str, Any]) -> None:
    message = facts["resources"]["message"]
    patterns = {f.name: f"^{f.pattern}$" for f in twilio.fields if f.pattern}
    assert patterns["account_sid"] == message["account_sid"]["pattern"]
    assert patterns["messaging_service_sid"] == message["messaging_service_sid"]["pattern"]


def test_the_plugin_registers_its_connector_with_all_that_it_declares() -> None:
    found: list[Connector] = []

    def register(connector: Connector) -> None:
        found.append(connector)

    hub_register_connectors(register)
    assert found == [twilio]
    assert sorted(twilio.actions) == [
        "cancel_message",
        "lookup_number",
        "schedule_sms",
        "schedule_whatsapp",
        "send_mms",
        "send_sms",
        "send_whatsapp",
    ]
    assert sorted(twilio.triggers) == [
        "call_completed",
        "link_clicked",
        "mms_received",
        "opted_in",
        "opted_out",
        "sms_delivered",
        "sms_failed",
        "sms_received",
        "sms_sent",
        "sms_status",
        "whatsapp_read",
        "whatsapp_received",
    ]
