"""Calls for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field

from hub import Batch, Effect
from hub.clock import parse_duration_ms
from hub.deadline import Deadline, instant
from hub.errors import PluginError
from hub.store import runs, work
from hub.store.lanes import Lane, Rank
from tests.acme import Member, Noted, acme

JOIN = """
recipe: join
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: "{{ trigger.cart }}", email: "{{ trigger.email }}"}, as: it, on_error: continue}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:{{ steps.it.outcome }}"}}
"""


async def _join(it: Any, *names: str, audience: str = "vip") -> None:
    for name in names:
        await it.deliver("signed_up", {"id": name, "email": f"{name}@example.com", "cart": audience})


def _calls(it: Any) -> list[list[str]]:
    return [r.data["people"] for r in it.sandbox.log if r.operation == "add_members"]


async def test_a_full_batch_goes_at_once_and_the_rest_after_lingering(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(JOIN)
        await _join(it, "a", "b", "c", "d")
        await it.rest()
        assert [len(people) for people in _calls(it)] == [3]
        await it.advance(11_000)
        assert [len(people) for people in _calls(it)] == [3, 1]
        assert sorted(p for call in _calls(it) for p in call) == [f"{n}@example.com" for n in "abcd"]
        assert {r["status"] for r in await it.runs()} == {"done"}
        async with it.hub.store.read() as c:
            assert await c.all("select * from work where kind = 'batch'") == []


async def test_a_run_that_is_stopped_before_its_batch_goes_is_not_in_it(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(JOIN)
        await _join(it, "a", "b")
        await it.rest()
        first = (await it.runs())[0]
        async with it.hub.store.write() as c:
            await runs.stop(c, {first["id"]: {"cancel": "cancelled", "event": None}}, it.hub.clock.now_ms())
        await it.advance(11_000)
        assert _calls(it) == [["b@example.com"]]
        first = (await it.runs())[0]
        assert (first["status"], [e["state"] for e in first["effects"]]) == ("cancelled", ["withdrawn"])


async def test_each_group_is_a_call_of_its_own(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(JOIN)
        await _join(it, "a", "b")
        await _join(it, "c", audience="other")
        await it.advance(11_000)
        assert sorted(_calls(it)) == [["a@example.com", "b@example.com"], ["c@example.com"]]


async def test_one_refused_member_fails_only_its_own_run(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(JOIN)
        await _join(it, "a", "no-b")
        await it.advance(11_000)
        notes = {r.data["key"] for r in it.sandbox.log if r.operation == "put_note"}
        assert notes == {"a:sent", "no-b:failed"} or notes == {"a:done", "no-b:failed"}
        joins = [run["effects"][0] for run in await it.runs()]
        assert {(e["state"], e["http_status"], e["code"]) for e in joins} == {
            ("done", None, None),
            ("failed", None, "no_member"),
        }


async def test_a_lost_answer_is_repeated_with_exactly_the_same_people(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(JOIN)
        await _join(it, "a", "b")
        it.sandbox.drop_answers = 1
        await it.advance(10_500)
        await _join(it, "c")
        await it.advance(60_000)
        first, second, *rest = _calls(it)
        assert first == second == ["a@example.com", "b@example.com"]
        assert rest == [["c@example.com"]]
        assert {r["status"] for r in await it.runs()} == {"done"}


async def test_a_batch_that_was_only_too_early_is_called_again_even_if_it_must_never_be_repeated(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme.actions["add_members"], "effect", Effect.AT_MOST_ONCE)
    async with running(database_url) as it:
        await it.publish(JOIN)
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + 45_000
        await _join(it, "a", "b", "c")
        await it.advance(10_000)
        assert _calls(it) == []
        # Who comes meanwhile may go with it: nothing was done yet.
        await it.advance(600_000)
        assert [sorted(people) for people in _calls(it)] == [["a@example.com", "b@example.com", "c@example.com"]]
        assert {r["status"] for r in await it.runs()} == {"done"}


async def test_a_batch_whose_key_the_vendor_may_have_forgotten_is_called_no_more(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("add_members", "remove_members"):
        monkeypatch.setattr(acme.actions[name], "effect", Effect.KEYED)
        monkeypatch.setattr(acme.actions[name], "key_window_s", 3600)
    async with running(database_url) as it:
        await it.publish(JOIN)
        # given a call that was carried out, and whose vendor answers nothing for longer than it knows keys
        it.sandbox.drop_answers = 1
        await _join(it, "a", "b", "c")
        await it.rest()
        it.sandbox.status["/members"] = 503
        await it.advance(parse_duration_ms("2h"))
        it.sandbox.status.clear()
        await it.advance(parse_duration_ms("4d"))
        # then it is not called again, and nobody knows what became of it
        assert len(_calls(it)) == 1
        effects = [effect for run in await it.runs() for effect in run["effects"]]
        assert [e["state"] for e in effects] == ["unknown"] * 3
        assert all("not recognise a repeat after 1h" in e["reason"] for e in effects)


@pytest.mark.parametrize(("begun", "outcome"), [(False, "failed"), (True, "unknown")])
async def test_an_input_that_a_newer_plugin_refuses_fails_alone(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch, begun: bool, outcome: str
) -> None:
    class Newer(Member):
        email: str = Field(pattern="^[ac]@")

    async def states(it: Any) -> dict[str, str]:
        return {e["input"]["email"][0]: e["state"] for run in await it.runs() for e in run["effects"][:1]}

    async with running(database_url) as it:
        await it.publish(JOIN)
        # given a batch that its vendor does not take, or whose answer is lost, and then a newer version of the plugin
        it.sandbox.status["/members"] = 500 if begun else 503
        await _join(it, "a", "b", "c")
        await _until_left(it, lambda row: row["attempts"] > 0)
        monkeypatch.setattr(acme.actions["add_members"], "input", Newer)
        await it.advance(60_000)
        # then whoever does not fit it is done with, and says why
        still = "intended" if begun else "queued"
        assert await states(it) == {"a": still, "b": outcome, "c": still}
        [reason] = [e["reason"] for run in await it.runs() for e in run["effects"] if e["state"] == outcome]
        assert reason.endswith("the input does not fit acme.add_members: email: String should match pattern '^[ac]@'")
        # and the others are called
        it.sandbox.status.clear()
        await it.advance(parse_duration_ms("1h"))
        assert [sorted(people) for people in _calls(it)] == [["a@example.com", "c@example.com"]]
        assert await states(it) == {"a": "done", "b": outcome, "c": "done"}


async def test_a_rehearsed_input_that_cannot_be_simulated_fails_alone(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(input: Member, now_ms: int) -> Noted:
        return {f"{name}@example.com": Noted(key=name) for name in "ac"}[input.email]

    monkeypatch.setattr(acme.actions["add_members"], "simulate_", pretend)
    async with running(sqlite_url) as it:
        await it.publish(JOIN)
        it.hub.pump._batches._rehearsal = True
        await _join(it, "a", "b", "c")
        await it.rest()
        states = [e["state"] for run in await it.runs() for e in run["effects"][:1]]
        assert states == ["done", "failed", "done"]


async def test_a_batch_is_given_up_after_days_and_its_runs_go_on(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(JOIN)
        it.sandbox.status["/members"] = 503
        await _join(it, "a")
        await it.advance(parse_duration_ms("4d"))
        assert {r.data["key"] for r in it.sandbox.log} == {"a:failed"}
        assert {r["status"] for r in await it.runs()} == {"done"}


@pytest.mark.parametrize("begun", [False, True])
async def test_a_batch_that_ends_its_process_each_time_is_left_alone_for_a_while(
    running: Callable[..., Any], database_url: str, begun: bool
) -> None:
    async with running(database_url) as it:
        await it.publish(JOIN)
        it.hub.pump._batches._jitter = lambda: 1.0
        # given a batch whose call was begun, or was not
        it.sandbox.status["/members"] = 500 if begun else 503
        await _join(it, "a", "b", "c")
        await _until_left(it, lambda row: row["attempts"] > 0)
        await _change(it, "due_at = due_at + 3600000, epoch = epoch + 1, owner = null, attempts = 3")
        async with it.hub.store.read() as c:
            states = {row["state"] for row in await c.all("select state from effect")}
        assert states == {"intended" if begun else "queued"}
        # and that was claimed again and again since, and never settled
        it.sandbox.status.clear()
        await _change(it, "due_at = 1, claims = 5")
        it.hub.ring()
        # then it is left alone for now
        await _until_left(it, lambda row: row["attempts"] == 4)
        assert _calls(it) == []
        # and called later
        await it.advance(60_000)
        assert [len(people) for people in _calls(it)] == [3]
        assert {r["status"] for r in await it.runs()} == {"done"}


async def _change(it: Any, how: str) -> None:
    async with it.hub.store.write() as c:
        await c.run(f"update work set {how} where kind = 'batch'")


async def _until_left(it: Any, so: Callable[[Any], bool]) -> None:
    """Wait until the batch is in nobody's hand and as wanted."""
    async with asyncio.timeout(20):
        while True:
            async with it.hub.store.read() as c:
                row = await c.first("select owner, attempts from work where kind = 'batch'")
            if row is not None and row["owner"] is None and so(row):
                return
            await asyncio.sleep(0.02)


LEAVE = """
recipe: leave
on: {event: acme.clicked}
steps:
  - {wait: 5s}
  - {do: acme.remove_members, with: {audience: vip, email: "{{ trigger.email }}"}}
"""


async def test_what_goes_together_goes_in_the_order_in_which_it_was_queued(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a run that began before the others, and gets to its step after them
        await it.publish(JOIN)
        await it.publish(LEAVE)
        await it.deliver("clicked", {"id": "1", "email": "a@example.com"})
        await it.advance(1000)
        await _join(it, "a")

        # when
        await it.advance(60_000)

        # then
        assert _calls(it) == [["a@example.com", "-a@example.com"]]
        assert {r["status"] for r in await it.runs()} == {"done"}
        async with it.hub.store.read() as c:
            done = await c.all("select action, state from effect where batch is not null order by action")
        assert [tuple(row.values()) for row in done] == [
            ("acme.add_members", "done"),
            ("acme.remove_members", "done"),
        ]


def test_what_goes_together_is_declared_after_what_it_goes_with() -> None:
    for missing in ("nobody", "put_note"):
        with pytest.raises(PluginError, match=missing):
            acme.batch_action(
                "too_early",
                input=Member,
                output=Noted,
                batch=Batch(size=3, linger_s=1, group_by=lambda i: i.audience, together=missing),
            )


@pytest.mark.parametrize("why", ["attempts = 1", "parked_on = 'connection:acme'"])
async def test_a_batch_that_has_to_wait_is_not_called_sooner_because_it_is_full(
    running: Callable[..., Any], database_url: str, why: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(JOIN)
        # given a batch that waits after a call that failed, or for its connection
        await _join(it, "a", "b")
        await it.hub.pump.settle()
        due_ms = it.hub.clock.now_ms() + 3_600_000
        await _change(it, f"due_at = {due_ms}, {why}")
        # when it gets full
        await _join(it, "c")
        await it.hub.pump.settle()
        # then it waits on
        assert _calls(it) == []
        async with it.hub.store.read() as c:
            row = await c.first("select due_at, owner from work where kind = 'batch'")
        assert row == {"due_at": due_ms, "owner": None}


async def test_whoever_lost_a_batch_says_nothing_about_the_call_of_its_new_owner(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, begun, go = acme.actions["add_members"], asyncio.Event(), asyncio.Event()
    run_batch = add.run_batch
    assert run_batch is not None

    async def slowly(*given: Any) -> Any:
        begun.set()
        await go.wait()
        return await run_batch(*given)

    monkeypatch.setattr(add, "effect", Effect.AT_MOST_ONCE)
    monkeypatch.setattr(add, "run_batch", slowly)
    async with running(database_url, work=False) as it:
        await it.publish(JOIN)
        await _join(it, "a")
        await it.hub.pump.settle()
        # given a process that stood still after it had claimed a batch, and another one that calls it meanwhile
        lane, now_ms = {str(Lane(connection="acme", rank=Rank.BULK)): 1}, it.hub.clock.now_ms() + 20_000
        async with it.hub.store.write() as c:
            [old] = await work.claim_from(c, lane, now_ms=now_ms, lease_ms=0, owner="old")
            [new] = await work.claim_from(c, lane, now_ms=now_ms, lease_ms=30_000, owner="new")
        calling = asyncio.create_task(it.hub.pump._batches.handle(new, Deadline(30.0, instant())))
        await begun.wait()
        # when the first one goes on
        await it.hub.pump._batches.handle(old, Deadline(30.0, instant() - 60))
        await it.hub.pump.settle()
        go.set()
        await calling
        await it.hub.pump.settle()
        # then the run is told what came of the call
        assert [r.data.get("key") for r in it.sandbox.log] == [None, "a:done"]
