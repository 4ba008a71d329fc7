"""A whole hub in memory with one sandbox connection of the connector under test, and what starts a run in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from aiohttp import ClientSession, web
from pydantic import BaseModel
from yarl import URL

from hub.clock import Clock
from hub.connector import Auth, Connector, Delivery, Field, Hmac, OAuth2, StaticToken
from hub.errors import HubError, IngressError
from hub.hookspecs import RegisterConnector, hookimpl
from hub.logs import JsonLines
from hub.playing import rehearsal_settings
from hub.plugins import Plugins, load_plugins
from hub.process import Hub, open_hub, sandboxes, working
from hub.testing.context import sandbox_fields
from hub.testing.sandbox import Sandbox

Prepare = Callable[[Sandbox], Awaitable[object] | object]

NOBODY = "http://127.0.0.1:9"
"""An address at which nobody answers."""


@asynccontextmanager
async def hub_of(
    connector: Connector,
    settings: Mapping[str, str],
    extra: Sequence[object] = (),
    *,
    prepare: Prepare | None = None,
    work: bool = False,
    answers: bool = False,
    auth: Auth | None = None,
) -> AsyncIterator[tuple[Hub, Sandbox]]:
    """A hub with a sandbox connection named like the connector, and one of the contract's own; at work if asked.

    `extra` are plugins that are not installed; the connector itself need not be. With `answers` its webhook addresses are
    really listened at, as vendors want that ask before they subscribe. `auth` is the kind that the connection is to have.
    """
    plugins, clock = _plugins(connector, extra), Clock()
    assert connector.sandbox, (
        f"{connector.name} declares no sandbox: write one (docs/connectors.md shows how), and name it with "
        "sandbox='package.module:Class'"
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(sandboxes(plugins, clock, host="127.0.0.1", port=0))
        door = Door()
        url = await stack.enter_async_context(door.open()) if answers else NOBODY
        led = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": url})
        door.hub = hub = await stack.enter_async_context(open_hub(led, plugins=plugins, clock=clock))
        # Inputs are as a run would give them: no label is looked up.
        hub.library.choosing = None
        if work:
            await stack.enter_async_context(working(hub))
        await hub.connections.add("contract", "contract", {}, sandbox=True)
        if isinstance(auth, OAuth2):
            await authorise(hub, connector, auth, settings)
        else:
            given, kind = _filled(settings, auth), auth.name if auth else None
            await hub.connections.add(connector.name, connector.name, given, sandbox=True, auth=kind)
        async with hub.store.write() as c:
            # A poll is a stop for a clock that jumps, and a call that could be cut off in the action's place.
            await c.run("delete from work where kind in ('poll', 'subscriptions')")
        sandbox = server.sandboxes[connector.name]
        waiting = prepare(sandbox) if prepare else None
        if isinstance(waiting, Awaitable):
            await waiting
        yield hub, sandbox


def _filled(settings: Mapping[str, str], auth: Auth | None) -> dict[str, str]:
    """The suite's settings with a made-up value for what one kind of auth needs beside them."""
    open_ = [f for f in auth.fields if f.required and not f.secret and f.default is None] if auth else []
    return {**{field.name: "contract" for field in open_}, **settings}


def _known(connector: Connector, auth: Auth, settings: Mapping[str, str]) -> dict[str, str]:
    """Those of some settings that a kind of auth has: another kind's may name what this one learns by itself."""
    names = {field.name for field in (*connector.fields, *auth.fields)}
    return {name: value for name, value in settings.items() if name in names}


async def authorise(hub: Hub, connector: Connector, auth: OAuth2, settings: Mapping[str, str]) -> None:
    """Connect the suite's account as a person does in the browser. Raises AssertionError where the sandbox has no such page."""
    await hub.connections.add_app(connector.name, "contract", {"client_id": "contract", "client_secret": "s3cret"})
    given, session = _filled(_known(connector, auth, settings), auth), "the browser of the contract"
    begun = await hub.authorising.begin(
        connector.name, connector.name, given, app="contract", auth=auth.name, sandbox=True
    )
    url = URL(await hub.authorising.open(begun.url.rpartition("/")[2], session))
    account = connector.account(sandbox_fields(connector, settings))
    # What the transport says to a sandbox, a browser would say by the address.
    named = {"X-Sandbox-Host": URL(auth.authorise_url(given)).host or ""}
    async with ClientSession() as browser:
        asked = url.update_query({"as": account})
        async with browser.get(asked, headers=named, allow_redirects=False) as answer:
            back = answer.headers.get("Location", "")
    assert back, (
        f"{connector.name}'s sandbox has no page at which {account} can be authorised: include "
        "hub.testing.oauth.OAuthServer, or answer `?as=ACCOUNT` with the redirect as it does"
    )
    try:
        await hub.authorising.finish(connector.name, list(URL(back).query.items()), session)
    except HubError as error:
        raise AssertionError(f"{connector.name} cannot be authorised at its sandbox by {auth.name}: {error}") from error


class Door:
    """The hub's webhook addresses over real HTTP; whatever else is asked for is answered as the connection's own address."""

    hub: Hub | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Listen; gives the address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        assert self.hub is not None, "nobody knows the address before the hub is there"
        [connection] = [one for one in await self.hub.connections.all() if one.connector != "contract"]
        try:
            reply = await self.hub.ingest.receive(
                connection.connector,
                connection.inbound_key,
                method=request.method,
                query=request.query_string,
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await request.read(),
            )
        except IngressError:
            # A vendor that only looks whether anybody is there sends nothing that is signed.
            return web.Response(status=200)
        return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)


def _plugins(connector: Connector, extra: Sequence[object]) -> Plugins:
    loaded = load_plugins(extra=[Starter(), *extra])
    if connector.name in loaded.catalogue.connectors:
        return loaded
    return load_plugins(extra=[Starter(), *extra, _Bringing(connector)])


class _Bringing:
    """The plugin of a connector that is not installed."""

    def __init__(self, connector: Connector) -> None:
        self.__name__, self._connector = f"{connector.name} under test", connector

    @hookimpl
    def hub_register_connectors(self, register: RegisterConnector) -> None:
        register(self._connector)


@contextmanager
def listening() -> Iterator[list[str]]:
    """All lines that are logged meanwhile, of any level, as operators would get them."""
    lines: list[str] = []
    formatter, root = JsonLines(), logging.getLogger()

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    handler, level = Keeping(), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


# -- what a run starts by ----------------------------------------------------------------------------------------------


class Begun(BaseModel):
    """A run is wanted."""

    id: str


webhook = Hmac(header="X-Signature", encoding="hex")
starter = Connector(
    name="contract",
    title="What the contract's recipes start by",
    hosts=["contract.invalid"],
    base_url=lambda fields: "https://contract.invalid",
    account=lambda fields: "contract",
    auth=[StaticToken(headers=lambda fields: {})],
    fields=[Field(name="webhook_secret", title="Webhook secret", secret=True)],
    webhook=webhook,
)


@starter.trigger("begun", payload=Begun, fact=lambda begun: begun.id, topic="")
def begun(delivery: Delivery) -> list[Begun]:
    """A run is wanted."""
    return [Begun.model_validate(delivery.json())]


class Starter:
    """The plugin that brings it."""

    @hookimpl
    def hub_register_connectors(self, register: RegisterConnector) -> None:
        register(starter)
