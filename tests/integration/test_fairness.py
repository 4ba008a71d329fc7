"""Fair claiming: nobody stands behind somebody else's vendor, and who waits is not claimed over and over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub import Concurrency, Rate
from hub.limits import Outlook
from hub.plugins import load_plugins
from hub.store import work
from hub.store.lanes import Lane
from tests import acme as acme_plugin
from tests.acme import acme
from tests.integration.test_runs import ADA

RECIPE = """
recipe: {name}
on: {{event: acme.{event}}}
steps:
  - {{do: acme.put_note, with: {{key: "{{{{ trigger.id }}}}"}}}}
"""


async def until(done: Callable[[], Awaitable[bool]], limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not await done():
        assert time.monotonic() < end, "it takes too long"
        await asyncio.sleep(0.02)


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[work.Claim]:
    """Every claim that was made, in order."""
    made: list[work.Claim] = []
    for name in ("claim", "claim_from"):

        def wrap(real: Any) -> Any:
            async def noting(*given: Any, **named: Any) -> list[work.Claim]:
                found = await real(*given, **named)
                made.extend(found)
                return list(found)

            return noting

        monkeypatch.setattr(work, name, wrap(getattr(work, name)))
    return made


async def test_who_waits_for_a_rate_is_claimed_a_few_times_and_goes_at_that_rate(
    running: Callable[..., Any], database_url: str, claims: list[work.Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme, "budgets", [Rate(20, per_s=100), Concurrency(100)])
    runs = 320
    async with running(database_url) as it:
        await it.publish(RECIPE.format(name="many", event="signed_up"))
        await asyncio.gather(*[it.deliver("signed_up", {"id": f"s-{n}"}) for n in range(runs)])
        began = time.monotonic()

        async def all_done() -> bool:
            return len(it.sandbox.log) >= runs

        await until(all_done, 30)
        took_s = time.monotonic() - began
    per_s = 100 * (0.8 if database_url.startswith("postgres") else 1)
    assert took_s >= (runs - 20) / per_s * 0.8 - 1
    # Most are born in hand and find that they must wait; then comes the claim that is their turn, on a busy machine a
    # few of them. Without turns everybody would be claimed every few milliseconds.
    assert len([c for c in claims if c.kind == "run"]) <= 4 * runs
    assert sorted(entry.data["key"] for entry in it.sandbox.log) == sorted(f"s-{n}" for n in range(runs))


async def test_a_recipe_with_slow_calls_leaves_slots_to_the_others(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, slots=16) as it:
        await it.publish(RECIPE.format(name="slow", event="signed_up"))
        await it.publish("recipe: quick\non: {event: acme.carted}\nsteps:\n  - {stop: here}\n")
        it.sandbox.hold = asyncio.Event()
        await asyncio.gather(*[it.deliver("signed_up", {"id": f"s-{n}"}) for n in range(60)])

        async def slow_ones_hold_all_they_may() -> bool:
            return it.hub.pump.busy >= 14

        await until(slow_ones_hold_all_they_may)
        # when others come while every call of the first recipe hangs
        await asyncio.gather(*[it.deliver("carted", {"id": f"c-{n}"}) for n in range(30)])

        async def quick_ones_done() -> bool:
            async with it.hub.store.read() as c:
                row = await c.first("select count(*) as n from run where recipe = 'quick' and finished_at is not null")
            return bool(row["n"] == 30)

        await until(quick_ones_done)
        assert it.sandbox.log == []
        it.sandbox.hold.set()
        await it.rest()
        assert len(it.sandbox.log) == 60


async def test_a_process_that_has_its_hands_full_rings_the_others(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url, slots=4) as it:
        await it.publish(RECIPE.format(name="slow", event="signed_up"))
        rung = asyncio.Event()
        monkeypatch.setattr(it.hub.pump, "_ring", rung.set)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", [{"id": f"s-{n}"} for n in range(10)])
        async with asyncio.timeout(10):
            await rung.wait()
        it.sandbox.hold.set()
        await it.rest()
        assert len(it.sandbox.log) == 10


async def test_runs_of_a_held_connection_are_passed_over_and_a_woken_one_is_not(
    running: Callable[..., Any], database_url: str, claims: list[work.Claim]
) -> None:
    async with running(database_url) as it:
        await it.publish(
            """
recipe: held
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""
        )
        await it.hub.limits.push("acme", 60)
        for n in range(20):
            await it.deliver("signed_up", {"id": f"s-{n}", "email": f"p{n}@example.com"})

        async def all_wait() -> bool:
            async with it.hub.store.read() as c:
                row = await c.first("select count(*) as n from work where queue = 'held|acme|0' and owner is null")
            return bool(row["n"] == 20)

        await until(all_wait)
        before = len(claims)
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 0")
        await asyncio.sleep(0.6)
        assert len(claims) == before
        await it.deliver("purchased", {"id": "p-1", "email": "p7@example.com"})

        async def one_left() -> bool:
            return any(run["ended_by"] == "acme.purchased" for run in await it.runs())

        await until(one_left)
        assert [Lane.of(c.queue) for c in claims[before:] if c.kind == "run"] == [Lane("held")]
        assert it.sandbox.arrived == 0


async def test_a_run_that_goes_on_stands_in_its_recipe_s_lane_again(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(
            """
recipe: later
on: {event: acme.signed_up}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
  - wait: 2h
"""
        )
        await it.hub.limits.push("acme", 30)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        async with it.hub.store.read() as c:
            row = await c.first("select queue from work where kind = 'run'")
        assert row["queue"] == "later|acme|0"
        await it.advance(3_600_000)
        async with it.hub.store.read() as c:
            row = await c.first("select queue from work where kind = 'run'")
        assert row["queue"] == "later"
        assert len(it.sandbox.log) == 1


async def test_transactional_messages_overtake_marketing_behind_the_same_rate(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme, "budgets", [Rate(5, per_s=20), Concurrency(100)])
    text = """
recipe: {name}
on: {{event: acme.{event}}}
steps:
  - {{do: acme.send_text, purpose: {purpose}, with: {{to: "{{{{ trigger.phone }}}}", body: {name}}}}}
"""
    async with running(sqlite_url) as it:
        await it.publish(text.format(name="news", event="carted", purpose="cart"))
        await it.publish(text.format(name="order", event="signed_up", purpose="orders"))

        def person(n: int) -> dict[str, Any]:
            return {"email": f"p{n}@example.com", "phone": f"+1415555{1000 + n}", "sms_ok": True}

        await asyncio.gather(*[it.deliver("carted", {"id": f"c-{n}", **person(n)}) for n in range(120)])

        async def begun() -> bool:
            return len(it.sandbox.texts) >= 10

        await until(begun)
        await asyncio.gather(*[it.deliver("signed_up", {"id": f"s-{n}", **person(n)}) for n in range(20)])

        async def done() -> bool:
            return len(it.sandbox.texts) >= 140

        await until(done, 30)
        bodies = [sent["body"] for sent in it.sandbox.texts]
        # All of the orders are sent while most of the news still wait.
        assert bodies[:70].count("order") == 20


async def test_a_dead_connection_does_not_slow_another_one_down(running: Callable[..., Any], database_url: str) -> None:
    """The dead one's backlog is due all the time; the other one's runs are claimed as if it were not there."""
    async with running(database_url, plugins=load_plugins(extra=[acme_plugin])) as it:
        await it.hub.connections.add("acme", "other", {"account": "other"}, sandbox=True)
        for connection, event in (("acme", "signed_up"), ("other", "carted")):
            source = RECIPE.format(name=f"for-{connection}", event=event)
            await it.publish(source.replace("steps:", f"connections: {{acme: {connection}}}\nsteps:"))
        await it.hub.limits.push("acme", 60)
        await asyncio.gather(*[it.deliver("signed_up", {"id": f"s-{n}"}) for n in range(300)])

        async def all_wait() -> bool:
            async with it.hub.store.read() as c:
                row = await c.first("select count(*) as n from work where queue = 'for-acme|acme|0' and owner is null")
            return bool(row["n"] == 300)

        await until(all_wait)
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 0")
        took: list[float] = []
        for n in range(40):
            began = time.monotonic()
            await it.deliver("carted", {"id": f"c-{n}"}, connection="other", account="other")

            async def came(count: int = n + 1) -> bool:
                return len(it.sandbox.log) == count

            await until(came)
            took.append(time.monotonic() - began)
        assert sorted(took)[len(took) // 2] < 0.5
        assert {entry.account for entry in it.sandbox.log} == {"other"}


@pytest.mark.parametrize(("room", "free", "calm"), [(1, 8, True), (None, 1, False)])
async def test_only_what_slots_are_missing_for_is_too_much_work(
    running: Callable[..., Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    room: int | None,
    free: int,
    calm: bool,
) -> None:
    async with running(database_url, work=False) as it:
        # given more due work of a connection than is claimed
        async with it.hub.store.write() as c:
            for n in range(3):
                await work.add_if_absent(c, "of-a-newer-release", f"w-{n}", "|acme|2", 0)
        monkeypatch.setattr(it.hub.limits, "outlook", lambda connection: Outlook(room))
        assert await it.hub.pump._claim_shares(free) == 0.0
        # then new runs of others are taken in hand if the connection is the reason, and wait their turn if slots are
        assert it.hub.pump._calm is calm
        await asyncio.gather(*it.hub.pump._tasks)
