"""Templates: typed values, filters, strictness, and limits that nothing gets past."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import text
from hub.text import TextError, render

SCOPE: dict[str, Any] = {
    "contact": {"first_name": None, "last_name": "Lovelace", "phone": "+14155550100", "tags": ["a", "b"]},
    "trigger": {
        "total": {"amount_minor": 5000, "currency": "EUR"},
        "occurred_at": "2026-11-22T10:00:00Z",
        "count": 3,
        "price": 1.5,
        "paid": True,
        "line_items": [{"sku": "tv", "n": 1}, {"sku": "radio", "n": 2}],
        "secret": "s3cret",
        "big": "x" * 200_000,
        "many": [{"n": n} for n in range(900)],
    },
    "steps": {"coupon": {"code": "C1"}},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("hello", "hello"),
        ("{ no template }", "{ no template }"),
        ("{{ trigger.count }}", 3),
        ("{{ trigger.paid }}", True),
        ("{{ trigger.total }}", {"amount_minor": 5000, "currency": "EUR"}),
        ("{{ trigger.line_items }}", SCOPE["trigger"]["line_items"]),
        ("{{trigger.line_items.1.sku}}", "radio"),
        ("{{ trigger.line_items[0].sku }}", "tv"),
        ("{{ trigger.line_items.size }}", 2),
        ("{{ contact.first_name }}", None),
        ("{{ contact.first_name | default: 'there' }}", "there"),
        ("{{ steps.mail.id | default: 'none' }}", "none"),
        ("{{ trigger.count | plus: 2 }}", 5),
        ("{{ true }}", True),
        ("{{ 5 }}", 5),
        ("a {{ trigger.count }} b {{ trigger.price }}", "a 3 b 1.5"),
        ("Hi {{ contact.first_name }}!", "Hi !"),
        ("{{ trigger.paid }}.", "true."),
        ("{{ trigger.total }}.", "50.00 EUR."),
        ("{{ contact.tags }}.", '["a", "b"].'),
        ("{{ trigger.total | money }}", "50.00 EUR"),
        ("{{ 1999 | money: 'EUR' }}", "19.99 EUR"),
        ("{{ '5.00 TRY' | money }}", "5.00 TRY"),
        ("{{ trigger.occurred_at | date: '%d.%m.%Y %H:%M' }}", "22.11.2026 10:00"),
        ("{{ trigger.occurred_at | date: '%e.%m.%y %I', zone: 'America/New_York' }}", "22.11.26 05"),
        ("{{ '2026-02-03' | date: '%j %%' }}", "034 %"),
        ("{{ trigger.occurred_at | plus: '14d' }}", "2026-12-06T10:00:00.000Z"),
        ("{{ trigger.occurred_at | plus: '-1d 12h' }}", "2026-11-20T22:00:00.000Z"),
        ("{{ '0532 123 45 67' | e164: 'TR' }}", "+905321234567"),
        ("{{ 'ada' | sha256 }}", hashlib.sha256(b"ada").hexdigest()),
        ("{% if steps.mail %}yes{% else %}no{% endif %}", "no"),
        ("{% if steps.mail.id == 'x' %}yes{% endif %}.", "."),
        ("{% for i in trigger.line_items %}{{ i.sku }}{{ forloop.index }} {% endfor %}", "tv1 radio2 "),
        ("{% assign n = trigger.count | times: 2 %}{{ n }}", "6"),
        ("{% capture n %}x{{ trigger.count }}{% endcapture %}{{ n | upcase }}", "X3"),
        ("{% case trigger.count %}{% when 3 %}three{% endcase %}", "three"),
        ("{% for n in (1..3) %}{{ n }}{% endfor %}", "123"),
        ("{{ contact.tags | join: '+' }}", "a+b"),
        ('{"a": "{{ trigger.count }}"}', '{"a": "3"}'),
    ],
)
def test_a_template_renders(template: str, value: Any) -> None:
    assert render(template, SCOPE) == value


def test_templates_inside_any_json_are_rendered_and_the_rest_is_left() -> None:
    given_ = {"a": ["{{ trigger.count }}", 5, None], "b": {"c": "x{{ trigger.count }}"}, "{{ k }}": True}
    assert render(given_, SCOPE) == {"a": [3, 5, None], "b": {"c": "x3"}, "{{ k }}": True}


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{{ steps.mail.id }}", "steps.mail.id"),
        ("a {{ steps.mail.id }}", "steps.mail.id"),
        ("a {{ steps.coupon.ends | upcase }}", "steps.coupon.ends"),
        ("{{ trigger.__class__ }}", "trigger.__class__"),
        ("{{ trigger.total.currency.upper }}", "trigger.total.currency.upper"),
        ("{{ contact.keys }}", "contact.keys"),
        ("{{ nobody }}", "nobody"),
        ("{% for i in steps.mail.items %}{% endfor %}x", "steps.mail"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_the_place_and_the_path(template: str, path: str) -> None:
    with pytest.raises(TextError) as caught:
        render({"body": template}, SCOPE, path="steps/2/with")
    assert str(caught.value).startswith(f"steps/2/with/body: {path}")
    assert "default" in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ trigger.secret | e164 }}",
        "{{ trigger.secret | date: '%Y' }}",
        "{{ trigger.secret | money }}",
        "{{ trigger.secret | divided_by: 0 }}",
        "{{ trigger.secret | times: trigger.secret | round: 3 | slice: trigger }}",
        "{{ trigger.secret | plus: '1d' }}",
        "{{ trigger.secret | base64_decode }}",
        "{{ trigger | sort | first | minus: 1 | modulo: 0 }}",
        "{{ trigger.occurred_at | date: '%Y', zone: trigger.secret }}",
        "{{ trigger.occurred_at | date: trigger.secret, zone: 'Mars/Base' }}",
    ],
)
def test_no_error_holds_the_data(template: str) -> None:
    with pytest.raises(TextError) as caught:
        render(template, SCOPE)
    assert "s3cret" not in str(caught.value)
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "s3cret" not in str(cause)
        cause = cause.__cause__


@pytest.mark.parametrize("shift", ["5", "trigger.secret", "trigger.paid"])
def test_a_time_plus_what_is_no_duration_is_an_error_and_not_a_number(shift: str) -> None:
    for template in (
        f"{{{{ trigger.occurred_at | plus: {shift} }}}}",
        f"by {{{{ trigger.occurred_at | plus: {shift} }}}}",
    ):
        with pytest.raises(TextError, match="a duration looks like 14d"):
            render(template, SCOPE)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ x | upcas }}", "there is no filter upcas; did you mean upcase?"),
        ("{{ x | upcase: 1, 2 }}", "upcase: too many positional arguments"),
        ("{{ x | date: '%Y', zoone: 'UTC' }}", "date: got an unexpected keyword argument 'zoone'"),
        ("{{ x | date }}", "date: missing a required argument"),
        ("{{ x | date: '%d %B' }}", "date: %B is not known; use %Y"),
        ("{{ x | date: '%d', zone: 'Mars/Base' }}", "date: there is no such zone; a zone looks like Europe/Istanbul"),
        ("{{ x | date: format: '%d %' }}", "date: % is not known"),
        ("{% if y %}{{ x | plus: '14 days' }}{% endif %}", "plus: '14 days' is no duration; write a number and a unit"),
        ("{{ x", "{{ is not closed by }}"),
        ("{% if x %}", "this is no template"),
        ("{% include 'file' %}", "unexpected tag 'include'"),
        ("{% render 'file' %}", "unexpected tag 'render'"),
        ("{% raw %}{{ x }}{% endraw %}", "the tags raw and doc are not part of it"),
        ("{{ x if y }}", "this is no template"),
        ("{{ (1..1000000000) | join }}", "a range has at most 1,000 numbers"),
        ("{% for i in (1..trigger.count) %}{% endfor %}", "a range is written with two numbers"),
        ("{{ x | safe }}", "there is no filter safe"),
        ("x" * 70_000 + "{{ y }}{% if x %}{% endif %}", "a template has at most 64 KB"),
        ("{{ " + "x" * 1_001 + " }}{% if x %}{% endif %}", "at most 1,000 characters"),
    ],
)
def test_a_wrong_template_is_refused_when_it_is_saved(template: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        text.paths(template)
    assert message in str(caught.value)


def test_dates_have_no_names_that_depend_on_a_language() -> None:
    with pytest.raises(TextError, match="%B is not known"):
        render("{{ trigger.occurred_at | date: '%B' }}", SCOPE)


def test_now_reads_no_clock() -> None:
    with pytest.raises(TextError, match="no time"):
        render("{{ 'now' | date: '%Y' }}", SCOPE)


BOMBS = [
    "{{ 'x' | times: 1000000000 }}",
    "{% for a in (1..1000) %}{% for b in (1..1000) %}x{% endfor %}{% endfor %}",
    "{% for a in (1..1000) %}{% for b in (1..1000) %}{% endfor %}{% endfor %}",
    "{% assign s = 'xxxxxxxx' %}{% for i in (1..100) %}{% assign s = s | append: s %}{% endfor %}{{ s }}",
    "{% for i in (1..100) %}{% capture s %}{{ s | default: 'xxxxxxxx' }}{{ s | default: 'x' }}{% endcapture %}{% endfor %}",
    "{% assign n = 9 %}{% for i in (1..900) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
    "{% assign l = 'a,b' | split: ',' %}{% for i in (1..90) %}{% assign l = l | concat: l %}{% endfor %}{{ l | size }}",
    "{{ trigger.big | replace: '', trigger.big }}",
    "{{ trigger.big | split: '' | join: trigger.big }}",
    "{{ 'xxxxxxxxxx' " + "| replace: '', 'xxxxxxxxxx' " * 12 + "}}",
    "{{ trigger.occurred_at | date: '%999999999Y' }}",
    "{% for a in trigger.many %}{% for b in trigger.many %}{{ b.n }}{% endfor %}{% endfor %}",
    "{% for a in trigger.many %}{{ trigger.big | upcase | size }}{% endfor %}",
    "{% for a in trigger.many %}{{ trigger.many | map: 'n' | sort | uniq | size }}{% endfor %}",
    "{% for a in trigger.many %}{% if trigger.big contains 'y' %}{% endif %}{% endfor %}",
    "{% for i in (1..1000) %}{{ trigger.big }}{% endfor %}",
    "{% for i in (1..900) %}{% assign s = trigger.big | strip_html %}{% endfor %}",
    "{{" * 30_000,
    "{%" * 30_000,
    "{{ a" + "[a" * 20_000 + " }}",
    "{% if a" + " and a" * 10_000 + " %}{% endif %}",
    "{% if a %}" * 6_000,
    "{{" + " " * 60_000 + "}}{% if x %}{% endif %}",
    "{% raw %}" * 7_000,
    "{% comment %}" * 5_000,
    "{{ a | b: '" * 5_000,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=[str(n) for n in range(len(BOMBS))])
def test_a_bomb_is_refused_or_bounded(bomb: str) -> None:
    began = time.process_time()
    try:
        result = render(bomb, SCOPE)
    except TextError:
        result = ""
    assert time.process_time() - began < 1
    assert len(str(result)) <= 262_144


def test_a_list_whose_items_are_held_against_each_other_costs_more_than_one_that_is_read() -> None:
    for items in (list(range(16_000)), [{"n": str(n)} for n in range(7_900)]):
        for template in ("{{ x | uniq | size }}", "{{ x | uniq: 'n' | size }}"):
            began = time.process_time()
            with pytest.raises(TextError):
                render(template, {"x": items})
            assert time.process_time() - began < 1
    assert render("{{ x | uniq | size }}", {"x": [n // 2 for n in range(1_000)]}) == 500


def test_a_text_that_becomes_too_long_is_never_whole_in_memory() -> None:
    scope: Any = {"t": {"big": "x" * 200_000}}
    tracemalloc.start()
    try:
        with pytest.raises(TextError, match="longer than 256 KB"):
            render("{{ t.big }}" * 500, scope)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


MARKS = ["{{ ", " }}", "{% ", " %}", "'", "x", "i.n", "(1..9)", "trigger.big", "trigger.many"]
TAGS = ["if ", "for i in ", "endfor", "endif", "assign x = "]
FILTERS = [" | append: trigger.big", " | split: ''", " | join: trigger.big", " | map: 'n'", " | times: x", " | sort"]
pieces = st.sampled_from([*MARKS, *TAGS, *FILTERS])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, max_size=25).map("".join))
def test_random_templates_end_soon_with_text_or_a_text_error(template: str) -> None:
    began = time.perf_counter()
    try:
        result = render(template, SCOPE)
    except TextError:
        result = ""
    assert time.perf_counter() - began < 1
    assert len(str(result)) <= 262_144 or result == SCOPE["trigger"]["many"]


@given(st.text(max_size=40))
def test_any_text_without_braces_is_itself(plain: str) -> None:
    if "{" not in plain:
        assert render(plain, SCOPE) == plain


@pytest.mark.parametrize(
    "template", ["{{ trigger }}", "{{ trigger.body }}", "{{ trigger.list }}", "{{ trigger.body }} !"]
)
def test_what_stands_in_many_places_counts_in_each(template: str) -> None:
    scope: dict[str, Any] = {"trigger": {"body": "x" * 200_000, "list": ["y" * 99] * 2_000}}
    assert render({"a": template, "b": [template]}, scope) is not None
    with pytest.raises(TextError, match=r"^with/n/[0-9]+: with it more than 1,024 KB are filled in"):
        render({"n": [template] * 5_000}, scope, path="with")


def test_a_whole_event_is_handed_on_as_large_as_it_comes() -> None:
    event = {"body": "x" * 990_000}
    assert render({"event": "{{ trigger }}"}, {"trigger": event}) == {"event": event}


def test_the_paths_of_a_template_are_known_before_it_runs() -> None:
    # given a template that reads, tests and assigns
    template = (
        "{% if steps.c %}{{ steps.c.code }}{% endif %}{{ a.b | default: 'x' }}{{ q.r[0].z }}"
        "{% for i in trigger.items %}{{ i.c }}{% endfor %}{% assign own = d.e %}{{ own }}"
    )
    # then it reads these, and copes with the absence of some
    found = {".".join(one.path): one.optional for one in text.paths(template)}
    assert found == {
        "steps.c": True,
        "steps.c.code": True,
        "a.b": True,
        "q.r.0.z": False,
        "trigger.items": False,
        "d.e": False,
    }
