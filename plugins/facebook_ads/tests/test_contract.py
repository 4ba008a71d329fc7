"""The contract of every connector, kept by an ad account with its Page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hub.testing.contract import Call, Contract
from hub_facebook_ads import facebook_ads
from hub_facebook_ads.sandbox import APP_ID, FacebookSandbox
from hub_facebook_ads.webhook import SIGNATURE_HEADER, sign

PAGE, AD_ACCOUNT, AUDIENCE = "119440231087027", "act_111", "23850000000000"
MEMBER = {"audience_id": AUDIENCE, "email": "jane@example.com", "phone": "+14155550100"}


def _event() -> dict[str, Any]:
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "pixel_id": "1113",
        "event_name": "Purchase",
        "event_id": "order-1",
        "event_time": now.isoformat(),
        "email": "jane@example.com",
        "value": "60.00 EUR",
    }


class TestFacebookAds(Contract):
    connector = facebook_ads
    settings = {"ad_account_id": AD_ACCOUNT, "page_id": PAGE, "app_id": APP_ID}
    # A Page has one list of fields for each app, and nothing in it says where the app is called.
    elsewhere = False
    inputs = {
        "add_to_audience": MEMBER,
        "remove_from_audience": MEMBER,
        "create_audience": {"name": "Back again"},
        "create_lookalike": {"name": "Alike", "origin_audience_id": AUDIENCE, "country": "TR"},
        "send_conversion_event": _event(),
        "pause_campaign": {"campaign_id": "1111"},
        "resume_campaign": {"campaign_id": "1111"},
        "set_budget": {"campaign_id": "1111", "daily": "50.00 EUR"},
    }

    def prepare(self, sandbox: FacebookSandbox) -> None:
        business = sandbox.business(AD_ACCOUNT, PAGE)
        business.audience("Customers", id=AUDIENCE, operation_status={"code": 200, "description": "Normal"})
        flagged = {"code": 471, "description": "The custom audience or lookalike is blocked"}
        business.audience("High income", operation_status=flagged)
        business.ad_account["account_status"] = 3
        business.lead(sandbox.clock.now_ms() // 1000, {"form_id": "1391684086110361"})

    def sign(self, call: Call) -> Mapping[str, str]:
        return {SIGNATURE_HEADER: sign(call.body, call.secret)}
