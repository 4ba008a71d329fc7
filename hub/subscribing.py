"""Subscriptions: where a vendor is to call, kept as published recipes need it.

Each connection's are listed every hour and whenever something changes, compared with what is wanted, and mended: missing
ones made, orphaned and doubled ones deleted, those that end soon renewed. Nobody else's are ever touched.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hub import seams
from hub.clock import Clock
from hub.connections import Connection, Connections
from hub.connections.addresses import Addresses
from hub.connector import ActionContext, Connector, Subscription, Subscriptions, secrets_in
from hub.errands import Errand, Errands, Missing, Unconnected
from hub.errors import AuthExpired, ConfigError, HubError, NoSuchConnection, PermanentError
from hub.library import Library
from hub.metrics import Metrics, word_of
from hub.plugins import Plugins
from hub.store import recipes, subscriptions, work
from hub.store.session import Store
from hub.store.subscriptions import Held, Kept, Mended
from hub.store.work import Claim

EVERY_MS = 3_600_000
# A subscription is renewed when a third of its life is left: most vendors let them live for days, so that an outage of hours
# is waited out, and each is renewed no oftener than is needed. Those that live for less than three hours are looked at as
# often as that takes.
_RENEW_AT = 3
_SOONEST_MS = 60_000

_log = logging.getLogger(__name__)


# -- what is wanted ----------------------------------------------------------------------------------------------------


def topics_of(connector: Connector, heard: Iterable[str]) -> list[str]:
    """The topics of the triggers of these event types, of those they are derived from, and of those always heard."""
    always = [t.name for t in connector.triggers.values() if t.always or t.privacy or t.consent or t.ends_access]
    mine = [type_.partition(".")[2] for type_ in heard if type_.partition(".")[0] == connector.name]
    names, open_ = set[str](), [*always, *mine]
    while open_:
        name = open_.pop()
        trigger = connector.triggers.get(name)
        if trigger is None or name in names:
            continue
        names.add(name)
        open_ += [*trigger.quiet.source, *trigger.quiet.cancel] if trigger.quiet else []
    return sorted({topic for name in names for topic in connector.triggers[name].topics})


# -- comparing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spare:
    """A subscription of ours that is to be deleted, and why."""

    subscription: Subscription
    why: str


@dataclass
class Plan:
    """What is to be done to get from what there is to what is wanted. `create` maps a topic to why it is missing.

    `first` are those in the way of what is created; `after` those that may still bring something until it is there.
    """

    kept: dict[str, Subscription] = field(default_factory=dict)
    renew: list[Subscription] = field(default_factory=list)
    first: list[Spare] = field(default_factory=list)
    create: dict[str, str] = field(default_factory=dict)
    after: list[Spare] = field(default_factory=list)


@dataclass(frozen=True)
class Measure:
    """By what subscriptions are judged. `secrets` are the ids whose secret is known, None where they have none."""

    addresses: Addresses
    now_ms: int
    secrets: Collection[str] | None = None
    held: Mapping[str, Held] = field(default_factory=dict)
    """What was there after the last look, by topic."""
    lives: Mapping[str, int] = field(default_factory=dict)
    """How long each lives, by id."""

    def fault(self, one: Subscription) -> str | None:
        """Why a subscription of ours brings nothing that is taken; None when it does."""
        if not self.addresses.is_accepted(one.address):
            return "it leads to a former address"
        if one.expires_at_ms is not None and one.expires_at_ms <= self.now_ms:
            return "it has expired"
        if self.secrets is not None and one.id not in self.secrets:
            return "its secret is not known"
        return None

    def renew_at_ms(self, one: Subscription) -> int | None:
        """When it is to be renewed; None when it does not end."""
        if one.expires_at_ms is None:
            return None
        life_ms = max(self.lives.get(one.id, 0), one.expires_at_ms - self.now_ms)
        return one.expires_at_ms - life_ms // _RENEW_AT

    def worth(self, one: Subscription) -> tuple[bool, float, str]:
        """Of several the greatest stays; whoever looks finds the same."""
        ends = float("inf") if one.expires_at_ms is None else float(one.expires_at_ms)
        return self.addresses.is_wanted(one.address), ends, one.id


def compare(found: Iterable[Subscription], wanted: Sequence[str], tolerated: Collection[str], by: Measure) -> Plan:
    """What is to be done about all that a vendor has. `tolerated` topics are others' to want: they stay, and are not made."""
    plan, ours = Plan(), [one for one in found if by.addresses.is_ours(one.address)]
    spares: list[Spare] = []
    topics = set(wanted)
    for topic in dict.fromkeys(one.topic for one in ours):
        same = [one for one in ours if one.topic == topic]
        good = sorted((one for one in same if by.fault(one) is None), key=by.worth, reverse=True)
        if topic in topics or topic in tolerated:
            spares += [Spare(one, "it is there twice") for one in good[1:]]
            spares += [Spare(one, fault) for one in same if (fault := by.fault(one))]
            if good and topic in topics:
                plan.kept[topic] = good[0]
        else:
            spares += [Spare(one, "nothing needs it") for one in same]
    faulty = {spare.subscription.topic: spare.why for spare in spares}
    for topic in dict.fromkeys(wanted):
        if topic not in plan.kept:
            gone = "the vendor dropped it" if topic in by.held else "a recipe needs it"
            plan.create[topic] = faulty.get(topic, gone)
    for spare in spares:
        in_the_way = spare.subscription.topic in plan.create and by.addresses.is_wanted(spare.subscription.address)
        (plan.first if in_the_way else plan.after).append(spare)
    due = ((one, by.renew_at_ms(one)) for one in plan.kept.values())
    plan.renew = [one for one, at_ms in due if at_ms is not None and at_ms <= by.now_ms]
    return plan


# -- mending -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _About:
    """A connection whose subscriptions are looked at, and what is wanted of them."""

    connection: Connection
    kept: Subscriptions
    addresses: Addresses
    topics: list[str]
    others: list[str]
    generation: int


class Subscribing:
    """Handles claimed work of the kind `subscriptions`. `public` says whether vendors can reach this hub at all."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        library: Library,
        plugins: Plugins,
        clock: Clock,
        errands: Errands,
        *,
        metrics: Metrics,
        public: bool,
    ) -> None:
        self._store, self._connections, self._library = store, connections, library
        self._plugins, self._clock, self._errands = plugins, clock, errands
        self._metrics, self._public = metrics, public

    async def handle(self, claim: Claim) -> None:
        """Look at one connection's subscriptions; afterwards the work is due again, finished, or parked."""
        await self._errands.do(claim, partial(self._begin, claim))

    async def _begin(self, claim: Claim) -> Errand | None:
        try:
            connection = await self._connections.by_name(claim.ref)
        except NoSuchConnection as error:
            raise Unconnected(str(error)) from error
        connector = self._plugins.catalogue.connectors.get(connection.connector)
        if connector is None:
            raise Missing(connection.connector)
        if connector.subscriptions is None:
            raise Unconnected(f"{connector.name} subscribes to nothing any more")
        last, about = subscriptions.remembered(claim.data), await self._about(connection, connector.subscriptions)
        if not self._public and not connection.sandbox:
            await self._unreachable(claim, about, last)
            return None
        if self._is_settled(last, about):
            await self._give_back(claim, about, last)
            return None
        failed = partial(self._failed, last)
        return Errand(connection, partial(self._keep, claim, about, last), failed)

    async def _about(self, connection: Connection, kept: Subscriptions) -> _About:
        async with self._store.read() as c:
            generation = await recipes.recipes_generation(c)
        connector = self._connections.connector(connection.connector)
        topics = topics_of(connector, await self._library.heard(connection.name))
        siblings = self._connections.siblings(connection) if kept.shared else []
        others = {t for one in siblings for t in topics_of(connector, await self._library.heard(one.name))}
        addresses = self._connections.addresses(connection)
        return _About(connection, kept, addresses, topics, sorted(others), generation)

    def _is_settled(self, last: Kept, about: _About) -> bool:
        """Whether it was looked at within the hour and nothing has changed since."""
        known = (last.address, last.epoch, last.topics, last.others)
        now = (about.addresses.wanted, about.connection.token_epoch, about.topics, about.others)
        return known == now and last.problem is None and not last.gap and self._clock.now_ms() < last.next_ms

    async def _unreachable(self, claim: Claim, about: _About, last: Kept) -> None:
        """Without a public URL there is nothing to give to a vendor."""
        problem = (
            "HUB_PUBLIC_URL is not set, so the vendor is not told where to call: set it, also for workers, and start the "
            "hub again"
        )
        now_ms = self._clock.now_ms()
        told = last.model_copy(update={"topics": about.topics, "problem": problem, "next_ms": now_ms + EVERY_MS})
        await self._give_back(claim, about, told)

    def _failed(self, last: Kept, error: HubError) -> str:
        # What was there last stays known: what is missing next time was dropped.
        return last.model_copy(update={"problem": str(error)}).model_dump_json()

    async def _keep(self, claim: Claim, about: _About, last: Kept) -> None:
        """List, compare, mend, and remember what there is. Raises what the vendor says to listing, and what may pass."""
        round_ = _Round(self._connections, self._clock, about, last, await self._context(about))
        plan = await round_.compare()
        if not last.gap and any(topic in round_.by.held for topic in plan.create):
            # Remembered before it is mended, so that the polls are asked whatever happens in between.
            last.gap = True
            async with self._store.write() as c:
                if not await work.remember(c, claim, last.model_dump_json()):
                    return
        try:
            await round_.mend(plan)
            if about.kept.shared and plan.create:
                # Another account of the app may have made the same at the same moment. Whoever looks last sees both.
                again = await round_.compare()
                await round_.mend(Plan(after=[*again.first, *again.after]))
        finally:
            self._tell(about.connection, round_.mended)
            last.mended = last.with_mended(round_.mended)
        await self._give_back(claim, about, round_.outcome(), polls=last.gap)

    async def _context(self, about: _About) -> ActionContext:
        context = await self._connections.context(about.connection)
        return replace(context, callback_url=about.addresses.wanted)

    async def _give_back(self, claim: Claim, about: _About, kept: Kept, *, polls: bool = False) -> None:
        async with self._store.write() as c:
            now_ms = self._clock.now_ms()
            stale = await recipes.recipes_generation(c) != about.generation
            due_ms = now_ms if stale else kept.next_ms
            if await work.give_back(c, claim, due_ms=due_ms, data=kept.model_dump_json()) and polls:
                await subscriptions.hasten_polls(c, about.connection.name, now_ms)

    def _tell(self, connection: Connection, mended: Sequence[Mended]) -> None:
        for one in mended:
            self._metrics.subscribed(connection.connector, one.deed)
            _log.info(
                "a subscription was mended",
                extra={
                    "what": f"subscription_{one.deed}",
                    "connection": connection.name,
                    "topic": one.topic,
                    "why": one.why,
                },
            )


class _Round:
    """One look at a connection's subscriptions, and what is done about them."""

    def __init__(
        self, connections: Connections, clock: Clock, about: _About, last: Kept, context: ActionContext
    ) -> None:
        self._connections, self._clock, self._about, self._last = connections, clock, about, last
        self._context, self._kept = context, about.kept
        self._wanted: list[str] = []
        self._there: dict[str, Subscription] = {}
        self._problems: list[str] = []
        self.mended: list[Mended] = []
        self.by = Measure(
            about.addresses,
            clock.now_ms(),
            held={one.topic: one for one in last.held},
            lives={one.id: one.life_ms for one in last.held if one.life_ms is not None},
        )

    async def compare(self) -> Plan:
        """Ask what is wanted and what there is. Raises ConnectorError."""
        self._wanted = list(dict.fromkeys(await self._kept.wanted(self._context, self._about.topics)))
        others: Sequence[str] = ()
        if self._about.others:
            asked = await self._kept.wanted(self._context, self._about.others)
            others = [topic for topic in asked if self._kept.is_shared(topic)]
        found = await self._kept.list(self._context)
        self._there = {one.id: one for one in found}
        if self._kept.secret_field:
            told = {one.id: one.secret for one in found if one.secret and self.by.addresses.is_ours(one.address)}
            self.by = replace(self.by, secrets=frozenset(await self._remember(told)))
        return compare(found, self._wanted, others, self.by)

    async def mend(self, plan: Plan) -> None:
        """Carry a plan out. What the vendor refuses for good is noted, and the rest done; raises what may pass."""
        for spare in plan.first:
            await self._attempt(spare.subscription.topic, self._delete(spare.subscription, spare.why))
        for topic, why in plan.create.items():
            await self._attempt(topic, self._create(topic, why))
        for one in plan.renew:
            await self._attempt(one.topic, self._renew(one))
        for spare in plan.after:
            await self._attempt(spare.subscription.topic, self._delete(spare.subscription, spare.why))

    def outcome(self) -> Kept:
        """What is known now, to be compared with the next time."""
        now_ms = self._clock.now_ms()
        ours = [one for one in self._there.values() if self.by.addresses.is_ours(one.address)]
        # One that could not be renewed is tried again with the next look.
        ends = [at_ms for one in ours if (at_ms := self.by.renew_at_ms(one) or 0) > now_ms]
        return Kept(
            address=self.by.addresses.wanted,
            epoch=self._about.connection.token_epoch,
            topics=self._about.topics,
            others=self._about.others,
            wanted=self._wanted,
            held=[self._held(one) for one in sorted(ours, key=lambda one: (one.topic, one.id))],
            mended=self._last.mended,
            at_ms=now_ms,
            next_ms=max(now_ms + _SOONEST_MS, min([now_ms + EVERY_MS, *ends])),
            problem="; ".join(dict.fromkeys(self._problems)) or None,
        )

    def _held(self, one: Subscription) -> Held:
        life_ms = None if one.expires_at_ms is None else one.expires_at_ms - self.by.now_ms
        if life_ms is not None:
            life_ms = max(life_ms, self.by.lives.get(one.id, 0))
        return Held(id=one.id, topic=one.topic, expires_at_ms=one.expires_at_ms, life_ms=life_ms)

    # -- one after the other ---------------------------------------------------------------------------------------

    async def _attempt(self, topic: str, deed: Coroutine[Any, Any, None]) -> None:
        try:
            await deed
        except (AuthExpired, NoSuchConnection):
            raise
        except (PermanentError, ConfigError) as error:
            self._problems.append(f"{topic}: {error}")

    async def _create(self, topic: str, why: str) -> None:
        made = await self._subscribe(topic)
        if not self._is_told(made):
            # One that was there already, whose secret nobody knows: a new one tells its own.
            await self._kept.delete(self._context, made)
            made = await self._subscribe(topic)
        await self._made(made)
        self._did(topic, "created", why)

    def _is_told(self, one: Subscription) -> bool:
        """Whether its secret is known, where it has one."""
        return not self._kept.secret_field or one.secret is not None or one.id in (self.by.secrets or ())

    async def _subscribe(self, topic: str) -> Subscription:
        made = await self._kept.create(self._context, topic, self.by.addresses.wanted)
        seams.reach("subscription.created")
        if made.topic != topic or not self.by.addresses.is_wanted(made.address):
            raise ConfigError(
                f"a subscription to {topic} came back as one to {made.topic} at another address or name; mend the plugin's "
                "`create`, so that what it returns and lists is what was asked for"
            )
        return made

    async def _made(self, made: Subscription) -> None:
        """It counts as done once its secret is kept. Raises ConfigError when nobody told it, Unconnected when it is in vain."""
        if await self._connections.is_leaving(self._about.connection, made.topic):
            # Who removes the connection asked for what there is before this was there.
            try:
                await self._kept.delete(self._context, made)
            except HubError as error:
                # Nobody is connected any more who could; calls that it brings are refused and counted.
                facts = {"connection": self._about.connection.name, "topic": made.topic, "error": word_of(error)}
                _log.warning("a subscription outlives its connection", extra={"what": "subscription_left", **facts})
            raise Unconnected(f"the connection {self._about.connection.name} was removed meanwhile")
        if not self._is_told(made):
            raise ConfigError(f"the vendor tells no secret of {made.topic}; mend the plugin's `create`")
        self._there[made.id] = made
        if self._kept.secret_field and made.secret is not None:
            self.by = replace(self.by, secrets=frozenset(await self._remember({made.id: made.secret})))

    async def _remember(self, told: Mapping[str, str]) -> dict[str, str]:
        """Keep secrets beside those known, those of subscriptions that are gone left out; returns all."""
        name = self._kept.secret_field

        def changed(known: Mapping[str, str]) -> Mapping[str, str]:
            before = known.get(name, "")
            kept = {id_: secret for id_, secret in secrets_in(before).items() if id_ in self._there} | dict(told)
            # What somebody gave by hand has no id.
            parts = [part for part in before.split() if ":" not in part]
            return {name: " ".join([*parts, *(f"{id_}:{secret}" for id_, secret in kept.items())])}

        fields = await self._connections.add_secrets(self._about.connection, changed)
        return secrets_in(fields.get(name, ""))

    async def _renew(self, one: Subscription) -> None:
        renewed = await self._kept.renew(self._context, one)
        longer = (renewed.expires_at_ms or float("inf")) > (one.expires_at_ms or 0)
        if not longer or not self._is_told(renewed):
            # The vendor took what is there already for as good as a new one.
            await self._kept.delete(self._context, renewed)
            self._there.pop(renewed.id, None)
            renewed = await self._subscribe(one.topic)
        await self._made(renewed)
        if renewed.id != one.id:
            await self._kept.delete(self._context, one)
            self._there.pop(one.id, None)
        self._did(one.topic, "renewed", "it would have ended")

    async def _delete(self, one: Subscription, why: str) -> None:
        await self._kept.delete(self._context, one)
        self._there.pop(one.id, None)
        self._did(one.topic, "deleted", why)

    def _did(self, topic: str, deed: str, why: str) -> None:
        self.mended.append(Mended(at_ms=self._clock.now_ms(), topic=topic, deed=deed, why=why))
