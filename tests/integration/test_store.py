"""The store: migrations up and down, outages told apart, group commit, and the queue's fences."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from hub.errors import StoreError, StoreUnavailable
from hub.process import open_store
from hub.settings import load_settings
from hub.store import deliveries, events, migrate, revisions, runs, work
from hub.store.events import Incoming
from hub.store.grouped import Full, Grouped, Late
from hub.store.lanes import Lane
from hub.store.runs import NewRun
from hub.store.schema import metadata
from hub.store.session import Change, Store


async def test_migrations_go_up_and_down_and_match_the_tables(database_url: str) -> None:
    store = Store(database_url)
    try:
        await migrate.downgrade(store)
        assert (await revisions.status(store)).current is None
        await migrate.upgrade(store)
        assert (await revisions.status(store)).ready
        async with migrate.connected(store) as connection:
            difference = await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata))
        assert difference == []
    finally:
        await store.close()


async def test_a_schema_that_is_behind_names_the_command(database_url: str) -> None:
    store = Store(database_url)
    await migrate.downgrade(store)
    await store.close()
    with pytest.raises(StoreError, match="run `hub db upgrade`"):
        async with open_store(load_settings(database_url=database_url)):
            raise AssertionError("it must not open")


async def test_a_schema_from_the_future_is_refused(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    async with store.write() as c:
        await c.run("update alembic_version set version_num = '9999'")
        await c.run("delete from meta where key = 'serves'")
    with pytest.raises(StoreError, match="upgrade tetik-hub"):
        await revisions.require_ready(store)
    await store.close()


async def test_the_embedded_hub_upgrades_its_file_and_keeps_a_copy(tmp_path: Path, sqlite_url: str) -> None:
    # given a file that an earlier release left
    store = Store(sqlite_url)
    await migrate.downgrade(store, "0001")
    await store.close()
    # when the embedded hub opens it
    async with open_store(load_settings(database_url=sqlite_url, data_dir=tmp_path), upgrade=True) as opened:
        assert (await revisions.status(opened)).ready
    # then the copy is the whole database as it was
    copy = Store(f"sqlite:///{tmp_path / 'hub.db.before-upgrade'}")
    async with copy.read() as c:
        assert await c.first("select version_num from alembic_version") == {"version_num": "0001"}
    await copy.close()


async def test_a_database_that_is_down_is_an_outage_not_a_defect() -> None:
    store = Store("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        async with store.write() as c:
            await c.run("select 1")
    await store.close()


async def test_a_read_only_file_is_an_outage(tmp_path: Path, sqlite_url: str) -> None:
    store = Store(sqlite_url)
    async with store.write() as c:
        await c.run("pragma query_only = on")
    with pytest.raises(StoreUnavailable, match="readonly"):
        async with store.write() as c:
            await c.run("insert into meta (key, value) values ('a', 'b')")
    await store.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_text("this is a letter, and long enough not to be taken for an empty file" * 20)
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}")
    with pytest.raises(StoreError, match="not a SQLite database"):
        async with store.write() as c:
            await c.run("select 1")
    await store.close()


async def test_a_read_only_postgresql_is_an_outage(postgres_url: str) -> None:
    store = Store(postgres_url)
    with pytest.raises(StoreUnavailable, match="read-only"):
        async with store.write() as c:
            await c.run("set transaction read only")
            await c.run("insert into meta (key, value) values ('a', 'b')")
    await store.close()


async def test_a_killed_connection_is_an_outage_and_the_next_one_works(postgres_url: str) -> None:
    store = Store(postgres_url)
    with pytest.raises(StoreUnavailable):
        async with store.write() as c:
            row = await c.first("select pg_backend_pid() as pid")
            assert row is not None
            async with store.read() as other:
                await other.run("select pg_terminate_backend(:pid)", pid=row["pid"])
            await c.run("select 1")
    async with store.read() as c:
        assert await c.first("select 1 as one") == {"one": 1}
    await store.close()


async def test_of_two_that_wait_for_each_other_one_is_told_to_try_again(postgres_url: str) -> None:
    async with open_store(load_settings(database_url=postgres_url)) as store:
        async with store.write() as c:
            await c.many("insert into meta (key, value) values (:key, '0')", [{"key": "a"}, {"key": "b"}])
        both = asyncio.Barrier(2)

        async def change(first: str, second: str) -> None:
            async with store.write() as c:
                await c.run("update meta set value = '1' where key = :key", key=first)
                await both.wait()
                await c.run("update meta set value = '1' where key = :key", key=second)

        done = await asyncio.gather(change("a", "b"), change("b", "a"), return_exceptions=True)
        assert [type(one) for one in done if one is not None] == [StoreUnavailable]


async def test_whoever_is_cancelled_at_any_moment_of_a_transaction_ends_cancelled(store: Store) -> None:
    async def change() -> None:
        async with store.write() as c:
            for _ in range(3):
                await c.run("insert into meta (key, value) values ('cut', 'x') on conflict (key) do nothing")

    await change()
    for turns in range(40):
        # when a transaction is cut short
        task = asyncio.create_task(change())
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        if not task.cancel():
            break
        # then it is that, and no outage: who waits for the task's end would wait for ever
        with pytest.raises(asyncio.CancelledError):
            await task
    # then its connection is in nobody's way
    await asyncio.wait_for(change(), 5)


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(StoreError, match="use sqlite:///FILE or postgresql"):
        Store("mysql://localhost/x")


# -- the queue ---------------------------------------------------------------------------------------------------------


async def _add(store: Store, *refs: str, due: int = 0) -> None:
    async with store.write() as c:
        for ref in refs:
            await work.add_if_absent(c, "run", ref, "q", due)


async def _claim(store: Store, owner: str, now: int, most: int = 10) -> list[work.Claim]:
    async with store.write() as c:
        return await work.claim(c, now_ms=now, lease_ms=30_000, owner=owner, most=most)


async def test_work_is_claimed_once_until_its_lease_ends(store: Store) -> None:
    await _add(store, "a", "b")
    first = await _claim(store, "w-1", 1_000)
    assert {c.ref for c in first} == {"a", "b"}
    assert await _claim(store, "w-2", 20_000) == []
    again = await _claim(store, "w-2", 31_001)
    assert {(c.ref, c.epoch, c.claims) for c in again} == {("a", 2, 2), ("b", 2, 2)}


async def test_two_workers_never_hold_the_same_work(store: Store) -> None:
    await _add(store, *[f"r-{n}" for n in range(200)])
    claimed = await asyncio.gather(*[_claim(store, f"w-{n}", 1_000, most=15) for n in range(20)])
    refs = [c.ref for group in claimed for c in group]
    assert len(refs) == len(set(refs)) == 200


async def test_a_zombie_changes_nothing(store: Store) -> None:
    await _add(store, "a")
    [old] = await _claim(store, "w-1", 1_000)
    [new] = await _claim(store, "w-2", 31_001)
    async with store.write() as c:
        assert not await work.finish(c, old)
        assert not await work.remember(c, old, "how far it had come")
        assert not await work.give_back(c, old, due_ms=5)
        assert not await work.park(c, old, "x")
        assert await work.renew(c, owner="w-1", until_ms=99_000, held=[("run", "a", old.epoch)]) == set()
        assert await work.renew(c, owner="w-2", until_ms=99_000, held=[("run", "a", new.epoch)]) == {("run", "a")}
    assert await _claim(store, "w-3", 70_000) == []


async def test_whoever_holds_work_that_is_put_anew_holds_it_no_more(store: Store) -> None:
    await _add(store, "a")
    [old] = await _claim(store, "w-1", 1_000)
    async with store.write() as c:
        await work.put(c, [{"kind": "run", "ref": "a", "queue": "q", "due_at": 5_000, "data": "new"}])
        assert not await work.finish(c, old)
    assert [claim.data for claim in await _claim(store, "w-2", 5_000)] == ["new"]


async def test_a_claim_counts_only_where_it_is_said_to(store: Store) -> None:
    await _add(store, "a")
    counts = []
    for now, counted in enumerate((True, True, False, False)):
        [claim] = await _claim(store, "w-1", now)
        counts.append(claim.claims)
        async with store.write() as c:
            assert await work.give_back(c, claim, due_ms=now, counted=counted)
    assert counts == [1, 2, 3, 1]


async def test_parked_work_is_due_again_when_its_reason_is_gone(store: Store) -> None:
    await _add(store, "a", "b")
    for claim in await _claim(store, "w-1", 1_000):
        async with store.write() as c:
            assert await work.park(c, claim, f"connection:{claim.ref}")
    assert await _claim(store, "w-1", 10**15) == []
    async with store.write() as c:
        assert await work.unpark(c, "connection:a", 50_000) == 1
    assert [c.ref for c in await _claim(store, "w-1", 51_001)] == ["a"]


async def test_what_is_put_off_is_parked_no_more(store: Store) -> None:
    row = {"kind": "debounce", "ref": "acme|idle|c-1", "queue": "|acme|0", "due_at": 1, "data": "{}"}
    async with store.write() as c:
        await work.put(c, [row])
        [held] = await work.claim(c, now_ms=1, lease_ms=1, owner="w", most=1)
        await work.park(c, held, "connection:acme")
        # when it is put off while it waits for its connection
        await work.put(c, [{**row, "due_at": 5_000}])
        # then the connection makes nothing due before its time
        assert await work.unpark(c, "connection:acme", 2) == 0
        assert await work.next_due_ms(c) == 5_000


async def test_what_was_parked_until_a_time_and_is_taken_then_is_parked_no_more(store: Store) -> None:
    await _add(store, "a", "b")
    async with store.write() as c:
        await c.run("update work set parked_on = 'cap:1', due_at = 5")
        taken = await work.claim(c, now_ms=5, lease_ms=30_000, owner="w", most=1)
        lanes = await work.lanes(c)
        taken += await work.claim_from(c, dict.fromkeys(lanes, 1), now_ms=5, lease_ms=30_000, owner="w")
        assert sorted(held.ref for held in taken) == ["a", "b"]
        # then the end of what they waited for takes them from nobody
        assert await work.unpark(c, "cap:1", 6) == 0


async def test_what_was_parked_together_is_due_spread_over_a_second(store: Store) -> None:
    await _add(store, *(f"r{n}" for n in range(40)))
    async with store.write() as c:
        await c.run("update work set parked_on = 'connection:a', due_at = :never", never=work.NEVER_MS)
        assert await work.unpark(c, "connection:a", 50_000) == 40
        due = {row["due_at"] for row in await c.all("select due_at from work")}
    assert len(due) > 20
    assert min(due) >= 50_000
    assert max(due) < 51_000


async def test_a_crowded_claim_takes_so_many_from_each_lane(store: Store) -> None:
    async with store.write() as c:
        for n in range(5):
            await work.add_if_absent(c, "run", f"slow-{n}", "slow|shop|1", n)
            await work.add_if_absent(c, "run", f"quick-{n}", "quick", n)
        await work.add_if_absent(c, "run", "later", "quick", 900)
        await work.add_if_absent(c, "run", "parked", "parked", work.NEVER_MS)
        assert await work.lanes(c) == {"slow|shop|1": 0, "quick": 0}
        claims = await work.claim_from(c, {"slow|shop|1": 2, "quick": 9, "gone": 3}, now_ms=5, lease_ms=9, owner="w")
        assert {claim.ref for claim in claims} == {"slow-0", "slow-1", *(f"quick-{n}" for n in range(5))}
        assert await work.lanes(c) == {"slow|shop|1": 2, "quick": 14}


async def test_crowded_claims_of_several_workers_never_take_the_same(store: Store) -> None:
    async with store.write() as c:
        for n in range(200):
            await work.add_if_absent(c, "run", f"r-{n}", f"lane-{n % 4}", 0)

    async def claim(n: int) -> list[work.Claim]:
        async with store.write() as c:
            portions = {f"lane-{lane}": 4 for lane in range(4)}
            return await work.claim_from(c, portions, now_ms=1, lease_ms=30_000, owner=f"w-{n}")

    claimed = await asyncio.gather(*[claim(n) for n in range(20)])
    refs = [c.ref for group in claimed for c in group]
    assert len(refs) == len(set(refs)) == 200


async def test_a_run_born_in_hand_is_somebody_elses_when_its_lease_ends(store: Store) -> None:
    new = [NewRun(f"r{n}", "welcome", 1, None, f"ev:{n}:", "", {}, 1_000) for n in range(3)]
    async with store.write() as c:
        born = await runs.start(c, [*new, replace(new[0], id="r9")], runs.Lease("w-1", 31_000, most=2))
    assert [(claim.ref, row) for claim, row in born] == [("r0", new[0].row()), ("r1", new[1].row())]
    async with store.read() as c:
        assert (await runs.load(c, ["r0"]))["r0"] == new[0].row()
    assert [claim.ref for claim in await _claim(store, "w-2", 2_000)] == ["r2"]
    assert {(c.ref, c.epoch, c.claims) for c in await _claim(store, "w-2", 31_001)} == {("r0", 2, 2), ("r1", 2, 2)}


async def test_a_run_that_was_stopped_while_it_was_set_aside_waits_for_nothing(store: Store) -> None:
    async with store.write() as c:
        await runs.start(c, [NewRun("r0", "welcome", 1, None, "ev:0:", "", {}, 1_000)], runs.Lease("w-1", 31_000, 1))
        await runs.stop(c, {"r0": {"cancel": "cancelled", "event": None}}, 2_000)
        aside = runs.Advance(
            run_id="r0",
            epoch=1,
            at_ms=3_000,
            seq=0,
            status="parked",
            position=None,
            ctx={},
            due_ms=work.NEVER_MS,
            parked_on="connection:a",
            lane=Lane("welcome", "a"),
        )
        assert [done.stop is not None for done in await runs.advance(c, [aside])] == [True]
    # when it is in somebody's hand again, and what it would have waited for is there
    assert [(claim.ref, claim.queue) for claim in await _claim(store, "w-2", 3_000)] == [("r0", "welcome")]
    async with store.write() as c:
        assert await work.unpark(c, "connection:a", 3_500) == 0
    # then nobody else takes it
    assert await _claim(store, "w-3", 5_000) == []


async def _started(store: Store, *refs: str) -> None:
    """Runs in the hand of w-1 until 31,000."""
    new = [NewRun(ref, "welcome", 1, None, f"ev:{ref}:", "", {}, 1_000) for ref in refs]
    async with store.write() as c:
        await runs.start(c, new, runs.Lease("w-1", 31_000, len(refs)))


def _change(ref: str, status: str, **more: Any) -> runs.Advance:
    return runs.Advance(run_id=ref, epoch=1, at_ms=3_000, seq=0, status=status, position=None, ctx={}, **more)


async def test_the_first_reason_to_end_a_run_stays(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        for n, why in enumerate(("first", "second")):
            await runs.stop(c, {"r0": {"cancel": why, "event": None}}, 2_000 + n)
        assert ((await runs.load(c, ["r0"]))["r0"].stop or {})["cancel"] == "first"


async def test_an_answer_to_a_run_that_is_set_aside_is_kept_until_that_is_mended(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "parked", due_ms=work.NEVER_MS, parked_on="plugin:a")])
        await runs.wake(c, {"r0": {"name": "came", "event": {}}}, 4_000)
    assert await _claim(store, "w-2", 5_000) == []
    async with store.write() as c:
        assert await work.unpark(c, "plugin:a", 6_000) == 1
        assert (await runs.load(c, ["r0"]))["r0"].wake == {"name": "came", "event": {}}


async def test_a_run_that_was_set_aside_is_ready_when_that_is_mended(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "parked", reason="no plugin", due_ms=work.NEVER_MS, parked_on="plugin:a")])
        await work.unpark(c, "plugin:a", 4_000)
        run = (await runs.load(c, ["r0"]))["r0"]
    assert (run.status, run.reason) == ("ready", None)


async def test_what_set_a_run_aside_takes_it_from_nobody_when_the_run_was_stopped_meanwhile(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "parked", due_ms=work.NEVER_MS, parked_on="plugin:a")])
        await runs.stop(c, {"r0": {"cancel": "cancelled", "event": None}}, 4_000)
    assert [claim.ref for claim in await _claim(store, "w-2", 4_000)] == ["r0"]
    async with store.write() as c:
        assert await work.unpark(c, "plugin:a", 5_000) == 0


async def test_who_was_answered_may_still_be_ended_by_its_exits(store: Store) -> None:
    await _started(store, "r0")
    watches = [runs.WatchRow(kind, "0", "acme.clicked", "contact=c-1", None, 0) for kind in ("exit", "answer")]
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "waiting", due_ms=90_000, watches=watches)])
        await runs.wake(c, {"r0": {"name": "0", "event": {}}}, 4_000)
        left = await runs.waiting_for(c, [("acme.clicked", "contact=c-1")])
    assert [one.kind for one in left] == ["exit"]


async def test_an_answer_fences_off_whoever_is_about_to_wait_for_it(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await runs.wake(c, {"r0": {"name": "came", "event": {}}}, 4_000)
        await runs.arm(c, "r0", 1, 90_000_000, status="waiting", now_ms=4_000)
    assert [claim.ref for claim in await _claim(store, "w-2", 4_000)] == ["r0"]


async def test_a_run_that_has_ended_is_told_nothing(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "done", finished=True, ended_by="done")])
        await runs.wake(c, {"r0": {"name": "came", "event": {}}}, 4_000)
        run = (await runs.load(c, ["r0"]))["r0"]
    assert (run.status, run.wake) == ("done", None)


async def test_whoever_lost_a_run_sets_no_timer_of_it(store: Store) -> None:
    await _started(store, "r0")
    [_] = await _claim(store, "w-2", 31_001)
    async with store.write() as c:
        await runs.arm(c, "r0", 1, 90_000_000, status="waiting", now_ms=31_001)
    assert [claim.ref for claim in await _claim(store, "w-3", 61_002)] == ["r0"]


def _queued(n: int) -> runs.EffectRow:
    about = ("acme.add_members", "acme", "queued", "", {}, 0)
    return runs.EffectRow(f"r{n}:do", f"r{n}", "do", *about, intended_at_ms=1_000 - n, batch="acme|a|vip")


async def test_a_batch_takes_whoever_waits_longest_and_only_its_holder_lets_go_of_them(store: Store) -> None:
    await _started(store, *(f"r{n}" for n in range(5)))
    async with store.write() as c:
        for n in range(5):
            await runs.intend(c, _queued(n))
        await work.put(c, [{"kind": "batch", "ref": "acme|a|vip", "queue": "q", "due_at": 0, "data": None}])
    old = next(claim for claim in await _claim(store, "w-1", 5_000) if claim.kind == "batch")
    async with store.write() as c:
        frozen = await runs.freeze_batch(c, old, 3, "token", 5_000)
        assert frozen is not None
        assert [effect.run_id for effect in frozen.effects] == ["r2", "r3", "r4"]
    new = next(claim for claim in await _claim(store, "w-2", 36_000) if claim.kind == "batch")
    async with store.write() as c:
        for claim, left in ((old, 2), (new, 5)):
            await runs.thaw_batch(c, "acme|a|vip", claim.epoch)
            assert await runs.queued_in(c, "acme|a|vip", 9) == left


async def test_a_batch_in_hand_stays_there_when_the_next_one_is_full(store: Store) -> None:
    await _started(store, "r0")
    async with store.write() as c:
        await work.put(c, [{"kind": "batch", "ref": "acme|a|vip", "queue": "q", "due_at": 0, "data": None}])
    [_] = await _claim(store, "w-1", 3_000)
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "waiting", due_ms=work.NEVER_MS, intent=_queued(0), linger=(9_000, 1))])
        assert await runs.queued_in(c, "acme|a|vip", 9) == 1
    assert await _claim(store, "w-2", 10_000) == []


@pytest.mark.parametrize(("state", "left"), [("done", 1), ("unknown", 1), ("failed", 0), ("planned", 0)])
async def test_only_a_message_that_certainly_was_not_sent_is_counted_no_more(
    store: Store, state: str, left: int
) -> None:
    await _started(store, "r0")
    intent = replace(_queued(0), state="intended", token="t", batch=None)
    result = runs.EffectResult(intent.key, "t", intent.action, state, state, "", None, 3_000, message=True)
    async with store.write() as c:
        await runs.reserve_message(
            c, intent.key, contact_id=None, channel="sms", purpose="cart", recipe="welcome", at_ms=2_000
        )
        await runs.advance(c, [_change("r0", "acting", intent=intent)])
        await runs.advance(c, [_change("r0", "acting", result=result)])
        assert len(await c.all("select 1 as n from message")) == left


async def test_what_a_process_that_lost_its_run_did_is_stored_and_nothing_else_of_it(store: Store) -> None:
    await _started(store, "r0")
    intent = replace(_queued(0), state="intended", token="t", batch=None)
    async with store.write() as c:
        await runs.advance(c, [_change("r0", "acting", intent=intent)])
    [_] = await _claim(store, "w-2", 31_001)
    did = runs.EffectResult(intent.key, "t", intent.action, "done", "done", "", {"id": "m-1"}, 3_000)
    async with store.write() as c:
        [answer] = await runs.advance(c, [_change("r0", "done", finished=True, ended_by="done", result=did)])
        assert not answer.held
        assert await runs.effect_state(c, "r0", "do") == "done"
        assert (await runs.load(c, ["r0"]))["r0"].finished_at_ms is None


# -- changes that go together ------------------------------------------------------------------------------------------


def _entry(recipe: str, times: str) -> dict[str, str]:
    return {"recipe": recipe, "scope": "s", "times": times}


async def test_changes_that_go_together_are_all_made_and_the_last_one_answers(store: Store) -> None:
    columns = dict.fromkeys(("recipe", "scope", "times"), "text")
    insert = (
        "insert into entry (recipe, scope, times) select recipe, scope, times from {rows} where true returning recipe"
    )
    async with store.write() as c:
        await c.together(Change(insert, columns, [_entry("a", "1"), _entry("b", "1")]))
        update = "update entry set times = r.times from {rows} where entry.recipe = r.recipe"
        answer = await c.together(
            Change(update, columns, [_entry("a", "2")]),
            Change("delete from entry where recipe in (select recipe from {rows})", columns, [_entry("b", "")]),
            Change(update, columns, []),
            Change(insert, columns, [_entry("c", "1")]),
        )
        assert [row["recipe"] for row in answer] == ["c"]
        assert await c.together() == []
        rows = await c.all("select recipe, times from entry order by recipe")
    assert [(row["recipe"], row["times"]) for row in rows] == [("a", "2"), ("c", "1")]


# -- group commit ------------------------------------------------------------------------------------------------------


async def test_items_that_wait_together_are_written_together() -> None:
    groups: list[int] = []

    async def flush(items: Sequence[int]) -> Sequence[int]:
        groups.append(len(items))
        await asyncio.sleep(0.01)
        return [i * 2 for i in items]

    grouped: Grouped[int, int] = Grouped(flush, most=50)
    assert await asyncio.gather(*[grouped.submit(n) for n in range(120)]) == [n * 2 for n in range(120)]
    assert len(groups) <= 4


async def test_what_comes_in_the_moment_a_writer_ends_is_written() -> None:
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def flush(group: Sequence[int]) -> Sequence[int]:
        if not told.done():
            told.set_result(None)  # whoever waits for this goes on before anybody learns that the writer has ended
        return group

    grouped: Grouped[int, int] = Grouped(flush, most=10)

    async def late() -> int:
        await told
        return await grouped.submit(2)

    async with asyncio.timeout(2), asyncio.TaskGroup() as both:
        second = both.create_task(late())
        await asyncio.sleep(0)
        assert await grouped.submit(1) == 1
    assert second.result() == 2


async def test_one_bad_item_fails_alone() -> None:
    async def flush(items: Sequence[int]) -> Sequence[int]:
        if 7 in items:
            raise ValueError("seven")
        return list(items)

    grouped: Grouped[int, int] = Grouped(flush, most=50)
    results = await asyncio.gather(*[grouped.submit(n) for n in range(20)], return_exceptions=True)
    assert [r for r in results if not isinstance(r, ValueError)] == [n for n in range(20) if n != 7]


async def test_an_outage_fails_the_whole_group_once() -> None:
    calls = 0

    async def flush(items: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        raise StoreUnavailable()

    grouped: Grouped[int, int] = Grouped(flush, most=50)
    results = await asyncio.gather(*[grouped.submit(n) for n in range(20)], return_exceptions=True)
    assert all(isinstance(r, StoreUnavailable) for r in results)
    assert calls == 1


async def test_beyond_its_bound_it_says_so_at_once() -> None:
    release = asyncio.Event()

    async def flush(items: Sequence[int]) -> Sequence[int]:
        await release.wait()
        return list(items)

    grouped: Grouped[int, int] = Grouped(flush, most=1, bound=3)
    waiting = [asyncio.ensure_future(grouped.submit(n)) for n in range(4)]
    await asyncio.sleep(0.01)
    with pytest.raises(Full):
        for n in range(4):
            waiting.append(asyncio.ensure_future(grouped.submit(n)))
            await asyncio.sleep(0)
            if waiting[-1].done():
                waiting[-1].result()
    release.set()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_whoever_is_urgent_waits_for_two_others_at_most(sqlite_url: str) -> None:
    # given a database with one writer and many who want to write
    store = Store(sqlite_url)
    order: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def write(name: str, *, urgent: bool = False) -> None:
        async with store.write(urgent=urgent) as c:
            begun.set()
            await go_on.wait()
            await c.run("update meta set value = value")
            order.append(name)

    others = [asyncio.create_task(write(f"other-{n}")) for n in range(30)]
    await begun.wait()
    # when somebody comes who is urgent
    urgent = asyncio.create_task(write("urgent", urgent=True))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(urgent, *others)
    # then the others wait
    assert order.index("urgent") <= 2
    assert len(order) == 31
    await store.close()


async def test_who_waits_too_long_is_told_and_what_was_not_begun_is_not_written() -> None:
    written: list[int] = []
    go_on = asyncio.Event()

    async def flush(group: Sequence[int]) -> Sequence[int]:
        await go_on.wait()
        written.extend(group)
        return group

    grouped = Grouped(flush, most=1)
    first = asyncio.create_task(grouped.submit(1))
    await asyncio.sleep(0.01)
    with pytest.raises(Late):
        await grouped.submit(2, patience_s=0.01)
    go_on.set()
    assert await first == 1
    assert await grouped.submit(3) == 3
    assert written == [1, 3]


async def test_a_connection_that_ended_in_the_middle_of_a_word_is_an_outage(store: Store) -> None:
    # asyncpg says so when the server ended the session of a process that stood still.
    with pytest.raises(StoreUnavailable, match="was lost"):
        async with store.read():
            raise asyncpg.InternalClientError("cannot switch to state 8; another operation (2) is in progress")


async def test_deliveries_are_read_whole_by_connection_and_topic_oldest_first(store: Store) -> None:
    # given
    calls = [("d1", "c1", "orders/paid"), ("d2", "c2", "orders/paid"), ("d3", "c1", "orders/new"), ("d4", "c1", "orders/paid")]  # fmt: skip
    async with store.write() as c:
        for n, (id_, connection, topic) in enumerate(calls):
            given = {"connector": "acme", "connection_id": connection, "topic": topic, "body": id_.encode()}
            await events.ingest(c, [Incoming(connection, id_, [], n, request={"url": "https://h/x"}, **given)])  # type: ignore[arg-type]

    # when, then
    async with store.read() as c:
        asked = {"connection_id": "c1", "topic": "orders/paid"}
        assert [bytes(row["body"]) for row in await deliveries.whole(c, **asked, most=10)] == [b"d1", b"d4"]
        assert [bytes(row["body"]) for row in await deliveries.whole(c, **asked, most=1)] == [b"d4"]
        everything = await deliveries.whole(c, connection_id=None, topic=None, most=10)
        assert [row["topic"] for row in everything] == [topic for _, _, topic in calls]
