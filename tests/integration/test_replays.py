"""An event that is routed again: recipes that were not there yet get it, and nothing that was done is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from hub import replays
from hub.errors import ConfigError, NotThere
from hub.store import invariants, views
from hub.store.events import quarantine
from tests.conftest import Running
from tests.integration.conftest import Cli

Start = Callable[..., AbstractAsyncContextManager[Running]]
_DAY_MS = 24 * 3_600_000
_CARTED = {"id": "c-1", "email": "ada@example.com", "first_name": "Ada", "cart": "k-1"}


def _recipe(name: str, *, on: str = "acme.carted", entry: str = "", steps: str = "[{wait: 30d}]") -> str:
    return f"recipe: {name}\non: {{event: {on}}}\n{entry}\nsteps: {steps}\n"


async def _event(it: Running, type_: str = "acme.carted") -> dict[str, Any]:
    async with it.hub.store.read() as c:
        [found] = await views.list_events(c, type_=type_)
        return await views.show_event(c, found["id"])


async def _replay(it: Running, event_id: str | None = None, *, keep_runs_days: int = 90) -> dict[str, Any]:
    """Route the event again and wait until that is done."""
    hub = it.hub
    id_ = event_id or (await _event(it))["id"]
    await replays.replay(hub.store, hub.clock, id_, who="ops", keep_runs_days=keep_runs_days, ring=hub.ring)
    return dict(await replays.outcome(hub.store, id_, limit_s=20))


def _started(found: dict[str, Any]) -> list[str]:
    return sorted(run["recipe"] for run in found["started"])


async def test_a_recipe_that_came_after_the_event_gets_it(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        # given an event that one recipe got, and another one that came later
        await it.publish(_recipe("early"))
        await it.deliver("carted", _CARTED)
        await it.rest()
        before = await _event(it)
        await it.publish(_recipe("late"))

        # when it is replayed, and again
        found = await _replay(it)
        once_more = await _replay(it)

        # then both have one run of it, of the same person, and the event says who replayed it
        assert (_started(before), _started(found)) == (["early"], ["early", "late"])
        assert _started(once_more) == ["early", "late"]
        assert {run["contact"] for run in found["started"]} == {found["contact"]}
        assert found["stage"] == "routed"
        assert found["note"].startswith("replayed at ")
        assert found["note"].endswith("by ops")
        async with it.hub.store.read() as c:
            assert await invariants.findings(c) == []


async def test_a_run_that_goes_on_is_not_restarted_by_its_own_event(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        # given a recipe that begins anew whenever somebody enters again, and counts who entered
        entry = "entry: {per: contact, at_most: 2, within: 30d, while_inside: restart}"
        await it.publish(_recipe("anew", entry=entry))
        await it.deliver("carted", _CARTED)
        await it.rest()

        # when the event is replayed
        found = await _replay(it)
        await it.rest()

        # then its run goes on, nothing is said against it, and it was counted once: another event still enters
        assert [run["status"] for run in found["started"]] == ["sleeping"]
        assert found["not_started"] == []
        await it.deliver("carted", {**_CARTED, "id": "c-2", "cart": "k-2"})
        await it.rest()
        assert sorted(run["status"] for run in await it.runs()) == ["cancelled", "sleeping"]


async def test_a_mended_recipe_gets_the_event_that_it_refused_and_the_reason_of_then_goes(
    running: Start, database_url: str
) -> None:
    async with running(database_url) as it:
        # given a recipe whose condition was wrong
        wrong = _recipe("mended").replace("{event: acme.carted}", "{event: acme.carted, where: {event.cart: other}}")
        await it.publish(wrong)
        await it.deliver("carted", _CARTED)
        await it.rest()
        assert [no["outcome"] for no in (await _event(it))["not_started"]] == ["not_matched"]

        # when it is mended and the event is replayed
        await it.publish(_recipe("mended"))
        found = await _replay(it)

        # then it started, and nothing says that it did not
        assert _started(found) == ["mended"]
        assert found["not_started"] == []


async def test_a_recipe_that_still_says_no_says_why_as_it_is_now(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(
            _recipe("choosy").replace("{event: acme.carted}", "{event: acme.carted, where: {event.cart: a}}")
        )
        await it.deliver("carted", _CARTED)
        await it.rest()
        [before] = (await _event(it))["not_started"]
        await it.publish(
            _recipe("choosy").replace("{event: acme.carted}", "{event: acme.carted, where: {event.cart: b}}")
        )
        [after] = (await _replay(it))["not_started"]
        assert "a" in before["reason"]
        assert after["reason"] != before["reason"]
        assert await it.runs() == []


async def test_whoever_waits_now_is_not_told_of_what_came_before(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        # given a run that its own event started, and that waits for the next one of the kind
        steps = "[{wait_for: {next: {event: acme.carted}}, timeout: 30d}]"
        await it.publish(_recipe("waiting", steps=steps))
        await it.deliver("carted", _CARTED)
        await it.rest()
        assert [run["status"] for run in await it.runs()] == ["waiting"]

        # when the event is replayed
        await _replay(it)
        await it.rest()

        # then it still waits
        assert [run["status"] for run in await it.runs()] == ["waiting"]


async def test_a_person_keeps_what_was_learnt_since(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        await it.deliver("carted", _CARTED)
        await it.deliver("signed_up", {"id": "s-1", "email": "ada@example.com", "first_name": "Augusta"})
        await it.rest()
        found = await _replay(it)
        async with it.hub.store.read() as c:
            assert (await views.show_contact(c, found["contact"]))["first_name"] == "Augusta"


async def test_an_old_cart_breaks_no_silence_of_today(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        # given a cart that was bought before its half an hour was over
        await it.publish(_recipe("idle", on="acme.cart_idle"))
        await it.deliver("carted", _CARTED)
        await it.deliver("purchased", {"id": "p-1", "email": "ada@example.com", "cart": "k-1"})
        await it.rest()

        # when the cart's event is replayed, nobody takes the cart for left behind
        await _replay(it)
        await it.advance(3_600_000)
        assert await it.runs() == []


async def test_others_are_routed_beside_it(running: Start, database_url: str) -> None:
    async with running(database_url, work=False) as it:
        # given three events to be routed again and two new ones, and nobody at work
        for n in range(3):
            await it.deliver("carted", {**_CARTED, "id": f"c-{n}", "email": f"a{n}@example.com"})
        async with it.hub.store.write() as c:
            await c.run("update event set stage = 'routed'")
            old = [row["id"] for row in await c.all("select id from event")]
        await it.publish(_recipe("late"))
        for id_ in old:
            await replays.replay(it.hub.store, it.hub.clock, id_, who="ops", keep_runs_days=90, ring=it.hub.ring)
        for n in range(3, 5):
            await it.deliver("carted", {**_CARTED, "id": f"c-{n}", "email": f"a{n}@example.com"})

        # when a worker comes
        from hub.process import working

        async with working(it.hub):
            await it.rest()

        # then all are routed, and nothing is left
        assert len(await it.runs()) == 5
        async with it.hub.store.read() as c:
            assert await c.first("select count(*) as n from event where stage <> 'routed'") == {"n": 0}


async def test_an_event_that_could_not_be_routed_is_routed_as_if_it_came_now(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        # given a run that waits, and the event it waits for, which was set aside
        steps = "[{wait_for: {next: {event: acme.purchased}}, timeout: 30d}]"
        await it.publish(_recipe("waiting", steps=steps))
        await it.deliver("carted", _CARTED)
        await it.rest()
        async with it.hub.store.write() as c:
            await c.run("update event set received_at = received_at - 1000")
        await it.deliver("purchased", {"id": "p-1", "email": "jo@example.com"})
        await it.rest()
        bought = await _event(it, "acme.purchased")
        async with it.hub.store.write() as c:
            await c.run(
                "update event set stage = 'route', contact_id = null, subject = (select subject from event where type = "
                "'acme.carted') where type = 'acme.purchased'"
            )
            await quarantine(c, bought["id"], "routing failed: KeyError")

        # when it is replayed
        found = await _replay(it, bought["id"])
        await it.rest()

        # then who waited is told, and the reason of then is gone
        assert (found["stage"], found["note"]) == ("routed", None)
        assert [run["status"] for run in await it.runs()] == ["done"]


async def test_one_that_fails_when_it_is_replayed_stays_one_that_was_routed_before(
    running: Start, database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.deliver("carted", _CARTED)
        event = await _event(it)
        async with it.hub.store.write() as c:
            await c.run("update event set stage = 'routed'")
        hub = it.hub
        await replays.replay(hub.store, hub.clock, event["id"], who="ops", keep_runs_days=90, ring=hub.ring)
        async with hub.store.write() as c:
            await quarantine(c, event["id"], "routing failed: KeyError")
        assert (await _event(it))["note"].endswith("by ops; routing failed: KeyError")
        await replays.replay(hub.store, hub.clock, event["id"], who="me", keep_runs_days=90, ring=hub.ring)
        assert (await _event(it))["note"].endswith("by me")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("route", "about to be routed"),
        ("enrich", "has not filled it in"),
        ("plugin", "plugin of its connector is not loaded"),
        ("unconnected", "nobody connected its account"),
    ],
)
async def test_an_event_that_was_never_routed_is_left_as_it_is(
    running: Start, sqlite_url: str, stage: str, said: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.deliver("carted", _CARTED)
        async with it.hub.store.write() as c:
            await c.run("update event set stage = :stage", stage=stage)
        with pytest.raises(ConfigError, match=said):
            await _replay(it)
        assert (await _event(it))["stage"] == stage


async def test_an_event_whose_runs_may_be_gone_is_refused(running: Start, sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.deliver("carted", _CARTED)
        await it.rest()
        await it.advance(11 * _DAY_MS)
        with pytest.raises(ConfigError, match=r"runs are kept for 10 days \(HUB_KEEP_RUNS_DAYS\)"):
            await _replay(it, keep_runs_days=10)
        assert (await _event(it))["stage"] == "routed"
        with pytest.raises(NotThere, match="there is no event x"):
            await _replay(it, "x")


async def test_two_who_replay_at_once_start_one_run(running: Start, database_url: str) -> None:
    async with running(database_url) as it:
        await it.deliver("carted", _CARTED)
        await it.rest()
        await it.publish(_recipe("late"))
        done = await asyncio.gather(*(_replay(it) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(one, dict | ConfigError) for one in done)
        assert _started(await _event(it)) == ["late"]


# -- the ways in -------------------------------------------------------------------------------------------------------


async def test_the_command_says_when_no_hub_takes_it_up(
    running: Start, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, empty_cli: Cli
) -> None:
    # given a stopped hub with an event
    async with running(sqlite_url) as it:
        await it.deliver("carted", _CARTED)
        await it.rest()
        event = await _event(it)
    monkeypatch.setenv("HUB_DATABASE_URL", sqlite_url)
    monkeypatch.setattr("hub.cli.inspect._REPLAY_PATIENCE_S", 0.1)

    # then the command says so, and what it knows
    result = await asyncio.to_thread(empty_cli, "events", "replay", event["id"])
    assert result.exit_code == 0, result.output
    assert "no hub has taken it up yet" in " ".join(result.stderr.split())
    assert event["id"] in result.stdout
    missing = await asyncio.to_thread(empty_cli, "events", "replay", "x")
    assert missing.exit_code == 3
