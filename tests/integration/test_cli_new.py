"""`hub recipes new`: out of a few answers a recipe that is right and a test that passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.drafting import Act, Draft, suggested, written
from hub.plugins import Plugins, load_plugins
from hub.purposes import load_purposes
from tests.integration.conftest import Cli

PURPOSES = load_purposes("news: {class: marketing}")
INSTALLED = load_plugins()
SCRIPTED = ("--name", "hello", "--on", "shopify.order_paid", "--do", "twilio.send_sms")


@pytest.mark.parametrize("event", INSTALLED.catalogue.event_names())
async def test_a_recipe_for_every_event_is_right_and_its_test_passes(event: str) -> None:
    [trigger, *_] = INSTALLED.catalogue.triggers_for(event)
    [action] = INSTALLED.catalogue.actions_for("sms.send")
    act = Act("sms.send", suggested(action, trigger), "1h", "news")
    # `written` plays the test that it made, and raises when it does not pass.
    made = await written(Draft("made", event, [act]), INSTALLED, PURPOSES, beside=None)
    assert f"on: {{event: {event}}}" in made.recipe
    assert made.purposes == "news: {class: marketing}\n"


async def test_every_action_gets_what_it_needs(acme_plugins: Plugins) -> None:
    [trigger] = acme_plugins.catalogue.triggers_for("acme.carted")
    for name, action in acme_plugins.catalogue.actions().items():
        if action.connector != "acme":
            continue
        purpose = "news" if action.message else None
        draft = Draft("made", "acme.carted", [Act(name, suggested(action, trigger), None, purpose)])
        made = await written(draft, acme_plugins, PURPOSES, beside=None)
        assert f"do: {name}, with: " in made.test


def test_by_options_nothing_is_asked_and_the_files_are_right(empty_cli: Cli, tmp_path: Path) -> None:
    # when a recipe is made where there is nothing yet
    folder = tmp_path / "recipes"
    more = ("--wait", "2h", "--purpose", "orders=transactional", "--with", "body=Thank you!", "--folder", str(folder))
    result = empty_cli("recipes", "new", *SCRIPTED, *more)

    # then there are a recipe, its test and its purpose, all right
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in folder.iterdir()) == ["hello.test.yaml", "hello.yaml", "purposes.yaml"]
    assert "wrote" in result.stdout
    assert empty_cli("recipes", "validate", str(folder)).exit_code == 0
    tested = empty_cli("recipes", "test", str(folder))
    assert tested.exit_code == 0, tested.output
    assert "{at: 2h, do: twilio.send_sms" in (folder / "hello.test.yaml").read_text()
    assert "Thank you!" in (folder / "hello.yaml").read_text()
    assert (folder / "purposes.yaml").read_text() == "orders: {channel: sms, class: transactional}\n"
    assert not empty_cli.data_dir.exists()


def test_nothing_is_ever_overwritten(empty_cli: Cli, tmp_path: Path) -> None:
    for name in ("hello.yaml", "hello.test.yaml"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("mine")
        result = empty_cli("recipes", "new", *SCRIPTED, "--purpose", "a=marketing", "--folder", str(folder))
        assert result.exit_code == 1
        assert "is there already" in result.stderr
        assert [file.name for file in folder.iterdir()] == [name]
        assert (folder / name).read_text() == "mine"


def test_a_purposes_file_that_lacks_the_purpose_is_left_as_it_is(empty_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "purposes.yaml").write_text("cart: {channel: sms, class: marketing}\n")
    result = empty_cli("recipes", "new", *SCRIPTED, "--purpose", "news=marketing", "--folder", str(tmp_path))
    assert result.exit_code == 1
    assert "add the line news: {channel: sms, class: marketing} to it" in result.stderr
    assert not (tmp_path / "hello.yaml").exists()
    assert empty_cli("recipes", "new", *SCRIPTED, "--purpose", "cart", "--folder", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--on", "shopify.order_payed"), 3, "did you mean shopify.order_paid?"),
        (("--do", "twilio.send_smss"), 3, "did you mean twilio.send_sms?"),
        (("--name", "Hello World"), 1, "is no name"),
        (("--wait", "soon"), 1, "is no duration"),
        (("--with", "bdy=Hi"), 1, "none of the actions takes bdy"),
        (("--with", "validity_s=many"), 1, "validity_s"),
        (("--purpose", "news=marketting"), 1, "say its class"),
        (("--purpose", ""), 1, "say what for with --purpose"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    empty_cli: Cli, tmp_path: Path, options: tuple[str, str], code: int, said: str
) -> None:
    right = {
        "--name": "hello",
        "--on": "shopify.order_paid",
        "--purpose": "a=marketing",
        "--folder": str(tmp_path / "new"),
    }
    given = {"--do": "twilio.send_sms", **right, options[0]: options[1]}
    result = empty_cli("recipes", "new", *(word for pair in given.items() for word in pair))
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert not (tmp_path / "new").exists()


def test_questions_are_answered_by_number_by_name_and_by_a_part_of_it(empty_cli: Cli, tmp_path: Path) -> None:
    # given somebody who answers: a name that is none, then one; a part of several events, then a number; …
    answers = [
        "No Name",
        "thanks",
        "order_",
        "4",
        "send_sms",
        "soon",
        "1d",
        "orders",
        "transactional",
        "",
        "Thank you, {{ contact.first_name | default: 'friend' }}!",
        "no more",
    ]
    result = empty_cli("recipes", "new", "--folder", str(tmp_path), input="\n".join(answers) + "\n")

    # then the recipe is what was chosen, and its test passes
    assert result.exit_code == 0, result.output
    assert "is no name" in result.stderr
    text = (tmp_path / "thanks.yaml").read_text()
    assert "on: {event: shopify.order_paid}" in text
    assert "- wait: 1d" in text
    assert "Thank you, {{ contact.first_name | default: 'friend' }}!" in text
    assert empty_cli("recipes", "test", str(tmp_path)).exit_code == 0


def test_who_leaves_a_question_open_has_no_files(empty_cli: Cli, tmp_path: Path) -> None:
    result = empty_cli("recipes", "new", "--folder", str(tmp_path / "new"), input="thanks\n")
    assert result.exit_code == 1
    assert "so nothing was done; `--help` tells the options" in " ".join(result.stderr.split())
    assert not (tmp_path / "new").exists()


def test_a_capability_is_that_of_the_tool_that_is_connected(cli: Cli, tmp_path: Path) -> None:
    # given several connectors that send e-mails, of which one is connected, and not the first
    assert cli("connections", "add", "mandrill", "mail", "--sandbox").exit_code == 0
    more = ("--purpose", "orders=transactional", "--with", "subject=Thanks", "--folder", str(tmp_path / "new"))
    by_mail = [word if word != "twilio.send_sms" else "email.send" for word in SCRIPTED]

    # when it would fail, that is said, and nothing is written
    wrong = cli("recipes", "new", *by_mail, *more, "--with", "text=")
    assert wrong.exit_code == 1
    assert "mandrill.send_email: give html, text or both" in wrong.stderr
    assert not (tmp_path / "new").exists()

    # when its fields are given, it is as that tool takes it
    made = cli("recipes", "new", *by_mail, *more, "--with", "text=Thank you!")
    assert made.exit_code == 0, made.output
    assert "do: mandrill.send_email, with: {" in (tmp_path / "new" / "hello.test.yaml").read_text()


def test_one_purpose_is_for_messages_by_several_channels(empty_cli: Cli, tmp_path: Path) -> None:
    more = (
        "--do",
        "mandrill.send_email",
        "--purpose",
        "cart=marketing",
        "--with",
        "text=Hi",
        "--folder",
        str(tmp_path),
    )
    made = empty_cli("recipes", "new", *SCRIPTED, *more)
    assert made.exit_code == 0, made.output
    assert (tmp_path / "purposes.yaml").read_text() == "cart: {class: marketing}\n"


def test_of_several_connections_one_is_named(cli: Cli, tmp_path: Path) -> None:
    # given two phones
    for number in "12":
        field = f"account_sid=AC{number * 32}"
        assert cli("connections", "add", "twilio", f"phone-{number}", "--set", field, "--sandbox").exit_code == 0
    more = ("--purpose", "orders=transactional", "--folder", str(tmp_path / "new"))

    # when none is named, or none that is there, it is said which there are
    assert "add --connection twilio=phone-1" in cli("recipes", "new", *SCRIPTED, *more).stderr
    wrong = cli("recipes", "new", *SCRIPTED, *more, "--connection", "twilio=phone-3")
    assert "there are phone-1, phone-2" in wrong.stderr

    # when one is, the recipe names it, and its test passes
    made = cli("recipes", "new", *SCRIPTED, *more, "--connection", "twilio=phone-2")
    assert made.exit_code == 0, made.output
    assert 'twilio: "phone-2"' in (tmp_path / "new" / "hello.yaml").read_text()
    assert cli("recipes", "test", str(tmp_path / "new")).exit_code == 0
