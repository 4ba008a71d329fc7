"""What is old goes by itself, and nothing goes that somebody still needs."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.clock import FrozenClock
from hub.errors import ConfigError
from hub.events import Event
from hub.retention import KIND, REF, Retention
from hub.settings import load_settings
from hub.store import work
from hub.store.events import Incoming, NewEvent, ingest
from hub.store.retention import first_id_at
from hub.store.session import Store
from tests.integration.conftest import Cli

DAY = 86_400_000
ADA = {"email": "ada@example.com", "phone": "+14155550100", "first_name": "Ada", "sms_ok": True}

THANKS = """
recipe: thanks
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: orders, with: {to: "{{ trigger.phone }}", body: "Hello {{ trigger.first_name }}"}}
"""

PATIENT = """
recipe: patient
on: {event: acme.signed_up}
steps:
  - wait: 40d
  - wait_for:
      bought: {event: acme.purchased}
    timeout: 1d
    as: answer
  - {do: acme.put_note, with: {key: "{{ trigger.id }}", text: "{{ steps.answer.answer }} {{ trigger.first_name }}"}}
"""


async def _count(store: Store, table: str, where: str = "true") -> int:
    async with store.read() as c:
        found = await c.first(f"select count(*) as n from {table} where {where}")
    assert found is not None
    return int(found["n"])


async def _pass(it: Any, days: int) -> None:
    """Let days pass, and let be done what is due then."""
    await it.advance(days * DAY)
    await it.rest()


async def _left(it: Any) -> dict[str, int]:
    tables = ("delivery", "event", "event_key", "run", "step", "effect", "verdict", "message", "dedupe")
    return {table: await _count(it.hub.store, table) for table in tables}


async def test_what_is_old_goes_by_itself_in_the_order_of_its_age(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, keep_messages_days=120) as it:
        # given a text that was sent, an event that started nothing, and a refused call
        await it.publish(THANKS)
        await it.deliver("signed_up", {"id": "s-1", **ADA}, delivery="d-1")
        await it.deliver("clicked", {"id": "c-1", "message_id": "m-1", **ADA}, delivery="d-2")
        it.hub.ingest.refuse_large("acme", "key", {}, 1)
        await it.hub.ingest.flush_refusals()
        await it.rest()
        began = await _left(it)
        assert all(began[table] for table in ("delivery", "event", "event_key", "run", "step", "effect", "message"))
        # when a month has passed, bodies and events are gone, and their ids are still known
        await _pass(it, 29)
        assert (await _left(it)) == began
        await _pass(it, 2)
        left = await _left(it)
        assert (left["delivery"], left["event"], left["event_key"]) == (0, 0, 0)
        assert (left["run"], left["dedupe"]) == (1, began["dedupe"])
        assert await _count(it.hub.store, "refusal") == 0
        await it.deliver("signed_up", {"id": "s-1", **ADA}, delivery="d-1")
        assert await _count(it.hub.store, "event") == 0
        # when 45 days have passed, so are the ids, and after 90 the run with all that belongs to it
        await _pass(it, 16)
        assert await _count(it.hub.store, "dedupe", "event_id is not null") == 0
        await _pass(it, 45)
        left = await _left(it)
        assert (left["run"], left["step"], left["effect"], left["verdict"], left["message"]) == (0, 0, 0, 0, 1)
        await _pass(it, 30)
        assert await _count(it.hub.store, "message") == 0
        # and who somebody is and what they agreed to stays
        assert await _count(it.hub.store, "contact") == 1
        assert await _count(it.hub.store, "consent") > 0


async def test_a_run_that_lives_long_finds_what_it_waits_for_and_what_started_it(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given a run that asks, after forty days, whether somebody bought since it began
        await it.publish(PATIENT)
        await it.deliver("purchased", {"id": "p-0", **ADA})
        await it.rest()
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await _pass(it, 2)
        await it.deliver("purchased", {"id": "p-1", **ADA})
        await it.deliver("clicked", {"id": "c-1", "message_id": "m-1", **ADA})
        # when all of that is older than events are kept
        await _pass(it, 37)
        async with it.hub.store.read() as c:
            assert [row["type"] for row in await c.all("select type from event")] == ["acme.purchased"]
        # then the run has its answer and its trigger
        await _pass(it, 2)
        assert [entry.data["text"] for entry in it.sandbox.log] == ["bought Ada"]
        # and once it has ended, what it looked back at goes too
        await _pass(it, 1)
        assert await _count(it.hub.store, "event") == 0


async def test_what_the_oldest_of_several_runs_looks_back_at_stays(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        # given runs of two versions, and what happened between their starts
        await it.publish(PATIENT)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        await it.deliver("purchased", {"id": "p-1", **ADA})
        await it.publish(PATIENT.replace("40d", "41d"))
        await it.advance(DAY)
        await it.deliver("signed_up", {"id": "s-2", "email": "bob@example.com"})
        await it.rest()
        it.hub.clock.offset_ms += 35 * DAY
        await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        async with it.hub.store.read() as c:
            assert [row["type"] for row in await c.all("select type from event")] == ["acme.purchased"]


async def test_what_a_run_may_leave_on_stays(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.publish(
            "recipe: leaver\non: {event: acme.signed_up}\nexit_on: [{event: acme.purchased}]\nsteps:\n  - wait: 40d\n"
        )
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        await it.deliver("purchased", {"id": "p-1", "email": "bob@example.com"})
        await it.rest()
        it.hub.clock.offset_ms += 35 * DAY
        await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        async with it.hub.store.read() as c:
            assert [row["type"] for row in await c.all("select type from event")] == ["acme.purchased"]


async def test_what_an_open_call_is_looked_up_in_stays(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, keep_events_days=1, keep_dedupe_days=1) as it:
        await it.publish(THANKS)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        await it.deliver("clicked", {"id": "c-1", "message_id": "m-1", **ADA})
        await it.rest()
        # given a call of which nobody knows yet what came of it
        async with it.hub.store.write() as c:
            await c.run("update run set status = 'acting', finished_at = null")
            await c.run("update effect set state = 'intended', outcome = null")
        it.hub.clock.offset_ms += 2 * DAY
        await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        async with it.hub.store.read() as c:
            assert [row["type"] for row in await c.all("select type from event")] == ["acme.clicked"]


async def test_what_is_not_routed_stays_however_old_it_is(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("signed_up", {"id": "s-2", **ADA})
        await it.deliver("signed_up", {"id": "s-3", **ADA}, account="main")
        async with it.hub.store.write() as c:
            ids = [row["id"] for row in await c.all("select id from event order by id")]
            await c.run("update event set stage = 'quarantined' where id = :id", id=ids[1])
            await c.run("update event set stage = 'routed' where id = :id", id=ids[2])
        it.hub.clock.offset_ms = 400 * DAY
        removed = await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        assert removed["events"] == 1
        async with it.hub.store.read() as c:
            assert {row["stage"] for row in await c.all("select stage from event")} == {"route", "quarantined"}
        assert await _count(it.hub.store, "event_key") == 4


async def test_an_event_whose_silence_is_waited_for_stays(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.deliver("carted", {"id": "c-1", "cart": "k-1", **ADA})
        await it.rest()
        it.hub.clock.offset_ms = 0
        async with it.hub.store.write() as c:
            await c.run(
                "update work set due_at = :never, parked_on = 'plugin:acme' where kind = 'debounce'", never=10**15
            )
        removed = await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        assert removed["events"] == 0
        it.hub.clock.offset_ms = 60 * DAY
        removed = await it.hub.retention.prune(dry=False, progress=lambda name, count: None)
        assert (removed["events"], await _count(it.hub.store, "event")) == (0, 1)


async def test_a_turn_does_a_little_and_the_next_one_goes_on(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.retention._TURN_S", 0.0)
    monkeypatch.setattr("hub.store.retention.STEP_ROWS", 3)
    async with running(database_url, work=False) as it:
        for n in range(10):
            await it.deliver("signed_up", {"id": f"s-{n}", **ADA})
        async with it.hub.store.write() as c:
            await c.run("update event set stage = 'routed'")
            await work.add_if_absent(c, KIND, REF, KIND, 0)
        it.hub.clock.offset_ms = 100 * DAY
        left, turns = [10], 0
        while await _count(it.hub.store, "event") or await _count(it.hub.store, "dedupe"):
            async with it.hub.store.write() as c:
                [claim] = await work.claim(c, now_ms=10**14, lease_ms=30_000, owner="me", most=10)
            await it.hub.retention.handle(claim)
            turns += 1
            left.append(await _count(it.hub.store, "event"))
            assert left[-2] - left[-1] <= 3
            assert turns < 50
        begun = left.index(7)
        assert left[begun : begun + 4] == [7, 4, 1, 0]
        assert turns > 4


# -- whatever comes when -----------------------------------------------------------------------------------------------

NOW = 1_790_000_000_000


@dataclass(frozen=True)
class _Past:
    """An event that came so many days ago."""

    fact: str
    days: float
    stage: str

    @property
    def at_ms(self) -> int:
        return NOW - int(self.days * DAY)

    def incoming(self, at_ms: int) -> Incoming:
        event = Event("acme.happened", self.fact, at_ms, {"id": self.fact})
        id_ = first_id_at(at_ms)[:19] + str(uuid.uuid4())[19:]
        new = NewEvent(event, "c-1", "acme", stage=self.stage, id=id_)
        return Incoming("c-1", self.fact, [new], at_ms, connector="acme", body=b"{}", id=id_)


_PASTS = st.lists(
    st.builds(
        _Past,
        fact=st.uuids().map(str),
        days=st.floats(0, 120),
        stage=st.sampled_from(["routed", "routed", "unconnected", "route", "enrich", "quarantined"]),
    ),
    max_size=12,
)


async def _nothing_programmed(store: Store, keep: dict[str, int]) -> Retention:
    # No run lives here, so that no recipe is asked for.
    return Retention(store, None, FrozenClock(NOW), load_settings(**{f"keep_{k}_days": v for k, v in keep.items()}))  # type: ignore[arg-type]


@given(_PASTS, st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_was_removed_a_repeat_is_refused_within_its_time(
    store: Store, pasts: list[_Past], events_days: int, longer_days: int
) -> None:
    # given events of any age, and any settings
    async with store.write() as c:
        for table in ("event", "event_key", "dedupe", "delivery"):
            await c.run(f"delete from {table}")
        for past in pasts:
            await ingest(c, [past.incoming(past.at_ms)])
    keep = {"events": events_days, "dedupe": events_days + longer_days}
    retention = await _nothing_programmed(store, keep)
    # when what is old is counted, and then removed
    counted = await retention.prune(dry=True, progress=lambda name, count: None)
    removed = await retention.prune(dry=False, progress=lambda name, count: None)
    assert counted | {"event keys": 0} == removed | {"event keys": 0}
    assert sum((await retention.prune(dry=False, progress=lambda name, count: None)).values()) == 0
    # then exactly those stayed that are young enough, or not done with
    async with store.read() as c:
        left = {row["data"] for row in await c.all("select data from event")}
    young = {
        p.fact for p in pasts if p.at_ms >= NOW - events_days * DAY or p.stage in {"route", "enrich", "quarantined"}
    }
    assert left == {f'{{"id":"{fact}"}}' for fact in young}
    # and a repeat is known for as long as it shall be
    for past in pasts:
        async with store.write() as c:
            [stored] = await ingest(c, [past.incoming(NOW)])
        assert stored.duplicate_delivery == (past.at_ms >= NOW - keep["dedupe"] * DAY)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_ids_that_go_before_their_events_are_refused() -> None:
    with pytest.raises(ConfigError, match="HUB_KEEP_DEDUPE_DAYS is 10 and HUB_KEEP_EVENTS_DAYS 20"):
        load_settings(keep_events_days=20, keep_dedupe_days=10)


def test_prune_counts_and_removes(cli: Cli) -> None:
    # given an event and its delivery that are two months old
    at = int(time.time() * 1000) - 60 * DAY
    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        database.execute(
            "insert into event (id, connection_id, type, occurred_at, received_at, data, stage) "
            "values (?, 'c', 't', ?, ?, '{}', 'routed')",
            (first_id_at(at), at, at),
        )
        database.execute("insert into dedupe (scope, id, seen_at) values ('s', 'd', ?)", (at,))
    database.close()
    # then it must be said what is wanted
    assert cli("db", "prune").exit_code == 2
    # and counting changes nothing, and removing does
    for flag, found in (("--dry-run", 1), ("--dry-run", 1), ("--now", 1), ("--now", 0)):
        counts = cli.json("db", "prune", flag)
        assert (counts["events"], counts["delivery and fact ids"], counts["runs"]) == (found, found, 0)
    assert "events" in cli("db", "prune", "--now").stdout
