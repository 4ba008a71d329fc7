"""The watchdog: what must not be is found, confirmed, mended where that is safe, and told."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from hub.store import invariants
from hub.store.invariants import Sweep, findings
from hub.store.session import Store
from hub.store.work import NEVER_MS
from hub.watchdog import _safe
from tests.integration.conftest import Cli
from tests.integration.test_metrics import _scrape
from tests.integration.test_runs import ADA, HOUR, REMINDER, TWO_NOTES, _cart, _did

JOIN = """
recipe: join
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: all, email: "{{ trigger.email }}"}}
"""


async def _sql(it: Any, *statements: str) -> None:
    async with it.hub.store.write() as c:
        for statement in statements:
            await c.run(statement)


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110  (what is waited for rings no bell)
            await asyncio.sleep(0.01)


async def _kinds(it: Any, **how: Any) -> list[str]:
    async with it.hub.store.read() as c:
        return [finding.kind for finding in await findings(c, **how)]


async def _look(it: Any) -> list[str]:
    return [finding.kind for finding in await it.hub.watchdog.look(again_s=0)]


async def test_a_hub_that_is_well_has_no_findings(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given runs that are done, asleep and waiting
        await it.publish(REMINDER)
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("carted", _cart())
        for hours in (1, 24, 1):
            await it.advance(hours * HOUR)

            # Then nothing is found at any rest, by a whole look or by a look at a part
            assert await _kinds(it) == []
            assert await _kinds(it, sweep=Sweep(most=2)) == []


async def test_a_run_without_work_gets_it_back_and_goes_on(
    running: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a run that sleeps, whose work is gone
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.rest()
        [run] = await it.runs()
        await _sql(it, "delete from work where kind = 'run'")
        assert await _kinds(it) == ["run_without_work"]

        # When the watchdog looks
        with caplog.at_level(logging.WARNING, logger="hub.watchdog"):
            assert await _look(it) == ["run_without_work"]

        # Then it is put right, told as an error of ours, and counted
        [line] = [r for r in caplog.records if getattr(r, "what", "") == "finding_mended"]
        assert (line.levelname, vars(line)["refs"]) == ("ERROR", [run["id"]])
        assert (await _scrape(it))['hub_findings_mended_total{kind="run_without_work"}'] == 1
        assert await _look(it) == []

        # And the run sleeps until it would have, then does what it would have done, once
        await it.advance(20 * HOUR)
        assert it.sandbox.texts == []
        await it.advance(5 * HOUR)
        assert len(it.sandbox.texts) == 1
        await it.advance(72 * HOUR)
        assert _did(it)[1:] == [("put_note", "silent")]
        assert await _kinds(it) == []


async def test_a_wait_that_lost_its_work_keeps_its_time_limit(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given a run that waits for a click, two days at most, whose work is gone after one
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(48 * HOUR)
        [run] = await it.runs()
        assert run["status"] == "waiting"
        await _sql(it, "delete from work where kind = 'run'")

        # When it gets it back, it waits still, and no longer than it should have
        assert await _look(it) == ["run_without_work"]
        await it.advance(23 * HOUR)
        assert [r["status"] for r in await it.runs()] == ["waiting"]
        await it.advance(2 * HOUR)
        [run] = await it.runs()
        assert run["status"] == "done"


async def test_what_is_left_of_finished_runs_is_removed(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given a finished run for which something is still due, and which still waits; and both of a run that is gone
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        for ref in (run["id"], "gone"):
            await _sql(
                it,
                f"insert into work (kind, ref, queue, due_at) values ('run', '{ref}', 'runs', {NEVER_MS - 1})",
                "insert into waiter (run_id, n, kind, name, type, key, since) "
                f"values ('{ref}', 0, 'answer', 'a', 'acme.clicked', 'contact=x', 0)",
            )

        # When the watchdog looks, it is removed
        assert await _look(it) == ["work_of_finished_run", "waiter_of_finished_run"]
        assert await _kinds(it) == []
        async with it.hub.store.read() as c:
            assert await c.all("select ref from work where kind = 'run'") == []
            assert await c.all("select run_id from waiter") == []


async def test_an_event_that_a_run_missed_is_told_to_it(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given a run that waits for the click on its message, and one that has nothing to do with it
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(25 * HOUR)
        message = it.sandbox.texts[0]["id"]
        async with it.hub.store.read() as c:
            kept = await c.all("select * from waiter")

        # And a click whose routing did not see that anybody waits
        await _sql(it, "delete from waiter")
        await it.deliver("clicked", {"id": "k-1", "message_id": message})
        await it.deliver("clicked", {"id": "k-2", "message_id": "of-somebody-else"})
        await it.rest()
        async with it.hub.store.write() as c:
            for row in kept:
                await c.run(
                    "insert into waiter (run_id, n, kind, name, type, key, condition, since) "
                    "values (:run_id, :n, :kind, :name, :type, :key, :condition, :since)",
                    **row,
                )

        # When the watchdog looks
        assert await _kinds(it) == ["event_missed"]
        # (it leaves what is younger than a lease to whoever is at it)
        await it.advance(60_000)
        assert await _look(it) == ["event_missed"]
        await it.rest()

        # Then the run went on by that event
        [run] = await it.runs()
        assert run["status"] == "done"
        assert _did(it)[1:] == [("put_note", "clicked")]
        assert await _kinds(it) == []


async def test_a_batch_without_work_gets_it_back(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given an effect that waits for its batch, which nothing is due for
        await it.publish(JOIN)
        await it.deliver("signed_up", {"id": "s-1", **ADA})

        async def waits() -> bool:
            return [run["status"] for run in await it.runs()] == ["waiting"]

        await _until(waits)
        await _sql(it, "delete from work where kind = 'batch'")
        assert await _kinds(it) == ["batch_without_work"]

        # When the watchdog looks, it is called
        assert await _look(it) == ["batch_without_work"]
        await it.rest()
        assert [run["status"] for run in await it.runs()] == ["done"]
        assert await _kinds(it) == []


async def test_events_to_be_filled_in_get_their_work_back(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        it.sandbox.leads["l-1"] = {"email": "ada@example.com"}
        # Given an event to be filled in that came when its work was just being removed
        await it.deliver("lead", {"id": "l-1"})
        await it.rest()
        await _sql(it, "update event set stage = 'enrich'")
        assert await _kinds(it) == ["enrichment_without_work"]
        assert await _look(it) == ["enrichment_without_work"]
        await it.rest()
        assert await _kinds(it) == []


async def test_what_only_people_can_see_to_is_told_with_the_command(
    running: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database_url, work=False) as it:
        # Given an event that nobody routes, work that nobody takes, and a finished run with an open effect
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        now_ms = it.hub.clock.now_ms()
        await _sql(
            it,
            f"update event set received_at = {now_ms - 120_000}",
            f"update work set queue = 'acme', due_at = {now_ms - 60_000} where kind = 'poll'",
            "insert into run (id, recipe, version, entry_key, scope, status, trigger_data, ctx, started_at, finished_at) "
            "values ('r-1', 'a', 1, 'k', '', 'done', '{}', '{}', 0, 1)",
            "insert into effect (key, run_id, step_id, action, connection, state, token, request, intended_at) "
            "values ('r-1:s', 'r-1', 's', 'acme.charge', 'acme', 'intended', 't', '{}', 0)",
        )

        # When the watchdog looks
        with caplog.at_level(logging.WARNING, logger="hub.watchdog"):
            found = await _look(it)

        # Then each is a warning with what to do, counted, and left as it is
        assert found == ["work_overdue", "event_unrouted", "effect_without_outcome"]
        assert await _look(it) == found
        lines = [vars(r) for r in caplog.records if getattr(r, "what", "") == "finding"]
        assert all(line["mend"] and line["levelname"] == "WARNING" for line in lines)
        assert (await _scrape(it))['hub_findings{kind="work_overdue"}'] == 1

        # And what is held back on purpose is not overdue
        await _sql(
            it, "insert into pause (id, kind, target, reason, who, at) values ('p', 'connection', 'acme', 'x', 'me', 0)"
        )
        assert await _look(it) == ["event_unrouted", "effect_without_outcome"]


def test_the_doctor_finds_it_too(cli: Cli) -> None:
    # Given a run that lost its work
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as c:
        c.execute(
            "insert into run (id, recipe, version, entry_key, scope, status, trigger_data, ctx, started_at) "
            "values ('r-1', 'a', 1, 'k', '', 'ready', '{}', '{}', 0)"
        )
        c.commit()

    # Then the doctor says so, and who mends it
    found = [finding for finding in cli.json("doctor") if finding["check"] == "watchdog"]
    assert [finding["state"] for finding in found] == ["warning"]
    assert "nothing is due for them: 1 found" in found[0]["message"]
    assert "hub worker" in found[0]["mend"]


async def test_what_is_gone_at_the_second_look_was_nothing(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        # Given a run that looks lost for a moment
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.rest()
        [run] = await it.runs()
        looks = []
        real = invariants.findings

        async def once(c: Any, **how: Any) -> Any:
            looks.append(1)
            lost = invariants.Finding("run_without_work", (run["id"],), "", "")
            return [lost] if len(looks) == 1 else await real(c, **how)

        monkeypatch.setattr(invariants, "findings", once)

        # Then nobody hears of it
        assert await _look(it) == []
        assert len(looks) == 2


async def test_one_process_at_a_time_looks(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        turns = [await it.hub.watchdog._is_our_turn() for _ in range(3)]
        assert turns == [True, False, False]
        await _sql(it, "update meta set value = '0' where key = 'watchdog'")
        assert await it.hub.watchdog._is_our_turn()


async def test_a_round_of_looks_comes_to_every_run(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # Given twenty runs, of which the last one is lost
        await it.publish(REMINDER)
        for n in range(20):
            cart = _cart(id=f"c-{n}", email=f"ada{n}@example.com", phone=f"+141555501{n:02}")
            await it.deliver("carted", cart)
        await it.rest()
        [*_, last] = sorted(await it.runs(), key=lambda run: str(run["id"]))
        await _sql(it, f"delete from work where ref = '{last['id']}'")

        # When looks see six rows each, the round comes to it, and begins again
        sweep, found = Sweep(most=6), []
        for _ in range(8):
            found.append(await _kinds(it, sweep=sweep))
        assert sum(kinds == ["run_without_work"] for kinds in found) == 2
        assert all(kinds in ([], ["run_without_work"]) for kinds in found)


async def test_work_in_hand_that_does_not_get_on_is_seen(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        # Given a call that is not answered
        await it.publish(TWO_NOTES)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA})

        async def arrived() -> bool:
            return bool(it.sandbox.arrived)

        await _until(arrived)
        [run] = await it.runs()

        # Then its run is in hand for too long, sooner or later
        assert it.hub.pump.stuck(60) == []
        assert it.hub.pump.stuck(0) == [("run", run["id"])]
        it.sandbox.hold.set()
        await it.rest()
        assert it.hub.pump.stuck(0) == []


async def test_a_look_costs_little_with_many_that_wait(postgres_url: str) -> None:
    # Given 100,000 runs that wait for an event, with their work
    store = Store(postgres_url)
    async with store.write() as c:
        await c.run(
            "insert into run (id, recipe, version, entry_key, scope, status, trigger_data, ctx, started_at) "
            "select 'r-' || n, 'a', 1, 'k-' || n, '', 'waiting', '{}', '{}', 0 from generate_series(1, 100000) as n"
        )
        await c.run(
            "insert into work (kind, ref, queue, due_at) select 'run', 'r-' || n, 'runs', 9000000000000 + n "
            "from generate_series(1, 100000) as n"
        )
        await c.run(
            "insert into waiter (run_id, n, kind, name, type, key, since) select 'r-' || n, 0, 'answer', 'a', "
            "'acme.clicked', 'contact=' || n, 0 from generate_series(1, 100000) as n"
        )
    async with store.read() as c:
        for table in ("run", "work", "waiter"):
            await c.run(f"analyze {table}")
        took, sweep = [], Sweep(most=2_000)
        for _ in range(3):
            began = time.perf_counter()
            found = await findings(c, now_ms=1_800_000_000_000, sweep=sweep)
            took.append(time.perf_counter() - began)
    await store.close()

    # Then a look at two thousand of them takes moments
    assert found == []
    assert min(took) < 0.5


def test_a_finding_is_named_without_the_key_of_a_person() -> None:
    assert _safe("acme|acme.cart_idle|ada@example.com") == "acme|acme.cart_idle"
    assert _safe("0192") == "0192"
