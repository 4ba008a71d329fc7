"""Pausing calls and letting them go on, on both databases, with the vendor's own log as witness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hub.batches import Batches
from hub.clock import parse_duration_ms
from hub.errors import ConfigError, StoreUnavailable
from hub.fresh import Fresh
from hub.pauses import every_ms
from hub.runs.holding import Holding
from hub.store import pauses as rows
from hub.store import runs as run_rows
from hub.store.pauses import Pause
from tests.conftest import until

HOUR = 3_600_000
ADA = {"email": "ada@example.com", "phone": "+14155550100", "first_name": "Ada", "sms_ok": True}

NOTE = """
recipe: note
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}"}, as: it}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}-{{ steps.it.outcome }}"}}
"""

TEXT = """
recipe: text
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: cart, valid_for: 3h, with: {to: "{{ trigger.phone }}", body: Hi}, as: sms}
  - {do: acme.put_note, with: {key: "{{ steps.sms.outcome }}"}}
"""

MEMBER = """
recipe: member
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: news, email: "{{ trigger.email }}"}}
"""


def _keys(it: Any) -> list[str]:
    return [str(r.data.get("key", r.data.get("body"))) for r in it.sandbox.log]


async def _pause(it: Any, kind: str = "all", target: str = "", reason: str = "wrong prices") -> Pause:
    made: Pause = await it.hub.pauses.pause(kind, target, reason=reason, who="ada")
    await it.hub.pauses.known.refresh()
    return made


async def _resume(it: Any, pause: Pause, **how: Any) -> Any:
    ended = await it.hub.pauses.resume(pause, **how)
    await it.hub.pauses.known.refresh()
    return ended


@pytest.mark.parametrize(
    ("kind", "target", "held"),
    [
        ("all", "", {"note", "text"}),
        ("recipe", "note", {"note"}),
        ("connection", "acme", {"note", "text"}),
        ("channel", "sms", {"text"}),
        ("purpose", "cart", {"text"}),
    ],
)
async def test_a_pause_holds_back_what_it_names_and_nothing_else(
    running: Callable[..., Any], database_url: str, kind: str, target: str, held: set[str]
) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        await it.publish(TEXT)
        # given a pause
        pause = await _pause(it, kind, target)
        # when something happens
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        # then the runs started, those it names wait at their call with the reason, and nothing of them was spent
        runs = {r["recipe"]: r for r in await it.runs()}
        assert {name for name, run in runs.items() if run["status"] == "parked"} == held
        for name in held:
            assert "wrong prices" in runs[name]["reason"]
            assert "ada paused" in runs[name]["reason"]
            assert [(e["state"], e["attempts"]) for e in runs[name]["effects"]] == [("planned", 0)]
        # when it ends, everything is done once
        assert (await it.hub.pauses.held(pause)).runs == len(held)
        assert (await _resume(it, pause)).released == len(held)
        await it.advance(10_000)
        assert {r["status"] for r in await it.runs()} == {"done"}
        assert sorted(_keys(it)) == ["Hi", "s-1", "s-1-done", "sent"]


async def test_a_pause_that_came_while_the_call_was_prepared_is_seen_at_the_last_moment(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        made: list[Pause] = []
        at_last = Holding.at_last

        async def paused_just_now(self: Holding, hand: Any, effect: Any, action: Any) -> None:
            if not made:
                made.append(await _pause(it))
            await at_last(self, hand, effect, action)

        monkeypatch.setattr(Holding, "at_last", paused_just_now)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert run["status"] == "parked"
        assert [(e["state"], e["attempts"]) for e in run["effects"]] == [("planned", 0)]
        assert _keys(it) == []
        await _resume(it, made[0])
        await it.advance(10_000)
        assert _keys(it) == ["s-1", "s-1-done"]


async def test_several_pauses_hold_a_run_one_after_the_other(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        first, second = await _pause(it, reason="first"), await _pause(it, "recipe", "note", reason="second")
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert "first" in (await it.runs())[0]["reason"]
        await it.advance(2 * HOUR)
        await _resume(it, first)
        await it.advance(10_000)
        # then it has waited for the second since it waited at all
        assert "second" in (await it.runs())[0]["reason"]
        assert (await it.hub.pauses.held(second, expire_older_ms=HOUR)).late == 1
        await _resume(it, second)
        await it.advance(10_000)
        assert _keys(it) == ["s-1", "s-1-done"]


async def test_what_waited_too_long_skips_its_call_and_goes_on(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        pause = await _pause(it)
        await it.deliver("signed_up", {"id": "old", **ADA})
        await it.advance(parse_duration_ms("3h 1m"))
        await it.deliver("signed_up", {"id": "new", **ADA})
        await it.rest()
        # when it is said what would happen, and then done
        held = await it.hub.pauses.held(pause, expire_older_ms=2 * HOUR)
        assert (held.runs, held.late, held.expired) == (2, 1, 0)
        assert (await _resume(it, pause, expire_older_ms=2 * HOUR)).late == 1
        await it.advance(10_000)
        # then only the call that waited is skipped
        assert sorted(_keys(it)) == ["new", "new-done", "old-too_late"]
        old = (await it.runs())[0]
        assert old["status"] == "done"
        assert "too_late: a pause held it back for 3h" in old["steps"][0]["reason"]


async def test_a_call_that_may_have_been_made_is_not_given_up_for_having_waited(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(NOTE)
        # given a call whose answer was lost, and a pause before it is made again
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        pause = await _pause(it)
        await it.advance(3 * HOUR)
        await _resume(it, pause, expire_older_ms=HOUR)
        await it.advance(10_000)
        assert _keys(it) == ["s-1", "s-1", "s-1-done"]


async def test_validity_goes_on_counting_and_is_told_before(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        pause = await _pause(it)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(2 * HOUR)
        assert (await it.hub.pauses.held(pause)).expired == 0
        await it.advance(2 * HOUR)
        assert (await it.hub.pauses.held(pause)).expired == 1
        await _resume(it, pause)
        await it.advance(10_000)
        assert _keys(it) == ["too_late"]


async def test_a_rate_spreads_what_becomes_due(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        pause = await _pause(it)
        for n in range(6):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        await it.rest()
        await _resume(it, pause, every_ms=every_ms("1/min"))
        await it.advance(150_000)
        assert _keys(it) == ["s-0", "s-0-done", "s-1", "s-1-done", "s-2", "s-2-done"]
        await it.advance(150_000)
        assert len(_keys(it)) == 12


async def test_exits_and_waits_go_on_while_calls_are_paused(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        pause = await _pause(it)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        await it.deliver("purchased", {"id": "p-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert "acme.purchased" in run["ended_by"]
        assert run["effects"][0]["state"] == "withdrawn"
        await _resume(it, pause)
        await it.advance(10_000)
        assert _keys(it) == []


async def test_a_run_that_parks_in_the_moment_of_the_resume_is_not_left_behind(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        pause = await _pause(it)
        # given a process that still knows the pause and is about to park on it when it ends
        ended = asyncio.Event()
        advance = run_rows.advance

        async def late(c: Any, group: Any) -> Any:
            if any(a.parked_on for a in group) and not ended.is_set():
                ended.set()
                if c.dialect == "postgresql":
                    await it.hub.pauses.resume(pause)
                else:  # one writer: whoever parks holds the database already
                    await c.run("delete from pause where id = :id", id=pause.id)
            return await advance(c, group)

        monkeypatch.setattr(run_rows, "advance", late)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await until(lambda: len(_keys(it)) == 2)
        await it.advance(5_000)
        assert (await it.runs())[0]["status"] == "done"


async def test_parking_and_resuming_at_once_leaves_nothing_behind(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(NOTE)
        # given pauses that come and go while runs come to their calls
        for n in range(8):
            pause = await _pause(it)
            delivering = [it.deliver("signed_up", {"id": f"s-{n}-{m}", **ADA}) for m in range(4)]
            await asyncio.gather(*delivering, asyncio.sleep(0.004 * n))
            await it.hub.pauses.resume(pause)
        await it.hub.pauses.known.refresh()
        await it.advance(20_000)
        assert {r["status"] for r in await it.runs()} == {"done"}
        assert len(_keys(it)) == len(set(_keys(it))) == 64


async def test_a_process_that_cannot_read_the_pauses_makes_no_call(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lease that is over soon: what was cut off comes back when it ends.
    async with running(sqlite_url, lease_s=6) as it:
        await it.publish(NOTE)

        async def away(self: Fresh[Any]) -> None:
            raise StoreUnavailable

        # given an answer that is there, and a question asked before that may still be answered, but with nothing younger
        await it.hub.pauses.known.refresh()
        monkeypatch.setattr(Fresh, "refresh", away)
        await until(lambda: not it.hub.pauses.known.is_fresh)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        with pytest.raises(StoreUnavailable):
            await it.hub.pauses.holding(recipe="note", connection="acme")
        await asyncio.sleep(0.3)
        assert _keys(it) == []
        monkeypatch.undo()
        await it.advance(60_000)
        assert _keys(it) == ["s-1", "s-1-done"]


async def test_a_paused_batch_lets_others_go(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(MEMBER)
        await it.publish(MEMBER.replace("recipe: member", "recipe: other").replace("trigger.email", "trigger.id"))
        # given effects of two recipes that are queued for one call
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert [e["state"] for r in await it.runs() for e in r["effects"]] == ["queued", "queued"]
        # when one recipe is paused before it is made
        pause = await _pause(it, "recipe", "member")
        await it.advance(60_000)
        assert [r.data["people"] for r in it.sandbox.log] == [["s-1"]]
        assert {r["recipe"]: r["status"] for r in await it.runs()} == {"member": "parked", "other": "done"}
        # then the other went, and it follows
        await _resume(it, pause)
        await it.advance(60_000)
        assert [r.data["people"] for r in it.sandbox.log] == [["s-1"], ["ada@example.com"]]


async def test_a_batch_is_not_called_when_the_pause_comes_while_it_is_prepared(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(MEMBER)
        made: list[Pause] = []
        paused = Batches._paused

        async def after_freezing(self: Batches, claim: Any, connection: Any) -> Any:
            async with it.hub.store.read() as c:
                begun = await c.first("select count(*) as n from effect where state = 'intended'")
            if begun and begun["n"] and not made:
                made.append(await _pause(it))
            return await paused(self, claim, connection)

        monkeypatch.setattr(Batches, "_paused", after_freezing)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(60_000)
        assert it.sandbox.log == []
        # nothing was sent, so that it waits like anything else
        assert (await it.hub.pauses.held(made[0])).runs == 1
        await _resume(it, made[0])
        await it.advance(60_000)
        assert [r.data["people"] for r in it.sandbox.log] == [["ada@example.com"]]


async def test_a_batch_that_may_have_been_called_waits_as_it_was(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(MEMBER)
        # given a call for one person whose answers get lost
        it.sandbox.drop_answers = 1_000
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        async with asyncio.timeout(20):
            while not it.sandbox.log:
                await it.advance(1_000)
        pause = await _pause(it)
        await it.rest()
        made, it.sandbox.drop_answers = len(it.sandbox.log), 0
        # when its repetition is due, it waits
        await it.deliver("signed_up", {"id": "s-2", "email": "bob@example.com"})
        await it.advance(600_000)
        held = await it.hub.pauses.held(pause)
        assert (held.runs, held.batches) == (1, 1)
        assert len(it.sandbox.log) == made
        # and afterwards it is repeated with exactly the same person, and the other one is too late
        await _resume(it, pause, expire_older_ms=1)
        await it.advance(600_000)
        assert [r.data["people"] for r in it.sandbox.log] == [["ada@example.com"]] * (made + 1)
        assert [r["status"] for r in await it.runs()] == ["done", "done"]


async def test_what_is_not_there_cannot_be_paused(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        pauses = it.hub.pauses
        with pytest.raises(ConfigError, match=r"there is no connection acmee; did you mean acme\?"):
            await pauses.pause("connection", "acmee", reason="x", who="ada")
        with pytest.raises(ConfigError, match="say why"):
            await pauses.pause("all", "", reason=" ", who="ada")
        with pytest.raises(ConfigError, match="say what to pause"):
            await pauses.pause("recipe", "", reason="x", who="ada")
        with pytest.raises(ConfigError, match="nothing is paused"):
            await pauses.find("all", "")
        with pytest.raises(ConfigError, match="100/min"):
            every_ms("fast")
        # the same pause twice is one, with the newer reason; ending it twice says so
        first = await pauses.pause("all", "", reason="one", who="ada")
        second = await pauses.pause("all", "", reason="two", who="bob")
        assert (second.id, second.reason) == (first.id, "two")
        await pauses.resume(second)
        with pytest.raises(ConfigError, match="has ended already"):
            await pauses.resume(second)


async def test_nobody_parks_on_a_pause_that_is_over(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        pause = await it.hub.pauses.pause("all", "", reason="x", who="ada")
        over = replace(pause, id="0")
        async with it.hub.store.write() as c:
            assert await rows.gone(c, [pause.parks_on, over.parks_on, "poison", None]) == {over.parks_on}
