"""Deciding: where a run goes, whatever arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hub import engine
from hub.conditions import Truth
from hub.engine import Act, ActionDone, Answered, Cancelled, Exited, Finish, Resumed, Sleep, Started, TimerFired, Wait
from hub.text import TextError
from tests.unit.language import DAY, HOUR, NOW, SEND, Played, happened, loaded, names, program_of, text_of

# -- entering ----------------------------------------------------------------------------------------------------------


def test_an_event_of_the_type_and_connection_starts_the_recipe() -> None:
    program = program_of("- {wait: 1h}")
    assert program.event_types == {"acme.order_paid"}
    assert engine.admits(program, "acme.order_paid", happened(), "acme-main").truth is Truth.TRUE
    assert engine.admits(program, "acme.order_sent", happened(), "acme-main").truth is Truth.FALSE
    refused = engine.admits(program, "acme.order_paid", happened(), "another")
    assert refused.truth is Truth.FALSE
    assert refused.reason == "the event is of another, the recipe starts by those of acme-main"


@pytest.mark.parametrize(
    ("total", "truth", "reason"),
    [
        ({"amount_minor": 7200, "currency": "EUR"}, Truth.TRUE, "event.total 72.00 EUR is at least 50.00 EUR"),
        ({"amount_minor": 4200, "currency": "EUR"}, Truth.FALSE, "event.total 42.00 EUR is below 50.00 EUR"),
        ({"amount_minor": 7200, "currency": "TRY"}, Truth.UNKNOWN, "event.total 72.00 TRY cannot be compared"),
        (None, Truth.UNKNOWN, "event.total is not known"),
    ],
)
def test_a_start_may_have_a_condition_with_values_of_vars(total: object, truth: Truth, reason: str) -> None:
    on = '{event: acme.order_paid, where: {event.total: {gte: "{{ vars.least }}"}}}'
    program = program_of("- {wait: 1h}", 'vars: {least: "50.00 EUR"}', on)
    judgement = engine.admits(program, "acme.order_paid", happened(total=total), "acme-main")
    assert judgement.truth is truth
    assert judgement.reason.startswith(reason)


def test_of_several_starts_any_may_be_true() -> None:
    on = "{any_of: [{event: acme.order_paid, where: {event.paid: true}}, {event: acme.order_paid, where: {event.count: 2}}]}"
    program = program_of("- {wait: 1h}", on=on)
    assert engine.admits(program, "acme.order_paid", happened(paid=False, count=2), "acme-main").truth is Truth.TRUE
    assert engine.admits(program, "acme.order_paid", happened(paid=False, count=3), "acme-main").truth is Truth.FALSE
    assert engine.admits(program, "acme.order_paid", happened(count=3), "acme-main").truth is Truth.UNKNOWN


def test_an_entry_rule_is_counted_by_contact_or_by_a_template() -> None:
    assert engine.entry_rule(program_of("- {wait: 1h}")) is None
    program = program_of("- {wait: 1h}", "entry: {at_most: 2, within: 7d, while_inside: parallel}")
    assert engine.entry_rule(program) == engine.EntryRule("contact", 2, 7 * DAY, "parallel")
    assert engine.entry_scope(program, happened(), "c9") == "c9"
    program = program_of("- {wait: 1h}", 'entry: {per: "order {{ trigger.id }}"}')
    assert engine.entry_rule(program) == engine.EntryRule("order {{ trigger.id }}", 1, None, "ignore")
    assert engine.entry_scope(program, happened(), None) == "order o1"
    program = program_of("- {wait: 1h}", 'entry: {per: "{{ trigger.email }}"}')
    with pytest.raises(TextError, match="entry/per"):
        engine.entry_scope(program, happened(), "c9")


# -- going through -----------------------------------------------------------------------------------------------------

SERIES = f"""
- wait: 1h
- {{{SEND}, as: mail, valid_for: 12h}}
- {{do: acme.coupon, with: {{percentage: 5}}, as: coupon}}
- if: {{steps.coupon.code: exists}}
  then: [{{do: acme.tag}}]
"""


def test_a_run_goes_from_start_to_end() -> None:
    # given a recipe that waits and acts
    run = Played(program_of(SERIES))
    # when it starts, then it sleeps
    assert run.starts() == Sleep(NOW + HOUR, "waiting until 2026-11-22T11:00:00.000Z")
    # and acts once the time has come
    act = run.sleeps_until(NOW + HOUR)
    assert act == Act(
        step_id="mail",
        path="steps/1",
        action="acme.send",
        connection="acme-main",
        input={"to": "+14155550100", "body": "hello"},
        purpose="cart",
        valid_until_ms=NOW + 13 * HOUR,
    )
    assert run.done(message_id="m1").action == "acme.coupon"
    assert run.done(code="C1", ends_at="2026-12-01T00:00:00Z").action == "acme.tag"
    assert run.done() == Finish("done", "done", "all steps are done")
    # and each step passed is on record, with its reason
    assert run.outcomes() == [
        ("wait-1", "waited"),
        ("mail", "sent"),
        ("coupon", "done"),
        ("if-1", "then"),
        ("do-1", "done"),
    ]
    assert run.trail[0].reason == "waited 1h"
    assert run.trail[3].reason == "steps.coupon.code is known"
    assert run.state.ctx["steps"]["mail"] == {"message_id": "m1", "outcome": "sent"}


def test_the_contact_is_asked_for_only_where_it_is_read() -> None:
    run = Played(program_of(SERIES))
    run.starts()
    assert run.facts_asked == 0
    run.sleeps_until(NOW + HOUR)
    assert run.facts_asked == 1


def test_a_run_without_a_contact_never_asks_for_one() -> None:
    run = Played(program_of(SERIES), contact=None)
    run.starts()
    assert run.sleeps_until(NOW + HOUR).ended_by == "failed"
    assert run.trail[-1].reason.startswith("steps/1/with/to: contact.phone is not there")


def test_deciding_again_changes_nothing() -> None:
    run = Played(program_of(SERIES))
    first = run.starts()
    run.now_ms += 600_000
    assert run.hears(Resumed()) == first
    act = run.sleeps_until(NOW + HOUR)
    run.now_ms += 600_000
    assert run.hears(Resumed()) == act
    assert run.outcomes() == [("wait-1", "waited")]


def test_a_timer_that_comes_early_is_set_again() -> None:
    run = Played(program_of(SERIES))
    first = run.starts()
    assert run.sleeps_until(NOW + HOUR - 1) == first


def test_a_skipped_message_gives_its_word_as_outcome() -> None:
    run = Played(
        program_of(f"- {{{SEND}, as: mail}}\n- {{if: {{steps.mail.outcome: suppressed}}, then: [{{stop: sorry}}]}}")
    )
    run.starts()
    assert run.hears(ActionDone("skipped", None, "suppressed: stop")).ended_by == "sorry"
    assert run.trail[0] == engine.StepRecord("mail", "steps/0", "do", "suppressed", "suppressed: stop")


def test_require_sent_skips_a_step_whose_message_did_not_leave() -> None:
    program = program_of(f"- {{{SEND}, as: mail}}\n- {{do: acme.tag, require_sent: mail, as: tagged}}")
    sent, unsent = Played(program), Played(program)
    sent.starts()
    unsent.starts()
    assert sent.done(message_id="m").action == "acme.tag"
    assert unsent.hears(ActionDone("skipped", None, "no_consent")).status == "done"
    assert unsent.trail[-1] == engine.StepRecord("tagged", "steps/1", "do", "skipped", "mail was not sent")


# -- failing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "ended_by", "status"),
    [("retry", "failed", "failed"), ("stop", "failed", "failed"), ("continue", "after", "done"), ("[{stop: mended}]", "mended", "done")],
)  # fmt: skip
def test_on_error_says_what_follows_a_failure(on_error: str, ended_by: str, status: str) -> None:
    run = Played(program_of(f"- {{do: acme.tag, as: t, on_error: {on_error}}}\n- {{stop: after}}"))
    run.starts()
    finish = run.hears(ActionDone("failed", None, "refused: 400"))
    assert (finish.ended_by, finish.status) == (ended_by, status)
    assert run.trail[0] == engine.StepRecord("t", "steps/0", "do", "failed", "refused: 400")
    assert run.state.ctx["steps"]["t"] == {"outcome": "failed"}


def test_after_the_steps_of_on_error_the_run_goes_on() -> None:
    run = Played(program_of("- {do: acme.tag, on_error: [{wait: 1h}]}\n- {stop: after}"))
    run.starts()
    assert isinstance(run.hears(ActionDone("failed", None, "x")), Sleep)
    assert run.sleeps_until(NOW + HOUR).ended_by == "after"


def test_the_worker_is_told_how_long_to_try() -> None:
    run = Played(program_of("- {do: acme.tag, on_error: continue}"))
    assert run.starts().on_error == "continue"


@pytest.mark.parametrize(("line", "ended_by", "status"), [("stop", "failed", "failed"), ("continue", "after", "done")])
def test_on_unknown_says_what_follows_an_unknown_outcome(line: str, ended_by: str, status: str) -> None:
    run = Played(program_of(f"- {{do: acme.tag, on_unknown: {line}}}\n- {{stop: after}}"))
    run.starts()
    finish = run.hears(ActionDone("unknown", None, "no answer"))
    assert (finish.ended_by, finish.status) == (ended_by, status)
    assert run.trail[0].outcome == "unknown"


def test_on_unknown_ask_waits_for_a_person_and_does_not_call_again() -> None:
    run = Played(program_of("- {do: acme.tag, on_unknown: ask}\n- {stop: after}"))
    run.starts()
    waiting = run.hears(ActionDone("unknown", None, "no answer"))
    assert waiting == Wait((), None, "somebody has to look whether it was done: no answer")
    assert run.hears(Resumed()) == waiting
    assert run.done().ended_by == "after"


def test_a_template_without_its_value_fails_the_step_not_the_decision() -> None:
    run = Played(
        program_of('- {set: {contact.attributes.x: "{{ trigger.email }}"}, on_error: continue}\n- {stop: after}')
    )
    assert run.starts().ended_by == "after"
    assert run.trail[0].outcome == "failed"


def test_a_step_that_is_in_no_version_fails_the_run_with_a_sentence() -> None:
    run = Played(program_of("- {wait: 1h}", "on_end: [{do: acme.tag}]"))
    run.state = replace(run.state, position="gone-1")
    assert run.hears(TimerFired()).action == "acme.tag"
    assert run.done() == Finish("failed", "failed", "the step gone-1 is not in this version of the recipe")


# -- leaving -----------------------------------------------------------------------------------------------------------

LEAVING = """
exit_on:
  - {event: acme.order_sent, where: {event.total: {gte: "1.00 EUR"}}}
  - {event: acme.order_paid, match: {event.id: "{{ steps.coupon.code }}"}, then: [{wait: 1h}]}
on_end:
  - {do: acme.tag, on_error: retry}
  - {if: {run.ended_by: acme.order_sent}, then: [{do: acme.coupon, with: {percentage: 9}}]}
"""


def leaving(steps: str = "- {do: acme.coupon, with: {percentage: 5}, as: coupon}\n- {wait: 1d}") -> Played:
    return Played(program_of(steps, LEAVING))


def test_exits_are_watched_from_the_start_or_once_what_they_refer_to_is_there() -> None:
    run = leaving()
    assert run.program.exit_types == {"acme.order_sent", "acme.order_paid"}
    run.starts()
    assert run.exits == [
        engine.Watch("exit", "0", "acme.order_sent", "contact", "c1", {"event.total": {"gte": "1.00 EUR"}}, NOW)
    ]
    run.done(code="C1")
    assert run.exits[1:] == [engine.Watch("exit", "1", "acme.order_paid", "id", "C1", None, NOW)]
    run.hears(Resumed())
    assert len(run.exits) == 2


def test_an_exit_whose_value_never_came_is_on_record_and_watched_no_more() -> None:
    run = leaving("- {do: acme.coupon, with: {percentage: 5}, as: coupon, on_error: continue}\n- {wait: 1d}")
    run.starts()
    run.hears(ActionDone("failed", None, "x"))
    assert names(run.exits) == ["0"]
    assert [(r.step_id, r.outcome) for r in run.trail] == [("coupon", "failed"), ("exit-1", "not_armed")]
    run.hears(Resumed())
    assert len(run.trail) == 2


def test_an_exit_ends_the_run_by_its_event_and_on_end_sees_it() -> None:
    run = leaving()
    run.starts()
    run.done(code="C1")
    assert run.hears(Exited(0, happened("acme.order_sent"))).action == "acme.tag"
    assert run.done().action == "acme.coupon"
    assert run.done() == Finish("acme.order_sent", "done", "acme.order_sent came")
    assert ("exit-0", "acme.order_sent") in run.outcomes()


def test_an_exit_may_have_steps_of_its_own_before_on_end() -> None:
    run = leaving()
    run.starts()
    run.done(code="C1")
    assert run.hears(Exited(1, happened())) == Sleep(NOW + HOUR, "waiting until 2026-11-22T11:00:00.000Z")
    # another exit changes nothing any more
    assert isinstance(run.hears(Exited(0, happened("acme.order_sent"))), Sleep)
    assert run.sleeps_until(NOW + HOUR).action == "acme.tag"
    assert run.done().ended_by == "acme.order_paid"


def test_an_exit_while_the_run_is_ending_is_ignored() -> None:
    run = leaving("- {do: acme.coupon, with: {percentage: 5}, as: coupon}\n- {stop: early}")
    run.starts()
    act = run.done(code="C1")
    assert act.action == "acme.tag"
    assert run.hears(Exited(0, happened("acme.order_sent"))) == act
    assert run.done().ended_by == "early"


def test_a_failing_end_does_not_stop_the_others_and_changes_no_outcome() -> None:
    run = leaving()
    run.starts()
    run.hears(Exited(0, happened("acme.order_sent")))
    assert run.hears(ActionDone("failed", None, "x")).action == "acme.coupon"
    assert run.hears(ActionDone("unknown", None, "y")) == Finish("acme.order_sent", "done", "acme.order_sent came")


def test_on_end_runs_after_a_failure_too_and_the_run_stays_failed() -> None:
    run = leaving()
    run.starts()
    assert run.hears(ActionDone("failed", None, "no money")).action == "acme.tag"
    assert run.done() == Finish("failed", "failed", "no money")


def test_a_cancelled_run_still_runs_on_end_once() -> None:
    run = leaving()
    run.starts()
    assert run.hears(Cancelled("by Ada")).action == "acme.tag"
    assert run.hears(Cancelled("again")).action == "acme.tag"
    assert run.done() == Finish("cancelled", "done", "by Ada")


def test_a_run_without_contact_watches_no_exit_by_contact() -> None:
    run = Played(program_of("- {wait: 1h}", "exit_on: [{event: acme.order_sent}]"), contact=None)
    assert isinstance(run.starts(), Sleep)
    assert run.exits == []
    assert run.trail[0].outcome == "not_armed"


def test_started_again_after_a_crash_decides_the_same() -> None:
    run = leaving()
    act = run.starts()
    assert run.hears(Started()) == act


def test_an_answer_nobody_waits_for_changes_nothing() -> None:
    run = Played(program_of("- {wait: 1h}"))
    first = run.starts()
    assert run.hears(Answered("old", happened())) == first


def test_a_definition_with_vars_of_the_environment_prefers_those() -> None:
    program = program_of('- {set: {contact.attributes.x: "{{ vars.list }}"}}', "vars: {list: a}")
    run = engine.RunState("r", "c1", NOW, happened(), None, {})
    facts = engine.Facts(contact={}, vars={"list": "b"})
    decision = engine.decide(program, run, Started(), facts, NOW)
    assert isinstance(decision, engine.Decision)
    assert decision.changes == (engine.ContactChange("attributes.x", "set", "b"),)


def test_ctx_given_is_not_changed() -> None:
    run = leaving()
    run.starts()
    before = run.state
    kept = repr(before.ctx)
    run.done(code="C1")
    assert repr(before.ctx) == kept


def test_the_definition_compiles_without_a_catalogue() -> None:
    assert engine.compile(loaded(text_of("- {wait: 1h}")).definition).main == "wait-1"
