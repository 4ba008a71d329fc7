"""The command line as a whole: quick help, one message for each error, exit codes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hub.cli import app
from hub.vault import generate_key
from tests.integration.conftest import Cli

_HEAVY = [
    "aiohttp",
    "alembic",
    "dramatiq",
    "fastapi",
    "pydantic",
    "redis",
    "sqlalchemy",
    "uvicorn",
    "hub_shopify",
    "hub_twilio",
]
_NO_JSON = {
    "up": "runs until it is stopped; what it says goes to its log",
    "api": "runs until it is stopped; what it says goes to its log",
    "worker": "runs until it is stopped; what it says goes to its log",
    "sandbox": "runs until it is stopped",
    "demo": "writes its report as JSON with --report",
    "recipes schema": "its answer is JSON anyway",
    "plugins new": "writes files, and says which commands come next",
    "recipes new": "writes files, and says which commands come next",
}
_RUNS_ON = ("up", "api", "worker", "sandbox", "demo")
# What each command needs on its command line.
_NEEDS = {
    "connections add": ["shopify", "shop", "--sandbox"],
    "connections show": ["x"],
    "connections test": ["x"],
    "connections subscriptions": ["x"],
    "connections set": ["x", "field=value"],
    "connections choices": ["x"],
    "connections backfill": ["x"],
    "connections reauthorise": ["x"],
    "connections remove": ["x"],
    "apps add": ["shopify", "x"],
    "apps show": ["x"],
    "apps set": ["x"],
    "apps remove": ["x"],
    "recipes validate": ["."],
    "recipes apply": ["."],
    "recipes publish": ["x"],
    "recipes pause": ["x"],
    "recipes show": ["x"],
    "recipes test": ["."],
    "recipes new": ["--name", "late", "--on", "shopify.order_paid", "--do", "shopify.tag_customer"],
    "recipes plan": ["."],
    "recipes preview": ["x", "--contact", "x"],
    "recipes simulate": ["x", "--stored"],
    "deliveries capture": ["--to", "there"],
    "plugins new": ["acme"],
    "plugins try": ["twilio.send_sms", "--connection", "x", "--input", "-"],
    "runs show": ["x"],
    "runs cancel": ["x"],
    "runs answer": ["x", "--done"],
    "events show": ["x"],
    "events replay": ["x"],
    "contacts show": ["x"],
    "contacts erase": ["x", "--reason", "asked", "--yes"],
    "contacts merge": ["x", "y", "--yes"],
    "contacts unmerge": ["x"],
    "contacts export": ["x", "--to", "there.json"],
    "api-keys create": ["x", "--scope", "read"],
    "api-keys revoke": ["x"],
    "caps set": ["1", "--per", "day", "--connection", "x"],
    "caps remove": ["x"],
    "clock advance": ["1h"],
    "db copy": ["--to", "sqlite:///copy.db"],
    "db downgrade": ["--to", "base", "--yes"],
    "db prune": ["--dry-run"],
    "pause": ["--all", "--reason", "x"],
    "resume": ["--all"],
    "top": ["--once"],
}
# What a database that is away does not matter to, or matters otherwise.
_NEEDS_NO_DATABASE = {
    "plugins": 0,
    "settings": 0,
    "keys generate": 0,
    "recipes schema": 0,
    "recipes validate": 0,
    "recipes test": 1,
    "plugins new": 0,
    "doctor": 1,
    "clock advance": 1,
}


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{path}{name}", command
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    # When it is imported in a fresh interpreter
    code = f"import hub.cli, json, sys; print(json.dumps([m for m in {_HEAVY} if m in sys.modules]))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout

    # Then what only commands need is not there yet
    assert json.loads(printed) == []


def test_every_command_says_what_it_does_and_every_answer_can_be_had_as_json() -> None:
    commands = dict(_commands(get_command(app)))
    assert len(commands) > 30
    assert [name for name, command in commands.items() if not command.help] == []
    options = {name: {o for p in command.params for o in p.opts} for name, command in commands.items()}
    assert sorted(name for name, known in options.items() if "--json" not in known) == sorted(_NO_JSON)


@pytest.mark.parametrize("name", [name for name, _ in _commands(get_command(app))])
def test_every_command_explains_itself_and_refuses_what_it_does_not_know(empty_cli: Cli, name: str) -> None:
    told = empty_cli(*name.split(), "--help")
    assert told.exit_code == 0
    # Nothing of it is taken for markup.
    assert " ".join(str(dict(_commands(get_command(app)))[name].help).split()) in " ".join(told.stdout.split())
    unknown = empty_cli(*name.split(), *_NEEDS.get(name, []), "--no-such-thing")
    assert unknown.exit_code == 2
    assert "--no-such-thing" in unknown.stderr
    assert "Traceback" not in unknown.output


@pytest.mark.parametrize("name", [name for name, _ in _commands(get_command(app)) if name not in _RUNS_ON])
def test_every_command_keeps_to_the_exit_codes_when_the_database_is_away(
    empty_cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a database that cannot be reached, and nothing else wrong
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://hub:planted-password@127.0.0.1:1/hub")
    monkeypatch.setenv("HUB_KEYS", generate_key())

    # When a command is given what it needs
    result = empty_cli(*name.split(), *_NEEDS.get(name, []))

    # Then it says so by its exit code, in one sentence
    assert result.exit_code == _NEEDS_NO_DATABASE.get(name, 4), result.output
    assert "planted-password" not in result.output
    assert "Traceback" not in result.output
    if result.exit_code == 4:
        assert result.stderr.startswith("error: the database cannot be reached: nothing listens at its address")


def test_help_tells_the_exit_codes(empty_cli: Cli) -> None:
    result = empty_cli("--help")
    assert result.exit_code == 0
    assert "4 the database cannot be reached" in " ".join(result.stdout.split())


@pytest.mark.parametrize(("typed", "meant"), [(["run", "list"], "runs"), (["runs", "shwo", "x"], "show")])
def test_a_misspelt_command_is_a_usage_error_with_a_suggestion(empty_cli: Cli, typed: list[str], meant: str) -> None:
    result = empty_cli(*typed)
    assert result.exit_code == 2
    assert f"'{meant}'" in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["recipes", "publish", "thansk"], "did you mean thanks?"),
        (["recipes", "show", "thnks"], "did you mean thanks?"),
        (["runs", "list", "--recipe", "thansk"], "did you mean thanks?"),
        (["connections", "test", "my-shpo"], "did you mean my-shop?"),
        (["connections", "subscriptions", "my-shpo"], "did you mean my-shop?"),
        (["connections", "reauthorise", "my-shap"], "did you mean my-shop?"),
        (["connections", "add", "shopfy", "x"], "did you mean shopify?"),
        (["connections", "add", "shopify", "x", "--sandbox", "--set", "shpo=a"], "did you mean shop?"),
        (["connections", "add", "shopify", "x", "--sandbox", "--set", "shop=a.myshopify.com", "--app", "our"], "ours?"),
        (["apps", "add", "shopifi", "x"], "did you mean shopify?"),
        (["pause", "--recipe", "thansk", "--reason", "x"], "did you mean thanks?"),
        (["pause", "--connection", "my-shp", "--reason", "x"], "did you mean my-shop?"),
        (["pause", "--purpose", "ordrs", "--reason", "x"], "did you mean orders?"),
        (["caps", "set", "1", "--per", "day", "--recipe", "thansk"], "did you mean thanks?"),
        (
            ["caps", "set", "1", "--per", "day", "--connection", "my-shop", "--unit", "message"],
            "did you mean messages?",
        ),
        (["api-keys", "revoke", "locl"], "did you mean local?"),
        (["runs", "list", "--recpie", "x"], "--recipe"),
        (["runs", "list", "--status", "faild"], "cancelled; did you mean failed?"),
        (["runs", "retry", "--outcome", "poisn"], "did you mean poison?"),
        (["events", "list", "--stage", "quarantine"], "did you mean quarantined?"),
        (["api-keys", "create", "x", "--scope", "raed"], "raed is none of read, write; did you mean read?"),
        (["recipes", "validate", "purpose.yaml"], "did you mean orders?"),
        (["recipes", "validate", "step.yaml"], "did you mean wait?"),
        (["recipes", "validate", "event.yaml"], "did you mean shopify.order_paid?"),
        (["recipes", "validate", "action.yaml"], "did you mean twilio.send_sms?"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_right_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: list[str], meant: str
) -> None:
    # Given a hub with one of everything, and recipes with a mistake each
    monkeypatch.chdir(tmp_path)
    head = "recipe: {}\non: {{event: shopify.order_paid}}\nsteps:\n  - {}\n"
    send = "{{do: {}, purpose: {}, with: {{to: '+14155550100', body: x}}}}"
    purposes = "orders: {channel: sms, class: transactional}\n"
    (tmp_path / "purposes.yaml").write_text(purposes)
    (tmp_path / "thanks.yaml").write_text(head.format("thanks", "wait: 1h"))
    for command in (
        ["connections", "add", "shopify", "my-shop", "--set", "shop=my-shop.myshopify.com", "--sandbox"],
        ["apps", "add", "shopify", "ours", "--set", "client_secret=planted"],
        ["recipes", "apply", "purposes.yaml", "thanks.yaml"],
        ["api-keys", "create", "local", "--scope", "read"],
    ):
        result = cli(*command)
        assert result.exit_code == 0, result.output
    (tmp_path / "step.yaml").write_text(head.format("a", "wiat: 1h"))
    (tmp_path / "event.yaml").write_text(head.format("a", "wait: 1h").replace("order_paid", "order_payed"))
    (tmp_path / "action.yaml").write_text(head.format("a", send.format("twilio.send_sm", "orders")))
    (tmp_path / "purpose.yaml").write_text(head.format("a", send.format("twilio.send_sms", "ordrs")))
    more = ["purposes.yaml"] if typed[-1] == "purpose.yaml" else []

    # When a name is misspelt, then the right one is told
    result = cli(*typed, *more)
    assert result.exit_code != 0
    assert meant in " ".join(result.stderr.replace("│", " ").split())
    assert "Value error" not in result.output


@pytest.mark.parametrize("command", [["runs", "list"], ["doctor"], ["db", "status"], ["connections", "list"]])
def test_before_the_first_start_commands_say_how_to_start_and_make_no_file(empty_cli: Cli, command: list[str]) -> None:
    result = empty_cli(*command)
    assert result.exit_code == 1
    assert "hub up" in result.output
    assert not empty_cli.data_dir.exists()


def test_what_is_not_there_has_its_own_exit_code(cli: Cli) -> None:
    for command in (["runs", "show", "x"], ["events", "show", "x"], ["contacts", "show", "a@example.com"]):
        result = cli(*command)
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")
        assert result.stdout == ""


def test_a_database_that_cannot_be_reached_has_its_own_exit_code(
    empty_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://hub:planted-password@127.0.0.1:1/hub")
    for command in (["runs", "list"], ["db", "status"], ["db", "upgrade"]):
        result = empty_cli(*command)
        assert result.exit_code == 4
        assert result.stderr.startswith("error: the database cannot be reached: nothing listens at its address")
        assert "planted-password" not in result.output


def test_a_wrong_setting_is_named(empty_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_PORT", "eighty")
    for command in (["settings"], ["runs", "list"], ["doctor"]):
        result = empty_cli(*command)
        assert result.exit_code == 1
        assert "HUB_PORT" in result.output


def test_a_defect_is_one_line_and_a_traceback_only_with_debug(cli: Cli) -> None:
    # Given a database that lost a table, which no check foresees
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as database:
        database.execute("drop table run")

    # When a command meets it
    result = cli("runs", "list")

    # Then one line says so and how to learn more
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "hub --debug" in result.stderr
    assert "Traceback" not in result.output

    # And with --debug the error comes out as it is
    assert "no such table: run" in str(cli("--debug", "runs", "list").exception)


def test_a_known_error_also_comes_out_as_it_is_with_debug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DEBUG", "1")
    assert "there is no run x" in str(cli("runs", "show", "x").exception)


@pytest.mark.parametrize(
    "command",
    [
        ["recipes", "validate", "odd.yaml"],
        ["recipes", "show", "odd.yaml"],
        ["recipes", "plan", "odd.yaml"],
        ["recipes", "apply", "odd.yaml"],
        ["recipes", "preview", "odd.yaml", "--contact", "x"],
        ["recipes", "test", "odd.test.yaml"],
        ["recipes", "simulate", "odd.yaml", "--events", "odd.json"],
        ["recipes", "simulate", "good.yaml", "--events", "odd.json"],
        ["plugins", "try", "shopify.tag_customer", "--connection", "my-shop", "--input", "odd.json"],
    ],
)
def test_a_file_that_is_no_text_is_named_and_no_defect(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = ("connections", "add", "shopify", "my-shop", "--set", "shop=my-shop.myshopify.com", "--sandbox")
    assert cli(*shop).exit_code == 0
    for name in ("odd.yaml", "odd.test.yaml", "odd.json"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    (tmp_path / "good.yaml").write_text("recipe: good\non: {event: shopify.order_paid}\nsteps:\n  - wait: 1h\n")
    result = cli(*command)
    assert result.exit_code == 1
    assert "no text in UTF-8" in result.stderr
    assert "the hub itself failed" not in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["plugins", "new", "acme", "--dir", "taken/acme"],
        ["deliveries", "capture", "--to", "taken"],
        ["recipes", "new", "--name", "a", "--on", "shopify.order_paid", "--do", "twilio.send_sms", "--purpose", "a=marketing", "--folder", "taken"],
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_is_named_and_no_defect(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    result = cli(*command)
    assert result.exit_code == 1
    assert "taken" in result.stderr
    assert "the hub itself failed" not in result.output


@pytest.mark.parametrize("command", [("runs", "show"), ("events", "show"), ("contacts", "show")])
def test_bytes_that_are_no_text_are_a_mistake_of_whoever_gave_them(cli: Cli, command: tuple[str, ...]) -> None:
    # given a byte as a shell passes it on that is no UTF-8
    refused = cli(*command, "a\udcff")
    assert refused.exit_code == 2, refused.output
    assert "holds bytes that are no UTF-8" in refused.stderr
