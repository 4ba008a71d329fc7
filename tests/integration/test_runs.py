"""Runs from event to effect, on both databases: waits, branches, exits, consent, and calls that go wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from hub import engine, replays, seams
from hub.backoff import FEW_ATTEMPTS
from hub.clock import parse_duration_ms, rfc3339
from hub.errors import StoreUnavailable
from hub.routing import Router
from hub.store import views, work
from hub.store.runs import Lease
from tests.acme import Noted, acme
from tests.conftest import until

HOUR = 3_600_000
ADA = {"email": "ada@example.com", "phone": "+14155550100", "first_name": "Ada", "sms_ok": True}


async def _events(it: Any) -> list[Any]:
    async with it.hub.store.read() as c:
        return list(await c.all("select stage from event"))


TWO_NOTES = """
recipe: two-notes
on: {event: acme.signed_up}
steps:
  - if: {trigger.first_name: {eq: Ada}}
    then:
      - {do: acme.put_note, with: {key: "{{ trigger.id }}-a", text: "Hello {{ trigger.first_name }}"}, as: first}
      - {do: acme.put_note, with: {key: "{{ steps.first.key }}-b"}}
"""

REMINDER = """
recipe: reminder
on: {event: acme.carted, where: {event.total: {gte: "50.00 EUR"}}}
entry: {per: contact, at_most: 1, within: 7d}
exit_on:
  - {event: acme.purchased}
steps:
  - wait: 24h
  - {do: sms.send, purpose: cart, with: {to: "{{ contact.phone }}", body: "Your cart waits, {{ contact.first_name | default: 'you' }}"}, as: sms}
  - wait_for:
      clicked: {event: acme.clicked, match: {event.message_id: "{{ steps.sms.message_id }}"}}
    timeout: 2d
    as: answer
    clicked:
      - {do: acme.put_note, with: {key: clicked}}
    on_timeout:
      - {do: acme.put_note, with: {key: silent}}
"""


def one_step(do: str, more: str = "") -> str:
    return f"""
recipe: one-step
on: {{event: acme.signed_up}}
steps:
  - {{do: {do}, with: {{key: "{{{{ trigger.id }}}}"}}{more}, as: it}}
  - if: {{steps.it.outcome: {{eq: unknown}}}}
    then: [{{stop: was-unknown}}]
"""


TEXT = """
recipe: text
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: cart, with: {to: "{{ trigger.phone }}", body: Hi}, as: sms}
  - {do: acme.put_note, with: {key: "{{ steps.sms.outcome }}"}}
"""


def _cart(**more: Any) -> dict[str, Any]:
    return {"id": "c-1", "total": {"amount_minor": 6000, "currency": "EUR"}, **ADA, **more}


def _did(it: Any) -> list[tuple[str, str]]:
    return [(r.operation, str(r.data.get("key", r.data.get("body")))) for r in it.sandbox.log]


async def test_condition_and_two_actions(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(TWO_NOTES)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("signed_up", {"id": "s-2", "first_name": "Bob", "email": "bob@example.com"})
        await it.rest()
        assert _did(it) == [("put_note", "s-1-a"), ("put_note", "s-1-a-b")]
        runs = await it.runs()
        assert [r["status"] for r in runs] == ["done", "done"]
        assert [e["state"] for e in runs[0]["effects"]] == ["done", "done"]
        assert all(s["reason"] for r in runs for s in r["steps"])
        async with it.hub.store.read() as c:
            left = await c.first("select count(*) as n from work where kind = 'run'")
        assert left is not None
        assert left["n"] == 0


async def test_a_day_passes_and_the_reminder_is_sent_then_clicked(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(23 * HOUR)
        assert _did(it) == []
        [run] = await it.runs()
        assert run["status"] == "sleeping"
        assert [w["event"] for w in run["waits_for"]] == ["acme.purchased"]
        await it.advance(2 * HOUR)
        assert _did(it) == [("send_text", "Your cart waits, Ada")]
        message = it.sandbox.texts[0]["id"]
        await it.deliver("clicked", {"id": "k-1", "message_id": message})
        await it.rest()
        assert _did(it)[1:] == [("put_note", "clicked")]
        [run] = await it.runs()
        assert (run["status"], run["ended_by"]) == ("done", "done")


async def test_without_a_click_the_timeout_branch_runs(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(parse_duration_ms("24h"))
        await it.advance(parse_duration_ms("47h"))
        assert len(_did(it)) == 1
        await it.advance(parse_duration_ms("2h"))
        assert _did(it)[1:] == [("put_note", "silent")]


async def test_a_purchase_during_the_wait_ends_the_run_at_once(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(3 * HOUR)
        await it.deliver("purchased", {"id": "p-1", "email": "ada@example.com"})
        await it.rest()
        [run] = await it.runs()
        assert run["finished_at"] is not None
        assert "acme.purchased" in run["ended_by"]
        await it.advance(parse_duration_ms("10d"))
        assert _did(it) == []


async def test_a_purchase_just_before_the_send_is_seen_at_the_gate(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(24 * HOUR - 1_000)
        # given nobody gets to routing, and a purchase that is stored but not routed when the reminder becomes due
        route, may_route = it.hub.pump._router.route, asyncio.Event()

        async def late(*given: Any) -> Any:
            await may_route.wait()
            return await route(*given)

        monkeypatch.setattr(it.hub.pump._router, "route", late)
        await it.deliver("purchased", {"id": "p-1", "email": "ada@example.com"})
        await it.hub.time._jump(it.hub.clock.now_ms() + 2_000)
        # when the run comes to the gate, it waits there for what is not routed
        async with asyncio.timeout(20):
            while "news about this person" not in str((await it.runs())[0]["reason"]):  # noqa: ASYNC110  (nobody rings)
                await asyncio.sleep(0.02)
        # then that ends it, and nothing is sent
        may_route.set()
        await it.rest()
        assert _did(it) == []
        [run] = await it.runs()
        assert "acme.purchased" in run["ended_by"]


async def test_too_cheap_a_cart_starts_nothing_and_says_why(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart(total={"amount_minor": 4999, "currency": "EUR"}))
        await it.rest()
        assert await it.runs() == []
        async with it.hub.store.read() as c:
            person = await views.show_contact(c, await views.find_contact(c, "ada@example.com"))
        [no] = person["not_started"]
        assert no["outcome"] == "not_matched"
        assert "49.99 EUR" in no["reason"]


async def test_a_second_cart_does_not_enter_again(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.deliver("carted", _cart(id="c-2"))
        await it.rest()
        await it.advance(parse_duration_ms("4d"))
        await it.deliver("carted", _cart(id="c-3"))
        await it.rest()
        assert len(await it.runs()) == 1
        async with it.hub.store.read() as c:
            rows = await c.all("select outcome from verdict order by at, event_id")
        assert [r["outcome"] for r in rows] == ["already_inside", "entered_before"]
        await it.advance(parse_duration_ms("4d"))
        await it.deliver("carted", _cart(id="c-4"))
        await it.rest()
        assert len(await it.runs()) == 2


@pytest.mark.parametrize("together", [True, False])
async def test_so_many_entries_and_no_more_however_they_come(
    running: Callable[..., Any], sqlite_url: str, together: bool
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.publish(
            "recipe: twice\non: {event: acme.signed_up}\n"
            "entry: {per: contact, at_most: 2, within: 7d, while_inside: parallel}\nsteps:\n  - {stop: here}\n"
        )
        lease = Lease("w-1", it.hub.clock.now_ms() + 30_000, 0)
        for n in range(4):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
            if not together:
                await it.hub.pump._router.route(lease)
        await it.hub.pump._router.route(lease)
        assert len(await it.runs()) == 2


async def test_an_event_from_before_the_run_ends_none_of_its_waits(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.rest()
        # when a vendor tells late what happened the day before
        await it.deliver("purchased", {"id": "p-1", "at": rfc3339(it.hub.clock.now_ms() - 24 * HOUR), **ADA})
        await it.rest()
        assert (await it.runs())[0]["status"] == "sleeping"


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        ("- wait: 24h", "wait.registered"),
        ("- {do: acme.put_note, with: {key: '{{ trigger.id }}'}}", "look_back"),
    ],
)
async def test_an_exit_that_came_first_counts_when_its_worker_died_before_it_looked_back(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch, recipe: str, place: str
) -> None:
    async with running(database_url, lease_s=1) as it:
        await it.publish(
            f"""
recipe: leaver
on: {{event: acme.carted}}
exit_on: [{{event: acme.purchased}}]
steps:
  {recipe}
  - {{do: acme.put_note, with: {{key: after}}}}
"""
        )
        # given a run in hand, and a purchase that is routed before the run's exits are committed
        go, advance = asyncio.Event(), it.hub.pump._runner.advance

        async def later(*given: Any) -> None:
            await go.wait()
            await advance(*given)

        monkeypatch.setattr(it.hub.pump._runner, "advance", later)
        await it.deliver("carted", _cart())
        await until(lambda: it.hub.pump.busy > 0)
        await it.deliver("purchased", {"id": "p-1", "email": "ada@example.com"})

        for _ in range(1500):
            if all(event["stage"] == "routed" for event in await _events(it)):
                break
            await asyncio.sleep(0.02)
        # when its worker is cut off right after committing them
        monkeypatch.setattr(it.hub.pump._runner, "advance", advance)
        cut: list[str] = []

        def once(reached: str) -> None:
            if reached == place and not cut:
                cut.append(reached)
                raise StoreUnavailable("cut off")

        look_back = it.hub.pump._runner._writer.look_back

        async def look_back_once(*given: Any) -> None:
            once("look_back")
            await look_back(*given)

        monkeypatch.setattr(seams, "_at", once)
        monkeypatch.setattr(it.hub.pump._runner._writer, "look_back", look_back_once)
        go.set()
        await until(lambda: bool(cut))
        # then whoever takes it over finds the purchase
        for _ in range(600):
            [run] = await it.runs()
            if run["finished_at"] is not None:
                break
            await asyncio.sleep(0.05)
        assert run["ended_by"] == "acme.purchased"
        assert it.sandbox.log == []


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ({"phone": "+14155550100"}, "no_consent"),
        ({"phone": "+14155550100", "sms_ok": True, "stop": True}, "suppressed"),
    ],
)
async def test_no_consent_no_message_and_a_reason(
    running: Callable[..., Any], database_url: str, person: dict[str, Any], reason: str
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        await it.deliver("signed_up", {"id": "s-1", **person})
        await it.rest()
        [run] = await it.runs()
        assert any(reason in s["reason"] for s in run["steps"])
        assert it.sandbox.texts == []
        assert _did(it) == [("put_note", reason)]


async def test_a_stop_after_the_start_is_honoured_at_the_last_moment(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(3 * HOUR)
        await it.deliver("delivered", {"id": "x", "phone": "+14155550100", "stop": True})
        await it.advance(parse_duration_ms("5d"))
        assert it.sandbox.texts == []


BEHIND = """
recipe: behind
on: {event: acme.signed_up}
exit_on: [{event: acme.purchased}]
steps:
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 1d
"""


@pytest.mark.parametrize("came", ["purchased", "clicked"])
@pytest.mark.parametrize("again", [False, True])
async def test_what_came_after_the_trigger_counts_though_the_trigger_was_routed_late(
    running: Callable[..., Any], database_url: str, came: str, again: bool
) -> None:
    async with running(database_url, work=False) as it:
        if not again:
            await it.publish(BEHIND)
        # given a backlog with a trigger and what came after it, of which the trigger may have been routed before
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await asyncio.sleep(0.05)
        await it.deliver(came, {"id": "p-1", **ADA})
        await asyncio.sleep(0.5)
        # when it is routed
        if again:
            await it.hub.pump.settle()
            await it.publish(BEHIND)
            async with it.hub.store.read() as c:
                [trigger] = await c.all("select id from event where type = 'acme.signed_up'")
            await replays.replay(
                it.hub.store, it.hub.clock, trigger["id"], who="me", keep_runs_days=90, ring=it.hub.ring
            )
        await it.hub.pump.settle()
        # then it counts as it would have in time; who has an event routed again begins anew
        [run] = await it.runs()
        outcomes = [step["outcome"] for step in run["steps"]]
        if again:
            assert (run["status"], outcomes) == ("waiting", [])
        else:
            assert run["status"] == "done"
            assert (run["ended_by"] == "acme.purchased") == (came == "purchased")
            assert ("clicked" in outcomes) == (came == "clicked")


@pytest.mark.parametrize(("do", "times"), [("acme.put_note", 2), ("acme.add_keyed", 1), ("acme.charge", 1)])
async def test_a_lost_answer_by_effect_class(
    running: Callable[..., Any], database_url: str, do: str, times: int
) -> None:
    async with running(database_url) as it:
        await it.publish(one_step(do, ", on_unknown: continue"))
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("1h"))
        assert len(it.sandbox.log) == times
        [run] = await it.runs()
        assert run["ended_by"] == ("was-unknown" if do == "acme.charge" else "done")
        assert run["effects"][0]["state"] == ("unknown" if do == "acme.charge" else "done")


@pytest.mark.parametrize(("hours", "found", "state"), [(20, None, "done"), (30, None, "unknown"), (30, True, "done")])
async def test_a_key_that_the_vendor_may_have_forgotten_is_used_no_more(
    running: Callable[..., Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
    found: bool | None,
    state: str,
) -> None:
    async def look(ctx: Any, input: Any) -> Noted:
        return Noted(key="found")

    if found:
        monkeypatch.setattr(acme.actions["add_keyed"], "lookup_", look)
    async with running(database_url) as it:
        await it.publish(one_step("acme.add_keyed", ", on_unknown: continue"))
        # given a call that was carried out, and no word of it for hours
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        it.sandbox.status["/keyed"] = 503
        await it.advance(hours * HOUR)
        # when the vendor answers again, and remembers the keys of a day
        it.sandbox.status.clear()
        if hours > 24:
            it.sandbox.keys.clear()
        await it.advance(parse_duration_ms("4d"))
        # then it was done once
        [run] = await it.runs()
        assert len(it.sandbox.log) == 1
        assert run["effects"][0]["state"] == state
        assert ("not recognise a repeat after 1d" in run["effects"][0]["reason"]) == (state == "unknown")


async def test_a_keyed_call_that_was_never_made_is_made_however_late(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.add_keyed"))
        it.sandbox.status["/keyed"] = 503
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(30 * HOUR)
        it.sandbox.status.clear()
        await it.advance(2 * HOUR)
        [run] = await it.runs()
        assert (len(it.sandbox.log), run["effects"][0]["state"]) == (1, "done")


async def test_a_lost_answer_to_a_message_is_looked_up_and_not_sent_again(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("1h"))
        assert _did(it) == [("send_text", "Hi"), ("put_note", "sent")]
        [run] = await it.runs()
        assert run["effects"][0]["output"] == {"message_id": "m-1"}


async def test_a_message_that_cannot_be_looked_up_for_days_is_unknown_and_not_sent_again(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(TEXT)
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        # given a vendor that refuses every look-up
        it.sandbox.status["/texts"] = 400
        await it.advance(parse_duration_ms("4d"))
        [run] = await it.runs()
        [effect] = [e for e in run["effects"] if e["action"] == "acme.send_text"]
        assert (effect["state"], len(it.sandbox.texts)) == ("unknown", 1)
        assert "given up looking it up: the vendor answered 400" in effect["reason"]


async def test_a_limit_puts_the_run_back_and_it_goes_on_by_itself(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(TEXT)
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + 45_000
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(20_000)
        [run] = await it.runs()
        assert run["finished_at"] is None
        assert it.sandbox.texts == []
        await it.advance(parse_duration_ms("10m"))
        assert _did(it) == [("send_text", "Hi"), ("put_note", "sent")]


async def test_who_is_only_asked_to_wait_is_not_given_up_after_a_few_tries(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        # given a step that is given up soon when its vendor is down
        await it.publish(one_step("acme.put_note", ", on_error: continue"))
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + parse_duration_ms("5m")
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("10m"))
        assert it.sandbox.refused > FEW_ATTEMPTS
        assert _did(it) == [("put_note", "s-1")]


async def test_an_outage_is_waited_out_and_then_given_up_after_days(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        it.sandbox.status["/notes"] = 503
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("5d"))
        [run] = await it.runs()
        assert run["status"] == "failed"
        assert run["effects"][0]["attempts"] > 12
        assert re.search(r"given up after \d+ attempts in 3d", run["effects"][0]["reason"])


async def test_refused_credentials_park_the_run_until_the_account_is_connected_again(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        it.sandbox.status["/notes"] = 401
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [run] = await it.runs()
        assert run["status"] == "parked"
        assert "re-authorisation" in run["reason"]
        assert [e["attempts"] for e in run["effects"]] == [0]
        assert (await it.hub.connections.by_name("acme")).health == "needs re-authorisation"
        # when it works again
        it.sandbox.status.clear()
        async with it.hub.store.write() as c:
            assert await work.unpark(c, "connection:acme", it.hub.clock.now_ms()) == 1
        await it.advance(5_000)
        assert _did(it) == [("put_note", "s-1")]


async def test_a_run_that_is_parked_just_after_the_account_was_connected_again_goes_on(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        writer = it.hub.pump._runner._writer
        park = writer.park

        async def late(*given: Any) -> None:
            # Whoever connects it now finds nobody parked.
            it.sandbox.status.clear()
            async with it.hub.store.write() as c:
                await c.run("update connection set health = 'ok'")
                assert await work.unpark(c, "connection:acme", it.hub.clock.now_ms()) == 0
            await park(*given)

        monkeypatch.setattr(writer, "park", late)
        it.sandbox.status["/notes"] = 401
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(5_000)
        # It is nobody's for a moment between being parked and going on.
        await until(lambda: _did(it) == [("put_note", "s-1")])


async def test_a_missing_plugin_parks_the_run_and_its_return_resumes_it(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        taken = acme.actions.pop("put_note")
        try:
            await it.deliver("signed_up", {"id": "s-1", **ADA})
            await it.rest()
            [run] = await it.runs()
            assert run["status"] == "parked"
            assert "the plugin of acme.put_note is not loaded" in run["reason"]
        finally:
            acme.actions["put_note"] = taken
        async with it.hub.store.write() as c:
            await work.unpark(c, "plugin:acme", it.hub.clock.now_ms())
        await it.advance(5_000)
        assert _did(it) == [("put_note", "s-1")]


async def test_a_vendor_s_no_is_final(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(one_step("acme.put_note"))
        it.sandbox.status["/notes"] = 400
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(parse_duration_ms("1d"))
        assert it.sandbox.arrived == 1
        [run] = await it.runs()
        assert run["status"] == "failed"


async def test_a_cancelled_run_does_nothing_more(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        from hub.store import runs as store_runs

        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.rest()
        [run] = await it.runs()
        async with it.hub.store.write() as c:
            await store_runs.stop(c, {run["id"]: {"cancel": "cancelled", "event": None}}, it.hub.clock.now_ms())
        await it.advance(parse_duration_ms("5d"))
        [run] = await it.runs()
        assert run["status"] == "cancelled"
        assert _did(it) == []


async def test_a_new_version_leaves_runs_inside_on_theirs(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.rest()
        await it.publish(REMINDER.replace("Your cart waits", "Come back"))
        await it.deliver("carted", _cart(id="c-2", email="bob@example.com", phone="+14155550101", first_name="Bob"))
        await it.advance(parse_duration_ms("25h"))
        assert sorted(body for _, body in _did(it)) == ["Come back, Bob", "Your cart waits, Ada"]


async def test_an_event_without_the_value_that_entries_are_counted_by_starts_nothing_and_says_why(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        await it.publish(TWO_NOTES.replace("steps:", 'entry: {per: "{{ trigger.cart }}"}\nsteps:'))
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("signed_up", {"id": "s-2", "cart": "c", **ADA})
        await it.rest()
        assert len(await it.runs()) == 1
        async with it.hub.store.read() as c:
            [row] = await c.all("select outcome, reason from verdict")
        assert row["outcome"] == "unknown"
        assert "entry/per" in row["reason"]


@pytest.mark.parametrize(
    "wait",
    ['{until: "2027-03-01"}', '{until: {time: "09:00", zone: contact}}', '{until: "{{ trigger.at }}", offset: 2d}'],
)
async def test_waiting_until_a_date_or_a_time_of_day(running: Callable[..., Any], sqlite_url: str, wait: str) -> None:
    from hub.clock import rfc3339

    async with running(sqlite_url) as it:
        await it.publish(TWO_NOTES.replace("steps:", f"steps:\n  - wait: {wait}"))
        await it.deliver("signed_up", {"id": "s-1", "at": rfc3339(it.hub.clock.now_ms()), **ADA})
        await it.rest()
        assert _did(it) == []
        await it.advance(parse_duration_ms("200d"))
        assert len(_did(it)) == 2


class _Missing:
    """An action whose plugin is gone for a while."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken = acme.actions.pop(name)

    async def back(self, it: Any) -> None:
        acme.actions[self._name] = self._taken
        async with it.hub.store.write() as c:
            await work.unpark(c, "plugin:acme", it.hub.clock.now_ms())
        await it.advance(5_000)


async def test_what_was_done_before_a_plugin_went_missing_is_not_done_again(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(
            TWO_NOTES.replace('acme.put_note, with: {key: "{{ steps', 'acme.charge, with: {key: "{{ steps')
        )
        missing = _Missing("charge")
        try:
            await it.deliver("signed_up", {"id": "s-1", **ADA})
            await it.rest()
            [run] = await it.runs()
            assert run["status"] == "parked"
        finally:
            await missing.back(it)
        assert _did(it) == [("put_note", "s-1-a"), ("charge", "s-1-a-b")]
        [run] = await it.runs()
        assert run["status"] == "done"


async def test_an_answer_that_came_while_a_plugin_was_missing_is_not_forgotten(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        await it.advance(25 * HOUR)
        missing = _Missing("put_note")
        try:
            await it.deliver("clicked", {"id": "k-1", "message_id": it.sandbox.texts[0]["id"]})
            await it.rest()
            [run] = await it.runs()
            assert run["status"] == "parked"
        finally:
            await missing.back(it)
        assert _did(it)[1:] == [("put_note", "clicked")]


@pytest.mark.parametrize("when", ["after the first action", "after an answer"])
async def test_a_defect_in_deciding_neither_repeats_an_effect_nor_forgets_an_answer(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:

    decide = engine.decide
    failures = 1

    def failing(program: Any, run: Any, arrival: Any, facts: Any, now_ms: int) -> Any:
        nonlocal failures
        trouble = engine.ActionDone if when == "after the first action" else engine.Answered
        if isinstance(arrival, trouble) and failures:
            failures -= 1
            raise RuntimeError("a defect of the hub")
        return decide(program, run, arrival, facts, now_ms)

    async with running(database_url) as it:
        monkeypatch.setattr(engine, "decide", failing)
        if when == "after the first action":
            await it.publish(TWO_NOTES.replace("acme.put_note", "acme.charge"))
            await it.deliver("signed_up", {"id": "s-1", **ADA})
            await it.advance(60_000)
            assert _did(it) == [("charge", "s-1-a"), ("charge", "s-1-a-b")]
        else:
            await it.publish(REMINDER)
            await it.deliver("carted", _cart())
            await it.advance(25 * HOUR)
            await it.deliver("clicked", {"id": "k-1", "message_id": it.sandbox.texts[0]["id"]})
            await it.advance(60_000)
            assert _did(it)[1:] == [("put_note", "clicked")]
        assert failures == 0


async def test_an_event_that_is_being_routed_while_its_wait_is_committed_still_answers_it(
    running: Callable[..., Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
recipe: waiting
on: {event: acme.carted}
steps:
  - {do: acme.put_note, with: {key: n}}
  - wait_for:
      came: {event: acme.purchased}
    timeout: 1h
    came: [{stop: came}]
"""
    async with running(postgres_url) as it:
        await it.publish(source)
        # given a router that has looked for those who wait, and has not committed when the wait is
        looked = asyncio.Event()
        match_entries = Router._match_entries

        async def slowly(self: Router, c: Any, batch: Any, *rest: Any) -> None:
            if batch[0].type == "acme.purchased":
                looked.set()
                async with asyncio.timeout(20):
                    while True:
                        async with it.hub.store.read() as other:
                            waiting = await other.first("select status from run")
                        if waiting and waiting["status"] == "arming":
                            break
                # Time enough for it to ask what came before, and to miss this event.
                await asyncio.sleep(0.3)
            await match_entries(self, c, batch, *rest)

        monkeypatch.setattr(Router, "_match_entries", slowly)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("carted", _cart())
        await until(lambda: it.sandbox.arrived == 1)
        await it.deliver("purchased", {"id": "p-1", "email": ADA["email"]})
        await looked.wait()
        it.sandbox.hold.set()
        async with asyncio.timeout(20):
            while (run := (await it.runs())[0])["finished_at"] is None:
                await it.rest()
        assert run["ended_by"] == "came"
