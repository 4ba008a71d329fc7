"""Plugins that take part: told of events and effects, asked before an effect, and never able to break the hub."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from hub import Event, Json, Veto, hookimpl
from hub.clock import parse_duration_ms
from hub.plugins import load_plugins
from tests import acme as acme_plugin
from tests.integration.test_runs import ADA, TEXT, TWO_NOTES

MEMBER = """
recipe: member
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: "vip", email: "{{ trigger.email }}"}, on_error: continue}
"""


class Watching:
    """A plugin that takes part in everything and does as a test says."""

    __name__ = "watching"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.guard: Callable[[str], Any] = lambda action: None
        self.breaking = False

    def _note(self, what: str, about: str) -> None:
        self.seen.append((what, about))
        if self.breaking:
            raise RuntimeError("a plugin's own trouble")

    @hookimpl
    def hub_event_received(self, event: Event, event_id: str) -> None:
        self._note("event", event.type)

    @hookimpl
    def hub_before_effect(
        self, action: str, input: Mapping[str, Json], run_id: str
    ) -> Awaitable[Veto | None] | Veto | None:
        self.seen.append(("before", action))
        answer: Awaitable[Veto | None] | Veto | None = self.guard(action)
        return answer

    @hookimpl
    async def hub_after_effect(self, action: str, run_id: str, outcome: str) -> None:
        await asyncio.sleep(0)
        self._note("after", f"{action} {outcome}")

    @hookimpl
    def hub_run_finished(self, run_id: str, recipe: str, ended_by: str) -> None:
        self._note("finished", f"{recipe} {ended_by}")


@pytest.fixture
def watching() -> Watching:
    return Watching()


def _with(watching: Watching) -> Any:
    return load_plugins(extra=[acme_plugin, watching])


async def test_a_plugin_is_told_of_everything(
    running: Callable[..., Any], database_url: str, watching: Watching
) -> None:
    async with running(database_url, plugins=_with(watching)) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert ("event", "acme.signed_up") in watching.seen
        assert watching.seen.count(("before", "acme.put_note")) == 2
        assert watching.seen.count(("after", "acme.put_note done")) == 2
        assert watching.seen[-1] == ("finished", "two-notes done")


async def test_a_veto_stops_the_effect_with_its_reason(
    running: Callable[..., Any], sqlite_url: str, watching: Watching
) -> None:
    watching.guard = lambda action: Veto("the shop is closed") if action == "acme.send_text" else None
    async with running(sqlite_url, plugins=_with(watching)) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert it.sandbox.texts == []
        [run] = await it.runs()
        assert any("the shop is closed" in step["reason"] for step in run["steps"])


async def test_a_plugin_may_say_later(running: Callable[..., Any], sqlite_url: str, watching: Watching) -> None:
    opens_at_ms = 0
    async with running(sqlite_url, plugins=_with(watching)) as it:
        opens_at_ms = it.hub.clock.now_ms() + 3_600_000
        watching.guard = lambda action: Veto("not yet", delay_s=600) if it.hub.clock.now_ms() < opens_at_ms else None
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(1_800_000)
        assert it.sandbox.texts == []
        await it.advance(3_600_000)
        assert len(it.sandbox.texts) == 1


async def test_a_plugin_is_told_of_each_effect_of_a_batch(
    running: Callable[..., Any], database_url: str, watching: Watching
) -> None:
    async with running(database_url, plugins=_with(watching)) as it:
        await it.publish(MEMBER)
        for name in ("ada", "no-bob", "cem"):
            await it.deliver("signed_up", {"id": name, "email": f"{name}@example.com"})
        await it.advance(60_000)
        assert len(it.sandbox.log) == 1
        told = sorted(about for what, about in watching.seen if what == "after" and "add_members" in about)
        assert told == ["acme.add_members done", "acme.add_members done", "acme.add_members failed"]


async def test_what_goes_in_batches_is_guarded_before_it_is_queued(
    running: Callable[..., Any], database_url: str, watching: Watching
) -> None:
    async with running(database_url, plugins=_with(watching)) as it:
        opens_at_ms = it.hub.clock.now_ms() + 3_600_000

        def guard(action: str) -> Veto | None:
            closed = action == "acme.add_members" and it.hub.clock.now_ms() < opens_at_ms
            return Veto("not yet", delay_s=600) if closed else None

        watching.guard = guard
        await it.publish(MEMBER)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(1_800_000)
        assert it.sandbox.log == []
        await it.advance(3_600_000)
        assert [r.operation for r in it.sandbox.log] == ["add_members"]
        # and a refusal is the end of it
        watching.guard = lambda action: Veto("the list is closed")
        await it.deliver("signed_up", {"id": "s-2", "email": "grace@example.com"})
        await it.advance(60_000)
        assert [r.operation for r in it.sandbox.log] == ["add_members"]
        reasons = [step["reason"] for run in await it.runs() for step in run["steps"]]
        assert "vetoed: the list is closed" in reasons


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_nothing_is_sent_past_a_broken_guard_and_it_is_tried_again(
    running: Callable[..., Any], sqlite_url: str, watching: Watching, how: str
) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    def broken(action: str) -> Any:
        if how == "raises":
            raise RuntimeError("a plugin's own trouble")
        return hang()

    watching.guard = broken
    async with running(sqlite_url, plugins=_with(watching), hook_limit_s=0.1) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(20_000)
        assert it.sandbox.texts == []
        watching.guard = lambda action: None
        await it.advance(parse_duration_ms("5m"))
        assert len(it.sandbox.texts) == 1


async def test_a_notified_plugin_that_raises_changes_nothing(
    running: Callable[..., Any], sqlite_url: str, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.breaking = True
    async with running(sqlite_url, plugins=_with(watching)) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert run["status"] == "done"
    assert any(getattr(record, "what", "") == "hook_failed" for record in caplog.records)


# -- plugins that hang, raise or flood ---------------------------------------------------------------------------------

NOTIFYING = ("hub_event_received", "hub_after_effect", "hub_run_finished")


def _odd(hook: str, behaviour: Callable[[], Any]) -> Any:
    """A plugin with one hook, which behaves as told whatever it is called with."""

    class Odd:
        __name__ = "odd"

    def action(self: Odd, action: str) -> Any:
        return behaviour()

    def run(self: Odd, run_id: str) -> Any:
        return behaviour()

    def event(self: Odd, event_id: str) -> Any:
        return behaviour()

    function = {"hub_event_received": event, "hub_run_finished": run}.get(hook, action)
    function.__name__ = hook
    setattr(Odd, hook, hookimpl(function))
    return Odd()


def _raises() -> None:
    raise RuntimeError("a plugin's own trouble")


def _leaves() -> None:
    raise SystemExit(3)


async def _never() -> None:
    await asyncio.Event().wait()


async def _stubborn() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@pytest.mark.parametrize("hook", NOTIFYING)
@pytest.mark.parametrize(
    "how", ["raises", "leaves", "blocks", "never", "stubborn", "logs without end", "returns too much"]
)
async def test_a_notified_plugin_that_misbehaves_keeps_nobody_from_hearing(
    running: Callable[..., Any],
    sqlite_url: str,
    watching: Watching,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    how: str,
) -> None:
    # given a plugin that is asked before and after another
    released = threading.Event()

    def logs() -> None:
        while not released.is_set():
            logging.getLogger("odd").debug("and on")

    ways: dict[str, Callable[[], Any]] = {
        "raises": _raises,
        "leaves": _leaves,
        "blocks": released.wait,
        "never": _never,
        "stubborn": _stubborn,
        "logs without end": logs,
        "returns too much": lambda: [bytearray(1000)] * 1000,
    }
    plugins = load_plugins(extra=[acme_plugin, watching, _odd(hook, ways[how])])

    # when
    try:
        async with running(sqlite_url, plugins=plugins, hook_limit_s=0.2) as it:
            await it.publish(TWO_NOTES)
            await it.deliver("signed_up", {"id": "s-1", **ADA})
            await it.rest()
            [run] = await it.runs()
    finally:
        released.set()

    # then the run is done, the other plugin heard of everything, and operators know whose fault it was
    assert run["status"] == "done"
    assert ("event", "acme.signed_up") in watching.seen
    assert watching.seen.count(("after", "acme.put_note done")) == 2
    assert watching.seen[-1] == ("finished", "two-notes done")
    told = [record for record in caplog.records if getattr(record, "what", "") == "hook_failed"]
    assert {vars(record)["plugin"] for record in told} == (set() if how == "returns too much" else {"odd"})


@pytest.mark.parametrize(
    "answer",
    [True, "no", Veto("later", delay_s=float("inf")), Veto("later", delay_s=-1), Veto("x", delay_s="soon")],  # type: ignore[arg-type]
    ids=["true", "text", "for ever", "before now", "no number"],
)
async def test_nothing_is_sent_past_a_guard_whose_answer_is_none(
    running: Callable[..., Any], sqlite_url: str, watching: Watching, answer: Any
) -> None:
    watching.guard = lambda action: answer
    async with running(sqlite_url, plugins=_with(watching)) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(20_000)
        assert it.sandbox.texts == []
        watching.guard = lambda action: None
        await it.advance(parse_duration_ms("5m"))
        assert len(it.sandbox.texts) == 1


async def test_a_guard_that_blocks_its_thread_sends_nothing_and_heals_when_it_comes_back(
    running: Callable[..., Any], sqlite_url: str, watching: Watching
) -> None:
    released = threading.Event()
    watching.guard = lambda action: released.wait() and None
    async with running(sqlite_url, plugins=_with(watching), hook_limit_s=0.1) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(20_000)
        assert it.sandbox.texts == []
        released.set()
        await it.advance(parse_duration_ms("5m"))
        assert len(it.sandbox.texts) == 1


async def test_what_a_guard_says_at_length_is_cut(
    running: Callable[..., Any], sqlite_url: str, watching: Watching
) -> None:
    watching.guard = lambda action: Veto("x" * 1_000_000)
    async with running(sqlite_url, plugins=_with(watching)) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert max(len(step["reason"]) for step in run["steps"]) < 600


async def test_what_a_plugin_does_to_its_arguments_stays_with_it(
    running: Callable[..., Any], sqlite_url: str, watching: Watching
) -> None:
    class Meddling:
        __name__ = "meddling"

        @hookimpl
        def hub_before_effect(self, input: dict[str, Any]) -> None:
            input.clear()

    plugins = load_plugins(extra=[acme_plugin, watching, Meddling()])
    async with running(sqlite_url, plugins=plugins) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert run["effects"][0]["input"]["to"] == ADA["phone"]
