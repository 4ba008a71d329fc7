"""`do`: checked input, purposes, and what the worker is told."""

from __future__ import annotations

import pytest

from hub import engine
from hub.engine import Act
from tests.unit.language import HOUR, NOW, SEND, Played, happened, loaded, mistakes, program_of, text_of


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("do: acme.tga", "steps/0/do: there is no action acme.tga; did you mean acme.tag?"),
        ("do: mailer.send", "no plugin has the action mailer.send; install one that does; there are now: acme, post"),
        ("do: broken.send", "the plugin broken is not usable: it needs tetik-hub 9"),
        ("do: acme.coupon", "steps/0/with: acme.coupon needs percentage"),
        ("do: acme.coupon, with: {percentage: 500}", "steps/0/with/percentage: percentage: Input should be less than or equal"),
        ("do: acme.coupon, with: {percentage: much}", "steps/0/with/percentage: percentage: Input should be a valid integer"),
        ("do: acme.coupon, with: {percentage: 5, prefixx: a}", "acme.coupon takes no prefixx; did you mean prefix?; it takes percentage, prefix"),
        ("do: acme.tag, with: {a: b}", "acme.tag takes no a; it takes nothing"),
        ("do: acme.tag, with: [a]", "steps/0/with: a mapping is expected"),
        ("do: sms.send, purpose: cart, with: {to: '1', body: x, options: {a: 5}}", "steps/0/with/options/a: options.a: Input should be a valid string"),
        ("do: acme.tag, purpose: cart", "acme.tag writes to nobody, so that it has no purpose"),
        ("do: sms.send, with: {to: '1', body: x}", "steps/0: sms.send writes to a person, so say what for with purpose: cart, order"),
        ("do: sms.send, purpose: crat, with: {to: '1', body: x}", "there is no purpose crat; did you mean cart?; there are cart, order, answer, letter"),
        ("do: sms.send, purpose: letter, with: {to: '1', body: x}", "letter is for email, sms.send writes by sms"),
        ("do: sms.send, purpose: answer, with: {to: '1', body: x}", "answer is of class service: say which step it confirms"),
        ("do: sms.send, purpose: cart, confirms: a, with: {to: '1', body: x}", "steps/0/confirms: no step before this one has as: a"),
        ("do: acme.tag, valid_for: 0s", "0s is no time to wait"),
        ("do: acme.tag, valid_for: soon", "steps/0/valid_for: 'soon' is no duration"),
        ("do: acme.tag, valid_for: 5", "steps/0/valid_for: text is expected; put quotes around it"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_when_the_recipe_is_saved(step: str, expected: str) -> None:
    assert expected in mistakes(text_of(f"- {{{step}}}"))[0]


def test_confirms_is_for_service_messages_only() -> None:
    two = f"- {{{SEND}, as: a}}\n- {{{SEND}, confirms: a}}"
    assert "confirms is for purposes of class service; cart is not" in mistakes(text_of(two))[0]


def test_templates_are_left_to_the_moment_they_have_values() -> None:
    loaded(text_of('- {do: acme.coupon, with: {percentage: "{{ trigger.count }}"}}'))
    options = 'options: {a: "{{ trigger.id }}", b: x}'
    loaded(text_of(f'- {{do: sms.send, purpose: cart, with: {{to: "1", body: x, {options}}}}}'))


def test_the_input_is_rendered_with_typed_values() -> None:
    run = Played(
        program_of('- {do: acme.coupon, with: {percentage: "{{ trigger.count }}", prefix: "A{{ trigger.id }}-"}}'),
        trigger=happened(count=7),
    )
    act = run.starts()
    assert isinstance(act, Act)
    assert act.input == {"percentage": 7, "prefix": "Ao1-"}


def test_valid_for_counts_from_when_the_step_was_first_reached() -> None:
    run = Played(program_of(f"- {{{SEND}, valid_for: 2h}}"))
    assert run.starts().valid_until_ms == NOW + 2 * HOUR
    run.now_ms += HOUR
    assert run.starts().valid_until_ms == NOW + 2 * HOUR


def test_a_service_message_names_the_step_it_confirms() -> None:
    steps = f"- {{{SEND}, as: a}}\n- {{do: sms.send, purpose: answer, confirms: a, with: {{to: '1', body: x}}}}"
    run = Played(program_of(steps))
    run.starts()
    act = run.done(message_id="m")
    assert (act.purpose, act.confirms) == ("answer", "a")


def test_an_unbound_step_fails_with_a_sentence() -> None:
    program = engine.compile(loaded(text_of("- {do: acme.tag}")).definition)
    run = Played(program)
    assert run.starts().reason == "acme.tag is bound to no connection; publish the recipe again"
