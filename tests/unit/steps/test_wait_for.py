"""`wait_for`: answers, timeouts, and what an answer is recognised by."""

from __future__ import annotations

import pytest

from hub.engine import ActionDone, Answered, Resumed, Wait, Watch
from tests.unit.language import DAY, HOUR, NOW, SEND, Played, happened, loaded, mistakes, names, program_of, text_of


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("wait_for: {a: {event: acme.order_sent}}", "steps/0: timeout is missing"),
        ("wait_for: {}, timeout: 1d", "steps/0/wait_for: this is empty"),
        ("wait_for: {a: {event: acme.order_snt}}, timeout: 1d", "steps/0/wait_for/a/event: there is no event acme.order_snt"),
        ("wait_for: {a: {evnt: acme.order_sent}}, timeout: 1d", "steps/0/wait_for/a: event is missing"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: soon", "steps/0/timeout: 'soon' is no duration"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 0d", "0d is no timeout; write a duration such as 7d, or never"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, b: []", "b is no answer of this wait_for, nor a field"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, on_timeot: []", "did you mean on_timeout?"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, a: {stop: x}", "a takes a list of steps"),
        ("wait_for: {since: {event: acme.order_sent}}, timeout: 1d", "since cannot be the name of an answer"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: never, on_timeout: [{stop: x}]", "on_timeout is never reached"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, since: mail", "steps/0/since: no step before this one has as: mail"),
        ("wait_for: {a: {event: acme.order_sent, where: {trigger.id: x}}}, timeout: 1d", "in where and match a path begins with event"),
        ("wait_for: {a: {event: acme.order_sent, match: {event.email: x}}}, timeout: 1d", "acme.order_sent cannot be matched by email; it can be matched by id"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, types: {}", "steps/0/types: types is filled in by the hub"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: 1d, a: [{wiat: 1h}]", "steps/0/a/0: this is no step; did you mean wait?"),
        ("wait_for: {a: {event: acme.order_sent}}, timeout: {until: trigger.end}", "steps/0/timeout/until: trigger has no end"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_when_the_recipe_is_saved(step: str, expected: str) -> None:
    found = mistakes(text_of(f"- {{{step}}}"))
    assert any(expected in one for one in found), found


def test_the_answers_event_is_known_in_its_branch_and_doubtful_after() -> None:
    wait = "wait_for: {said: {event: sms.received}, sent: {event: acme.order_sent}}, timeout: 1d, as: answer"
    read = '{set: {contact.attributes.x: "{{ steps.answer.event.%s }}"}}'
    loaded(text_of(f"- {{{wait}, said: [{read % 'words'}], sent: [{read % 'status'}]}}"))
    loaded(text_of(f"- {{{wait}}}\n- {{if: {{steps.answer.answer: said}}, then: [{{stop: a}}]}}"))
    assert "event has no status" in mistakes(text_of(f"- {{{wait}, said: [{read % 'status'}]}}"))[0]
    assert "steps.answer.event is there on some paths only" in mistakes(text_of(f"- {{{wait}}}\n- {read % 'id'}"))[0]
    assert "steps.answer.event is there" in mistakes(text_of(f"- {{{wait}, on_timeout: [{read % 'id'}]}}"))[0]


WAITING = f"""
- {{{SEND}, as: mail}}
- wait: 1h
- wait_for:
    said: {{event: sms.received, match: {{event.message_id: "{{{{ steps.mail.message_id }}}}"}}}}
    sent: {{event: acme.order_sent, where: {{event.count: {{gt: 2}}}}}}
  timeout: 2d
  as: answer
  said: [{{stop: talked}}]
  on_timeout: [{{stop: silent}}]
- stop: after
"""


def waiting(**output: object) -> tuple[Played, Wait]:
    run = Played(program_of(WAITING))
    run.starts()
    run.done(**output)
    wait = run.sleeps_until(NOW + HOUR)
    assert isinstance(wait, Wait)
    return run, wait


def test_an_answer_is_watched_by_key_since_the_call_before() -> None:
    _, wait = waiting(message_id="m1")
    assert wait.until_ms == NOW + HOUR + 2 * DAY
    assert wait.watches == (
        Watch("answer", "said", "acme.replied", "message_id", "m1", None, NOW),
        Watch("answer", "sent", "acme.order_sent", "contact", "c1", {"event.count": {"gt": 2}}, NOW),
    )


def test_the_first_answer_decides_the_branch_and_is_kept() -> None:
    run, _ = waiting(message_id="m1")
    event = happened("acme.replied", words="hello")
    assert run.hears(Answered("said", event)).ended_by == "talked"
    assert run.state.ctx["steps"]["answer"] == {"answer": "said", "event": event, "outcome": "answered"}
    assert run.trail[-2].reason == "acme.replied came"


def test_an_answer_without_a_branch_goes_on() -> None:
    run, _ = waiting(message_id="m1")
    assert run.hears(Answered("sent", happened("acme.order_sent"))).ended_by == "after"


def test_silence_takes_the_branch_of_the_timeout() -> None:
    run, wait = waiting(message_id="m1")
    assert run.sleeps_until((wait.until_ms or 0) - 1) == wait
    assert run.sleeps_until(wait.until_ms or 0).ended_by == "silent"
    assert run.trail[-2].reason == "no said or sent in time"
    assert run.state.ctx["steps"]["answer"] == {"answer": "timeout", "outcome": "timeout"}


def test_deciding_again_watches_the_same() -> None:
    run, wait = waiting(message_id="m1")
    run.now_ms += HOUR
    assert run.hears(Resumed()) == wait


def test_an_answer_to_a_message_that_was_not_sent_cannot_come_and_the_run_is_told_so() -> None:
    # given a message without consent
    run = Played(program_of(WAITING))
    run.starts()
    run.hears(ActionDone("skipped", None, "no_consent"))
    wait = run.sleeps_until(NOW + HOUR)
    # then only the other answer is watched, and the timeout stays
    assert names(wait.watches) == ["sent"]
    assert wait.until_ms == NOW + HOUR + 2 * DAY
    assert "said cannot come: steps/2/wait_for/said/match/event.message_id: steps.mail.message_id" in wait.reason


def test_a_wait_for_nothing_that_would_never_end_goes_on_at_once() -> None:
    run = Played(
        program_of("- {wait_for: {a: {event: acme.order_sent}}, timeout: never}\n- {stop: after}"), contact=None
    )
    assert run.starts().ended_by == "after"
    assert "a cannot come" in run.trail[0].reason


def test_never_is_allowed_and_has_no_timer() -> None:
    run = Played(program_of("- {wait_for: {a: {event: acme.order_sent}}, timeout: never}"))
    assert run.starts().until_ms is None


def test_a_timeout_may_be_a_date() -> None:
    step = "- {wait_for: {a: {event: acme.order_sent}}, timeout: {until: trigger.ends_at, offset: -1d}}"
    run = Played(program_of(step), trigger=happened(ends_at="2026-12-01T10:00:00Z"))
    assert run.starts().until_ms == NOW + 8 * DAY


def test_without_an_action_before_an_answer_counts_from_the_start_of_the_run() -> None:
    run = Played(program_of("- {wait: 1h}\n- {wait_for: {a: {event: acme.order_sent}}, timeout: 1d}"))
    run.starts()
    assert run.sleeps_until(NOW + HOUR).watches[0].since_ms == NOW


def test_since_names_the_step_it_counts_from() -> None:
    steps = f"- {{{SEND}, as: mail}}\n- {{wait: 1h}}\n- {{do: acme.tag}}\n- {{wait_for: {{a: {{event: acme.order_sent}}}}, timeout: 1d%s}}"
    for since, ms in (("", NOW + HOUR), (", since: mail", NOW)):
        run = Played(program_of(steps % since))
        run.starts()
        run.done(message_id="m")
        run.sleeps_until(NOW + HOUR)
        assert run.done().watches[0].since_ms == ms


def test_values_of_the_run_stand_in_the_watch_when_it_is_set() -> None:
    step = (
        '- {wait_for: {a: {event: acme.order_sent, match: {event.id: "{{ trigger.id }}"}, '
        'where: {event.count: {gt: "{{ trigger.count }}"}}}}, timeout: 1d}'
    )
    run = Played(program_of(step), trigger=happened(count=3))
    assert run.starts().watches == (
        Watch("answer", "a", "acme.order_sent", "id", "o1", {"event.count": {"gt": 3}}, NOW),
    )
