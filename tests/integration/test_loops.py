"""Events that our own effects cause: they start us no second time, and answer those who wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from hub.ids import id_floor, new_id, reference, run_of
from hub.loops import Loops
from hub.store import runs, views
from hub.store.runs import NewRun
from hub.store.session import Store

ADA = {"email": "ada@example.com", "phone": "+14155550100", "first_name": "Ada"}

SELF = """
recipe: self
on: {event: acme.signed_up}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}}
"""

WAITING = """
recipe: waiting
on: {event: acme.carted}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}, as: note}
  - wait_for:
      came: {event: acme.signed_up}
    timeout: 1h
    as: answer
    came:
      - {stop: came}
"""


async def _verdicts(it: Any) -> list[tuple[str, str, str]]:
    async with it.hub.store.read() as c:
        rows = await c.all("select recipe, outcome, reason from verdict order by at, event_id")
    return [(r["recipe"], r["outcome"], r["reason"]) for r in rows]


def _echo(it: Any, topic: Callable[[str], str] = lambda key: "signed_up", *, marked: bool = True) -> None:
    """Acme sends a webhook about every note that is put: a vendor that tells of its own changes, whoever made them."""
    count = iter(range(10_000))

    async def send(body: dict[str, Any], ours: str) -> None:
        about = {"id": f"echo-{next(count)}", **ADA} | ({"reference": ours} if marked else {})
        await it.deliver(topic(body["key"]), about)

    it.sandbox.echo = send


async def _settle(it: Any) -> None:
    for _ in range(200):
        await it.rest()
        before = len(it.sandbox.log)
        await it.sandbox.settle()
        await it.rest()
        if len(it.sandbox.log) == before:
            return
    raise AssertionError("it never comes to rest")


async def test_a_recipe_is_not_entered_by_what_its_own_run_caused(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a recipe whose action makes the vendor send the event that it starts on
        await it.publish(SELF)
        _echo(it)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _settle(it)
        # then it ran once, and the event says why it started nothing
        [run] = await it.runs()
        assert len(it.sandbox.log) == 1
        [(recipe, outcome, reason)] = await _verdicts(it)
        assert (recipe, outcome) == ("self", "loop")
        assert run["id"] in reason
        async with it.hub.store.read() as c:
            person = await views.show_contact(c, await views.find_contact(c, "ada@example.com"))
        assert person["not_started"][0]["outcome"] == "loop"
        # and a real event still starts it
        it.sandbox.echo = None
        await it.deliver("signed_up", {"id": "s-2", **ADA})
        await it.rest()
        assert len(it.sandbox.log) == 2


async def test_recipes_that_cause_each_other_end_at_a_depth(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, loop_depth=3) as it:
        # given two recipes, each started by what the other does
        await it.publish(SELF.replace("recipe: self", "recipe: ping").replace("{{ trigger.id }}", "ping"))
        await it.publish(
            SELF.replace("recipe: self", "recipe: pong")
            .replace("{{ trigger.id }}", "pong")
            .replace("signed_up", "carted")
        )
        _echo(it, lambda key: "carted" if key == "ping" else "signed_up")
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _settle(it)
        assert [r.data["key"] for r in it.sandbox.log] == ["ping", "pong", "ping", "pong"]
        [(recipe, outcome, reason)] = await _verdicts(it)
        assert (recipe, outcome) == ("ping", "loop")
        assert "3 runs in a row" in reason


async def test_waits_are_answered_by_what_we_caused(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(WAITING)
        _echo(it)
        await it.deliver("carted", {"id": "c-1", **ADA})
        await _settle(it)
        async with asyncio.timeout(20):
            # While a wait is being armed nothing is due and nothing in hand.
            while (run := (await it.runs())[0])["finished_at"] is None:
                await it.rest()
        assert run["ended_by"] == "came"


async def test_without_a_marker_too_many_entries_are_called_a_loop(
    running: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database_url, loop_entries=4) as it:
        # given a vendor that does not give our marker back
        await it.publish(SELF)
        _echo(it, marked=False)
        with caplog.at_level(logging.WARNING, logger="hub.loops"):
            await it.deliver("signed_up", {"id": "s-1", **ADA})
            await _settle(it)
            await it.deliver("signed_up", {"id": "s-2", **ADA})
            await _settle(it)
        # then it ends by itself, and it is said once
        assert len(it.sandbox.log) == 4
        assert [outcome for _, outcome, _ in await _verdicts(it)] == ["loop_suspected", "loop_suspected"]
        assert "HUB_LOOP_ENTRIES" in (await _verdicts(it))[0][2]
        assert [r.what for r in caplog.records] == ["loop_suspected"]  # type: ignore[attr-defined]
        # and other people, and the same person later, enter as ever
        it.sandbox.echo = None
        await it.deliver("signed_up", {"id": "s-3", "email": "bob@example.com"})
        await it.advance(601_000)
        await it.deliver("signed_up", {"id": "s-4", **ADA})
        await it.rest()
        assert len(it.sandbox.log) == 6


async def test_many_events_of_one_delivery_are_counted_one_by_one(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, loop_entries=4) as it:
        await it.publish(SELF)
        await it.deliver("signed_up", [{"id": f"s-{n}", **ADA} for n in range(10)])
        await it.rest()
        assert len(await it.runs()) == 4


async def test_an_entry_whose_id_another_machine_made_by_its_own_clock_is_counted(store: Store) -> None:
    now_ms = int(time.time() * 1000)
    # given a run that began just within the window, with an id of a clock that is half a minute behind
    id_ = id_floor(now_ms - 630_000)
    async with store.write() as c:
        run = NewRun(id_, "self", 1, "c-1", "ev:1:", "", {}, now_ms - 590_000)
        await runs.start(c, [run], runs.Lease("w-1", now_ms, 1))
        found = await Loops(depth=1, entries=1, window_s=600).look(c, [], [("self", "c-1")], now_ms)
    assert found.entered == {("self", "c-1"): 1}


async def test_somebody_else_s_reference_is_no_cause(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(SELF)
        for n, given in enumerate(("order-17", reference(f"{new_id()}:put_note"), "0" * 40)):
            await it.deliver("signed_up", {"id": f"s-{n}", "reference": given, **ADA})
        await it.rest()
        assert len(await it.runs()) == 3


def test_a_reference_leads_to_its_run_and_is_one_of_its_effect() -> None:
    run = new_id()
    assert run_of(reference(f"{run}:do-1")) == run
    assert reference(f"{run}:do-1") != reference(f"{run}:do-2")
    assert reference(f"{run}:do-1") == reference(f"{run}:do-1")
    # the call of a batch is many runs'
    assert run_of(reference("batch:" + new_id())) is None


def test_ids_made_later_are_above_the_floor() -> None:
    floor = id_floor(int(time.time() * 1000) - 1_000)
    assert id_floor(int(time.time() * 1000) + 60_000) > new_id() > floor
