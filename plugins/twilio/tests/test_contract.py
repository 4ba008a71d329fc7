"""The contract of every connector."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from multidict import MultiDict
from twilio.request_validator import RequestValidator

from hub.testing.contract import Call, Contract
from hub_twilio import twilio
from hub_twilio.sandbox import Message, Template, TwilioSandbox, new_sid

ACCOUNT = "AC00000000000000000000000000000001"
SENDER, PERSON = "+14155550199", "+14155550100"
SERVICE = "MG000000000000000000000000000000c3"
TEMPLATE = "HX000000000000000000000000000000d4"
SCHEDULED = "SM000000000000000000000000000000e5"
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()
DAY_MS = 86_400_000


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
        """Messages of every kind and a call, all long enough ago for a poll; a scheduled message and a template."""
        account, person = sandbox.account(ACCOUNT), f"whatsapp:{PERSON}"
        account.templates[TEMPLATE] = Template(sid=TEMPLATE, account=ACCOUNT, name="Welcome", body="Hello {{1}}")
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
        # By Twilio's own package.
        params = MultiDict(parse_qsl(call.body.decode(), keep_blank_values=True))
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
