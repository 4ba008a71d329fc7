"""The connector `mailchimp`: how accounts of Mailchimp Marketing are authorised, called and heard."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from hub import Concurrency, Connector, Field, OAuth2, StaticToken
from hub_mailchimp.marketing.client import classify, data_centre, whoami
from hub_mailchimp.marketing.webhook import SECRETS, AudienceWebhooks, MailchimpWebhook

API_VERSION = "3.0"


def _by_key(fields: Mapping[str, str]) -> Mapping[str, str]:
    # Any user name will do; the account's tells a sandbox whose key it is.
    pair = f"{fields['account']}:{fields['api_key']}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _by_token(fields: Mapping[str, str]) -> Mapping[str, str]:
    # Until the data centre is known only the metadata are asked, which want the token under another name.
    scheme = "Bearer" if "server" in fields else "OAuth"
    return {"Authorization": f"{scheme} {fields['access_token']}"}


mailchimp = Connector(
    name="mailchimp",
    title="Mailchimp Marketing",
    hosts=["*.api.mailchimp.com", "login.mailchimp.com"],
    base_url=lambda fields: f"https://{data_centre(fields)}.api.mailchimp.com/{fields.get('api_version', API_VERSION)}",
    account=lambda fields: fields.get("account", "main"),
    auth=[
        StaticToken(
            name="api_key",
            headers=_by_key,
            fields=(
                Field(
                    name="api_key",
                    title="API key",
                    secret=True,
                    pattern=r"[0-9a-f]{32}-[a-z]{2,4}[0-9]{1,3}",
                    help="Account > Extras > API keys; it ends with the account's data centre, such as -us21",
                ),
                Field(
                    name="account",
                    title="Account",
                    pattern=r"[A-Za-z0-9._-]{1,64}",
                    default="main",
                    help="A word of your own that tells this account from others that you connect",
                ),
            ),
        ),
        OAuth2(
            headers=_by_token,
            authorise_url=lambda fields: "https://login.mailchimp.com/oauth2/authorize",
            token_url=lambda fields: "https://login.mailchimp.com/oauth2/token",
        ),
    ],
    fields=[
        Field(
            name="api_version",
            title="API version",
            pattern=r"3\.[0-9]",
            default=API_VERSION,
            help="3.0 is the only one that Mailchimp has, and no end of it is announced",
        ),
        Field(
            name=SECRETS,
            title="Signing secrets of the webhooks",
            secret=True,
            required=False,
            help="The hub fills it in. By hand: a webhook's signing secret, or the word unsigned where it has none",
        ),
        Field(
            name="lists",
            title="Audiences",
            required=False,
            pattern=r"[0-9a-z]+( [0-9a-z]+)*",
            help="Ids separated by blanks; without it, all audiences of the account",
        ),
        Field(
            name="api_changes",
            title="Tell also of changes that were made by the API",
            pattern=r"yes|no",
            default="no",
            help="yes: what other tools change is told, and what the hub itself changes, too",
        ),
        Field(
            name="member_poll",
            title="Look for changes of members that no webhook told",
            pattern=r"none|leaving|all",
            default="leaving",
            help="leaving: who left or bounced off; all: also who joined or changed, by whomever, the hub itself included",
        ),
        Field(
            name="not_opened_after",
            title="Not opened after",
            pattern=r"[1-9][0-9]{0,3}[mhd]( +[1-9][0-9]{0,3}[mhd])*",
            default="24h",
            help="How long after a campaign was sent those are told who did not open it: 24h, or several times, 4h 24h 3d",
        ),
        Field(
            name="machine_open_s",
            title="Opened by a machine within seconds",
            pattern=r"[0-9]{1,4}",
            default="10",
            help="An open so soon after the campaign was sent counts as a machine's",
        ),
    ],
    webhook=MailchimpWebhook(),
    # The eleventh call of a user at the same time is refused, whoever makes the others: leave some to the account's other
    # tools. (Marketing API "Limits", read 2026-08; six is what airbytehq/airbyte#76268 came to)
    budgets=[Concurrency(6)],
    classify=classify,
    subscriptions=AudienceWebhooks(),
    whoami=whoami,
    sandbox="hub_mailchimp.sandbox.marketing:MailchimpSandbox",
    lacks={
        "email.send": "Mailchimp Marketing sends campaigns and journeys; it cannot write to one person or give a message "
        "id: connect Mailchimp Transactional (`mandrill`) or another mailer",
        "email.delivered": "campaigns tell who bounced, not who was reached: connect `mandrill` for single e-mails",
        "email.opened": "known by campaign and person, without a message id: use mailchimp.email_opened, or `mandrill`",
        "email.clicked": "known by campaign and person, without a message id: use mailchimp.email_clicked, or `mandrill`",
        "email.bounced": "known by campaign and person, without a message id: use mailchimp.email_bounced, or `mandrill`",
    },
)
