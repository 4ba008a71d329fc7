"""Whole runs: webhook, condition, two HTTP calls, every step durable; next to a script that keeps nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from statistics import median

from bench import vendor
from bench.ingest import floor
from bench.load import Load, percentile
from bench.processes import generate, result_of, running, says, start_generating, wait_until
from bench.report import Row
from bench.servers import Receiver, receiver
from bench.setting import Setting
from bench.subject import WORKERS, Running, distributed, embedded

_SCRIPT_PROCESSES, _SCRIPT_THREADS = 2, 8
_RATE = 100.0

RECIPE = """
recipe: bench
on: {event: bench.ordered}
steps:
  - if: {trigger.total: {gte: 0}}
    then:
      - {do: bench.put_note, with: {order: "{{ trigger.id }}", text: "{{ trigger.first_name }} ordered"}}
      - {do: bench.put_tag, with: {order: "{{ trigger.id }}", text: "{{ trigger.first_name }} ordered"}}
"""

_HTTPX = "floor: FastAPI, Dramatiq, httpx; nothing durable"
Start = Callable[[Setting, str, str], AbstractContextManager[Running]]


def measure_throughput(setting: Setting) -> Iterator[Row]:
    """Complete runs per second, from the first webhook sent to the last run finished: the median of rounds that alternate."""
    count, rounds = (400, 1) if setting.quick else (5_000, 3)
    hub = f"hub api + {WORKERS} hub worker, PostgreSQL, Redis"
    ways: dict[str, Callable[[str], float]] = {
        _HTTPX: lambda _: _script_per_s(setting, "httpx", count),
        "floor: FastAPI, Dramatiq, aiohttp; nothing durable": lambda _: _script_per_s(setting, "aiohttp", count),
        hub: lambda name: _whole_per_s(setting, distributed, name, count),
        "hub up, SQLite": lambda name: _whole_per_s(setting, embedded, name, count // 2),
    }
    found: dict[str, list[float]] = {title: [] for title in ways}
    for n in range(rounds):
        for place, (title, measured) in enumerate(ways.items()):
            found[title].append(measured(f"runs-{place}-{n}"))
    for title, each in found.items():
        floor = None if title.startswith("floor") else ("the httpx script", median(found[_HTTPX]))
        yield Row("runs", title, median(each), "runs/s", floor, 510.0 if title == hub else None)
    ratios = [one / bare for one, bare in zip(found[hub], found[_HTTPX], strict=True)]
    yield Row("runs", f"{hub}: of the httpx script, median of {rounds}", median(ratios), "times", target=0.9)
    yield Row("runs", f"{hub}: of the httpx script, worst of {rounds}", min(ratios), "times")


def _whole_per_s(setting: Setting, start: Start, name: str, count: int) -> float:
    with start(setting, name, RECIPE) as hub:
        return _hub_per_s(hub, count)


def measure_latency(setting: Setting) -> Iterator[Row]:
    """From a webhook's first byte sent to its first action's arrival, at a steady rate."""
    count, warm = (200, 50) if setting.quick else (2_000, 400)
    ways: Sequence[tuple[str, Start, tuple[float | None, float | None]]] = (
        ("PostgreSQL, Redis", distributed, (15.0, 60.0)),
        ("SQLite", embedded, (None, None)),
    )
    for title, start, targets in ways:
        with start(setting, f"latency-{start.__name__}", RECIPE) as hub:
            _warm_up(hub, first=count, count=warm, rate=_RATE)
            result = generate(Load(url=hub.subject.hook, first=0, count=count, rate=_RATE, keep_times=True))
            hub.wait_for_calls(2 * (count + warm))
            came = hub.calls.times()
        took_ms = [(came[f"/notes/{vendor.order(int(n))['id']}"] - sent) * 1000 for n, sent in result.sent.items()]
        for percent, target in zip((50, 99), targets, strict=True):
            what = f"webhook to first action at {_RATE:.0f}/s, {title}, p{percent}"
            yield Row("latency", what, percentile(took_ms, percent), "ms", target=target, less=True)


def _warm_up(hub: Running, *, first: int, count: int, rate: float | None = None) -> None:
    """Some runs that do not count; the very first call alone, since it makes the process read what it needs."""
    generate(Load(url=hub.subject.hook, first=first, count=1, connections=1))
    generate(Load(url=hub.subject.hook, first=first + 1, count=count - 1, rate=rate))
    hub.wait_for_runs(count)


def _hub_per_s(hub: Running, count: int) -> float:
    warm = count // 10
    _warm_up(hub, first=count, count=warm)
    generating = start_generating(Load(url=hub.subject.hook, first=0, count=count))
    try:
        hub.wait_for_calls(2 * (warm + count))
        hub.wait_for_runs(warm + count)
        ended = time.monotonic()
    finally:
        result = result_of(generating)
    hub.require_once_each(warm + count)
    return count / (ended - result.started)


# -- the script --------------------------------------------------------------------------------------------------------


def _script_per_s(setting: Setting, client: str, count: int) -> float:
    """Orders through a bare FastAPI endpoint onto Redis, and through the script, until the last call arrived."""
    warm = count // 10
    with (
        receiver(setting.folder) as calls,
        _script(setting, client, calls),
        floor(setting.folder, "enqueue", [setting.redis]) as url,
    ):
        generate(Load(url=url, first=count, count=warm))
        wait_until(lambda: calls.total() >= 2 * warm, "the script's warm-up")
        generating = start_generating(Load(url=url, first=0, count=count))
        try:
            wait_until(lambda: calls.total() >= 2 * (warm + count), "the script's calls")
            ended = time.monotonic()
        finally:
            result = result_of(generating)
    return count / (ended - result.started)


@contextmanager
def _script(setting: Setting, client: str, calls: Receiver) -> Iterator[None]:
    python = setting.httpx_python if client == "httpx" else sys.executable
    command = [python, "-m", "dramatiq", "bench.floors.script"]
    command += ["--processes", str(_SCRIPT_PROCESSES), "--threads", str(_SCRIPT_THREADS)]
    environment = {"FLOOR_REDIS": setting.redis, "FLOOR_URL": calls.url, "FLOOR_CLIENT": client}
    ready = says("ready for action", times=_SCRIPT_PROCESSES)
    with running(f"script-{client}", command, folder=setting.folder, ready=ready, environment=environment):
        yield
