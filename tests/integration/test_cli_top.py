"""`hub top`: the whole hub on one screen, from the running hub's own word or from the database."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from hub.cli.top import History, picture
from hub.vault import generate_key
from tests.acceptance.processes import HUB
from tests.integration.conftest import Cli, Process

Started = Callable[..., Process]
_READY = "Stop with Ctrl+C"


def _reading(**more: Any) -> dict[str, Any]:
    """A reading as the API gives it."""
    totals = {"deliveries": 0, "events": 0, "runs_started": 0, "runs_finished": 0, "effects": {}}
    return {
        "at_ms": 0,
        "processes": [],
        "totals": totals,
        "due": 0,
        "oldest_due_s": 0.0,
        "waiting": 0,
        "waiting_estimated": False,
        "unrouted": 0,
        "ingest_lag_s": 0.0,
        "parked": {},
        "unknown_last_day": 0,
        "connections": [],
        **more,
    }


def _screen(history: History) -> str:
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(history))
    return console.export_text()


def test_where_no_hub_ever_was_it_says_how_to_start_one(empty_cli: Cli) -> None:
    result = empty_cli("top", "--once")
    assert result.exit_code == 1
    assert "run `hub up` first" in result.stderr


def test_json_is_for_one_reading(cli: Cli) -> None:
    assert cli("top", "--json").exit_code == 2


def test_without_a_hub_at_work_it_shows_what_is_stored(cli: Cli) -> None:
    # Given a database that nobody works on
    found = cli.json("top", "--once")
    assert found["processes"] == []
    assert found["totals"]["effects"] == {}

    # Then it says so, and how to change it
    result = cli("top", "--once")
    assert result.exit_code == 0
    assert "no hub is at work; start `hub up`" in " ".join(result.stdout.split())


def test_it_shows_the_running_hub(empty_cli: Cli, started: Started) -> None:
    # Given the embedded hub with a connection
    started("up", "--port", "0").wait_for(_READY)
    added = ("connections", "add", "shopify", "my-shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    empty_cli.json(*added)

    # Then it is at work, with what it has in hand, and its connection
    found = empty_cli.json("top", "--once")
    assert [(p["kind"], p["busy"], p["slots"]) for p in found["processes"]] == [("up", 0, 150)]
    assert [(c["name"], c["health"], c["breaker"]) for c in found["connections"]] == [("my-shop", "ok", "closed")]
    assert found["per_s"]["effects"] == {}
    assert found["parked"] == {}


def test_it_shows_every_process_of_a_distributed_hub(
    empty_cli: Cli, started: Started, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an API and a worker, which write signs of life into the database
    for name, value in {"HUB_DATABASE_URL": postgres_url, "HUB_KEYS": generate_key()}.items():
        monkeypatch.setenv(name, value)
    api, worker = started("api", "--port", "0"), started("worker")
    api.wait_for("the API answers at")
    worker.wait_for("working")

    # Then both are seen, until they end
    until = time.monotonic() + 20
    while len(found := empty_cli.json("top", "--once")["processes"]) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert sorted(p["kind"] for p in found) == ["api", "worker"]
    assert (api.end(), worker.end()) == (0, 0)
    assert empty_cli.json("top", "--once")["processes"] == []


def test_rates_are_what_was_counted_over_the_last_seconds() -> None:
    # Given readings a second apart, during which a process was replaced by one that counts from nothing
    history = History()
    for second in range(20):
        totals = {
            "deliveries": 10 * second,
            "events": 20 * second,
            "runs_started": 5 * second,
            "runs_finished": 1000 if second == 0 else 0,
            "effects": {"done": 30 * second} | ({"unknown": 10} if second == 19 else {}),
        }
        history.add(_reading(totals=totals), at=float(second))

    # Then rates are over ten seconds, and never below nothing
    assert len(history.readings) == 11
    assert history.per_s() == {
        "deliveries": 10.0,
        "events": 20.0,
        "runs_started": 5.0,
        "runs_finished": 0.0,
        "effects": {"done": 30.0, "unknown": 1.0},
    }


def test_a_busy_hub_is_readable_at_a_hundred_columns() -> None:
    # Given much of everything, and a name that tries to steer the terminal
    history = History()
    processes = [
        {
            "id": f"0192-{n:08}",
            "kind": "worker",
            "version": "0.1.0",
            "up_s": 90_000,
            "seen_s": 2,
            "busy": 149,
            "slots": 150,
        }
        for n in range(3)
    ]
    connections = [
        {
            "name": name,
            "health": "needs re-authorisation",
            "in_flight": 32,
            "held_s": 29.5,
            "breaker": "open",
            "due": 10_000,
            "oldest_due_s": 3_700,
        }
        for name in ("shop-with-quite-a-long-name", "bad\x1b[2Jname")
    ]
    busy = _reading(
        processes=processes,
        connections=connections,
        waiting=1_234_567,
        waiting_estimated=True,
        parked={"connection:shop-with-quite-a-long-name": 12_345, "poison": 1},
        unknown_last_day=7,
        due=10_000,
        oldest_due_s=3_700.0,
    )
    history.add(_reading(), at=0)
    history.add(busy, at=1)
    history.trouble = "the database is away"

    # Then every fact is there, within the width, and nothing but text
    screen = _screen(history)
    assert max(len(line) for line in screen.splitlines()) <= 100
    for fact in (
        "about 1,234,567 runs",
        "149/150",
        "1h 1m",
        "12,345",
        "29s",
        "open",
        "7 outcomes",
        "the database is away",
    ):
        assert fact in screen
    assert "\x1b" not in screen


def test_it_refreshes_and_ends_on_q(empty_cli: Cli, started: Started) -> None:
    # Given a terminal in which it runs
    started("up", "--port", "0", "--no-sandbox").wait_for(_READY)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    top = subprocess.Popen([*HUB, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)

    # When it has shown the hub, and then again
    shown, until = "", time.monotonic() + 30
    while shown.count("oldest unrouted") < 2 and time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            shown += os.read(ours, 65_536).decode(errors="replace")
    assert shown.count("oldest unrouted") >= 2
    assert "q ends" in shown

    # Then the key ends it
    os.write(ours, b"q")
    try:
        while select.select([ours], [], [], 5)[0]:
            if not os.read(ours, 65_536):
                break
    except OSError:
        pass  # the other end is closed: it has ended
    assert top.wait(timeout=20) == 0
    os.close(ours)
