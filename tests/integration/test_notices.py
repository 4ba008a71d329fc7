"""What plugins are told once it is stored: at least once, whoever dies in between, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub import Event, engine, hookimpl, seams
from hub.clock import parse_duration_ms
from hub.errors import StoreUnavailable
from hub.plugins import Plugins, load_plugins
from hub.process import working
from hub.retries import How
from hub.store import runs
from hub.store.retries import Selection
from hub.store.runs import EffectResult
from tests import acme as acme_plugin
from tests.integration.test_retries import CHARGE, THREE, _lose_a_charge
from tests.integration.test_runs import ADA

LATER = parse_duration_ms("5m")


class Listening:
    """A plugin that remembers what it was told."""

    __name__ = "listening"

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def hub_event_received(self, event: Event) -> None:
        self.told.append(f"event {event.data['id']}")

    @hookimpl
    def hub_after_effect(self, action: str, outcome: str) -> None:
        self.told.append(f"{action} {outcome}")

    @hookimpl
    def hub_run_finished(self, recipe: str, ended_by: str) -> None:
        self.told.append(f"{recipe} {ended_by}")


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def hooked(listening: Listening) -> Plugins:
    return load_plugins(extra=[acme_plugin, listening])


async def _left(it: Any) -> list[Any]:
    async with it.hub.store.read() as c:
        return list(await c.all("select * from work where kind = 'notice'"))


@pytest.mark.parametrize("place", ["route.committed", "run.finished", "batch.settled"])
async def test_what_nobody_lived_to_tell_is_told_by_the_next_one(
    running: Callable[..., Any],
    database_url: str,
    listening: Listening,
    hooked: Plugins,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    # given a process that goes no further after it committed
    def reach(passed: str) -> None:
        if passed == place:
            raise StoreUnavailable("this process is gone")

    monkeypatch.setattr(seams, "_at", reach)
    async with running(database_url, plugins=hooked, lease_s=1, hook_limit_s=0.2) as it:
        member = "{do: acme.add_members, with: {audience: vip, email: '{{ trigger.email }}'}}"
        await it.publish(f"recipe: member\non: {{event: acme.signed_up}}\nsteps:\n  - {member}\n")
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(LATER)
        # then plugins hear of it when the lease is over, and nothing is left
        assert sorted(listening.told) == ["acme.add_members done", "event s-1", "member done"]
        assert await _left(it) == []


async def test_nothing_is_written_where_no_plugin_wants_to_know(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []

    async def write(c: object, notices: list[object]) -> list[object]:
        written.extend(notices)
        return []

    monkeypatch.setattr("hub.store.notices.write", write)
    async with running(database_url) as it:
        await it.publish(THREE)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert [run["status"] for run in await it.runs()] == ["done"]
    assert written == []


async def test_the_end_of_a_poison_run_that_another_repeats_is_told(
    running: Callable[..., Any], database_url: str, listening: Listening, hooked: Plugins
) -> None:
    async with running(database_url, plugins=hooked, work=False) as it:
        await it.publish(THREE)
        await it.deliver("signed_up", {"id": "s-0", **ADA})
        async with working(it.hub):
            async with it.hub.store.write() as c:
                await c.run("update work set claims = 5 where kind = 'run'")
            await it.rest()
            async with it.hub.store.write() as c:
                await c.run("update run set status = 'parked', finished_at = null, ended_by = null")
                await c.run(
                    "insert into work (kind, ref, queue, due_at, parked_on) "
                    "select 'run', id, recipe, 9000000000000000, 'poison' from run"
                )
            listening.told.clear()
            await it.hub.retries.retry(Selection(outcome="poison"), How(from_start=True), who="ada")
            await it.rest()
        assert "three failed" in listening.told
        assert "three done" in listening.told


async def test_what_people_say_of_an_effect_is_told(
    running: Callable[..., Any], database_url: str, listening: Listening, hooked: Plugins
) -> None:
    async with running(database_url, plugins=hooked) as it:
        await it.publish(CHARGE.replace("on_unknown: stop", "on_unknown: ask"))
        await _lose_a_charge(it)
        assert listening.told[-1] == "acme.charge unknown"
        [run] = await it.runs()
        await it.hub.retries.answer(run["id"], done=True, who="ada")
        await it.advance(LATER)
        assert "acme.charge done" in listening.told


async def test_a_zombies_word_about_a_call_that_was_made_again_is_not_told(
    running: Callable[..., Any], database_url: str, listening: Listening, hooked: Plugins
) -> None:
    async with running(database_url, plugins=hooked) as it:
        await it.publish(THREE)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        async with it.hub.store.write() as c:
            [row] = await c.all("select key, token from effect where step_id = 'one'")
            for token in ("earlier", row["token"]):
                late = EffectResult(row["key"], token, "acme.put_note", "done", "done", "", None, 0)
                notices = it.hub.pump._runner._tools.notices.of_effect(
                    row["key"], token, action="acme.put_note", run_id=run["id"], outcome="done"
                )
                gone = runs.Advance(
                    run_id=run["id"], epoch=-1, at_ms=0, seq=0, status="ready", position=None, ctx={}, result=late,
                    notices=notices,
                )  # fmt: skip
                [answer] = await runs.advance(c, [gone])
                # its word is told where it is what is stored
                assert len(answer.notices) == (token == row["token"])


class Slow(Listening):
    """A plugin that hears of an event as a test says."""

    def __init__(self, hear: Callable[[], Awaitable[None] | None]) -> None:
        super().__init__()
        self.hear = hear

    @hookimpl
    async def hub_event_received(self, event: Event) -> None:
        answer = self.hear()
        if answer is not None:
            await answer
        self.told.append(f"event {event.data['id']}")


async def test_a_plugin_that_is_slow_to_hear_of_events_holds_no_routing_up(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a plugin that takes its time over each event, and more events than are told of side by side
    monkeypatch.setattr("hub.notices._BESIDE", 10)
    may_go, asked = asyncio.Event(), 0

    async def wait() -> None:
        nonlocal asked
        asked += 1
        while not may_go.is_set():  # noqa: ASYNC110  (another thread's event)
            await asyncio.sleep(0.02)

    slow = Slow(wait)
    plugins = load_plugins(extra=[acme_plugin, slow])
    async with running(database_url, plugins=plugins, hook_limit_s=60, slots=20, work=False) as it:
        await it.publish(THREE)
        for n in range(40):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        async with working(it.hub):
            # then all of them are routed and their runs go on while none of them was heard
            async with asyncio.timeout(30):
                while await _done(it) < 40:  # noqa: ASYNC110  (runs ring no bell)
                    await asyncio.sleep(0.05)
            assert [line for line in slow.told if line.startswith("event")] == []
            # and no more of them are begun than may be told of side by side, and are claimed as other work is
            assert asked <= 10 + it.hub.pump.slots
            # when it comes back, it hears of each
            may_go.set()
            await it.rest()
        assert {line for line in slow.told if line.startswith("event")} == {f"event s-{n}" for n in range(40)}
        assert await _left(it) == []


async def _done(it: Any) -> int:
    async with it.hub.store.read() as c:
        return len(await c.all("select id from run where status = 'done'"))


async def test_a_plugin_that_hears_one_event_after_the_other_hears_of_all(
    running: Callable[..., Any], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given a plugin that blocks its thread, so that what it is told at once waits in line for longer than a call may take
    slow = Slow(lambda: time.sleep(0.03))
    plugins = load_plugins(extra=[acme_plugin, slow])
    async with running(sqlite_url, plugins=plugins, hook_limit_s=0.5, work=False) as it:
        for n in range(60):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        async with working(it.hub):
            await it.rest()
    assert sorted(slow.told) == sorted(f"event s-{n}" for n in range(60))
    assert [r for r in caplog.records if getattr(r, "what", "") == "hook_failed"] == []


async def test_events_that_are_routed_one_by_one_are_told_of(
    running: Callable[..., Any],
    database_url: str,
    listening: Listening,
    hooked: Plugins,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given an event that cannot be routed, and others that come while the rest of its batch is tried one by one
    admits, come = engine.admits, list(range(2, 5))

    def explode(program: Any, event_type: str, event: Any, connection: str) -> Any:
        if event["id"] == "s-1":
            raise RecursionError
        return admits(program, event_type, event, connection)

    monkeypatch.setattr(engine, "admits", explode)
    async with running(database_url, plugins=hooked, work=False) as it:
        await it.publish(THREE)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        singly = it.hub.pump._router._singly

        async def late(lease: Any) -> Any:
            while come:
                await it.deliver("signed_up", {"id": f"s-{come.pop()}", **ADA})
            return await singly(lease)

        monkeypatch.setattr(it.hub.pump._router, "_singly", late)
        async with working(it.hub):
            await it.rest()
        # then plugins hear of each, also of the one that is set aside
        assert sorted(line for line in listening.told if line.startswith("event")) == [
            f"event s-{n}" for n in range(1, 5)
        ]


@pytest.mark.parametrize("why", ["it dies of it", "its plugin is gone"])
async def test_what_cannot_be_told_is_given_up_loudly(
    running: Callable[..., Any],
    database_url: str,
    hooked: Plugins,
    listening: Listening,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    plugins = hooked if why == "it dies of it" else None
    async with running(database_url, plugins=plugins) as it:
        # given a notice that five processes claimed and did not tell, or one that nobody here can tell
        async with it.hub.store.write() as c:
            await c.run(
                "insert into work (kind, ref, queue, due_at, claims, data) values ('notice', 'run|r', 'notice', 0, :n, :data)",
                n=5 if plugins else 0,
                data='{"hook": "hub_run_finished", "arguments": {"run_id": "r", "recipe": "x", "ended_by": "done"}}',
            )
        await it.advance(parse_duration_ms("1h"))
        # then
        assert await _left(it) == []
        assert listening.told == []
    lost = [record for record in caplog.records if getattr(record, "what", "") == "notice_lost"]
    assert [(record.levelname, vars(record)["hook"]) for record in lost] == [("ERROR", "hub_run_finished")]
