"""Two releases side by side: on one schema, on one another's rows, and with plugins that only one of them has."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json, to_json

from hub.clock import Clock
from hub.errors import StoreError
from hub.plugins import load_plugins
from hub.process import open_hub, open_store, working
from hub.settings import load_settings
from hub.store import migrate, revisions, work
from hub.store.session import Store
from hub.testing.sandbox import SandboxServer
from tests import acme
from tests.conftest import Running

JOURNEY = """
recipe: journey
on: {event: acme.carted}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
  - wait: 1h
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:after"}}
"""


async def _until(done: Callable[[], Any], what: str) -> None:
    """Wait until an awaitable says yes."""
    end = time.monotonic() + 20
    while not await done():
        assert time.monotonic() < end, f"waited for {what} in vain"
        await asyncio.sleep(0.02)


async def _row(store: Store, statement: str, **parameters: Any) -> Any:
    async with store.read() as c:
        return await c.first(statement, **parameters)


# -- one schema --------------------------------------------------------------------------------------------------------


async def _next_release(store: Store, serves: str) -> None:
    """What the next release's migration would do: more of everything, and word of who can go on."""
    async with store.write() as c:
        await c.run("alter table run add column mood text")
        await c.run("alter table event add column weather text not null default 'fair'")
        await c.run("create table horoscope (run_id text primary key)")
        await c.run("update meta set value = :serves where key = 'serves'", serves=serves)
        await c.run("update alembic_version set version_num = '9999'")


async def test_this_release_goes_on_while_the_next_one_has_migrated(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a run that this release began
        await it.publish(JOURNEY)
        await it.deliver("carted", {"id": "before", "email": "ada@example.com"})
        await it.rest()
        # when the next release has migrated, and its schema serves this one
        await _next_release(it.hub.store, (await revisions.status(it.hub.store)).needed)
        # then what runs goes on, what comes in starts, and new processes of this release start as well
        await it.deliver("carted", {"id": "during", "email": "bob@example.com"})
        await it.advance(3_700_000)
        assert [r["status"] for r in await it.runs()] == ["done", "done"]
        assert sorted(r.data["key"] for r in it.sandbox.log) == ["before", "before:after", "during", "during:after"]
        async with open_store(it.settings) as opened:
            assert (await revisions.status(opened)).ready


async def test_a_schema_that_no_longer_serves_this_release_is_refused_with_the_mend(database_url: str) -> None:
    store = Store(database_url)
    await _next_release(store, "9998")
    with pytest.raises(
        StoreError, match=r"revision 9999, which serves releases from revision 9998 on.*upgrade tetik-hub"
    ):
        await revisions.require_ready(store)
    await store.close()


async def test_every_migration_leaves_word_of_the_oldest_release_that_may_go_on(database_url: str) -> None:
    store = Store(database_url)
    await migrate.downgrade(store)
    await migrate.upgrade(store, "0001")
    assert await _row(store, "select value from meta where key = 'serves'") is None
    await migrate.upgrade(store)
    serves = await _row(store, "select value from meta where key = 'serves'")
    assert serves is not None
    assert serves["value"] <= (await revisions.status(store)).needed
    await migrate.downgrade(store, "0001")
    assert await _row(store, "select value from meta where key = 'serves'") is None
    await store.close()


# -- one another's rows ------------------------------------------------------------------------------------------------


async def test_work_of_a_kind_that_this_release_does_not_know_stays_for_those_who_do(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        store = it.hub.store
        async with store.write() as c:
            await work.add_if_absent(c, "future", "anything", "acme", it.hub.clock.now_ms(), '{"new":1}')
        it.hub.ring()
        # when it was looked at
        await _until(lambda: _row(store, "select 1 from work where kind = 'future' and epoch > 0"), "a look at it")
        await _until(lambda: _row(store, "select 1 from work where kind = 'future' and owner is null"), "its return")
        # then it is there as it was, due again in some seconds, and this process does its own work
        await it.publish(JOURNEY)
        await it.deliver("carted", {"id": "own"})
        await _until(lambda: _row(store, "select 1 from run where status = 'sleeping'"), "a run of this release's own")
        left = await _row(store, "select * from work where kind = 'future'")
        assert (left["data"], left["owner"], left["parked_on"], left["claims"]) == ('{"new":1}', None, None, 0)
        assert left["due_at"] > it.hub.clock.now_ms()
        assert left["epoch"] < 5, "it is claimed again and again"


async def test_a_run_in_a_state_that_this_release_does_not_know_is_left_alone(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        store = it.hub.store
        await it.publish(JOURNEY)
        await it.deliver("carted", {"id": "a"})
        await it.rest()
        now_ms = it.hub.clock.now_ms()
        async with store.write() as c:
            await c.run("update run set status = 'contemplating'")
            await c.run("update work set due_at = :now where kind = 'run'", now=now_ms)
        it.hub.ring()
        await _until(lambda: _row(store, "select 1 from work where epoch > 1 and owner is null"), "its return")
        # then nothing was done and nothing written but when it is looked at again
        assert (await _row(store, "select status from run"))["status"] == "contemplating"
        assert [r.data["key"] for r in it.sandbox.log] == ["a"]
        assert (await _row(store, "select claims from work where kind = 'run'"))["claims"] == 0


async def test_what_a_newer_release_keeps_in_a_run_is_carried_along(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        store = it.hub.store
        await it.publish(JOURNEY)
        await it.deliver("carted", {"id": "a"})
        await it.rest()
        ctx = (await _row(store, "select ctx from run"))["ctx"]
        async with store.write() as c:
            await c.run("update run set ctx = :ctx", ctx='{"of_the_future":[1,2],' + ctx.removeprefix("{"))
        await it.advance(3_700_000)
        [run] = await it.runs()
        assert run["status"] == "done"
        assert '"of_the_future":[1,2]' in (await _row(store, "select ctx from run"))["ctx"]


async def _published_by_a_newer_release(it: Any) -> None:
    """A version of the recipe with a kind of step that this release has not heard of."""
    async with it.hub.store.write() as c:
        row = await c.first("select * from recipe_version where recipe = 'journey'")
        definition = from_json(row["definition"])
        definition["steps"].append({"divine": "the future", "id": "divine-1"})
        await c.run(
            "insert into recipe_version (recipe, version, definition, source, published_at) values ('journey', 2, :d, '', 0)",
            d=to_json(definition).decode(),
        )
        await c.run("update recipe set version = 2 where name = 'journey'")
        await c.run("update meta set value = '99' where key = 'recipes'")


async def test_runs_of_a_recipe_that_only_a_newer_release_understands_are_deferred(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        store = it.hub.store
        await it.publish(JOURNEY)
        await it.deliver("carted", {"id": "a"})
        await it.rest()
        await _published_by_a_newer_release(it)
        async with store.write() as c:
            await c.run("update run set version = 2")
            await c.run("update work set due_at = :now where kind = 'run'", now=it.hub.clock.now_ms())
        it.hub.ring()
        await _until(lambda: _row(store, "select 1 from work where epoch > 1 and owner is null"), "its return")
        assert (await _row(store, "select status from run"))["status"] == "sleeping"
        assert (await _row(store, "select claims from work where kind = 'run'"))["claims"] == 0


async def test_events_for_a_recipe_that_only_a_newer_release_understands_wait_for_it(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(JOURNEY)
        await _published_by_a_newer_release(it)
        await it.deliver("carted", {"id": "a"})
        await asyncio.sleep(0.3)
        # then it is not routed past the recipe
        assert (await _row(it.hub.store, "select stage from event"))["stage"] == "route"


# -- plugins that only one of them has ---------------------------------------------------------------------------------

LEADS = """
recipe: leads
on: {event: acme.lead}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""
IDLE = """
recipe: idle
on: {event: acme.cart_idle}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.cart }}:idle"}}
"""
JOIN = """
recipe: join
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: vip, email: "{{ trigger.email }}"}}
"""
ASK = """
recipe: ask
on: {event: acme.delivered}
steps:
  - wait_for: {clicked: {event: acme.clicked, match: {event.cart: "{{ trigger.cart }}"}}}
    timeout: 1d
    clicked:
      - {do: acme.put_note, with: {key: "{{ trigger.id }}:clicked"}}
"""


async def _parked(store: Store) -> Any:
    async with store.read() as c:
        rows = await c.all("select kind from work where parked_on = 'plugin:acme' order by kind")
    return [row["kind"] for row in rows]


async def test_what_needs_a_plugin_that_is_missing_waits_for_it_and_goes_on_by_itself(
    running: Callable[..., Any], database_url: str
) -> None:
    # given a hub with everything that a connector may have on its way, and none of it done
    async with running(database_url, work=False, polls=True) as it:
        store = it.hub.store
        for recipe in (LEADS, IDLE, JOIN, ASK):
            await it.publish(recipe)
        it.sandbox.leads = {"l": {"email": "lead@example.com"}}
        async with _worker(it, acme):
            await it.deliver("carted", {"id": "c", "cart": "c-1"})
            await it.deliver("signed_up", {"id": "s", "email": "ada@example.com"})
            await it.deliver("delivered", {"id": "d", "cart": "c-2"})
            await it.rest()
        it.sandbox.purchases = [{"id": "p-1"}]
        await it.deliver("lead", {"id": "l"})
        await it.deliver("clicked", {"id": "k", "cart": "c-2"})
        await it.deliver("carted", {"id": "c2", "cart": "c-3"})
        async with store.write() as c:
            await c.run("update work set due_at = :now where kind <> 'run'", now=it.hub.clock.now_ms())
        # when only a process without the plugin works
        async with _worker(it):
            await _until(lambda: _has(store, ["batch", "debounce", "enrich", "poll"]), "all of it to be set aside")
            await _until(lambda: _set_aside(store), "its events to be set aside")
        assert it.sandbox.log == []
        # then all of it goes on by itself when the plugin is back
        async with _worker(it, acme):
            await it.rest()
            await it.advance(2_000_000)
        assert {r.data["key"] for r in it.sandbox.log if "key" in r.data} == {"l", "c-1:idle", "d:clicked", "c-3:idle"}
        assert [r.data["people"] for r in it.sandbox.log if r.operation == "add_members"] == [["ada@example.com"]]
        async with store.read() as c:
            assert await c.all("select type from event where type = 'acme.purchased'") != []
            assert await c.all("select 1 from event where stage = 'plugin'") == []


@asynccontextmanager
async def _worker(it: Any, *more: Any, resume_s: float = 15.0) -> AsyncIterator[None]:
    """Another process of the same hub at work, with the installed plugins and some more."""
    async with (
        open_hub(it.settings, plugins=load_plugins(extra=more), clock=it.hub.clock) as other,
        working(other, resume_s=resume_s),
    ):
        yield


async def _has(store: Store, kinds: list[str]) -> bool:
    async with store.read() as c:
        rows = await c.all("select kind from work where parked_on = 'plugin:acme' order by kind")
    return [row["kind"] for row in rows] == kinds


async def _set_aside(store: Store) -> bool:
    async with store.read() as c:
        rows = await c.all("select stage from event where type in ('acme.clicked', 'acme.carted') order by id")
    return [row["stage"] for row in rows] == ["routed", "plugin", "plugin"]


async def test_a_worker_that_has_the_plugin_takes_over_what_another_one_sets_aside(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(ASK)
        await it.publish(LEADS)
        it.sandbox.leads = {"l": {"email": "lead@example.com"}}
        # given two workers at work, of which one has the plugin
        async with _worker(it), _worker(it, acme, resume_s=0.1):
            # when events come in, whoever is quicker takes them
            for n in range(20):
                await it.deliver("delivered", {"id": f"d-{n}", "cart": f"c-{n}"})
            await _until(lambda: _counted(it, "run where status = 'waiting'", 20), "the runs to wait")
            for n in range(20):
                await it.deliver("clicked", {"id": f"k-{n}", "cart": f"c-{n}"})
            await it.deliver("lead", {"id": "l"})
            # then nothing is lost, and nothing done twice
            await _until(lambda: _counted(it, "run where status = 'done'", 21), "all runs to end")
        assert sorted(r.data["key"] for r in it.sandbox.log) == sorted([f"d-{n}:clicked" for n in range(20)] + ["l"])


async def _counted(it: Any, what: str, count: int) -> bool:
    found = await _row(it.hub.store, f"select count(*) as n from {what}")
    return bool(found["n"] == count)


# -- half-finished runs of the release before --------------------------------------------------------------------------

RELEASE_0001 = Path(__file__).parent / "fixtures" / "release_0001.json"
# Its processes died with these in hand, and their leases have ended since.
LEASE_MS = 31_000


async def _as_it_was_left(database_url: str) -> Any:
    """A database at revision 0001 with what that release wrote; returns what is known about it."""
    left = json.loads(RELEASE_0001.read_text(), object_hook=lambda o: b64decode(o["base64"]) if "base64" in o else o)
    store = Store(database_url)
    await migrate.downgrade(store)
    await migrate.upgrade(store, "0001")
    async with store.write() as c:
        for table, rows in left["rows"].items():
            names = ", ".join(rows[0])
            await c.many(f"insert into {table} ({names}) values ({', '.join(':' + n for n in rows[0])})", rows)
    await store.close()
    return left


@asynccontextmanager
async def _next_one(database_url: str, left: Any, folder: Path) -> AsyncIterator[Running]:
    """This release on what an earlier one left, its time a little later."""
    store = Store(database_url)
    await migrate.upgrade(store)
    offset_ms = left["now_ms"] + LEASE_MS - int(time.time() * 1000)
    async with store.write() as c:
        await c.run("insert into meta (key, value) values ('clock_offset_ms', :offset)", offset=str(offset_ms))
    await store.close()
    clock = Clock()
    sandbox = acme.AcmeSandbox(clock)
    sandbox.leads = {"late": {"id": "late", "email": "late@example.com"}}
    async with SandboxServer({"acme": sandbox}) as server:
        settings = load_settings(
            database_url=database_url,
            development=True,
            keys=[left["key"]],
            sandbox_url=server.url,
            public_url="https://hub.example.com",
            data_dir=folder,
        )
        async with open_hub(settings, plugins=load_plugins(extra=[acme]), clock=clock) as hub, working(hub):
            yield Running(hub, sandbox, server, settings)


async def test_half_finished_runs_of_the_release_before_go_on_with_each_effect_once(
    database_url: str, tmp_path: Path
) -> None:
    # given what revision 0001 left: runs ready, asleep, waiting, in a call, in a batch and parked; events on their way
    left = await _as_it_was_left(database_url)
    assert {r["status"] for r in left["rows"]["run"]} == {"ready", "sleeping", "waiting", "acting", "parked"}
    assert {e["state"] for e in left["rows"]["effect"]} == {"done", "queued", "intended"}
    assert {e["stage"] for e in left["rows"]["event"]} == {"routed", "route", "enrich"}
    # when this release goes on from there
    async with _next_one(database_url, left, tmp_path) as it:
        await it.rest()
        await it.deliver("clicked", {"id": "click", "cart": "cart-waiter-1", "phone": "+14155550303", "sms_ok": True})
        for n, name in enumerate(("waiter-2", "sleeper-2")):
            await it.deliver("purchased", {"id": f"p-{n}", "email": f"{name}@example.com", "cart": f"cart-{name}"})
        await it.rest()
        await it.advance(2 * 86_400_000)
        # then every run has ended, by what it waited for
        ended = {r["trigger"]["id"] + ":" + r["recipe"]: r["ended_by"] for r in await it.runs()}
        assert {name: by for name, by in ended.items() if by != "done"} == {
            "waiter-2:waiting": "acme.purchased",
            "sleeper-2:sleeping": "acme.purchased",
        }
        # and what it had to do was done once, be it by that release or by this one
        keys = [r.data["key"] for r in it.sandbox.log if "key" in r.data] + left["done"]
        assert sorted(keys) == sorted(
            [f"{name}:begun" for name in ("sleeper-1", "sleeper-2", "waiter-1", "waiter-2", "waiter-3")]
            + ["sleeper-1:slept", "waiter-1:clicked", "waiter-3:silent", "member-1:joined", "member-2:joined"]
            + ["call-note:note", "call-keyed:keyed", "cart-sleeper-1:idle", "cart-ready:idle"]
            + [f"call-{name}:end" for name in ("text", "note", "keyed", "charge")]
            + ["ready:begun", "ready:slept", "unrouted:begun", "unrouted:silent", "late:end"]
        )
        assert sorted(text["body"] for text in it.sandbox.texts) == ["call-text", "click", "parker"]
        assert [sorted(r.data["people"]) for r in it.sandbox.log if r.operation == "add_members"] == [
            ["member-1@example.com", "member-2@example.com"]
        ]
        # and what nobody can know is said to be unknown
        async with it.hub.store.read() as c:
            assert await c.all("select state from effect where action = 'acme.charge'") == [{"state": "unknown"}]
            assert await c.all("select 1 from waiter") == []
