"""Meta's subscriptions as a hub keeps them: where the app is called, for all of its connections, and each Page's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from hub.clock import Clock
from hub.connections import App
from hub.connector import sandbox_secret
from hub.playing import rehearsal_settings
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, working
from hub.store import subscriptions, views
from hub.testing.contract.stage import Door
from hub.testing.sandbox import SandboxServer
from hub_facebook_ads.sandbox import APP_ID, FacebookSandbox

FIRST, SECOND = "119440231087027", "119440231087028"
OF_APP = "app/page/leadgen"
RECIPE = "recipe: {name}\non: {{event: facebook_ads.lead_submitted, from: {name}}}\nsteps:\n  - {{stop: heard}}\n"


class _Doors(Door):
    """Every webhook address of the hub over real HTTP."""

    async def _take(self, request: web.Request) -> web.Response:
        assert self.hub is not None
        _, connector, key = request.path.strip("/").split("/")
        reply = await self.hub.ingest.receive(
            connector,
            key,
            method=request.method,
            query=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)


@dataclass
class Place:
    """A hub, and the Meta that it is connected to."""

    hub: Hub
    meta: FacebookSandbox

    async def app(self) -> App:
        """An app whose secrets are what the sandbox knows of the first Page's."""
        secrets = {name: sandbox_secret("facebook_ads", FIRST, name) for name in ("app_secret", "verify_token")}
        return await self.hub.connections.add_app("facebook_ads", "ours", secrets)

    async def connect(self, name: str, page: str, **more: Any) -> None:
        """A connection of a Page, with a recipe that starts with its leads."""
        self.meta.business(page=page)
        given = {"page_id": page, "app_id": APP_ID}
        await self.hub.connections.add("facebook_ads", name, given, sandbox=True, auth="page", **more)
        await self.hub.library.apply(RECIPE.format(name=name), publish=True)

    async def look(self) -> None:
        """Let the hub look, as it does every hour."""
        await self.hub.connections.attend_all()
        for step_ms in (0, 3_601_000, 0):
            await self.hub.time.advance(self.hub.clock.now_ms() + step_ms, ring=self.hub.ring)

    async def problem(self, name: str) -> str | None:
        async with self.hub.store.read() as c:
            return (await subscriptions.rows(c))[name].kept.problem

    def fields_of(self, page: str) -> list[str]:
        return self.meta.business(page=page).subscribed.get(APP_ID, [])


@asynccontextmanager
async def _place() -> AsyncIterator[Place]:
    clock, doors, plugins = Clock(), _Doors(), load_plugins()
    meta = FacebookSandbox(clock)
    async with SandboxServer({"facebook_ads": meta}) as server, doors.open() as url:
        led = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": url})
        async with open_hub(led, plugins=plugins, clock=clock) as hub, working(hub):
            doors.hub = hub
            yield Place(hub, meta)


async def test_an_app_of_two_pages_is_called_at_its_own_address_until_the_last_one_goes() -> None:
    async with _place() as it:
        # given
        app = await it.app()
        await it.connect("first", FIRST, app="ours")
        await it.connect("second", SECOND, app="ours")

        # when
        await it.look()

        # then
        assert it.meta.callbacks["page"]["callback_url"] == it.hub.connections.inbound_url(app)
        assert (await it.problem("first"), await it.problem("second")) == (None, None)
        assert (it.fields_of(FIRST), it.fields_of(SECOND)) == (["leadgen"], ["leadgen"])
        # a lead comes that way
        assert await it.meta.lead(None, FIRST) == 200
        await it.look()
        async with it.hub.store.read() as c:
            assert [one["type"] for one in await views.list_events(c, most=9)] == ["facebook_ads.lead_submitted"]

        # when one is removed: its Page's goes, the app's stays
        assert (await it.hub.connections.remove("first")).problem is None
        assert (it.fields_of(FIRST), it.fields_of(SECOND)) == ([], ["leadgen"])
        assert "page" in it.meta.callbacks
        # the last one takes it along
        assert (await it.hub.connections.remove("second")).problem is None
        assert (it.fields_of(SECOND), it.meta.callbacks) == ([], {})


async def test_what_meta_switched_off_is_made_anew_and_another_s_address_is_left_alone() -> None:
    async with _place() as it:
        # given
        await it.connect("first", FIRST)
        await it.look()
        ours = dict(it.meta.callbacks["page"])

        # when
        it.meta.callbacks["page"]["active"] = False
        await it.look()

        # then
        assert it.meta.callbacks["page"] == ours
        assert await it.problem("first") is None
        # and another tool's is never touched, whatever the hub needs
        theirs = {"callback_url": "https://other.example/hook", "fields": ["leadgen"]}
        it.meta.callbacks["page"] = dict(theirs)
        await it.look()
        assert it.meta.callbacks["page"] == theirs
        problem = await it.problem("first")
        assert problem
        assert "other.example" in problem
        assert it.fields_of(FIRST) == ["leadgen"]


async def test_no_secret_of_the_app_is_told(caplog: Any) -> None:
    caplog.set_level(0)
    async with _place() as it:
        await it.connect("first", FIRST)
        await it.look()
        connection = await it.hub.connections.by_name("first")
        context = await it.hub.connections.context(connection)
        await it.hub.connections.test("first")
        fields = await it.hub.connections.fields(connection)
        told = caplog.text + repr(context) + str(it.hub.connections.current(connection))
    for name in ("app_secret", "verify_token", "access_token"):
        assert fields[name] not in told
