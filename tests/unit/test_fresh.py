"""What operators hold back is never believed for longer than two seconds, however slow the database is."""

from __future__ import annotations

import asyncio
import time

import pytest

from hub.errors import StoreUnavailable
from hub.fresh import FRESH_S, Fresh


class _Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


async def test_what_was_read_lately_is_not_read_again_and_later_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, reads = _Clock(monkeypatch), [0]

    async def read() -> int:
        reads[0] += 1
        return reads[0]

    fresh = Fresh(read)
    assert [await fresh.current(), await fresh.current()] == [1, 1]
    clock.now += FRESH_S - 0.01
    assert await fresh.current() == 1
    clock.now += 0.02
    assert await fresh.current() == 2


async def test_an_answer_is_as_old_as_its_question_and_one_that_took_too_long_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = _Clock(monkeypatch)

    async def slowly() -> str:
        clock.now += FRESH_S + 0.1
        return "nothing is paused"

    with pytest.raises(StoreUnavailable, match="no call is made on old news"):
        await Fresh(slowly).current()


async def test_many_who_ask_at_once_cost_one_read() -> None:
    reads = [0]

    async def read() -> int:
        reads[0] += 1
        await asyncio.sleep(0.01)
        return reads[0]

    fresh = Fresh(read)
    assert await asyncio.gather(*(fresh.current() for _ in range(10))) == [1] * 10
