"""Retrying runs on both databases, with the vendor's own log as witness of what was done, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.clock import parse_duration_ms
from hub.errors import NotThere
from hub.retries import PAGE, How, instant_ms
from hub.store import retries as rows
from hub.store.retries import Revival, Selection
from hub.store.runs import Lease
from hub.store.work import NEVER_MS

ADA = {"email": "ada@example.com", "phone": "+14155550100", "first_name": "Ada", "sms_ok": True}
DAYS = parse_duration_ms("5d")

THREE = """
recipe: three
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
on_end:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}-end-{{ run.ended_by }}"}}
steps:
  - {do: acme.put_note, id: one, with: {key: "{{ trigger.id }}-one"}}
  - {do: acme.add_keyed, id: two, with: {key: "{{ trigger.id }}-two"}, as: two}
  - {do: acme.put_note, id: three, with: {key: "{{ trigger.id }}-three-{{ steps.two.outcome }}"}}
"""

CHARGE = """
recipe: charge
on: {event: acme.signed_up}
steps:
  - {do: acme.put_note, id: before, with: {key: "{{ trigger.id }}-before"}}
  - {do: acme.charge, id: pay, on_unknown: stop, with: {key: "{{ trigger.id }}-pay"}, as: pay}
  - {do: acme.put_note, id: after, with: {key: "{{ trigger.id }}-{{ steps.pay.outcome }}"}}
"""

TEXT = """
recipe: text
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.send_text, id: sms, purpose: cart, with: {to: "{{ trigger.phone }}", body: "Hi {{ trigger.first_name }}"}}
"""


def _keys(it: Any) -> list[str]:
    return [str(r.data.get("key", r.data.get("body"))) for r in it.sandbox.log]


async def _fail(it: Any, recipe: str, path: str, *, status: int = 400, people: int = 1) -> None:
    """Runs that failed because Acme refused calls to a path."""
    await it.publish(recipe)
    it.sandbox.status[path] = status
    for n in range(people):
        await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
    await it.advance(5_000)
    assert {r["status"] for r in await it.runs()} == {"failed"}
    it.sandbox.status.clear()


async def _retry(it: Any, *, first: int | None = None, selection: Selection | None = None, **how: Any) -> Any:
    done = await it.hub.retries.retry(selection or Selection(), How(**how), first=first, who="ada")
    await it.advance(5_000)
    return done


async def test_a_failed_run_goes_on_from_its_step_and_repeats_nothing(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a run that failed at its second of three steps
        await _fail(it, THREE, "/keyed")
        assert _keys(it) == ["s-0-one", "s-0-end-failed"]
        # when it is looked at, it is said what would be called
        preview = await it.hub.retries.preview(Selection(), How())
        assert (preview.selected, preview.actions, preview.left) == (1, {"acme.add_keyed": 1}, {})
        [shown] = preview.rows
        assert (shown["step"], shown["input"]) == ("two", '{"key":"s-0-two"}')
        assert _keys(it) == ["s-0-one", "s-0-end-failed"]
        # when it is retried, it goes on there, and neither the first step nor its end is done again
        [before] = await it.runs()
        assert (await _retry(it)).runs == [before["id"]]
        assert _keys(it) == ["s-0-one", "s-0-end-failed", "s-0-two", "s-0-three-done"]
        [run] = await it.runs()
        assert (run["id"], run["status"], run["ended_by"]) == (before["id"], "done", "done")
        assert ("two", "done", 1) in [(e["step"], e["state"], e["attempts"]) for e in run["effects"]]
        # and there is nothing to retry any more
        assert (await it.hub.retries.preview(Selection(), How())).selected == 0
        with pytest.raises(NotThere, match="nothing to retry"):
            await it.hub.retries.preview(Selection(run=run["id"]), How())


async def test_it_may_fail_again_and_be_retried_again(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed")
        it.sandbox.status["/keyed"] = 400
        await _retry(it)
        assert [r["status"] for r in await it.runs()] == ["failed"]
        it.sandbox.status.clear()
        await _retry(it)
        assert _keys(it) == ["s-0-one", "s-0-end-failed", "s-0-two", "s-0-three-done"]


async def test_whoever_planned_to_retry_a_run_as_it_was_does_not_retry_what_became_of_it(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Revival] = []
    revive = rows.revive

    async def noting(c: Any, revivals: Any, **how: Any) -> set[str]:
        planned.extend(revivals)
        return await revive(c, revivals, **how)

    async with running(sqlite_url) as it:
        await _fail(it, THREE, "/keyed")
        monkeypatch.setattr(rows, "revive", noting)
        # given a retry that failed again, and somebody whose plan is from before
        it.sandbox.status["/keyed"] = 400
        await _retry(it)
        async with it.hub.store.write() as c:
            assert await revive(c, planned, reason="bob retried it", now_ms=it.hub.clock.now_ms()) == set()
        # What the failed step had brought is none of the run's memory when that is retried.
        assert planned[0].ctx["steps"] == {}


async def test_a_canary_takes_the_oldest_and_the_rest_stays_selected(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed", people=5)
        assert len((await _retry(it, first=2)).runs) == 2
        assert [r["status"] for r in await it.runs()] == ["done", "done", "failed", "failed", "failed"]
        assert (await it.hub.retries.preview(Selection(), How())).selected == 3
        assert len((await _retry(it, first=1, from_start=True)).runs) == 1
        assert (await it.hub.retries.preview(Selection(), How())).selected == 2
        assert len((await _retry(it)).runs) == 2
        assert sorted(k for k in _keys(it) if k.endswith("-two")) == [f"s-{n}-two" for n in range(5)]


async def test_two_operators_at_once_retry_each_run_once(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed", people=6)
        results = await asyncio.gather(
            *(it.hub.retries.retry(Selection(), How(), who=who) for who in ("ada", "bob", "eve"))
        )
        assert sum(len(r.runs) for r in results) == 6
        await it.advance(5_000)
        assert sorted(k for k in _keys(it) if k.endswith("-two")) == [f"s-{n}-two" for n in range(6)]
        assert {r["status"] for r in await it.runs()} == {"done"}


async def test_from_the_start_what_was_done_counts_as_done(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed")
        [old] = await it.runs()
        preview = await it.hub.retries.preview(Selection(), How(from_start=True))
        assert preview.rows[0]["step"] == "two"
        assert (await _retry(it, from_start=True)).runs == [old["id"]]
        first, second = await it.runs()
        assert (first["status"], second["status"]) == ("failed", "done")
        assert second["effects"][0]["reason"] == f"done before, by the run {old['id']}"
        assert [k for k in _keys(it) if "end" not in k] == ["s-0-one", "s-0-two", "s-0-three-done"]
        # again by its own id it repeats everything, if that is asked for
        await _retry(it, selection=Selection(run=old["id"]), from_start=True, repeat_effects=True)
        assert len(await it.runs()) == 3
        assert [k for k in _keys(it) if k.endswith("-one")] == ["s-0-one", "s-0-one"]


async def test_the_newest_version_goes_on_where_its_step_still_is(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed")
        await it.publish(THREE.replace("{{ trigger.id }}-two", "{{ trigger.id }}-better"))
        [shown] = (await it.hub.retries.preview(Selection(), How(newest=True))).rows
        assert (shown["version"], shown["input"]) == (2, '{"key":"s-0-better"}')
        await _retry(it, newest=True)
        assert [k for k in _keys(it) if "end" not in k] == ["s-0-one", "s-0-better", "s-0-three-done"]
        [run] = await it.runs()
        assert run["version"] == 2


async def test_a_step_that_is_gone_is_refused_with_a_sentence(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await _fail(it, THREE, "/keyed")
        await it.publish(THREE.replace("id: two", "id: other"))
        done = await _retry(it, newest=True)
        assert done.runs == []
        assert done.left == {"version 2 has no step two; retry it on its own version, or from the start": 1}


@pytest.mark.parametrize("from_start", [False, True])
async def test_what_may_have_been_done_is_only_repeated_when_told_to(
    running: Callable[..., Any], database_url: str, from_start: bool
) -> None:
    async with running(database_url) as it:
        # given a charge whose answer was lost
        await it.publish(CHARGE)
        await _lose_a_charge(it)
        [run] = await it.runs()
        assert (run["status"], run["effects"][1]["state"]) == ("failed", "unknown")
        # then it is left, and said so
        done = await _retry(it, from_start=from_start)
        assert done.runs == []
        [reason] = done.left
        assert "whether acme.charge at pay was done is not known" in reason
        assert _keys(it) == ["s-1-before", "s-1-pay"]
        # unless it is told to: then the preview says what may be doubled
        preview = await it.hub.retries.preview(Selection(), How(from_start=from_start, include_unknown=True))
        assert preview.doubts == 1
        assert preview.rows[0]["note"] == "acme.charge at pay may be done twice"
        await _retry(it, from_start=from_start, include_unknown=True)
        assert _keys(it) == ["s-1-before", "s-1-pay", "s-1-pay", "s-1-done"]


async def _lose_a_charge(it: Any) -> None:
    """A run whose charge is done and whose answer never comes."""
    it.sandbox.lose["charges"] = 1
    await it.deliver("signed_up", {"id": "s-1", **ADA})
    await it.advance(60_000)


async def test_of_two_unknown_calls_only_the_one_that_is_retried_is_made_again(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish("""
recipe: twice
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, on_unknown: continue, with: {key: one}}
  - {do: acme.charge, on_unknown: continue, with: {key: two}}
""")
        it.sandbox.lose["charges"] = 2
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert [e["state"] for e in run["effects"]] == ["unknown", "unknown"]
        await _retry(it, include_unknown=True)
        assert _keys(it) == ["one", "two", "one"]


async def test_a_call_that_a_poison_run_may_have_made_is_not_made_again_from_the_start_unless_told_to(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGE)
        await _lose_a_charge(it)
        # given a run that ended its process at each claim, so that nobody noted what became of its charge
        async with it.hub.store.write() as c:
            await c.run("update effect set state = 'intended', outcome = null where action = 'acme.charge'")
            await c.run("update run set status = 'parked', ended_by = null, finished_at = null")
            await c.run(
                "insert into work (kind, ref, queue, due_at, parked_on) select 'run', id, recipe, :never, 'poison' from run",
                never=NEVER_MS,
            )
        done = await _retry(it, from_start=True)
        assert (done.runs, len(done.left), _keys(it)) == ([], 1, ["s-1-before", "s-1-pay"])


async def test_an_unknown_message_is_looked_up_before_it_is_sent_again(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a message that was sent, whose outcome was given up as unknown
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-0", **ADA})
        await it.rest()
        await _forget(it)
        preview = await it.hub.retries.preview(Selection(outcome="unknown"), How())
        assert preview.actions == {"look up acme.send_text": 1}
        assert (preview.rows[0]["to"], preview.rows[0]["input"]) == ("+14…00", '{"to":"+14…00","body":"Hi Ada"}')
        await _retry(it)
        [run] = await it.runs()
        assert (run["status"], run["effects"][0]["reason"]) == ("done", "found at the vendor after a lost answer")
        assert _keys(it) == ["Hi Ada"]
        # and one that was never sent is sent
        await _forget(it)
        it.sandbox.texts.clear()
        await _retry(it)
        assert _keys(it) == ["Hi Ada", "Hi Ada"]


async def test_an_exit_that_came_meanwhile_still_counts(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-0", **ADA})
        await it.rest()
        await _forget(it)
        it.sandbox.texts.clear()
        await it.deliver("purchased", {"id": "p-0", **ADA})
        await it.rest()
        await _retry(it)
        [run] = await it.runs()
        assert "acme.purchased" in run["ended_by"]
        assert _keys(it) == ["Hi Ada"]


async def _forget(it: Any) -> None:
    """Its only effect became unknown, and the run failed of it."""
    async with it.hub.store.write() as c:
        await c.run("update effect set state = 'unknown', outcome = 'unknown', response = null")
        await c.run("update run set status = 'failed', ended_by = 'failed'")
        await c.run("update step set outcome = 'unknown' where step_id = 'sms'")


async def test_consent_is_asked_again_before_a_retried_message(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await _fail(it, TEXT, "/texts")
        await it.deliver("delivered", {"id": "x", "phone": ADA["phone"], "stop": True})
        await it.rest()
        await _retry(it)
        [run] = await it.runs()
        assert "suppressed" in run["steps"][-1]["reason"]
        assert it.sandbox.texts == []


@pytest.mark.parametrize("done", [True, False])
async def test_a_run_that_asks_is_answered(running: Callable[..., Any], database_url: str, done: bool) -> None:
    async with running(database_url) as it:
        # given a charge whose answer was lost, in a recipe that asks
        await it.publish(CHARGE.replace("on_unknown: stop", "on_unknown: ask"))
        await _lose_a_charge(it)
        [run] = await it.runs()
        assert run["status"] == "waiting"
        assert "somebody has to look" in run["reason"]
        # when somebody looked and says so
        await it.hub.retries.answer(run["id"], done=done, who="ada")
        await it.advance(5_000)
        # then it goes on, and calls again only if it was not done
        [run] = await it.runs()
        assert run["status"] == "done"
        assert _keys(it) == ["s-1-before", "s-1-pay"] + ([] if done else ["s-1-pay"]) + ["s-1-done"]
        with pytest.raises(NotThere, match="asks nothing"):
            await it.hub.retries.answer(run["id"], done=done, who="ada")


@pytest.mark.parametrize("from_start", [False, True])
async def test_a_poison_run_is_shown_and_can_be_retried(
    running: Callable[..., Any], database_url: str, from_start: bool
) -> None:
    async with running(database_url, work=False) as it:
        # given a run that was claimed five times without getting on
        from hub.process import working

        await it.publish(THREE)
        await it.deliver("signed_up", {"id": "s-0", **ADA})
        await it.hub.pump._router.route(Lease("", 0, 0))
        async with it.hub.store.write() as c:
            await c.run("update work set claims = 5 where kind = 'run'")
        async with working(it.hub):
            await it.rest()
            [run] = await it.runs()
            assert run["status"] == "parked"
            assert "claimed 5 times without getting on" in run["reason"]
            preview = await it.hub.retries.preview(Selection(outcome="poison"), How(from_start=from_start))
            assert (preview.selected, preview.actions) == (1, {"acme.put_note": 1})
            await _retry(it, from_start=from_start)
            assert _keys(it)[:3] == ["s-0-one", "s-0-two", "s-0-three-done"]
            assert [r["status"] for r in await it.runs()] == (["failed", "done"] if from_start else ["done"])
            async with it.hub.store.read() as c:
                left = await c.all("select * from work where kind = 'run'")
            assert left == []


async def test_runs_are_selected_by_every_filter(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _fail(it, THREE, "/keyed")
        await it.advance(3_600_000)
        at_ms = it.hub.clock.now_ms()
        it.sandbox.status["/keyed"] = 409
        await it.deliver("signed_up", {"id": "s-9", **ADA})
        await it.advance(DAYS)
        it.sandbox.status.clear()
        old, new = [r["id"] for r in await it.runs()]

        async def found(**wanted: Any) -> list[str]:
            async with it.hub.store.read() as c:
                return [f.run.id for f in await rows.select(c, Selection(**wanted), after="", most=PAGE)]

        assert await found() == [old, new]
        assert await found(recipe="three", version=1, step="two", outcome="failed") == [old, new]
        assert await found(step="steps/1") == [old, new]
        assert await found(step="one") == await found(recipe="other") == await found(version=2) == []
        assert await found(outcome="unknown") == await found(outcome="poison") == []
        assert await found(started_after_ms=at_ms) == await found(finished_after_ms=at_ms) == [new]
        assert await found(started_before_ms=at_ms) == await found(finished_before_ms=at_ms) == [old]
        reasons = [r["reason"] for r in await it.runs()]
        assert await found(error=reasons[0].upper()) == [
            r for r, text in zip([old, new], reasons, strict=True) if reasons[0] in text
        ]
        assert await found(error="100%") == []
        assert instant_ms("2h", at_ms) == at_ms - 7_200_000
