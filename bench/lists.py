"""Looking at what happened when there is a lot of it: the API's lists over a million runs, and commands over 100,000."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from bench.fill import Copies
from bench.report import Row
from bench.runs import RECIPE
from bench.setting import Setting
from bench.subject import HUB, Running, distributed, embedded
from bench.waits import fill
from hub.apikeys import create_api_key
from hub.store.session import Store

_LIST_MS, _READ_S = 50.0, 0.8
_LOOKS = 7
# Each question is the worst of its kind: nothing is found, or only among the oldest.
_LISTS = {
    "runs, the newest": "runs?limit=50",
    "runs, a later page": "runs?limit=50&cursor={cursor}",
    "runs of a recipe that ran once, at the beginning": "runs?recipe=bench-first",
    "runs that failed, of which there are none": "runs?status=failed",
    "runs that are parked, of which there are none": "runs?status=parked",
    "runs that wait, of which there are none": "runs?status=waiting",
    "runs that are done": "runs?status=done",
    "runs with a call of unknown outcome, of which there are none": "runs?outcome=unknown",
    "events, the newest": "events?limit=50",
    "events of a type that came once, at the beginning": "events?type=bench.visited",
    "deliveries, the newest": "deliveries?limit=50",
    "contacts, the newest": "contacts?limit=50",
}
_COMMANDS = (
    "runs list",
    "runs list --status failed",
    "events list",
    "deliveries",
    "connections list",
    "recipes list",
    "doctor",
)
_FIRST = """
recipe: bench-first
on: {event: bench.visited}
steps:
  - stop: seen
"""


def measure(setting: Setting) -> Iterator[Row | str]:
    """The median of several looks; `--rows` says how many runs there are."""
    rows = setting.rows or (5_000 if setting.quick else 1_000_000)
    with distributed(setting, "lists", RECIPE) as hub:
        _fill(hub, rows)
        api = _Api(hub)
        for title, question in _LISTS.items():
            took_ms = 1000 * statistics.median(api.looks(question))
            yield Row("lists", f"{rows:,} runs, {title}", took_ms, "ms", target=_LIST_MS, less=True)
    few = min(rows, 100_000)
    with embedded(setting, "commands", RECIPE) as hub:
        _fill(hub, few)
        for command in _COMMANDS:
            took_s = statistics.median([_run_s(hub, command) for _ in range(_LOOKS)])
            yield Row("lists", f"hub {command}, {few:,} runs on SQLite", took_s, "s", target=_READ_S, less=True)


def _fill(hub: Running, rows: int) -> None:
    """One run of one recipe, and then many of another, all done."""
    hub.subject.publish(RECIPE, _FIRST)
    hub.send("first", "visited")
    hub.wait_for_runs(1)
    hub.throughput(first=0, count=1)
    hub.wait_for_runs(2)
    fill(hub, str(hub.ask("select id from run where recipe <> 'bench-first'")), Copies(rows, "0"))


class _Api:
    """The hub's API, asked with a key."""

    def __init__(self, hub: Running) -> None:
        self._url = f"{hub.subject.url}/api/v1/"
        self._key = asyncio.run(_key(hub.subject.database_url))

    def looks(self, question: str) -> list[float]:
        """How long answers take, in seconds; a first one, not counted, warms what everybody's second look has."""
        cursor = self._get("runs?limit=200")["next"]
        asked = question.format(cursor=quote(str(cursor)))
        return [self._took_s(asked) for _ in range(_LOOKS + 1)][1:]

    def _took_s(self, question: str) -> float:
        began = time.monotonic()
        self._get(question)
        return time.monotonic() - began

    def _get(self, question: str) -> Any:  # whatever the list is
        asked = Request(self._url + question, headers={"Authorization": f"Bearer {self._key}"})
        with urlopen(asked, timeout=60) as answer:
            return json.load(answer)


async def _key(database_url: str) -> str:
    store = Store(database_url)
    try:
        return await create_api_key(store, "bench", "read", 0)
    finally:
        await store.close()


def _run_s(hub: Running, command: str) -> float:
    environment = {**os.environ, **hub.subject.environment}
    began = time.monotonic()
    # `hub doctor` ends with 1 when it has something to say, as it has about a hub on a bench.
    subprocess.run([HUB, *command.split()], env=environment, check=False, capture_output=True, timeout=60)
    return time.monotonic() - began
