"""What a connection to a shop needs, and that its calls can go nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import ClientCredentials, Connector, OAuth2, StaticToken
from hub.connector import CLIENT_FIELDS
from hub_shopify import hub_register_connectors, shopify

PATTERNS = {field.name: re.compile(field.pattern) for field in shopify.fields if field.pattern}


def test_the_plugin_offers_its_connector() -> None:
    offered: list[Connector] = []
    hub_register_connectors(lambda connector: offered.append(connector))
    assert offered == [shopify]


def test_a_token_may_be_pasted_or_bought_with_client_credentials() -> None:
    # given
    pasted, bought, _ = shopify.auth
    fields = {"shop": "some-shop.myshopify.com", "api_version": "2026-07", "access_token": "shpat_x"}

    # then
    assert isinstance(pasted, StaticToken)
    assert isinstance(bought, ClientCredentials)
    assert pasted.headers(fields) == bought.headers(fields) == {"X-Shopify-Access-Token": "shpat_x"}
    assert bought.token_url(fields) == "https://some-shop.myshopify.com/admin/oauth/access_token"
    assert shopify.base_url(fields) == "https://some-shop.myshopify.com/admin/api/2026-07"
    assert shopify.account(fields) == "some-shop.myshopify.com"


@pytest.mark.parametrize("kind", range(3))
def test_every_field_that_holds_a_secret_is_marked_as_one(kind: int) -> None:
    fields = {field.name: field for field in (*shopify.fields, *shopify.auth[kind].fields)}
    secret = {name for name in fields if "secret" in name or "token" in name}
    assert {name for name, field in fields.items() if field.secret} == secret


def test_every_secret_that_may_sign_is_a_field_of_each_kind_of_connection() -> None:
    assert shopify.webhook
    for auth in shopify.auth:
        # Of an app that others authorise, the app holds the client's secret.
        of_app = CLIENT_FIELDS if isinstance(auth, OAuth2) else ()
        assert set(shopify.webhook.secrets) <= {field.name for field in (*shopify.fields, *auth.fields, *of_app)}


@pytest.mark.parametrize(
    "shop",
    [
        "my-shop.example.com",
        "my-shop.myshopify.com.evil.example",
        "evil.example/.myshopify.com",
        "evil.example#.myshopify.com",
        "user@evil.example?.myshopify.com",
        "a.b.myshopify.com",
        "My-Shop.myshopify.com",
        "-shop.myshopify.com",
        ".myshopify.com",
        "my-shop.myshopify.com\n",
        "https://my-shop.myshopify.com",
    ],
)
def test_only_a_shop_s_own_domain_is_a_shop(shop: str) -> None:
    assert PATTERNS["shop"].fullmatch(shop) is None


@given(
    shop=st.from_regex(PATTERNS["shop"], fullmatch=True), version=st.from_regex(PATTERNS["api_version"], fullmatch=True)
)
def test_whatever_the_fields_allow_stays_at_shopify(shop: str, version: str) -> None:
    fields = {"shop": shop, "api_version": version}
    _, bought, browser = shopify.auth
    assert isinstance(bought, ClientCredentials)
    assert isinstance(browser, OAuth2)
    addresses = (bought.token_url(fields), browser.token_url(fields), browser.authorise_url(fields))
    for url in (shopify.base_url(fields), *addresses):
        parts = urlsplit(url)
        assert (parts.scheme, parts.hostname, parts.username, parts.port) == ("https", shop, None, None)
        assert parts.path.startswith("/admin/")


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("2026-07", True),
        ("2026-10", True),
        ("2027-01", True),
        ("2026-04", False),
        ("2025-10", False),
        ("2027-02", False),
    ],
)
def test_versions_that_lack_what_we_ask_for_are_refused(version: str, known: bool) -> None:
    assert (PATTERNS["api_version"].fullmatch(version) is not None) is known


def test_the_versions_ends_are_told_of_every_version_that_was_checked() -> None:
    assert shopify.versions
    facts = Path(__file__).parent / "facts"
    checked = {path.stem.removeprefix("admin_") for path in facts.glob("admin_*.json")}
    assert set(shopify.versions.ends) == checked
    [field] = [field for field in shopify.fields if field.name == shopify.versions.field]
    assert field.default in checked
    for version, end in shopify.versions.ends.items():
        # Each lives for at least twelve months.
        assert (end.year - int(version[:4]), f"{end.month:02}", end.day) == (1, version[5:], 1)


def test_every_action_and_trigger_names_the_scope_it_needs() -> None:
    without = {name for name, one in {**shopify.actions, **shopify.triggers}.items() if not one.scopes}
    # What Shopify tells every app, whatever it was granted.
    assert without == {"app_uninstalled", "data_requested", "erasure_requested", "shop_erasure_requested"}
