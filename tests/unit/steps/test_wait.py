"""`wait`: durations, dates, times of day, exits."""

from __future__ import annotations

import pytest

from hub.clock import parse_time_ms
from hub.engine import Exited, Finish, Sleep, Wait
from tests.unit.language import CONTACT, DAY, HOUR, NOW, Played, happened, mistakes, program_of, text_of


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("wait: soon", "steps/0/wait: 'soon' is no duration; write a number and a unit"),
        ("wait: -1h", "-1h is no time to wait"),
        ("wait: 5", "steps/0/wait: text is expected; put quotes around it"),
        ("wait: {until: '{{ trigger.ends }}'}", "steps/0/wait/until: trigger has no ends; did you mean ends_at?"),
        ("wait: {until: trigger.ends}", "steps/0/wait/until: trigger has no ends"),
        ("wait: {until: now, offset: soon}", "steps/0/wait/offset: 'soon' is no duration"),
        ("wait: {until: now, if_past: wait}", "steps/0/wait/if_past: wait is not possible here"),
        ("wait: {untill: now}", "steps/0/wait/untill: unknown field untill; did you mean until?"),
        ("wait: {time: 9am}", "steps/0/wait/time: '9am' is no time of day; write it as 09:00"),
        ("wait: {time: '09:00', weekday: [monday]}", "steps/0/wait/weekday/0: monday is not possible here; did you mean mon?"),
        ("wait: {time: '09:00', zone: Mars/Base}", "there is no zone Mars/Base; a zone looks like Europe/Istanbul"),
        ("wait: exit", "steps/0: wait: exit needs an exit_on"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_when_the_recipe_is_saved(step: str, expected: str) -> None:
    found = mistakes(text_of(f"- {{{step}}}"))
    assert any(expected in one for one in found), found


def test_a_leaving_run_does_not_wait_for_an_exit() -> None:
    exit_on = "exit_on: [{event: acme.order_sent, then: [{wait: exit}]}]"
    assert "the run is leaving already" in mistakes(text_of("- {wait: 1h}", exit_on))[0]


@pytest.mark.parametrize(
    ("until", "at"),
    [
        ("until: '{{ trigger.ends_at }}'", "2026-12-01T10:00:00Z"),
        ("until: trigger.ends_at", "2026-12-01T10:00:00Z"),
        ("until: trigger.ends_at, offset: -3d", "2026-11-28T10:00:00Z"),
        ("until: contact.attributes.day", "2026-12-24T00:00:00Z"),
        ("time: '09:00', zone: contact", "2026-11-23T06:00:00Z"),
        ("time: '09:00'", "2026-11-23T08:00:00Z"),
        ("time: '09:00', zone: America/New_York", "2026-11-22T14:00:00Z"),
        ("time: '09:00', weekday: [wed], zone: contact", "2026-11-25T06:00:00Z"),
    ],
)
def test_a_wait_until_ends_at_its_instant(until: str, at: str) -> None:
    contact = {**CONTACT, "attributes": {"day": "2026-12-24"}}
    run = Played(
        program_of(f"- {{wait: {{{until}}}}}"), contact=contact, trigger=happened(ends_at="2026-12-01T10:00:00Z")
    )
    sleep = run.starts()
    assert isinstance(sleep, Sleep)
    assert sleep.until_ms == parse_time_ms(at)
    assert run.sleeps_until(sleep.until_ms).status == "done"


@pytest.mark.parametrize("zone", [None, "Mars/Base"])
def test_a_contact_without_a_zone_has_the_hubs(zone: str | None) -> None:
    run = Played(program_of("- {wait: {time: '09:00', zone: contact}}"), contact={**CONTACT, "zone": zone})
    assert run.starts().until_ms == parse_time_ms("2026-11-23T08:00:00Z")


@pytest.mark.parametrize(
    ("if_past", "ended_by", "outcome"), [("skip", "after", "past"), ("stop", "too_late", "too_late")]
)
def test_a_date_in_the_past_is_passed_over_or_ends_the_run(if_past: str, ended_by: str, outcome: str) -> None:
    steps = f"- {{wait: {{until: trigger.ends_at, if_past: {if_past}}}}}\n- {{stop: after}}"
    run = Played(program_of(steps), trigger=happened(ends_at="2026-01-01T00:00:00Z"))
    assert run.starts().ended_by == ended_by
    assert run.trail[0].outcome == outcome
    assert run.trail[0].reason == "2026-01-01T00:00:00.000Z has passed"


def test_a_date_that_was_ahead_is_not_past_when_its_time_has_come() -> None:
    steps = "- {wait: {until: trigger.ends_at, if_past: stop}}\n- {stop: after}"
    run = Played(program_of(steps), trigger=happened(ends_at="2026-12-01T10:00:00Z"))
    run.starts()
    run.now_ms += 30 * DAY
    assert run.starts().ended_by == "after"


@pytest.mark.parametrize("value", [None, "soon", 5, {"a": 1}, "2026-13-01", "9999-99-99T00:00:00Z"])
def test_what_is_no_date_fails_the_step(value: object) -> None:
    run = Played(program_of("- {wait: {until: trigger.ends_at}}"), trigger=happened(ends_at=value))
    finish = run.starts()
    assert finish.status == "failed"
    assert finish.reason.startswith("steps/0/wait/until: there is no date")


def test_a_wait_for_an_exit_ends_with_the_exit_only() -> None:
    run = Played(program_of("- {wait: exit}", "exit_on: [{event: acme.order_sent}]"))
    waiting = run.starts()
    assert waiting == Wait((), None, "waiting for an exit")
    assert run.sleeps_until(NOW + HOUR) == waiting
    assert run.hears(Exited(0, happened("acme.order_sent"))) == Finish(
        "acme.order_sent", "done", "acme.order_sent came"
    )
