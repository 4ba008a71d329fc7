"""The contract of every connector: each action's effect class, proved against the sandbox."""

from __future__ import annotations

import pytest

from hub.testing.contract import prove_effect_class
from hub_twilio import twilio

INPUTS = {"send_sms": {"to": "+14155550100", "body": "Hello"}}


@pytest.mark.parametrize("action", twilio.actions)
async def test_an_action_s_effect_class_holds(action: str, account: str) -> None:
    settings = {"account_sid": account, "from_number": "+14155550199"}
    await prove_effect_class(twilio, action, INPUTS[action], settings=settings)
