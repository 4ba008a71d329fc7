"""The contract of every connector."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from hub.testing.contract import Call, Contract
from hub_twilio import twilio
from hub_twilio.webhook import SIGNATURE_HEADER, TOKEN_HEADER, sign


class TestTwilio(Contract):
    connector = twilio
    settings = {"account_sid": "AC00000000000000000000000000000001", "from_number": "+14155550199"}
    inputs = {"send_sms": {"to": "+14155550100", "body": "Hello"}}

    def sign(self, call: Call) -> Mapping[str, str]:
        params = parse_qsl(call.body.decode(), keep_blank_values=True)
        return {SIGNATURE_HEADER: sign(call.url, params, call.secret), TOKEN_HEADER: call.delivery_id}
