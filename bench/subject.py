"""The hub that is measured: the real `hub` commands as processes, with `bench.vendor` found like any installed plugin."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import vendor
from bench.load import Load
from bench.processes import (
    ROOT,
    Process,
    answers,
    free_port,
    result_of,
    running,
    says,
    start_generating,
    wait_until,
)
from bench.servers import Receiver, ask, fresh_database, receiver
from bench.setting import Setting
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import Settings, load_settings
from hub.store import migrate
from hub.store.session import Store
from hub.vault import generate_key

WORKERS = 2
HUB = str(Path(sys.executable).with_name("hub"))


@dataclass(frozen=True)
class Subject:
    """A database with one connection and at most one published recipe, and the processes that can run on it."""

    environment: Mapping[str, str]
    url: str
    hook: str
    folder: Path
    database_url: str

    def publish(self, *recipes: str) -> None:
        """Publish recipes; the processes see them at their next look."""
        asyncio.run(_publish(_settings(self.environment), recipes))

    def api(self) -> AbstractContextManager[Process]:
        """`hub api`."""
        return self._running("api", answers(f"{self.url}/health/live"))

    def worker(self, number: int) -> AbstractContextManager[Process]:
        """`hub worker`, one of several."""
        return self._running("worker", says("working"), f"worker-{number}")

    def up(self) -> AbstractContextManager[Process]:
        """`hub up`."""
        return self._running("up", answers(f"{self.url}/health/live"))

    @contextmanager
    def _running(self, command: str, ready: Callable[[Process], bool], name: str = "") -> Iterator[Process]:
        environment = dict(self.environment)
        with running(
            name or command, [HUB, command], folder=self.folder, ready=ready, environment=environment
        ) as process:
            yield process


@dataclass(frozen=True)
class Running:
    """A hub at work, and the server that it calls."""

    subject: Subject
    calls: Receiver
    processes: Sequence[Process]

    def throughput(self, first: int, count: int) -> float:
        """Runs per second of `count` orders with two calls each, from the first webhook sent to the last call made."""
        before = self.calls.total()
        generating = start_generating(Load(url=self.subject.hook, first=first, count=count))
        try:
            self.wait_for_calls(before + 2 * count)
            ended = time.monotonic()
        finally:
            result = result_of(generating)
        return count / (ended - result.started)

    def send(self, word: str, topic: str) -> None:
        """One webhook that `vendor.webhook` makes."""
        headers, body = vendor.webhook(word, topic)
        with urllib.request.urlopen(urllib.request.Request(self.subject.hook, body, headers), timeout=10):
            pass

    def wait_for_calls(self, count: int) -> None:
        """Until so many calls arrived. Raises RuntimeError when it takes too long, as the others here."""
        wait_until(lambda: self.calls.total() >= count, f"{count} calls")

    def wait_for_paths(self, paths: Iterable[str]) -> None:
        """Until each of these paths was called."""
        wanted = set(paths)
        wait_until(lambda: wanted <= self.calls.times().keys(), f"{len(wanted)} calls")

    def wait_for_runs(self, count: int) -> None:
        """Until so many runs are finished."""
        statement = "select count(*) from run where finished_at is not null"
        wait_until(lambda: int(self.ask(statement)) >= count, f"{count} finished runs")

    def wait_for_rest(self) -> None:
        """Until nothing is left to route or to do."""
        statement = "select (select count(*) from event where stage = 'route') + (select count(*) from work where kind <> 'upkeep')"
        wait_until(lambda: int(self.ask(statement)) == 0, "an end of the work")

    def require_once_each(self, runs: int) -> None:
        """Raise RuntimeError unless each run made both of its calls once."""
        found = self.calls.counts()
        if found != {"notes": [runs, runs], "tags": [runs, runs]}:
            raise RuntimeError(f"{runs} runs should have made both calls once each; they made (all, distinct): {found}")

    def ask(self, statement: str) -> Any:  # one value of any type
        """The first value a statement returns, None without a row."""
        url = self.subject.database_url
        if url.startswith("postgresql"):
            return ask(url, statement)
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            row = connection.execute(statement).fetchone()
            return row[0] if row else None


@contextmanager
def distributed(
    setting: Setting, name: str, recipe: str, workers: int = WORKERS, *, concurrency: int | None = None
) -> Iterator[Running]:
    """One api process and several workers on PostgreSQL and Redis. `concurrency` is what the vendor declares, None nothing."""
    with ExitStack() as stack:
        calls = stack.enter_context(receiver(setting.folder))
        subject = prepare(
            setting.folder / name,
            recipe=recipe,
            database_url=fresh_database(setting.postgres),
            redis_url=setting.redis,
            receiver_url=calls.url,
            concurrency=concurrency,
        )
        processes = [stack.enter_context(subject.worker(number)) for number in range(workers)]
        yield Running(subject, calls, [stack.enter_context(subject.api()), *processes])


@contextmanager
def embedded(setting: Setting, name: str, recipe: str) -> Iterator[Running]:
    """Everything in one process on SQLite."""
    with receiver(setting.folder) as calls:
        subject = prepare(setting.folder / name, recipe=recipe, receiver_url=calls.url)
        with subject.up() as process:
            yield Running(subject, calls, [process])


def prepare(
    folder: Path,
    *,
    recipe: str | None = None,
    database_url: str | None = None,
    redis_url: str | None = None,
    receiver_url: str = "http://127.0.0.1:9",
    concurrency: int | None = None,
) -> Subject:
    """Make the schema, one connection in sandbox mode (led to the receiver) and the recipe.

    Without `database_url` it is for `hub up`, on a SQLite file in `folder`.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "HUB_DATA_DIR": str(folder),
        "HUB_DATABASE_URL": database_url or f"sqlite:///{folder / 'hub.db'}",
        "HUB_KEYS": generate_key(),
        "HUB_PORT": str(port),
        "HUB_SANDBOX_URL": receiver_url,
        "HUB_LOG_LEVEL": "WARNING",
        # The same few people order again and again, faster than any loop.
        "HUB_LOOP_ENTRIES": "1000000",
        "HUB_WEBHOOKS_PER_S": "0",
        "HUB_PRIVATE_HOSTS": "localhost",  # where the vendor that refuses connections is
        **({"HUB_REDIS_URL": redis_url} if redis_url else {}),
    }
    key = asyncio.run(_fill(_settings(given), recipe))
    environment = {
        **given,
        **({vendor.CONCURRENCY: str(concurrency)} if concurrency else {}),
        "PYTHONPATH": os.pathsep.join(
            [str(_plugin_folder(folder)), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    url = f"http://127.0.0.1:{port}"
    return Subject(environment, url, f"{url}/webhooks/{vendor.NAME}/{key}", folder, given["HUB_DATABASE_URL"])


def _settings(environment: Mapping[str, str]) -> Settings:
    given = {name: value for name, value in environment.items() if name.startswith("HUB_")}
    return load_settings(**{name.removeprefix("HUB_").lower(): value for name, value in given.items()})


async def _publish(settings: Settings, recipes: Sequence[str]) -> None:
    async with open_hub(settings, plugins=load_plugins(extra=[vendor])) as hub:
        for recipe in recipes:
            await hub.library.apply(recipe, publish=True)


async def _fill(settings: Settings, recipe: str | None) -> str:
    store = Store(settings.store_url())
    await migrate.upgrade(store)
    await store.close()
    async with open_hub(settings, plugins=load_plugins(extra=[vendor])) as hub:
        connection = await hub.connections.add(vendor.NAME, vendor.NAME, {"account": vendor.ACCOUNT}, sandbox=True)
        if recipe:
            await hub.library.apply(recipe, publish=True)
        return connection.inbound_key


def _plugin_folder(folder: Path) -> Path:
    """A folder that makes `bench.vendor` an installed plugin for whoever has it on PYTHONPATH."""
    site = folder / "site"
    about = site / "bench_vendor-0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-vendor\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[hub]\nbench = bench.vendor\n")
    return site
