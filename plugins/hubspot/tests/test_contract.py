"""The contract of every connector."""

from __future__ import annotations

from collections.abc import Mapping

from hub_hubspot import hubspot
from hub_hubspot.sandbox import HubspotSandbox
from hub_hubspot.webhook import SIGNATURE_V3, TIMESTAMP, sign_v3

from hub.testing.contract import Call, Contract

PORTAL = "62515"


class TestHubspot(Contract):
    connector = hubspot
    settings = {"portal_id": PORTAL}
    inputs = {"upsert_contact": {"email": "ada@example.test", "first_name": "Ada"}}

    def prepare(self, sandbox: HubspotSandbox) -> None:
        portal, now_ms = sandbox.portal(PORTAL), sandbox.clock.now_ms()
        portal.make("contacts", {"email": "bob@example.test"}, now_ms)

    def sign(self, call: Call) -> Mapping[str, str]:
        timestamp = str(call.at_ms)
        return {SIGNATURE_V3: sign_v3(call.secret, "POST", call.url, call.body, timestamp), TIMESTAMP: timestamp}
