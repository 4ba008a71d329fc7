"""Reading a connection's past: stored once, whatever is cut off, and nothing starts, wakes or ends by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub import seams
from hub.clock import rfc3339, to_ms
from hub.connector import Rate
from hub.events import ConsentState
from hub.process import open_hub, working
from hub.purposes import LedgerEntry, LegalClass, Purpose, permits
from hub.store import contacts, views
from tests.depot import depot

DAY_MS = 24 * 3_600_000
NOW = datetime.now(UTC)
SINCE = {"since": "24mo"}


def _ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def _people(many: int, *, days: float = 100) -> list[dict[str, Any]]:
    return [
        {"id": f"p-{n}", "email": f"person{n}@example.com", "name": f"Name {n}", "at": _ago(days + n)}
        for n in range(many)
    ]


async def _begin(it: Any, **body: Any) -> Any:
    status, found = await it.call("POST", "/connections/depot/backfill", SINCE | body)
    assert status == 202, found
    return found


async def _states(it: Any) -> dict[str, str]:
    _, found = await it.call("GET", "/connections/depot/backfill")
    return {one["event"]: one["state"] for one in found}


async def _until(it: Any, state: str) -> None:
    async with asyncio.timeout(20):
        while (await _states(it))["depot.registered"] != state:  # noqa: ASYNC110  (what is waited for rings no bell)
            await asyncio.sleep(0.02)


async def test_the_past_is_stored_once_with_its_people_and_starts_nothing(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url) as it:
        # Given recipes that start by what is read, one of whose runs is inside and waits for it
        await it.hub.library.apply(STARTS.format(name="by-registration", event="depot.registered"), publish=True)
        await it.hub.library.apply(STARTS.format(name="by-silence", event="depot.gone_quiet"), publish=True)
        await it.hub.library.apply(INSIDE, publish=True)
        await it.deliver("ordered", {"id": "o-live", "email": "person1@example.com", "at": NOW.isoformat()})
        await it.rest()
        [inside] = await it.rows("select id, status from run")
        assert inside["status"] == "waiting"

        # When the past of seven people and their orders is read, part of it from after the run began
        it.sandbox.past["registered"] = _people(6)
        now = (NOW + timedelta(seconds=5)).isoformat()
        it.sandbox.past["registered"].append({"id": "p-now", "email": "person1@example.com", "at": now})
        it.sandbox.past["ordered"] = [{"id": "o-1", "email": "person1@example.com", "at": _ago(50)}]
        it.sandbox.past["ordered"].append({"id": "o-live", "email": "person1@example.com", "at": NOW.isoformat()})
        await _begin(it)
        await it.rest(by_ms=DAY_MS // 2)

        # Then everything is there once, with its person, and nobody started, went on or left
        _, found = await it.call("GET", "/connections/depot/backfill")
        by_event = {one["event"]: one for one in found}
        assert by_event["depot.registered"]["state"] == "done"
        assert (by_event["depot.registered"]["items"], by_event["depot.registered"]["new"]) == (7, 7)
        assert (by_event["depot.ordered"]["items"], by_event["depot.ordered"]["new"]) == (2, 1)
        assert by_event["depot.registered"]["oldest_at"][:10] == _ago(105)[:10]
        stored = await it.rows("select stage, contact_id, duplicates from event where type = 'depot.registered'")
        assert [row["stage"] for row in stored] == ["history"] * 7
        assert all(row["contact_id"] for row in stored)
        runs = await it.rows("select id, recipe, status from run order by id")
        assert [(run["id"], run["recipe"], run["status"]) for run in runs] == [(inside["id"], "inside", "waiting")]
        assert (
            await it.rows("select * from work where kind in ('debounce', 'backfill') and ref like '%registered%'") == []
        )
        assert it.sandbox.log == []
        assert (
            await it.rows(
                "select event_id from verdict where event_id in (select id from event where stage = 'history')"
            )
            == []
        )

        # But what happens wakes the one that waits
        live = {"id": "p-live", "email": "person1@example.com", "at": datetime.now(UTC).isoformat()}
        await it.deliver("registered", live)
        await it.rest()
        [went_on] = await it.rows("select status from run where id = :id", id=inside["id"])
        assert went_on["status"] == "done"
        assert sorted(entry.data["what"] for entry in it.sandbox.log) == ["o-live", "p-live"]

        # And a second reading so far back asks nobody, while one that is wanted finds nothing new
        asked = len(it.sandbox.asked)
        await _begin(it)
        await it.rest()
        assert len(it.sandbox.asked) == asked
        await _begin(it, again=True, only=["registered"])
        await it.rest()
        assert len(it.sandbox.asked) > asked
        assert len(await it.rows("select id from event where type = 'depot.registered'")) == 8


STARTS = """
recipe: {name}
on: {{event: {event}}}
steps:
  - {{do: depot.put, with: {{what: "{{{{ trigger.id }}}}", shelf: s-1}}}}
"""
INSIDE = """
recipe: inside
on: {event: depot.ordered}
exit_on: [{event: depot.ordered}]
steps:
  - {wait_for: {came: {event: depot.registered}}, timeout: 30d, as: came}
  - {do: depot.put, with: {what: "{{ trigger.id }}", shelf: s-1}}
"""


async def test_since_when_everything_is_known_is_told_and_never_shrinks(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url, keep_events_days=1000, keep_dedupe_days=1000) as it:
        it.sandbox.past["registered"] = _people(2)
        _, before = await it.call("GET", "/connections/depot")
        await _begin(it, since="2y", only=["depot.registered"])
        await it.rest()
        await _begin(it, since="90d", only=["depot.registered"], again=True)
        await it.rest()
        _, found = await it.call("GET", "/connections/depot")
        _, listed = await it.call("GET", "/connections")

        # what was not read is known since the connection is there
        assert (before["known_since"], list(found["known_since"])) == ({}, ["depot.registered"])
        two_years = found["known_since"]["depot.registered"]
        assert abs(to_ms(datetime.fromisoformat(two_years)) - to_ms(NOW - timedelta(days=730))) < 2 * DAY_MS
        assert found["connected_at"][:10] == rfc3339(it.hub.clock.now_ms())[:10]
        assert {k: v for k, v in found.items() if k != "secrets"} in listed

        # and goes with the connection
        await it.hub.connections.remove("depot")
        assert await it.rows("select * from known_since") == []


async def test_nothing_is_known_of_what_is_no_longer_kept(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url, keep_events_days=30) as it:
        await _begin(it, only=["registered"])
        await it.rest()
        _, found = await it.call("GET", "/connections/depot")
        known_ms = to_ms(datetime.fromisoformat(found["known_since"]["depot.registered"]))
        assert abs(known_ms - (it.hub.clock.now_ms() - 30 * DAY_MS)) < 60_000


async def test_a_reading_that_is_cut_off_goes_on_where_it_was(warehouse: Callable[..., Any], database_url: str) -> None:
    async with warehouse(database_url) as it:
        it.sandbox.past["registered"] = _people(10)
        # given a vendor that is away after two pages
        it.sandbox.fail_after = 2
        await _begin(it, only=["registered"])
        await _until(it, "waiting")
        _, found = await it.call("GET", "/connections/depot/backfill")
        waiting = next(one for one in found if one["event"] == "depot.registered")
        assert (waiting["items"], "503" in waiting["problem"], waiting["again_at"] is not None) == (6, True, True)
        assert (await it.call("GET", "/connections/depot"))[1]["known_since"] == {}

        # when it is back
        it.sandbox.fail_after = None
        await it.rest(by_ms=3_600_000)

        # then no page was asked for twice, and nothing is there twice
        pages = [asked for asked in it.sandbox.asked if asked.startswith("registered")]
        assert pages == [f"registered {n}" for n in (0, 3, 6, 9, 10)]
        assert len(await it.rows("select id from event")) == 10
        assert (await _states(it))["depot.registered"] == "done"


@pytest.mark.parametrize("place", ["history.commit", "history.committed"])
async def test_what_dies_at_a_page_leaves_its_events_and_its_cursor_together(
    warehouse: Callable[..., Any], database_url: str, place: str
) -> None:
    async with warehouse(database_url, work=False) as it:
        it.sandbox.past["registered"] = _people(8)
        await _begin(it, only=["registered"])
        # Given a process that fails at its second page, and is gone then
        seams.arm(f"{place}#2=fail")
        try:
            async with open_hub(it.settings, plugins=it.hub.plugins, clock=it.hub.clock) as dying, working(dying):
                async with asyncio.timeout(20):
                    while len(it.sandbox.asked) < 2 or dying.pump.busy:  # noqa: ASYNC110  (it rings no bell)
                        await asyncio.sleep(0.02)
        finally:
            seams.disarm()
        stored = await it.rows("select id from event")
        assert len(stored) == (3 if place == "history.commit" else 6)

        # When another one goes on
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 1, owner = null where kind = 'backfill'")
        async with working(it.hub):
            await it.rest()

        # Then it begins with the first page that is not stored
        assert it.sandbox.asked[2] == f"registered {len(stored)}"
        assert len(await it.rows("select id from event")) == 8


async def test_each_page_takes_its_share_of_the_budget(
    warehouse: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a vendor that takes twenty calls a second
    monkeypatch.setattr(depot, "budgets", [Rate(limit=2, per_s=20)])
    async with warehouse(database_url) as it:
        it.sandbox.page = 1
        it.sandbox.past["registered"] = _people(12)
        began = time.monotonic()
        await _begin(it, only=["registered"])
        await _until(it, "done")
        # then twelve pages and the end take as long as that
        assert time.monotonic() - began >= (13 - 2) / 20 * 0.9
        assert len(await it.rows("select id from event")) == 12


async def test_a_past_that_is_given_up_keeps_what_was_read(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url) as it:
        it.sandbox.past["registered"] = _people(9)
        it.sandbox.fail_after = 1
        await _begin(it, only=["registered"])
        await _until(it, "waiting")
        status, found = await it.call("DELETE", "/connections/depot/backfill")
        assert (status, [one["state"] for one in found]) == (200, ["never", "never"])
        assert len(await it.rows("select id from event")) == 3


async def test_wrong_wishes_are_refused_with_what_there_is(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url) as it:
        for path, body, word in (
            ("/connections/depot/backfill", {"only": ["orderd"]}, "did you mean depot.ordered?"),
            ("/connections/depot/backfill", {"since": "soon"}, "24mo"),
            ("/connections/depot/backfill", {"since": "2999-01-01"}, "future"),
            ("/connections/acme/backfill", {}, "acme does not tell its past"),
            ("/connections/depott/backfill", {}, "did you mean depot?"),
        ):
            status, found = await it.call("POST", path, body)
            assert (status in {404, 422}, word in found["detail"]) == (True, True), found


# -- what is old gives way to what is newer ----------------------------------------------------------------------------


async def test_old_consent_and_old_names_never_override_newer_ones(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    phone, marketing = "+14155550123", Purpose("cart", "sms", LegalClass.MARKETING)
    async with warehouse(database_url) as it:
        # Given somebody who agreed lately, another who left lately
        live = {
            "id": "live-1",
            "email": "ada@example.com",
            "phone": phone,
            "sms": "granted",
            "name": "Ada",
            "at": _ago(0),
        }
        left = {**live, "id": "live-2", "email": "bob@example.com", "phone": "+14155550124", "sms": "revoked"}
        await it.deliver("registered", live)
        await it.deliver("registered", left)
        await it.rest()

        # When their past says the opposite, also where the vendor tells no time
        it.sandbox.past["registered"] = [
            {**live, "id": "old-1", "sms": "revoked", "name": "Adelheid", "at": _ago(300)},
            {**live, "id": "old-2", "sms": "revoked", "at": None},
            {**left, "id": "old-3", "sms": "granted", "at": _ago(300)},
        ]
        await _begin(it, only=["registered"])
        await it.rest()

        # Then the ledger has it at its own time, and the newer word counts
        async with it.hub.store.read() as c:
            ledger = await contacts.ledger(c, [("sms", phone), ("sms", "+14155550124")])
            ada = await views.show_contact(c, await views.find_contact(c, "ada@example.com"))
        folded = {
            address: permits(
                [LedgerEntry(ConsentState(r["state"]), r["purpose"], r["reason"], r["at"]) for r in rows], marketing
            ).allowed
            for (_, address), rows in ledger.items()
        }
        assert folded == {phone: True, "+14155550124": False}
        assert [row["state"] for row in ledger[("sms", phone)]] == ["revoked", "revoked", "granted"]
        assert ada["first_name"] == "Ada"
        # and what is old stands at its place in the story
        told = [(moment["at"][:10], moment["id"]) for moment in ada["timeline"] if moment["what"] == "event"]
        assert told[0][0] == NOW.isoformat()[:10]
        assert _ago(300)[:10] in {at for at, _ in told}


async def test_people_who_are_known_by_their_past_alone_have_what_it_says(
    warehouse: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url) as it:
        it.sandbox.past["registered"] = [
            {"id": "a", "email": "eve@example.com", "name": "Eve", "at": _ago(10)},
            {"id": "b", "email": "eve@example.com", "name": "Evelyn", "at": _ago(400)},
        ]
        await _begin(it, only=["registered"])
        await it.rest()
        async with it.hub.store.read() as c:
            eve = await views.show_contact(c, await views.find_contact(c, "eve@example.com"))
        assert (eve["first_name"], eve["runs"], eve["not_started"]) == ("Eve", [], [])


async def test_a_call_that_comes_after_its_fact_was_read_counts_as_if_it_had_come_first(
    warehouse: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url) as it:
        await it.hub.library.apply(STARTS.format(name="by-registration", event="depot.registered"), publish=True)
        # given what happened a moment ago, and something old, read before their calls come
        soon = {"id": "soon", "email": "new@example.com", "at": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()}
        old = {"id": "old", "email": "old@example.com", "at": _ago(3)}
        it.sandbox.past["registered"] = [soon, old]
        await _begin(it, only=["registered"])
        await it.rest()
        assert await it.rows("select id from run") == []
        # when the calls come, more than once
        for _ in range(2):
            assert await it.deliver("registered", soon) == 200
            assert await it.deliver("registered", old) == 200
        await it.rest()
        # then what happened since the connection is there starts its run, once
        assert [entry.data["what"] for entry in it.sandbox.log] == ["soon"]
        stages = await it.rows("select stage, duplicates from event order by occurred_at")
        assert [(row["stage"], row["duplicates"]) for row in stages] == [("history", 2), ("routed", 1)]


async def test_a_past_event_is_not_replayed(warehouse: Callable[..., Any], sqlite_url: str) -> None:
    async with warehouse(sqlite_url) as it:
        it.sandbox.past["registered"] = _people(1)
        await _begin(it, only=["registered"])
        await it.rest()
        _, found = await it.call("GET", "/events", stage="history")
        status, said = await it.call("POST", f"/events/{found['items'][0]['id']}/replay")
        assert (status, "it is of the past" in said["detail"]) == (422, True)
