"""Child processes: started with a log file, ready when they say so, ended by their own id."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.load import Load, Result

ROOT = Path(__file__).parent.parent
_READY_S = 30.0
_END_S = 10.0
_AT_MOST_S = 180.0
_LOOK_S = 0.02


@dataclass(frozen=True)
class Process:
    """A running child."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def resident_mb(self) -> float:
        """The memory it holds now."""
        return float(psutil.Process(self.popen.pid).memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """The processor time it and its children have used."""
        own = psutil.Process(self.popen.pid)
        times = [p.cpu_times() for p in (own, *own.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))

    def wait_until(self, ready: Callable[[Process], bool]) -> None:
        """Raise RuntimeError with the end of its log if it does not get ready."""
        end = time.monotonic() + _READY_S
        while not ready(self):
            if self.popen.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not start; the end of its log:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    ready: Callable[[Process], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """A child process that is ready; it is asked to end afterwards, and killed if it does not."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    process = Process(name, popen, log)
    try:
        process.wait_until(ready)
        yield process
    finally:
        popen.terminate()
        try:
            popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def answers(url: str) -> Callable[[Process], bool]:
    """Ready when this address answers anything."""

    def ready(_: Process) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    return ready


def says(words: str, *, times: int = 1) -> Callable[[Process], bool]:
    """Ready when its log holds these words so many times."""
    return lambda process: process.log.read_text().count(words) >= times


def wait_until(done: Callable[[], bool], what: str, *, at_most_s: float = _AT_MOST_S, look_s: float = _LOOK_S) -> None:
    """Look again and again until it is so. Raises RuntimeError, naming `what` was waited for, when it takes too long."""
    end = time.monotonic() + at_most_s
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"waited for {what} for more than {at_most_s:.0f} s")
        time.sleep(look_s)


def free_port() -> int:
    """A port that nobody listens on now, nor on the next one, which `hub up` gives to its sandboxes.

    Below the range that the system takes outgoing connections' ports from, so that none of these gets in the way.
    """
    while True:
        port = random.randrange(20_000, 32_000, 2)
        try:
            for wanted in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", wanted))
        except OSError:
            continue
        return port


def get(url: str) -> Any:  # whatever JSON the address answers
    """The JSON at an address."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def generate(load: Load) -> Result:
    """Run the load generator to its end. Raises RuntimeError when it fails or anything was answered but 200."""
    with start_generating(load) as generator:
        return result_of(generator)


def start_generating(load: Load) -> subprocess.Popen[bytes]:
    """Start the load generator; `result_of` waits for it."""
    command = [sys.executable, "-m", "bench.load", json.dumps(asdict(load))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def result_of(generator: subprocess.Popen[bytes]) -> Result:
    """What the load generator measured. Raises RuntimeError when it failed or anything was answered but 200."""
    out, errors = generator.communicate()
    if generator.returncode:
        raise RuntimeError(f"the load generator failed:\n{errors.decode()[-2000:]}")
    result = Result(**json.loads(out))
    if set(result.statuses) != {"200"}:
        raise RuntimeError(f"not every webhook was accepted: {result.statuses}")
    return result
