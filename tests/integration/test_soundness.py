"""Whether a database is sound: each thing that may be wrong with it is found, and named with what mends it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from hub.store import migrate, soundness
from hub.store.invariants import Finding
from hub.store.session import Store
from tests.conftest import Running
from tests.integration.conftest import Cli


async def _check(url: str, *statements: str) -> dict[str, Finding]:
    """What is found, by kind, after some statements."""
    store = Store(url)
    try:
        async with store.write() as c:
            for statement in statements:
                await c.run(statement)
        return {finding.kind: finding for finding in await soundness.check(store, lease_ms=30_000)}
    finally:
        await store.close()


async def test_a_fresh_database_is_sound(database_url: str) -> None:
    assert await _check(database_url) == {}


async def test_a_database_with_runs_that_wait_is_sound_whether_a_hub_runs_or_not(
    database_url: str, running: Callable[..., AbstractAsyncContextManager[Running]]
) -> None:
    recipe = "recipe: later\non: {event: acme.carted}\nsteps: [{wait: 30d}]\n"
    async with running(database_url) as it:
        await it.publish(recipe)
        await it.deliver("carted", {"id": "c1", "email": "jane@example.com"})
        await it.rest()
        assert await soundness.check(it.hub.store, lease_ms=30_000) == []
    # Long after everything was due nobody is at work: that is late, and sound.
    assert await _check(database_url, "update work set due_at = 1") == {}


async def test_an_operator_s_own_index_and_table_are_nobody_s_business(database_url: str) -> None:
    assert (
        await _check(database_url, "create index mine on run (started_at)", "create table mine_too (id integer)") == {}
    )


async def test_a_missing_index_is_made_again_by_what_the_finding_says(database_url: str) -> None:
    # given a database that lost two, one of them partial
    found = await _check(database_url, "drop index work_due", "drop index event_unrouted")
    assert list(found) == ["index_missing"]

    # when each is mended as it says
    store = Store(database_url)
    for finding in await soundness.check(store, lease_ms=30_000):
        place, _, statement = finding.mend.partition(": ")
        assert place == "in the database"
        async with store.write() as c:
            await c.run(statement)
    await store.close()

    # then it is as it was made
    assert await _check(database_url) == {}


async def test_a_missing_column_and_a_missing_table_are_found(database_url: str) -> None:
    found = await _check(database_url, "alter table run drop column depth")
    assert found["schema_differs"].message == "the column depth of run is missing"
    found = await _check(database_url, "drop table cap", "alter table run add column depth integer default 0 not null")
    assert found["schema_differs"].message == "the table cap is missing"
    assert "backup" in found["schema_differs"].mend


async def test_an_older_schema_names_the_command(database_url: str) -> None:
    store = Store(database_url)
    await migrate.downgrade(store, "0002")
    [finding] = await soundness.check(store, lease_ms=30_000)
    assert (finding.kind, finding.mend) == ("schema_behind", "hub db upgrade")
    async with store.write() as c:
        await c.run("update alembic_version set version_num = '9999'")
        await c.run("update meta set value = '9998' where key = 'serves'")
    [finding] = await soundness.check(store, lease_ms=30_000)
    assert (finding.kind, finding.mend) == ("schema_newer", "upgrade tetik-hub")
    await store.close()


async def test_rows_that_cannot_be_are_found(database_url: str) -> None:
    # given a run that nothing is due for, and work of a run that is gone
    run = (
        "insert into run (id, recipe, version, entry_key, scope, status, trigger_data, ctx, started_at) "
        "values ('r1', 'x', 1, 'ev:1', '', 'sleeping', '{}', '{}', 1)"
    )
    found = await _check(
        database_url, run, "insert into work (kind, ref, queue, due_at) values ('run', 'gone', 'x', 1)"
    )
    assert found["run_without_work"].refs == ("r1",)
    assert found["work_of_finished_run"].refs == ("gone",)
    assert all(finding.mend for finding in found.values())


_CONNECTION = (
    "insert into connection (id, connector, name, app_id, account, inbound_key, auth, mode, settings, secret, key_id, health, "
    "created_at) values ('c1', 'acme', 'a', 'gone', 'a', 'k', 't', 'live', '{}', '', 'k', 'ok', 1)"
)


async def test_a_row_whose_owner_is_gone_is_found(database_url: str) -> None:
    # Given what no transaction of the hub can write: the check of foreign keys was off.
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as database:
            database.execute(_CONNECTION)
            database.commit()
        found = await _check(database_url)
    else:
        found = await _check(database_url, "set local session_replication_role = replica", _CONNECTION)
    assert list(found) == ["row_without_owner"]
    assert "connection" in found["row_without_owner"].message


async def test_an_index_that_was_not_made_to_its_end_is_found(postgres_url: str) -> None:
    found = await _check(postgres_url, "update pg_index set indisvalid = false where indexrelid = 'work_due'::regclass")
    assert found["index_invalid"].mend == "in the database: reindex index work_due"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_that_all_is_well_and_what_is_not(cli: Cli) -> None:
    # given a sound database
    sound = cli("db", "check")
    assert (sound.exit_code, sound.stdout) == (0, "the database is sound\n")
    assert cli.json("db", "check") == []

    # when it loses an index
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as database:
        database.execute("drop index work_due")
        database.commit()

    # then the command fails, and says what mends it
    lost = cli("db", "check")
    assert lost.exit_code == 1
    assert "mend: in the database: CREATE INDEX work_due" in lost.stdout
    as_json = cli("db", "check", "--json")
    assert as_json.exit_code == 1
    assert [finding["kind"] for finding in json.loads(as_json.stdout)] == ["index_missing"]


def test_a_damaged_file_is_a_finding_and_no_defect(cli: Cli) -> None:
    # given a file with pages overwritten
    for n in range(30):
        assert cli("api-keys", "create", f"key-{n}", "--scope", "read").exit_code == 0
    file = Path(cli.data_dir / "hub.db")
    with closing(sqlite3.connect(file)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\x5a" * 40_000 + whole[48_192:])

    # then the check says so
    result = cli("db", "check", "--json")
    assert result.exit_code == 1
    [finding] = json.loads(result.stdout)
    assert finding["kind"] == "file_damaged"
    assert "last backup" in finding["mend"]


def test_a_file_that_is_no_database_is_named(cli: Cli) -> None:
    Path(cli.data_dir / "hub.db").write_bytes(b"this is text\n" * 1000)
    result = cli("db", "check")
    assert result.exit_code == 1
    assert "is not a SQLite database" in result.stderr


@pytest.mark.parametrize("command", ["check", "copy"])
def test_there_must_be_a_database_to_look_at(empty_cli: Cli, command: str, tmp_path: Path) -> None:
    more = ["--to", f"sqlite:///{tmp_path / 'x.db'}"] if command == "copy" else []
    result = empty_cli("db", command, *more)
    assert result.exit_code == 1
    assert "there is no database at" in result.stderr
