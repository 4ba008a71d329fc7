"""`hub recipes simulate`: what would have happened, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cli

_RECIPE = str(Path(__file__).parents[2] / "recipes" / "abandoned-cart-sms.yaml")


def _cart(at: str, number: int, **more: Any) -> dict[str, Any]:
    phone = f"+1415555010{number}"
    data = {
        "checkout_token": f"c{number}",
        "phone": phone,
        "total": {"amount_minor": 7200, "currency": "EUR"},
        "created_at": at,
        "updated_at": at,
        **more,
    }
    consent = [{"channel": "sms", "address": phone}] if number == 1 else []
    return {"type": "shopify.checkout_abandoned", "at": at, "data": data, "consent": consent}


@pytest.fixture
def events(tmp_path: Path) -> str:
    """Somebody who agreed, somebody who did not, and a cheap cart."""
    file = tmp_path / "events.jsonl"
    cheap = {"amount_minor": 100, "currency": "EUR"}
    given = [
        _cart("2026-01-05T09:00:00Z", 1),
        _cart("2026-01-05T10:00:00Z", 2),
        _cart("2026-01-07T10:00:00Z", 3, total=cheap),
    ]
    file.write_text("\n".join(json.dumps(one) for one in given))
    return str(file)


def test_each_person_s_path_and_a_summary_are_shown_without_a_database(empty_cli: Cli, events: str) -> None:
    result = empty_cli("recipes", "simulate", _RECIPE, "--events", events)
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert "+14155550101, entered 2026-01-05T09:00:00.000Z" in lines
    assert "2026-01-06 13:00:00  steps/7  stop      offered  stopped: offered" in lines
    assert any("steps/2         do    no_consent" in line for line in lines)
    assert any("not_matched  event.total 1.00 EUR is below 50.00 EUR" in line for line in lines)
    assert "did not enter  1 not_matched" in lines
    assert "would be sent  2 sms" in lines
    assert "held back      1 no_consent" in lines
    assert not empty_cli.data_dir.exists()


def test_all_of_it_is_given_to_programs(empty_cli: Cli, events: str) -> None:
    told = empty_cli.json("recipes", "simulate", _RECIPE, "--events", events)
    assert told["recipe"] == "abandoned-cart-sms"
    assert told["summary"]["entered"] == 2
    assert [path["ended_by"] for path in told["paths"]] == ["offered", "not-reminded"]
    assert told["paths"][0]["effects"][0]["input"]["to"] == "+14155550101"
    assert [one["outcome"] for one in told["not_entered"]] == ["not_matched"]


def test_a_span_and_fewer_paths_can_be_asked_for(empty_cli: Cli, events: str) -> None:
    span = ("--from", "2026-01-05T09:30:00Z", "--to", "2026-01-07T10:00:00Z")
    told = empty_cli.json("recipes", "simulate", _RECIPE, "--events", events, *span)
    assert [path["person"] for path in told["paths"]] == ["+14155550102"]
    assert told["not_entered"] == []
    result = empty_cli("recipes", "simulate", _RECIPE, "--events", events, "--most", "1")
    assert "+14155550102, entered" not in result.stdout
    assert "the first 1 of each are shown" in result.stderr
    nothing = empty_cli("recipes", "simulate", _RECIPE, "--events", events, "--from", "2027-01-01T00:00:00Z")
    assert nothing.exit_code == 0
    assert "none of 3 events" in nothing.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say which events"),
        (("--events", "e.jsonl", "--stored"), "say which events"),
        (("--events", "e.jsonl", "--since", "7d"), "--since goes with --stored"),
        (("--stored", "--since", "a week"), "is no duration"),
        (("--events", "e.jsonl", "--from", "monday"), "is no instant"),
    ],
)
def test_options_that_say_nothing_clear_are_refused(empty_cli: Cli, options: tuple[str, ...], said: str) -> None:
    result = empty_cli("recipes", "simulate", _RECIPE, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_an_event_that_does_not_fit_is_told_with_its_line(empty_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(_cart("2026-01-05T09:00:00Z", 1, total="much")))
    result = empty_cli("recipes", "simulate", _RECIPE, "--events", str(file))
    assert result.exit_code == 1
    assert f"{file}:1: data.total: " in result.stderr


def test_stored_events_are_those_of_the_hub(cli: Cli) -> None:
    # given a recipe that was never published, in a hub that saw nothing yet
    for connector, field in (("shopify", "shop=my-shop.myshopify.com"), ("twilio", f"account_sid=AC{'0' * 32}")):
        assert cli("connections", "add", connector, f"my-{connector}", "--set", field, "--sandbox").exit_code == 0
    assert cli("recipes", "apply", _RECIPE, str(Path(_RECIPE).parent / "purposes.yaml")).exit_code == 0

    # when its name is simulated with what is stored
    result = cli("recipes", "simulate", "abandoned-cart-sms", "--stored", "--since", "7d")

    # then it says that there is nothing
    assert result.exit_code == 0, result.output
    assert "the hub stored no events in this time" in result.stderr
    assert "did you mean abandoned-cart-sms?" in cli("recipes", "simulate", "abandoned-cart", "--stored").stderr
