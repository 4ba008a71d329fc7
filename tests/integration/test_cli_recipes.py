"""Recipes from the command line: check, save, publish, pause, look at, test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Cli

_EXAMPLES = Path(__file__).parents[2] / "recipes"

_PURPOSES = "orders: {channel: sms, class: transactional}\n"
_THANKS = """\
# Says thank you.
recipe: thanks
on: {event: shopify.order_paid}
steps:
  - {do: twilio.send_sms, purpose: orders, with: {to: "{{ contact.phone }}", body: "Thank you!"}, as: sms}
"""
_WRONG = """\
recipe: wrong
on: {event: shopify.order_payed}
steps:
  - {do: twilio.send_smss, purpose: orders, with: {to: "+14155550100", body: Hi}}
"""
_TESTS = """\
recipes: [thanks.yaml]
cases:
  - name: who pays is thanked
    events:
      - event: shopify.order_paid
        data: {order_id: o1, name: "#1", phone: "+14155550100", total: {amount_minor: 5000, currency: EUR}, created_at: "2026-01-05T09:00:00Z", updated_at: "2026-01-05T09:00:00Z"}
    expect:
      effects: [{at: 0s, do: twilio.send_sms, with: {body: "Thank you!"}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with purposes and one recipe that is right."""
    made = tmp_path / "recipes"
    made.mkdir()
    (made / "purposes.yaml").write_text(_PURPOSES)
    (made / "thanks.yaml").write_text(_THANKS)
    return made


@pytest.fixture
def connected(cli: Cli) -> Cli:
    """The command line of a hub with a shop and a phone number, both sandboxes."""
    accounts = {"shopify": "shop=my-shop.myshopify.com", "twilio": f"account_sid=AC{'0' * 32}"}
    for connector, field in accounts.items():
        result = cli("connections", "add", connector, connector, "--set", field, "--sandbox")
        assert result.exit_code == 0, result.output
    return cli


def test_recipes_are_validated_without_a_database(empty_cli: Cli, folder: Path) -> None:
    result = empty_cli("recipes", "validate", str(folder))
    assert result.exit_code == 0, result.output
    assert "1 recipe checked" in result.stdout
    assert empty_cli.json("recipes", "validate", str(folder)) == {"recipes": ["thanks"], "errors": []}
    assert not empty_cli.data_dir.exists()


def test_every_mistake_is_told_with_its_place_and_what_was_meant(empty_cli: Cli, folder: Path) -> None:
    # Given two mistakes on known lines
    wrong = folder / "wrong.yaml"
    wrong.write_text(_WRONG)

    # When it is validated
    result = empty_cli("recipes", "validate", str(folder))

    # Then both stand there as FILE:LINE with the nearest right name, and as data
    assert result.exit_code == 1
    assert f"{wrong}:2:" in result.stderr
    assert f"{wrong}:4:" in result.stderr
    assert "shopify.order_paid" in result.stderr
    assert "twilio.send_sms" in result.stderr
    told = empty_cli("recipes", "validate", str(folder), "--json")
    assert told.exit_code == 1
    assert {(e["file"], e["line"]) for e in json.loads(told.stdout)["errors"]} == {(str(wrong), 2), (str(wrong), 4)}


def test_a_path_that_is_not_there_is_said(empty_cli: Cli) -> None:
    for command in ("validate", "test"):
        result = empty_cli("recipes", command, "nowhere")
        assert result.exit_code == 1
        assert "there is no file or folder nowhere" in result.stderr


def test_what_no_template_can_mend_is_told_when_it_is_validated(empty_cli: Cli, folder: Path) -> None:
    # Given an e-mail without a text, to a person who is known only when it runs
    (folder / "mail.yaml").write_text(
        "recipe: mail\non: {event: shopify.order_paid}\nsteps:\n"
        '  - {do: mandrill.send_email, purpose: letters, with: {to: "{{ contact.email }}", subject: Hi}}\n'
    )
    (folder / "purposes.yaml").write_text(f"{_PURPOSES}letters: {{channel: email, class: transactional}}\n")

    # When it is validated, then it is told, at the line of the step
    result = empty_cli("recipes", "validate", str(folder))
    assert result.exit_code == 1
    assert "mail.yaml:4: mandrill.send_email: give html, text or both (at steps/0/with)" in result.stderr


def test_a_recipe_goes_from_draft_to_published_to_paused_and_back(connected: Cli, folder: Path) -> None:
    # When it is applied, it is a draft
    applied = connected("recipes", "apply", str(folder))
    assert applied.exit_code == 0, applied.output
    assert "1 purpose saved: orders\n" in applied.stdout
    assert "draft saved" in applied.stdout
    assert [(r["name"], r["state"], r["version"]) for r in connected.json("recipes", "list")] == [
        ("thanks", "draft", 0)
    ]

    # When it is published, it is version 1, shown as it was written
    assert connected.json("recipes", "publish", "thanks")["version"] == 1
    shown = connected.json("recipes", "show", "thanks")
    assert shown["source"] == _THANKS
    assert [(v["version"], v["inside"]) for v in shown["versions"]] == [(1, 0)]
    assert connected("recipes", "show", "thanks", "--source").stdout == _THANKS

    # When it is paused and published again, the version stays
    assert connected.json("recipes", "pause", "thanks")["state"] == "paused"
    again = connected.json("recipes", "publish", "thanks")
    assert (again["state"], again["version"]) == ("published", 1)
    assert "as it was already" in connected("recipes", "publish", "thanks").stdout

    # When a changed one is published at once, both versions can be shown
    (folder / "thanks.yaml").write_text(_THANKS.replace("Thank you!", "Thanks!"))
    changed = connected.json("recipes", "apply", str(folder), "--publish")
    assert [(c["name"], c["version"]) for c in changed] == [("thanks", 2)]
    assert connected.json("recipes", "show", "thanks", "--version", "1")["source"] == _THANKS
    assert connected("recipes", "show", "thanks", "--version", "3").exit_code == 3


_TREE = """\
thanks
├── starts
│   └── when shopify.order_paid comes
├── enters
│   └── with every such event
└── steps
    └── do twilio.send_sms for orders  [sms]
        ├── to: {{ contact.phone }}
        └── body: Thank you!
"""


def test_a_recipe_is_shown_as_a_tree_also_from_a_file_without_a_database(empty_cli: Cli, folder: Path) -> None:
    file = str(folder / "thanks.yaml")
    assert empty_cli("recipes", "show", file).stdout == _TREE
    assert empty_cli("recipes", "show", file, "--source").stdout == _THANKS
    assert empty_cli.json("recipes", "show", file) == {"name": "thanks", "source": _THANKS, "versions": []}
    assert empty_cli("recipes", "show", file, "--version", "1").exit_code == 2
    assert "there is no file" in empty_cli("recipes", "show", str(folder / "thank.yaml")).stderr
    assert not empty_cli.data_dir.exists()


def test_the_tree_of_a_version_is_the_one_that_was_published(connected: Cli, folder: Path) -> None:
    connected("recipes", "apply", str(folder), "--publish")
    (folder / "thanks.yaml").write_text(_THANKS.replace("Thank you!", "Thanks!"))
    connected("recipes", "apply", str(folder))
    assert connected("recipes", "show", "thanks").stdout == _TREE.replace("Thank you!", "Thanks!")
    shown = connected("recipes", "show", "thanks", "--version", "1").stdout
    assert shown == _TREE.replace("order_paid comes", "order_paid comes from shopify")


def test_if_one_recipe_is_wrong_none_is_saved(connected: Cli, folder: Path) -> None:
    (folder / "wrong.yaml").write_text(_WRONG)
    result = connected("recipes", "apply", str(folder), "--publish")
    assert result.exit_code == 1
    assert "wrong.yaml:2:" in result.stderr
    assert connected.json("recipes", "list") == []


def test_a_connection_that_is_not_there_is_told_with_file_and_line(connected: Cli, folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text(
        "recipe: wrong\non: {event: shopify.order_paid, from: shp}\nconnections: {shopify: sopify}\nsteps:\n  - wait: 1h\n"
        "  - do: shopify.tag_customer\n    with: {customer_id: '1', tags: [x]}\n"
    )
    for command in (("apply", str(wrong), "--publish"), ("plan", str(wrong))):
        result = connected("recipes", *command)
        assert result.exit_code == 1
        assert f"{wrong}:2: shopify.order_paid has no connection shp" in result.stderr
        assert f"{wrong}:6: shopify.tag_customer has no connection sopify; did you mean shopify?" in result.stderr


def test_a_misspelt_recipe_is_answered_with_what_is_near(connected: Cli, folder: Path) -> None:
    connected("recipes", "apply", str(folder))
    for command in ("publish", "pause", "show"):
        assert "did you mean thanks?" in connected("recipes", command, "thank").stderr


def test_recipe_tests_pass_or_say_what_happened_instead(empty_cli: Cli, folder: Path) -> None:
    # Given a test that is right
    tests = folder / "thanks.test.yaml"
    tests.write_text(_TESTS)
    passed = empty_cli("recipes", "test", str(folder))
    assert passed.exit_code == 0, passed.output
    assert "1 case, 0 failed" in passed.stdout

    # When it expects something else
    tests.write_text(_TESTS.replace("at: 0s", "at: 1h"))
    failed = empty_cli("recipes", "test", str(tests))

    # Then it says what happened, with the trace
    assert failed.exit_code == 1
    assert "expected after 1h" in failed.stdout
    assert "thanks steps/0" in failed.stdout
    told = empty_cli("recipes", "test", str(tests), "--json")
    assert [case["passed"] for case in json.loads(told.stdout)] == [False]


_UNDELIVERED = """\
  - wait_for:
      failed: {event: sms.failed, match: {event.message_id: "{{ steps.sms.message_id }}"}}
    timeout: 1d
    failed: [{stop: undelivered}]
"""
_FAILED = """\
      - at: 1h
        event: twilio.sms_failed
        data: {message_id: "{{ steps.sms.message_id }}", channel: sms, from_number: null, to_number: "+14155550100", messaging_service_sid: null, status: failed, final: true, error_code: "30003", reference: null}
    expect:
      ends: [{at: 1h, by: undelivered}]
"""


def test_an_event_of_a_test_names_what_a_step_got(empty_cli: Cli, folder: Path) -> None:
    # Given a recipe that recognises an event by the message that it sent, and a test that tells of it
    (folder / "thanks.yaml").write_text(_THANKS + _UNDELIVERED)
    tests = folder / "thanks.test.yaml"
    tests.write_text(_TESTS.replace("    expect:\n", _FAILED))
    passed = empty_cli("recipes", "test", str(folder))
    assert passed.exit_code == 0, passed.output

    # When it names another message, the run goes on; when it names a step that got nothing, that is said
    tests.write_text(tests.read_text().replace("{{ steps.sms.message_id }}", "SM-of-another"))
    assert "ended by done" in empty_cli("recipes", "test", str(folder)).stdout
    tests.write_text(tests.read_text().replace("SM-of-another", "{{ steps.mail.message_id }}"))
    told = empty_cli("recipes", "test", str(folder))
    assert told.exit_code == 1
    assert "the event twilio.sms_failed at 1h: message_id: steps.mail.message_id is not there" in told.stderr
    assert told.stderr.startswith(f"error: in the case 'who pays is thanked' of {tests}: the data of")


def test_an_event_that_only_some_can_match_is_told_with_those_that_can(empty_cli: Cli, folder: Path) -> None:
    opened = "  - wait_for: {opened: {event: email.opened, match: {event.message_id: 1}}}\n    timeout: 1d\n"
    (folder / "thanks.yaml").write_text(_THANKS + opened)
    told = empty_cli("recipes", "validate", str(folder))
    assert "email.opened cannot be matched by message_id; name one that can: mandrill.email_opened" in told.stderr


@pytest.mark.parametrize("lines", ["", "connections: {email.send: mail}"])
def test_a_capability_is_played_by_the_tool_that_the_input_is_for(empty_cli: Cli, folder: Path, lines: str) -> None:
    # given an e-mail as one of the connectors that send e-mails takes it, and not the first of them
    text = _THANKS.replace("steps:", f"{lines}\nsteps:")
    mail = (
        '{do: email.send, purpose: orders, with: {to: ada@example.com, subject: Thanks, text: "Thank you!"}, as: sms}'
    )
    (folder / "thanks.yaml").write_text("\n".join([*text.splitlines()[:-1], f"  - {mail}\n"]))
    (folder / "purposes.yaml").write_text(_PURPOSES.replace("sms", "email"))
    (folder / "thanks.test.yaml").write_text(
        _TESTS.replace("twilio.send_sms", "mandrill.send_email").replace("body:", "text:")
    )

    result = empty_cli("recipes", "test", str(folder))
    assert result.exit_code == 0, result.output


def test_a_folder_without_recipe_tests_is_no_success(empty_cli: Cli, folder: Path) -> None:
    result = empty_cli("recipes", "test", str(folder))
    assert result.exit_code == 1
    assert ".test.yaml" in result.stderr


def test_the_example_recipes_are_right_and_pass_their_tests(empty_cli: Cli) -> None:
    assert empty_cli("recipes", "validate", *map(str, _EXAMPLES.glob("*.yaml"))).exit_code == 0
    result = empty_cli("recipes", "test", str(_EXAMPLES))
    assert result.exit_code == 0, result.output


def test_the_schema_is_one_of_json_schema(empty_cli: Cli) -> None:
    schema = json.loads(empty_cli("recipes", "schema").stdout)
    assert "properties" in schema or "$ref" in schema or "anyOf" in schema
