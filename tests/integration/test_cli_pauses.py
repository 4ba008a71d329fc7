"""Pausing, resuming, retrying and capping from the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.process import open_store
from hub.settings import load_settings
from hub.store import runs
from hub.store.pauses import Pause
from hub.store.runs import Advance, EffectResult, EffectRow, Lease, NewRun, StepRow
from hub.store.work import NEVER_MS
from tests.integration.conftest import Cli

_AT_MS = 1_767_603_600_000  # 2026-01-05T09:00:00Z
_NOBODY = Lease("", 0, 0)
_RECIPE = """
recipe: thanks
on: {event: shopify.order_paid}
steps:
  - {do: twilio.send_sms, id: sms, purpose: orders, with: {to: "{{ trigger.phone }}", body: "Thank you for {{ trigger.name }}"}}
"""


@pytest.fixture
def stocked(cli: Cli, tmp_path: Path) -> Cli:
    """The command line of a hub with two connections, a recipe, and nothing running."""
    (tmp_path / "purposes.yaml").write_text("orders: {channel: sms, class: transactional}")
    (tmp_path / "thanks.yaml").write_text(_RECIPE)
    account = "account_sid=AC" + "0" * 31 + "1"
    for arguments in (
        ("connections", "add", "shopify", "shop", "--set", "shop=my-shop.myshopify.com", "--sandbox"),
        ("connections", "add", "twilio", "sms", "--set", account, "--set", "from_number=+14155550199", "--sandbox"),
        ("recipes", "apply", str(tmp_path / "purposes.yaml"), str(tmp_path / "thanks.yaml"), "--publish"),
    ):
        result = cli(*arguments)
        assert result.exit_code == 0, result.output
    return cli


async def _fail(data_dir: Path, count: int) -> None:
    """Runs whose message Twilio refused."""
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        for n in range(count):
            trigger = {"phone": f"+1415555010{n}", "name": f"#{n}"}
            await runs.start(c, [NewRun(f"r{n}", "thanks", 1, None, f"ev:{n}:", "", trigger, _AT_MS)], _NOBODY)
            request = {"input": {"to": trigger["phone"], "body": "Hi"}, "purpose": "orders"}
            effect = EffectRow(
                f"r{n}:sms", f"r{n}", "sms", "twilio.send_sms", "sms", "intended", "t", request, 1, _AT_MS
            )
            refused = EffectResult(effect.key, "t", effect.action, "failed", "failed", "refused: 21211", None, _AT_MS)
            begun = Advance(
                run_id=f"r{n}", epoch=0, at_ms=_AT_MS, seq=0, status="acting", position="sms", ctx={}, intent=effect
            )
            ended = Advance(
                run_id=f"r{n}", epoch=0, at_ms=_AT_MS, seq=0, status="failed", position=None, reason="refused: 21211",
                ctx={"section": "end", "steps": {}, "intents": {}, "ended": {"by": "failed"}}, finished=True,
                ended_by="failed", result=refused, steps=[StepRow("sms", "steps/0", "do", "failed", "refused: 21211")],
            )  # fmt: skip
            await runs.advance(c, [begun])
            await runs.advance(c, [ended])


def test_runs_are_retried_after_a_look_at_what_would_be_sent(stocked: Cli) -> None:
    # Given three runs that failed
    asyncio.run(_fail(stocked.data_dir, 3))

    # When it is only looked at, it is told what would be sent, with addresses masked
    looked = stocked("runs", "retry", "--recipe", "thanks", "--error", "21211", "--dry-run")
    assert looked.exit_code == 0, looked.output
    assert "3 × twilio.send_sms" in looked.stdout
    assert "+14…00" in looked.stdout
    assert "+14155550100" not in looked.output
    assert {r["status"] for r in stocked.json("runs", "list")} == {"failed"}

    # And without a terminal nothing is done unless it is said twice
    refused = stocked("runs", "retry")
    assert refused.exit_code == 2
    assert refused.stderr == "error: this cannot be taken back, and there is no terminal to ask; add --yes to do it\n"
    assert {r["status"] for r in stocked.json("runs", "list")} == {"failed"}

    # When the first is retried, the rest stays as it is, and it is said how to go on
    first = stocked("runs", "retry", "--first", "1", "--yes")
    assert "retrying 1 run" in first.stdout
    assert "without --first" in first.stderr
    assert {r["id"]: r["status"] for r in stocked.json("runs", "list")} == {
        "r0": "ready",
        "r1": "failed",
        "r2": "failed",
    }
    assert stocked.json("runs", "retry", "--yes")["runs"] == ["r1", "r2"]
    assert stocked.json("runs", "retry", "--dry-run")["selected"] == 0
    assert "there is no such run to retry" in stocked("runs", "retry").stderr


def test_what_cannot_be_retried_or_answered_is_said_plainly(stocked: Cli) -> None:
    asyncio.run(_fail(stocked.data_dir, 1))
    for unknown, said in {
        ("retry", "r9", "--yes"): "there is no run r9;",
        ("answer", "r9", "--done"): "there is no run r9;",
        ("retry", "--recipe", "thansk"): "there is no recipe thansk; did you mean thanks?",
    }.items():
        refused = stocked("runs", *unknown)
        assert (refused.exit_code, said in refused.stderr) == (3, True), refused.output
    assert stocked("runs", "retry", "--started-after", "soon").exit_code == 1
    assert stocked("runs", "retry", "--repeat-effects").exit_code == 2
    assert stocked("runs", "answer", "r0").exit_code == 2
    asked = stocked("runs", "answer", "r0", "--done")
    assert asked.exit_code == 3
    assert "asks nothing" in asked.stderr


async def _park(data_dir: Path, pause: Pause) -> None:
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await runs.start(
            c, [NewRun(f"p{n}", "thanks", 1, None, f"ev:p{n}:", "", {}, _AT_MS) for n in range(2)], _NOBODY
        )
        changes = [
            Advance(
                run_id=f"p{n}", epoch=0, at_ms=_AT_MS, seq=0, status="parked", position="sms", ctx={}, reason="paused",
                due_ms=NEVER_MS, parked_on=pause.parks_on, data=str(_AT_MS),
            )
            for n in range(2)
        ]  # fmt: skip
        await runs.advance(c, changes)


def test_everything_is_paused_and_goes_on_after_a_look(stocked: Cli) -> None:
    # Given a pause with runs that wait for it
    made = stocked.json("pause", "--all", "--reason", "wrong prices")
    asyncio.run(_park(stocked.data_dir, Pause(made["id"], "all", "", "", "", 0)))
    assert "everything is paused" in stocked("pause", "--all", "--reason", "wrong prices").stdout
    [shown] = stocked.json("pauses")
    assert (shown["about"], shown["reason"], shown["runs"]) == ("everything", "wrong prices", 2)
    assert "wrong prices" in stocked("pauses").stdout

    # When it is asked what ending it would do, nothing changes
    looked = stocked("resume", "--all", "--expire-older-than", "2h", "--rate", "2/min", "--dry-run")
    assert "2 runs wait, each for one call" in looked.stdout
    assert "2 have waited longer than 2h" in looked.stdout
    assert "over 1m, oldest first" in looked.stdout
    assert stocked.json("resume", "--all", "--dry-run")["late"] == 0
    refused = stocked("resume", "--all")
    assert refused.exit_code == 2
    assert "error: this cannot be taken back, and there is no terminal to ask; add --yes to do it\n" in refused.stderr
    assert len(stocked.json("pauses")) == 1

    # When it is said twice, they go on
    done = stocked("resume", "--all", "--expire-older-than", "2h", "--yes")
    assert "2 released, 2 of them too late" in done.stdout
    assert "nothing is paused" in stocked("pauses").stderr
    assert {r["status"] for r in stocked.json("runs", "list")} == {"ready"}
    again = stocked("resume", "--all", "--yes")
    assert again.exit_code == 1
    assert "nothing is paused" in again.stderr


def test_one_thing_is_paused_at_a_time_by_a_name_that_is_there(stocked: Cli) -> None:
    assert stocked("pause", "--all", "--recipe", "thanks", "--reason", "x").exit_code == 2
    assert stocked("pause", "--reason", "x").exit_code == 2
    misspelt = stocked("pause", "--recipe", "thnks", "--reason", "x")
    assert misspelt.exit_code == 1
    assert "did you mean thanks?" in misspelt.stderr
    for kind, name in (("recipe", "thanks"), ("connection", "sms"), ("channel", "sms"), ("purpose", "orders")):
        assert f"the {kind} {name} is paused" in stocked("pause", f"--{kind}", name, "--reason", "x").stdout
    assert len(stocked.json("pauses")) == 4
    assert stocked("resume", "--channel", "sms", "--expire-older-than", "long", "--yes").exit_code == 1
    assert stocked("resume", "--channel", "sms", "--rate", "fast", "--yes").exit_code == 1


def test_caps_are_set_shown_and_removed(stocked: Cli) -> None:
    said = stocked("caps", "set", "1000", "--connection", "sms", "--per", "day", "--unit", "segments")
    assert "at most 1,000 segments per day on the connection sms" in said.stdout, said.output
    [cap] = stocked.json("caps", "list")
    assert (cap["used"], cap["most"], cap["unit"]) == (0, 1000, "segments")
    assert "segments" in stocked("caps", "list").stdout
    assert stocked.json("caps", "set", "5", "--recipe", "thanks", "--per", "month")["unit"] == "calls"
    assert stocked("caps", "set", "5", "--per", "day").exit_code == 2
    wrong = stocked("caps", "set", "5", "--connection", "sms", "--per", "day", "--unit", "segment")
    assert wrong.exit_code == 1
    assert "did you mean segments?" in wrong.stderr
    assert stocked("caps", "remove", cap["id"]).exit_code == 0
    assert stocked("caps", "remove", cap["id"]).exit_code == 3
    assert len(stocked.json("caps", "list")) == 1
