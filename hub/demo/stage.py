"""The demo's hub: embedded, in a folder of its own, with sandboxes and API on free local ports and a clock that jumps."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import aiohttp

from hub.api.app import make_app
from hub.api.serving import answering
from hub.clock import Clock, to_datetime
from hub.demo import examples
from hub.demo.day import STARTS_AT_H, Moment
from hub.errors import ConfigError
from hub.events import Json
from hub.library import recipe_files
from hub.plugins import Plugins, load_plugins
from hub.process import Hub, open_hub, receiving, sandboxes, working
from hub.settings import load_settings
from hub.testing.sandbox import Sandbox, SandboxServer
from hub.vault import generate_key

SHOP = "demo-shop.myshopify.com"
_ACCOUNT = "AC00000000000000000000000000000000"
_SENDER = "+14155550000"
_CONNECTIONS = {
    "shopify": ("shop", {"shop": SHOP}),
    "twilio": ("sms", {"account_sid": _ACCOUNT, "from_number": _SENDER}),
}
_LOCAL = "127.0.0.1"
_DAY_MS = 24 * 3_600_000


class _Carrier(Protocol):
    """What the demo asks of Twilio's sandbox beside what all sandboxes have: numbers that cannot be reached."""

    undeliverable: dict[str, int]


@dataclass(frozen=True)
class Stage:
    """A running hub with its sandboxes, and the way to let time pass and things happen."""

    hub: Hub
    server: SandboxServer
    start_ms: int
    """Hub time at which the day begins."""
    _calls: aiohttp.ClientSession
    _inbound: Mapping[str, Mapping[str, str]]

    async def until(self, at_s: int) -> None:
        """Let hub time pass until so many seconds after the day's start; everything due on the way happens."""
        to_ms = max(self.start_ms + at_s * 1000, self.hub.clock.now_ms())
        await self.hub.time.advance(to_ms, ring=self.hub.ring, settle=self._settle)

    async def happen(self, moment: Moment) -> None:
        """Have a sandbox do what a moment says. Raises ConfigError when the hub answers its webhook otherwise."""
        url = f"{self.server.url}/{moment.connector}/_sandbox/{moment.what}"
        sent = {**moment.fields, **(self._inbound[moment.connector] if moment.answered else {})}
        async with self._calls.post(url, json=sent) as response:
            said = await response.json()
        if moment.answered is not None and said.get("status") != moment.answered:
            raise ConfigError(
                f"{moment.story}: the hub answered {said.get('status')} to {moment.connector}'s webhook, not "
                f"{moment.answered}; run `hub doctor`, and report it if that finds nothing"
            )

    def disconnect_phone(self, number: str) -> None:
        """Put a number out of service: messages to it are taken and never arrive."""
        carrier = cast("_Carrier", self.sandbox("twilio"))
        carrier.undeliverable[number] = (
            30_003  # unreachable destination handset (Twilio error dictionary, read 2026-11)
        )

    def sandbox(self, connector: str) -> Sandbox:
        """A connector's stand-in."""
        return self.server.sandboxes[connector]

    async def _settle(self) -> None:
        for sandbox in self.server.sandboxes.values():
            await sandbox.settle()


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Everything that the day needs, from nothing; nothing is left behind. Raises ConfigError without the plugins."""
    plugins, clock = load_plugins(), Clock()
    if missing := _CONNECTIONS.keys() - plugins.catalogue.connectors.keys():
        wanted = " ".join(f"tetik-hub-{name}" for name in sorted(missing))
        raise ConfigError(f"the demo needs the connectors {', '.join(sorted(missing))}: run `pip install {wanted}`")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-demo-", ignore_cleanup_errors=True))
        server = await stack.enter_async_context(sandboxes(plugins, clock, host=_LOCAL, port=0))
        listener = stack.enter_context(socket.create_server((_LOCAL, 0)))
        port = listener.getsockname()[1]
        hub = await stack.enter_async_context(_hub(Path(folder), port, server.url, plugins, clock))
        await _furnish(hub)
        await stack.enter_async_context(receiving(hub))
        await stack.enter_async_context(working(hub))
        await stack.enter_async_context(answering(make_app(hub), listener))
        calls = await stack.enter_async_context(aiohttp.ClientSession())
        start_ms = _next_morning_ms(clock.now_ms())
        await hub.time.advance(start_ms, ring=hub.ring)
        yield Stage(hub, server, start_ms, calls, await _inbound(hub))


@asynccontextmanager
async def _hub(folder: Path, port: int, sandbox_url: str, plugins: Plugins, clock: Clock) -> AsyncIterator[Hub]:
    # Whatever the environment says of a real hub is not meant for the demo's.
    settings = load_settings(
        data_dir=folder,
        database_url=None,
        redis_url=None,
        keys=[generate_key()],
        public_url=None,
        development=True,
        sandbox_url=sandbox_url,
        host=_LOCAL,
        port=port,
        zone="UTC",
    )
    async with open_hub(settings, plugins=plugins, clock=clock, upgrade=True) as hub:
        yield hub


async def _furnish(hub: Hub) -> None:
    """Connect the shop and the sender, and publish the example recipes."""
    for connector, (name, fields) in _CONNECTIONS.items():
        await hub.connections.add(connector, name, fields, sandbox=True)
    purposes, *recipes = recipe_files([examples.folder()])
    await hub.library.apply_purposes(purposes.read_text(encoding="utf-8"), file=str(purposes))
    for path in recipes:
        await hub.library.apply(path.read_text(encoding="utf-8"), file=str(path), publish=True)


async def _inbound(hub: Hub) -> dict[str, dict[str, Json]]:
    """What a sandbox must be told to reach the hub, by connector."""
    addresses = {c.connector: hub.connections.inbound_url(c) for c in await hub.connections.all()}
    return {
        "shopify": {"address": addresses["shopify"], "shop": SHOP},
        "twilio": {"address": addresses["twilio"], "account": _ACCOUNT, "to_number": _SENDER},
    }


def _next_morning_ms(now_ms: int) -> int:
    midnight = to_datetime(now_ms).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(midnight.timestamp() * 1000) + _DAY_MS + STARTS_AT_H * 3_600_000
