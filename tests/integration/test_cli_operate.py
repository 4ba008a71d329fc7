"""Operating a hub: database, settings, keys, plugins, doctor."""

from __future__ import annotations

import base64
import sqlite3

import pytest

from hub.cli.output import show_table
from tests.integration.conftest import Cli


def test_a_database_is_made_looked_at_and_taken_back(empty_cli: Cli) -> None:
    # Given a new database
    assert empty_cli("db", "upgrade").exit_code == 0
    status = empty_cli.json("db", "status")
    assert status == {
        "database": "sqlite",
        "current": status["needed"],
        "needed": status["needed"],
        "behind": [],
        "ready": True,
    }

    # When it is taken back without saying so twice, nothing happens
    refused = empty_cli("db", "downgrade", "--to", "base")
    assert refused.exit_code == 2
    assert refused.stderr == "error: this may lose data, and there is no terminal to ask; add --yes to do it\n"
    assert empty_cli.json("db", "status")["ready"]

    # When it is taken back to what there is not, the revision is named
    unknown = empty_cli("db", "downgrade", "--to", "9999", "--yes")
    assert unknown.exit_code == 1
    assert "9999" in unknown.stderr

    # When it is taken back, commands name what mends it, and that mends it
    assert empty_cli("db", "downgrade", "--to", "base", "--yes").exit_code == 0
    behind = empty_cli("runs", "list")
    assert behind.exit_code == 1
    assert "hub db upgrade" in behind.stderr
    assert "hub db upgrade" in empty_cli("db", "status").stdout
    assert empty_cli("db", "upgrade").exit_code == 0
    assert empty_cli.json("runs", "list") == []


def test_a_server_database_is_upgraded_too(empty_cli: Cli, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", postgres_url)
    assert empty_cli("db", "downgrade", "--to", "base", "--yes").exit_code == 0
    assert empty_cli.json("db", "status")["current"] is None
    assert empty_cli("db", "upgrade").exit_code == 0
    assert empty_cli.json("db", "status")["ready"]
    assert empty_cli.json("runs", "list") == []


def test_settings_tell_their_source_and_no_secret(empty_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given settings with secrets in them
    key = base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("HUB_KEYS", key)
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://hub:s3cret:pa@ss@db.example.com/hub?password=s3cret2")
    monkeypatch.setenv("HUB_REDIS_URL", "redis://:s3cret@redis.example.com/0")

    # When they are shown
    text = empty_cli("settings").stdout
    shown = {row["name"]: row for row in empty_cli.json("settings")}

    # Then everything is there but the secrets
    assert shown["HUB_KEYS"]["value"] == "1 set, not shown"
    assert shown["HUB_DATABASE_URL"]["value"] == "postgresql://hub:***@db.example.com/hub?password=***"
    assert shown["HUB_REDIS_URL"]["value"] == "redis://:***@redis.example.com/0"
    assert (shown["HUB_KEYS"]["source"], shown["HUB_PORT"]["source"]) == ("environment", "default")
    assert all(row["description"] for row in shown.values())
    assert (shown["HUB_PORT"]["default"], shown["HUB_KEYS"]["default"]) == (8000, None)
    assert (shown["HUB_DATA_DIR"]["value"], shown["HUB_DATA_DIR"]["default"]) == (str(empty_cli.data_dir), "hub-data")
    for secret in (key, "s3cret", "pa@ss"):
        assert secret not in text + str(shown)


def test_a_generated_key_is_one_the_hub_takes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cli("keys", "generate").stdout.strip()
    assert len(base64.b64decode(made)) == 32
    monkeypatch.setenv("HUB_KEYS", made)
    assert cli("connections", "list").exit_code == 0


def test_api_keys_are_made_once_listed_without_themselves_and_revoked(cli: Cli) -> None:
    # Given a key
    key = cli("api-keys", "create", "dashboard", "--scope", "read").stdout.strip()
    assert key.startswith("hub_")

    # Then it is listed, but neither shown nor stored
    assert [(k["name"], k["scope"]) for k in cli.json("api-keys", "list")] == [("dashboard", "read")]
    assert key not in cli("api-keys", "list").output
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        assert key not in "\n".join(database.iterdump())
    database.close()

    # And its name is taken, and a wrong scope is a usage error
    assert cli("api-keys", "create", "dashboard", "--scope", "write").exit_code == 1
    assert cli("api-keys", "create", "other", "--scope", "all").exit_code == 2

    # When it is revoked, it is gone; what was never there is named with what is near
    misspelt = cli("api-keys", "revoke", "dashbord")
    assert misspelt.exit_code == 3
    assert "did you mean dashboard?" in misspelt.stderr
    assert cli("api-keys", "revoke", "dashboard").exit_code == 0
    assert cli.json("api-keys", "list") == []


def test_plugins_show_what_they_offer(empty_cli: Cli) -> None:
    found = {p["name"]: p for p in empty_cli.json("plugins")["plugins"]}
    assert "twilio.send_sms" in found["twilio"]["actions"]
    assert "shopify.order_paid" in found["shopify"]["triggers"]
    assert "twilio.send_sms" in empty_cli("plugins").stdout


def test_short_words_of_a_table_are_not_broken_beside_long_ones(capsys: pytest.CaptureFixture[str]) -> None:
    # given a table that does not fit into the width of a pipe
    row = {"id": "0" * 36, "kind": "connection", "target": "a-name-that-is-long-" * 3, "at": "2026-11-22T10:00:00Z"}
    # when it is shown
    show_table([row], {"id": "cap", "kind": "on", "target": "name", "at": "at"})
    # then it keeps within it, and only the long one is folded
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    for whole in ("0" * 36, "connection", "2026-11-22 10:00:00"):
        assert whole in shown
    assert row["target"] not in shown


def test_doctor_is_content_with_a_hub_that_is_well(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example.com")
    found = cli.json("doctor")
    assert {f["state"] for f in found} == {"ok"}
    assert {f["check"] for f in found} >= {
        "settings",
        "plugins",
        "public address",
        "database",
        "schema",
        "clock",
        "keys",
    }
    assert cli("doctor").exit_code == 0


def test_doctor_names_what_is_wrong_and_what_mends_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a connection whose key was lost, a Redis that is not there, and a clock that was moved
    secret = {"--set": "shop=my-shop.myshopify.com", "--secret-from-env": "access_token=SHOP_TOKEN"}
    monkeypatch.setenv("SHOP_TOKEN", "shpat_1")
    assert cli("connections", "add", "shopify", "my-shop", *(a for o in secret.items() for a in o)).exit_code == 0
    monkeypatch.setenv("HUB_KEYS", cli("keys", "generate").stdout.strip())
    monkeypatch.setenv("HUB_REDIS_URL", "redis://127.0.0.1:1/0")
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        database.execute("insert into meta (key, value) values ('clock_offset_ms', '86400000')")
    database.close()

    # When the doctor looks
    result = cli("doctor", "--json")

    # Then each is told with its mend, and it is not well
    assert result.exit_code == 1
    text = cli("doctor").stdout
    assert "my-shop: the credentials of" in text
    assert "add the key it was encrypted with to HUB_KEYS" in text
    assert "redis: it does not answer" in text
    assert "it was moved ahead by 1d" in text


def test_doctor_asks_for_an_upgrade_of_an_old_schema(cli: Cli) -> None:
    cli("db", "downgrade", "--to", "base", "--yes")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "mend: hub db upgrade" in result.stdout


def test_doctor_asks_for_keys_of_a_distributed_hub(
    empty_cli: Cli, postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", postgres_url)
    monkeypatch.setenv("HUB_REDIS_URL", redis_url)
    result = empty_cli("doctor")
    assert result.exit_code == 1
    assert "redis: it answers" in result.stdout
    assert "database: postgresql answers" in result.stdout
    assert "mend: export HUB_KEYS=$(hub keys generate)" in result.stdout

    # and for the keys of the embedded hub that it was
    empty_cli.data_dir.mkdir(exist_ok=True)
    (empty_cli.data_dir / "keys").write_text("one\ntwo\n")
    assert f"mend: export HUB_KEYS=$(paste -sd, {empty_cli.data_dir}/keys)" in " ".join(
        empty_cli("doctor").stdout.split()
    )


def test_the_clock_is_shown_and_does_not_move_without_a_hub(cli: Cli) -> None:
    assert cli.json("clock", "show")["offset_ms"] == 0
    assert cli("clock", "advance", "soon").exit_code == 2
    refused = cli("clock", "advance", "24h")
    assert refused.exit_code == 1
    assert "hub up" in refused.stderr
