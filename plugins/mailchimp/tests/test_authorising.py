"""An account that is authorised in the browser: its data centre is learnt, kept, and called from then on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from hub import AuthExpired
from hub.clock import Clock
from hub.connections.authorising import Authorising
from hub.playing import rehearsal_settings
from hub.plugins import load_plugins
from hub.process import Hub, open_hub
from hub.testing.sandbox import SandboxServer
from hub_mailchimp.sandbox.marketing import MailchimpSandbox

HUB = "http://127.0.0.1:9"


@pytest.fixture
async def place(marketing: MailchimpSandbox, clock: Clock) -> AsyncIterator[Hub]:
    """A hub with an app of Mailchimp's, led to the sandbox."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(SandboxServer({"mailchimp": marketing}))
        settings = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": HUB})
        hub = await stack.enter_async_context(open_hub(settings, plugins=load_plugins(), clock=clock))
        await hub.connections.add_app("mailchimp", "ours", {"client_id": "c-1", "client_secret": "s-1"})
        yield hub


async def authorise(hub: Hub, authorising: Authorising, ticket: str) -> None:
    """What a person does in the browser."""
    address = await authorising.open(ticket, "browser")
    async with aiohttp.ClientSession() as session, session.get(f"{address}&as=acme", allow_redirects=False) as answer:
        back = answer.headers["Location"]
    await authorising.finish("mailchimp", parse_qsl(urlsplit(back).query), "browser")


async def test_the_data_centre_is_learnt_and_kept(place: Hub, marketing: MailchimpSandbox) -> None:
    authorising = place.authorising
    begun = await authorising.begin("mailchimp", "news", {}, app="ours", auth="oauth2", sandbox=True)
    await authorise(place, authorising, begun.url.rpartition("/")[2])
    connection = await place.connections.by_name("news")
    assert connection.account == "acme"
    assert connection.settings["server"] == "us0"
    assert (await place.connections.test("news")).title == "acme Ltd"

    marketing.oauth.forget("acme")
    with pytest.raises(AuthExpired):
        await place.connections.test("news")
    again = await authorising.begin_again("news")
    await authorise(place, authorising, again.url.rpartition("/")[2])
    assert (await place.connections.test("news")).title == "acme Ltd"
    assert (await place.connections.by_name("news")).settings["server"] == "us0"
