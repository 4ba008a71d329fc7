"""Connecting accounts from the command line: fields, secrets, sandboxes, apps."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hub.cli.connect import _ways_in
from hub.process import open_hub, working
from hub.settings import Settings, load_settings
from tests.acme import acme
from tests.integration.conftest import Cli, Process

_SHOP = "shop=my-shop.myshopify.com"
_ADD = ("connections", "add", "shopify", "my-shop", "--set", _SHOP)


def test_a_sandbox_connection_needs_no_secret_and_works(
    cli: Cli, started: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the sandboxes
    sandboxes = started("sandbox", "--port", "0").wait_for("http://").split()[-1]

    # When an account is connected in sandbox mode
    monkeypatch.setenv("HUB_SANDBOX_URL", sandboxes)
    added = cli.json(*_ADD, "--sandbox")

    # Then it is listed, healthy, with its address, and the vendor's stand-in knows it
    assert added.pop("ways_in") == []
    assert (added["account"], added["mode"]) == ("my-shop.myshopify.com", "sandbox")
    assert cli.json("connections", "list") == [added]
    assert added["webhook_url"].startswith("http://127.0.0.1:8000/webhooks/shopify/")
    assert cli.json("connections", "test", "my-shop")["id"] == "my-shop.myshopify.com"
    assert "my-shop works" in cli("connections", "test", "my-shop").stdout
    assert "my-shop.myshopify.com" in cli("connections", "list").stdout


def test_what_is_to_be_minded_about_credentials_that_work_is_told(
    cli: Cli, started: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an account whose token cannot be looked at
    sandboxes = started("sandbox", "--port", "0").wait_for("http://").split()[-1]
    monkeypatch.setenv("HUB_SANDBOX_URL", sandboxes)
    cli.json("connections", "add", "facebook_ads", "meta", "--set", "ad_account_id=act_111", "--sandbox")

    # When it is tested, then programs and people are told
    [warning] = cli.json("connections", "test", "meta")["warnings"]
    assert "without an app_id" in warning
    told = " ".join(cli("connections", "test", "meta").stdout.split())
    assert "meta works" in told
    assert warning in told

    # And one about whose token nothing is to be minded says nothing
    cli.json("connections", "set", "meta", "app_id=1000000000000001")
    assert cli.json("connections", "test", "meta")["warnings"] == []


def test_without_a_public_address_the_ways_in_are_told_and_the_account_is_connected(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a real account and no address that its vendor could reach
    monkeypatch.setenv("SHOP_TOKEN", "planted-token")
    token = ("--secret-from-env", "access_token=SHOP_TOKEN")

    # When it is connected, for people and for programs
    shown = cli(*_ADD, *token)
    other = ("connections", "add", "shopify", "other", "--set", "shop=other.myshopify.com", *token)
    added = cli.json(*other)

    # Then it is connected, and both say how events can come in
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stdout.split())
    assert "connected my-shop" in said
    assert "HUB_PUBLIC_URL is not set; events can come in so:" in said
    assert "a tunnel of yours in front of http://127.0.0.1:8000" in said
    assert [way["name"] for way in added["ways_in"]] == ["your own address", "asking", "sandbox"]
    assert "hub connections add shopify NAME --sandbox" in added["ways_in"][2]["how"]

    # When there is an address, nothing is said
    monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example.com")
    third = cli(*other[:3], "third", "--set", "shop=third.myshopify.com", *token)
    assert "events can come in so" not in third.stdout


async def test_a_connector_that_asks_by_itself_needs_no_address(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        hub = replace(it.hub, settings=it.settings.model_copy(update={"public_url": None}))
        ways = {way["name"]: way["how"] for way in _ways_in(hub, acme, sandbox=False)}
    assert list(ways) == ["your own address", "asking", "sandbox"]
    [(name, poll)] = acme.polls.items()
    assert f"asks Acme by itself for {name} every {poll.every_s // 60}m" in ways["asking"]


def test_secrets_come_from_the_environment_or_standard_input_and_show_nowhere(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given secrets in a variable and on standard input
    monkeypatch.setenv("SHOP_TOKEN", "planted-token")
    result = cli(
        *_ADD,
        "--secret-from-env",
        "access_token=SHOP_TOKEN",
        "--set",
        "client_secret=-",
        input="planted-secret\n",
    )

    # Then the account is connected, and they are in no output and not readable in the database
    assert result.exit_code == 0, result.output
    shown = result.output + cli("connections", "list").output + str(cli.json("connections", "list"))
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        stored = "\n".join(database.iterdump())
    database.close()
    for secret in ("planted-token", "planted-secret"):
        assert secret not in shown
        assert secret not in stored
        assert secret.encode().hex() not in stored.lower()


def test_a_secret_on_the_command_line_is_taken_with_a_remark(cli: Cli) -> None:
    result = cli(*_ADD, "--set", "access_token=planted-token")
    assert result.exit_code == 0
    assert "access_token stood on the command line" in result.stderr
    assert "planted-token" not in result.output


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 1, "needs access_token"),
        (["--set", "acces_token=x"], 1, "did you mean access_token?"),
        (["--set", "planted-token"], 2, "FIELD=VALUE"),
        (["--secret-from-env", "access_token=NOT_THERE"], 2, "NOT_THERE"),
        (["--set", "shop=My Shop"], 1, "not its own domain; correct it and add it again"),
        (["--auth", "oauth"], 1, "has no auth oauth"),
        (["--app", "ours"], 3, "there is no app ours"),
    ],
)
def test_what_is_wrong_with_the_fields_is_said(cli: Cli, more: list[str], code: int, says: str) -> None:
    result = cli(*_ADD, *more)
    assert result.exit_code == code
    assert says in result.stderr
    assert "planted-token" not in result.output
    assert cli.json("connections", "list") == []


def test_names_of_connectors_and_connections_are_checked(cli: Cli) -> None:
    for command in (("connections", "add"), ("apps", "add")):
        unknown = cli(*command, "shopfy", "my-shop")
        assert (unknown.exit_code, "did you mean shopify?" in unknown.stderr) == (3, True)
    assert cli("connections", "add", "shopify", "My Shop", "--set", _SHOP).exit_code == 2
    cli(*_ADD, "--sandbox")
    assert "did you mean my-shop?" in cli("connections", "test", "my-shp").stderr


def test_missing_secrets_are_asked_for_without_echo(cli: Cli) -> None:
    # Given somebody at a terminal
    theirs, ours = pty.openpty()
    command = [sys.executable, "-c", "from hub.cli import main; main()", *_ADD]
    with subprocess.Popen(
        command, stdin=ours, stdout=ours, stderr=ours, start_new_session=True, env=dict(os.environ)
    ) as asking:
        os.close(ours)
        seen = _read_until(theirs, b"(access_token): ")

        # When they type the secret
        os.write(theirs, b"planted-token\n")
        seen += _read_until(theirs, b"connected my-shop")
        assert asking.wait(timeout=20) == 0
    os.close(theirs)

    # Then it was taken and not shown
    assert b"planted-token" not in seen
    assert [c["mode"] for c in cli.json("connections", "list")] == ["live"]


def _read_until(terminal: int, text: bytes) -> bytes:
    seen, until = b"", time.monotonic() + 20
    while text not in seen:
        assert select.select([terminal], [], [], max(0, until - time.monotonic()))[0], seen
        seen += os.read(terminal, 1024)
    return seen


def test_new_credentials_replace_old_ones_of_the_same_account_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a connection that needs new credentials
    monkeypatch.setenv("SHOP_TOKEN", "shpat_1")
    cli(*_ADD, "--secret-from-env", "access_token=SHOP_TOKEN")
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        database.execute("update connection set health = 'needs re-authorisation', health_reason = 'refused'")
        # As the hub does, so that processes read again.
        database.execute("update meta set value = value + 1 where key = 'connections'")
    database.close()
    listed = [" ".join(line.split()) for line in cli("connections", "list").stdout.splitlines()]
    assert "my-shop shopify my-shop.myshopify.com live needs re-authorisation" in listed
    assert "my-shop refused" in listed
    assert "mend: hub connections reauthorise my-shop" in cli("doctor").stdout

    # When none are given, or those of another account, nothing changes
    assert cli("connections", "reauthorise", "my-shop").exit_code == 2
    other = cli("connections", "reauthorise", "my-shop", "--set", "shop=other.myshopify.com")
    assert other.exit_code == 1
    assert "other.myshopify.com" in other.stderr

    # When new ones are given, it is well again
    again = cli.json("connections", "reauthorise", "my-shop", "--secret-from-env", "access_token=SHOP_TOKEN")
    assert again["health"] == "ok"


def test_a_connection_can_be_removed_and_its_secret_with_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "shpat_1")
    cli(*_ADD, "--secret-from-env", "access_token=SHOP_TOKEN")
    removed = cli("connections", "remove", "my-shop")
    assert "revoke them at shopify as well" in removed.stdout
    assert cli.json("connections", "list") == []
    again = cli("connections", "remove", "my-shop")
    assert again.exit_code == 3
    assert "there is no connection my-shop" in again.stderr
    # The account can be connected anew.
    assert cli(*_ADD, "--secret-from-env", "access_token=SHOP_TOKEN").exit_code == 0


def test_an_app_serves_connections_that_need_no_webhook_secret_of_their_own(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SECRET", "planted-secret")
    added = cli.json("apps", "add", "shopify", "ours", "--secret-from-env", "client_secret=APP_SECRET")
    assert cli.json("apps", "list") == [added]
    assert added["webhook_url"].startswith("http://")
    assert cli("apps", "add", "shopify", "theirs").exit_code == 1

    monkeypatch.setenv("SHOP_TOKEN", "shpat_1")
    result = cli(*_ADD, "--app", "ours", "--secret-from-env", "access_token=SHOP_TOKEN")
    assert result.exit_code == 0, result.output

    # A secret that was changed counts for all of them, at the same address.
    monkeypatch.setenv("APP_SECRET", "another-secret")
    changed = cli.json("apps", "set", "ours", "--secret-from-env", "client_secret=APP_SECRET")
    assert changed == added
    remark = cli("apps", "set", "ours", "--set", "client_secret=third-secret")
    assert "client_secret stood on the command line" in remark.stderr
    assert "third-secret" not in remark.output
    # An app that serves a connection stays; one that serves none goes.
    refused = cli("apps", "remove", "ours")
    assert (refused.exit_code, "the app ours serves the connection my-shop;" in refused.stderr) == (1, True)
    assert cli("connections", "remove", "my-shop").exit_code == 0
    assert "removed the app ours" in cli("apps", "remove", "ours").stdout
    assert cli.json("apps", "list") == []


def test_of_a_long_secret_the_end_is_shown_and_of_a_short_one_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given secrets of eleven and twelve characters, and one that was never given
    monkeypatch.setenv("SHOP_TOKEN", "shpat_12345")
    cli(*_ADD, "--secret-from-env", "access_token=SHOP_TOKEN")
    monkeypatch.setenv("APP_SECRET", "planted-wxyz")
    cli("apps", "add", "shopify", "ours", "--secret-from-env", "client_secret=APP_SECRET")

    # When one connection or app is looked at
    shop, ours = cli.json("connections", "show", "my-shop"), cli.json("apps", "show", "ours")

    # Then it says which are set, and how the long one ends
    known = {one["name"]: (one["set"], one["ends_with"]) for one in shop["secrets"]}
    assert known.pop("access_token") == (True, None)
    assert set(known.values()) == {(False, None)}
    assert {"name": "client_secret", "set": True, "ends_with": "wxyz"} in ours["secrets"]
    text = cli("connections", "show", "my-shop").stdout + cli("apps", "show", "ours").stdout
    words = " ".join(text.split())
    assert "access_token set" in words
    assert "client_secret not set" in words
    assert "client_secret set, ends with wxyz" in words
    assert "shpat" not in text
    assert "planted" not in text
    # and lists open nothing
    assert "wxyz" not in str(cli.json("apps", "list")) + cli("apps", "list").stdout
    assert cli("connections", "show", "my-shp").exit_code == 3


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("set", "ors", "--set", "client_secret=x"), 3, "there is no app ors; did you mean ours?"),
        (("remove", "ors"), 3, "there is no app ors; did you mean ours?"),
        (("set", "ours", "--set", "client_secrt=x"), 1, "did you mean client_secret?"),
        (("set", "ours"), 1, "needs one of client_secret"),
    ],
)
def test_what_cannot_be_changed_of_an_app_is_said(cli: Cli, command: tuple[str, ...], code: int, says: str) -> None:
    cli.json("apps", "add", "shopify", "ours", "--set", "client_secret=planted-secret")
    refused = cli("apps", *command)
    assert (refused.exit_code, says in refused.stderr) == (code, True), refused.output


async def _look(settings: Settings) -> None:
    """A hub at work until nothing is due any more: the first polls take a while of a shop's points."""
    async with open_hub(settings) as hub, working(hub):
        await hub.library.apply(
            "recipe: buyers\non: {event: shopify.order_paid}\nsteps:\n  - {stop: heard}\n", publish=True
        )
        await hub.time.advance(hub.clock.now_ms() + 120_000, ring=hub.ring)


def test_subscriptions_are_shown_and_end_with_their_connection(
    cli: Cli, started: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandboxes = started("sandbox", "--port", "0").wait_for("http://").split()[-1]
    monkeypatch.setenv("HUB_SANDBOX_URL", sandboxes)
    monkeypatch.setenv("HUB_DEVELOPMENT", "true")
    assert cli(*_ADD, "--sandbox").exit_code == 0
    # before anybody looked
    shown = cli.json("connections", "subscriptions", "my-shop")
    assert (shown["wanted"], shown["looked_at"], shown["problem"]) == ([], None, None)
    assert "nothing is wanted" in cli("connections", "subscriptions", "my-shop").output
    # when a hub has run
    asyncio.run(_look(load_settings()))
    # then they are there, for programs and for people
    shown = cli.json("connections", "subscriptions", "my-shop")
    assert "orders/paid" in shown["wanted"]
    assert {one["topic"] for one in shown["there"]} == set(shown["wanted"])
    assert shown["address"].startswith("http://127.0.0.1:8000/webhooks/shopify/")
    said = cli("connections", "subscriptions", "my-shop").stdout
    assert "orders/paid" in said
    assert "a recipe needs it" in said
    kept = f"{len(shown['wanted'])} kept, looked at"
    assert kept in cli("connections", "list").stdout
    assert kept in cli("connections", "test", "my-shop").stdout
    assert kept in cli.json("connections", "test", "my-shop")["subscriptions"]
    # and they end with it
    assert cli("connections", "subscriptions", "nobody").exit_code == 3
    removed = cli.json("connections", "remove", "my-shop", "--force")
    assert (removed["unsubscribed"], removed["problem"]) == (len(shown["wanted"]), None)
