"""Publishing while somebody else publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.recipes.ids import every_step


def _notes(*keys: str) -> str:
    steps = "".join(f"  - {{do: acme.put_note, with: {{key: {key}}}}}\n" for key in keys)
    return f"recipe: notes\non: {{event: acme.signed_up}}\nsteps:\n{steps}"


async def _ids(it: Any) -> dict[str, str]:
    definition = await it.hub.library.published_definition("notes")
    return {one.raw["with"]["key"]: one.raw["id"] for one in every_step(definition)}


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`meanwhile(it, deed)`: the next publishing finds it done when it has looked and not yet written."""

    def arrange(it: Any, deed: Callable[[], Any]) -> None:
        names, left = it.hub.connections.names, [deed]

        async def slow() -> Any:
            found = await names()
            if left:
                await left.pop()()
            return found

        monkeypatch.setattr(it.hub.connections, "names", slow)

    return arrange


async def test_steps_keep_the_ids_of_a_version_that_was_published_in_this_moment(
    running: Callable[..., Any], database_url: str, meanwhile: Callable[..., None]
) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(_notes("a"))
        # given somebody else publishes between the look at what is live and the writing
        meanwhile(it, lambda: it.hub.library.apply(_notes("x", "b"), publish=True))
        # when
        change = await it.hub.library.apply(_notes("b", "x"), publish=True)
        # then
        assert (change.version, change.unchanged) == (3, False)
        assert await _ids(it) == {"x": "do-1", "b": "do-2"}


async def test_what_was_published_in_this_moment_is_not_published_again(
    running: Callable[..., Any], database_url: str, meanwhile: Callable[..., None]
) -> None:
    async with running(database_url, work=False) as it:
        meanwhile(it, lambda: it.hub.library.apply(_notes("a"), publish=True))
        change = await it.hub.library.apply(_notes("a"), publish=True)
        assert (change.version, change.unchanged) == (1, True)


async def test_of_many_that_publish_the_same_at_once_one_does(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.publish(_notes("a"))
        changes = await asyncio.gather(*(it.hub.library.apply(_notes("b"), publish=True) for _ in range(5)))
        assert [one.version for one in changes] == [2] * 5
        assert sorted(one.unchanged for one in changes) == [False, True, True, True, True]


async def test_a_draft_that_is_saved_while_another_is_published_stays(
    running: Callable[..., Any], database_url: str, meanwhile: Callable[..., None]
) -> None:
    async with running(database_url, work=False) as it:
        await it.hub.library.apply(_notes("a"))
        meanwhile(it, lambda: it.hub.library.apply(_notes("b")))
        assert (await it.hub.library.publish("notes")).version == 1
        assert await it.hub.library.source("notes") == _notes("b")
