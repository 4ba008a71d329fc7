"""Loading recipes: the normal form, and every mistake told with its place and its mend."""

from __future__ import annotations

import json

import pytest

from hub.errors import RecipeErrors
from hub.recipes import json_schema, load
from tests.unit.language import CATALOGUE, SEND, loaded, mistakes, text_of

WHOLE = """
# The one recipe with everything in it.
recipe: everything
journey: shop
connections: {acme: acme-main, sms.send: acme-main}
vars: {least: "50.00 EUR", words: [a, b]}
on:
  any_of:
    - acme.cart_left
    - {event: acme.order_paid, where: {event.total: {gte: "{{ vars.least }}"}}, from: acme-main}
entry: {per: "{{ trigger.id }}", at_most: 2, within: 7d, while_inside: restart}
exit_on:
  - {event: sms.received, match: {event.message_id: "{{ steps.mail.message_id }}"}, then: [{stop: talked}]}
  - {event: acme.order_sent, where: {any_item: {in: event.line_items, category: TV}}}
on_end:
  - {do: acme.tag}
steps:
  - wait: 24h
  - do: sms.send
    as: mail
    purpose: cart
    valid_for: 12h
    on_error: [{stop: gone}]
    on_unknown: ask
    with: {to: "{{ contact.phone }}", body: "Hi {{ contact.first_name | default: 'there' }}", options: {a: b}}
  - if: {trigger.type: acme.order_paid}
    then: [{set: {contact.tags: {add: loyal}, contact.attributes.phase: "{{ trigger.status }}"}}]
    else: [{wait: {until: "{{ now }}", offset: 3d, if_past: skip}}]
  - choose:
      - {if: {contact.tags: {contains: vip}}, then: [{wait: {time: "09:00", weekday: [mon], zone: contact}}]}
      - {else: [{wait: exit}]}
  - wait_for:
      said: {event: sms.received, where: {event.words: {contains: yes}}}
      sent: {event: acme.order_sent}
    since: mail
    timeout: {until: trigger.occurred_at, offset: 7d}
    as: answer
    require_sent: mail
    said:
      - {do: sms.send, purpose: answer, confirms: mail, with: {to: "1", body: "{{ steps.answer.event.words }}"}}
    on_timeout: [{stop: silent}]
"""


def test_a_whole_recipe_is_loaded_into_its_normal_form() -> None:
    recipe = loaded(WHOLE)
    assert recipe.name == "everything"
    assert recipe.source == WHOLE
    assert recipe.triggers == ("acme.cart_left", "acme.order_paid")
    assert recipe.purposes == {"cart", "answer"}
    assert recipe.actions == {"sms.send", "acme.tag"}
    assert recipe.definition["on"] == [
        {"event": "acme.cart_left", "types": ["acme.cart_left"]},
        {
            "event": "acme.order_paid",
            "where": {"event.total": {"gte": "{{ vars.least }}"}},
            "from": ["acme-main"],
            "types": ["acme.order_paid"],
        },
    ]
    assert recipe.definition["exit_on"][0]["types"] == ["acme.replied", "post.replied"]
    assert json.loads(json.dumps(recipe.definition)) == recipe.definition


def test_every_step_has_an_id() -> None:
    definition = loaded(WHOLE).definition
    assert [step["id"] for step in definition["steps"]] == ["wait-1", "mail", "if-1", "choose-1", "answer"]
    assert definition["steps"][2]["then"][0]["id"] == "set-1"
    assert definition["steps"][1]["on_error"][0]["id"] == "stop-1"
    assert definition["steps"][4]["said"][0]["id"] == "do-1"
    assert definition["exit_on"][0]["then"][0]["id"]
    assert definition["on_end"][0]["id"] == "do-2"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # the file
        ("- a", [": a recipe is a mapping with recipe, on and steps"]),
        ("recipe: r", [": on is missing", ": steps is missing"]),
        (text_of("- wait: 1h", "stepps: []"), ["stepps: unknown field stepps; did you mean steps?"]),
        (text_of("- wait: 1h", "goal: {event: acme.order_paid}"), ["goal: goal is not part of this release"]),
        (text_of("- wait: 1h", "subject: visitor"), ["subject: subject is not part of this release"]),
        ("recipe: My Recipe\non: {event: acme.order_paid}\nsteps: [{wait: 1h}]", ["recipe: 'My Recipe' is no name"]),
        ("recipe: r\non: {event: acme.order_paid}\nsteps: []", ["steps: this is empty"]),
        ("recipe: r\non: {event: acme.order_paid}\nsteps: {wait: 1h}", ["steps: a list of steps is expected"]),
        # starting
        (text_of("- wait: 1h", on="{event: acme.order_payed}"), ["on/event: there is no event acme.order_payed; did you mean acme.order_paid?"]),
        (text_of("- wait: 1h", on="{event: acme.nonsense}"), ["there are acme.cart_left, acme.order_paid"]),
        (text_of("- wait: 1h", on="{event: broken.thing}"), ["on/event: broken.thing: the plugin broken is not usable: it needs tetik-hub 9"]),
        (text_of("- wait: 1h", on="{event: hubspot.ticket_closed}"), ["no plugin has the event hubspot.ticket_closed; install one that does; there are now: acme, post"]),
        (text_of("- wait: 1h", on="{segment: vip, change: entered}"), ["on/segment: segment is not part of this release; there are any_of, event, from, where", "on/change: change is not part"]),
        (text_of("- wait: 1h", on="{schedule: '0 9 * * MON'}"), ["on/schedule: schedule is not part of this release"]),
        (text_of("- wait: 1h", on="{manual: true}"), ["on/manual: manual is not part of this release"]),
        (text_of("- wait: 1h", on="{date: contact.birthday}"), ["on/date: date is not part of this release"]),
        (text_of("- wait: 1h", on="{any_of: [acme.order_paid, acme.order_snt]}"), ["on/any_of/1: there is no event acme.order_snt; did you mean acme.order_sent?"]),
        (text_of("- wait: 1h", on="{event: acme.order_paid, where: {event.totl: 1}}"), ["on/where/event.totl: event has no totl; did you mean total?"]),
        (text_of("- wait: 1h", on="{event: acme.order_paid, where: {contact.email: x}}"), ["in where and match a path begins with event"]),
        # entering
        (text_of("- wait: 1h", "entry: {within: calendar_year}"), ["entry/within: calendar_year is not part of this release"]),
        (text_of("- wait: 1h", "entry: {within: 7 days}"), ["entry/within: '7 days' is no duration"]),
        (text_of("- wait: 1h", "entry: {at_most: 0}"), ["entry/at_most: Input should be greater than or equal to 1"]),
        (text_of("- wait: 1h", "entry: {at_most: one}"), ["entry/at_most: a whole number is expected"]),
        (text_of("- wait: 1h", "entry: {while_inside: restrat}"), ["entry/while_inside: restrat is not possible here; did you mean restart?"]),
        (text_of("- wait: 1h", "entry: {per: email}"), ["entry/per: per is contact or a template"]),
        (text_of("- wait: 1h", 'entry: {per: "{{ trigger.tokn }}"}'), ["entry/per: trigger has no tokn"]),
        (text_of("- wait: 1h", 'entry: {per: "{{ contact.email }}"}'), ["entry/per: contact.email: here only trigger and vars can be read"]),
        (text_of("- wait: 1h", on='{event: acme.order_paid, where: {event.email: "{{ contact.email }}"}}'), ["contact.email: here only vars can be read"]),
        # leaving
        (text_of("- wait: 1h", "exit_on: [{event: acme.order_pad}]"), ["exit_on/0/event: there is no event acme.order_pad"]),
        (text_of("- wait: 1h", "exit_on: [{segment: vip, change: left}]"), ["exit_on/0/segment: segment is not part", "exit_on/0/change"]),
        (text_of("- wait: 1h", "exit_on: {event: acme.order_paid}"), ["exit_on: a list is expected"]),
        (text_of("- wait: 1h", 'exit_on: [{event: acme.order_paid, match: {event.email: "{{ contact.email }}"}}]'), ["exit_on/0/match/event.email: acme.order_paid cannot be matched by email; it can be matched by id"]),
        (text_of("- wait: 1h", 'exit_on: [{event: acme.order_paid, match: {id: "1"}}]'), ["match takes fields of the event"]),
        (text_of("- wait: 1h", "exit_on: [{event: acme.order_paid, match: {event.id: [1]}}]"), ["match compares with one value"]),
        (text_of("- wait: 1h", 'exit_on: [{event: acme.order_paid, match: {event.id: "{{ steps.mail.id }}"}}]'), ["no step before this one has as: mail"]),
        (text_of("- wait: 1h", "on_end: [{wait: 1h}]"), ["on_end/0: on_end has no waits"]),
        (text_of("- wait: 1h", "on_end: [{stop: x}]"), ["on_end/0: on_end cannot stop the run"]),
        (text_of("- wait: 1h", f"on_end: [{{{SEND}}}]"), ["on_end/0/purpose: on_end sends no marketing messages"]),
        (text_of("- wait: 1h", "on_end: [{wait_for: {a: {event: acme.order_paid}}, timeout: 1h}]"), ["on_end/0: on_end has no waits"]),
        # steps
        (text_of("- 5"), ["steps/0: a step is a mapping"]),
        (text_of("- {doo: acme.tag}"), ["steps/0: this is no step; did you mean do?"]),
        (text_of("- {nonsense: 1}"), ["steps/0: this is no step; a step has one of do, wait, wait_for"]),
        (text_of("- {split: {a: 50}}"), ["steps/0/split: split is not part of this release; the steps are do, wait"]),
        (text_of('- {for_each: "{{ trigger.tags }}", steps: []}'), ["steps/0/for_each: for_each is not part"]),
        (text_of("- {ask: {question: x}}"), ["steps/0/ask: ask is not part"]),
        (text_of("- {run: upsell}"), ["steps/0/run: run is not part"]),
        (text_of("- {wait: 1h, do: acme.tag}"), ["steps/0/wait: unknown field wait"]),
        (text_of("- {do: acme.tag, action: acme.tag}"), ["steps/0/action: action is filled in by the hub"]),
        (text_of("- {stop: a}\n- {wait: 1h}"), ["steps/1: this step is never reached"]),
        (text_of("- {if: {trigger.paid: true}, then: [{stop: a}], else: [{stop: b}]}\n- {wait: 1h}"), ["steps/1: this step is never reached"]),
        (text_of("- {wait: 1h, as: a}\n- {wait: 1h, as: a}"), ["steps/1/as: a is already the name of a step"]),
        (text_of("- {wait: 1h, as: a}\n- {wait: 1h, id: a}"), ["steps/1/id: a is already the name of a step"]),
        (text_of("- {wait: 1h, id: Step 1}"), ["steps/0/id: 'Step 1' is no name"]),
        (text_of("- {do: acme.tag, on_error: again}"), ["steps/0/on_error: on_error is retry, continue, stop or a list of steps"]),
        (text_of("- {do: acme.tag, on_error: [{wiat: 1h}]}"), ["steps/0/on_error/0: this is no step; did you mean wait?"]),
        (text_of("- {do: acme.tag, on_unknown: retry}"), ["steps/0/on_unknown: retry is not possible here; write stop, continue or ask"]),
        (text_of("- {wait: 1h, on_unknown: stop}"), ["steps/0/on_unknown: on_unknown is for actions and conditions"]),
        (text_of("- {if: {trigger.paid: true}, then: [], on_unknown: ask}"), ["on_unknown: ask is for actions"]),
        (text_of("- {wait: 1h, require_sent: mail}"), ["steps/0/require_sent: no step before this one has as: mail"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_its_mend(source: str, expected: list[str]) -> None:
    found = mistakes(source)
    assert len(found) == len(expected), found
    for one, part in zip(found, expected, strict=True):
        assert part in one


def test_all_mistakes_are_told_together_in_the_order_of_their_lines() -> None:
    source = text_of("- {do: acme.tga}\n- wait: soon\n- {stop: failed}\n- {sotp: x}", "entry: {per: x}")
    with pytest.raises(RecipeErrors) as caught:
        loaded(source)
    lines = [error.line for error in caught.value.errors]
    assert lines == sorted(lines, key=lambda line: line or 0)
    assert len(lines) == 5
    assert str(caught.value).splitlines()[1].startswith("r.yaml, line 5, at steps/0/do: there is no action acme.tga")


def test_without_a_purposes_file_purposes_are_not_checked() -> None:
    source = text_of(f"- {{{SEND.replace('cart', 'anything')}}}")
    assert loaded(source, purposes=None).purposes == {"anything"}
    with pytest.raises(RecipeErrors, match=r"there is no purpose anything; add it to purposes\.yaml"):
        loaded(source, purposes={})


# -- what is known where -----------------------------------------------------------------------------------------------

COUPON = "{do: acme.coupon, with: {percentage: 5}, as: coupon}"


def tag(template: str) -> str:
    return f'{{set: {{contact.attributes.x: "{template}"}}}}'


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (f"- {tag('{{ steps.coupon.code }}')}", "no step before this one has as: coupon"),
        (f"- {COUPON}\n- {tag('{{ steps.cupon.code }}')}", "no step before this one has as: cupon; did you mean coupon?"),
        (f"- {COUPON}\n- {tag('{{ steps.coupon.cod }}')}", "steps.coupon has no cod; did you mean code?"),
        (f"- {COUPON}\n- {tag('{{ steps.coupon.code.x }}')}", "steps.coupon.code has no x"),
        (f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}\n- {tag('{{ steps.coupon.code }}')}", "steps.coupon is there on some paths only; add | default:"),
        (f"- {COUPON[:-1]}, on_error: continue}}\n- {tag('{{ steps.coupon.code }}')}", "steps.coupon.code is there on some paths only"),
        (f"- {COUPON[:-1]}, on_unknown: continue}}\n- {tag('{{ steps.coupon.code }}')}", "steps.coupon.code is there on some paths only"),
        (f"- {{wait: 1h, as: w}}\n- {COUPON[:-1]}, require_sent: w}}\n- {tag('{{ steps.coupon.code }}')}", "steps.coupon.code is there on some paths only"),
        (f"- {{wait: 1h}}\n- {tag('{{ trigger.emial }}')}", "trigger has no emial; did you mean email?"),
        (f"- {{wait: 1h}}\n- {tag('{{ triger.email }}')}", "triger.email: there is no triger; did you mean trigger?"),
        (f"- {{wait: 1h}}\n- {tag('{{ event.email }}')}", "event is the candidate of where and match; here the event is trigger"),
        (f"- {{wait: 1h}}\n- {tag('{{ contact.fist_name }}')}", "contact has no fist_name; did you mean first_name?"),
        (f"- {{wait: 1h}}\n- {tag('{{ contact.segments }}')}", "contact.segments: segments are not part of this release"),
        (f"- {{wait: 1h}}\n- {tag('{{ vars.x }}')}", "vars has no x"),
        (f"- {{wait: 1h}}\n- {tag('{{ run.ended_by }}')}", "run has no ended_by"),
        (f"- {{wait: 1h}}\n- {tag('{{ trigger.total.cents }}')}", "trigger.total has no cents; it has amount_minor, currency"),
        (f"- {{wait: 1h}}\n- {tag('{{ trigger.id | nofilter }}')}", "there is no filter nofilter"),
        (f"- {{wait: 1h}}\n- {tag('{{ trigger.id')}", "{{ is not closed by }}"),
        ("- {wait: 1h}\n- {if: {steps.mail.outcome: sent}, then: []}", "no step before this one has as: mail"),
    ],
)  # fmt: skip
def test_a_path_is_followed_before_it_is_used(steps: str, message: str) -> None:
    found = mistakes(text_of(steps))
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    "steps",
    [
        f"- {COUPON}\n- {tag('{{ steps.coupon.code }}')}",
        f"- {COUPON}\n- {tag('{{ steps.coupon.outcome }}')}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}, {tag('{{ steps.coupon.code }}')}]}}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}\n- {tag('{{ steps.coupon.code | default: 0 }}')}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}\n- {{if: {{steps.coupon: exists}}, then: [{tag('{{ steps.coupon.code }}')}]}}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}\n- {{if: {{steps.coupon: {{exists: true}}}}, then: [{tag('{{ steps.coupon.code }}')}]}}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}\n- {{if: {{all: [{{steps.coupon.code: C}}]}}, then: [{tag('{{ steps.coupon.code }}')}]}}",
        f"- {{if: {{trigger.paid: true}}, then: [{COUPON}], else: [{{stop: x}}]}}\n- {tag('{{ steps.coupon.code }}')}",
        f"- {COUPON[:-1]}, on_error: [{{stop: x}}]}}\n- {tag('{{ steps.coupon.outcome }}')}",
        f"- {COUPON[:-1]}, on_error: continue}}\n- {{if: {{steps.coupon.code: exists}}, then: [{tag('{{ steps.coupon.code }}')}]}}",
        f"- {tag('{% if trigger.email %}{{ trigger.email }}{% endif %}')}",
        f"- {tag('{% for i in trigger.line_items %}{{ i.sku }}{% endfor %}')}",
        f"- {tag('{{ trigger.type }}{{ trigger.event_id }}{{ trigger.occurred_at }}{{ trigger.connection }}')}",
        f"- {tag('{{ contact.attributes.anything }}{{ links.unsubscribe }}{{ run.id }}{{ now }}')}",
        f"- {tag('{{ trigger.line_items.first.sku }}{{ trigger.tags.size }}')}",
    ],
)  # fmt: skip
def test_a_path_that_is_always_there_or_guarded_is_allowed(steps: str) -> None:
    loaded(text_of(steps))


def test_of_several_events_only_the_common_fields_are_visible_until_narrowed() -> None:
    on = "{any_of: [acme.cart_left, acme.order_paid]}"
    assert "trigger has no token" in mistakes(text_of(f"- {tag('{{ trigger.token }}')}", on=on))[0]
    loaded(text_of(f"- {tag('{{ trigger.id }}{{ trigger.total }}')}", on=on))
    inside = tag("{{ trigger.token }}")
    for condition in ("acme.cart_left", "{eq: acme.cart_left}", "{in: [acme.cart_left]}"):
        loaded(text_of(f"- {{if: {{trigger.type: {condition}}}, then: [{inside}]}}", on=on))
    wrong = mistakes(text_of(f"- {{if: {{trigger.type: acme.cart_lft}}, then: [{inside}]}}", on=on))
    assert "trigger.type is never 'acme.cart_lft'; did you mean acme.cart_left?" in wrong[0]


def test_the_end_knows_the_steps_only_as_doubtful_and_what_the_run_ended_by() -> None:
    at_end = "on_end: [{if: {run.ended_by: bought}, then: [%s]}]"
    loaded(text_of(f"- {COUPON}", at_end % tag("{{ steps.coupon.code | default: 0 }}")))
    found = mistakes(text_of(f"- {COUPON}", at_end % tag("{{ steps.coupon.code }}")))
    assert "steps.coupon is there on some paths only" in found[0]


def test_an_exit_may_refer_to_any_step_since_it_is_armed_when_that_has_its_result() -> None:
    exit_on = 'exit_on: [{event: acme.order_paid, match: {event.id: "{{ steps.coupon.code }}"}}]'
    loaded(text_of(f"- {{if: {{trigger.paid: true}}, then: [{COUPON}]}}", exit_on))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{trigger.total: 50}", "trigger.total is money; compare it with \"50.00 EUR\", not 50"),
        ("{trigger.total: {gte: 50 euro}}", "trigger.total is money; compare it with"),
        ("{trigger.total: {contains: x}}", "trigger.total is money, which contains does not fit; use eq, exists"),
        ("{trigger.count: many}", "trigger.count is a number; compare it with 5, not 'many'"),
        ("{trigger.paid: 1}", "trigger.paid is true or false; compare it with true, not 1"),
        ("{trigger.paid: {gt: true}}", "which gt does not fit"),
        ("{trigger.status: payed}", "trigger.status is never 'payed'; did you mean paid?"),
        ("{trigger.ends_at: {lt: soon}}", "trigger.ends_at is a time; compare it with"),
        ("{trigger.tags: vip}", "trigger.tags is a list, which eq does not fit; use contains, exists, unknown"),
        ("{trigger.line_items: {contains: 5}}", "eq does not fit"),
        ("{trigger.email: [a, b]}", "write trigger.email: {in: [...]}"),
        ("{trigger.email: {in: a}}", "in takes a list of values"),
        ("{trigger.id: 123}", "trigger.id is text; put quotes around 123"),
        ("{trigger.id: true}", "trigger.id is text; put quotes around true"),
        ("{trigger.email: {eqq: a}}", "eqq is no operator; did you mean eq?"),
        ("{trigger.email: {exists: perhaps}}", "exists takes true or false"),
        ("{trigger.email: {gt: a}}", "gt needs money, a number or a time, not the text"),
        ("{trigger.email: {contains: 5}}", "contains takes text here"),
        ('{trigger.email: {matches: "(?=x)"}}', "is no pattern that can be used: look-around"),
        ('{trigger.email: {matches: "(a)\\\\1"}}', "is no pattern that can be used: backreferences are not supported"),
        ('{trigger.email: {matches: "[a"}}', "is no pattern that can be used: unclosed character class"),
        ('{trigger.email: {matches: "(a{1000}){1000}"}}', "is no pattern that can be used: Compiled regex exceeds size limit"),
        ("{trigger.email: {matches: 5}}", "matches takes a pattern as text"),
        ("{trigger.email: null}", "write trigger.email: unknown"),
        ("{trigger.email: {}}", "say what trigger.email is compared with"),
        ("{email: x}", "email is no path; a path looks like event.total or contact.email"),
        ("{al: [{trigger.paid: true}]}", "al is no path; did you mean all?"),
        ("{all: {trigger.paid: true}}", "all takes a list of conditions"),
        ("{any: []}", "any takes a list of conditions"),
        ("{not: [1]}", "a condition is written as"),
        ("{any_item: {in: trigger.line_items}}", "any_item is written as"),
        ("{any_item: {in: trigger.email, a: 1}}", "trigger.email is no list"),
        ("{any_item: {in: trigger.line_items, categry: TV}}", "an item has no categry; did you mean category?"),
        ("{any_item: {in: trigger.line_items, count: x}}", "count is a number"),
        ("{events: email.clicked, none: true}", "events is not part of this release"),
        ("{messages: {channel: email}}", "messages is not part of this release"),
        ("{}", "a condition is written as"),
    ],
)  # fmt: skip
def test_a_condition_is_checked_by_the_kinds_of_its_paths(condition: str, message: str) -> None:
    found = mistakes(text_of(f"- {{if: {condition}, then: []}}"))
    assert message in found[0]
    assert found[0].startswith("steps/0/if")


@pytest.mark.parametrize(
    "condition",
    [
        '{trigger.total: {gte: "50.00 EUR"}}',
        '{trigger.total: {in: ["1.00 EUR"]}}',
        "{trigger.count: {gt: 5}}",
        "{trigger.id: {gt: 5}}",
        '{trigger.count: "5"}',
        "{trigger.paid: true}",
        "{trigger.status: {in: [paid, sent]}}",
        '{trigger.ends_at: {lt: "2027-01-01T00:00:00Z"}}',
        '{trigger.ends_at: {lt: "{{ now }}"}}',
        "{trigger.tags: {contains: vip}}",
        "{trigger.email: unknown, trigger.id: exists}",
        "{trigger.line_items.size: {gt: 2}}",
        "{any_item: {in: trigger.line_items, category: TV, not: {count: {lt: 2}}}}",
        "{contact.attributes.score: {gt: 5}}",
        "{contact.attributes.list: {contains: 5}}",
        "{not: {any: [{contact.tags: {contains: vip}}, {contact.language: tr}]}}",
        '{now: {gt: "2026-01-01T00:00:00Z"}}',
    ],
)
def test_a_right_condition_passes(condition: str) -> None:
    loaded(text_of(f"- {{if: {condition}, then: []}}"))


def test_the_schema_knows_every_step_and_hides_what_the_hub_fills_in() -> None:
    schema = json_schema()
    assert schema["$defs"]["step"]["anyOf"][0] == {"$ref": "#/$defs/step_do"}
    assert {"do", "with", "purpose", "as"} <= schema["$defs"]["step_do"]["properties"].keys()
    assert "connection" not in schema["$defs"]["step_do"]["properties"]
    assert schema["properties"]["steps"]["items"] == {"$ref": "#/$defs/step"}
    assert "$comment" not in json.dumps(schema)


def test_a_file_name_is_not_needed() -> None:
    with pytest.raises(RecipeErrors, match=r"^recipe, line 1, at recipe: text is expected"):
        load("recipe: 5\non: {event: acme.order_paid}\nsteps: [{wait: 1h}]", CATALOGUE)
