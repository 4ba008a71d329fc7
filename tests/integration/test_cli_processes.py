"""The processes that the command line starts: how they come up, how they are found, how a signal ends them."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.vault import generate_key
from tests.conftest import free_port
from tests.integration.conftest import Cli, Process

Started = Callable[..., Process]
_READY = "Stop with Ctrl+C"


def _call(url: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, headers=headers, data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _running(cli: Cli) -> tuple[str, str]:
    """Where the embedded hub and its sandboxes listen."""
    found = json.loads((cli.data_dir / "running.json").read_text())
    return f"http://{found['host']}:{found['port']}", found["sandbox_url"]


def test_the_first_start_needs_nothing_and_ends_cleanly(empty_cli: Cli, started: Started) -> None:
    # When the hub is started where nothing is
    before = time.monotonic()
    hub = started("up", "--port", "0")
    printed = hub.wait_for(_READY)
    took_s = time.monotonic() - before

    # Then it answers soon, and says how to go on
    url, sandboxes = _running(empty_cli)
    key_file = empty_cli.data_dir / "api-key"
    key = key_file.read_text().strip()
    assert took_s < 10
    assert _call(f"{url}/health/ready")[0] == 200
    for part in (url, sandboxes, str(key_file), "curl"):
        assert part in printed
    assert key not in printed

    # And its key is for its owner only, works, and other keys do not
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert _call(f"{url}/api/v1/counts", key) == (200, empty_counts())
    assert _call(f"{url}/api/v1/counts", "hub_wrong")[0] == 401

    # When it is told to end, it does, and leaves no trace of running
    assert hub.end() == 0
    assert not (empty_cli.data_dir / "running.json").exists()
    assert hub.err.read_text() == ""

    # When it is started again, the key is the same
    again = started("up", "--port", "0")
    again.wait_for(_READY)
    assert key_file.read_text().strip() == key
    assert _call(f"{_running(empty_cli)[0]}/api/v1/counts", key)[0] == 200
    again.popen.send_signal(signal.SIGINT)
    assert again.popen.wait(timeout=20) == 0


def empty_counts() -> dict[str, Any]:
    """What a hub counts to which nothing has happened."""
    none: dict[str, Any] = {"deliveries": {}, "runs": {}, "ended_by": {}, "effects": {}}
    return {"events": 0, "duplicates": 0, "refused": 0, **none}


def test_commands_work_beside_the_running_hub(
    empty_cli: Cli, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a running hub in development mode
    monkeypatch.setenv("HUB_DEVELOPMENT", "true")
    started("up", "--port", "0").wait_for(_READY)
    url, _ = _running(empty_cli)

    # When an account is connected by command, commands and API know it, with the address that the hub has
    add = ("connections", "add", "shopify", "my-shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    added = empty_cli.json(*add)
    assert [way["name"] for way in added.pop("ways_in")] == []
    assert added["webhook_url"].startswith(f"{url}/webhooks/shopify/")
    key = (empty_cli.data_dir / "api-key").read_text().strip()
    time.sleep(1.1)  # other processes' changes are seen within a second
    assert added.pop("subscriptions") == "not looked at yet"
    status, [known] = _call(f"{url}/api/v1/connections", key)
    # The running hub may have subscribed already, or wait for points that the first polls took.
    assert re.fullmatch(
        r"not looked at yet|\d+ kept, looked at \S+|The vendor asked for fewer .+", known.pop("subscriptions")
    )
    assert (status, known) == (200, added)
    assert empty_cli.json("connections", "test", "my-shop")["id"] == "my-shop.myshopify.com"

    # When its clock is moved, commands go by the moved clock
    moved = empty_cli.json("clock", "advance", "24h")
    shown = empty_cli.json("clock", "show")
    assert moved["now"] <= shown["now"]
    assert shown["offset_ms"] > 23 * 3_600_000
    assert "moved ahead" in empty_cli("doctor").stdout

    # And what must not happen beside it is refused
    for command in (["up", "--port", "0"], ["db", "downgrade", "--to", "base", "--yes"]):
        refused = started(*command)
        assert refused.popen.wait(timeout=20) == 1
        assert "another hub" in refused.err.read_text()


def test_outside_development_the_clock_stays(empty_cli: Cli, started: Started) -> None:
    started("up", "--port", "0", "--no-sandbox").wait_for(_READY)
    refused = empty_cli("clock", "advance", "24h")
    assert refused.exit_code == 1
    assert "HUB_DEVELOPMENT=true" in refused.stderr
    assert _running(empty_cli)[1] is None


def test_a_port_that_is_taken_is_said(empty_cli: Cli, started: Started) -> None:
    started("up", "--port", "0").wait_for(_READY)
    port = _running(empty_cli)[0].rpartition(":")[2]
    for command in (["up", "--port", port], ["sandbox", "--port", port]):
        refused = started(*command, HUB_DATA_DIR=str(empty_cli.data_dir / "other"))
        assert refused.popen.wait(timeout=20) == 1
        assert f"port {port}" in refused.err.read_text()
        assert "Traceback" not in refused.err.read_text()


def _slow_call(cli: Cli, delay_s: float) -> tuple[threading.Thread, list[int]]:
    """Begin a call to the API that takes `delay_s`; its status comes into the list."""
    url, sandboxes = _running(cli)
    key = (cli.data_dir / "api-key").read_text().strip()
    fields = {"shop": "my-shop.myshopify.com"}
    new = {"connector": "shopify", "name": "my-shop", "fields": fields, "sandbox": True}
    assert _call(f"{url}/api/v1/connections", key, new)[0] == 201
    assert _call(f"{sandboxes}/shopify/_sandbox/faults", body={"delay_s": delay_s})[0] == 200
    statuses: list[int] = []

    def call() -> None:
        try:
            statuses.append(_call(f"{url}/api/v1/connections/my-shop/test", key, {})[0])
        except OSError:
            statuses.append(0)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.5)
    return thread, statuses


def test_a_call_that_has_begun_is_answered_before_the_end(empty_cli: Cli, started: Started) -> None:
    # Given a call in hand
    hub = started("up", "--port", "0")
    hub.wait_for(_READY)
    calling, statuses = _slow_call(empty_cli, 1.5)

    # When the hub is told to end
    code = hub.end()

    # Then the call was answered first
    calling.join()
    assert (code, statuses) == (0, [200])


def test_a_second_signal_ends_at_once(empty_cli: Cli, started: Started) -> None:
    # Given a hub that waits for a call in hand
    hub = started("up", "--port", "0")
    hub.wait_for(_READY)
    calling, statuses = _slow_call(empty_cli, 15)
    hub.popen.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert hub.popen.poll() is None

    # When it is told again
    hub.popen.send_signal(signal.SIGTERM)

    # Then it is gone, and the caller sees it
    assert hub.popen.wait(timeout=3) == 128 + signal.SIGTERM
    calling.join()
    assert statuses == [0]


def test_the_distributed_pair_comes_up_and_drains(
    empty_cli: Cli, started: Started, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    # Given PostgreSQL, Redis and keys
    port = free_port()
    settings = {"HUB_DATABASE_URL": postgres_url, "HUB_REDIS_URL": redis_url, "HUB_KEYS": generate_key()}

    # When both are started
    api = started("api", "--port", str(port), **settings)
    worker = started("worker", **settings)
    api.wait_for("the API answers at")
    worker.wait_for("working; rung by Redis")

    # Then they do their work and end when told to, and left nothing in the embedded hub's folder
    assert _call(f"http://127.0.0.1:{port}/health/ready")[0] == 200
    assert (api.end(), worker.end()) == (0, 0)
    assert (api.err.read_text(), worker.err.read_text()) == ("", "")
    assert not empty_cli.data_dir.exists()


def test_the_distributed_pair_says_what_it_lacks(empty_cli: Cli, started: Started, postgres_url: str) -> None:
    wanted = [
        (["api"], {}, "HUB_DATABASE_URL=postgresql://"),
        (["worker"], {}, "HUB_DATABASE_URL=postgresql://"),
        (["worker"], {"HUB_DATABASE_URL": postgres_url}, "hub keys generate"),
        (["up"], {"HUB_DATABASE_URL": postgres_url}, "`hub api` and `hub worker`"),
    ]
    processes = [started(*command, **settings) for command, settings, _ in wanted]
    for process, (_, _, says) in zip(processes, wanted, strict=True):
        assert process.popen.wait(timeout=30) == 1
        assert says in process.err.read_text()


@pytest.mark.parametrize("revision", ["base", "0002"])
def test_an_old_schema_stops_the_pair_with_the_command_that_mends_it(
    empty_cli: Cli, started: Started, postgres_url: str, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", postgres_url)
    monkeypatch.setenv("HUB_KEYS", generate_key())
    assert empty_cli("db", "downgrade", "--to", revision, "--yes").exit_code == 0
    for process in (started("worker"), started("api", "--port", "0")):
        assert process.popen.wait(timeout=20) == 1
        assert "run `hub db upgrade`" in process.err.read_text()
    # Commands say the same, whether they look themselves or take all services
    for command in (["runs", "list"], ["connections", "list"]):
        result = empty_cli(*command)
        assert result.exit_code == 1
        assert "run `hub db upgrade`" in result.stderr
    assert empty_cli.json("db", "status")["ready"] is False


def test_a_misspelt_variable_is_named_at_the_start(empty_cli: Cli, started: Started) -> None:
    hub = started("up", "--port", "0", "--no-sandbox", HUB_PUBLIC_ULR="https://hub.example.com")
    hub.wait_for(_READY)
    assert hub.end() == 0
    [line] = hub.err.read_text().splitlines()
    assert json.loads(line)["what"] == "setting_unknown"
    assert "HUB_PUBLIC_ULR is set, and there is no such setting; did you mean HUB_PUBLIC_URL?" in line


def test_hub_up_brings_an_old_file_up_to_date_and_keeps_a_copy(empty_cli: Cli, started: Started) -> None:
    # Given a file of an earlier release, with a row in it
    assert empty_cli("db", "upgrade").exit_code == 0
    assert empty_cli("api-keys", "create", "me", "--scope", "read").exit_code == 0
    assert empty_cli("db", "downgrade", "--to", "0002", "--yes").exit_code == 0
    for command in (["runs", "list"], ["connections", "list"]):
        refused = empty_cli(*command)
        assert refused.exit_code == 1
        assert "run `hub db upgrade`" in refused.stderr

    # When the embedded hub starts
    hub = started("up", "--port", "0", "--no-sandbox")
    hub.wait_for(_READY)

    # Then the schema is what it needs, the row is there, the log says so, and the copy is of before
    assert empty_cli.json("db", "status")["ready"]
    assert "me" in {key["name"] for key in empty_cli.json("api-keys", "list")}
    assert hub.end() == 0
    assert "schema_upgraded" in hub.err.read_text()
    with closing(sqlite3.connect(empty_cli.data_dir / "hub.db.before-upgrade")) as copy:
        assert copy.execute("select version_num from alembic_version").fetchone() == ("0002",)
        assert copy.execute("select name from api_key").fetchall() == [("me",)]
