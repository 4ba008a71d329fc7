"""Routing: events of one batch mean what they would have meant one by one; what cannot be routed; several that route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.process import working
from hub.store import runs
from hub.store.runs import Lease
from tests.integration.test_runs import ADA, TWO_NOTES, _cart

HOUR = 3_600_000

WAITING = """
recipe: waiting
on: {event: acme.carted}
exit_on: [{event: acme.purchased}]
steps:
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 1d
    clicked:
      - {do: acme.put_note, with: {key: clicked}}
"""

RESTARTED = """
recipe: restarted
on: {event: acme.carted}
entry: {per: contact, at_most: 9, within: 30d, while_inside: restart}
steps:
  - {wait: 1h}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""


async def test_an_exit_that_comes_with_an_answer_ends_the_run(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(WAITING)
        await it.deliver("carted", _cart())
        await it.hub.pump.settle()
        # given an answer, and right after it the event that makes the run needless
        await it.deliver("clicked", {"id": "k-1", **ADA})
        await it.deliver("purchased", {"id": "p-1", **ADA})
        # when both are routed at once
        await it.hub.pump.settle()
        # then
        [run] = await it.runs()
        assert run["ended_by"] == "acme.purchased"
        assert it.sandbox.log == []


async def test_of_two_that_restart_a_recipe_the_later_goes_on(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(RESTARTED)
        # given a person who enters twice before anybody has looked
        await it.deliver("carted", _cart(id="c-1"))
        await it.deliver("carted", _cart(id="c-2"))
        # when both are routed at once
        await it.hub.pump.settle()
        # then
        first, second = await it.runs()
        assert (first["ended_by"], second["status"]) == ("cancelled", "sleeping")


POISON = """
recipe: poison
on: {event: acme.signed_up, where: {event.first_name: {eq: Ada}}}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""


async def test_a_poisonous_event_is_set_aside_alone(
    running: Callable[..., Any], database_url: str, poison: Callable[[str], None]
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(POISON)
        poison("s-2")
        for n in range(1, 5):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        async with working(it.hub):
            await it.rest()
        assert sorted(e.data["key"] for e in it.sandbox.log) == ["s-1", "s-3", "s-4"]
        async with it.hub.store.read() as c:
            [aside] = await c.all("select note from event where stage = 'quarantined'")
        assert "RecursionError" in aside["note"]


async def test_whoever_routes_singly_takes_no_more_in_hand_than_it_has_room_for(
    running: Callable[..., Any], sqlite_url: str, poison: Callable[[str], None]
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.publish(TWO_NOTES)
        poison("s-0")
        for n in range(6):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        routed = await it.hub.pump._router.route(Lease("w-1", it.hub.clock.now_ms() + 30_000, 2))
        assert (routed.events, len(routed.in_hand)) == (6, 2)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_whoever_looks_for_a_poisonous_event_leaves_those_of_others_alone(
    running: Callable[..., Any], database_url: str, poison: Callable[[str], None]
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(POISON)
        poison("s-2")
        for n in (1, 2):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        router, lease = it.hub.pump._router, Lease("other", it.hub.clock.now_ms() + HOUR, 0)
        # given an event that another process is routing
        async with it.hub.store.write() as c:
            await c.all("select id from event order by id limit 1 for update")
            # when this one finds out which event cannot be routed
            routing = asyncio.create_task(router.route(lease))
            await asyncio.wait([routing], timeout=5)
        await routing
        # then that one is set aside, and the other's is not
        async with it.hub.store.read() as c:
            stages = [row["stage"] for row in await c.all("select stage from event order by id")]
        assert stages == ["route", "quarantined"]


BY_CART = """
recipe: by-cart
on: {event: acme.carted}
entry: {per: "{{ trigger.cart }}", at_most: 9, within: 30d, while_inside: ignore}
steps:
  - {wait: 1d}
"""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_two_processes_let_no_two_runs_in_side_by_side(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    start = runs.start

    async def slowly(*given: Any) -> Any:
        in_hand = await start(*given)
        if not begun.is_set():
            begun.set()
            await go.wait()
        return in_hand

    async with running(database_url, work=False) as it:
        await it.publish(BY_CART)
        monkeypatch.setattr(runs, "start", slowly)
        router, lease = it.hub.pump._router, Lease("other", it.hub.clock.now_ms() + HOUR, 0)
        # given a process that lets one in, and has not committed that yet
        await it.deliver("carted", _cart(id="c-1", cart="same"))
        first = asyncio.create_task(router.route(lease))
        await begun.wait()
        # when another one routes the next event of the same cart, by somebody else
        await it.deliver("carted", {"id": "c-2", "cart": "same", "email": "bob@example.com"})
        second = asyncio.create_task(router.route(lease))
        await asyncio.wait([second], timeout=1.5)
        go.set()
        await asyncio.gather(first, second)
        # then it finds that one is inside
        assert len(await it.runs()) == 1
        async with it.hub.store.read() as c:
            assert [row["outcome"] for row in await c.all("select outcome from verdict")] == ["already_inside"]
