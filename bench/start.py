"""How long somebody waits for the first word: `hub --help`, and `hub up` on an empty folder."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.processes import answers, free_port, running
from bench.report import Row
from bench.setting import Setting
from bench.subject import HUB

_HELP_S, _UP_S = 0.4, 3.0


def measure(setting: Setting) -> Iterator[Row]:
    """The median of several starts; files are in the disk cache, as they are for everybody's second start."""
    times = 1 if setting.quick else 7
    help_s = [_help_s() for _ in range(times + 1)][1:]
    yield Row("start", "hub --help", statistics.median(help_s), "s", target=_HELP_S, less=True)
    up_s = [_up_s(setting.folder / f"start-{n}") for n in range(times)]
    what = "hub up on an empty folder, to its first answer"
    yield Row("start", what, statistics.median(up_s), "s", target=_UP_S, less=True)


def _help_s() -> float:
    began = time.monotonic()
    subprocess.run([HUB, "--help"], check=True, capture_output=True, timeout=30)
    return time.monotonic() - began


def _up_s(folder: Path) -> float:
    folder.mkdir()
    port = free_port()
    environment = {"HUB_DATA_DIR": str(folder / "data"), "HUB_PORT": str(port)}
    ready = answers(f"http://127.0.0.1:{port}/health/live")
    began = time.monotonic()
    with running("up", [HUB, "up"], folder=folder, ready=ready, environment=environment):
        return time.monotonic() - began
