"""What `hub doctor` finds: each thing that may be wrong is named with what mends it, and a check that fails hides no other."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.conftest import Cli

_DAY_MS = 24 * 3_600_000
_RECIPE = """
recipe: thanks
on: {event: shopify.order_paid}
steps: [{wait: 1h}]
"""


@pytest.fixture
def well(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """A set-up in which nothing is to be mended."""
    monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example.com")
    monkeypatch.chdir(tmp_path)
    return cli


@pytest.fixture
def shop(well: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """One live connection, and a recipe that listens to it."""
    monkeypatch.setenv("SHOP_TOKEN", "shpat_1")
    monkeypatch.setenv("SHOP_SECRET", "secret")
    given = ["--set", "shop=my-shop.myshopify.com", "--secret-from-env", "access_token=SHOP_TOKEN"]
    assert well("connections", "add", "shopify", "my-shop", *given).exit_code == 0
    (tmp_path / "thanks.yaml").write_text(_RECIPE)
    assert well("recipes", "apply", str(tmp_path / "thanks.yaml"), "--publish").exit_code == 0
    return well


def _sql(cli: Cli, *statements: str) -> None:
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def _unwell(cli: Cli) -> list[dict[str, Any]]:
    """The findings that are not ok."""
    return [f for f in json.loads(cli("doctor", "--json").stdout) if f["state"] != "ok"]


def test_a_connection_that_recipes_use_is_well(shop: Cli) -> None:
    assert _unwell(shop) == []
    assert shop("doctor", "--strict").exit_code == 0


def test_a_pause_is_a_warning_that_fails_only_where_one_is_strict(well: Cli) -> None:
    assert well("pause", "--all", "--reason", "wrong prices").exit_code == 0
    [pause] = _unwell(well)
    assert (pause["check"], pause["state"], pause["mend"]) == ("pauses", "warning", "hub resume --all")
    assert "everything is paused since" in pause["message"]
    assert "wrong prices; 0 runs wait" in pause["message"]
    assert well("doctor").exit_code == 0
    assert well("doctor", "--strict").exit_code == 1
    assert well("resume", "--all", "--yes").exit_code == 0
    assert well("doctor", "--strict").exit_code == 0


def test_older_keys_are_to_be_rotated(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # given credentials sealed with what is now the older key
    older = (shop.data_dir / "keys").read_text().strip()
    newer = shop("keys", "generate").stdout.strip()
    monkeypatch.setenv("HUB_KEYS", f"{newer},{older}")

    # then the doctor says what to run, and is content when it was
    [keys] = _unwell(shop)
    assert (keys["check"], keys["state"], keys["mend"]) == ("keys", "warning", "hub keys rotate")
    assert shop("keys", "rotate").exit_code == 0
    assert _unwell(shop) == []


def test_a_connection_that_says_nothing_for_long_is_named_with_the_recipes_that_listen(shop: Cli) -> None:
    # given a connection of a month ago, of which no event came
    month_ms = int(time.time() * 1000) - 30 * _DAY_MS
    _sql(shop, f"update connection set created_at = {month_ms}")
    [silent] = _unwell(shop)
    assert silent["check"] == "connection my-shop"
    assert "thanks listen to it" in silent["message"]
    assert "hub deliveries --refused" in silent["mend"]

    # when one came today, it is well; when none came for eight days, the last one is named
    event = "insert into event (id, connection_id, type, occurred_at, received_at, data, stage) select 'e1', id, 'shopify.order_paid', 1, {at}, '{{}}', 'routed' from connection"
    _sql(shop, event.format(at=month_ms + 30 * _DAY_MS))
    assert _unwell(shop) == []
    _sql(shop, f"update event set received_at = {month_ms + 22 * _DAY_MS - 60_000}")
    assert "its last event came at" in _unwell(shop)[0]["message"]

    # when nothing listens any more, it may be silent
    assert shop("recipes", "pause", "thanks").exit_code == 0
    assert _unwell(shop) == []


@pytest.mark.parametrize(
    ("days", "state", "said"), [(3, "warning", "its token ends at"), (-1, "wrong", "its token ended")]
)
def test_a_token_that_ends_and_cannot_be_renewed_is_named(shop: Cli, days: int, state: str, said: str) -> None:
    _sql(shop, f"update connection set token_expires_at = {int(time.time() * 1000) + days * _DAY_MS}")
    [token] = _unwell(shop)
    assert (token["state"], token["mend"]) == (state, "hub connections reauthorise my-shop")
    assert said in token["message"]


def test_a_token_that_is_good_for_long_is_well(shop: Cli) -> None:
    _sql(shop, f"update connection set token_expires_at = {int(time.time() * 1000) + 60 * _DAY_MS}")
    assert _unwell(shop) == []


def test_a_connection_that_rests_or_needs_somebody_is_named(shop: Cli) -> None:
    _sql(
        shop,
        "insert into breaker (connection, state, until, trips, reason, since) values ('my-shop', 'open', 4102444800000, 1, "
        "'it answers 500', 1)",
    )
    [rests] = _unwell(shop)
    assert (rests["state"], rests["mend"]) == ("warning", "hub connections test my-shop")
    assert "resting until 2100" in rests["message"]
    _sql(shop, "update connection set health = 'needs_reauth', health_reason = 'the vendor said 401'")
    [needs] = _unwell(shop)
    assert (needs["state"], needs["mend"]) == ("wrong", "hub connections reauthorise my-shop")


def test_refusals_that_rise_are_named(well: Cli) -> None:
    # given as many an hour as ever
    minute = int(time.time() // 60)
    refusal = "insert into refusal values ('shopify', 'h', '{why}', {minute}, {count}, '[]')"
    _sql(well, *(refusal.format(why="old", minute=minute - 60 * hour - 30, count=20) for hour in range(1, 25)))
    _sql(well, refusal.format(why="new", minute=minute - 1, count=25))
    assert _unwell(well) == []

    # when there are many times as many
    _sql(well, refusal.format(why="newer", minute=minute - 1, count=100))
    [rising] = _unwell(well)
    assert rising["message"] == "125 calls for shopify were refused in the last hour, 20.0 an hour before"
    assert rising["mend"] == "hub deliveries --refused"


def test_what_was_set_aside_is_counted(well: Cli) -> None:
    event = "insert into event (id, connection_id, type, occurred_at, received_at, data, stage) values ('{id}', 'c', 'x.y', 1, 1, '{{}}', '{stage}')"
    _sql(
        well,
        event.format(id="e1", stage="quarantined"),
        event.format(id="e2", stage="plugin"),
        event.format(id="e3", stage="plugin"),
        "insert into run (id, recipe, version, entry_key, scope, status, trigger_data, ctx, started_at) "
        "values ('r1', 'x', 1, 'ev:1', '', 'parked', '{}', '{}', 1)",
        "insert into work (kind, ref, queue, due_at, parked_on) values ('run', 'r1', 'x', 9000000000000000000, 'poison')",
    )
    found = {f["mend"]: f["message"] for f in _unwell(well)}
    assert found == {
        "hub runs retry --outcome poison": "runs were set aside after five claims without progress: 1",
        "hub events list --stage quarantined": "events could not be routed: 1",
        "hub events list --stage plugin": "events wait for a plugin that is not there: 2",
    }


def test_a_check_that_fails_itself_is_a_finding_and_the_others_still_look(well: Cli) -> None:
    # given a database in which one check falls over
    _sql(well, "drop table refusal")
    result = well("doctor")
    assert result.exit_code == 1
    assert "the check itself failed (OperationalError: no such table: refusal)" in result.stdout
    assert "hub --debug doctor" in result.stdout
    assert "Traceback" not in result.output
    assert [f["check"] for f in _unwell(well)] == ["webhooks"]
    assert {"pauses", "watchdog", "runs"} <= {f["check"] for f in json.loads(well("doctor", "--json").stdout)}


@pytest.mark.parametrize(("free", "state"), [(1_000_000, "wrong"), (1_000_000_000, "warning"), (90_000_000_000, "ok")])
def test_a_disk_that_fills_up_is_named(well: Cli, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    usage = namedtuple("usage", "total used free")
    total = 100_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(total, total - free, free))
    disk = [f for f in json.loads(well("doctor", "--json").stdout) if f["check"] == "disk"]
    assert {f["state"] for f in disk} == {state}
    # (the data and the spool are on one disk)
    assert len(disk) == 1
    assert "GB left" in disk[0]["message"]
    assert "the disk of " in disk[0]["message"]


def test_redis_with_a_clock_of_its_own_is_named(well: Cli, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_REDIS_URL", redis_url)
    assert _unwell(well) == []
    monkeypatch.setattr("hub.cli.checkup.time", SimpleNamespace(time=lambda: time.time() + 600))
    [skew] = _unwell(well)
    assert skew["check"] == "redis"
    # To the second, which may just be over.
    assert re.search(r"its clock is (10m|9m 59s) behind this machine's", skew["message"])


def test_a_server_without_redis_is_told_what_that_costs(
    well: Cli, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", postgres_url)
    monkeypatch.setenv("HUB_KEYS", well("keys", "generate").stdout.strip())
    [redis] = _unwell(well)
    assert (redis["check"], redis["state"], redis["mend"]) == ("redis", "warning", "HUB_REDIS_URL=redis://…")


@pytest.mark.parametrize(
    ("address", "said"),
    [(None, "which only this machine reaches"), ("http://hub.example.com", "webhooks travel readable")],
)
def test_an_address_that_vendors_cannot_use_is_named(
    well: Cli, monkeypatch: pytest.MonkeyPatch, address: str | None, said: str
) -> None:
    if address is None:
        monkeypatch.delenv("HUB_PUBLIC_URL")
    else:
        monkeypatch.setenv("HUB_PUBLIC_URL", address)
    [found] = _unwell(well)
    assert (found["check"], found["state"]) == ("public address", "warning")
    assert said in found["message"]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_misspelt_variable_is_named_with_the_right_one(
    well: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given one in the environment and one in the file .env
    monkeypatch.setenv("HUB_PUBLIC_ULR", "https://hub.example.com")
    (tmp_path / ".env").write_text("HUB_REDIS_ULR=redis://127.0.0.1\nOTHER=1\n")

    # then both are named wherever somebody looks, and nothing else is
    found = _unwell(well)
    assert [f["message"] for f in found] == [
        "HUB_PUBLIC_ULR is set, and there is no such setting; did you mean HUB_PUBLIC_URL?",
        "HUB_REDIS_ULR is set, and there is no such setting; did you mean HUB_REDIS_URL?",
    ]
    shown = well("settings")
    assert "did you mean HUB_PUBLIC_URL?" in " ".join(shown.stderr.split())
    assert "ULR" not in shown.stdout
