"""Looking at what happened: runs, events, deliveries, contacts."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.errors import NotFound
from hub.events import Event, Identity
from hub.ids import key_hash
from hub.process import open_store
from hub.settings import load_settings
from hub.store import connections, contacts, deliveries, events, runs
from hub.store.events import Incoming, NewEvent
from hub.store.runs import Advance, EffectResult, EffectRow, Lease, NewRun, StepRow, WatchRow, refusal
from tests.integration.conftest import Cli

_AT_MS = 1_767_603_600_000  # 2026-01-05T09:00:00Z
R1, R2 = "0198f7c0-0000-7000-8000-000000000001", "0198f7c0-0000-7000-8000-000000000002"
_STEERING = "\x1b[31mred"


@dataclass(frozen=True)
class Known:
    """The ids of what was stored."""

    contact: str
    event: str
    waiting: str
    done: str


@pytest.fixture
def known(cli: Cli) -> Known:
    """A person, two deliveries, an event, a waiting and a finished run, a refused call."""
    return asyncio.run(_store(cli.data_dir))


async def _store(data_dir: Path) -> Known:
    subject = Identity(email="Ada@Example.com", phone="+14155550100", first_name=f"Ada{_STEERING}")
    paid = Event("shopify.order_paid", "order_paid:1", _AT_MS, {"id": "1", "name": "[bold]#1[/bold]"}, subject)
    new = NewEvent(paid, "c1", "my-shop")
    good = Incoming("c1", "d1", [new], _AT_MS, "shopify", "c1", "orders/paid", body=b"{}")
    odd = Incoming("c1", "d2", [], _AT_MS, "shopify", "c1", "x/y", body=b"{}", state="unrecognised", note="no trigger")
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await events.ingest(c, [good, odd])
        who = (await contacts.resolve(c, [contacts.Sighting(new.id, "my-shop", subject, _AT_MS)]))[new.id]
        await c.together(events.mark_routed({new.id: who}))
        made = [
            NewRun(id_, "thanks", 1, who, f"ev:{new.id}:{n}", who, {"total": "50.00 EUR"}, _AT_MS)
            for n, id_ in enumerate((R1, R2), 1)
        ]
        await runs.start(c, made, Lease("", 0, 0))
        waits = Advance(
            run_id=R1, epoch=0, at_ms=_AT_MS, seq=0, status="waiting", position="w", ctx={},
            reason="waits for twilio.sms_received until its timeout", due_ms=_AT_MS + 86_400_000,
            steps=[StepRow("s", "steps/0", "do", "done", "sent")],
            watches=[WatchRow("answer", "replied", "twilio.sms_received", "phone=1", None, _AT_MS)],
            intent=EffectRow("k1", R1, "s", "twilio.send_sms", "sms", "intended", "t", {"input": {"body": "Hi"}}, 1, _AT_MS),
        )  # fmt: skip
        ends = Advance(
            run_id=R2, epoch=0, at_ms=_AT_MS, seq=0, status="done", position=None, ctx={}, reason="all steps done",
            finished=True, ended_by="done", steps=[StepRow("s", "steps/0", "if", "true", "total is 50.00 EUR")],
        )  # fmt: skip
        await runs.advance(c, [waits, ends])
        sent = EffectResult("k1", "t", "twilio.send_sms", "done", "done", "queued at Twilio", {"sid": "SM1"}, _AT_MS)
        await runs.advance(
            c, [Advance(run_id=R1, epoch=-1, at_ms=_AT_MS, seq=1, status="", position=None, ctx={}, result=sent)]
        )
        await deliveries.count_refusals(
            c, [deliveries.Refusal("shopify", "ab12", "bad signature", 29_460_060, 3, "[]")]
        )
    return Known(who, new.id, R1, R2)


def test_runs_are_listed_newest_first_by_what_is_asked(cli: Cli, known: Known) -> None:
    assert [r["id"] for r in cli.json("runs", "list")] == [R2, R1]
    assert [r["id"] for r in cli.json("runs", "list", "--status", "waiting")] == [R1]
    assert [r["id"] for r in cli.json("runs", "list", "--before", R2)] == [R1]
    assert [r["id"] for r in cli.json("runs", "list", "--contact", "ada@example.com")] == [R2, R1]
    assert "there is no recipe other" in (unknown := cli("runs", "list", "--recipe", "other")).stderr
    assert unknown.exit_code == 3
    assert cli("runs", "list", "--status", "wating").exit_code == 2
    assert f"--before {R2}" in cli("runs", "list", "--limit", "1").stderr


@pytest.mark.parametrize("command", [("runs", "list"), ("events", "list"), ("deliveries",), ("contacts", "list")])
def test_a_place_to_go_on_from_that_is_no_id_is_refused(cli: Cli, command: tuple[str, ...]) -> None:
    refused = cli(*command, "--before", "garbage")
    assert refused.exit_code == 2
    assert "'garbage' is no id; give the last one of the page before" in " ".join(refused.stderr.split())
    # an id of something that was removed meanwhile is as good as any
    assert cli(*command, "--before", R1).exit_code == 0


def test_a_run_tells_every_reason_effect_and_wait(cli: Cli, known: Known) -> None:
    found = cli.json("runs", "show", known.waiting)
    assert [s["reason"] for s in found["steps"]] == ["sent"]
    assert [(e["state"], e["output"]) for e in found["effects"]] == [("done", {"sid": "SM1"})]
    assert found["waits_for"] == [{"kind": "answer", "name": "replied", "event": "twilio.sms_received"}]

    text = " ".join(cli("runs", "show", known.waiting).stdout.split())
    for part in (
        "waits for twilio.sms_received until its timeout",
        "queued at Twilio",
        "body=Hi",
        "2026-01-06 09:00:00",
    ):
        assert part in text
    # a step is named alike wherever it stands, and its place has a title of its own
    assert "at (UTC) step place kind outcome reason 2026-01-05 09:00:00 s steps/0 do done sent" in text
    assert "step action connection state tries reason asked for s twilio.send_sms" in text


def test_an_exit_that_a_run_waits_for_is_told_by_its_place(cli: Cli, known: Known) -> None:
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as database, database:
        database.execute("update waiter set kind = 'exit', name = '0' where run_id = ?", (known.waiting,))
    text = " ".join(cli("runs", "show", known.waiting).stdout.split())
    assert "exit exit_on/0 twilio.sms_received" in text


def test_what_a_vendor_answered_stands_beside_the_reason(cli: Cli, known: Known) -> None:
    asyncio.run(_refuse(cli.data_dir))
    [effect] = cli.json("runs", "show", known.waiting)["effects"]
    assert (effect["http_status"], effect["code"], effect["output"]) == (404, "list_missing", None)
    text = " ".join(cli("runs", "show", known.waiting).stdout.split())
    assert "the list is gone (HTTP 404, code" in text
    assert "list_missing)" in text


async def _refuse(data_dir: Path) -> None:
    why = refusal(NotFound(status=404, code="list_missing"))
    no = EffectResult("k1", "t", "twilio.send_sms", "failed", "failed", "the list is gone", why, _AT_MS)
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await runs.advance(
            c, [Advance(run_id=R1, epoch=-1, at_ms=_AT_MS, seq=1, status="", position=None, ctx={}, result=no)]
        )


def test_a_run_is_cancelled_once_and_a_finished_one_never(cli: Cli, known: Known) -> None:
    assert cli("runs", "cancel", known.waiting).exit_code == 0
    assert cli.json("runs", "show", known.waiting)["waits_for"] == []
    refused = cli("runs", "cancel", known.done)
    assert refused.exit_code == 1
    assert "ended already, by done" in refused.stderr
    assert cli("runs", "cancel", "r9").exit_code == 3


def test_events_are_listed_and_shown_with_what_they_started(cli: Cli, known: Known) -> None:
    assert [e["id"] for e in cli.json("events", "list", "--type", "shopify.order_paid", "--stage", "routed")] == [
        known.event
    ]
    assert cli.json("events", "list", "--stage", "quarantined") == []
    # A type that has not come yet is no mistake, one that nothing has is.
    assert cli.json("events", "list", "--type", "shopify.checkout_abandoned") == []
    assert cli.json("events", "list", "--type", "shopify.order_paid", "--stage", "quarantined") == []
    unknown = cli("events", "list", "--type", "shopify.order_payed")
    assert unknown.exit_code == 3
    assert "there is no event type shopify.order_payed; did you mean shopify.order_paid?" in unknown.stderr
    assert [r["id"] for r in cli.json("events", "show", known.event)["started"]] == [R1, R2]
    text = cli("events", "show", known.event).stdout
    assert known.contact in text
    assert "[bold]#1[/bold]" in text


def test_deliveries_are_listed_as_stored_and_as_refused(cli: Cli, known: Known) -> None:
    assert [d["state"] for d in cli.json("deliveries")] == ["unrecognised", "accepted"]
    assert [d["note"] for d in cli.json("deliveries", "--state", "unrecognised")] == ["no trigger"]
    assert [(r["reason"], r["count"]) for r in cli.json("deliveries", "--refused")] == [("bad signature", 3)]
    assert "bad signature" in cli("deliveries", "--refused").stdout
    assert cli("deliveries", "--refused", "--state", "accepted").exit_code == 2


def test_calls_that_were_refused_tell_whose_address_it_was_and_what_to_do(cli: Cli, known: Known) -> None:
    asyncio.run(_refuse_at_ours(cli.data_dir))
    told = {r["app"]: r["remedy"] for r in cli.json("deliveries", "--refused")}
    assert told["our-app"] == "compare address and secrets with the vendor's settings: `hub apps show our-app`"
    assert "take the address out of the vendor's settings" in told[None]
    shown = cli("deliveries", "--refused")
    assert "app our-app" in shown.stdout
    assert "nobody's: ab12" in shown.stdout
    assert "app our-app: compare address and secrets" in shown.stderr
    assert "shopify, nobody's: ab12: take the address out" in shown.stderr


async def _refuse_at_ours(data_dir: Path) -> None:
    row = {"id": "a1", "connector": "shopify", "name": "our-app", "inbound_key": "k", "secret": b"", "key_id": "x"}
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await connections.add_app(c, settings={}, created_at=_AT_MS, **row)
        ours = deliveries.Refusal("shopify", key_hash("k"), "bad signature", 29_460_061, 1, "[]")
        await deliveries.count_refusals(c, [ours])


@pytest.mark.parametrize("name", ["ADA@example.com", "+1 415 555 0100", "id"])
def test_a_contact_is_found_by_any_of_its_names(cli: Cli, known: Known, name: str) -> None:
    found = cli.json("contacts", "show", known.contact if name == "id" else name)
    assert found["id"] == known.contact
    assert [r["id"] for r in found["runs"]] == [R2, R1]


def test_what_vendors_send_cannot_steer_the_terminal(cli: Cli, known: Known) -> None:
    text = cli("contacts", "show", known.contact).stdout
    assert "Ada" in text
    assert "\x1b" not in text


def test_tables_stay_within_a_hundred_columns_with_ids_in_one_piece(cli: Cli, known: Known) -> None:
    for command in (["runs", "list"], ["events", "list"], ["deliveries"], ["runs", "show", R1], ["settings"]):
        assert max(map(len, cli(*command).stdout.splitlines())) <= 100
    assert known.event in cli("events", "list").stdout
