"""Reading YAML strictly."""

from __future__ import annotations

import pytest

from hub.documents import MAX_BYTES, MAX_DEPTH, read
from hub.errors import RecipeErrors


def refused(source: str) -> str:
    with pytest.raises(RecipeErrors) as caught:
        read(source, file="r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on: x", {"on": "x"}),
        ("a: NO", {"a": "NO"}),
        ("a: yes", {"a": "yes"}),
        ("a: 10:00", {"a": "10:00"}),
        ("a: 2026-11-22", {"a": "2026-11-22"}),
        ("a: 2026-11-22T10:00:00Z", {"a": "2026-11-22T10:00:00Z"}),
        ("a: +905321234567", {"a": "+905321234567"}),
        ("a: 0123", {"a": "0123"}),
        ("a: 0x1F", {"a": "0x1F"}),
        ("a: 1e5", {"a": "1e5"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: .5", {"a": ".5"}),
        ("a: 12345678901234567890", {"a": "12345678901234567890"}),
        ("a: .inf", {"a": ".inf"}),
        ("a: 5", {"a": 5}),
        ("a: -5", {"a": -5}),
        ("a: 1.50", {"a": 1.5}),
        ("a: '5'", {"a": "5"}),
        ('a: "true"', {"a": "true"}),
        ("a: true", {"a": True}),
        ("a: false", {"a": False}),
        ("a: null", {"a": None}),
        ("a:", {"a": None}),
        ("5: x\ntrue: y", {"5": "x", "true": "y"}),
        ("a: Hello {{ contact.first_name }}", {"a": "Hello {{ contact.first_name }}"}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
    ],
)
def test_only_true_false_null_and_plain_numbers_are_typed(written: str, value: object) -> None:
    assert read(written).value == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a: 1\nb: 2\na: 3", "r.yaml, line 3: a stands twice, first on line 1; keep one"),
        ("a: &x 1", "line 1, at a: anchors are refused; remove &x"),
        ("a: 1\nb: *x", "line 2, at b: aliases are refused; write *x out"),
        ("a: !!python/object:os.system x", "line 1, at a: tags are refused"),
        ("a: !custom x", "tags are refused; remove !custom"),
        ("a:\n  <<: {b: 1}", "line 2, at a: merge keys (<<) are refused"),
        ("%YAML 1.1\n---\na: 1", "directives such as %YAML are refused"),
        ("a: 1\n---\nb: 1", "line 2: one file holds one document"),
        ("", "the file is empty"),
        ("a: [1", "line 1: this is no YAML"),
        ("a:\n\t- b", "line 2: this is no YAML"),
        ("? [a, b]\n: c", "a key is a word"),
        ("\x00", "this is no YAML"),
    ],
)
def test_what_would_mean_something_else_is_refused_with_its_line(source: str, message: str) -> None:
    assert message in refused(source)


@pytest.mark.parametrize(
    "source",
    [
        "x: 1\nto: {{ contact.email }}",
        "x: 1\na: {to: {{ contact.email }}, b: 1}",
        "x: 1\na: {to: Hello {{ contact.email }}}",
        'x: 1\na: {b: "one", to: {{ contact.email }}}',
    ],
)
def test_a_template_without_quotes_is_answered_with_the_mend(source: str) -> None:
    assert "line 2" in refused(source)
    assert 'put quotes around "{{ contact.email }}"' in refused(source)


def test_an_error_beside_a_quoted_template_is_not_blamed_on_it() -> None:
    assert "put quotes" not in refused('a: {to: "{{ contact.email }}", ]')


def test_all_mistakes_are_told_together() -> None:
    message = refused("a: &x 1\nb: !t 2\nb: 3\n")
    assert [line.split(" ")[2][0] for line in message.splitlines()] == ["1", "2", "3"]


def test_every_place_knows_its_line() -> None:
    document = read("a:\n  b:\n    - c: 1\n      d: 2\n")
    assert document.error("x", ("a", "b", 0, "d")).line == 4
    assert document.error("x", ("a", "b", 0, "missing", "deeper")).line == 3


def test_large_and_deep_files_are_refused() -> None:
    assert "larger than 256 KB" in refused("a: " + "x" * MAX_BYTES)
    assert "nested deeper" in refused("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_the_billion_laughs_are_refused_at_the_first_alias() -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "aliases are refused" in refused(laughs)
