"""Subscriptions at the sandbox: made, mended and left alone by the hub, through what the connector declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.connections import Connection
from hub.connections.addresses import Addresses
from hub.connector import ActionContext, Connector, Subscription, Subscriptions, secrets_in
from hub.errors import ConnectorError
from hub.process import Hub
from hub.store import subscriptions
from hub.subscribing import EVERY_MS, topics_of
from hub.testing.contract.stage import hub_of

if TYPE_CHECKING:
    from hub.testing.contract import Contract

_RECIPE = "recipe: contract-subscriptions\non: {{any_of: [{names}]}}\nsteps:\n  - {{stop: heard}}\n"


@dataclass(frozen=True)
class _Looking:
    """A hub with one account of the connector, all of whose triggers start a recipe."""

    connector: Connector
    kept: Subscriptions
    hub: Hub

    async def connection(self) -> Connection:
        return await self.hub.connections.by_name(self.connector.name)

    async def addresses(self) -> Addresses:
        return self.hub.connections.addresses(await self.connection())

    async def context(self) -> ActionContext:
        return await self.hub.connections.context(await self.connection())

    async def wanted(self) -> list[str]:
        topics = topics_of(self.connector, [trigger.type for trigger in self.connector.triggers.values()])
        return sorted(set(await self.kept.wanted(await self.context(), topics)))

    async def listed(self) -> Sequence[Subscription]:
        return await self.kept.list(await self.context())

    async def ours(self) -> list[Subscription]:
        addresses = await self.addresses()
        return [one for one in await self.listed() if addresses.is_ours(one.address)]

    async def make(self, topic: str, address: str) -> Subscription:
        """A subscription that somebody else made, or the hub in former times."""
        try:
            return await self.kept.create(await self.context(), topic, address)
        except ConnectorError as error:
            raise AssertionError(
                f"{self.connector.name} cannot subscribe {topic} to {address}: {type(error).__name__}: {error}"
            ) from error

    async def delete_twice(self, one: Subscription) -> None:
        """Delete one, and once more when it is gone."""
        await self.kept.delete(await self.context(), one)
        try:
            await self.kept.delete(await self.context(), one)
        except ConnectorError as error:
            raise AssertionError(
                f"{self.connector.name}'s `delete` of a subscription that is gone raises {type(error).__name__}; that is no "
                "error: return"
            ) from error

    async def look(self) -> subscriptions.Kept:
        """Let the hub look, as it does every hour; returns what it remembers."""
        await self.hub.connections.attend_all()
        for step_ms in (0, EVERY_MS + 1000, 0):
            await self.hub.time.advance(self.hub.clock.now_ms() + step_ms, ring=self.hub.ring)
        async with self.hub.store.read() as c:
            return (await subscriptions.rows(c))[self.connector.name].kept

    async def judge(self, when: str) -> None:
        """Raise AssertionError unless what there is of ours is what is wanted, once and at the right address."""
        kept, wanted, ours = await self.look(), await self.wanted(), await self.ours()
        name, found = self.connector.name, Counter(one.topic for one in ours)
        why = f"; the hub says: {kept.problem}" if kept.problem else ""
        missing = [topic for topic in wanted if topic not in found]
        assert not missing, f"{when}, {name}'s {', '.join(missing)} must be subscribed to, and is not{why}"
        twice = [topic for topic, n in found.items() if n > 1]
        assert not twice, f"{when}, {name}'s {', '.join(twice)} is subscribed to more than once{why}: mend `delete`"
        more = sorted(found.keys() - set(wanted))
        assert not more, f"{when}, {name}'s {', '.join(more)} is subscribed to, and nobody wants it{why}: mend `delete`"
        addresses = await self.addresses()
        astray = [one.topic for one in ours if not addresses.is_wanted(one.address)]
        assert not astray, f"{when}, {name}'s {', '.join(astray)} leads to a former address{why}"
        assert kept.problem is None, f"{when}, the subscriptions of {name} have a problem: {kept.problem}"
        if self.kept.secret_field:
            fields = await self.hub.connections.fields(await self.connection())
            untold = {one.id for one in ours} - secrets_in(fields.get(self.kept.secret_field, "")).keys()
            assert not untold, (
                f"{when}, the secret of {len(untold)} subscriptions of {name} is not known: mend `create`"
            )


@asynccontextmanager
async def _looking(suite: Contract) -> AsyncIterator[_Looking]:
    connector = suite.connector
    assert connector.subscriptions is not None, "only connectors that subscribe are asked"
    async with hub_of(connector, suite.settings, suite.extra, prepare=suite.prepare, work=True, answers=True) as (
        hub,
        _,
    ):
        if connector.triggers:
            names = ", ".join(trigger.type for trigger in connector.triggers.values())
            await hub.library.apply(_RECIPE.format(names=names), publish=True)
        yield _Looking(connector, connector.subscriptions, hub)


async def prove_missing(suite: Contract) -> None:
    """What is wanted is subscribed to, once; looking again changes nothing; what the vendor drops is made again."""
    async with _looking(suite) as it:
        await it.judge("after the hub has looked")
        assert await it.wanted(), f"{suite.connector.name} wants no subscription: give its triggers a `topic`"
        before = len((await it.look()).mended)
        again = (await it.look()).mended
        assert len(again) == before, (
            f"{suite.connector.name}'s {again[0].topic} is {again[0].deed} at every look ({again[0].why}): let `list` tell "
            "id, topic and address as `create` returned them"
        )
        await it.kept.delete(await it.context(), (await it.ours())[0])
        await it.judge("after the vendor dropped one")


async def prove_spare(suite: Contract) -> None:
    """Those that are there twice, lead to a former address or that nobody wants are deleted; one that is gone is no error."""
    async with _looking(suite) as it:
        await it.judge("after the hub has looked")
        wanted, address = await it.wanted(), (await it.addresses()).wanted
        key = (await it.connection()).inbound_key
        former = f"{address.partition('/webhooks/')[0]}/former/webhooks/{suite.connector.name}/{key}"
        for topic in wanted[:2]:
            await it.make(topic, former)
        await it.make(wanted[0], f"{address}?again=1")
        await it.judge("after some were there twice")
        await it.delete_twice((await it.ours())[0])
        # Now nobody wants any but those that are always wanted.
        await it.hub.library.pause("contract-subscriptions")
        kept = await it.look()
        spare = [one.topic for one in await it.ours() if one.topic not in kept.wanted]
        assert not spare, (
            f"nobody wants {suite.connector.name}'s {', '.join(spare)} any more, and it stays: mend `delete`"
        )


async def prove_foreign(suite: Contract) -> None:
    """Subscriptions that lead elsewhere are listed, and nothing is done about them."""
    async with _looking(suite) as it:
        topic, base = (await it.wanted())[0], (await it.addresses()).wanted.partition("/webhooks/")[0]
        theirs = await it.make(topic, f"{base}/elsewhere")
        for when in ("at the first look", "at the second look"):
            await it.judge(f"beside one that leads elsewhere, {when}")
            found = [one.id for one in await it.listed() if one.address == theirs.address]
            assert found == [theirs.id], (
                f"a subscription of {suite.connector.name} that leads elsewhere is not listed {when}: let `list` tell of all, "
                "and `create` and `delete` touch only what they were given"
            )
