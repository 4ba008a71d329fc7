"""Signed webhooks accepted per second, and how long each waits for its answer, at 64 keep-alive connections."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.floors.web import PATH
from bench.load import Load, Result
from bench.processes import Process, answers, free_port, generate, running
from bench.report import Row
from bench.servers import fresh_database
from bench.setting import Setting
from bench.subject import prepare

_NAME = "ingest"


def measure(setting: Setting) -> Iterator[Row]:
    """The floors first, then the hub on both databases."""
    count = 2_000 if setting.quick else 30_000
    bare: dict[str, Result] = {}
    for kind, arguments in {"nothing": [], "insert": [fresh_database(setting.postgres)]}.items():
        with floor(setting.folder, kind, arguments) as url:
            bare[kind] = _measured(url, count)
        title = {"nothing": "FastAPI doing nothing", "insert": "one insert per request"}[kind]
        yield Row(_NAME, f"floor: {title}", bare[kind].per_s, "req/s")
        yield Row(_NAME, f"floor: {title}, p99", bare[kind].p99_ms, "ms")
    on_postgres = prepare(setting.folder / "ingest-api", database_url=fresh_database(setting.postgres))
    with on_postgres.api():
        yield from _rows("hub api, PostgreSQL", _measured(on_postgres.hook, count), bare, 2_500)
    on_sqlite = prepare(setting.folder / "ingest-up")
    with on_sqlite.up():
        yield from _rows("hub up, SQLite", _measured(on_sqlite.hook, count), bare, None)


def _rows(title: str, result: Result, bare: dict[str, Result], target: float | None) -> Iterator[Row]:
    yield Row(_NAME, title, result.per_s, "req/s", ("one insert per request", bare["insert"].per_s), target)
    yield Row(_NAME, f"{title}, p50", result.p50_ms, "ms", less=True)
    yield Row(_NAME, f"{title}, p99", result.p99_ms, "ms", target=50 if target else None, less=True)


def _measured(url: str, count: int) -> Result:
    """After a warm-up: one call alone, since the first one of a process reads what it needs, then a tenth."""
    warm = count // 10
    generate(Load(url=url, first=0, count=1, connections=1))
    generate(Load(url=url, first=1, count=warm - 1))
    return generate(Load(url=url, first=warm, count=count))


@contextmanager
def floor(folder: Path, kind: str, arguments: list[str]) -> Iterator[str]:
    """A bare web floor; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ready: Callable[[Process], bool] = answers(url)
    command = [sys.executable, "-m", "bench.floors.web", kind, str(port), *arguments]
    with running(f"floor-{kind}", command, folder=folder, ready=ready):
        yield f"{url}{PATH}"
