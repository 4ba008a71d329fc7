"""One hub of real processes per module and database, which the tests of the module crash in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import fresh_database, migrated
from tests.crash.load import numbers
from tests.crash.stage import Stage


# First, because the plugin that deals tests out reads the groups at the same moment.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a stage run in one process of pytest, one after the other."""
    for item in items:
        if isinstance(item, pytest.Function) and Path(__file__).parent in item.path.parents:
            database = item.callspec.params.get("stage", "") if hasattr(item, "callspec") else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{database}"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A hub at work: `hub up` on SQLite, or `hub api` and two workers on PostgreSQL and Redis."""
    folder = tmp_path_factory.mktemp("stage")
    if request.param == "sqlite":
        database_url = f"sqlite:///{folder / 'hub.db'}"
        asyncio.run(migrated(database_url))
        yield from _open(Stage(folder, database_url, hooked=True))
    else:
        names = [request.getfixturevalue(name) for name in ("postgres_server", "postgres_template", "redis_url")]
        with fresh_database(names[0], names[1]) as database_url:
            yield from _open(Stage(folder, database_url, names[2], hooked=True))


def _open(stage: Stage) -> Iterator[Stage]:
    async def open_() -> None:
        async with aiohttp.ClientSession() as session:
            await stage.open(session)

    try:
        asyncio.run(open_())
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def take(stage: Stage) -> Callable[[int], int]:
    """Numbers for people of this stage."""
    return numbers()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """For calls to the hub and to the vendor."""
    async with aiohttp.ClientSession() as opened:
        yield opened
