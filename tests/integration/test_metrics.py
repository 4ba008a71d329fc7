"""What Prometheus reads: counted where it happens, asked of the database cheaply, and nobody's name in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.errors import SignatureError
from hub.ingest import Refused
from hub.metrics import Metrics, word_of
from hub.store import pulse
from hub.store.session import Store
from hub.store.work import NEVER_MS
from tests.integration.test_api import web as web
from tests.integration.test_runs import ADA, REMINDER, TWO_NOTES, _cart

CHARGE = """
recipe: charge
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, with: {key: "{{ trigger.id }}"}, on_unknown: continue}
"""


def samples(text: bytes | str) -> dict[str, float]:
    """Every sample of an exposition, by name and labels: `hub_due{queue="runs"}`."""
    found = {}
    for family in text_string_to_metric_families(text.decode() if isinstance(text, bytes) else text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def _scrape(it: Any) -> dict[str, float]:
    it.hub.vitals._read_at = float("-inf")
    return samples(await it.hub.vitals.exposition())


async def test_a_flow_is_counted_from_the_call_to_its_effects(running: Callable[..., Any], database_url: str) -> None:
    # Given a recipe with two effects
    async with running(database_url) as it:
        await it.publish(TWO_NOTES)

        # When a delivery comes, comes again, and another cannot be read
        await it.deliver("signed_up", {"id": "s-1", **ADA}, delivery="d-1")
        await it.deliver("signed_up", {"id": "s-1", **ADA}, delivery="d-1")
        await it.deliver("signed_up", {"email": "ada@example.com"})
        await it.rest()
        found = await _scrape(it)

    # Then each is counted where it happened
    assert found['hub_ingest_total{connector="acme",outcome="accepted"}'] == 1
    assert found['hub_ingest_total{connector="acme",outcome="duplicate"}'] == 1
    assert found['hub_ingest_total{connector="acme",outcome="unreadable"}'] == 1
    assert found['hub_runs_started_total{recipe="two-notes"}'] == 1
    assert found['hub_runs_finished_total{recipe="two-notes",status="done"}'] == 1
    assert found['hub_effects_total{action="acme.put_note",effect_class="idempotent",outcome="done"}'] == 2
    assert found['hub_call_seconds_count{connector="acme",outcome="done"}'] == 2
    assert found["hub_route_lag_seconds_count"] == 1
    assert 0 < found["hub_route_lag_seconds_sum"] < 60
    assert found["hub_dispatch_lag_seconds_count"] >= 1
    assert found['hub_group_size_sum{transaction="ingest"}'] == 3
    assert found['hub_group_size_count{transaction="advance"}'] >= 2
    # (the hub's own upkeep is no run that waits)
    assert (found["hub_store_up"], found["hub_events_unrouted"], found["hub_waiting"]) == (1, 0, 0)


async def test_an_unknown_outcome_is_counted_and_shown_for_a_day(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # Given a vendor that answers 500 to a call that must not be repeated
        await it.publish(CHARGE)
        it.sandbox.status["/charges"] = 500
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()

        # Then it is counted, and asked of the database too
        found = await _scrape(it)
        assert found['hub_effects_total{action="acme.charge",effect_class="at_most_once",outcome="unknown"}'] == 1
        assert found['hub_call_seconds_count{connector="acme",outcome="outcome_unknown"}'] == 1
        assert found["hub_unknown_last_day"] == 1

        # And after a day it is history
        await it.advance(25 * 3_600_000)
        assert (await _scrape(it))["hub_unknown_last_day"] == 0


async def test_what_waits_and_what_is_late_is_asked_of_the_database(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        # Given an event from a minute ago that nobody routed, work that is late, waits, and is parked
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        now_ms = it.hub.clock.now_ms()
        async with it.hub.store.write() as c:
            await c.run("update event set received_at = :at", at=now_ms - 60_000)
            for kind, ref, queue, due_ms, parked, owner in (
                ("run", "late-1", "hello|acme|0", now_ms - 30_000, None, None),
                ("run", "late-2", "hello|acme|1", now_ms - 1, None, None),
                ("run", "later", "hello|acme|0", now_ms + 60_000, None, None),
                ("run", "in-hand", "hello|acme|0", now_ms + 60_000, None, "worker-1"),
                ("poll", "acme|orders", "hello|acme|0", now_ms + 60_000, None, None),
                ("run", "parked", "runs", NEVER_MS, "connection:acme", None),
                ("run", "poison", "runs", NEVER_MS, "poison", None),
            ):
                await c.run(
                    "insert into work (kind, ref, queue, due_at, parked_on, owner) "
                    "values (:kind, :ref, :queue, :due, :parked, :owner)",
                    kind=kind,
                    ref=ref,
                    queue=queue,
                    due=due_ms,
                    parked=parked,
                    owner=owner,
                )

        # When it is scraped
        found = await _scrape(it)

    # Then all of it is there
    assert found["hub_events_unrouted"] == 1
    assert found["hub_ingest_lag_seconds"] == pytest.approx(60, abs=20)
    assert found['hub_due{connection="acme",recipe="hello"}'] == 2
    assert found['hub_oldest_due_seconds{connection="acme",recipe="hello"}'] == pytest.approx(30, abs=20)
    assert 'hub_due{connection="",recipe="runs"}' not in found
    assert found["hub_waiting"] == 1
    assert found['hub_parked_now{reason="connection"}'] == 1
    assert found['hub_parked_now{reason="poison"}'] == 1


async def test_a_breaker_that_is_not_closed_is_shown(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        async with it.hub.store.write() as c:
            await c.run(
                "insert into breaker (connection, state, until, trips, reason, since) values ('acme', 'open', 0, 1, 'x', 0)"
            )
        assert (await _scrape(it))['hub_breaker_state{connection="acme"}'] == 2


async def test_no_label_holds_an_id_or_a_person(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        # Given a day with a message, refusals of unknown connectors, and a wait
        await it.publish(REMINDER)
        await it.deliver("carted", _cart())
        for n in range(50):
            with pytest.raises(Refused):
                await it.hub.ingest.receive(f"made-up-{n}", "key", method="POST", query="", headers={}, body=b"")
        await it.advance(25 * 3_600_000)
        text = (await it.hub.vitals.exposition()).decode()
        async with it.hub.store.read() as c:
            ids = [
                row["id"]
                for table in ("run", "event", "contact", "connection")
                for row in await c.all(f"select id from {table}")
            ]

    # Then names of ours are all there is
    assert len(ids) >= 4
    for secret in (*ids, "ada@example.com", "4155550100", "made-up"):
        assert secret not in text
    assert samples(text)['hub_ingest_refused_total{connector="(unknown)",reason="unknown_address"}'] == 50


async def test_a_scrape_asks_the_database_once_however_many_ask(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        first = await it.hub.vitals.pulse()
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        assert await it.hub.vitals.pulse() is first
        it.hub.vitals._read_at = float("-inf")
        assert (await it.hub.vitals.pulse()).unrouted == 1


async def test_a_database_that_does_not_answer_in_time_is_said_and_waited_for_no_longer(
    running: Callable[..., Any], postgres_url: str
) -> None:
    async with running(postgres_url, work=False) as it:
        # Given something counted, and a table that somebody holds
        it.hub.metrics.run_started("a-recipe")
        async with it.hub.store.write() as c:
            await c.run("lock table work in access exclusive mode")

            # When it is scraped
            began = time.monotonic()
            found = await _scrape(it)
            took_s = time.monotonic() - began

    # Then what this process counts is there, and that the rest is not
    assert took_s < 8
    assert found["hub_store_up"] == 0
    assert found['hub_runs_started_total{recipe="a-recipe"}'] == 1
    assert "hub_waiting" not in found


async def test_a_reading_costs_the_same_with_many_that_wait(postgres_url: str) -> None:
    # Given 200,000 waiting runs' work, some of it late or parked
    store = Store(postgres_url)
    now_ms = 1_800_000_000_000
    async with store.write() as c:
        await c.run(
            "insert into work (kind, ref, queue, due_at, parked_on) select 'run', 'r-' || n, "
            "case when n % 3 = 0 then 'acme' else 'runs' end, "
            "case when n % 100 = 0 then :never when n % 50 = 1 then :now - n else :now + n end, "
            "case when n % 100 = 0 then 'connection:acme' end from generate_series(1, 200000) as n".replace(
                ":never", str(NEVER_MS)
            ).replace(":now", str(now_ms))
        )
    async with store.read() as c:
        await c.run("analyze work")
        took = []
        for _ in range(3):
            began = time.perf_counter()
            found = await pulse.read(c, now_ms=now_ms, real_ms=now_ms)
            took.append(time.perf_counter() - began)
        plans = [
            str(row)
            for statement in (pulse._LANES, pulse._PARKED)
            for row in await c.all(f"explain {statement.replace(':now', str(now_ms)).replace(':most', '10000')}")
        ]
    await store.close()

    # Then a reading is quick, carried by indexes, and says what it only estimates
    assert min(took) < 0.1
    assert not [line for line in plans if "Seq Scan on work" in line]
    assert found.waiting_estimated
    assert found.waiting == pytest.approx(200_000, rel=0.05)
    assert found.due == 4_000
    assert found.parked == {"connection:acme": 2_000}


async def test_metrics_take_a_key_unless_they_are_open(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        async with w.session.get(f"{w.url}/metrics") as answer:
            assert answer.status == 401
        async with w.session.get(f"{w.url}/metrics", headers={"Authorization": f"Bearer {w.key}"}) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert "hub_store_up" in samples(await answer.text())


async def test_open_metrics_take_no_key(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False, metrics_open=True) as w, w.session.get(f"{w.url}/metrics") as answer:
        assert answer.status == 200


def test_an_error_is_a_word() -> None:
    assert word_of(SignatureError()) == "signature_error"
    assert word_of(KeyError("ada@example.com")) == "raised"


def test_two_hubs_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.run_started("a")
    assert one.tally()["runs_started"] == 1
    assert other.tally() == {"deliveries": 0, "events": 0, "runs_started": 0, "runs_finished": 0, "effects": {}}
