"""Spending caps on both databases: never exceeded, given back what was not made, waited for and not dropped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.clock import parse_duration_ms, to_ms
from hub.errors import ConfigError
from hub.ids import new_id
from hub.spending import window
from hub.store import runs
from hub.store import spending as rows
from hub.store.invariants import findings
from hub.store.runs import EffectResult
from hub.store.session import Store
from hub.store.spending import Cap, Charge
from tests.acme import acme
from tests.conftest import until
from tests.crash.invariants import of_spending

DAY = parse_duration_ms("1d")

TEXT = """
recipe: text
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "{{ trigger.id }}"}, as: sms}
"""
CHARGE = """
recipe: charge
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, on_unknown: continue, with: {key: "{{ trigger.id }}"}}
"""
MEMBER = """
recipe: member
on: {event: acme.signed_up}
steps:
  - {do: acme.add_members, with: {audience: news, email: "{{ trigger.email }}"}}
"""


def _person(n: int) -> dict[str, Any]:
    return {"id": f"s-{n}", "email": f"p{n}@example.com", "phone": f"+1415555{1000 + n}", "sms_ok": True}


async def _cap(
    it: Any, most: int, *, kind: str = "connection", target: str = "acme", per: str = "day", **more: Any
) -> Cap:
    made: Cap = await it.hub.spending.set(kind, target, per=per, most=most, **more)
    await it.hub.spending.known.refresh()
    return made


async def _sign_up(it: Any, people: range) -> None:
    for n in people:
        await it.deliver("signed_up", _person(n))
    await it.advance(5_000)


async def _until_morning(it: Any) -> None:
    """To a moment at which the day is young, so that a test does not pass midnight unasked."""
    now_ms = it.hub.clock.now_ms()
    await it.advance(DAY - now_ms % DAY + 3_600_000)


async def _used(it: Any) -> int:
    [cap] = await it.hub.spending.shown()
    return int(cap["used"])


async def test_what_is_over_the_cap_waits_for_the_next_day(
    running: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(TEXT)
        await _cap(it, 5, unit="messages")
        # when eight messages are due on a day that may have five
        with caplog.at_level(logging.WARNING, logger="hub.spending"):
            await _sign_up(it, range(8))
        # then five were sent, and three wait with their reason; it was said once that it is near, and once that it is reached
        assert len(it.sandbox.texts) == 5
        waiting = [r for r in await it.runs() if r["status"] == "parked"]
        assert len(waiting) == 3
        assert "the cap of 5 messages per day on the connection acme is reached" in waiting[0]["reason"]
        assert [e["state"] for e in waiting[0]["effects"]] == ["planned"]
        assert sorted(r.what for r in caplog.records) == ["cap_near", "cap_reached"]  # type: ignore[attr-defined]
        assert await _used(it) == 5
        # and the next day they are sent, each once
        await it.advance(DAY)
        assert len({t["to"] for t in it.sandbox.texts}) == len(it.sandbox.texts) == 8
        assert {r["status"] for r in await it.runs()} == {"done"}
        assert await _used(it) == 3


async def test_a_raised_cap_and_a_removed_one_let_runs_go_on_at_once(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(TEXT)
        await _cap(it, 1, kind="recipe", target="text")
        await _sign_up(it, range(5))
        assert len(it.sandbox.texts) == 1
        raised = await _cap(it, 3, kind="recipe", target="text")
        await it.advance(10_000)
        assert len(it.sandbox.texts) == 3
        await it.hub.spending.remove(raised.id)
        await it.hub.spending.known.refresh()
        await it.advance(10_000)
        assert len(it.sandbox.texts) == 5


@pytest.mark.parametrize("removed", [False, True], ids=["raised", "removed"])
async def test_a_process_that_does_not_know_it_yet_parks_nothing_on_a_cap_that_was_changed(
    running: Callable[..., Any], database_url: str, removed: bool
) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(TEXT)
        cap = await _cap(it, 1)
        await _sign_up(it, range(5))
        assert len(it.sandbox.texts) == 1
        # when runs go on before the process has read caps again
        before = it.hub.spending.known._known
        await (it.hub.spending.remove(cap.id) if removed else _cap(it, 5))
        it.hub.spending.known._known, it.hub.spending.known._asked_at = before, time.monotonic()
        it.hub.ring()
        await it.advance(10_000)
        # then none of them is left to wait for the next day
        assert len(it.sandbox.texts) == 5


async def test_what_certainly_was_not_made_is_given_back(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(CHARGE)
        await _cap(it, 2)
        # given a vendor that is down, then refuses, then takes it
        it.sandbox.fail_next = 3
        await _sign_up(it, range(1))
        await it.advance(120_000)
        assert await _used(it) == 1
        it.sandbox.status["/charges"] = 400
        await _sign_up(it, range(1, 3))
        assert await _used(it) == 1
        it.sandbox.status.clear()
        await _sign_up(it, range(3, 4))
        assert (await _used(it), len(it.sandbox.log)) == (2, 2)
        async with it.hub.store.read() as c:
            assert await c.all("select * from spend") == []


async def test_what_a_process_that_lost_its_run_did_not_call_is_given_back_too(store: Store) -> None:
    charge = Charge(Cap("c1", "connection", "acme", "day", "calls", 5, 0), 2, 0, DAY)
    async with store.write() as c:
        assert await rows.take(c, "r0:do", "token", [charge]) == (None, [2])
        no = EffectResult("r0:do", "token", "acme.charge", "failed", "failed", "", None, 0, spent=True)
        gone = runs.Advance(run_id="r0", epoch=-1, at_ms=0, seq=0, status="ready", position=None, ctx={}, result=no)
        await runs.advance(c, [gone])
        assert await rows.used(c, [charge]) == {"c1": 0}


async def test_whoever_lost_a_run_before_its_batch_takes_nothing_of_a_cap(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(MEMBER)
        await _cap(it, 5)
        gate, taken = it.hub.pump._runner._calls._gate, list[str]()
        reserve = gate.reserve

        async def late(*given: Any) -> Any:
            taken.append("now")
            async with it.hub.store.write() as c:
                await c.run("update work set epoch = epoch + 1, owner = 'other' where kind = 'run'")
            return await reserve(*given)

        monkeypatch.setattr(gate, "reserve", late)
        await it.deliver("signed_up", _person(1))
        await until(lambda: bool(taken) and it.hub.pump.busy == 0)
        assert await _used(it) == 0


async def test_an_unknown_outcome_stays_counted(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(CHARGE)
        await _cap(it, 4)
        it.sandbox.lose["charges"] = 3
        await _sign_up(it, range(9))
        assert len(it.sandbox.log) == 4
        assert await _used(it) == 4
        states = [e["state"] for r in await it.runs() for e in r["effects"]]
        assert sorted(states) == ["done"] + ["planned"] * 5 + ["unknown"] * 3


async def test_a_call_that_is_simply_made_again_counts_twice(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(CHARGE.replace("acme.charge", "acme.put_note"))
        await _cap(it, 5)
        it.sandbox.drop_answers = 1
        await _sign_up(it, range(1))
        assert (len(it.sandbox.log), await _used(it)) == (2, 2)


async def test_calls_for_many_at_once_are_counted_one_by_one(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(MEMBER)
        await _cap(it, 4)
        await _sign_up(it, range(6))
        await it.advance(60_000)
        assert sum(len(r.data["people"]) for r in it.sandbox.log) == 4
        await it.advance(DAY)
        assert sorted(p for r in it.sandbox.log for p in r.data["people"]) == [f"p{n}@example.com" for n in range(6)]


async def test_every_cap_on_a_call_counts_and_none_is_charged_when_one_refuses(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(TEXT)
        await _cap(it, 10, per="month")
        await _cap(it, 2, kind="recipe", target="text", unit="messages")
        await _sign_up(it, range(4))
        assert {c["kind"]: c["used"] for c in await it.hub.spending.shown()} == {"connection": 2, "recipe": 2}


@pytest.mark.parametrize(
    ("planted", "found", "said"),
    [
        ("update cap set most = 2, at = 0", ["cap_miscounted"], "2 messages per day on the connection acme and 3 in"),
        ("update usage set used = used - 4 where used > 0", ["cap_miscounted"], "-1 are counted and 3 were sent"),
        ("update usage set used = used + 1 where used > 0", [], "4 are counted and 3 were sent"),
        ("update effect set state = 'failed'", [], "3 are counted and 0 were sent"),
        (
            "insert into spend (effect_key, subject, token, period, amount) "
            "select effect.key, usage.subject, effect.token, usage.period, 1 from effect, usage where usage.used > 0",
            ["spend_unsettled"],
            "is over and still takes of connection:acme:spend:day:messages",
        ),
    ],
)
async def test_what_is_miscounted_is_found(
    running: Callable[..., Any], database_url: str, planted: str, found: list[str], said: str
) -> None:
    async with running(database_url) as it:
        await _until_morning(it)
        await it.publish(TEXT)
        await _cap(it, 5, unit="messages")
        await _sign_up(it, range(3))
        async with it.hub.store.write() as c:
            assert (await findings(c), await of_spending(c)) == ([], [])
            # when the tables say what cannot be
            await c.run(planted)
            assert [finding.kind for finding in await findings(c)] == found
            [line, *_] = await of_spending(c)
            assert said in line


async def test_a_unit_is_what_the_action_declares(running: Callable[..., Any], sqlite_url: str) -> None:
    acme.actions["send_text"].units = {"letters": lambda text: len(text.body)}
    try:
        async with running(sqlite_url) as it:
            await _until_morning(it)
            await it.publish(TEXT)
            await _cap(it, 7, unit="letters")
            await _sign_up(it, range(4))
            assert (len(it.sandbox.texts), await _used(it)) == (2, 6)
            with pytest.raises(ConfigError, match=r"nothing there spends letter; did you mean letters\?"):
                await _cap(it, 7, unit="letter")
            with pytest.raises(ConfigError, match="there is no recipe txt"):
                await _cap(it, 7, kind="recipe", target="txt")
            with pytest.raises(ConfigError, match="there is no connection acne"):
                await _cap(it, 7, target="acne")
    finally:
        acme.actions["send_text"].units = {}


def test_days_and_months_begin_at_midnight_there() -> None:
    zone = ZoneInfo("Europe/Berlin")
    # the night on which the clocks go forward is a day of 23 hours
    begin, end = window("day", datetime(2026, 3, 29, 12, tzinfo=zone))
    assert (begin.isoformat(), end.isoformat()) == ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00")
    assert to_ms(end) - to_ms(begin) == 23 * 3_600_000
    begin, end = window("month", datetime(2026, 12, 31, 23, 59, tzinfo=zone))
    assert (begin.isoformat(), end.isoformat()) == ("2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00")


# -- the property ------------------------------------------------------------------------------------------------------

# What may become of one call: refused by the vendor and to be tried again, done, failed for good, or nobody knows; and
# whether the vendor counts it.
_OUTCOMES = {"planned": False, "failed": False, "done": True, "unknown-made": True, "unknown-not-made": False}
_CALLS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.lists(st.just("planned"), max_size=2),
        st.sampled_from(["failed", "done", "unknown-made", "unknown-not-made"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(most=st.integers(0, 10), calls=_CALLS)
def test_no_cap_is_ever_exceeded(database_url: str, most: int, calls: list[tuple[int, list[str], str, bool]]) -> None:
    asyncio.run(_spend(database_url, most, calls))


async def _spend(url: str, most: int, calls: list[tuple[int, list[str], str, bool]]) -> None:
    store = Store(url)
    cap = Cap(new_id(), "connection", new_id(), "day", "calls", most, 0)
    made = kept = highest = 0

    async def call(amount: int, outcomes: list[str], written_twice: bool) -> None:
        nonlocal made, kept, highest
        key = new_id()
        for outcome in outcomes:
            token = new_id()
            async with store.write() as c:
                refused, used = await rows.take(c, key, token, [Charge(cap, amount, 0, 1)])
            if refused is not None:
                return
            highest = max(highest, *used)
            await asyncio.sleep(0)
            made += amount * _OUTCOMES[outcome]
            counts = outcome in {"done", "unknown-made", "unknown-not-made"}
            kept += amount * counts
            # a result that is written again because nobody knows whether it was stored gives nothing back twice
            for _ in range(1 + written_twice):
                async with store.write() as c:
                    await rows.settle(c, [(key, token)], made=counts)

    try:
        await asyncio.gather(*(call(amount, [*first, last], twice) for amount, first, last, twice in calls))
        async with store.read() as c:
            used = (await rows.used(c, [Charge(cap, 0, 0, 1)])).get(cap.id, 0)
            assert await c.all("select * from spend") == []
    finally:
        await store.close()
    assert made <= kept == used <= most
    assert highest <= most
