"""The command line for tests: commands in this process, and real processes where a process is what matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli import app
from hub.plugins import load_plugins
from tests import acme, guestbook
from tests.conftest import Running
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


Start = Callable[..., AbstractAsyncContextManager[Running]]
"""Starts a hub for a test, on a database."""


@pytest.fixture
def erasing(running: Start) -> Start:
    """A hub with Acme and Guestbook."""
    plugins = load_plugins(extra=[acme, guestbook])

    @asynccontextmanager
    async def start(database_url: str, **more: Any) -> AsyncIterator[Running]:
        async with running(database_url, plugins=plugins, beside=[GuestbookSandbox], **more) as it:
            await it.hub.connections.add("guestbook", "guestbook", {"account": "main"}, sandbox=True)
            yield it

    return start
