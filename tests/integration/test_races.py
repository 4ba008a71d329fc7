"""What happens between two lines: commits that are not answered, waits that meet their event, leases that are taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hub import seams
from hub.backoff import MAX_CLAIMS
from hub.clock import parse_duration_ms
from hub.deadline import Deadline, instant
from hub.errors import StoreUnavailable
from hub.limits import Refusal
from hub.process import working
from hub.runs.hand import LetGo
from hub.store import runs, work
from hub.store.events.stored import StoredEvent
from hub.store.runs import EffectResult
from tests.acme import acme
from tests.conftest import until
from tests.integration.test_runs import ADA, REMINDER, TWO_NOTES, _cart

HOUR = 3_600_000
CHARGES = TWO_NOTES.replace("acme.put_note", "acme.charge")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`at(place, deed, nth)`: do something the nth time the program is at a place."""
    wanted: dict[str, tuple[Callable[[], None], int]] = {}

    def reach(place: str) -> None:
        deed, left = wanted.get(place, (None, 0))
        if deed is None:
            return
        wanted[place] = (deed, left - 1)
        if left == 1:
            deed()

    monkeypatch.setattr(seams, "_at", reach)
    return lambda place, deed, nth=1: wanted.update({place: (deed, nth)})


def _lost() -> None:
    raise StoreUnavailable("the connection broke after the commit")


def _die() -> None:
    raise asyncio.CancelledError


async def _charges(it: Any) -> list[str]:
    return [str(entry.data["key"]) for entry in it.sandbox.log if entry.operation == "charge"]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("place", ["run.committed", "run.commit"])
async def test_a_result_whose_commit_was_not_answered_is_stored_once_and_the_run_goes_on(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], place: str, nth: int
) -> None:
    async with running(database_url) as it:
        await it.publish(CHARGES)
        # given the first, second or third commit of the run is done and the connection breaks, or breaks just before it
        at(place, _lost, nth)
        # when
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        # then
        assert await _charges(it) == ["s-1-a", "s-1-a-b"]
        [run] = await it.runs()
        assert (run["status"], [e["state"] for e in run["effects"]]) == ("done", ["done", "done"])
        assert len(run["steps"]) == 3


@pytest.mark.parametrize("place", ["wait.registered", "sleep.registered"])
async def test_a_wait_whose_commit_was_not_answered_waits_once(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], place: str
) -> None:
    async with running(database_url, lease_s=2.5) as it:
        await it.publish(REMINDER)
        at(place, _lost)
        await it.deliver("carted", _cart())
        await it.advance(24 * HOUR + 60_000)
        await it.deliver("clicked", {"id": "k-1", "message_id": it.sandbox.texts[0]["id"]})
        await it.advance(60_000)
        assert [e.operation for e in it.sandbox.log] == ["send_text", "put_note"]
        [run] = await it.runs()
        assert run["status"] == "done"


async def test_an_exit_that_came_first_ends_a_run_as_soon_as_somebody_takes_over_its_waiting(
    running: Callable[..., Any], database_url: str, at: Callable[..., None]
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(
            "recipe: leaver\non: {event: acme.signed_up}\nexit_on: [{event: acme.purchased}]\nsteps:\n"
            "  - wait: 24h\n  - {do: acme.put_note, with: {key: late}}\n"
        )
        # given a process that dies when it has begun to wait for what is there already
        at("wait.registered", _die)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("purchased", {"id": "p-1", **ADA})
        await it.hub.pump.settle()
        assert (await it.runs())[0]["finished_at"] is None
        # when another one takes the run over
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 1 where kind = 'run'")
        await it.hub.pump.settle()
        # then it has ended, and waits for nobody's lease
        [run] = await it.runs()
        assert (run["status"], run["ended_by"]) == ("done", "acme.purchased")


@pytest.mark.parametrize("first_fits", [True, False])
async def test_whoever_looks_back_reads_no_more_than_it_takes_and_misses_nothing(
    running: Callable[..., Any],
    database_url: str,
    at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    first_fits: bool,
) -> None:
    read: list[str] = []
    of = StoredEvent.of
    async with running(database_url, work=False) as it:
        await it.publish(
            "recipe: leaver\non: {event: acme.signed_up}\nexit_on: [{event: acme.purchased, where: "
            "{event.cart: {eq: it}}}]\nsteps:\n  - wait: 24h\n"
        )
        # given somebody who did very much between the trigger and its routing, and one thing that ends the run
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        fits = 0 if first_fits else 129
        await it.deliver("purchased", [{"id": f"p-{n}", "cart": "it" if n == fits else "", **ADA} for n in range(130)])
        await it.deliver("clicked", [{"id": f"k-{n}", **ADA} for n in range(60)])
        at(
            "wait.registered",
            lambda: monkeypatch.setattr(StoredEvent, "of", lambda row: read.append(row["id"]) or of(row)),
        )
        # when
        await it.hub.pump.settle()
        # then it is found
        [run] = await it.runs()
        assert (run["status"], run["ended_by"]) == ("done", "acme.purchased")
        assert len(read) == (1 if first_fits else 130)


WAITING = """
recipe: waiting
on: {event: acme.carted}
steps:
  - wait_for:
      clicked: {event: acme.clicked, match: {event.cart: "{{ trigger.cart }}"}}
    timeout: 1h
    clicked:
      - {do: acme.put_note, with: {key: clicked}}
    on_timeout:
      - {do: acme.put_note, with: {key: silent}}
"""


@pytest.mark.parametrize("first", ["event", "wait"])
async def test_a_wait_and_its_event_that_come_at_the_same_moment_meet_in_either_order(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], first: str
) -> None:
    async with running(database_url) as it:
        await it.publish(WAITING)
        looked = asyncio.Event()
        look_back = it.hub.pump._runner._writer.look_back

        async def click() -> None:
            await it.deliver("clicked", {"id": "k-1", "cart": "c-1"})

        async def between(hand: Any, watches: Any) -> None:
            # The wait is committed and nobody has looked back yet.
            if first == "event":
                await click()
            try:
                await look_back(hand, watches)
            finally:
                looked.set()

        it.hub.pump._runner._writer.look_back = between
        await it.deliver("carted", _cart(cart="c-1"))
        async with asyncio.timeout(10):
            await looked.wait()
        if first == "wait":
            await click()
        await it.rest()
        assert [e.data["key"] for e in it.sandbox.log] == ["clicked"]


async def test_an_answer_is_found_behind_any_number_of_older_events(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(WAITING)
        # given a cart that was clicked often before, and again while nobody had looked at what began since
        await it.deliver("clicked", [{"id": f"old-{n}", "cart": "c-1"} for n in range(60)])
        await it.hub.pump.settle()
        async with it.hub.store.write() as c:
            await c.run("update event set received_at = received_at - 60000")
        await it.deliver("carted", _cart(cart="c-1"))
        router = it.hub.pump._router
        await router.route(runs.Lease("nobody", it.hub.clock.now_ms(), 1))
        await it.deliver("clicked", {"id": "new", "cart": "c-1"})
        await router.route(runs.Lease("nobody", it.hub.clock.now_ms(), 1))
        # when the run comes to its wait
        await it.hub.pump.settle()
        # then it is answered
        assert [e.data["key"] for e in it.sandbox.log] == ["clicked"]


async def test_a_run_whose_lease_is_not_renewed_makes_no_further_call(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, lease_s=4.0) as it:
        await it.publish(CHARGES)
        # given two runs in the middle of their first call
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("signed_up", {"id": "s-2", **ADA, "email": "bob@example.com", "phone": "+14155550101"})
        await _until(lambda: it.sandbox.arrived == 2)
        # when one of them is taken away, by whoever does nothing with it for now
        async with it.hub.store.write() as c:
            row = await c.first("select ref from work where kind = 'run' order by ref limit 1")
            await c.run("update work set epoch = epoch + 1, owner = 'other' where ref = :ref", ref=row["ref"])
        taken = [lease for key, lease in it.hub.pump._deadlines.items() if key[1] == row["ref"]]
        await _until(lambda: taken[0].over)
        it.sandbox.hold.set()
        # then it alone stops, and what was done is known
        await _until(lambda: len(it.sandbox.log) == 3)
        async with it.hub.store.write() as c:
            await c.run("update work set owner = null, due_at = 0 where ref = :ref", ref=row["ref"])
        await it.rest()
        assert sorted(await _charges(it)) == ["s-1-a", "s-1-a-b", "s-2-a", "s-2-a-b"]
        assert {r["status"] for r in await it.runs()} == {"done"}


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  (what is waited for tells nobody)
            await asyncio.sleep(0.01)


async def test_that_a_call_was_not_made_does_not_undo_what_was_found_out_about_it(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(CHARGES)
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert [e["state"] for e in run["effects"]] == ["unknown"]
        # when a process that stood still says of its own, older claim that it sent nothing
        async with it.hub.store.write() as c:
            row = await c.first("select key, token from effect")
            late = EffectResult(row["key"], row["token"], "acme.charge", "planned", "planned", "", None, 0)
            gone = runs.Advance(
                run_id=run["id"], epoch=-1, at_ms=0, seq=0, status="ready", position=None, ctx={}, result=late
            )
            [answer] = await runs.advance(c, [gone])
        # then
        assert not answer.held
        [run] = await it.runs()
        assert [e["state"] for e in run["effects"]] == ["unknown"]


async def test_an_answer_to_an_earlier_call_is_not_taken_for_a_later_ones(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        # when a process that stood still says at last what became of an earlier call of the same effect
        async with it.hub.store.write() as c:
            row = await c.first("select key from effect")
            late = EffectResult(row["key"], "earlier", "acme.send_text", "failed", "failed", "", None, 0, message=True)
            gone = runs.Advance(
                run_id=run["id"], epoch=-1, at_ms=0, seq=0, status="ready", position=None, ctx={}, result=late
            )
            await runs.advance(c, [gone])
            # then the message stays sent, and counted
            [effect] = await c.all("select state from effect")
            [message] = await c.all("select sent_at from message")
        assert effect["state"] == "done"
        assert message["sent_at"]


async def test_what_became_of_one_try_is_not_taken_for_the_outcome_of_the_next(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGES)
        # given a first try that did nothing, and a second one whose answer is lost
        it.sandbox.fail_next, it.sandbox.drop_answers = 1, 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        async with it.hub.store.read() as c:
            first = await c.first("select key, token, state from effect")
        assert first["state"] == "planned"
        await it.advance(60_000)
        [run] = await it.runs()
        assert [(e["state"], e["attempts"]) for e in run["effects"]] == [("unknown", 2)]
        # when whoever made the first one stood still and says only now that it failed
        late = EffectResult(first["key"], first["token"], "acme.charge", "failed", "failed", "", None, 0)
        async with it.hub.store.write() as c:
            gone = runs.Advance(
                run_id=run["id"], epoch=-1, at_ms=0, seq=0, status="ready", position=None, ctx={}, result=late
            )
            await runs.advance(c, [gone])
        # then it is still not known whether the second one was carried out
        [run] = await it.runs()
        assert [e["state"] for e in run["effects"]] == ["unknown"]


async def test_no_call_is_begun_that_might_outlive_its_lease(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(CHARGES)
        # given a process that stands still after everything was checked, right before it calls
        over = iter([True])

        def lasts(self: Deadline, seconds: float) -> bool:
            return not next(over, False)

        monkeypatch.setattr(Deadline, "lasts", lasts)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(1_000)
        # then nothing was sent, and it was sent when there was time
        assert await _charges(it) == ["s-1-a", "s-1-a-b"]
        [run] = await it.runs()
        assert (run["status"], [e["attempts"] for e in run["effects"]]) == ("done", [1, 1])
        assert not list(over)


TEXT = """
recipe: text
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: hello}}
"""


async def _take(it: Any, how: str) -> None:
    async with it.hub.store.write() as c:
        await c.run(f"update work set {how} where kind = 'run'")


async def test_whoever_lost_a_run_before_the_gate_writes_no_intent(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        gate, taken = it.hub.pump._runner._calls._gate, list[str]()
        passes = gate.passes

        async def late(*given: Any) -> Any:
            if not taken:
                taken.append("now")
                await _take(it, "epoch = epoch + 1, owner = 'other'")
            return await passes(*given)

        # given a run that somebody else takes while it is on its way to the gate
        monkeypatch.setattr(gate, "passes", late)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _until(lambda: bool(taken) and it.hub.pump.busy == 0)
        # then nothing is sent or written of it
        assert it.sandbox.log == []
        async with it.hub.store.read() as c:
            assert await c.all("select key from effect") == []
            assert await c.all("select effect_key from message") == []
        # and whoever has it sends it
        await _take(it, "owner = null, due_at = 0")
        await it.rest()
        assert [entry.operation for entry in it.sandbox.log] == ["send_text"]


async def test_whoever_lost_a_run_during_a_call_makes_no_other(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGES)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await until(lambda: it.sandbox.arrived == 1)
        await _take(it, "epoch = epoch + 1, owner = 'other'")
        it.sandbox.hold.set()
        await until(lambda: it.hub.pump.busy == 0)
        assert await _charges(it) == ["s-1-a"]
        # and whoever has it goes on from what was done
        await _take(it, "owner = null, due_at = 0")
        await it.rest()
        assert await _charges(it) == ["s-1-a", "s-1-a-b"]


async def test_a_lease_is_counted_from_before_it_was_asked_for(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url, work=False, lease_s=0.1) as it:
        pump, now, renew = it.hub.pump, 1_000.0, work.renew
        for module in ("hub.deadline", "hub.worker.pump"):
            monkeypatch.setattr(f"{module}.instant", lambda: now)
        begun: list[Deadline] = []

        def start(claim: work.Claim, deadline: Deadline, doing: Any) -> None:
            doing.close()
            begun.append(deadline)
            pump._claims[claim.kind, claim.ref] = claim
            pump._deadlines[claim.kind, claim.ref] = deadline

        monkeypatch.setattr(pump, "_start", start)
        async with it.hub.store.write() as c:
            await c.run("delete from work")
            await work.add_if_absent(c, "of a newer release", "a", "q", 0)

        async def slowly(c: Any) -> list[work.Claim]:
            nonlocal now
            claims = await work.claim(c, most=1, **pump._terms())
            now += 10
            return claims

        # given a process that stands still between its claim and the answer
        await pump._claim(slowly)
        assert begun[0].over
        # and once more while it renews its leases
        before, asked = now, list[float]()

        async def renew_slowly(c: Any, **how: Any) -> Any:
            nonlocal now
            kept = await renew(c, **how)
            now += 10
            return kept

        monkeypatch.setattr(work, "renew", renew_slowly)
        monkeypatch.setattr(begun[0], "renewed", asked.append)
        renewing = asyncio.create_task(pump._renewing())
        await until(lambda: bool(asked))
        renewing.cancel()
        assert asked[0] == before


async def test_who_lets_go_of_work_late_leaves_it_to_the_claim_that_came_since(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        pump, key, ends = it.hub.pump, ("poll", "a"), [asyncio.Event(), asyncio.Event()]
        for epoch, end in enumerate(ends):
            claim = work.Claim("poll", "a", "q", epoch, 1, 0, None, 0)
            pump._start(claim, Deadline(30, instant()), end.wait())
        ends[0].set()
        await until(lambda: pump.busy == 1)
        assert pump._claims[key].epoch == 1
        ends[1].set()
        await until(lambda: pump.busy == 0)
        assert key not in pump._claims


async def test_whoever_lost_a_run_tells_it_of_no_event_either(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(WAITING)
        writer, taken = it.hub.pump._runner._writer, list[str]()
        look_back = writer.look_back

        async def late(*given: Any) -> None:
            # Somebody else has it, and waits for nothing any more, when the event comes.
            async with it.hub.store.write() as c:
                await c.run("delete from waiter")
            await _take(it, "epoch = epoch + 1, owner = 'other'")
            await it.deliver("clicked", {"id": "k-1", "cart": "c-1"})
            taken.append("now")
            await look_back(*given)

        monkeypatch.setattr(writer, "look_back", late)
        await it.deliver("carted", _cart(cart="c-1"))
        await until(lambda: bool(taken) and it.hub.pump.busy == 0)
        async with it.hub.store.read() as c:
            [row] = await c.all("select run.wake as wake, work.owner as owner from run join work on work.ref = run.id")
        assert (row["wake"], row["owner"]) == (None, "other")


async def test_a_stop_that_came_before_the_intent_was_committed_is_heard_before_the_call(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGES)
        calls = it.hub.pump._runner._calls
        act_in_one = calls._act_in_one

        async def after_a_stop(hand: Any, *given: Any) -> Any:
            async with it.hub.store.write() as c:
                await runs.stop(c, {hand.row.id: {"cancel": "cancelled", "event": None}}, it.hub.clock.now_ms())
            return await act_in_one(hand, *given)

        monkeypatch.setattr(calls, "_act_in_one", after_a_stop)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert (run["ended_by"], [e["state"] for e in run["effects"]]) == ("cancelled", ["withdrawn"])
        assert it.sandbox.arrived == 0


async def test_a_call_that_found_no_slot_is_no_attempt(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGES)
        slot, full = it.hub.limits.slot, iter([Refusal(0.05, "all calls are in flight")])

        @asynccontextmanager
        async def full_at_first(*given: Any) -> AsyncIterator[Refusal | None]:
            if refused := next(full, None):
                yield refused
                return
            async with slot(*given) as answer:
                yield answer

        monkeypatch.setattr(it.hub.limits, "slot", full_at_first)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(1_000)
        [run] = await it.runs()
        assert [(e["state"], e["attempts"]) for e in run["effects"]] == [("done", 1), ("done", 1)]


async def test_what_a_run_waited_for_in_vain_wakes_it_no_more(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(WAITING.replace("    on_timeout:\n", "    on_timeout:\n      - wait: 2h\n"))
        await it.deliver("carted", _cart(cart="c-1"))
        await it.advance(HOUR + 60_000)
        async with it.hub.store.read() as c:
            assert await c.all("select key from waiter") == []
        # when it comes after all, while the run sleeps because it did not
        await it.deliver("clicked", {"id": "k-1", "cart": "c-1"})
        await it.advance(HOUR)
        assert it.sandbox.log == []
        await it.advance(HOUR + 60_000)
        assert [e.data["key"] for e in it.sandbox.log] == ["silent"]


async def test_a_stop_that_came_on_the_way_to_the_gate_is_heard_there(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(TEXT)
        gate = it.hub.pump._runner._calls._gate
        passes = gate.passes

        async def after_a_stop(hand: Any, *given: Any) -> Any:
            async with it.hub.store.write() as c:
                await runs.stop(c, {hand.row.id: {"cancel": "cancelled", "event": None}}, it.hub.clock.now_ms())
            return await passes(hand, *given)

        monkeypatch.setattr(gate, "passes", after_a_stop)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert (run["ended_by"], it.sandbox.arrived) == ("cancelled", 0)


@pytest.mark.parametrize(("claims", "status"), [(MAX_CLAIMS - 1, "done"), (MAX_CLAIMS, "parked")])
async def test_a_run_is_set_aside_after_so_many_claims_that_brought_nothing_and_not_before(
    running: Callable[..., Any], sqlite_url: str, claims: int, status: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.publish(CHARGES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.hub.pump._router.route(runs.Lease("w-1", 0, 0))
        await _take(it, f"claims = {claims}")
        async with working(it.hub):
            await it.rest()
        [run] = await it.runs()
        assert run["status"] == status


async def test_who_waits_in_the_same_breath_in_which_its_exits_are_written_hears_of_both(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    recipe = WAITING.replace(
        "steps:", "exit_on: [{event: acme.purchased}]\nsteps:\n  - {do: acme.put_note, with: {key: first}}"
    )
    async with running(sqlite_url) as it:
        await it.publish(recipe)
        await it.deliver("carted", _cart(cart="c-1"))
        await it.rest()
        await it.deliver("clicked", {"id": "k-1", "cart": "c-1"})
        await it.rest()
        assert [e.data["key"] for e in it.sandbox.log] == ["first", "clicked"]


async def test_an_exit_and_an_answer_that_both_came_before_the_wait_end_the_run(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(WAITING.replace("steps:", "exit_on: [{event: acme.purchased}]\nsteps:"))
        await it.deliver("carted", _cart(cart="c-1"))
        await it.deliver("clicked", {"id": "k-1", "cart": "c-1"})
        await it.deliver("purchased", {"id": "p-1", "email": ADA["email"]})
        async with working(it.hub):
            await it.rest()
        [run] = await it.runs()
        assert (run["ended_by"], it.sandbox.log) == ("acme.purchased", [])


async def test_nobody_looks_up_a_call_that_may_still_be_under_way(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, looked = acme.actions["send_text"], list[int]()
    look_up = send.lookup_
    assert look_up is not None
    async with running(database_url) as it:

        async def noting(ctx: Any, input_: Any) -> Any:
            looked.append(it.hub.clock.now_ms())
            return await look_up(ctx, input_)

        monkeypatch.setattr(send, "lookup_", noting)
        await it.publish(TEXT)
        # given a worker that is cut off with its intent written and no outcome, and another one that has its run at once
        cut: list[str] = []

        def cut_off() -> None:
            cut.append("now")
            raise LetGo

        at("call.answered", cut_off)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _until(lambda: bool(cut) and it.hub.pump.busy == 0)
        await _take(it, "owner = null, due_at = 0")
        await it.advance(120_000)
        # then it asks only when the call must have ended
        async with it.hub.store.read() as c:
            [effect] = await c.all("select state, intended_at from effect")
        assert effect["state"] == "done"
        tools = it.hub.pump._runner._tools
        assert looked[0] >= effect["intended_at"] + (tools.limit_s(send) + tools.margin_s) * 1000
        assert len(it.sandbox.texts) == 1


async def test_nor_a_later_call_that_may_still_be_under_way(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, looked = acme.actions["send_text"], list[int]()
    look_up = send.lookup_
    assert look_up is not None
    async with running(sqlite_url) as it:

        async def noting(ctx: Any, input_: Any) -> Any:
            looked.append(it.hub.clock.now_ms())
            return await look_up(ctx, input_)

        monkeypatch.setattr(send, "lookup_", noting)
        await it.publish(TEXT)
        # given a call that was refused for seven seconds, and a second one whose answer is lost
        it.sandbox.refuse_next, it.sandbox.drop_answers = 429, 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(120_000)
        # then the vendor is asked only when the second one must have ended
        [sent] = it.sandbox.log
        tools = it.hub.pump._runner._tools
        assert looked[0] >= sent.at_ms + (tools.limit_s(send) + tools.margin_s) * 1000
        [run] = await it.runs()
        assert [(e["state"], e["attempts"]) for e in run["effects"]] == [("done", 2)]


async def test_an_at_most_once_batch_that_was_refused_is_called_again_and_a_lost_one_is_not(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub import Effect

    once = replace(acme.actions["add_members"], effect=Effect.AT_MOST_ONCE)
    monkeypatch.setitem(acme.actions, "add_members", once)
    join = """
recipe: join
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: vip, email: "{{ trigger.email }}"}, on_unknown: continue, as: it}
  - {do: acme.put_note, with: {key: "{{ trigger.id }}:{{ steps.it.outcome }}"}}
"""
    async with running(database_url) as it:
        await it.publish(join)
        # given a vendor that takes nothing at first, and loses its answer later
        it.sandbox.fail_next = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("5m"))
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-2", "email": "bob@example.com"})
        await it.advance(parse_duration_ms("1h"))
        # then
        calls = [e.data["people"] for e in it.sandbox.log if e.operation == "add_members"]
        assert calls == [["ada@example.com"], ["bob@example.com"]]
        notes = [e.data["key"] for e in it.sandbox.log if e.operation == "put_note"]
        assert notes == ["s-1:done", "s-2:unknown"]


@pytest.mark.parametrize(("do", "then"), [("put_note", "cancelled"), ("add_keyed", "refused"), ("add_keyed", "down")])
async def test_what_may_have_been_done_before_is_not_said_to_be_undone_by_what_came_later(
    running: Callable[..., Any], database_url: str, do: str, then: str
) -> None:
    path = {"put_note": "/notes", "add_keyed": "/keyed"}[do]
    async with running(database_url) as it:
        await it.publish(f"""
recipe: doubt
on: {{event: acme.signed_up}}
steps:
  - {{do: acme.{do}, with: {{key: "{{{{ trigger.id }}}}"}}}}
""")
        # given a call that was carried out and whose answer was lost
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        assert len(it.sandbox.log) == 1
        # when the next try certainly does nothing, and no other follows
        it.sandbox.status[path] = 400 if then == "refused" else 503
        await it.advance(60_000 if then == "cancelled" else parse_duration_ms("5d"))
        [run] = await it.runs()
        if then == "cancelled":
            assert [e["state"] for e in run["effects"]] == ["intended"]
            async with it.hub.store.write() as c:
                await runs.stop(c, {run["id"]: {"cancel": "cancelled", "event": None}}, it.hub.clock.now_ms())
            await it.advance(parse_duration_ms("5d"))
            [run] = await it.runs()
        # then it is not known what became of it
        assert run["finished_at"] is not None
        assert [e["state"] for e in run["effects"]] == ["unknown"]


async def test_what_a_look_up_did_not_find_was_not_done(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(ctx: Any, input_: Any) -> None:
        return None

    async with running(sqlite_url) as it:
        monkeypatch.setattr(acme.actions["send_text"], "lookup_", nothing)
        await it.publish(TEXT)
        # given a call that got lost on its way, and a second one that is refused
        it.sandbox.drop_requests = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        it.sandbox.status["/texts"] = 400
        await it.advance(60_000)
        [run] = await it.runs()
        assert [(e["state"], e["attempts"]) for e in run["effects"]] == [("failed", 2)]


STOPPED = {
    "charge": ('{do: acme.charge, on_unknown: continue, with: {key: "{{ trigger.id }}"}}', "unknown"),
    "send_text": ('{do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: Hi}}', "done"),
    "put_note": ('{do: acme.put_note, with: {key: "{{ trigger.id }}"}}', "unknown"),
}


@pytest.mark.parametrize("action", STOPPED)
async def test_a_run_that_is_cancelled_while_its_call_is_open_does_nothing_more_once_that_is_settled(
    running: Callable[..., Any], database_url: str, at: Callable[..., None], action: str
) -> None:
    step, state = STOPPED[action]

    def die() -> None:
        raise asyncio.CancelledError

    async with running(database_url, lease_s=2.5) as it:
        await it.publish(
            f"recipe: stopped\non: {{event: acme.signed_up}}\nsteps:\n  - {step}\n  - {{do: acme.put_note, with: {{key: x}}}}\n"
        )
        # given a call that is made, and whose process goes no further
        at("call.answered", die)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await until(lambda: bool(it.sandbox.log))
        await asyncio.sleep(0.1)
        # when the run is cancelled before anybody takes it over
        async with it.hub.store.write() as c:
            [row] = await c.all("select id from run")
            why = {"cancel": "cancelled by operator", "event": None}
            await runs.stop(c, {row["id"]: why}, it.hub.clock.now_ms())
        await it.advance(HOUR)
        # then what became of the call is known, or not, and nothing comes after it
        [run] = await it.runs()
        assert (run["ended_by"], [e["state"] for e in run["effects"]]) == ("cancelled", [state])
        assert [e.operation for e in it.sandbox.log] == [action]


EXITED = """
recipe: exited
on: {event: acme.carted}
exit_on: [{event: acme.purchased}]
steps:
  - {do: acme.put_note, with: {key: first}}
"""
NEXT = {
    "a wait": """
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 30d
""",
    "a call that cannot be made": """
  - {do: acme.put_note, on_error: continue, with: {key: "{{ trigger.words }}"}}
""",
}


@pytest.mark.parametrize("next_", NEXT)
async def test_an_exit_that_comes_during_a_call_ends_the_run_whatever_comes_next(
    running: Callable[..., Any], database_url: str, next_: str
) -> None:
    async with running(database_url) as it:
        await it.publish(f"{EXITED}{NEXT[next_]}  - {{do: acme.put_note, with: {{key: last}}}}\n")
        # given a run in the middle of its first call
        it.sandbox.hold = asyncio.Event()
        await it.deliver("carted", _cart(words=["no", "key"]))
        await until(lambda: it.sandbox.arrived == 1)
        # when its exit comes, and the call is answered only then
        await it.deliver("purchased", {"id": "p-1", **ADA})
        await _until_stopped(it)
        it.sandbox.hold.set()
        await it.rest()
        # then it ends there
        [run] = await it.runs()
        assert run["ended_by"] == "acme.purchased"
        assert [entry.data["key"] for entry in it.sandbox.log] == ["first"]


async def _until_stopped(it: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            async with it.hub.store.read() as c:
                if await c.first("select id from run where stop is not null"):
                    return
            await asyncio.sleep(0.02)
