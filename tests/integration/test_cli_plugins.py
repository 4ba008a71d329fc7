"""What connector authors type: a new package that passes at once, and one call of an action on a sandbox."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hub.connector import sandbox_secret
from hub.scaffold import Auth, NewPlugin, write
from tests.conftest import free_port
from tests.integration.conftest import Cli, Process

ACCOUNT = "AC00000000000000000000000000000001"
ADD = ("connections", "add", "twilio", "sms", "--set", f"account_sid={ACCOUNT}", "--set", "from_number=+14155550199")
TRY = ("plugins", "try", "twilio.send_sms", "--connection", "sms", "--input", "-")
TEXT = '{"to": "+14155550100", "body": "Hello"}'
AUTHS: tuple[Auth, ...] = ("token", "client_credentials", "oauth2")


def _run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- a new package -----------------------------------------------------------------------------------------------------


def test_every_kind_of_new_package_is_formatted_and_passes_ruff(tmp_path: Path) -> None:
    for auth, webhook, poll in itertools.product(AUTHS, (True, False), (True, False)):
        wanted = NewPlugin(name="acme_desk", auth=auth, webhook=webhook, poll=poll)
        write(wanted, tmp_path / f"{auth}-{webhook}-{poll}")
    _run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=tmp_path)
    _run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".", cwd=tmp_path)


@pytest.mark.parametrize(
    ("auth", "webhook", "poll", "asked"),
    [
        ("token", "hmac", "--poll", 21),
        ("client_credentials", "none", "--poll", 16),
        ("oauth2", "hmac", "--no-poll", 20),
        ("token", "none", "--no-poll", 11),
    ],
)
def test_a_new_package_passes_its_contract_at_once(
    empty_cli: Cli, tmp_path: Path, auth: str, webhook: str, poll: str, asked: int
) -> None:
    # when
    folder = tmp_path / "made"
    written = empty_cli("plugins", "new", "acme", "--auth", auth, "--webhook", webhook, poll, "--dir", str(folder))

    # then
    assert written.exit_code == 0, written.output
    said = _run(
        sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", ".", cwd=folder, path=folder
    )
    assert f"{asked} passed" in said
    assert "| consent |" in (folder / "README.md").read_text()


def test_a_new_package_can_be_installed_and_what_is_said_next_can_be_typed(
    empty_cli: Cli, tmp_path: Path, started: Callable[..., Process]
) -> None:
    # given a package, installed without any other
    folder, there = tmp_path / "made", tmp_path / "site"
    said = empty_cli("plugins", "new", "acme", "--auth", "token", "--webhook", "none", "--dir", str(folder)).stdout
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(there))
    _run(*pip, str(folder), cwd=tmp_path)

    # when a hub runs with it, and its last commands are typed
    environment = {"PYTHONPATH": str(there), "HUB_PORT": str(free_port())}
    up = started("up", **environment)
    up.wait_for("Stop with")
    connect, call = said.strip().splitlines()[-2:]
    hub = f"{sys.executable} -c 'from hub.cli import main; main()'"
    variables = {**os.environ, **environment}
    typed = f"{connect.strip()} && {call.strip()} --json".replace("hub ", f"{hub} ", 1).replace("| hub ", f"| {hub} ")
    done = subprocess.run(["bash", "-c", typed], cwd=tmp_path, env=variables, capture_output=True, text=True)

    # then
    assert done.returncode == 0, done.stdout + done.stderr
    tried = json.loads(done.stdout[done.stdout.index("{") :])
    assert tried["answer"] == {"ticket_id": "t-1"}
    assert tried["calls"] == [{"method": "POST", "path": "/v1/tickets", "status": 201}]
    assert tried["own_sandbox"] is False
    assert up.end() == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Ac-me", "cannot be a connector's name: .*; ac_me would do"),
        ("class", "class cannot be a connector's name"),
        ("9", "9 cannot be a connector's name"),
        ("hub", "is no word of Python or the hub"),
        ("shopify", "the name shopify is taken by the plugin shopify"),
    ],
)
def test_a_name_that_cannot_be_is_refused(empty_cli: Cli, tmp_path: Path, name: str, said: str) -> None:
    refused = empty_cli("plugins", "new", name, "--dir", str(tmp_path / "made"))
    assert refused.exit_code == 1
    assert re.search(said, " ".join(refused.stderr.split()))
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_there_is_left_alone(empty_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    refused = empty_cli("plugins", "new", "acme", "--dir", str(tmp_path))
    assert refused.exit_code == 1
    assert "already; give another folder with --dir" in " ".join(refused.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_the_list_of_plugins_is_what_plugins_alone_shows(empty_cli: Cli) -> None:
    assert {one["name"] for one in empty_cli.json("plugins")["plugins"]} >= {"shopify", "twilio"}
    assert "twilio.send_sms" in empty_cli("plugins").stdout


# -- trying an action --------------------------------------------------------------------------------------------------


@pytest.fixture
def sms(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a Twilio connection in sandbox mode; no sandbox runs, whatever else runs on the machine."""
    monkeypatch.setenv("HUB_SANDBOX_URL", f"http://127.0.0.1:{free_port()}")
    assert cli(*ADD, "--sandbox").exit_code == 0
    return cli


def test_an_action_is_tried_and_everything_about_it_shown_without_a_secret(sms: Cli) -> None:
    # when
    shown = sms(*TRY, input=TEXT)
    tried = json.loads(sms(*TRY, "--json", input=TEXT).stdout)

    # then
    assert shown.exit_code == 0, shown.output
    for part in ("SMS to +14155550100: Hello", '"message_id": "SM', "took", "Messages.json", "POST", "201"):
        assert part in shown.stdout
    assert "one was started for this call" in " ".join(shown.stderr.split())
    assert (tried["then"], tried["answer"]["to"], tried["own_sandbox"]) == ("done", "+14155550100", True)
    assert tried["calls"] == [
        {"method": "POST", "path": f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json", "status": 201}
    ]
    assert sandbox_secret("twilio", ACCOUNT, "auth_token") not in shown.output + json.dumps(tried)


def test_the_sandbox_that_runs_is_the_one_that_is_called(
    sms: Cli, started: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = started("sandbox", "--port", "0").wait_for("http://").split()[-1]
    monkeypatch.setenv("HUB_SANDBOX_URL", url)
    assert json.loads(sms(*TRY, "--json", input=TEXT).stdout)["own_sandbox"] is False


def test_a_live_connection_is_never_called(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "planted")
    assert cli(*ADD, "--secret-from-env", "auth_token=TOKEN").exit_code == 0
    refused = cli(*TRY, input=TEXT)
    assert refused.exit_code == 1
    assert "sms is a live connection, and an action is tried on sandboxes only" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"too": "+14155550100", "body": "x"}', "there is no field too; did you mean to?"),
        ('{"to": "+14155550100"}', "the input does not fit twilio.send_sms: body: field required"),
        ('{"to": "jane", "body": "x"}', "to: write a phone number with its country code"),
        ("[]", "the input of twilio.send_sms is a JSON object with to, body"),
        ("{", "standard input is no JSON"),
    ],
)
def test_a_wrong_input_is_refused_with_the_field(sms: Cli, given: str, said: str) -> None:
    refused = sms(*TRY, input=given)
    assert refused.exit_code == 1
    assert said in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("action", "connection", "code", "said"),
    [
        ("twilio.send_sm", "sms", 3, "there is no action twilio.send_sm; did you mean twilio.send_sms?"),
        ("shopify.tag_customer", "sms", 1, "sms is a connection of twilio, not of shopify"),
        ("twilio.send_sms", "smms", 3, "there is no connection smms; did you mean sms?"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(sms: Cli, action: str, connection: str, code: int, said: str) -> None:
    # Nobody is asked for input, or told what is wrong with it, for an action or connection that is not there.
    refused = sms("plugins", "try", action, "--connection", connection, "--input", "not-there.json")
    assert refused.exit_code == code
    assert said in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("fault", "then", "said", "status"),
    [
        ({"refuse_next": 401}, "waits", "AuthExpired: ", 401),
        ({"refuse_next": 422}, "given up", "The step would fail", 422),
        ({"refuse_next": 429}, "retried", "would wait 7 s and try again", 429),
        ({"fail_next": 1}, "retried", "later and later, for up to 3d", 503),
        ({"drop_answers": 1}, "retried", "a run would look it up, and ask again if it is absent", None),
    ],
)
def test_an_error_of_the_vendor_is_shown_as_what_a_run_would_make_of_it(
    sms: Cli,
    started: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, int],
    then: str,
    said: str,
    status: int | None,
) -> None:
    # given
    url = started("sandbox", "--port", "0").wait_for("http://").split()[-1]
    monkeypatch.setenv("HUB_SANDBOX_URL", url)
    asked = urllib.request.Request(f"{url}/twilio/_sandbox/faults", json.dumps(fault).encode())
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200

    # when
    failed = sms(*TRY, "--json", input=TEXT)

    # then
    tried = json.loads(failed.stdout)
    assert failed.exit_code == 1
    assert (tried["then"], tried["answer"], tried["calls"][0]["status"]) == (then, None, status)
    assert said in tried["because"]


@pytest.mark.parametrize("to", ["output", "error", "call"])
def test_a_secret_that_a_plugin_tells_is_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    # given
    leaky = EntryPoint(name="leaky", value="tests.leaky", group="hub")
    monkeypatch.setattr("hub.plugins.entry_points", lambda group: [leaky])
    assert cli("connections", "add", "parcel", "main", "--set", "account=main", "--sandbox").exit_code == 0

    # when
    command = ("plugins", "try", "parcel.label", "--connection", "main", "--input", "-", "--json")
    shown = cli(*command, input=json.dumps({"to": to})).stdout

    # then
    assert sandbox_secret("parcel", "main", "token") not in shown
    tried = json.loads(shown)
    said = {"output": str(tried["answer"]), "error": tried["because"], "call": str(tried["calls"])}
    assert "***" in said[to]
