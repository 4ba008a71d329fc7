"""Polls through the hub's own worker, which breaks off around their pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from hub.clock import parse_duration_ms
from hub.connector import ActionContext, Page, Poll
from hub.errors import VendorUnavailable
from hub.process import Hub
from hub.store import views, work
from hub.store.lanes import Lane, Rank
from hub.testing.contract.stage import hub_of

if TYPE_CHECKING:
    from hub.testing.contract import Contract

# Long enough for a few tries.
_TAKEN_UP_MS = parse_duration_ms("10m")
_WHY = "the contract breaks it off here"

Fetch = Callable[[ActionContext, str | None, int], AsyncIterator[Page[Any]]]


class Breaking:
    """A poll or history that breaks off with a page in hand before it is stored, and right after it was.

    As when the worker dies, nothing else is written: it is taken up from what is stored. `begun` holds the page that each
    attempt began with.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch, self._attempts = fetch, 0
        self.begun: list[Page[Any]] = []

    async def fetch(self, ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Any]]:
        self._attempts += 1
        attempt, pages = self._attempts, 0
        async for page in self._fetch(ctx, cursor, since_ms):
            pages += 1
            if pages == 1:
                self.begun.append(page)
            # First with the first page in hand, then after it was stored, then with the next one in hand.
            if attempt in {1, 3}:
                raise VendorUnavailable(_WHY)
            yield page
            if attempt == 2:
                raise VendorUnavailable(_WHY)


async def prove_breaking_off(suite: Contract, name: str) -> None:
    """A poll that breaks off between a page and its commit, and after it, makes every event, and none twice."""
    connector, poll = suite.connector, suite.connector.polls[name]
    trigger = connector.triggers[name]
    async with hub_of(connector, suite.settings, suite.extra, prepare=suite.prepare, work=True) as (hub, _):
        ctx, facts = await hub.connections.context(await hub.connections.by_name(connector.name)), set[str]()
        async for page in poll.fetch(ctx, None, 0):
            facts |= {trigger.event(item, hub.clock.now_ms()).fact_id for item in page.items}
        connector.polls[name] = replace(poll, fetch=Breaking(poll.fetch).fetch)
        try:
            found = await _polled(hub, trigger.type, poll)
        finally:
            connector.polls[name] = poll
    assert len(found) >= len(facts), (
        f"the poll of {trigger.type} loses {len(facts) - len(found)} of {len(facts)} when it breaks off with a page in hand: "
        "let it keep nothing but the cursor of a page, and go on from the one it is given"
    )
    assert len(found) == len(facts), (
        f"the poll of {trigger.type} makes {len(found)} events of {len(facts)} facts when a page comes again: mend its `fact`"
    )


async def _polled(hub: Hub, type_: str, poll: Poll[Any]) -> list[str]:
    """The ids of the events that a poll from the beginning made."""
    connector = type_.partition(".")[0]
    row = {
        "kind": "poll",
        "ref": f"{connector}|{type_}",
        "queue": str(Lane(connection=connector, rank=Rank.BULK)),
        "due_at": hub.clock.now_ms(),
        "data": to_json({"cursor": None, "since_ms": poll.overlap_s * 1000}).decode(),
    }
    async with hub.store.write() as c:
        await work.put(c, [row])
    await hub.time.advance(hub.clock.now_ms() + _TAKEN_UP_MS, ring=hub.ring)
    async with hub.store.read() as c:
        return [event["id"] for event in await views.list_events(c, most=10_000) if event["type"] == type_]
