"""A whole hub in memory with one sandbox connection of the connector under test, and what starts a run in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from pydantic import BaseModel

from hub.clock import Clock
from hub.connector import Connector, Delivery, Field, Hmac, StaticToken
from hub.hookspecs import RegisterConnector, hookimpl
from hub.logs import JsonLines
from hub.playing import rehearsal_settings
from hub.plugins import Plugins, load_plugins
from hub.process import Hub, open_hub, sandboxes, working
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
) -> AsyncIterator[tuple[Hub, Sandbox]]:
    """A hub with a sandbox connection named like the connector, and one of the contract's own; at work if asked.

    `extra` are plugins that are not installed; the connector itself need not be.
    """
    plugins, clock = _plugins(connector, extra), Clock()
    assert connector.sandbox, (
        f"{connector.name} declares no sandbox: write one (docs/connectors.md shows how), and name it with "
        "sandbox='package.module:Class'"
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(sandboxes(plugins, clock, host="127.0.0.1", port=0))
        led = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": NOBODY})
        hub = await stack.enter_async_context(open_hub(led, plugins=plugins, clock=clock))
        if work:
            await stack.enter_async_context(working(hub))
        await hub.connections.add("contract", "contract", {}, sandbox=True)
        await hub.connections.add(connector.name, connector.name, dict(settings), sandbox=True)
        async with hub.store.write() as c:
            # A poll is a stop for a clock that jumps, and a call that could be cut off in the action's place.
            await c.run("delete from work where kind in ('poll', 'subscriptions')")
        sandbox = server.sandboxes[connector.name]
        waiting = prepare(sandbox) if prepare else None
        if isinstance(waiting, Awaitable):
            await waiting
        yield hub, sandbox


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
