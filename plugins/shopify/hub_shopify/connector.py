"""Shopify as the hub sees it: how to authorise, where calls go, how its webhooks are recognised, how fast one may call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from hub import (
    ApiVersions,
    ClientCredentials,
    Connector,
    Field,
    Hmac,
    InboundRequest,
    OAuth2,
    Rate,
    SignatureError,
    StaticToken,
    same,
)
from hub_shopify.client import POINTS, classify, throttle
from hub_shopify.subscriptions import WebhookSubscriptions, whoami

SCOPES = (
    "read_orders",
    "write_orders",
    "read_customers",
    "write_customers",
    "read_products",
    "read_discounts",
    "write_discounts",
    "read_draft_orders",
    "write_draft_orders",
    "read_locations",
    "write_store_credit_account_transactions",
)
"""All that the connector can make use of. (GraphQL Admin API, 2026-07, required access of each operation)"""


class ShopifyWebhook(Hmac):
    """The app's client secret signs the raw body; the age is not signed, so the delivery id guards against replay.

    Classic webhooks carry `X-Shopify-*` headers, the newer "Events" the same names without `X-`. (shopify.dev "Verify
    webhook deliveries" and "Events: verify deliveries", read 2026-11-22)
    """

    def __init__(self) -> None:
        super().__init__(
            header="X-Shopify-Hmac-Sha256",
            # One after the other: the app's, the one before it (Shopify may use it for an hour after a rotation), and
            # that of webhooks made by hand in the shop's admin, which are signed with a key of their own.
            secret=("client_secret", "client_secret_previous", "store_webhook_secret"),
            encoding="base64",
            delivery_id="X-Shopify-Webhook-Id",
            account="X-Shopify-Shop-Domain",
            topic="X-Shopify-Topic",
        )

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        super().verify(_classic(request), secrets)

    def delivery_id(self, request: InboundRequest) -> str | None:
        return super().delivery_id(_classic(request))

    def account(self, request: InboundRequest) -> str | None:
        shop = super().account(_classic(request))
        return shop.lower() if shop else None

    def topic(self, request: InboundRequest) -> str:
        return super().topic(_classic(request))


def _classic(request: InboundRequest) -> InboundRequest:
    if "x-shopify-hmac-sha256" in request.headers:
        return request
    named = {f"x-{name}": value for name, value in request.headers.items() if name.startswith("shopify-")}
    return replace(request, headers={**request.headers, **named})


def check_callback(answer: Mapping[str, str], fields: Mapping[str, str]) -> None:
    """Refuse an answer in the browser that Shopify did not sign with the app's secret, or that is about another shop.

    Signed are all parameters but `hmac` and `signature`, sorted, as `key=value` joined by `&`, in lower-case hex.
    (github.com/Shopify/shopify-app-js, hmac-validator, read 2026-11-22) Its age is bounded by the hub's own state.
    """
    signed = "&".join(f"{k}={v}" for k, v in sorted(answer.items()) if k not in {"hmac", "signature"})
    expected = hmac.new(fields["client_secret"].encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not same(answer.get("hmac", ""), expected):
        raise SignatureError("the answer is not signed by Shopify; nothing was connected")
    if answer.get("shop", "").rstrip("/") != fields["shop"]:
        raise SignatureError("the answer is about another shop than the one that was named; nothing was connected")


def _token(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {"X-Shopify-Access-Token": fields["access_token"]}


shopify = Connector(
    name="shopify",
    title="Shopify",
    hosts=["*.myshopify.com"],
    base_url=lambda fields: f"https://{fields['shop']}/admin/api/{fields['api_version']}",
    account=lambda fields: fields["shop"],
    auth=[
        StaticToken(
            headers=_token,
            fields=(
                Field(
                    name="access_token",
                    title="Admin API access token",
                    secret=True,
                    help="Settings > Apps > your custom app > API credentials; it usually starts with shpat_.",
                ),
                Field(
                    name="client_secret",
                    title="API secret key",
                    secret=True,
                    required=False,
                    help="Signs the app's webhooks. Without it, and without a store webhook secret, webhooks are refused.",
                ),
            ),
        ),
        ClientCredentials(
            headers=_token,
            token_url=lambda fields: f"https://{fields['shop']}/admin/oauth/access_token",
            request_format="json",
            fields=(
                Field(name="client_id", title="Client id", help="Dev Dashboard > your app > Settings."),
                Field(
                    name="client_secret",
                    title="Client secret",
                    secret=True,
                    help="On the same page. It also signs the app's webhooks.",
                ),
            ),
        ),
        OAuth2(
            headers=_token,
            authorise_url=lambda fields: f"https://{fields['shop']}/admin/oauth/authorize",
            token_url=lambda fields: f"https://{fields['shop']}/admin/oauth/access_token",
            scopes=SCOPES,
            scope_separator=",",
            # Who may write may read, and Shopify's answer may name the former alone.
            implied_scopes={
                f"write_{what}": (f"read_{what}",)
                for prefix, _, what in (scope.partition("_") for scope in SCOPES)
                if prefix == "write" and f"read_{what}" in SCOPES
            },
            # Tokens that end after an hour, with one to renew them that lasts ninety days: what public apps must use.
            # (shopify.dev "Offline access tokens", read 2026-11-22)
            token_params={"expiring": "1"},
            request_format="json",
            check_callback=check_callback,
        ),
    ],
    fields=[
        Field(
            name="shop",
            title="Shop domain",
            pattern=r"[a-z0-9][a-z0-9-]*\.myshopify\.com",
            help="The lower-case domain that Shopify gave the shop, such as my-shop.myshopify.com; not its own domain.",
        ),
        Field(
            name="api_version",
            title="Admin API version",
            # Orders tell their checkout only from 2026-07 on, and the abandoned checkout is confirmed by it.
            pattern=r"2026-(07|10)|20(2[7-9]|[3-9][0-9])-(01|04|07|10)",
            default="2026-07",
            help="2026-07 or later; a version lives for at least a year.",
        ),
        Field(
            name="client_secret_previous",
            title="Previous API secret key",
            secret=True,
            required=False,
            help="While you rotate the secret: Shopify may sign with the old one for an hour. Remove it afterwards.",
        ),
        Field(
            name="store_webhook_secret",
            title="Store webhook secret",
            secret=True,
            required=False,
            help="Only for webhooks made by hand: shown under Settings > Notifications > Webhooks.",
        ),
    ],
    webhook=ShopifyWebhook(),
    # The smallest plan's bucket and refill, in cost points per app and shop. (shopify.dev "API rate limits", 2026)
    budgets=[Rate(1000, per_s=100, name=POINTS)],
    classify=classify,
    throttle=throttle,
    subscriptions=WebhookSubscriptions(),
    # A version lives for at least a year; of 2026-10 the day is what that promises. (shopify.dev release notes 2026-07)
    versions=ApiVersions(field="api_version", ends={"2026-07": date(2027, 7, 1), "2026-10": date(2027, 10, 1)}),
    lacks={
        "email.send": "Shopify sends invoices of draft orders and nothing else; connect a tool that sends e-mail",
        "sms.send": "Shopify sends no messages; connect a tool that does",
        "audience.add": "segments of a shop are rules over its customers; tag the customer, and let a segment ask for the tag",
    },
    whoami=whoami,
    sandbox="hub_shopify.sandbox:ShopifySandbox",
)
