"""Moving a hub into another database: every row, or none; and what waited goes on there."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from hub.clock import Clock
from hub.errors import StoreError
from hub.oneprocess import OneProcess
from hub.plugins import Plugins
from hub.process import open_hub, working
from hub.segments import SUFFIX, frame
from hub.settings import load_settings
from hub.store import copying, migrate, processes, views
from hub.store.processes import Process
from hub.store.session import Store
from hub.testing.sandbox import SandboxServer
from tests.acme import AcmeSandbox
from tests.conftest import Running
from tests.integration.conftest import Cli

_DAY_MS = 24 * 3_600_000
_NOW_MS = 1_767_225_600_000
_SLEEPING = """
recipe: sleeping
on: {event: acme.carted}
steps:
  - wait: 30d
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""

Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite", "sqlite to sqlite"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A database with the schema, and an empty one to copy into."""
    here, there = request.param.split(" to ")
    urls = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    source = str(request.getfixturevalue(urls[here]))
    target = f"sqlite:///{tmp_path / 'target.db'}" if there == "sqlite" else str(request.getfixturevalue(urls[there]))
    return source, target


async def _copy(source: str, target: str, **how: copying.Progress) -> list[copying.Copied]:
    here, there = Store(source, pool=2), Store(target, pool=2)
    try:
        return await copying.copy(here, there, now_ms=_NOW_MS, **how)
    finally:
        await here.close()
        await there.close()


async def _everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that is copied."""
    store = Store(url)
    try:
        async with store.read() as c:
            found = {}
            for table in copying.tables():
                rows = await c.all(f"select * from {table.name}")
                found[table.name] = sorted((tuple(row[col.name] for col in table.columns) for row in rows), key=repr)
            return found
    finally:
        await store.close()


async def _put(url: str, statement: str, **values: object) -> None:
    store = Store(url)
    async with store.write() as c:
        await c.run(statement, **values)
    await store.close()


async def test_a_run_that_waits_goes_on_in_the_other_database(
    both: tuple[str, str], running: Start, acme_plugins: Plugins
) -> None:
    # given a hub with a run that waits for thirty days, then stopped
    source, target = both
    async with running(source) as it:
        await it.publish(_SLEEPING)
        for n in range(3):
            assert await it.deliver("carted", {"id": f"c{n}", "email": f"a{n}@example.com"}) == 200
        await it.rest()
        assert [run["status"] for run in await it.runs()] == ["sleeping"] * 3

    # when it is copied
    copied = await _copy(source, target)

    # then both sides hold the same, but for the mark, and every table was compared
    before, after = await _everything(source), await _everything(target)
    mark = [row for row in after["meta"] if row[0] == "copied"]
    assert len(mark) == 1
    after["meta"].remove(mark[0])
    assert after == before
    assert {one.table: one.rows for one in copied} == {name: len(rows) for name, rows in before.items()}
    assert {"run", "work", "event", "delivery", "connection", "contact"} <= {one.table for one in copied if one.rows}

    # and a hub that starts there ends the runs when they are due, with the credentials as they are
    clock = Clock()
    sandbox = AcmeSandbox(clock)
    async with SandboxServer({"acme": sandbox}) as server:
        settings = it.settings.model_copy(update={"database_url": target, "sandbox_url": server.url})
        async with open_hub(settings, plugins=acme_plugins, clock=clock) as hub, working(hub):
            await hub.time.advance(hub.clock.now_ms() + 31 * _DAY_MS, ring=hub.ring)
            async with hub.store.read() as c:
                assert [run["status"] for run in await views.list_runs(c)] == ["done"] * 3
    assert sorted(entry.data["key"] for entry in sandbox.log) == ["c0", "c1", "c2"]


_KILLED = """
import asyncio, os, signal, sys
from hub.store import copying
from hub.store.session import Store

def kill(table, rows):
    if (table, rows) == ("contact", 1000):
        os.kill(os.getpid(), signal.SIGKILL)

source, target = (Store(url, pool=2) for url in sys.argv[1:])
asyncio.run(copying.copy(source, target, now_ms=0, progress=kill))
"""


async def test_a_copy_that_is_killed_leaves_an_empty_target_and_can_be_made_again(both: tuple[str, str]) -> None:
    # given a source with more rows than are read at once
    source, target = both
    store = Store(source)
    async with store.write() as c:
        rows = [{"id": f"c{n:05}", "at": n} for n in range(1200)]
        await c.many("insert into contact (id, tags, attributes, created_at) values (:id, '[]', '{}', :at)", rows)
    await store.close()

    # when the process that copies is killed in the midst of it
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, source, target)

    # then nothing is there, and the next copy is whole
    assert await process.wait() == -signal.SIGKILL
    assert (await _everything(target))["contact"] == []
    assert {one.table: one.rows for one in await _copy(source, target)}["contact"] == 1200

    # and a third one says that it is
    with pytest.raises(StoreError, match=r"a whole copy already: 1,20\d rows of 2026-01-01.*HUB_DATABASE_URL"):
        await _copy(source, target)


async def test_nothing_is_copied_into_a_database_that_holds_something(both: tuple[str, str]) -> None:
    source, target = both
    await _put(source, "insert into purpose (name, channel, legal_class) values ('cart', 'sms', 'marketing')")

    # given tables of something else
    other = Store(target)
    await migrate.upgrade(other)
    await migrate.downgrade(other)
    async with other.write() as c:
        await c.run("create table invoice (id integer)")
        await c.run("drop table alembic_version")
    with pytest.raises(StoreError, match="tables of something else, such as invoice"):
        await _copy(source, target)

    # given an older schema
    async with other.write() as c:
        await c.run("drop table invoice")
    await migrate.upgrade(other, "0001")
    with pytest.raises(StoreError, match="the target is at revision 0001"):
        await _copy(source, target)

    # given a hub's own row
    await migrate.upgrade(other)
    await other.close()
    await _put(target, "insert into api_key (hash, name, scope, created_at) values ('h', 'me', 'read', 1)")
    with pytest.raises(StoreError, match="the target is not empty: there are rows in api_key"):
        await _copy(source, target)

    # then it still holds nothing else
    assert (await _everything(target))["purpose"] == []


async def test_a_source_of_another_schema_is_brought_up_to_date_first(sqlite_url: str, tmp_path: Path) -> None:
    store = Store(sqlite_url)
    await migrate.downgrade(store, "0002")
    await store.close()
    with pytest.raises(StoreError, match=r"at revision 0002.*run `hub db upgrade` first"):
        await _copy(sqlite_url, f"sqlite:///{tmp_path / 'target.db'}")


async def test_a_hub_at_work_on_postgresql_is_not_copied(postgres_url: str, tmp_path: Path) -> None:
    # given a worker that gave a sign of life just now
    store, target = Store(postgres_url), f"sqlite:///{tmp_path / 'target.db'}"
    now_ms = int(time.time() * 1000)
    async with store.write() as c:
        await processes.beat(c, Process("p", "worker", "1", now_ms), busy=0, slots=1, now_ms=now_ms)
    with pytest.raises(StoreError, match=r"a hub is at work .*\(1 worker\); stop all its processes"):
        await _copy(postgres_url, target)

    # when it has been silent for long, it is dead, and not taken along
    async with store.write() as c:
        await c.run("update process set seen_at = seen_at - 60000")
    await store.close()
    await _copy(postgres_url, target)
    there = Store(target)
    async with there.read() as c:
        assert await c.all("select * from process") == []
    await there.close()


async def test_a_hub_that_starts_on_the_source_meanwhile_spoils_the_copy(postgres_url: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'target.db'}"
    await _put(postgres_url, "insert into purpose (name, channel, legal_class) values ('cart', 'sms', 'marketing')")

    async def beat() -> None:
        other = Store(postgres_url)
        now_ms = int(time.time() * 1000)
        async with other.write() as c:
            await processes.beat(c, Process("p", "up", "1", now_ms), busy=0, slots=1, now_ms=now_ms)
        await other.close()

    def start(table: str, rows: int) -> None:
        # What another process commits meanwhile is seen at the end, though not by the copy itself.
        thread = threading.Thread(target=lambda: asyncio.run(beat()))
        thread.start()
        thread.join()

    with pytest.raises(StoreError, match="a hub is at work"):
        await _copy(postgres_url, target, progress=start)
    assert (await _everything(target))["purpose"] == []


async def test_what_became_different_on_the_way_is_noticed(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a target that keeps something else than it was told
    await _put(sqlite_url, "insert into purpose (name, channel, legal_class) values ('cart', 'sms', 'marketing')")
    target = f"sqlite:///{tmp_path / 'target.db'}"
    store = Store(target)
    await migrate.upgrade(store)
    async with store.write() as c:
        await c.run(
            "create trigger odd after insert on purpose begin update purpose set channel = 'email' where name = new.name; end"
        )
    await store.close()

    # then the copy says which table, and undoes itself
    with pytest.raises(StoreError, match="the table purpose is not the same in the target: 1 rows"):
        await _copy(sqlite_url, target)
    assert (await _everything(target))["purpose"] == []


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_copies_and_says_what_to_do_next(cli: Cli, postgres_url: str) -> None:
    assert cli("api-keys", "create", "me", "--scope", "read").exit_code == 0
    shown = cli("db", "copy", "--to", postgres_url)
    assert shown.exit_code == 0, shown.output
    assert "set HUB_DATABASE_URL to the new database" in shown.stdout
    assert "never start the old one again" in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[:-2])) <= 100
    again = cli("db", "copy", "--to", postgres_url)
    assert again.exit_code == 1
    assert "a whole copy already" in again.stderr


def test_the_command_answers_in_json_without_the_password(cli: Cli, postgres_url: str) -> None:
    # The server of the tests asks for no password, and does not mind one.
    url = make_url(postgres_url).set(password="s3cret").render_as_string(hide_password=False)
    result = cli("db", "copy", "--to", url, "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert ":***@" in made["to"]
    assert "s3cret" not in result.output
    assert {"table", "rows", "checksum"} == set(made["tables"][0])
    assert made["rows"] == sum(one["rows"] for one in made["tables"])


def test_the_command_keeps_away_from_a_running_hub_and_from_a_spool_that_is_not_empty(cli: Cli, tmp_path: Path) -> None:
    to = f"sqlite:///{tmp_path / 'other.db'}"
    with OneProcess(load_settings()):
        running = cli("db", "copy", "--to", to)
        assert running.exit_code == 1
        assert "is running on" in running.stderr

    spool = cli.data_dir / "spool"
    spool.mkdir()
    (spool / f"one{SUFFIX}").write_bytes(frame(b"a delivery"))
    waiting = cli("db", "copy", "--to", to)
    assert waiting.exit_code == 1
    assert "deliveries wait in the spool" in waiting.stderr
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [
        ("nonsense", 1, "write sqlite:///FILE or postgresql://"),
        ("mysql://h/d", 1, "is not supported"),
        ("sqlite://", 2, "a database in memory is gone at once"),
        ("sqlite:////nowhere/at/all/hub.db", 2, "there is no folder"),
        ("postgresql://hub:s3cret@127.0.0.1:1/hub", 4, "the database cannot be reached"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_one_sentence(cli: Cli, to: str, code: int, said: str) -> None:
    result = cli("db", "copy", "--to", to)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "s3cret" not in result.output
