"""A million runs that wait: what it costs to have them, and how late the ones that become due are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.fill import Copies, multiply
from bench.load import percentile
from bench.processes import Process, wait_until
from bench.report import Row
from bench.runs import RECIPE, Start
from bench.servers import ask
from bench.setting import Setting
from bench.subject import Running, distributed, embedded
from hub.store.session import Store

WORD = "template"
_IDLE_S = 20.0
# Time to write the copies before the first of them is due, in seconds per ten thousand of them.
_LEAD_S = 15.0
_RECIPE = """
recipe: bench-wait
on: {event: bench.visited}
exit_on: [{event: bench.ordered}]
steps:
  - wait_for: {back: {event: bench.visited, where: {event.total: {gt: 1000}}}}
    timeout: 30d
    on_timeout:
      - {do: bench.put_note, with: {order: "late-{{ trigger.id }}", text: late}}
"""


def measure(setting: Setting) -> Iterator[Row | str]:
    """Idle cost, throughput and lateness, on PostgreSQL and on SQLite; `--rows` says how many wait."""
    rows = setting.rows or (2_000 if setting.quick else 1_000_000)
    ways: tuple[tuple[str, Start], ...] = (("PostgreSQL, Redis", distributed), ("SQLite", embedded))
    for title, start in ways:
        with start(setting, f"waits-{start.__name__}", RECIPE) as hub:
            yield from _measured(setting, hub, f"{rows:,} waiting, {title}", rows)


def _measured(setting: Setting, hub: Running, title: str, rows: int) -> Iterator[Row | str]:
    count = 200 if setting.quick else 3_000
    hub.throughput(first=0, count=count // 5)
    empty = hub.throughput(first=count, count=count)
    template = waiting_run(hub)
    began = time.monotonic()
    fill(hub, template, Copies(rows, WORD))
    yield f"{title}: written in {time.monotonic() - began:.0f} s"
    yield from _idle(hub, title, 3.0 if setting.quick else _IDLE_S)
    full = hub.throughput(first=2 * count, count=count)
    yield Row("waits", f"{title}, throughput", full, "runs/s", ("an empty table", empty), 0.95 * empty)
    due = min(10_000, max(100, rows // 10))
    yield from _lateness(hub, title, template, rows + 1, due, 6.0 if setting.quick else 60.0)


def waiting_run(hub: Running) -> str:
    """A run that waits for a month, brought there by the hub itself; returns its id."""
    statement = "select id from run where status = 'waiting' and recipe = 'bench-wait'"
    hub.subject.publish(_RECIPE)
    hub.send(WORD, "visited")
    wait_until(lambda: hub.ask(statement) is not None, "a run that waits")
    return str(hub.ask(statement))


def fill(hub: Running, template: str, copies: Copies) -> None:
    """Copy a run, and leave the database as it is some time after that."""
    asyncio.run(_multiply(hub.subject.database_url, template, copies))
    if hub.subject.database_url.startswith("postgresql"):
        # Autovacuum and the checkpoint of so much writing would come in the middle of what is measured.
        for statement in ("vacuum analyze", "checkpoint"):
            ask(hub.subject.database_url, statement)


async def _multiply(database_url: str, template: str, copies: Copies) -> None:
    store = Store(database_url)
    try:
        await multiply(store, template, copies)
    finally:
        await store.close()


def _idle(hub: Running, title: str, for_s: float) -> Iterator[Row]:
    """What each process uses while nothing is due."""
    time.sleep(2)
    before = {process.name: process.cpu_s() for process in hub.processes}
    time.sleep(for_s)
    for process in hub.processes:
        percent = _percent(process, before, for_s)
        yield Row("waits", f"{title}, {process.name} idle", percent, "% CPU", target=1.0, less=True)
        yield Row("waits", f"{title}, {process.name}", process.resident_mb(), "MB", target=250.0, less=True)


def _percent(process: Process, before: dict[str, float], for_s: float) -> float:
    return 100 * (process.cpu_s() - before[process.name]) / for_s


def _lateness(hub: Running, title: str, template: str, first: int, due: int, spread_s: float) -> Iterator[Row]:
    """From the instant at which a run is due to the arrival of its call, of many that are due within a minute."""
    lead_s = 2 + _LEAD_S * due / 10_000
    due_ms, spread_ms = int((time.time() + lead_s) * 1000), int(spread_s * 1000)
    copies = Copies(due, WORD, due_ms=due_ms, spread_ms=spread_ms, first=first)
    asyncio.run(_multiply(hub.subject.database_url, template, copies))
    if time.time() * 1000 > due_ms:
        raise RuntimeError("the first runs were due before they were written; allow more time for it")
    before = hub.calls.total()
    wait_until(
        lambda: hub.calls.total() >= before + due, f"{due:,} late calls", at_most_s=lead_s + spread_s + 120, look_s=0.5
    )
    # Calls are noted in monotonic time, due times are those of the wall's clock.
    came, ahead_s = hub.calls.times(), time.time() - time.monotonic()
    late = [
        (came[f"/notes/late-{WORD}-{n}"] + ahead_s) * 1000 - (due_ms + (n - first) * spread_ms // due)
        for n in range(first, first + due)
    ]
    for percent, target in ((50, None), (99, 2_000.0)):
        what = f"{title}, {due:,} due within {spread_s:.0f} s, lateness p{percent}"
        yield Row("waits", what, percentile(late, percent), "ms", target=target, less=True)
