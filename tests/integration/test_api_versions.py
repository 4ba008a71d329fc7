"""The end of a version of a vendor's API is told in time, with the command that changes it; so is what a connector lacks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.cli.checkup_store import in_database
from hub.connections.versions import ending_of
from hub.connector import ApiVersions
from hub.errors import RecipeErrors
from hub.plans import Planner
from tests.depot import depot

RECIPE = """
recipe: keep
on: {event: depot.ordered}
steps:
  - {do: depot.put, with: {what: x, shelf: Toys}}
"""
TODAY = datetime.now(UTC).date()


def _ends(one: int, two: int = 400) -> ApiVersions:
    ends = {"1": TODAY + timedelta(days=one), "2": TODAY + timedelta(days=two)}
    return ApiVersions(field="api_version", ends=ends)


async def _findings(it: Any) -> list[tuple[str, str, str]]:
    found = in_database(it.settings, it.hub.store, it.hub.plugins)
    return [(f.state.value, f.message, f.mend) async for f in found if f.check == "connection depot"]


@pytest.mark.parametrize(("left", "state"), [(91, "ok"), (89, "warning"), (0, "warning"), (-1, "wrong")])
async def test_the_doctor_warns_ninety_days_before_a_version_ends(
    warehouse: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch, left: int, state: str
) -> None:
    monkeypatch.setattr(depot, "versions", _ends(left))
    async with warehouse(sqlite_url, work=False) as it:
        [(found, message, mend)] = await _findings(it)
        assert found == state
        if state != "ok":
            assert f"the version 1 of Depot's API, which {'ends' if left >= 0 else 'ended'} on" in message
            assert mend == "hub connections set depot api_version=2"


async def test_a_plan_warns_too_and_the_command_ends_it(
    warehouse: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depot, "versions", _ends(10))
    async with warehouse(database_url, work=False) as it:
        planner = Planner(it.hub.store, it.hub.library, it.hub.connections, it.hub.plugins.catalogue)

        async def warned() -> list[str]:
            [one] = (await planner.plan({"keep.yaml": RECIPE}, {})).recipes
            return [w for w in one.warnings if "API" in w]

        [warning] = await warned()
        assert warning.endswith("in 10 days: `hub connections set depot api_version=2`")
        # when it is changed, the credentials stay and nobody is warned
        before = await it.hub.connections.fields(await it.hub.connections.by_name("depot"))
        status, changed = await it.call("PATCH", "/connections/depot", {"settings": {"api_version": "2"}})
        assert (status, changed["settings"]["api_version"]) == (200, "2")
        after = await it.hub.connections.fields(await it.hub.connections.by_name("depot"))
        assert after == {**before, "api_version": "2"}
        assert await warned() == []
        assert [state for state, *_ in await _findings(it)] == ["ok"]


def test_without_a_newer_version_a_newer_connector_is_wanted() -> None:
    name, connector = "depot", depot
    old = connector.versions
    try:
        connector.versions = _ends(5, 1)
        ending = ending_of(name, {"api_version": "1"}, connector, TODAY)
        assert ending is not None
        assert ending.mend == "pip install --upgrade tetik-hub-depot"
        # of a version that nobody knows nothing is said
        assert ending_of(name, {"api_version": "7"}, connector, TODAY) is None
    finally:
        connector.versions = old


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"token": "t"}, "token is a secret"),
        ({"api_versio": "2"}, "did you mean api_version?"),
        ({"api_version": "two"}, "does not look like a Version of the API"),
        ({"account": "other"}, "a connection of the account other"),
    ],
)
async def test_what_is_no_setting_is_refused(
    warehouse: Callable[..., Any], sqlite_url: str, given: dict[str, str], word: str
) -> None:
    async with warehouse(sqlite_url, work=False) as it:
        status, said = await it.call("PATCH", "/connections/depot", {"settings": given})
        assert (status, word in said["detail"]) == (422, True), said


async def test_what_a_connected_connector_lacks_is_said_with_what_to_connect(
    warehouse: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = RECIPE.replace("depot.put, with: {what: x, shelf: Toys}", "chat.notify, with: {}")
    async with warehouse(sqlite_url, work=False, acme=False) as it:
        # where nothing installed does it
        with pytest.raises(RecipeErrors, match="Depot lacks it: it only stores goods; connect a mail provider"):
            await it.hub.library.apply(mail, publish=True)
        # where what does it is not connected
        acme = it.hub.plugins.catalogue.connectors["acme"]
        monkeypatch.setattr(acme.actions["charge"], "provides", "chat.notify")
        sends = mail.replace("with: {}", "with: {key: k}")
        with pytest.raises(RecipeErrors) as refused:
            await it.hub.library.apply(sends, publish=True)
        [error] = refused.value.errors
        assert error.reason == (
            "chat.notify has no connection; Depot, connected as depot, lacks it: it only stores goods; connect a mail "
            "provider, such as acme; add one with hub connections add acme"
        )
        # where a line names the one that lacks it
        with pytest.raises(RecipeErrors, match="has no connection depot; Depot, connected as depot, lacks it"):
            await it.hub.library.apply(f"{sends}\nconnections: {{chat.notify: depot}}\n", publish=True)


async def test_a_plan_tells_what_is_done_only_in_part(
    warehouse: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depot.actions["put"], "provides", "chat.notify")
    async with warehouse(sqlite_url, work=False) as it:
        planner = Planner(it.hub.store, it.hub.library, it.hub.connections, it.hub.plugins.catalogue)
        source = RECIPE.replace("depot.put", "chat.notify")
        [one] = (await planner.plan({"keep.yaml": source}, {})).recipes
        assert any("chat.notify over depot: it only stores goods" in warning for warning in one.warnings)
