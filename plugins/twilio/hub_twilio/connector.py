"""Twilio as the hub knows it: how to authorise, where to call, how it calls us."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from hub import Concurrency, Connector, Field, StaticToken
from hub_twilio.client import ORIGIN, whoami
from hub_twilio.errors import classify
from hub_twilio.subscriptions import InboundAddresses
from hub_twilio.webhook import TwilioWebhook

# Twilio limits the calls in flight per account and does not publish the limit (error 20429; read 2026-11). A call takes
# tenths of a second and a number sends about one message a second, so more at once would only fill Twilio's queue.
MAX_CONCURRENT_CALLS = 25

_PLACE = r"(\+[1-9]\d{6,14}|MG[0-9a-fA-F]{32})"
_WEBHOOK_HELP = "Twilio signs its calls with the primary Auth Token, also where an API key is used for ours."


def authorisation(fields: Mapping[str, str]) -> dict[str, str]:
    """HTTP Basic: API key and secret where the connection has them, else Account SID and Auth Token."""
    if key := fields.get("api_key_sid"):
        pair = f"{key}:{fields['api_key_secret']}"
    else:
        pair = f"{fields['account_sid']}:{fields['auth_token']}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


twilio = Connector(
    name="twilio",
    title="Twilio",
    hosts=["api.twilio.com", "messaging.twilio.com", "content.twilio.com", "lookups.twilio.com"],
    base_url=lambda fields: f"{ORIGIN}/2010-04-01/Accounts/{fields['account_sid']}",
    account=lambda fields: fields["account_sid"],
    auth=[
        StaticToken(
            name="auth_token",
            headers=authorisation,
            fields=(Field(name="auth_token", title="Auth Token", secret=True, help=_WEBHOOK_HELP),),
        ),
        StaticToken(
            name="api_key",
            headers=authorisation,
            fields=(
                Field(name="api_key_sid", title="API key SID", pattern=r"SK[0-9a-fA-F]{32}"),
                Field(name="api_key_secret", title="API key secret", secret=True),
                Field(
                    name="auth_token",
                    title="Auth Token (to receive)",
                    secret=True,
                    required=False,
                    help=f"{_WEBHOOK_HELP} Without it every call from Twilio is refused.",
                ),
            ),
        ),
    ],
    fields=[
        Field(name="account_sid", title="Account SID", pattern=r"AC[0-9a-fA-F]{32}"),
        Field(
            name="from_number",
            title="Default sender",
            required=False,
            help="A number of the account (+14155550199), a short code or an alphanumeric sender.",
        ),
        Field(
            name="messaging_service_sid",
            title="Default Messaging Service",
            required=False,
            pattern=r"MG[0-9a-fA-F]{32}",
            help="Twilio picks the sender from its pool; preferred over a single number.",
        ),
        Field(
            name="whatsapp_from",
            title="Default WhatsApp sender",
            required=False,
            pattern=r"\+[1-9]\d{6,14}",
            help="A number (+14155550199) that is registered for WhatsApp. Without it the Messaging Service is used.",
        ),
        Field(
            name="receive_on",
            title="Receive on",
            required=False,
            pattern=rf"{_PLACE}( *, *{_PLACE})*",
            help="Numbers (+14155550199) and Messaging Services (MG…), separated by commas, whose incoming messages the hub "
            "has Twilio send to it. Without it the default sender and Messaging Service.",
        ),
        Field(
            name="allowed_countries",
            title="Allowed countries",
            required=False,
            pattern=r"[A-Z]{2}( *, *[A-Z]{2})*",
            help="ISO codes, separated by commas (US, DE): messages to numbers of other countries are refused before "
            "Twilio is asked. Guards against SMS pumping.",
        ),
        Field(
            name="poll_calls",
            title="Ask for calls",
            required=False,
            pattern="yes|no",
            default="yes",
            help="Whether Twilio is asked every five minutes for telephone calls that ended.",
        ),
        Field(
            name="shared_key_secret",
            title="SharedKey secret",
            secret=True,
            required=False,
            help="Only where Twilio signs its calls with a webhook SharedKey (HMAC_SHA256) instead of the Auth Token.",
        ),
        Field(
            name="auth_token_secondary",
            title="Secondary Auth Token",
            secret=True,
            required=False,
            help="Only while the Auth Token is being rotated: calls signed with either are accepted.",
        ),
    ],
    webhook=TwilioWebhook(),
    budgets=[Concurrency(MAX_CONCURRENT_CALLS)],
    classify=classify,
    subscriptions=InboundAddresses(),
    whoami=whoami,
    lacks={
        "email.send": "Twilio's e-mail is another product, SendGrid; connect Mailchimp Transactional or HubSpot",
        "audience.add": "Twilio has no audiences; connect Facebook Ads or Mailchimp",
    },
    sandbox="hub_twilio.sandbox:TwilioSandbox",
)
