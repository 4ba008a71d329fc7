"""Real processes of the hub, started by its own command line and ended by their own ids."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from hub.vault import generate_key

HUB = [sys.executable, "-c", "from hub.cli import main; main()"]
START_S = 60.0


class Process:
    """One process of the hub; its output goes to a file that a failing test can show."""

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("w") as out:
            self._process = subprocess.Popen(
                [*HUB, *arguments], env={**os.environ, **environment}, cwd=folder, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, what: signal.Signals) -> None:
        self._process.send_signal(what)

    def wait(self, limit_s: float = 40.0) -> int:
        return self._process.wait(limit_s)

    def end(self) -> None:
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Settings of the processes of one test."""
    base = {"HUB_DATA_DIR": str(folder / "data"), "HUB_LOG_LEVEL": "INFO", "PYTHONWARNINGS": "default"}
    return base | {f"HUB_{name.upper()}": value for name, value in settings.items()}


def distributed(folder: Path, database_url: str, redis_url: str, port: int, sandbox_port: int) -> dict[str, str]:
    """Settings of a hub of several processes."""
    return environment(
        folder,
        database_url=database_url,
        redis_url=redis_url,
        keys=generate_key(),
        port=str(port),
        sandbox_url=f"http://127.0.0.1:{sandbox_port}",
        development="true",
    )


@contextmanager
def started(*processes: Process) -> Iterator[None]:
    """End every one of these at the end, whatever happened; show their logs when it went wrong."""
    try:
        yield
    except BaseException:
        for process in processes:
            sys.stderr.write(f"--- {process.name}\n{process.log.read_text()[-4000:]}\n")
        raise
    finally:
        for process in processes:
            process.end()


def command(arguments: list[str], environment_: Mapping[str, str], folder: Path, *, ok: int | None = 0) -> str:
    """Run one command of the hub to its end; returns what it printed."""
    done = subprocess.run(
        [*HUB, *arguments],
        env={**os.environ, **environment_},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ok is None or done.returncode == ok, (
        f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout + done.stderr


class Api:
    """The REST API of a running hub."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session, self.url, self._key = session, url, key

    async def call(self, method: str, path: str, body: Any = None, *, status: int | None = None) -> Any:
        """One call; returns the JSON answer. Asserts the status, or any below 300."""
        headers = {"Authorization": f"Bearer {self._key}"}
        async with self._session.request(method, self.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            expected = answer.status == status if status else answer.status < 300
            assert expected, f"{method} {path}: {answer.status} {text}"
            return await answer.json(content_type=None)


async def until_live(session: aiohttp.ClientSession, url: str, process: Process) -> float:
    """Wait until a process answers; returns how long it took in seconds."""
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        assert process.running, f"{process.name} ended: {process.log.read_text()[-2000:]}"
        try:
            async with session.get(url) as answer:
                if answer.status < 500:
                    return time.monotonic() - began
        except aiohttp.ClientError:
            pass  # not listening yet: that is what is waited for
        await asyncio.sleep(0.05)
    raise AssertionError(f"{process.name} did not answer within {START_S} s")
