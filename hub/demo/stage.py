"""The demo's hub: embedded, in a folder of its own, with sandboxes and API on free local ports and a clock that jumps."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import aiohttp

from hub.api.app import make_app
from hub.api.serving import answering
from hub.clock import DAY_MS, Clock, to_datetime
from hub.demo import examples
from hub.demo.day import PAGE, STARTS_AT_H, Moment
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
_AD_ACCOUNT = f"act_{PAGE}"
# Those that the recipes name by the ids that the sandbox gives them.
_AUDIENCES = ("Open carts", "Leads")
# What the boxes of the lead form allow.
_BOXES = "offers_by_email=email offers_by_sms=sms"
_LIST, _FORM, _PORTAL, _MAIL_ACCOUNT = "a6b5da1054", "f0000000-0000-4000-8000-000000000000", "62515", "main"


@dataclass(frozen=True)
class Wanted:
    """A connection of the demo: its name, its settings, and the kind of credentials where there are several."""

    name: str
    fields: Mapping[str, str]
    auth: str | None = None


CONNECTIONS = {
    "shopify": Wanted("shop", {"shop": SHOP}),
    "twilio": Wanted("sms", {"account_sid": _ACCOUNT, "from_number": _SENDER}),
    "hubspot": Wanted("crm", {"portal_id": _PORTAL, "watched_forms": _FORM}, "token"),
    "mailchimp": Wanted("news", {"account": _MAIL_ACCOUNT, "lists": _LIST}, "api_key"),
    "mandrill": Wanted("mail", {"account": _MAIL_ACCOUNT, "from_email": "hello@shop.example.com"}),
    "facebook_ads": Wanted(
        "ads", {"ad_account_id": _AD_ACCOUNT, "page_id": PAGE, "consent_checkboxes": _BOXES}, "system_user"
    ),
}
"""The demo's connections, by connector."""
_LOCAL = "127.0.0.1"

POLLED = ("hubspot.form_submitted", "facebook_ads.lead_submitted")
"""What vendors are asked for. The day has nothing for the other polls, and they would be made 5,000 times."""


class _Carrier(Protocol):
    """What the demo asks of Twilio's sandbox beside what all sandboxes have: numbers that cannot be reached."""

    undeliverable: dict[str, int]


class _Mailer(Protocol):
    """The same of Mailchimp Transactional's: its webhooks, by account and number."""

    webhooks: dict[str, dict[int, dict[str, Json]]]


class _Audience(Protocol):
    """An audience's webhooks, by their ids."""

    webhooks: dict[str, dict[str, Json]]


class _Account(Protocol):
    """An account's audiences, by their ids."""

    lists: dict[str, _Audience]


class _Marketer(Protocol):
    """The same of Mailchimp Marketing's: its accounts, by name."""

    accounts: dict[str, _Account]


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
        if "error" in said:
            raise ConfigError(f"{moment.story}: {moment.connector}'s sandbox refuses it: {said['error']}")
        if moment.answered is not None and said.get("status") != moment.answered:
            raise ConfigError(
                f"{moment.story}: the hub answered {said.get('status')} to {moment.connector}'s webhook, not "
                f"{moment.answered}; run `hub doctor`, and report it if that finds nothing"
            )

    @property
    def connectors(self) -> Collection[str]:
        """The connectors of the day."""
        return CONNECTIONS

    async def ask_no_more(self) -> None:
        """From now on vendors are asked for nothing."""
        await _ask_no_more(self.hub)

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


OPENING = Moment(
    0,
    "facebook_ads",
    "business",
    "an ad account is opened",
    {"ad_account": _AD_ACCOUNT, "page": PAGE, "audiences": list(_AUDIENCES)},
    answered=None,
)
"""What is there at Meta before the day begins."""


def register(stands: Mapping[str, Sandbox], inbound: Mapping[str, Mapping[str, Json]]) -> None:
    """Register the hub at those vendors that call where they were told to, in the stand-ins of connectors."""
    mailer, marketer = stands["mandrill"], stands["mailchimp"]
    events = ["send", "open", "click", "hard_bounce", "soft_bounce", "spam", "unsub", "reject"]
    cast("_Mailer", mailer).webhooks[_MAIL_ACCOUNT] = {
        1: {
            "id": 1,
            "url": inbound["mandrill"]["address"],
            "description": "Tetik Hub",
            "events": events,
            "auth_key": mailer.secret(_MAIL_ACCOUNT, "webhook_keys"),
        }
    }
    kinds = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
    cast("_Marketer", marketer).accounts[_MAIL_ACCOUNT].lists[_LIST].webhooks["1"] = {
        "id": "1",
        "list_id": _LIST,
        "url": inbound["mailchimp"]["address"],
        "events": dict.fromkeys(kinds, True),
        "sources": {"user": True, "admin": True, "api": False},
        "secret": marketer.secret(_MAIL_ACCOUNT, "signing_secrets"),
    }


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Everything that the day needs, from nothing; nothing is left behind. Raises ConfigError without the plugins."""
    plugins, clock = load_plugins(), Clock()
    if missing := CONNECTIONS.keys() - plugins.catalogue.connectors.keys():
        wanted = " ".join(f"tetik-hub-{name}" for name in sorted(missing))
        raise ConfigError(f"the demo needs the connectors {', '.join(sorted(missing))}: run `pip install {wanted}`")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-demo-", ignore_cleanup_errors=True))
        server = await stack.enter_async_context(sandboxes(plugins, clock, host=_LOCAL, port=0))
        listener = stack.enter_context(socket.create_server((_LOCAL, 0)))
        port = listener.getsockname()[1]
        hub = await stack.enter_async_context(_hub(Path(folder), port, server.url, plugins, clock))
        # The night before has nothing to do, so that nobody needs to work yet.
        start_ms = next_morning_ms(clock.now_ms())
        await hub.time.advance(start_ms, ring=hub.ring)
        await _connect(hub)
        calls = await stack.enter_async_context(aiohttp.ClientSession())
        addresses = {c.connector: hub.connections.inbound_url(c) for c in await hub.connections.all()}
        stage = Stage(hub, server, start_ms, calls, inbound_of(addresses))
        await stage.happen(OPENING)
        register(server.sandboxes, inbound_of(addresses))
        await _publish(hub)
        await stack.enter_async_context(receiving(hub))
        await stack.enter_async_context(answering(make_app(hub), listener))
        await stack.enter_async_context(working(hub))
        yield stage


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


async def _connect(hub: Hub) -> None:
    """Connect everything, and leave out the polls that the day has nothing for."""
    for connector, wanted in CONNECTIONS.items():
        await hub.connections.add(connector, wanted.name, wanted.fields, sandbox=True, auth=wanted.auth)
    await _ask_no_more(hub, but=POLLED)


async def _ask_no_more(hub: Hub, *, but: Collection[str] = ()) -> None:
    """Make no polls from now on, except of these triggers."""
    async with hub.store.write() as c:
        polls = await c.all("select ref from work where kind = 'poll'")
        for ref in (row["ref"] for row in polls):
            if ref.partition("|")[2] not in but:
                await c.run("delete from work where kind = 'poll' and ref = :ref", ref=ref)


async def _publish(hub: Hub) -> None:
    """Publish the example recipes."""
    purposes, *recipes = recipe_files([examples.folder()])
    await hub.library.apply_purposes(purposes.read_text(encoding="utf-8"), file=str(purposes))
    for path in recipes:
        await hub.library.apply(path.read_text(encoding="utf-8"), file=str(path), publish=True)


def inbound_of(addresses: Mapping[str, str]) -> dict[str, dict[str, Json]]:
    """What a sandbox must be told to reach the hub, by connector, from the connections' webhook addresses."""
    return {
        "shopify": {"address": addresses["shopify"], "shop": SHOP},
        "twilio": {"address": addresses["twilio"], "account": _ACCOUNT, "to_number": _SENDER},
        "facebook_ads": {"address": addresses["facebook_ads"], "page": PAGE},
        "mailchimp": {"address": addresses["mailchimp"]},
        "mandrill": {"address": addresses["mandrill"]},
    }


def next_morning_ms(now_ms: int) -> int:
    """Hub time at which the next day of the demo begins."""
    midnight = to_datetime(now_ms).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(midnight.timestamp() * 1000) + DAY_MS + STARTS_AT_H * 3_600_000
