"""Facebook Ads as the hub sees it: how to authorise, where calls go, how Meta's calls are recognised, how fast one may call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from hub import Connector, Field, Rate, StaticToken
from hub_facebook_ads.client import CALLS, CALLS_PER_HOUR, throttle, whoami
from hub_facebook_ads.errors import classify
from hub_facebook_ads.subscriptions import LeadSubscriptions
from hub_facebook_ads.webhook import FacebookWebhook


def appsecret_proof(app_secret: str, access_token: str) -> str:
    """What shows that a call comes from whoever holds the app's secret; bound to the token."""
    return hmac.new(app_secret.encode(), access_token.encode(), hashlib.sha256).hexdigest()


def _bearer(fields: Mapping[str, str]) -> Mapping[str, str]:
    # Rather than the parameter `access_token`, which would stand in the logs of everything in between.
    return {"Authorization": f"Bearer {fields['access_token']}"}


def _proof(fields: Mapping[str, str]) -> Mapping[str, str]:
    # Without its own copy of the secret, as under an app of the hub, a connection can make no proof.
    secret = fields.get("app_secret")
    return {"appsecret_proof": appsecret_proof(secret, fields["access_token"])} if secret else {}


def _app_bearer(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {_app_token(fields)}"}


def _app_proof(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {"appsecret_proof": appsecret_proof(fields["app_secret"], _app_token(fields))}


def _app_token(fields: Mapping[str, str]) -> str:
    return f"{fields['app_id']}|{fields['app_secret']}"


_ID = r"[0-9]{1,20}"
_APP_SECRET = Field(
    name="app_secret",
    title="App secret",
    secret=True,
    help="App Dashboard > Settings > Basic. It proves calls (appsecret_proof) and signs webhooks.",
)
_APP_ID = Field(
    name="app_id",
    title="App id",
    required=False,
    pattern=_ID,
    help="Settings > Basic. With it the hub subscribes app and Page to leads, and looks at the token's end and scopes.",
)

facebook_ads = Connector(
    name="facebook_ads",
    title="Facebook Ads",
    hosts=["graph.facebook.com"],
    base_url=lambda fields: f"https://graph.facebook.com/{fields['api_version']}",
    # Leads come for a Page, so that a connection with one is found by it.
    account=lambda fields: fields.get("page_id") or fields.get("ad_account_id", ""),
    auth=[
        StaticToken(
            name="page",
            headers=_bearer,
            params=_proof,
            fields=(
                Field(
                    name="access_token",
                    title="Page access token",
                    secret=True,
                    help="Of a system user, or made from a long-lived user token; short-lived tokens stop after hours.",
                ),
                Field(name="page_id", title="Page id", pattern=_ID, help="Page settings > Page transparency."),
            ),
        ),
        StaticToken(
            name="system_user",
            headers=_bearer,
            params=_proof,
            fields=(
                Field(
                    name="access_token",
                    title="System user access token",
                    secret=True,
                    help="Business settings > System users > Generate token; one that never expires.",
                ),
                Field(
                    name="ad_account_id",
                    title="Ad account id",
                    pattern=r"act_[0-9]{1,20}",
                    help="With its act_, as in the address of the Ads Manager.",
                ),
                Field(
                    name="page_id",
                    title="Page id",
                    required=False,
                    pattern=_ID,
                    help="Only when leads of a Page are to come through this connection, too.",
                ),
            ),
        ),
    ],
    app_auth=StaticToken(name="app", headers=_app_bearer, params=_app_proof, fields=(_APP_ID, _APP_SECRET)),
    fields=[
        _APP_SECRET,
        Field(
            name="verify_token",
            title="Verify token",
            secret=True,
            required=False,
            help="Any long random text: what Meta greets a new address with. Typed in at Meta only without an app_id.",
        ),
        _APP_ID,
        Field(
            name="api_version",
            title="Graph API version",
            pattern=r"v(2[5-9]|[3-9][0-9])\.[0-9]",
            default="v26.0",
            help="Such as v26.0.",
        ),
        Field(
            name="consent_checkboxes",
            title="Consent checkboxes of lead forms",
            required=False,
            pattern=r"([^=\s]+=(email|sms|whatsapp)(:[a-z0-9_-]+)?)(\s+[^=\s]+=(email|sms|whatsapp)(:[a-z0-9_-]+)?)*",
            help="What a ticked box allows, by its key: optin_1=email optin_2=sms:offers (channel, and a purpose).",
        ),
        Field(
            name="audience_problem_codes",
            title="Audience states that are problems",
            pattern=r"[0-9]{1,6}(\s+[0-9]{1,6})*",
            default="471",
            help="Codes of an audience's operation_status; 471 is a flagged audience.",
        ),
        Field(
            name="test_event_code",
            title="Test event code",
            required=False,
            pattern=r"[A-Za-z0-9_-]{1,64}",
            help="Shows conversion events under Test events; they are counted all the same, so remove it afterwards.",
        ),
    ],
    webhook=FacebookWebhook(),
    # Of all of Meta's allowances the smallest that does not grow with use: ads management at standard access.
    # (dev.fb "Marketing API rate limits", read 2026-08)
    budgets=[Rate(CALLS_PER_HOUR, per_s=CALLS_PER_HOUR / 3600, name=CALLS)],
    classify=classify,
    throttle=throttle,
    subscriptions=LeadSubscriptions(),
    whoami=whoami,
    sandbox="hub_facebook_ads.sandbox:FacebookSandbox",
)
