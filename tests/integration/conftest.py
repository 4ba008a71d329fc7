"""The command line for tests: commands in this process, and real processes where a process is what matters."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from hub import engine
from hub.api.app import make_app
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.cli import app
from hub.clock import Clock
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, working
from hub.settings import Settings, load_settings
from hub.testing.sandbox import SandboxServer
from hub.vault import generate_key
from tests import acme as acme_plugin
from tests import depot as depot_plugin
from tests import guestbook as guestbook_plugin
from tests.acme import AcmeSandbox
from tests.conftest import PURPOSES, Running, free_port
from tests.depot import DepotSandbox, signed
from tests.guestbook import GuestbookSandbox

_COMMAND = [sys.executable, "-c", "from hub.cli import main; main()"]
_START_S = 20


@dataclass
class Cli:
    """Runs `hub …` in this process on a data directory of the test's own."""

    data_dir: Path

    def __call__(self, *arguments: str, input: str | None = None) -> Result:
        """Run a command; returns its output and exit code."""
        return CliRunner().invoke(app, list(arguments), input=input)

    def json(self, *arguments: str) -> Any:
        """What a command prints with `--json`."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def empty_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line where no hub was ever started."""
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")
    return Cli(tmp_path / "data")


@pytest.fixture
def cli(empty_cli: Cli) -> Cli:
    """The command line on a database with the schema."""
    result = empty_cli("db", "upgrade")
    assert result.exit_code == 0, result.output
    return empty_cli


@dataclass
class Process:
    """A running `hub …`, its output in files."""

    popen: subprocess.Popen[bytes]
    out: Path
    err: Path

    def wait_for(self, text: str) -> str:
        """Wait until the process has printed `text`; returns all it has printed."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            printed = self.out.read_text()
            if text in printed:
                return printed
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {printed}{self.err.read_text()}"
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not printed in {_START_S} s: {printed}{self.err.read_text()}")

    def end(self) -> int:
        """Ask it to end; returns its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=_START_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `hub …` processes, which end with the test at the latest."""
    running: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        out, err = tmp_path / f"out{len(running)}", tmp_path / f"err{len(running)}"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                [*_COMMAND, *arguments], stdout=stdout, stderr=stderr, env={**os.environ, **environment}, cwd=tmp_path
            )
        process = Process(popen, out, err)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


@dataclass
class Warehouse:
    """A hub with a connection of Depot's, its sandbox, and its API over real HTTP."""

    hub: Hub
    sandbox: DepotSandbox
    settings: Settings
    session: aiohttp.ClientSession
    url: str
    key: str

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        """One request of the API; returns the status and the JSON answer."""
        headers = {"Authorization": f"Bearer {self.key}"}
        url = f"{self.url}/api/v1{path}"
        async with self.session.request(method, url, json=body, params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    async def deliver(self, topic: str, body: dict[str, Any]) -> int:
        """Send a signed webhook through the door; returns the reply's status."""
        connection = await self.hub.connections.by_name("depot")
        payload, headers = signed(topic, body)
        async with self.session.post(
            f"{self.url}/webhooks/depot/{connection.inbound_key}", data=payload, headers=headers
        ) as answer:
            return answer.status

    async def rest(self, by_ms: int = 0) -> None:
        """Let hub time pass, and wait until nothing is due any more."""
        await self.hub.time.advance(self.hub.clock.now_ms() + by_ms, ring=self.hub.ring)

    async def rows(self, statement: str, **given: Any) -> list[dict[str, Any]]:
        """What a statement finds."""
        async with self.hub.store.read() as c:
            return [dict(row) for row in await c.all(statement, **given)]


@pytest.fixture
def warehouse(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Warehouse]]:
    """`async with warehouse(database_url) as it`: a hub at work with one connection each of Depot and Acme."""

    @asynccontextmanager
    async def start(
        database_url: str, *, work: bool = True, acme: bool = True, **settings: Any
    ) -> AsyncIterator[Warehouse]:
        clock = Clock()
        vendor = DepotSandbox(clock)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        async with (
            SandboxServer({"depot": vendor, "acme": AcmeSandbox(clock)}) as server,
            aiohttp.ClientSession() as session,
        ):
            made = load_settings(
                database_url=database_url,
                keys=[generate_key()],
                sandbox_url=server.url,
                public_url=url,
                data_dir=tmp_path,
                development=True,
                **settings,
            )
            plugins = load_plugins(extra=[acme_plugin, depot_plugin])
            async with open_hub(made, plugins=plugins, clock=clock) as hub:
                with socket.create_server(("127.0.0.1", port)) as listener:
                    async with answering(make_app(hub), listener):
                        key = await create_api_key(hub.store, "test", "write", 0)
                        await hub.connections.add("depot", "depot", {"account": "main"}, sandbox=True)
                        if acme:
                            await hub.connections.add("acme", "acme", {"account": "main"}, sandbox=True)
                        await hub.library.apply_purposes(PURPOSES)
                        async with hub.store.write() as c:
                            await c.run("delete from work where kind = 'poll'")
                        it = Warehouse(hub, vendor, made, session, url, key)
                        if not work:
                            yield it
                            return
                        async with working(hub):
                            yield it

    return start


Start = Callable[..., AbstractAsyncContextManager[Running]]
"""Starts a hub for a test, on a database."""


@pytest.fixture
def erasing(running: Start) -> Start:
    """A hub with Acme and Guestbook."""
    plugins = load_plugins(extra=[acme_plugin, guestbook_plugin])

    @asynccontextmanager
    async def start(database_url: str, **more: Any) -> AsyncIterator[Running]:
        async with running(database_url, plugins=plugins, beside=[GuestbookSandbox], **more) as it:
            await it.hub.connections.add("guestbook", "guestbook", {"account": "main"}, sandbox=True)
            yield it

    return start


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`poison("s-2")`: from now on whoever routes the event of this id fails over it."""
    admits = engine.admits

    def poisoned(id_: str) -> None:
        def explode(program: Any, event_type: str, event: Any, connection: str) -> Any:
            if event["id"] == id_:
                raise RecursionError
            return admits(program, event_type, event, connection)

        monkeypatch.setattr(engine, "admits", explode)

    return poisoned
