"""Erasing: a planted person, whom nothing is left of anywhere afterwards, and who is not brought back by anybody else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hub import seams
from hub.clock import parse_time_ms
from hub.connector import sandbox_secret
from hub.errors import NotThere, StoreUnavailable
from hub.store import contacts, erasures, views
from hub.store.events import Incoming
from hub.store.runs import Lease
from tests import guestbook
from tests.conftest import Running, until
from tests.integration.conftest import Start
from tests.planted import (
    BODY,
    DAY,
    DONE,
    EMAIL,
    GUEST,
    NAMES,
    PENDING,
    PERSON,
    PHONE,
    WAITING,
    ended,
    erase,
    left_in,
    person,
    plant,
    tell,
    until_done,
)


async def test_nothing_is_left_of_somebody_who_was_erased(
    erasing: Start, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with erasing(database_url) as it:
        # given somebody of whom much is known, in many places
        await plant(it)
        before = {table for table, _, _ in await left_in(it.hub.store)}
        assert before >= {"event", "event_key", "delivery", "run", "effect", "waiter", "contact", "identity", "consent"}
        assert before >= {"dedupe", "entry", "verdict", "work"}
        async with it.hub.store.read() as c:
            counted = {t: (await c.all(f"select count(*) as n from {t}"))[0]["n"] for t in ("event", "run", "effect")}
        # when they are erased
        record = await erase(it, reason=f"{EMAIL} wrote to us")
        # then no table knows them
        assert await left_in(it.hub.store) == []
        assert record["reason"] == "(erased) wrote to us"
        assert json.loads(record["counts"])["runs"] >= 3
        # what happened is still counted, and whoever mentioned them keeps the rest of what they said
        async with it.hub.store.read() as c:
            after = {t: (await c.all(f"select count(*) as n from {t}"))[0]["n"] for t in ("event", "run", "effect")}
            [kept] = await c.all("select data from event where data like '%friend@example.org%'")
        assert after == counted
        assert "for (erased)" in kept["data"]
        # and no message leaves any more, however long it was waited for
        sent = len(it.sandbox.log)
        await it.advance(40 * DAY)
        assert len(it.sandbox.log) == sent
        assert await left_in(it.hub.store) == []
    assert [word for word in (EMAIL, PHONE, *NAMES, BODY) if word in caplog.text] == []


async def test_a_second_erasure_of_the_same_person_finds_nobody(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await it.deliver("signed_up", {"id": "s", **PERSON})
        await it.rest()
        known = await person(it)
        await erase(it)
        with pytest.raises(NotThere):
            await it.hub.erasing.erase(known, reason="again", who="tester")
        with pytest.raises(NotThere):
            await person(it)


async def test_a_vendor_has_somebody_erased_by_an_event(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await plant(it)
        # when their vendor passes on that they want to be erased
        await tell(it, "erase_me", {"id": "e1", **PERSON, "guest": GUEST, "text": BODY})
        await it.rest()
        [row] = await records(it)
        done = await ended(it, row["id"])
        # then they are, and so is what the event said of them
        assert await left_in(it.hub.store) == []
        assert (done["kind"], done["who"], done["note"]) == ("person", "guestbook.erase_me", None)
        async with it.hub.store.read() as c:
            [event] = await c.all("select id, stage from event where type = 'guestbook.erase_me'")
        assert (event["stage"], event["id"]) == ("erased", done["event_id"])
        # and the vendor has forgotten them by everything that it may know them by
        asked = [entry.data for entry in it.more["guestbook"].log]
        assert asked == [{"guest": GUEST, "email": EMAIL, "phone": PHONE}]
        assert (done["asked"], done["forgot"]) == (1, 1)


async def records(it: Running) -> list[Any]:
    async with it.hub.store.read() as c:
        return await erasures.listed(c)


async def test_of_somebody_unknown_only_the_request_itself_is_erased(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await tell(it, "erase_me", {"id": "e1", **PERSON, "guest": GUEST})
        await it.rest()
        [row] = await records(it)
        done = await ended(it, row["id"])
        assert done["note"] == "nobody was known"
        assert await left_in(it.hub.store) == []
        async with it.hub.store.read() as c:
            assert await views.list_contacts(c) == []


async def test_an_address_of_somebody_else_in_the_request_stays_theirs(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        # given somebody whose vendor names a number that is known as another person's
        friend = {"email": "friend@example.org", "phone": PHONE, "at": "2026-01-02T10:00:00Z"}
        await it.deliver("signed_up", {"id": "f1", **friend, "sms_ok": True})
        await it.rest()
        await tell(it, "signed", {"id": "g1", "email": EMAIL, "guest": GUEST})
        await it.rest()
        await tell(it, "erase_me", {"id": "e1", **PERSON, "guest": GUEST})
        await it.rest()
        [row] = await records(it)
        await ended(it, row["id"])
        # then the other person is as they were, also for what comes late
        await it.deliver("clicked", {"id": "f2", **friend})
        await it.rest()
        async with it.hub.store.read() as c:
            shown = await views.show_contact(c, await views.find_contact(c, PHONE))
            kept = [
                json.loads(row["data"])["phone"]
                for row in await c.all("select data from event where type like 'acme.%'")
            ]
        assert {i["value"] for i in shown["identities"]} == {"friend@example.org", PHONE}
        assert [s["state"] for s in shown["consent"]] == ["granted"]
        assert kept == [PHONE, PHONE]
        assert await left_in(it.hub.store, [EMAIL, GUEST]) == []


async def test_an_erasure_is_done_where_the_account_is_not_connected_any_more(
    erasing: Start, database_url: str
) -> None:
    async with erasing(database_url) as it:
        await it.deliver("signed_up", {"id": "s", **PERSON})
        await it.hub.connections.add_app("guestbook", "desk", {"webhook_secret": secret_of("gone")})
        await it.rest()
        app = next(app for app in await it.hub.connections.apps() if app.name == "desk")
        raw, headers = guestbook.delivered("erase_me", {"id": "e", **PERSON}, account="gone", delivery="e")
        await it.hub.ingest.receive("guestbook", app.inbound_key, method="POST", query="", headers=headers, body=raw)
        await it.rest()
        [row] = await records(it)
        await ended(it, row["id"])
        assert await left_in(it.hub.store) == []


def secret_of(account: str) -> str:
    return sandbox_secret("guestbook", account, "webhook_secret")


# -- coming back -------------------------------------------------------------------------------------------------------


async def test_the_same_fact_again_brings_nothing_back(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        entry = {"id": "g1", **PERSON, "guest": GUEST, "text": BODY, "letters": "granted"}
        await tell(it, "signed", entry, delivery="first")
        await it.deliver("signed_up", {"id": "s1", **PERSON}, delivery="d1")
        await it.rest()
        await erase(it)
        # when both vendors send again what they sent, under the same and under other ids
        for delivery in ("first", "second"):
            assert await tell(it, "signed", entry, delivery=delivery) == 200
        for delivery in ("d1", "d2"):
            await it.deliver("signed_up", {"id": "s1", **PERSON}, delivery=delivery)
        await it.rest()
        # then nothing of it is kept
        assert await left_in(it.hub.store) == []
        async with it.hub.store.read() as c:
            assert len(await c.all("select id from event")) == 2


async def test_what_happened_before_is_not_taken_from_a_sync_or_a_spool(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await it.publish(DONE)
        await it.deliver("signed_up", {"id": "s1", **PERSON})
        await it.rest()
        # given a call that waits in the spool of some machine
        late = await kept(it, "signed_up", {"id": "s2", **PERSON, "sms_ok": True})
        await erase(it)
        sent = len(it.sandbox.log)
        # when it is replayed, a poll finds what they bought once, and a vendor tells of old times
        await it.hub.ingest.store_kept([late])
        it.sandbox.purchases = [{"id": "p9", **PERSON, "at": "2026-01-05T10:00:00Z"}]
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 0, data = null where kind = 'poll'")
        await tell(it, "signed", {"id": "g7", **PERSON, "guest": "other-7", "at": "2025-06-01T10:00:00Z"})
        await it.rest()
        # then nobody is known, nothing is kept, and nothing was sent
        assert await left_in(it.hub.store) == []
        async with it.hub.store.read() as c:
            assert await views.list_contacts(c) == []
            assert await c.all("select id from event where stage not in ('erased', 'routed')") == []
        assert len(it.sandbox.log) == sent


async def kept(it: Running, topic: str, body: Any) -> Incoming:
    """A delivery as the spool keeps it."""
    kept: list[Incoming] = []

    async def keep(incoming: Incoming) -> None:
        kept.append(incoming)

    door = it.hub.ingest
    whole, door._store_it = door._store_it, keep  # type: ignore[assignment, method-assign]  # the door's way to the store
    try:
        await it.deliver(topic, body)
    finally:
        door._store_it = whole  # type: ignore[method-assign]
    return kept[0]


async def test_who_comes_back_is_somebody_new_and_has_agreed_to_nothing(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await it.publish(MARKETING)
        await it.deliver("signed_up", {"id": "s1", **PERSON, "sms_ok": True})
        await it.rest()
        before = await person(it)
        assert [entry.operation for entry in it.sandbox.log] == ["send_text"]
        await erase(it)
        # when they sign up anew without a word on messages
        await it.deliver("signed_up", {"id": "s2", **PERSON})
        await it.rest()
        # then they are somebody new, of whom nothing older is known, and whom nothing is sent
        now = await person(it)
        assert now != before
        async with it.hub.store.read() as c:
            shown = await views.show_contact(c, now)
        assert [moment["what"] for moment in shown["timeline"]].count("event") == 1
        assert {(s["state"], s["reason"]) for s in shown["consent"] if s["channel"] == "sms"} == {
            ("granted", "ticked the box"),
            ("revoked", "erasure"),
        }
        assert len(it.sandbox.log) == 1
        # but when they agree anew
        await it.advance(1000)
        await it.deliver("signed_up", {"id": "s3", **PERSON, "sms_ok": True})
        await it.rest()
        assert len(it.sandbox.log) == 2


async def test_who_had_said_stop_is_not_written_to_after_an_erasure_either(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await it.publish(MARKETING)
        await it.deliver("clicked", {"id": "k", **PERSON, "stop": True})
        await it.rest()
        await erase(it)
        await it.advance(1000)
        await it.deliver("signed_up", {"id": "s3", **PERSON, "sms_ok": True})
        await it.rest()
        [run] = await it.runs()
        assert run["effects"] == [] or run["effects"][0]["reason"] == "suppressed: stop"
        assert it.sandbox.log == []


MARKETING = """
recipe: marketing
on: {event: acme.signed_up}
steps:
  - {do: acme.send_text, purpose: cart, with: {to: "{{ trigger.phone }}", body: "hello"}}
"""


# -- in the midst of work ----------------------------------------------------------------------------------------------


async def test_a_run_in_hand_stops_at_its_next_gate(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        # given a run whose first call its vendor is still thinking about
        await it.publish(DONE)
        it.sandbox.hold = asyncio.Event()
        await it.deliver("signed_up", {"id": "s1", **PERSON, "words": [BODY]})
        await until(lambda: it.sandbox.arrived > 0)
        # when its person is erased, and the vendor answers
        done = await it.hub.erasing.erase(await person(it), reason="they asked", who="tester")
        it.hub.ring()
        await asyncio.sleep(0.3)
        it.sandbox.hold.set()
        await ended(it, done["id"])
        # then that call was the last one
        await it.advance(DAY)
        assert [entry.operation for entry in it.sandbox.log] == ["put_note"]
        [run] = await it.runs()
        assert (run["status"], run["ended_by"]) == ("cancelled", "cancelled")
        assert await left_in(it.hub.store) == []


async def test_whoever_does_not_let_go_of_a_run_is_cut_off(erasing: Start, database_url: str) -> None:
    async with erasing(database_url, lease_s=3.0) as it:
        # given a run that a process has in hand which stands still, and keeps its lease for long
        await it.publish(PENDING)
        await it.deliver("signed_up", {"id": "s1", **PERSON})
        await it.rest()
        async with it.hub.store.write() as c:
            await c.run("update work set owner = 'w-frozen', due_at = due_at + 86400000 where kind = 'run'")
        done = await it.hub.erasing.erase(await person(it), reason="they asked", who="tester")
        it.hub.ring()
        await ended(it, done["id"])
        assert await left_in(it.hub.store) == []
        async with it.hub.store.read() as c:
            assert (
                await c.all(
                    "select ref from work where kind = 'run' and ref in (select id from run where reason = 'erased')"
                )
                == []
            )


async def test_what_comes_in_while_somebody_is_erased_is_nobodys_or_somebody_news(
    erasing: Start, database_url: str
) -> None:
    async with erasing(database_url) as it:
        await it.publish(PENDING)
        await it.publish(WAITING)
        for n in range(12):
            await it.deliver("signed_up", {"id": f"s{n}", **PERSON})
            await it.rest()
            # when they are erased while things happen to them, of before and of now
            old = {"email": EMAIL, "at": "2026-01-02T10:00:00Z"}
            order = it.hub.erasing.erase(await person(it), reason="they asked", who="tester")
            await asyncio.gather(
                order,
                *(it.deliver("clicked", {"id": f"k{n}-{m}", "email": EMAIL, "phone": PHONE}) for m in range(4)),
                *(it.deliver("clicked", {"id": f"o{n}-{m}", **old}) for m in range(4)),
            )
            it.hub.ring()
            await it.rest()
            # then nothing hangs on somebody who is not there
            async with it.hub.store.read() as c:
                for table in ("identity", "run", "event", "message", "verdict"):
                    lost = f"select * from {table} where contact_id is not null and contact_id not in (select id from contact)"
                    assert await c.all(lost) == [], (n, table)
                assert await c.all("select ref from work where kind = 'run' and ref not in (select id from run)") == []


@pytest.mark.parametrize("place", ["erase.commit", "erase.committed"])
@pytest.mark.parametrize("nth", [1, 2, 4, 9])
async def test_an_erasure_that_is_cut_off_goes_on(
    erasing: Start, database_url: str, place: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with erasing(database_url, lease_s=3.0) as it:
        await plant(it)
        passed = 0

        def fail(at: str) -> None:
            nonlocal passed
            passed += at == place
            if at == place and passed == nth:
                raise StoreUnavailable("cut off")

        # given a process that is cut off in the middle, once
        monkeypatch.setattr(seams, "_at", fail)
        await erase(it)
        assert passed > nth
        assert await left_in(it.hub.store) == []


# -- an account --------------------------------------------------------------------------------------------------------


async def test_everybody_known_through_an_account_only_is_erased_with_it(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        # given people of one vendor, one of whom another vendor knows as well
        crowd = [f"crowd-{n}@example.org" for n in range(120)]
        for n, email in enumerate(crowd):
            await tell(it, "signed", {"id": f"g{n}", "guest": f"guest-{n}x", "email": email, "text": BODY})
        await it.rest()
        await it.deliver("signed_up", {"id": "s", "email": crowd[0]})
        await it.deliver("signed_up", {"id": "t", "email": "friend@example.org"})
        await it.rest()
        # when the account is closed
        await tell(it, "closed", {"id": "c1"})
        await it.rest()
        [row] = await records(it)
        done = await ended(it, row["id"])
        # then all others of its people are gone
        async with it.hub.store.read() as c:
            left = {one["email"] for one in await views.list_contacts(c, most=200)}
        assert left == {crowd[0], "friend@example.org"}
        assert await left_in(it.hub.store, [*crowd[1:], "guest-7x"]) == []
        assert (done["kind"], json.loads(done["counts"])["people"], done["note"]) == ("account", 119, None)
        assert (done["asked"], done["forgot"]) == (119, 119)
        assert len(it.more["guestbook"].log) == 119


# -- vendors that forget -----------------------------------------------------------------------------------------------


async def test_who_withdraws_a_consent_is_forgotten_once(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        guest = {"guest": GUEST, "email": EMAIL}
        await tell(it, "signed", {"id": "1", **guest, "letters": "granted", "at": "2026-02-01T10:00:00Z"})
        await it.rest()
        log = it.more["guestbook"].log
        assert log == []
        # when they withdraw, and their vendor says so twice
        await tell(it, "signed", {"id": "2", **guest, "letters": "revoked", "at": "2026-02-02T10:00:00Z"})
        await it.rest()
        await tell(it, "signed", {"id": "3", **guest, "letters": "revoked", "at": "2026-02-03T10:00:00Z"})
        await it.rest()
        # then they are forgotten once, and their timeline tells
        assert [entry.data for entry in log] == [{"guest": GUEST, "email": EMAIL, "phone": None}]
        async with it.hub.store.read() as c:
            shown = await views.show_contact(c, await person(it))
        assert [m["reason"] for m in shown["timeline"] if m["what"] == "forget"] == ["done", "asked"]
        # and again only when they have agreed in between
        await tell(it, "signed", {"id": "4", **guest, "letters": "granted", "at": "2026-02-04T10:00:00Z"})
        await tell(it, "signed", {"id": "5", **guest, "letters": "revoked", "at": "2026-02-05T10:00:00Z"})
        await it.rest()
        assert len(log) == 2


async def test_an_old_withdrawal_says_nothing_against_a_newer_consent(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        guest = {"guest": GUEST, "email": EMAIL}
        await tell(it, "signed", {"id": "1", **guest, "letters": "granted", "at": "2026-02-01T10:00:00Z"})
        await it.rest()
        await tell(it, "signed", {"id": "2", **guest, "letters": "revoked", "at": "2025-02-02T10:00:00Z"})
        await it.rest()
        assert it.more["guestbook"].log == []


@pytest.mark.parametrize(("other", "forgotten"), [("granted", 1), ("revoked", 0)])
async def test_what_is_said_of_receipts_says_nothing_about_marketing(
    erasing: Start, database_url: str, other: str, forgotten: int
) -> None:
    async with erasing(database_url, work=False) as it:
        guest = {"guest": GUEST, "email": EMAIL}
        await it.hub.library.apply_purposes("receipts: {channel: email, class: transactional}")
        await tell(it, "signed", {"id": "1", **guest, "letters": "granted", "at": "2026-02-01T10:00:00Z"})
        await it.hub.pump.settle()
        # given a withdrawal of marketing that stands, or was taken back before its vendor was told
        await tell(it, "signed", {"id": "2", **guest, "letters": "revoked", "at": "2026-02-02T10:00:00Z"})
        await it.hub.pump._router.route(Lease("nobody", it.hub.clock.now_ms(), 1))
        if not forgotten:
            await tell(it, "signed", {"id": "3", **guest, "letters": "granted", "at": "2026-02-03T10:00:00Z"})
            await it.hub.pump._router.route(Lease("nobody", it.hub.clock.now_ms(), 1))
        # and a newer word about messages that are no marketing
        async with it.hub.store.write() as c:
            await c.run(
                "insert into consent (id, channel, address, purpose, state, reason, source, event_id, at) "
                "values ('c-9', 'email', :email, 'receipts', :state, 'by hand', 'test', null, :at)",
                email=EMAIL.lower(),
                state=other,
                at=parse_time_ms("2026-02-05T10:00:00Z"),
            )
        await it.hub.pump.settle()
        assert len(it.more["guestbook"].log) == forgotten


async def test_what_a_vendor_repeats_counts_as_of_when_it_was_said(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        # given a vendor that tells with every change what somebody said once, and somebody who left elsewhere since
        guest, said = {"guest": GUEST, "email": EMAIL}, "2026-01-01T10:00:00Z"
        once = {**guest, "letters": "granted", "letters_at": said}
        await tell(it, "signed", {"id": "1", **once, "at": said})
        await tell(it, "signed", {"id": "2", **guest, "letters": "revoked", "at": "2026-02-02T10:00:00Z"})
        await it.rest()
        assert len(it.more["guestbook"].log) == 1
        # when the vendor tells of another change
        await tell(it, "signed", {"id": "3", **once, "at": "2026-03-03T10:00:00Z"})
        await it.rest()
        # then what they said last stands
        async with it.hub.store.read() as c:
            ledger = await contacts.ledger(c, [("email", EMAIL)])
        assert [row["state"] for row in ledger["email", EMAIL]] == ["granted", "granted", "revoked"]
        # and a withdrawal that is repeated by every change is one
        left = {**guest, "letters": "revoked", "letters_at": "2026-02-05T10:00:00Z"}
        await tell(it, "signed", {"id": "4", **guest, "letters": "granted", "at": "2026-02-04T10:00:00Z"})
        for n in range(5, 8):
            await tell(it, "signed", {"id": str(n), **left, "at": f"2026-03-0{n}T10:00:00Z"})
            await it.rest()
        assert len(it.more["guestbook"].log) == 2


async def test_a_vendor_that_fails_is_told_again(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        sandbox = it.more["guestbook"]
        await tell(it, "signed", {"id": "1", "guest": GUEST, "email": EMAIL})
        await it.rest()
        sandbox.fail_next = 2
        done = await it.hub.erasing.erase(await person(it), reason="they asked", who="tester")
        it.hub.ring()
        # given a vendor that cannot: what is stored goes all the same, and who is to be forgotten is sealed
        await until_done(it, done["id"])
        assert (await record(it, done["id"]))["forgot"] == 0
        assert await left_in(it.hub.store) == []
        # when it can again
        await it.advance(3_600_000)
        assert (await record(it, done["id"]))["forgot"] == 1
        assert [entry.data["email"] for entry in sandbox.log] == [EMAIL]


@pytest.mark.parametrize("why", ["erased", "withdrew"])
async def test_a_vendor_that_refuses_the_credentials_is_told_when_it_is_authorised_again(
    erasing: Start, database_url: str, why: str
) -> None:
    async with erasing(database_url) as it:
        sandbox, guest = it.more["guestbook"], {"guest": GUEST, "email": EMAIL}
        await tell(it, "signed", {"id": "1", **guest, "letters": "granted", "at": "2026-02-01T10:00:00Z"})
        await it.rest()
        # given a vendor that does not know our token any more
        sandbox.known = False
        if why == "erased":
            done = await it.hub.erasing.erase(await person(it), reason="they asked", who="tester")
            it.hub.ring()
            await until_done(it, done["id"])
        else:
            await tell(it, "signed", {"id": "2", **guest, "letters": "revoked", "at": "2026-02-02T10:00:00Z"})
        await it.advance(DAY)
        # then it waits for a new authorisation, however long that takes, and everybody is told
        connection = await it.hub.connections.by_name("guestbook")
        assert connection.health == "needs re-authorisation"
        assert (await _to_tell(it), sandbox.log) == ([("connection:guestbook", 0)], [])
        if why == "erased":
            assert (await record(it, done["id"]))["forgot"] == 0
            assert await left_in(it.hub.store) == []
        # and when it is authorised again, it is told, once
        sandbox.known = True
        connector = it.hub.connections.connector("guestbook")
        fields = await it.hub.connections.fields(connection)
        await it.hub.connections.replace(connection, connector, connector.auth[0], connection.account, fields)
        await it.advance(5_000)
        assert [entry.data["email"] for entry in sandbox.log] == [EMAIL]
        assert await _to_tell(it) == []
        if why == "erased":
            assert (await record(it, done["id"]))["forgot"] == 1


async def _to_tell(it: Running) -> list[tuple[str, int]]:
    """What vendors are still to be told: what each waits for, and how often it was tried."""
    async with it.hub.store.read() as c:
        rows = await c.all("select parked_on, attempts from work where kind = 'forget'")
    return [(row["parked_on"], row["attempts"]) for row in rows]


async def record(it: Running, id_: str) -> Any:
    async with it.hub.store.read() as c:
        return await erasures.get(c, id_)
