"""The README and the operator's page, typed line by line as a newcomer would."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import START_S, Process, command, environment, started
from tests.conftest import examples_of_shop_and_phone, free_port, fresh_database
from tools import check_docs

ROOT = Path(__file__).parents[2]
# Lines of the operator's page that other tests run, or that are not the hub's.
_ELSEWHERE = {
    "hub up": "test_embedded.py",
    "hub api --host 0.0.0.0": "test_distributed.py",
    "hub worker": "test_distributed.py",
    "hub db upgrade": "the hub of this test was made by it",
    "hub db copy --to postgresql://hub:secret@db.example.com/hub": "test_copying.py",
    "hub clock advance 24h": "the README's steps move the clock of a running hub",
    "hub apps add CONNECTOR ours --set client_id=… --secret-from-env client_secret=VAR": "test_oauth.py",
    "hub connections add CONNECTOR NAME --app ours": "test_oauth.py",
}


def _blocks(page: str) -> list[str]:
    return [block.text for block in check_docs.read(ROOT / page).blocks if block.info.startswith("sh")]


def _wait(url: str, process: Process) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.running, process.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")


def test_the_steps_of_the_readme_end_in_two_messages(tmp_path: Path) -> None:
    # given what a clone holds, and the blocks between "Step by step" and "On several machines"
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    hub = tmp_path / ".venv" / "bin" / "hub"
    hub.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from hub.cli import main; main()" "$@"\n')
    hub.chmod(0o755)
    steps = (ROOT / "README.md").read_text().partition("## Step by step")[2].partition("## On several machines")[0]
    typed = [block for block in _blocks("README.md") if block in steps]
    assert typed[0].strip() == "HUB_DEVELOPMENT=true .venv/bin/hub up"
    port = free_port()
    script = "set -e\n" + "\n".join(typed[1:]).replace(":8000", f":{port}").replace(":8001", f":{port + 1}")
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HUB_PORT": str(port)}
    # when the hub runs as in the first terminal, and the rest is typed into a second one
    up = Process("up", ["up"], {"HUB_DEVELOPMENT": "true", "HUB_PORT": str(port)}, tmp_path)
    with started(up):
        _wait(f"http://127.0.0.1:{port}/health/ready", up)
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # then the webhook signed by hand was taken, and the sandbox's own log, printed last, has both messages
        lines = done.stdout.splitlines()
        assert "200" in lines
        texts = json.loads(lines[-1])
        assert sorted(text["data"]["to"] for text in texts) == ["+14155550100", "+14155550101"]
        # and the commands that tell why do tell it
        told = command(["contacts", "show", "jane@example.com"], {"HUB_DATA_DIR": str(tmp_path / "hub-data")}, tmp_path)
        assert "abandoned-cart-sms" in told


def _hub_on_path(folder: Path) -> str:
    """A folder with the command `hub`, as a virtual environment that is activated has one."""
    (folder / "bin").mkdir()
    hub = folder / "bin" / "hub"
    hub.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from hub.cli import main; main()" "$@"\n')
    hub.chmod(0o755)
    return f"{hub.parent}:{os.environ['PATH']}"


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh PostgreSQL database without anything in it."""
    with fresh_database(postgres_server, "template0") as url:
        yield url


def test_the_block_for_several_machines_starts_an_api_and_two_workers(
    empty_postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    # given the block as it stands, with the addresses of a real PostgreSQL and Redis in the place of its own
    part = (ROOT / "README.md").read_text().partition("## On several machines")[2]
    [block] = [block for block in _blocks("README.md") if block in part]
    for meant, here in {
        "postgresql://hub:secret@localhost/hub": empty_postgres_url,
        "redis://localhost:6379/0": redis_url,
    }.items():
        assert block.count(meant) == 1
        block = block.replace(meant, shlex.quote(here))
    port = free_port()
    given = {"PATH": _hub_on_path(tmp_path), "HOME": str(tmp_path), "HUB_PORT": str(port)}
    log = tmp_path / "log"
    with log.open("w") as out:
        # when it is typed into a shell
        shell = subprocess.Popen(
            ["bash", "-c", f"set -e\n{block}\nwait"],
            cwd=tmp_path, env=given, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        settings = {"HUB_DATABASE_URL": empty_postgres_url, "HUB_REDIS_URL": redis_url, "HUB_PORT": str(port)}
        end, kinds = time.monotonic() + START_S, []
        while time.monotonic() < end and kinds != ["api", "worker", "worker"]:
            assert shell.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
            seen = command(["top", "--once", "--json"], settings, tmp_path, ok=None)
            kinds = sorted(one["kind"] for one in json.loads(seen)["processes"]) if seen.startswith("{") else []

        # then there are an API and two workers on the one database, and the API answers
        assert kinds == ["api", "worker", "worker"], log.read_text()[-2000:]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"
    finally:
        # The shell's own session: these processes and nobody else's.
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(40)


def test_the_sandboxes_of_the_plugins_take_the_lines_of_their_pages(tmp_path: Path) -> None:
    port = free_port()
    settings = environment(tmp_path, port=str(port))
    shop = ["--set", "shop=my-shop.myshopify.com", "--sandbox"]
    number = ["--set", "account_sid=AC" + "0" * 31 + "1", "--set", "from_number=+14155550199", "--sandbox"]
    with started(up := Process("up", ["up"], settings, tmp_path)):
        # given a shop and a number in sandbox mode
        _wait(f"http://127.0.0.1:{port}/health/ready", up)
        command(["connections", "add", "shopify", "my-shop", *shop], settings, tmp_path)
        command(["connections", "add", "twilio", "sms", *number], settings, tmp_path)
        known = json.loads(command(["connections", "list", "--json"], settings, tmp_path))
        addresses = {one["connector"]: one["webhook_url"] for one in known}

        # when the lines of both pages are typed
        for connector in ("shopify", "twilio"):
            page = check_docs.read(ROOT / "plugins" / connector / "README.md")
            lines = [line for block in page.blocks for line in block.text.splitlines() if line.startswith("curl ")]
            assert lines
            for line in lines:
                meant = f"http://127.0.0.1:8000/webhooks/{connector}/KEY"
                assert meant in line
                done = subprocess.run(
                    ["bash", "-c", line.replace("curl ", "curl -sSf ").replace(meant, addresses[connector])],
                    env={**os.environ, "SANDBOX": f"http://127.0.0.1:{port + 1}"},
                    capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"

        # then each was a signed call that made an event
        seen = json.loads(command(["events", "list", "--json"], settings, tmp_path))
    about = {event["type"].rpartition("_")[0] for event in seen}
    assert about >= {"shopify.checkout", "shopify.order", "shopify.customer", "twilio.sms"}


@pytest.fixture
def stocked(tmp_path: Path) -> Iterator[tuple[dict[str, str], str, str]]:
    """Settings of a hub with connections, recipes, an event and a run; and the ids of these two."""
    settings = environment(tmp_path, keep_runs_days="90")
    examples_of_shop_and_phone(tmp_path / "recipes")
    readme = next(block for block in check_docs.read(ROOT / "README.md").blocks if "cart-reminder" in block.text)
    (tmp_path / "recipes" / "cart-reminder.yaml").write_text(readme.text)
    command(["db", "upgrade"], settings, tmp_path)
    shop, sms = ["--set", "shop=some-shop.myshopify.com"], ["--set", "account_sid=AC" + "0" * 32]
    command(["connections", "add", "shopify", "shop", *shop, "--sandbox"], settings, tmp_path)
    command(
        ["connections", "add", "twilio", "sms", *sms, "--set", "from_number=+14155550199", "--sandbox"],
        settings,
        tmp_path,
    )
    command(["recipes", "apply", "recipes", "--publish"], settings, tmp_path)
    port = free_port()
    up = Process("up", ["up"], settings | {"HUB_PORT": str(port), "HUB_DEVELOPMENT": "true"}, tmp_path)
    with started(up):
        _wait(f"http://127.0.0.1:{port}/health/ready", up)
        checkout = {
            "shop": "some-shop.myshopify.com", "email": "jane@example.com", "phone": "+14155550100",
            "total_price": "80.00", "buyer_accepts_sms_marketing": True, "sms_marketing_phone": "+14155550100",
        }  # fmt: skip
        [shop_] = [
            c
            for c in json.loads(command(["connections", "list", "--json"], settings, tmp_path))
            if c["connector"] == "shopify"
        ]
        checkout["address"] = f"http://127.0.0.1:{port}/{shop_['webhook_url'].split('/', 3)[3]}"
        sandbox = urllib.request.Request(
            f"http://127.0.0.1:{port + 1}/shopify/_sandbox/checkout", json.dumps(checkout).encode()
        )
        with urllib.request.urlopen(sandbox, timeout=20):
            pass
        command(["clock", "advance", "31m"], settings | {"HUB_PORT": str(port)}, tmp_path)
        [run, *_] = json.loads(command(["runs", "list", "--json"], settings, tmp_path))
        event = json.loads(
            command(["events", "list", "--type", "shopify.checkout_abandoned", "--json"], settings, tmp_path)
        )[0]
        yield settings, run["id"], event["id"]


def test_the_commands_of_the_operator_s_page_work(stocked: tuple[dict[str, str], str, str], tmp_path: Path) -> None:
    settings, run, event = stocked
    lines = [line for block in _blocks("docs/operating.md") for line in block.splitlines()]
    wanted = [line.partition("#")[0].strip() for line in lines if line.startswith("hub ")]
    assert set(_ELSEWHERE) <= set(wanted), "a line that is run elsewhere is no longer on the page"
    ran = 0
    for line in dict.fromkeys(wanted):
        if line in _ELSEWHERE:
            continue
        arguments = shlex.split(line.replace("events replay 0198…", f"events replay {event}").replace("0198…", run))[1:]
        # A run that did not fail has nothing to retry: said with its own exit code.
        ok = 3 if arguments[:2] == ["runs", "retry"] and run in arguments else 0
        asks = arguments[0] == "resume" or (arguments[:2] == ["runs", "retry"] and "--dry-run" not in arguments)
        command([*arguments, *(["--yes"] if asks else [])], settings, tmp_path, ok=ok)
        ran += 1
    assert ran >= 10


# Lines of the page for authors that other tests run.
_AUTHORS_ELSEWHERE = {
    "pip install -e . pytest pytest-asyncio": "test_docs.py",
    "pytest": "test_docs.py",
    "hub apps add postbird ours --set client_id=c-42 --secret-from-env client_secret=POSTBIRD_SECRET": "test_oauth.py",
    "hub connections add postbird main --app ours": "test_oauth.py",
}


def test_the_commands_of_the_author_s_page_work(tmp_path: Path) -> None:
    # given the page's package, its hub at work, and every line of its programs
    page = check_docs.read(ROOT / "docs" / "connectors.md")
    for block in page.blocks:
        language, _, name = block.info.partition(" ")
        if language in {"python", "json"} and name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(block.text)
    # What `pip install -e .` would have written.
    installed = tmp_path / "tetik_hub_postbird-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tetik-hub-postbird\nVersion: 0.1.0\n")
    (installed / "entry_points.txt").write_text("[hub]\npostbird = hub_postbird\n")
    port = free_port()
    settings = environment(tmp_path, port=str(port)) | {"PYTHONPATH": str(tmp_path)}
    lines = [line for block in _blocks("docs/connectors.md") for line in block.splitlines()]
    assert set(_AUTHORS_ELSEWHERE) | {"hub up &"} <= set(lines), "a line that is run elsewhere is no longer on the page"
    typed = [line for line in lines if line not in {*_AUTHORS_ELSEWHERE, "hub up &"}]
    # What was called is captured once something was.
    typed.sort(key=lambda line: line.startswith("hub deliveries capture"))
    printed = {}
    with started(up := Process("up", ["up"], settings, tmp_path)):
        _wait(f"http://127.0.0.1:{port}/health/ready", up)

        # when they are typed one after the other
        for line in typed:
            if "WEBHOOK-ADDRESS" in line:
                [known] = json.loads(command(["connections", "list", "--json"], settings, tmp_path))
                line = line.replace("WEBHOOK-ADDRESS", known["webhook_url"]).replace(":8001", f":{port + 1}")
            hub = f"{shlex.quote(sys.executable)} -c 'from hub.cli import main; main()'"
            script = f'set -eo pipefail; hub() {{ {hub} "$@"; }}; {line}'
            done = subprocess.run(
                ["bash", "-c", script],
                env={**os.environ, **settings},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            printed[line.partition(" -")[0]] = done.stdout

    # then each did what the page says
    assert (tmp_path / "tetik-hub-acme" / "pyproject.toml").is_file()
    assert "postbird" in printed["hub plugins"]
    assert "postbird." in printed["hub events list"]  # a narrow table breaks names after the dot
    captured = json.loads((tmp_path / "tests" / "fixtures" / "member_joined.delivery.json").read_text())
    assert "jane@example.com" not in json.dumps(captured)
