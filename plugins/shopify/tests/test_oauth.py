"""Shops that a person authorises in the browser: what is asked, what is believed, tokens that end and rotate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import aiohttp
import pytest
import shopify as official

from hub import AuthExpired, OAuth2, SignatureError
from hub.clock import Clock
from hub.playing import rehearsal_settings
from hub.plugins import load_plugins
from hub.process import Hub, open_hub
from hub.testing.sandbox import SandboxServer
from hub_shopify import shopify
from hub_shopify.connector import SCOPES, check_callback
from hub_shopify.sandbox import ShopifySandbox

SHOP = "some-shop.myshopify.com"
SECRET = "shpss_test_secret_0001"
# The vector of the notes: what Shopify appends to the redirect, and its signature.
ANSWER = {
    "code": "0907a61c0c8d55e99db179b68161bc00",
    "host": "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvc29tZS1zaG9w",
    "shop": SHOP,
    "state": "0.6784241404160823",
    "timestamp": "1337178173",
}
SIGNED = "3577a651ef085598a11d8dc1950eea1e1aa76835d6a50201b228735614e712c0"
FIELDS = {"shop": SHOP, "client_secret": SECRET}


# -- the answer in the browser -----------------------------------------------------------------------------------------


def test_a_signed_answer_is_believed() -> None:
    check_callback({**ANSWER, "hmac": SIGNED}, FIELDS)


def test_the_official_library_signs_it_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official.Session, "secret", SECRET)
    assert official.Session.calculate_hmac(ANSWER) == SIGNED
    more = {**ANSWER, "prefix": "", "z": "1"}
    check_callback({**more, "hmac": official.Session.calculate_hmac(more)}, FIELDS)


@pytest.mark.parametrize(
    "changed",
    [
        {"hmac": ""},
        {"hmac": "ü"},
        {"hmac": SIGNED.upper()},
        {"code": "another"},
        {"shop": "other-shop.myshopify.com"},
        {"added": "1"},
    ],
)
def test_an_answer_that_was_changed_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        check_callback({**ANSWER, "hmac": SIGNED, **changed}, FIELDS)


def test_an_answer_about_another_shop_is_refused_though_it_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SignatureError, match="another shop"):
        check_callback({**ANSWER, "hmac": SIGNED}, FIELDS | {"shop": "other-shop.myshopify.com"})


def test_a_shop_s_scopes_imply_what_may_be_read() -> None:
    browser = shopify.auth[2]
    assert isinstance(browser, OAuth2)
    assert browser.implied_scopes["write_orders"] == ("read_orders",)
    assert not [scope for scope in browser.implied_scopes if scope.startswith("read_")]
    assert browser.check_callback is check_callback


# -- through the browser -----------------------------------------------------------------------------------------------


@pytest.fixture
async def place() -> AsyncIterator[tuple[Hub, ShopifySandbox]]:
    """A hub with an app at a small Shopify."""
    clock = Clock()
    vendor = ShopifySandbox(clock)
    async with SandboxServer({"shopify": vendor}) as server:
        settings = rehearsal_settings().model_copy(
            update={"sandbox_url": server.url, "public_url": "http://hub.example"}
        )
        async with open_hub(settings, plugins=load_plugins(), clock=clock) as hub:
            await hub.connections.add_app("shopify", "ours", {"client_id": "c-1", "client_secret": SECRET})
            yield hub, vendor


async def authorise(hub: Hub) -> dict[str, list[str]]:
    """Connect the shop as a person does; returns what Shopify was asked."""
    begun = await hub.authorising.begin("shopify", "shop", {"shop": SHOP}, app="ours", auth="oauth2", sandbox=True)
    url = await hub.authorising.open(begun.url.rpartition("/")[2], "browser")
    async with aiohttp.ClientSession() as browser, browser.get(f"{url}&as={SHOP}", allow_redirects=False) as answer:
        back = answer.headers["Location"]
    await hub.authorising.finish("shopify", parse_qsl(urlsplit(back).query), "browser")
    return parse_qs(urlsplit(url).query)


async def test_a_shop_is_connected_for_an_hour_and_renewed_by_a_token_that_rotates(
    place: tuple[Hub, ShopifySandbox],
) -> None:
    # when
    hub, vendor = place
    asked = await authorise(hub)

    # then it asks for all scopes, separated as Shopify wants it, and gets a token that ends
    assert asked["scope"] == [",".join(SCOPES)]
    connection = await hub.connections.by_name("shop")
    assert (connection.account, connection.scopes) == (SHOP, set(SCOPES))
    assert connection.token_expires_at_ms is not None
    before = await hub.connections.fields(connection)

    # when it ends
    vendor.tokens.oauth.expire()
    assert await hub.connections.tokens.renew_refused(connection)

    # then another is there, with another to renew it
    after = await hub.connections.fields(await hub.connections.by_name("shop"))
    assert {before[name] for name in ("access_token", "refresh_token")}.isdisjoint(after.values())
    assert (await hub.connections.test("shop")).id == SHOP


async def test_who_removed_the_app_must_authorise_it_again(place: tuple[Hub, ShopifySandbox]) -> None:
    hub, vendor = place
    await authorise(hub)
    await vendor.happen("uninstall", None, SHOP)
    with pytest.raises(AuthExpired):
        await hub.connections.test("shop")
    with pytest.raises(AuthExpired, match="invalid_grant"):
        await hub.connections.tokens.renew_refused(await hub.connections.by_name("shop"))


async def test_a_shop_s_webhooks_are_signed_with_the_app_s_secret(
    place: tuple[Hub, ShopifySandbox], inbox: Any
) -> None:
    hub, vendor = place
    await authorise(hub)
    await vendor.order(inbox.url, SHOP)
    assert shopify.webhook
    shopify.webhook.verify(inbox.requests[0], {"client_secret": SECRET})


async def test_tokens_that_never_end_are_not_asked_for(place: tuple[Hub, ShopifySandbox]) -> None:
    hub, _ = place
    url = hub.settings.sandbox_url
    asked = {"client_id": "c-1", "client_secret": SECRET, "grant_type": "authorization_code", "code": "x"}
    address = f"{url}/shopify/admin/oauth/access_token"
    async with aiohttp.ClientSession() as session, session.post(address, json=asked) as answer:
        refused = answer.status, (await answer.json())["error_description"]
    assert refused == (400, "the sandbox gives expiring tokens only, as public apps must ask for")
