"""Simulation: recorded events decide as they did live, and made-up ones are read with their mistakes told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.errors import ConfigError
from hub.plugins import Plugins
from hub.purposes import load_purposes
from hub.simulation import Simulation, read_events, recorded, simulate
from hub.store.stories import Stories, stories
from tests.conftest import PURPOSES

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

CART = """
recipe: cart
on: {event: acme.cart_idle, where: {event.total: {gte: "50.00 EUR"}}}
entry: {per: contact, at_most: 2, within: 3d}
exit_on:
  - {event: acme.purchased}
steps:
  - if: {contact.phone: exists}
    then:
      - wait: 4h
      - {do: acme.send_text, purpose: cart, as: reminder, valid_for: 12h, with: {to: "{{ contact.phone }}", body: "Hi {{ contact.first_name | default: 'there' }}, {{ trigger.cart }} waits"}}
      - wait_for:
          clicked: {event: acme.clicked, match: {event.message_id: "{{ steps.reminder.message_id }}"}}
        timeout: 1d
        as: answer
        clicked:
          - set: {contact.tags: {add: clicker}}
          - stop: clicked
        on_timeout:
          - {do: acme.put_note, with: {key: "{{ trigger.cart }}", text: silent}}
    else:
      - stop: no-phone
on_end:
  - {do: acme.put_note, with: {key: "{{ trigger.cart }}:end", text: "{{ run.ended_by }}"}}
"""
PEOPLE = {
    "ada": {"email": "ada@example.com", "phone": "+14155550101", "first_name": "Ada", "sms_ok": True},
    "bob": {"email": "bob@example.com", "phone": "+14155550102", "first_name": "Bob"},
    "cem": {"email": "cem@example.com", "first_name": "Cem"},
    "eda": {"email": "eda@example.com", "phone": "+14155550104", "sms_ok": True},
}


async def _live_story(it: Any, seed: int) -> None:
    """Days of a shop: carts left and bought, texts answered with a click, and one who says stop."""
    chance = random.Random(seed)
    for number in range(24):
        person = PEOPLE[chance.choice(list(PEOPLE))]
        body = {**person, "id": f"e-{number}"}
        cart = {
            "cart": f"c-{chance.randrange(8)}",
            "total": {"amount_minor": chance.randrange(3000, 9000), "currency": "EUR"},
        }
        match chance.choice(["cart", "cart", "cart", "buy", "click", "stop"]):
            case "cart":
                await it.deliver("carted", {**body, **cart})
            case "buy":
                await it.deliver("purchased", {**body, **cart})
            case "click" if it.sandbox.texts:
                sent = chance.choice(it.sandbox.texts)
                await it.deliver("clicked", {"id": f"e-{number}", "message_id": sent["id"]})
            case _:
                await it.deliver("signed_up", {**body, "stop": chance.random() < 0.3})
        await it.advance(chance.randrange(MINUTE, 9 * HOUR))
    await it.advance(10 * DAY)


def _decisions(found: Stories) -> dict[str, Any]:
    """What was decided, by the event that it was decided about."""
    told: dict[str, Any] = {row["event_id"]: row["outcome"] for row in found.verdicts}
    for run in found.runs:
        event = json.loads(run["trigger_data"])["event_id"]
        steps = [
            # What an action says of itself is the vendor's in one case and its dry run in the other.
            (s["path"], s["outcome"], None if s["outcome"] in {"done", "sent"} else s["reason"])
            for s in found.steps
            if s["run_id"] == run["id"]
        ]
        effects = [
            (e["action"], e["state"], json.loads(e["request"])["input"], e["channel"])
            for e in found.effects
            if e["run_id"] == run["id"]
        ]
        told[event] = (steps, effects, run["ended_by"])
    return told


def _simulated(found: Simulation) -> dict[str, Any]:
    told: dict[str, Any] = {one.event: one.outcome for one in found.not_entered}
    for path in found.paths:
        steps = [(s.path, s.outcome, None if s.outcome in {"done", "sent"} else s.reason) for s in path.steps]
        told[path.event] = (
            steps,
            [(e.action, e.state, dict(e.input), e.channel) for e in path.effects],
            path.ended_by,
        )
    return told


@pytest.mark.parametrize("seed", range(6))
async def test_recorded_events_decide_as_they_did_live(
    running: Callable[..., Any], sqlite_url: str, acme_plugins: Plugins, seed: int
) -> None:
    async with running(sqlite_url) as it:
        # given what happened live
        await it.publish(CART)
        began_ms = it.hub.clock.now_ms()
        await _live_story(it, seed)
        async with it.hub.store.read() as c:
            live = _decisions(await stories(c, "cart"))

        # when it is played again
        again = await recorded(it.hub, "cart", began_ms, it.hub.clock.now_ms() + 1)
        found = await simulate(CART, again, acme_plugins, purposes=await it.hub.library.purposes())

    # then each person went the same way, for the same reasons
    assert live
    assert _simulated(found) == live


async def test_what_was_so_before_counts_for_recorded_events(
    running: Callable[..., Any], sqlite_url: str, acme_plugins: Plugins
) -> None:
    async with running(sqlite_url) as it:
        # given somebody who agreed, and entered twice, before the span
        await it.publish(CART)
        big = {"total": {"amount_minor": 9000, "currency": "EUR"}}
        await it.deliver("carted", {"id": "1", "cart": "a", **PEOPLE["ada"], **big})
        await it.advance(7 * HOUR)
        await it.deliver("purchased", {"id": "2", "cart": "a", **PEOPLE["ada"]})
        await it.advance(HOUR)
        began_ms = it.hub.clock.now_ms()
        for number in (3, 4):
            await it.deliver(
                "carted", {"id": str(number), "cart": f"c{number}", **PEOPLE["ada"], "sms_ok": False, **big}
            )
            await it.advance(2 * DAY - HOUR)
        await it.advance(4 * DAY)
        async with it.hub.store.read() as c:
            all_live = _decisions(await stories(c, "cart"))

        # when only the later events are played
        again = await recorded(it.hub, "cart", began_ms, it.hub.clock.now_ms() + 1)
        found = _simulated(await simulate(CART, again, acme_plugins, purposes=await it.hub.library.purposes()))

    # then they decide as live, though the consent and the first entry are older than they
    assert found
    assert found == {event: what for event, what in all_live.items() if event in found}
    assert len(found) == len(all_live) - 1


# -- events in files ---------------------------------------------------------------------------------------------------


def _cart(at: str, **more: Any) -> dict[str, Any]:
    total = {"amount_minor": 9000, "currency": "EUR"}
    return {
        "type": "acme.cart_idle",
        "at": at,
        "data": {"id": at, "cart": at, "total": total, "email": "a@example.com", **more},
    }


def test_events_are_read_from_lines_and_from_a_list(tmp_path: Path, acme_plugins: Plugins) -> None:
    # given the same events, the later one first
    given = [_cart("2026-01-06T09:00:00Z"), _cart("2026-01-05T09:00:00+03:00")]
    lines, whole = tmp_path / "events.jsonl", tmp_path / "events.json"
    lines.write_text("\n".join(json.dumps(one) for one in given) + "\n\n")
    whole.write_text(json.dumps(given, indent=2))

    # when they are read
    read = [read_events(file, acme_plugins.catalogue) for file in (lines, whole)]

    # then both are the same, in the order of time
    assert read[0] == read[1]
    assert [one.event.data["id"] for one in read[0] if one.event] == [
        "2026-01-05T09:00:00+03:00",
        "2026-01-06T09:00:00Z",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_cart("2026-01-05T09:00:00Z", total={"amount_minor": "many"}), ":3: data.total.amount_minor: "),
        (_cart("yesterday"), ":3: at: 'yesterday' is no instant"),
        ({**_cart("2026-01-05T09:00:00Z"), "type": "acme.cart_idel"}, "did you mean acme.cart_idle?"),
        ({**_cart("2026-01-05T09:00:00Z"), "whose": "ada"}, ":3: whose: "),
        ("no event", ":3: event: "),
    ],
)
def test_an_event_that_does_not_fit_is_told_with_line_and_field(
    wrong: Any, said: str, tmp_path: Path, acme_plugins: Plugins
) -> None:
    right = json.dumps(_cart("2026-01-05T09:00:00Z"))
    for name, text in {
        "a.jsonl": f"{right}\n\n{json.dumps(wrong)}\n",
        "a.json": f"[{right},\n\n{json.dumps(wrong)}]",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_events(tmp_path / name, acme_plugins.catalogue)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert said in str(caught.value)


@pytest.mark.parametrize("text", ['{"type": ', '[{"type": 1} {"type": 2}]', "[1, 2", "[1,]x"])
def test_a_file_that_is_no_json_is_told_with_its_line(text: str, tmp_path: Path, acme_plugins: Plugins) -> None:
    file = tmp_path / "events.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"events\.json:1: "):
        read_events(file, acme_plugins.catalogue)


async def test_facts_and_consent_beside_an_event_count(tmp_path: Path, acme_plugins: Plugins) -> None:
    # given two carts, one of somebody of whom more is known
    file = tmp_path / "events.jsonl"
    known = {"phone": "+14155550101", "first_name": "Ada", "tags": ["vip"], "attributes": {"phase": "b"}}
    consent = [{"channel": "sms", "address": "+14155550101"}]
    file.write_text(
        json.dumps({**_cart("2026-01-05T09:00:00Z"), "contact": known, "consent": consent})
        + "\n"
        + json.dumps(_cart("2026-01-05T10:00:00Z", email="b@example.com"))
    )
    told = CART.replace("silent", "\"{{ contact.tags | join: ',' }} {{ contact.attributes.phase }}\"")

    # when they are played
    purposes = load_purposes(PURPOSES)
    events = read_events(file, acme_plugins.catalogue)
    seen: list[tuple[int, int]] = []
    found = await simulate(told, events, acme_plugins, purposes=purposes, progress=lambda *n: seen.append(n))

    # then the known one got a text, after four hours to the minute, and the facts were there for the note
    ada, bob = found.paths
    assert [(e.action, e.at) for e in ada.effects][:2] == [
        ("acme.send_text", "2026-01-05T13:00:00.000Z"),
        ("acme.put_note", "2026-01-06T13:00:00.000Z"),
    ]
    assert ada.effects[0].input["body"].startswith("Hi Ada")
    assert ada.effects[1].input["text"] == "vip b"
    assert (ada.person, bob.ended_by) == ("a@example.com", "no-phone")
    assert found.summary.sent == {"sms": 1}
    assert found.summary.done == {"acme.put_note": 3}
    assert (found.summary.events, found.summary.entered, found.summary.people) == (2, 2, 2)
    assert seen == [(1, 2), (2, 2)]


async def test_who_does_not_enter_is_counted_with_the_reason(tmp_path: Path, acme_plugins: Plugins) -> None:
    file = tmp_path / "events.jsonl"
    cheap = {"amount_minor": 100, "currency": "EUR"}
    events = [_cart(f"2026-01-05T0{n}:00:00Z") for n in range(3)] + [_cart("2026-01-05T05:00:00Z", total=cheap)]
    file.write_text("\n".join(json.dumps(one) for one in events))
    found = await simulate(
        CART, read_events(file, acme_plugins.catalogue), acme_plugins, purposes=load_purposes(PURPOSES)
    )
    assert found.summary.not_entered == {"entered_before": 1, "not_matched": 1}
    assert found.summary.ended == {"no-phone": 2}
    assert "below 50.00 EUR" in found.not_entered[-1].reason


async def test_ten_thousand_events_are_played(acme_plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with file.open("w") as out:
        for number in range(10_000):
            at = f"2026-01-{5 + number // 1440:02}T{number // 60 % 24:02}:{number % 60:02}:00Z"
            # One in ten is more than a cheap cart.
            total = {"amount_minor": 9000 if number % 10 == 0 else 900, "currency": "EUR"}
            person = {"id": f"{number}", "cart": f"{number}", "email": f"p{number}@example.com"}
            out.write(json.dumps(_cart(at, **person, total=total)) + "\n")
    found = await simulate(
        CART, read_events(file, acme_plugins.catalogue), acme_plugins, purposes=load_purposes(PURPOSES)
    )
    assert (found.summary.events, found.summary.entered) == (10_000, 1_000)
    assert found.summary.not_entered == {"not_matched": 9_000}
