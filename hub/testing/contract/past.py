"""The past of an account through the hub's own worker, which breaks off around its pages and is told to wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hub import shown
from hub.clock import parse_duration_ms
from hub.connector import Connector, History, Trigger
from hub.events import Event
from hub.process import Hub
from hub.testing.contract.polled import Breaking, Fetch
from hub.testing.contract.stage import hub_of
from hub.testing.sandbox import Sandbox

if TYPE_CHECKING:
    from hub.testing.contract import Contract

# Long enough for a few tries.
_TAKEN_UP_MS = parse_duration_ms("10m")
_THROTTLED_MS = parse_duration_ms("1m")
# Wider than what vendors round their times to.
_LATER_MS = parse_duration_ms("1h")
_MOST_PAGES = 1000


@dataclass(frozen=True)
class _Past:
    """One history of a connector, in a hub with one account of it."""

    connector: Connector
    trigger: Trigger[Any]
    history: History[Any]
    hub: Hub
    sandbox: Sandbox

    async def pages(self, since_ms: int = 0) -> list[list[Event]]:
        """What the history tells when nothing comes between; raises AssertionError where it never ends."""
        found: list[list[Event]] = []
        ctx = await self.hub.connections.context(await self.hub.connections.by_name(self.connector.name))
        async for page in self.history.fetch(ctx, None, since_ms):
            found.append([self.trigger.event(item, since_ms) for item in page.items])
            assert len(found) <= _MOST_PAGES, (
                f"the past of {self.trigger.type} does not end; end it with its last page, also when it is gone on with"
            )
        return found

    async def events(self) -> dict[str, Event]:
        """The same by fact. Raises AssertionError when there is nothing to ask about."""
        found = {event.fact_id: event for page in await self.pages() for event in page}
        assert found, (
            f"the past of {self.trigger.type} is empty at the sandbox: let `prepare` make something happen there"
        )
        return found

    async def read(self, fetch: Fetch) -> shown.Backfill:
        """Have the hub read it all with `fetch`; returns how far it came."""
        self.connector.histories[self.trigger.name] = replace(self.history, fetch=fetch)
        try:
            await self.hub.backfills.begin(self.connector.name, since_ms=0, only=[self.trigger.type])
            await self.hub.time.advance(self.hub.clock.now_ms() + _TAKEN_UP_MS, ring=self.hub.ring)
        finally:
            self.connector.histories[self.trigger.name] = self.history
        told = await self.hub.backfills.status(self.connector.name)
        return next(one for one in told if one["event"] == self.trigger.type)


@asynccontextmanager
async def _past(suite: Contract, name: str) -> AsyncIterator[_Past]:
    connector = suite.connector
    given = {"prepare": suite.prepare, "work": True}
    async with hub_of(connector, suite.settings, suite.extra, **given) as (hub, sandbox):  # type: ignore[arg-type]
        yield _Past(connector, connector.triggers[name], connector.histories[name], hub, sandbox)


def _judge(told: shown.Backfill, facts: int, when: str) -> None:
    """Raise AssertionError unless all of the past was read, and each fact of it stored once."""
    of = f"the past of {told['event']}"
    assert told["state"] == "done", f"{of} is not read to its end {when}: it is {told['state']} ({told['problem']})"
    assert told["new"] == facts, (
        f"{of} makes {told['new']} events of {facts} facts {when}: let it keep nothing but the cursor of a page, go on from "
        "the one it is given, and leave errors to the hub"
    )


async def prove_breaking_off(suite: Contract, name: str) -> None:
    """A past that breaks off between a page and its commit, and after it, goes on there: nothing is lost, doubled or read again."""
    async with _past(suite, name) as it:
        facts, pages = await it.events(), await it.pages()
        assert facts.keys() == {event.fact_id for page in pages for event in page}, (
            f"the past of {it.trigger.type} has other facts when it is read again: mend its trigger's `fact`"
        )
        breaking = Breaking(it.history.fetch)
        _judge(await it.read(breaking.fetch), len(facts), "when it breaks off")
    # The last attempt was made after the first page was stored.
    assert len(pages) == 1 or breaking.begun[0].cursor != breaking.begun[-1].cursor, (
        f"the past of {it.trigger.type} begins anew when it breaks off: go on from the cursor that it is given"
    )


async def prove_page_by_page(suite: Contract, name: str) -> None:
    """A past of which one page is read at a time, as where each uses up the budget, comes to its end and tells all."""
    async with _past(suite, name) as it:
        facts, most = await it.events(), 3 * len(await it.pages()) + 10
        ctx = await it.hub.connections.context(await it.hub.connections.by_name(it.connector.name))
        found, cursor = set[str](), None
        for _ in range(most):
            page = await anext(it.history.fetch(ctx, cursor, 0), None)
            if page is None:
                break
            found |= {it.trigger.event(item, 0).fact_id for item in page.items}
            cursor = page.cursor
    assert page is None, (
        f"the past of {it.trigger.type} does not get on when it is cut off after each page: let the cursor of a page lead "
        "beyond it, and tell no page that leads nowhere"
    )
    assert found == facts.keys(), (
        f"the past of {it.trigger.type} tells {len(found)} of {len(facts)} facts when it is cut off after each page: let it "
        "keep nothing but the cursor"
    )


async def prove_throttled(suite: Contract, name: str) -> None:
    """A past whose vendor asks for fewer calls is read to its end once it takes them again."""
    async with _past(suite, name) as it:
        facts = await it.events()
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + _THROTTLED_MS
        told = await it.read(it.history.fetch)
        assert it.sandbox.refused, f"the past of {it.trigger.type} made no call that could be throttled"
        _judge(told, len(facts), "when it is throttled")


async def prove_beginning(suite: Contract, name: str) -> None:
    """Nothing is told of what happened before the instant that is asked for."""
    async with _past(suite, name) as it:
        since_ms = max(event.occurred_at_ms for event in (await it.events()).values()) + _LATER_MS
        before = [event for page in await it.pages(since_ms) for event in page if event.occurred_at_ms < since_ms]
    assert not before, (
        f"the past of {it.trigger.type} tells of what happened before it is asked to begin: leave out what is older than "
        "`since_ms`"
    )
