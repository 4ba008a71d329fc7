"""`python -m bench [names] [--quick]`: measure in one run and print one table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import growth, ingest, isolation, lists, memory, runs, start, waits
from bench.report import Row, machine, table
from bench.servers import ask, postgres, redis
from bench.setting import Setting

BENCHMARKS: dict[str, Callable[[Setting], Iterable[Row | str]]] = {
    "start": start.measure,
    "ingest": ingest.measure,
    "runs": runs.measure_throughput,
    "latency": runs.measure_latency,
    "isolation": isolation.measure,
    "memory": memory.measure,
    "waits": waits.measure,
    "growth": growth.measure,
    "lists": lists.measure,
}
# These fill tables with a million rows, and are measured when they are named.
_LONG = ("waits", "growth", "lists")


def main() -> None:
    """Run the benchmarks named, or all."""
    given = _arguments()
    rows: list[Row] = []
    notes: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        database_url = stack.enter_context(postgres())
        redis_url = stack.enter_context(redis())
        setting = Setting(folder, database_url, redis_url, given.quick, given.rows, given.httpx_python)
        notes.append(machine(ask(database_url, "show server_version")))
        notes.append(_durability(database_url))
        for name in given.names or [name for name in BENCHMARKS if name not in _LONG]:
            for found in BENCHMARKS[name](setting):
                print(f"{name}: {found}", file=sys.stderr, flush=True)
                if isinstance(found, Row):
                    rows.append(found)
                else:
                    notes.append(found)
    print("\n".join([table(rows), "", *notes]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the hub next to bare floors.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: all but {', '.join(_LONG)})"
    )
    parser.add_argument("--quick", action="store_true", help="smaller numbers, about a minute in total")
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help="how many rows waits, growth and lists fill tables with, and events memory sends",
    )
    parser.add_argument(
        "--httpx-python",
        default=sys.executable,
        metavar="PYTHON",
        help="a Python that has dramatiq[redis] and httpx, for the bare script (default: this one)",
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(BENCHMARKS)):
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    return given


def _durability(database_url: str) -> str:
    shown = {name: ask(database_url, f"show {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")}
    return f"PostgreSQL: {', '.join(f'{k}={v}' for k, v in shown.items())}. SQLite: journal_mode=WAL, synchronous=FULL."


if __name__ == "__main__":
    main()
