"""A stretch of network between the hub and PostgreSQL that a test can freeze, cut and mend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from sqlalchemy import make_url

from tests.conftest import free_port


class Proxy:
    """Forwards a local port to a PostgreSQL server. `url` leads through it."""

    def __init__(self, database_url: str) -> None:
        self._given = make_url(database_url)
        self._port = free_port()
        self._flows, self._is_cut = asyncio.Event(), False
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        plain = self._given.set(host="127.0.0.1", port=self._port, query={})
        return plain.render_as_string(hide_password=False)

    @classmethod
    @asynccontextmanager
    async def to(cls, database_url: str) -> AsyncIterator[Self]:
        proxy = cls(database_url)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", proxy._port)
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Nothing passes any more, in either direction, and nobody is told."""
        self._flows.clear()

    def cut(self) -> None:
        """Every connection is closed, and new ones are closed at once."""
        self._is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """All flows again."""
        self._is_cut = False
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "servers run handlers as tasks"
        self._tasks.add(task)
        self._open.add(writer)
        with suppress(OSError):
            if not self._is_cut:
                await self._forward(reader, writer)
        writer.transport.abort()
        self._open.discard(writer)
        self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        folder = self._given.query.get("host")
        if folder:
            there, back = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{self._given.port or 5432}")
        else:
            there, back = await asyncio.open_connection(self._given.host, self._given.port or 5432)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(there, writer))
        finally:
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
