"""The contract of every connector."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from multidict import MultiDict
from twilio.request_validator import RequestValidator

from hub import ChoiceQuery
from hub.clock import Clock
from hub.testing.context import sandbox_context
from hub.testing.contract import Call, Contract
from hub.testing.sandbox import SandboxServer
from hub_twilio import twilio
from hub_twilio.actions.cancelling import CancelMessage
from hub_twilio.actions.whatsapp import SendWhatsapp
from hub_twilio.sandbox import Message, Template, TwilioSandbox, new_sid

ACCOUNT = "AC00000000000000000000000000000001"
SENDER, PERSON = "+14155550199", "+14155550100"
SERVICE = "MG000000000000000000000000000000c3"
TEMPLATE = "HX000000000000000000000000000000d4"
SCHEDULED = "SM000000000000000000000000000000e5"
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()
DAY_MS = 86_400_000
SHORT_CODES = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/SMS/ShortCodes.json"


class TestTwilio(Contract):
    connector = twilio
    settings = {
        "account_sid": ACCOUNT,
        "from_number": SENDER,
        "messaging_service_sid": SERVICE,
        "whatsapp_from": SENDER,
        "receive_on": SENDER,
    }
    inputs = {
        "send_sms": {"to": PERSON, "body": "Hello"},
        "send_mms": {"to": PERSON, "body": "Look", "media_urls": ["https://example.com/picture.jpg"]},
        "send_whatsapp": {"to": PERSON, "body": "Hello"},
        "schedule_sms": {"to": PERSON, "body": "Today!", "send_at": TOMORROW},
        "schedule_whatsapp": {"to": PERSON, "template": TEMPLATE, "variables": {"1": "Jane"}, "send_at": TOMORROW},
        "cancel_message": {"message_id": SCHEDULED},
        "lookup_number": {"number": PERSON, "line_type": True},
    }
    # A number has one address: where somebody else's is, there is none of ours.
    elsewhere = False

    async def prepare(self, sandbox: TwilioSandbox) -> None:
        """Messages of every kind and a call, all long enough ago for a poll; a scheduled message and what can be chosen."""
        account, person = sandbox.account(ACCOUNT), f"whatsapp:{PERSON}"
        account.templates[TEMPLATE] = Template(sid=TEMPLATE, account=ACCOUNT, name="Welcome", body="Hello {{1}}")
        account.service(SERVICE)
        account.whatsapp[SENDER] = "Tetik"
        for body in ("STOP", "START"):
            await sandbox.text("", ACCOUNT, PERSON, SENDER, body)
        await sandbox.text("", ACCOUNT, PERSON, SENDER, "Look", [("https://example.com/picture.jpg", "image/jpeg")])
        await sandbox.text("", ACCOUNT, person, f"whatsapp:{SENDER}", "Hello")
        sandbox.called(ACCOUNT, PERSON, SENDER)
        for status in ("sent", "delivered", "failed", "read", "scheduled"):
            sid = SCHEDULED if status == "scheduled" else None
            _sent(sandbox, status, person if status == "read" else PERSON, sid)
        sandbox.age(ACCOUNT, 600_000)

    def sign(self, call: Call) -> Mapping[str, str]:
        # By Twilio's own package. Of a JSON body the address holds the hash.
        hashed = "bodySHA256=" in call.url
        params = MultiDict(() if hashed else parse_qsl(call.body.decode(), keep_blank_values=True))
        return {"X-Twilio-Signature": RequestValidator(call.secret).compute_signature(call.url, params)}


def _sent(sandbox: TwilioSandbox, status: str, to: str, sid: str | None = None) -> None:
    """A message of ours that has come to a status."""
    now_ms = sandbox.clock.now_ms()
    message = Message(
        sid=sid or new_sid("SM"),
        account=ACCOUNT,
        to=to,
        from_number=SENDER,
        service=None,
        body="Hello",
        direction="outbound-api",
        status=status,
        created_ms=now_ms,
        updated_ms=now_ms,
        send_at_ms=now_ms + DAY_MS if status == "scheduled" else None,
    )
    sandbox.account(ACCOUNT).messages[message.sid] = message


async def test_everything_that_is_known_of_the_api_is_asked_for(witness: Any, facts: dict[str, Any]) -> None:
    """Account, actions, look-ups, polls, histories, choices and addresses: none asks for what is not known."""
    suite, sandbox = TestTwilio(), TwilioSandbox(Clock())
    await suite.prepare(sandbox)
    async with (
        SandboxServer({"twilio": sandbox}) as server,
        sandbox_context(
            twilio, server.url, suite.settings, callback_url="https://hub.example.com/webhooks/twilio/k"
        ) as ctx,
    ):
        assert twilio.whoami
        assert (await twilio.whoami(ctx)).id == ACCOUNT
        for name, action in twilio.actions.items():
            given = action.input.model_validate(suite.inputs[name])
            await action.run(ctx, given)
            if action.lookup_:
                assert await action.lookup_(ctx, given) is not None
        await twilio.actions["send_whatsapp"].run(ctx, SendWhatsapp(to=PERSON, template=TEMPLATE, variables={"1": "x"}))
        await twilio.actions["cancel_message"].run(ctx, CancelMessage(message_id=SCHEDULED))
        for read in (*twilio.polls.values(), *twilio.histories.values()):
            assert [page async for page in read.fetch(ctx, None, 0)]
        for choose in twilio.choices.values():
            await choose(ctx, ChoiceQuery(within={}))
        await twilio.choices["numbers"](ctx, ChoiceQuery(cursor=SHORT_CODES, within={}))
        for place in (SENDER, SERVICE):
            assert twilio.subscriptions
            made = await twilio.subscriptions.create(ctx, f"message:{place}", ctx.callback_url)
            await twilio.subscriptions.delete(ctx, made)
        assert await twilio.subscriptions.list(ctx) == []
    for asked in witness.requests:
        witness.check(asked)
    known = {f"{one['method']} {one['path']}" for one in facts["operations"]}
    assert witness.operations == known | {"GET /v1/Content"}
