"""Merging people: one person from then on, as if they had always been one, and two again when it is undone."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import Identity, exporting, replays
from hub.api.app import make_app
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.clock import Clock
from hub.errors import ConfigError, NotThere
from hub.merging import Merging
from hub.process import open_store
from hub.settings import load_settings
from hub.store import contacts, erasures, migrate, schema, views
from hub.store.session import Store
from tests.conftest import Running, until
from tests.integration.conftest import Cli, Process, Start
from tests.planted import left_in, until_done

KEPT, OTHER, OTHER_PHONE = "ada@example.com", "a.lovelace@example.org", "+14155550170"
HOUR, DAY = 3_600_000, 24 * 3_600_000

JOURNEY = """
recipe: journey
on: {event: acme.signed_up}
entry: {per: contact, at_most: 1, within: 30d}
exit_on: [{event: acme.purchased}]
steps:
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 7d
    clicked:
      - {do: acme.put_note, with: {key: "{{ trigger.id }}:clicked"}}
  - {do: acme.send_text, purpose: orders, with: {to: "+14155550199", body: "{{ trigger.id }}:text"}}
"""


async def sign_up(it: Running, id_: str, email: str, **more: Any) -> None:
    await it.deliver("signed_up", {"id": id_, "email": email, **more})
    await it.rest()


async def who(it: Running, name: str) -> str:
    async with it.hub.store.read() as c:
        return await views.find_contact(c, name)


async def merge(it: Running, kept: str = KEPT, other: str = OTHER) -> Any:
    done = await it.hub.merging.merge(await who(it, kept), await who(it, other), who="tester")
    it.hub.ring()
    return done


async def shown(it: Running, name: str) -> Any:
    async with it.hub.store.read() as c:
        return await views.show_contact(c, await views.find_contact(c, name))


async def whole(it: Running) -> dict[str, Any]:
    """Every row of every table that is about people, in order."""
    found = {}
    async with it.hub.store.read() as c:
        for table in schema.metadata.sorted_tables:
            if table.name not in {"contact_merge", "process", "meta", "dedupe", "delivery"}:
                # Of work only what runs have: upkeep has its own times.
                only = "where kind = 'run'" if table.name == "work" else ""
                rows = [dict(row) for row in await c.all(f"select * from {table.name} {only}")]
                found[table.name] = sorted(rows, key=str)
    return found


def texts(it: Running) -> list[str]:
    return [entry.data["body"] for entry in it.sandbox.log if entry.operation == "send_text"]


async def test_a_merge_during_a_wait_leaves_one_run_and_one_message(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given one person who signed up under two addresses, and waits twice
        await it.publish(JOURNEY)
        await sign_up(it, "first", KEPT)
        await sign_up(it, "second", OTHER)
        # when the two are merged
        done = await merge(it)
        await it.rest()
        # then the younger run has ended, and says why
        first, second = await it.runs()
        assert list(done.ended) == [second["id"]]
        assert (first["finished_at"], second["status"], second["ended_by"]) == (None, "cancelled", "cancelled")
        assert second["reason"] == "merged: as one person they have entered the recipe as often as it lets them"
        # and when the other's address clicks, the kept one's wait is answered
        await it.deliver("clicked", {"id": "click", "email": OTHER})
        await it.advance(8 * DAY)
        assert texts(it) == ["first:text"]
        assert [e.data["key"] for e in it.sandbox.log if e.operation == "put_note"] == ["first:clicked"]


async def test_what_waits_of_the_other_is_woken_by_what_the_kept_one_did_before_and_does_later(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given an other who waits since before the kept one clicked, and one whose exit the kept one has met
        await it.publish(JOURNEY)
        await sign_up(it, "second", OTHER)
        await sign_up(it, "third", "third@example.com")
        await it.deliver("clicked", {"id": "before", "email": KEPT})
        await it.rest()
        started = len(await it.runs())
        # when they are merged, then the click of before answers, once
        await merge(it)
        await it.advance(8 * DAY)
        [second, _] = await it.runs()
        assert (second["status"], second["contact"]) == ("done", await who(it, KEPT))
        assert texts(it) == ["second:text", "third:text"]
        assert [e.data["key"] for e in it.sandbox.log if e.operation == "put_note"] == ["second:clicked"]
        # and nothing started by the merge itself
        assert len(await it.runs()) == started


async def test_an_exit_that_the_other_has_met_ends_the_kept_ones_run(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(JOURNEY)
        await sign_up(it, "first", KEPT)
        await it.deliver("purchased", {"id": "buy", "email": OTHER})
        await it.rest()
        await merge(it)
        await it.advance(8 * DAY)
        [run] = await it.runs()
        assert (run["ended_by"], texts(it)) == ("acme.purchased", [])


async def test_what_the_other_is_known_by_leads_to_the_kept_one_and_what_is_known_unites(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given an other who was there first, and knows some of it better
        await it.deliver("carted", {"id": "c1", "email": OTHER, "phone": OTHER_PHONE, "first_name": "Augusta"})
        await it.deliver("carted", {"id": "c2", "email": KEPT, "first_name": "Ada"})
        await it.rest()
        kept, other = await who(it, KEPT), await who(it, OTHER)
        async with it.hub.store.write() as c:
            await contacts.change(c, kept, [("tags", "add", ["vip"]), ("attributes.size", "set", 1)])
            given = [("tags", "add", ["new", "vip"]), ("attributes.size", "set", 2), ("attributes.shoe", "set", 43)]
            await contacts.change(c, other, [*given, ("language", "set", "tr")])
        # when
        done = await merge(it)
        # then everything is the kept one's, whose own word counts
        person = await shown(it, OTHER)
        assert person["id"] == kept == (await shown(it, other))["id"]
        assert (person["email"], person["phone"], person["first_name"], person["language"]) == (
            KEPT,
            OTHER_PHONE,
            "Ada",
            "tr",
        )
        assert (person["tags"], person["attributes"]) == (["vip", "new"], {"size": 1, "shoe": 43})
        assert {i["value"] for i in person["identities"]} == {KEPT, OTHER, OTHER_PHONE}
        assert {m["id"] for m in person["timeline"] if m["what"] == "event"} == {
            row["id"] for row in await rows(it, "select id from event where type = 'acme.carted'")
        }
        # whoever asks what is known of them is told also what the merge has put aside
        [kept_of_it] = (await exporting.gather(it.hub.store, it.hub.clock, kept))["contact"]["merges"]
        assert (kept_of_it["other_was"]["first_name"], kept_of_it["other_was"]["attributes"]["size"]) == ("Augusta", 2)
        # and the timeline tells of it
        [moment] = [m for m in person["timeline"] if m["what"] == "merged"]
        assert (moment["id"], moment["about"], moment["reason"]) == (done.id, f"{other} into {kept}", "by tester")
        # and so is what comes later
        await it.deliver("carted", {"id": "c3", "email": OTHER})
        await it.deliver("carted", {"id": "c4", "phone": OTHER_PHONE})
        await it.rest()
        assert await rows(it, "select distinct contact_id from event") == [{"contact_id": kept}]
        assert len(await rows(it, "select id from contact")) == 1


async def rows(it: Running, statement: str, **given: Any) -> list[dict[str, Any]]:
    async with it.hub.store.read() as c:
        return [dict(row) for row in await c.all(statement, **given)]


RULES = {
    "ignore": ("{per: contact, at_most: 9, within: 30d}", {"first": "goes on", "second": "ended"}),
    "restart": (
        "{per: contact, at_most: 9, within: 30d, while_inside: restart}",
        {"first": "ended", "second": "goes on"},
    ),
    "parallel": ("{per: contact, at_most: 9, within: 30d, while_inside: parallel}", {}),
    "once": (
        "{per: contact, at_most: 1, within: ever, while_inside: parallel}",
        {"first": "goes on", "second": "ended"},
    ),
    "twice in an hour": ("{per: contact, at_most: 1, within: 1h, while_inside: parallel}", {}),
    "by address": ('{per: "{{ trigger.email }}", at_most: 1, within: ever}', {}),
}


@pytest.mark.parametrize("rule", RULES)
async def test_of_two_runs_of_a_recipe_those_go_on_that_its_entry_rule_allows_one_person(
    running: Callable[..., Any], database_url: str, rule: str
) -> None:
    entry, expected = RULES[rule]
    source = f"recipe: waits\non: {{event: acme.signed_up}}\nentry: {entry}\nsteps: [{{wait: 5d}}, {{stop: over}}]\n"
    async with running(database_url) as it:
        await it.publish(source)
        await sign_up(it, "first", KEPT)
        await it.advance(2 * HOUR)
        await sign_up(it, "second", OTHER)
        looked = await it.hub.merging.look(await who(it, KEPT), await who(it, OTHER))
        done = await merge(it)
        await it.rest()
        assert looked.ended == done.ended
        was = {run["id"]: name for run, name in zip(await it.runs(), ("first", "second"), strict=True)}
        found = {was[run["id"]]: "ended" if run["finished_at"] else "goes on" for run in await it.runs()}
        assert found == {"first": "goes on", "second": "goes on"} | expected
        assert [was[id_] for id_ in done.ended] == [name for name, word in expected.items() if word == "ended"]


async def test_whoever_was_written_to_by_the_other_is_not_written_to_again(
    running: Callable[..., Any], database_url: str
) -> None:
    source = """
recipe: greets
on: {event: acme.signed_up}
entry: {per: contact, at_most: 1, within: 30d}
steps:
  - if: {trigger.id: slow}
    then: [{wait: 1d}]
  - {do: acme.send_text, purpose: orders, with: {to: "+14155550199", body: "{{ trigger.id }}:text"}}
  - wait: 1d
"""
    async with running(database_url) as it:
        # given an older run that is about to write, and a younger one that has
        await it.publish(source)
        await sign_up(it, "slow", KEPT)
        await sign_up(it, "quick", OTHER)
        await merge(it)
        await it.advance(3 * DAY)
        slow, quick = await it.runs()
        assert (slow["status"], quick["status"], texts(it)) == ("cancelled", "done", ["quick:text"])
        # and the rule counts the entries of both from now on
        await sign_up(it, "again", OTHER)
        assert len(await it.runs()) == 2
        [verdict] = (await shown(it, KEPT))["not_started"]
        assert verdict["outcome"] == "entered_before"


async def test_recipes_without_an_entry_rule_go_on_with_both(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.publish("recipe: each\non: {event: acme.signed_up}\nsteps: [{wait: 5d}, {stop: over}]\n")
        await sign_up(it, "first", KEPT)
        await sign_up(it, "second", OTHER)
        assert (await merge(it)).ended == {}
        await it.advance(6 * DAY)
        assert [run["status"] for run in await it.runs()] == ["done", "done"]


async def test_an_event_of_the_other_that_is_replayed_starts_no_second_run(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish("recipe: each\non: {event: acme.signed_up}\nsteps: [{wait: 5d}, {stop: over}]\n")
        await sign_up(it, "second", OTHER)
        await sign_up(it, "first", KEPT)
        await merge(it)
        for row in await rows(it, "select id from event"):
            kept = {"who": "tester", "keep_runs_days": 90, "ring": it.hub.ring}
            await replays.replay(it.hub.store, it.hub.clock, row["id"], **kept)
        await it.rest()
        assert len(await it.runs()) == 2


# -- undoing -----------------------------------------------------------------------------------------------------------


async def plant_two(it: Running, journey: str = JOURNEY) -> None:
    """Two contacts of whom much is known: runs, entries, verdicts, tags, and consent."""
    await it.publish(journey)
    await it.publish("recipe: each\non: {event: acme.carted}\nsteps: [{wait: 20d}, {stop: over}]\n")
    for n, email in enumerate((KEPT, OTHER)):
        await sign_up(it, f"{n}", email, phone=f"+1415555018{n}", first_name=f"Name{n}", sms_ok=True)
        await it.advance(HOUR)
        await it.deliver("carted", {"id": f"c{n}", "email": email})
        await it.deliver("delivered", {"id": f"d{n}", "email": email})
        await it.advance(HOUR)
        await sign_up(it, f"again{n}", email)
        async with it.hub.store.write() as c:
            contact_id = await views.find_contact(c, email)
            await contacts.change(c, contact_id, [("tags", "add", [f"t{n}", "both"]), (f"attributes.a{n}", "set", n)])


async def test_unmerging_at_once_restores_both(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        # given two whose runs may go on side by side
        await plant_two(it, JOURNEY.replace("at_most: 1", "at_most: 9, while_inside: parallel"))
        before = await whole(it)
        done = await merge(it)
        assert done.ended == {}
        assert (done.counts["identity"], done.counts["event"], done.counts["run"]) == (2, 4, 3)
        during = await whole(it)
        assert len(during["contact"]) == 1
        # when
        undone = await it.hub.merging.undo(done.id)
        # then
        after = await whole(it)
        assert undone.stays == {"events": 0, "runs": 0}
        assert after.pop("contact_merge_row") == before.pop("contact_merge_row") == []
        for name in before:
            assert _timeless(after[name]) == _timeless(before[name]), name
        # and both timelines tell of it
        for email in (KEPT, OTHER):
            assert {m["what"] for m in (await shown(it, email))["timeline"]} >= {"merged", "unmerged"}


def _timeless(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what each change of a piece of work counts up."""
    return [{k: v for k, v in row.items() if k not in {"epoch", "due_at", "was_due_at"}} for row in found]


async def test_what_came_since_stays_with_the_kept_one_when_a_merge_is_undone(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await plant_two(it)
        kept, other = await who(it, KEPT), await who(it, OTHER)
        done = await merge(it)
        await it.rest()
        # when more comes for both addresses, and an operator notes more
        await it.deliver("carted", {"id": "since", "email": OTHER})
        await it.rest()
        async with it.hub.store.write() as c:
            await contacts.change(c, kept, [("tags", "add", "later"), ("attributes.a1", "set", "changed")])
        undone = await it.hub.merging.undo(done.id)
        # then each has what it had, and what came since is the kept one's
        assert undone.stays == {"events": 1, "runs": 1}
        mine, theirs = await shown(it, KEPT), await shown(it, OTHER)
        assert (mine["id"], theirs["id"]) == (kept, other)
        assert (mine["tags"], theirs["tags"]) == (["t0", "both", "later"], ["t1", "both"])
        assert (mine["attributes"], theirs["attributes"]) == ({"a0": 0, "a1": "changed"}, {"a1": 1})
        assert (mine["first_name"], theirs["first_name"]) == ("Name0", "Name1")
        assert {i["value"] for i in theirs["identities"]} == {OTHER, "+14155550181"}
        assert len([m for m in mine["timeline"] if m["what"] == "event"]) == 5
        assert len([m for m in theirs["timeline"] if m["what"] == "event"]) == 4
        # the other's run that the merge ended has ended for good
        assert "merged" in next(run["reason"] for run in theirs["runs"] if run["recipe"] == "journey")
        # and from here on their addresses are two people's again
        await it.deliver("clicked", {"id": "k", "email": OTHER})
        await it.rest()
        assert (await rows(it, "select contact_id from event where type = 'acme.clicked'")) == [{"contact_id": other}]
        with pytest.raises(ConfigError, match="was undone at"):
            await it.hub.merging.undo(done.id)


async def test_what_began_since_out_of_an_event_of_the_other_goes_back_with_it(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        for n, email in enumerate((KEPT, OTHER)):
            await sign_up(it, f"{n}", email)
        other = await who(it, OTHER)
        done = await merge(it)
        # given an event of the other that a recipe published since is told of
        await it.publish("recipe: each\non: {event: acme.signed_up}\nsteps: [{wait: 5d}, {stop: over}]\n")
        [event] = await rows(it, "select id from event where data like '%lovelace%'")
        again = {"who": "tester", "keep_runs_days": 90, "ring": it.hub.ring}
        await replays.replay(it.hub.store, it.hub.clock, event["id"], **again)
        await it.rest()
        assert [run["contact"] for run in await it.runs()] == [await who(it, KEPT)]
        # when the two are two again
        assert (await it.hub.merging.undo(done.id)).stays == {"events": 0, "runs": 0}
        assert [run["contact"] for run in await it.runs()] == [other]
        # then it is known to have started that run
        await replays.replay(it.hub.store, it.hub.clock, event["id"], **again)
        await it.rest()
        assert len(await it.runs()) == 1


async def test_a_wait_that_moved_is_answered_by_its_own_person_after_the_merge_is_undone(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await it.publish(JOURNEY)
        await sign_up(it, "second", OTHER)
        await it.deliver("carted", {"id": "c", "email": KEPT})
        await it.rest()
        done = await merge(it)
        await it.rest()
        await it.hub.merging.undo(done.id)
        # when the kept one clicks, then nothing happens; when the other one does, the wait is over
        await it.deliver("clicked", {"id": "k1", "email": KEPT})
        await it.rest()
        assert (await it.runs())[0]["finished_at"] is None
        await it.deliver("clicked", {"id": "k2", "email": OTHER})
        await it.rest()
        [run] = await it.runs()
        assert (run["status"], run["contact"]) == ("done", await who(it, OTHER))
        assert texts(it) == ["second:text"]


async def test_merges_of_merged_people_are_undone_from_the_newest(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        for n, email in enumerate((KEPT, OTHER, "third@example.com")):
            await it.deliver("carted", {"id": f"c{n}", "email": email})
        await it.rest()
        ids = [await who(it, email) for email in (KEPT, OTHER, "third@example.com")]
        first = await merge(it, KEPT, OTHER)
        second = await merge(it, "third@example.com", KEPT)
        # then everybody's old name leads to who is left, of whom all is known
        assert {await who(it, id_) for id_ in ids} == {ids[2]}
        assert [m["id"] for m in (await shown(it, ids[1]))["merges"]] == [second.id, first.id]
        with pytest.raises(ConfigError, match=f"hub contacts unmerge {second.id}"):
            await it.hub.merging.undo(first.id)
        await it.hub.merging.undo(second.id)
        await it.hub.merging.undo(first.id)
        assert [await who(it, email) for email in (KEPT, OTHER, "third@example.com")] == ids


async def test_who_cannot_be_merged_is_told_why(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        for n, email in enumerate((KEPT, OTHER)):
            await it.deliver("carted", {"id": f"c{n}", "email": email})
        await it.rest()
        kept, other = await who(it, KEPT), await who(it, OTHER)
        with pytest.raises(ConfigError, match="one and the same person already"):
            await it.hub.merging.merge(kept, kept, who="tester")
        with pytest.raises(NotThere, match="nobody is known by this id any more"):
            await it.hub.merging.merge(kept, "nobody", who="tester")
        with pytest.raises(NotThere, match="no merge with this id"):
            await it.hub.merging.undo("nothing")
        await merge(it)
        with pytest.raises(ConfigError, match="one and the same person already"):
            await merge(it, KEPT, other)


async def test_vendors_that_are_to_forget_the_other_are_asked_under_the_kept_ones_name(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        # given vendors that are to forget the other, the kept one, and both; and one that has forgotten the other
        async with it.hub.store.write() as c:
            seen = [contacts.Sighting(email, "acme", Identity(email=email), 1) for email in (KEPT, OTHER)]
            ids = await contacts.resolve(c, seen)
            kept, other = ids[KEPT], ids[OTHER]
            await erasures.ask(c, kept, ["both", "mine"], 1)
            await erasures.ask(c, other, ["both", "theirs", "done"], 1)
            await erasures.forgot(c, other, "done", 2)
        # when
        done = await merge(it)
        # then all of them are to forget the one person
        assert await _asked(it, kept) == {"both": False, "mine": False, "theirs": False, "done": True}
        assert await _asked(it, other) == {}
        await it.hub.merging.undo(done.id)
        assert await _asked(it, kept) == {"both": False, "mine": False}
        assert await _asked(it, other) == {"both": False, "theirs": False, "done": True}


async def _asked(it: Running, contact_id: str) -> dict[str, bool]:
    """Who is to forget a contact, and whether they did; what they are to do is there as work."""
    async with it.hub.store.read() as c:
        found = {name: row["done_at"] is not None for name, row in (await erasures.asked_of(c, contact_id)).items()}
        work = {row["ref"] for row in await c.all("select ref from work where kind = 'forget'")}
    assert {ref for ref in work if ref.endswith(contact_id)} >= {
        f"{n}|{contact_id}" for n, done in found.items() if not done
    }
    return found


# -- erasing -----------------------------------------------------------------------------------------------------------


async def test_whoever_is_erased_after_a_merge_is_erased_with_all_that_was_merged(
    erasing: Start, database_url: str
) -> None:
    words = (KEPT, OTHER, OTHER_PHONE, OTHER_PHONE.lstrip("+"), "Augusta", "Lovelace")
    async with erasing(database_url) as it:
        await it.publish(JOURNEY)
        await sign_up(it, "first", KEPT, first_name="Lovelace")
        await sign_up(it, "second", OTHER, phone=OTHER_PHONE, first_name="Augusta", words=["Lovelace"])
        kept, other = await who(it, KEPT), await who(it, OTHER)
        done = await merge(it)
        await it.rest()
        assert {table for table, _, _ in await left_in(it.hub.store, words)} >= {"contact_merge", "event", "identity"}
        # when
        record = await it.hub.erasing.erase(await who(it, OTHER), reason="they asked", who="tester")
        it.hub.ring()
        await until_done(it, record["id"])
        # then nothing is left of either, under any of their names, and nothing can be undone
        assert await left_in(it.hub.store, words) == []
        with pytest.raises(NotThere):
            await it.hub.merging.undo(done.id)
        for name in (kept, other, KEPT, OTHER):
            with pytest.raises(NotThere):
                await who(it, name)
        await it.advance(40 * DAY)
        assert texts(it) == []


async def test_an_address_of_somebody_else_is_taken_out_of_what_is_kept_of_a_merge(
    erasing: Start, database_url: str
) -> None:
    async with erasing(database_url) as it:
        for n, email in enumerate((KEPT, OTHER, "third@example.com")):
            await it.deliver("carted", {"id": f"c{n}", "email": email})
        await it.rest()
        async with it.hub.store.write() as c:
            note = [("attributes.friend", "set", "third@example.com")]
            await contacts.change(c, await views.find_contact(c, OTHER), note)
        done = await merge(it)
        record = await it.hub.erasing.erase(await who(it, "third@example.com"), reason="they asked", who="tester")
        it.hub.ring()
        await until_done(it, record["id"])
        assert await left_in(it.hub.store, ["third@example.com"]) == []
        await it.hub.merging.undo(done.id)
        assert (await shown(it, OTHER))["attributes"] == {"friend": "(erased)"}


# -- together with others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noted", [True, False])
async def test_a_run_in_hand_goes_on_as_the_kept_ones_and_does_nothing_twice(
    running: Callable[..., Any], database_url: str, noted: bool
) -> None:
    source = """
recipe: pays
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, with: {key: "{{ trigger.id }}"}}
  - {set: {contact.attributes.paid: true}}
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 7d
  - {do: acme.put_note, with: {key: "{{ contact.email }}:{{ contact.attributes.paid }}"}}
"""
    async with running(database_url, lease_s=2.0) as it:
        if not noted:
            # then nothing asks for the contact before the wait
            source = source.replace("  - {set: {contact.attributes.paid: true}}\n", "")
            source = source.replace("contact.attributes.paid", "contact.language | default: 'en'")
        await it.publish(source)
        await it.deliver("carted", {"id": "c", "email": KEPT})
        await it.rest()
        # given a call that is under way for the other one
        it.sandbox.answer_after_s = 0.5
        await it.deliver("signed_up", {"id": "second", "email": OTHER})
        await until(lambda: any(entry.operation == "charge" for entry in it.sandbox.log))
        # when
        await merge(it)
        # then its outcome is known, and what follows is the kept one's
        it.sandbox.answer_after_s = 0
        async with asyncio.timeout(20):
            while (await it.runs())[0]["status"] != "waiting":  # noqa: ASYNC110  (what is waited for rings no bell)
                await asyncio.sleep(0.05)
        await it.deliver("clicked", {"id": "k", "email": OTHER})
        await it.rest()
        [run] = await it.runs()
        assert (run["status"], run["contact"]) == ("done", await who(it, KEPT))
        assert [(e["action"], e["state"]) for e in run["effects"]] == [
            ("acme.charge", "done"),
            ("acme.put_note", "done"),
        ]
        assert [e.data["key"] for e in it.sandbox.log] == ["second", f"{KEPT}:{'true' if noted else 'en'}"]


async def test_a_run_that_waited_for_its_cap_and_is_in_hand_goes_on_as_the_kept_ones(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, lease_s=2.0) as it:
        await it.publish("""
recipe: pays
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, with: {key: "{{ trigger.id }}"}}
  - wait_for:
      clicked: {event: acme.clicked}
    timeout: 7d
  - {do: acme.put_note, with: {key: "{{ contact.email }}"}}
""")
        await it.deliver("carted", {"id": "c", "email": KEPT})
        # given a run of the other one that waits for the next day
        cap = await it.hub.spending.set("recipe", "pays", per="day", most=1)
        await it.hub.spending.known.refresh()
        await sign_up(it, "first", "third@example.com")
        await sign_up(it, "second", OTHER)
        async with it.hub.store.write() as c:
            assert [row["ref"] for row in await c.all("select ref from work where parked_on = :on", on=cap.parks_on)]
            # and that has come: its call is under way
            await c.run("update cap set most = 10")
            await c.run("update work set due_at = 1 where parked_on = :on", on=cap.parks_on)
        await it.hub.spending.known.refresh()
        it.sandbox.answer_after_s = 0.5
        it.hub.ring()
        await until(lambda: sum(entry.operation == "charge" for entry in it.sandbox.log) == 2)
        # when
        await merge(it)
        it.sandbox.answer_after_s = 0
        async with asyncio.timeout(20):
            while sorted(run["status"] for run in await it.runs()) != ["waiting"] * 2:  # noqa: ASYNC110  (no bell)
                await asyncio.sleep(0.05)
        # then what follows is the kept one's
        await it.deliver("clicked", {"id": "k", "email": OTHER})
        await it.rest()
        assert [e.data["key"] for e in it.sandbox.log] == ["first", "second", KEPT]
        assert sorted(run["status"] for run in await it.runs()) == ["done", "waiting"]


async def test_events_that_come_while_people_are_merged_find_one_person(postgres_url: str, running: Any) -> None:
    async with running(postgres_url, slots=8) as it:
        await it.publish(JOURNEY)
        pairs = [(f"k{n}@example.com", f"o{n}@example.com") for n in range(12)]
        for kept, other in pairs:
            await it.deliver("carted", {"id": kept, "email": kept})
            await it.deliver("signed_up", {"id": other, "email": other})
        await it.rest()

        async def tell(n: int, kept: str, other: str) -> None:
            for turn, email in enumerate((kept, other, kept)):
                await it.deliver("carted", {"id": f"{n}-{turn}", "email": email})
            await it.deliver("clicked", {"id": f"click-{n}", "email": kept if n % 2 else other})

        # when events of all of them are routed while they are merged
        both = [tell(n, *pair) for n, pair in enumerate(pairs)] + [merge(it, *pair) for pair in pairs]
        await asyncio.gather(*both)
        await it.advance(8 * DAY)
        # then everybody is one person who was asked once, and every wait was answered
        assert len(await rows(it, "select id from contact")) == len(pairs)
        assert sorted(texts(it)) == sorted(f"{other}:text" for _, other in pairs)
        answered = {e.data["key"] for e in it.sandbox.log if e.operation == "put_note"}
        assert answered == {f"{other}:clicked" for _, other in pairs}
        assert await rows(it, "select id from event where stage <> 'routed'") == []


# -- what it must never do ---------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["merge", "undo"]), st.integers(0, 5), st.integers(0, 5)), max_size=14))
def test_however_people_are_merged_and_unmerged_each_address_is_one_persons(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, int, int]]) -> None:
    store = Store("sqlite:///:memory:")
    await migrate.create_in_memory(store)
    merging, emails = Merging(store, Clock()), [f"{n}@x.example" for n in range(6)]
    async with store.write() as c:
        seen = [contacts.Sighting(email, "shop", Identity(email=email), 1) for email in emails]
        first = await contacts.resolve(c, seen)
    made: list[str] = []
    for what, one, two in steps:
        async with store.read() as c:
            kept, other = await views.find_contact(c, emails[one]), await views.find_contact(c, emails[two])
        if what == "merge" and kept != other:
            made.append((await merging.merge(kept, other, who="tester")).id or "")
        elif what == "undo" and made:
            with suppress(ConfigError):  # a later one of theirs is to be undone first
                await merging.undo(made[one % len(made)])
                made.pop(one % len(made))
        await _require_one_owner_each(store, emails)
    # from the newest on all of it can be undone, and everybody is who they were
    for id_ in reversed(made):
        await merging.undo(id_)
    async with store.read() as c:
        assert {email: await views.find_contact(c, email) for email in emails} == first
        assert await c.all("select * from contact_merge_row") == []
    await store.close()


async def _require_one_owner_each(store: Store, emails: list[str]) -> None:
    async with store.read() as c:
        owned = await c.all("select value, contact_id from identity")
        known = {row["id"] for row in await c.all("select id from contact")}
    assert sorted(row["value"] for row in owned) == emails
    assert {row["contact_id"] for row in owned} == known


# -- commands and the API ----------------------------------------------------------------------------------------------


@pytest.fixture
def two(cli: Cli) -> tuple[str, str]:
    """The ids of two contacts."""

    async def make() -> tuple[str, str]:
        async with open_store(load_settings(data_dir=cli.data_dir)) as store, store.write() as c:
            seen = [contacts.Sighting(email, "shop", Identity(email=email), 1) for email in (KEPT, OTHER)]
            found = await contacts.resolve(c, seen)
        return found[KEPT], found[OTHER]

    return asyncio.run(make())


def test_commands_merge_two_people_and_make_them_two_again(cli: Cli, two: tuple[str, str]) -> None:
    kept, other = two
    # what would be done is shown first, and nothing is done without a word
    refused = cli("contacts", "merge", KEPT, OTHER)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: runs that it ends stay ended, and there is no terminal to ask; add --yes")
    assert f"{other} becomes {kept}: 1 identity, 0 events, 0 runs (0 of them going on), 0 messages" in refused.stdout
    assert len(cli.json("contacts", "list")) == 2
    # when
    done = cli.json("contacts", "merge", KEPT, OTHER, "--yes")
    # then
    assert (done["kept"], done["other"], done["identities"], done["ended"]) == (kept, other, 1, {})
    [merge] = cli.json("contacts", "show", OTHER)["merges"]
    assert (merge["id"], merge["undone_at"], merge["identities"]) == (
        done["id"],
        None,
        [{"kind": "email", "value": OTHER}],
    )
    assert "merged" in cli("contacts", "show", KEPT).stdout
    again = cli("contacts", "merge", KEPT, OTHER, "--yes")
    assert (again.exit_code, "one and the same person already" in again.stderr) == (1, True)
    assert cli("contacts", "merge", KEPT, "nobody@example.com", "--yes").exit_code == 3
    # when it is undone
    assert cli("contacts", "unmerge").exit_code == 2
    assert cli("contacts", "unmerge", "no-merge").exit_code == 3
    undone = cli("contacts", "unmerge", done["id"])
    assert f"what came since stays with {kept}: 0 events, 0 runs" in undone.stdout
    assert cli.json("contacts", "show", OTHER)["id"] == other
    assert cli("contacts", "unmerge", "--contact", KEPT).exit_code == 3
    # and once more, by whom it was about
    assert cli("contacts", "merge", kept, other, "--yes").exit_code == 0
    assert cli.json("contacts", "unmerge", "--contact", OTHER)["other"] == other


def test_a_merge_whose_process_dies_in_the_midst_of_it_has_not_been(
    cli: Cli, two: tuple[str, str], started: Callable[..., Process]
) -> None:
    dying = started("contacts", "merge", *two, "--yes", HUB_SEAM="merge.commit=kill", HUB_DEVELOPMENT="true")
    assert dying.popen.wait(timeout=60) == -signal.SIGKILL
    assert {person["id"] for person in cli.json("contacts", "list")} == set(two)
    assert cli.json("contacts", "show", two[0])["merges"] == []
    assert cli("contacts", "merge", *two, "--yes").exit_code == 0


async def test_the_api_merges_two_people_and_makes_them_two_again(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it, receiving_api(it) as call:
        await it.publish(JOURNEY)
        await sign_up(it, "first", KEPT)
        await sign_up(it, "second", OTHER)
        kept, other = await who(it, KEPT), await who(it, OTHER)
        # what would be done
        status, looked = await call("GET", f"/contacts/{KEPT}/merge?other={OTHER}", scope="read")
        assert (status, looked["id"], looked["live_runs"], len(looked["ended"])) == (200, None, 1, 1)
        # who may not, and what cannot be
        assert (await call("POST", f"/contacts/{KEPT}/merge", {"other": OTHER}, scope="read"))[0] == 403
        assert (await call("POST", f"/contacts/{KEPT}/merge", {}))[0] == 422
        status, problem = await call("POST", f"/contacts/{KEPT}/merge", {"other": "nobody@example.com"})
        assert (status, "GET /api/v1/contacts" in problem["detail"]) == (404, True)
        # when
        status, done = await call("POST", f"/contacts/{KEPT}/merge", {"other": OTHER})
        assert (status, done["kept"], done["other"], done["ended"]) == (200, kept, other, looked["ended"])
        status, problem = await call("POST", f"/contacts/{KEPT}/merge", {"other": OTHER})
        assert (status, problem["detail"].startswith("both are one and the same person")) == (422, True)
        _, person = await call("GET", f"/contacts/{other}", scope="read")
        assert (person["id"], person["merges"][0]["who"]) == (kept, "the write key")
        # then it is undone
        assert (await call("POST", f"/contacts/{OTHER}/unmerge", {"merge": "x"}))[0] == 404
        status, undone = await call("POST", f"/contacts/{OTHER}/unmerge", {"merge": done["id"]})
        assert (status, undone["id"], undone["events_stay"], undone["runs_stay"]) == (200, done["id"], 0, 0)
        assert (await call("GET", f"/contacts/{OTHER}"))[1]["id"] == other
        assert (await call("POST", f"/contacts/{OTHER}/unmerge", {}))[0] == 404
        assert (await call("POST", f"/contacts/{OTHER}/unmerge", {"merge": done["id"]}))[0] == 422


@asynccontextmanager
async def receiving_api(it: Running) -> AsyncIterator[Callable[..., Any]]:
    """The REST API of a hub in hand: `await call(method, path, body)` gives the status and the answer."""
    keys = {scope: await create_api_key(it.hub.store, f"the {scope} key", scope, 0) for scope in ("read", "write")}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        async with aiohttp.ClientSession() as session, answering(make_app(it.hub), listener, proxies=[]):

            async def call(method: str, path: str, body: Any = None, scope: str = "write") -> tuple[int, Any]:
                headers = {"Authorization": f"Bearer {keys[scope]}"}
                async with session.request(method, url + path, json=body, headers=headers) as answer:
                    return answer.status, await answer.json(content_type=None)

            yield call
