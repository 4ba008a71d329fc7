"""What HubSpot is to the hub: how an account is authorised, how its calls are recognised, how much may be asked."""

from __future__ import annotations

from collections.abc import Mapping

from hub import ApiVersions, Connector, Field, OAuth2, Rate, StaticToken
from hub_hubspot.client import classify, granted, throttle, whoami
from hub_hubspot.paths import DEFAULT, ENDS, path
from hub_hubspot.webhook import V1_SECRET, HubspotWebhook

ORIGIN = "https://api.hubapi.com"

# What the triggers and actions here need, by HubSpot's names. (developers.hubspot.com "Scopes", read 2026-11-22)
CONTACTS_READ, CONTACTS_WRITE = "crm.objects.contacts.read", "crm.objects.contacts.write"
DEALS_READ, DEALS_WRITE = "crm.objects.deals.read", "crm.objects.deals.write"
TICKETS = "tickets"
OWNERS_READ = "crm.objects.owners.read"
LISTS_READ, LISTS_WRITE = "crm.lists.read", "crm.lists.write"
SCHEMAS_READ = "crm.schemas.contacts.read"
FORMS = "forms"
CONTENT = "content"
PREFERENCES = "communication_preferences.read_write"
MARKETING_EMAIL, TRANSACTIONAL_EMAIL = "marketing-email", "transactional-email"
CUSTOM_EVENTS = "analytics.behavioral_events.send"

SEARCH = {"searches": 1}
"""What a call that searches, or a poll that begins with it, takes besides."""

_IDS = r"[0-9]+( *, *[0-9]+)*"
_CHANGED = r"(deal\.dealstage|(ticket|contact)\.[a-z0-9_]+)"


# What nothing here works without. An account whose plan lacks one of these cannot be connected, so that all others are asked
# for as optional. (developers.hubspot.com "Working with OAuth": `optional_scope`, read 2026-11-22)
_NEEDED = ("oauth", CONTACTS_READ, CONTACTS_WRITE)
_OPTIONAL = (
    DEALS_READ,
    DEALS_WRITE,
    TICKETS,
    OWNERS_READ,
    LISTS_READ,
    LISTS_WRITE,
    SCHEMAS_READ,
    FORMS,
    CONTENT,
    PREFERENCES,
    MARKETING_EMAIL,
    TRANSACTIONAL_EMAIL,
    CUSTOM_EVENTS,
)


def _bearer(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {fields['access_token']}"}


hubspot = Connector(
    name="hubspot",
    title="HubSpot",
    hosts=["api.hubapi.com", "app.hubspot.com"],
    base_url=lambda fields: ORIGIN,
    # Of an account that is authorised in the browser, `whoami` tells it.
    account=lambda fields: fields.get("portal_id", ""),
    auth=[
        StaticToken(
            headers=_bearer,
            granted=granted,
            fields=(
                Field(
                    name="portal_id",
                    title="Hub id of the account",
                    pattern=r"[0-9]+",
                    help="The number in the address of your account: app.hubspot.com/…/62515. Events are told apart by it.",
                ),
                Field(
                    name="access_token",
                    title="Access token",
                    secret=True,
                    help="Of a private app, a service key, or a project app with a static token.",
                ),
                Field(
                    name="client_secret",
                    title="Client secret",
                    secret=True,
                    required=False,
                    help="Of the same app. It signs webhooks; without it and without the one for version 1 they are refused.",
                ),
            ),
        ),
        OAuth2(
            headers=_bearer,
            authorise_url=lambda fields: "https://app.hubspot.com/oauth/authorize",
            token_url=lambda fields: ORIGIN + path(fields, "token"),
            revoke_url=lambda fields: ORIGIN + path(fields, "revoke"),
            scopes=(*_NEEDED, *_OPTIONAL),
            optional_scopes=_OPTIONAL,
        ),
    ],
    fields=[
        Field(
            name="api_version",
            title="API version",
            pattern=r"v3|20(2[6-9]|[3-9][0-9])-(03|09)",
            default=DEFAULT,
            help="A dated version such as 2026-03, or v3 for the numbered ones that end in 2027.",
        ),
        Field(
            name="client_secret_previous",
            title="Previous client secret",
            secret=True,
            required=False,
            help="While you change the secret at HubSpot. Remove it afterwards.",
        ),
        Field(
            name=V1_SECRET,
            title="Client secret for signatures of version 1",
            secret=True,
            required=False,
            help="Only where HubSpot signs your webhooks by version 1 alone: paste the client secret here, too.",
        ),
        Field(
            name="contact_properties",
            title="Further contact properties",
            pattern=r"[a-z0-9_]+( *, *[a-z0-9_]+)*",
            required=False,
            help="Internal names, separated by commas, that events shall carry beside the usual ones: company, city.",
        ),
        Field(
            name="missed_changes",
            title="Missed changes to look for",
            pattern=rf"{_CHANGED}( *, *{_CHANGED})*",
            required=False,
            help="What is read from HubSpot's history every 15 minutes: deal.dealstage, ticket.PROPERTY, contact.PROPERTY, "
            "separated by commas.",
        ),
        Field(
            name="watched_lists",
            title="Watched lists",
            pattern=_IDS,
            required=False,
            help="Ids of the contact lists, separated by commas, whose joining and leaving members are told.",
        ),
        Field(
            name="watched_forms",
            title="Watched forms",
            pattern=r"[0-9a-fA-F-]{36}( *, *[0-9a-fA-F-]{36})*",
            required=False,
            help="Ids of the forms, separated by commas. Without them all forms are asked, each one call.",
        ),
        Field(
            name="bounces_block",
            title="A bounce blocks the address",
            pattern="yes|no",
            default="yes",
            help="HubSpot tells a temporary failure as deferred. Say no if bounces of yours are not for good.",
        ),
        Field(
            name="reference_property",
            title="Property for references",
            pattern="[a-z0-9_]+",
            required=False,
            help="A text property of tickets and deals that holds what the hub finds its own by. Without it, the name does.",
        ),
    ],
    webhook=HubspotWebhook(),
    # The smallest plan takes 100 calls in any 10 s: 10 at once and 9 a second stay below that.
    # (developers.hubspot.com "API usage details", read 2026-11-22)
    # Searches have a limit of their own besides, 5 in any second for the whole account. (the same, "Search the CRM")
    budgets=[Rate(10, per_s=9), Rate(1, per_s=4, name="searches", apart=True)],
    classify=classify,
    throttle=throttle,
    whoami=whoami,
    versions=ApiVersions(field="api_version", ends=ENDS),
    lacks={
        "sms.send": "HubSpot's API sends no text messages; connect Twilio",
        "audience.add": "lists of HubSpot are no audiences of an ad network; connect Facebook Ads",
    },
    sandbox="hub_hubspot.sandbox:HubspotSandbox",
)
