"""The connector `mandrill`: how accounts of Mailchimp Transactional are authorised, called and heard."""

from __future__ import annotations

from hub import Connector, Field, Rate, StaticToken
from hub_mailchimp.transactional.client import classify, whoami
from hub_mailchimp.transactional.webhook import KEYS, MandrillWebhook, MessageWebhook

mandrill = Connector(
    name="mandrill",
    title="Mailchimp Transactional",
    hosts=["mandrillapp.com"],
    base_url=lambda fields: f"https://mandrillapp.com/api/{fields['api_version']}",
    account=lambda fields: fields["account"],
    auth=[
        StaticToken(
            headers=lambda fields: {"X-MC-ApiKey": fields["api_key"]},
            fields=(
                Field(
                    name="api_key",
                    title="API key",
                    secret=True,
                    help="Settings > SMTP & API info; a key of its own for the hub can be taken back alone",
                ),
            ),
        )
    ],
    fields=[
        Field(
            name="account",
            title="Account",
            pattern=r"[A-Za-z0-9._-]{1,64}",
            default="main",
            help="A word of your own that tells this account from others that you connect",
        ),
        Field(
            name="from_email",
            title="Sender",
            required=False,
            pattern=r"[^@\s]+@[^@\s]+",
            help="The address that e-mails leave from, of a domain that is set up; a step may name its own",
        ),
        Field(name="from_name", title="Sender's name", required=False),
        Field(
            name="search_query",
            title="How a message is looked for",
            pattern=r".*\{reference\}.*",
            default="metadata.hub_run:{reference}",
            help="In the words of the vendor's search, to find an e-mail by the metadata that the hub gave it",
        ),
        Field(
            name="api_version",
            title="API version",
            pattern=r"1\.[0-9]",
            default="1.3",
            help="1.3 as the vendor's own clients, 1.0 as its documentation",
        ),
        Field(
            name=KEYS,
            title="Webhook keys",
            secret=True,
            required=False,
            help="The hub fills it in. By hand: the key that Settings > Webhooks shows",
        ),
    ],
    webhook=MandrillWebhook(),
    # 20 searches a minute, of which a look-up makes two: with two at once and 18 a minute no minute has more.
    # (mailchimp.com/developer "Messages: search", read 2026-11-22)
    budgets=[Rate(2, per_s=18 / 60, name="searches", apart=True)],
    classify=classify,
    subscriptions=MessageWebhook(),
    whoami=whoami,
    sandbox="hub_mailchimp.sandbox.transactional:MandrillSandbox",
    lacks={
        "email.delivered": "it tells that an e-mail was sent, not that it arrived; what did not arrive bounces",
        "audience.add": "it has no audiences: connect Mailchimp Marketing (`mailchimp`) or another tool that has",
        "audience.remove": "it has no audiences: connect Mailchimp Marketing (`mailchimp`) or another tool that has",
    },
)
