"""`hub connections show`, `set`, `choices` and `backfill`, and a plan that tells ids, beside a hub at work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hub.cli import app
from hub.plugins import load_plugins

RECIPE = """
recipe: keep
on: {event: depot.ordered}
steps:
  - {do: depot.put, id: put, with: {what: "{{ trigger.id }}", shelf: toys, also: [s-5]}}
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `hub …` in a thread, on the hub that is given."""
    from tests import acme, depot

    async def run(it: Any, *arguments: str) -> Any:
        for name, value in {
            "DATABASE_URL": it.settings.database_url,
            "KEYS": ",".join(key.get_secret_value() for key in it.settings.keys),
            "SANDBOX_URL": it.settings.sandbox_url,
            "PUBLIC_URL": it.url,
            "DATA_DIR": str(it.settings.data_dir),
            "DEVELOPMENT": "true",
        }.items():
            monkeypatch.setenv(f"HUB_{name}", value)
        monkeypatch.setattr("hub.process.load_plugins", lambda **how: load_plugins(extra=[acme, depot], **how))
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))

    return run


def _people(many: int) -> list[dict[str, Any]]:
    at = datetime.now(UTC) - timedelta(days=40)
    return [
        {"id": f"p-{n}", "email": f"p{n}@example.com", "at": (at - timedelta(days=n)).isoformat()} for n in range(many)
    ]


async def test_a_past_is_followed_to_its_end_and_shown_afterwards(
    warehouse: Callable[..., Any], command: Callable[..., Any], database_url: str
) -> None:
    async with warehouse(database_url) as it:
        it.sandbox.past["registered"] = _people(7)
        done = await command(it, "connections", "backfill", "depot", "--since", "2y", "--only", "registered")
        assert done.exit_code == 0, done.output
        assert "depot.registered  done" in done.stdout
        assert "HUB_KEEP_EVENTS_DAYS" in done.stderr
        told = json.loads((await command(it, "connections", "backfill", "depot", "--status", "--json")).stdout)
        assert [(one["event"], one["state"], one["items"], one["new"]) for one in told] == [
            ("depot.registered", "done", 7, 7),
            ("depot.ordered", "never", 0, 0),
        ]
        shown = await command(it, "connections", "show", "depot")
        assert (shown.exit_code, "Known since" in shown.stdout, "depot.registered" in shown.stdout) == (0, True, True)
        listed = await command(it, "connections", "list")
        assert "known since (UTC)" in listed.stdout
        assert json.loads((await command(it, "connections", "show", "depot", "--json")).stdout)["known_since"]
        events = await command(it, "events", "list", "--stage", "history")
        assert events.stdout.count("depot.registered") == 7


async def test_a_past_may_be_left_to_itself_and_given_up(
    warehouse: Callable[..., Any], command: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        it.sandbox.past["registered"] = _people(2)
        begun = await command(it, "connections", "backfill", "depot", "--detach", "--json")
        assert [one["state"] for one in json.loads(begun.stdout)] == ["reading", "reading"]
        stopped = await command(it, "connections", "backfill", "depot", "--stop", "--json")
        assert [one["state"] for one in json.loads(stopped.stdout)] == ["never", "never"]
        wrong = await command(it, "connections", "backfill", "depot", "--since", "soon")
        assert (wrong.exit_code, "24mo" in wrong.stderr) == (2, True)
        nothing = await command(it, "connections", "backfill", "acme")
        assert (nothing.exit_code, "does not tell its past" in nothing.stderr) == (1, True)


async def test_choices_are_listed_with_their_ids(
    warehouse: Callable[..., Any], command: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        offered = await command(it, "connections", "choices", "depot")
        assert "depot.put.shelf, depot.put.also" in offered.stdout
        every = json.loads((await command(it, "connections", "choices", "depot", "shelves", "--json")).stdout)
        assert [one["id"] for one in every] == ["s-1", "s-2", "s-3", "s-4", "s-5", "Games"]
        books = await command(it, "connections", "choices", "depot", "shelves", "--search", "book")
        assert ("cellar" in books.stdout, "Toys" in books.stdout) == (True, False)
        spots = await command(it, "connections", "choices", "depot", "spots", "--within", "lane=l-2", "--json")
        assert [one["id"] for one in json.loads(spots.stdout)] == ["l-2-1"]
        few = await command(it, "connections", "choices", "depot", "shelves", "--limit", "2")
        assert ("s-3" in few.stdout, "there are more" in few.stderr) == (False, True)


async def test_a_setting_is_changed(
    warehouse: Callable[..., Any], command: Callable[..., Any], sqlite_url: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        changed = await command(it, "connections", "set", "depot", "api_version=2")
        assert (changed.exit_code, changed.stdout.strip()) == (0, "depot now has api_version=2")
        await it.hub.connections.refresh(force=True)
        assert (await it.hub.connections.by_name("depot")).settings["api_version"] == "2"


async def test_a_plan_shows_which_id_a_label_is(
    warehouse: Callable[..., Any], command: Callable[..., Any], sqlite_url: str, tmp_path: Path
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        file = tmp_path / "keep.yaml"
        file.write_text(RECIPE)
        planned = await command(it, "recipes", "plan", str(file))
        assert planned.exit_code == 0, planned.output
        assert "put: shelf toys -> s-4, of the shelves of depot" in planned.stdout
        assert "put: also s-5 is Games, of the shelves of depot" in planned.stdout
        published = await command(it, "recipes", "apply", "--publish", str(file))
        assert published.exit_code == 0, published.output
        exported = await command(it, "recipes", "show", "keep", "--source")
        assert "shelf: toys" in exported.stdout
