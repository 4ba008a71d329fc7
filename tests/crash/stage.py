"""A hub of real processes with a vendor that survives it: started, armed, killed, frozen and mended by tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from hub.vault import generate_key
from tests.acceptance.processes import Api, Process, command, environment, until_live
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "plugin"
LEASE_S = 3.0
ENDS_WITHIN_S = 30.0

RECIPE = """
recipe: crowd
on: {event: acme.signed_up}
exit_on:
  - {event: acme.purchased}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:note"}}
  - {do: acme.add_keyed, with: {key: "{{ trigger.id }}:keyed"}}
  - {do: acme.charge, with: {key: "{{ trigger.id }}:charge"}, on_unknown: continue}
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "{{ trigger.id }}:text"}, as: sms}
  - {do: acme.add_members, with: {audience: crowd, email: "{{ trigger.email }}"}}
  - wait: 500ms
  - wait_for:
      clicked: {event: acme.clicked, match: {event.cart: "{{ trigger.id }}"}}
    timeout: 5m
    since: sms
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:end"}}
"""
PURPOSES = "orders: {channel: sms, class: transactional}"


class Stage:
    """The processes of one hub on one database, and its vendor's stand-in in a process that nobody kills.

    With `redis_url` it is `hub api` and two `hub worker`s, else one `hub up`. `at_work` is who makes the calls. The test
    itself looks at the database by `looked_at`, where the processes' own way to it is to be disturbed. With `hooked` a
    plugin writes down in the file `told` what it is told.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        redis_url: str | None = None,
        *,
        looked_at: str | None = None,
        hooked: bool = False,
    ) -> None:
        self.folder, self.redis_url = folder, redis_url
        self.looked_at = looked_at or database_url
        self.told = folder / "told" if hooked else None
        self.port = free_port()
        # The next one is free as well, and nobody else is given it.
        self.vendor_port = self.port + 1
        self.url = f"http://127.0.0.1:{self.port}"
        self.vendor_url = f"http://127.0.0.1:{self.vendor_port}/acme"
        self.settings = {
            **environment(
                folder,
                database_url=database_url,
                keys=generate_key(),
                port=str(self.port),
                sandbox_url=f"http://127.0.0.1:{self.vendor_port}",
                development="true",
                lease_s=str(LEASE_S),
                **({"redis_url": redis_url} if redis_url else {}),
            ),
            **({"CRASH_TOLD": str(self.told)} if self.told else {}),
            "CRASH_SEAM": str(folder / "seam"),
            "PYTHONPATH": os.pathsep.join([str(PLUGIN), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.distributed = redis_url is not None
        self.webhook_url = self.key = ""
        self.processes: list[Process] = []

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self, name: str, *arguments: str, **more: str) -> Process:
        """Start `hub NAME`; `more` are settings of this process alone, or plain variables where written in capitals."""
        own = {key if key.isupper() else f"HUB_{key.upper()}": value for key, value in more.items()}
        process = Process(f"{len(self.processes):03d}-{name}", [name, *arguments], self.settings | own, self.folder)
        self.processes.append(process)
        return process

    async def open(self, session: aiohttp.ClientSession) -> None:
        """Start everything and set up connections, purposes and recipes."""
        self.start_vendor()
        if self.distributed:
            made = command(["api-keys", "create", "test", "--scope", "write", "--json"], self.settings, self.folder)
            self.key = json.loads(made)["key"]
            self.door = self.start("api")
            self.at_work, self.spare = self.start("worker"), self.start("worker")
        else:
            self.door = self.at_work = self.spare = self.start("up")
        await until_live(session, f"{self.vendor_url}/_sandbox/log", self.door)
        await until_live(session, f"{self.url}/health/ready", self.door)
        if not self.distributed:
            self.key = (self.folder / "data" / "api-key").read_text().strip()
        await self.furnish(self.api(session))

    def start_vendor(self) -> None:
        """The sandboxes, in a process of their own."""
        self.start("sandbox", "--port", str(self.vendor_port))

    async def furnish(self, api: Api) -> None:
        """The connection, the purposes and the recipe of a hub that has just started."""
        acme: dict[str, Any] = {"connector": "acme", "name": "acme", "sandbox": True, "fields": {"account": "main"}}
        self.webhook_url = (await api.call("POST", "/api/v1/connections", acme))["webhook_url"]
        await api.call("POST", "/api/v1/purposes", {"source": PURPOSES})
        await api.call("POST", "/api/v1/recipes", {"source": RECIPE, "publish": True})

    def api(self, session: aiohttp.ClientSession) -> Api:
        """The hub's REST API."""
        return Api(session, self.url, self.key)

    async def arm(self, session: aiohttp.ClientSession, place: str, deed: str, **more: str) -> Process:
        """The process that passes there does the deed at the place; with settings of its own a fresh one stands in for it."""
        seam = f"{place}={deed}"
        if not more:
            return await self._arm_at_work(place, seam)
        if not self.distributed:
            self.kill(self.door)
            self.door = self.at_work = self.spare = self.start("up", seam=seam, **more)
            await until_live(session, f"{self.url}/health/ready", self.door)
            return self.door
        if place.startswith("ingest."):
            self.kill(self.door)
            self.door = self.start("api", seam=seam, **more)
            await until_live(session, f"{self.url}/health/ready", self.door)
            return self.door
        self.relieve(seam=seam, **more)
        # While it stands still everything passes the armed process.
        self.spare.send(signal.SIGSTOP)
        return self.at_work

    async def _arm_at_work(self, place: str, seam: str) -> Process:
        process = self.door
        if self.distributed and not place.startswith("ingest."):
            process = await self.alone()
        file = self.folder / "seam"
        file.write_text(seam)
        process.send(signal.SIGUSR1)
        await until(lambda: not file.exists(), ENDS_WITHIN_S, f"{process.name} was not armed")
        return process

    def relieve(self, **more: str) -> None:
        """A fresh worker takes the place of the one at work; the spare one stays."""
        if self.at_work is not self.spare:
            self.kill(self.at_work)
        self.at_work = self.start("worker", **more)

    async def alone(self) -> Process:
        """The process through which all work passes from now on."""
        if self.distributed:
            if self.at_work is self.spare:
                self.relieve()
            for worker in (self.at_work, self.spare):
                await until(lambda: self.has_said(worker, "working"), ENDS_WITHIN_S, f"{worker.name} has not begun")  # noqa: B023
            # While it stands still everything passes the other one.
            self.spare.send(signal.SIGSTOP)
        return self.at_work

    async def mend(self, session: aiohttp.ClientSession) -> None:
        """What ended is started again without a seam; a worker's place is taken by the spare one, and a new one is spare."""
        if not self.door.running:
            self.door = self.start("up" if not self.distributed else "api")
            await until_live(session, f"{self.url}/health/ready", self.door)
        if not self.distributed:
            self.at_work = self.spare = self.door
            return
        self.spare.send(signal.SIGCONT)
        if not self.at_work.running:
            # It comes up while the other one carries on.
            self.at_work, self.spare = self.spare, self.start("worker")

    def kill(self, process: Process) -> None:
        """kill -9, also of one that stands still."""
        if process.running:
            process.send(signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End every process."""
        for process in reversed(self.processes):
            self.kill(process)

    def has_said(self, process: Process, word: str) -> bool:
        """Whether a process has printed a word, however much it printed since."""
        return word in process.log.read_text()

    def said(self, process: Process) -> str:
        """The end of what a process printed, for a failing test."""
        return process.log.read_text()[-3000:]

    # -- the vendor ----------------------------------------------------------------------------------------------------

    async def log(self, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
        """What the vendor carried out, in its own words."""
        async with session.get(f"{self.vendor_url}/_sandbox/log") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def faults(self, session: aiohttp.ClientSession, **faults: float) -> None:
        """Let the vendor misbehave."""
        async with session.post(f"{self.vendor_url}/_sandbox/faults", json=faults) as answer:
            assert answer.status == 200, await answer.text()


async def until_ended(process: Process, limit_s: float = ENDS_WITHIN_S) -> int:
    """How a process ended, as `subprocess` says it: -9 when it was killed."""
    await until(lambda: not process.running, limit_s, f"{process.name} has not ended")
    return process.wait()


async def until_frozen(process: Process, limit_s: float = ENDS_WITHIN_S) -> None:
    """Wait until a process stands still."""
    found = psutil.Process(process.pid)
    await until(lambda: found.status() == psutil.STATUS_STOPPED, limit_s, f"{process.name} was not stopped")


async def until(true: Any, limit_s: float, otherwise: str) -> None:
    """Wait until something is true. Raises AssertionError with `otherwise` when it does not become so in time."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"{otherwise} within {limit_s} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def shown_when_wrong(stage: Stage) -> AsyncIterator[None]:
    """Print the ends of the processes' logs when a test fails."""
    try:
        yield
    except BaseException:
        for process in stage.processes[-6:]:
            print(f"--- {process.name}\n{stage.said(process)}")
        raise


@asynccontextmanager
async def meanwhile(doing: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do something beside; what is not done at the end is left."""
    task = asyncio.ensure_future(doing)
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
