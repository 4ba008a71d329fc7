"""Subscriptions at vendors: whatever state they are in, they become what published recipes need, and no others are touched."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import seams
from hub.api.connections import views_of
from hub.cli.checkup_store import in_database
from hub.clock import Clock, parse_duration_ms
from hub.connections.addresses import Addresses
from hub.connector import Subscription
from hub.errors import AuthExpired, NotThere
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, working
from hub.settings import load_settings
from hub.store import subscriptions, views
from hub.subscribing import Measure, compare, topics_of
from hub.testing.contract.stage import hub_of
from hub.testing.sandbox import SandboxServer
from hub.vault import generate_key
from tests.herald import HeraldSandbox, Hook, Hooks, Lists, Plain, Plugin, Shared, make

HOUR = parse_duration_ms("1h")
PUBLIC = "https://hub.example.com"
ELSEWHERE = "https://elsewhere.example/hook"
ALWAYS = ["gone/all", "left/all"]
SOLD = "recipe: sales\non: {event: herald.sold}\nsteps:\n  - {set: {contact.attributes.is_buyer: true}}\n"
STEPS = "steps:\n  - {set: {contact.attributes.is_buyer: true}}\n"


@dataclass
class Place:
    """A hub with one account of Herald."""

    hub: Hub
    herald: HeraldSandbox
    settings: Any
    plugins: Any

    @property
    def address(self) -> str:
        return self.hub.connections.addresses(self.connection).wanted

    @property
    def connection(self) -> Any:
        return self.hub.connections._known.connections["main"]

    async def publish(self, source: str = SOLD) -> None:
        await self.hub.library.apply(source, publish=True)
        await self.rest()

    async def rest(self) -> None:
        await self.hub.time.advance(self.hub.clock.now_ms(), ring=self.hub.ring)

    async def advance(self, by_ms: int) -> None:
        await self.hub.time.advance(self.hub.clock.now_ms() + by_ms, ring=self.hub.ring)
        await self.rest()

    async def shown(self) -> Any:
        async with self.hub.store.read() as c:
            return await views.show_subscriptions(c, "main")

    async def kept(self) -> subscriptions.Kept:
        async with self.hub.store.read() as c:
            return (await subscriptions.rows(c))["main"].kept

    async def secrets(self) -> str:
        return (await self.hub.connections.fields(self.connection))["hook_secrets"]

    async def received(self, hook: Hook, **news: Any) -> list[str]:
        """Send a call of a subscription through the door; returns the types of all events."""
        body, headers = await self.herald.call(hook, **news)
        key = hook.address.rpartition("/")[2]
        await self.hub.ingest.receive("herald", key, method="POST", query="", headers=headers, body=body)
        async with self.hub.store.read() as c:
            return [event["type"] for event in await views.list_events(c)]


@asynccontextmanager
async def place_of(
    database_url: str, tmp_path: Any, kept: Any = None, *, work: bool = True, **changed: Any
) -> AsyncIterator[Place]:
    """A hub at work with one account, in sandbox mode."""
    clock = Clock()
    herald, plugins = HeraldSandbox(clock), load_plugins(extra=[Plugin(kept or Plain())])
    async with SandboxServer({"herald": herald}) as server:
        given_: dict[str, Any] = {"public_url": PUBLIC, "keys": [generate_key()], **changed}
        made = load_settings(
            database_url=database_url, development=True, sandbox_url=server.url, data_dir=tmp_path, **given_
        )
        async with open_hub(made, plugins=plugins, clock=clock) as hub:
            await hub.connections.add("herald", "main", {"account": "main"}, sandbox=True)
            place = Place(hub, herald, made, plugins)
            if not work:
                yield place
                return
            async with working(hub):
                await place.rest()
                yield place


@pytest.fixture
def place(database_url: str, tmp_path: Any) -> Callable[..., Any]:
    """`async with place() as it` on both databases."""
    return lambda kept=None, **changed: place_of(database_url, tmp_path, kept, **changed)


@pytest.fixture
def lite(sqlite_url: str, tmp_path: Any) -> Callable[..., Any]:
    """The same where the database makes no difference."""
    return lambda kept=None, **changed: place_of(sqlite_url, tmp_path, kept, **changed)


# -- what is wanted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "topics"),
    [
        ([], ALWAYS),
        (["herald.sold", "other.sold"], [*ALWAYS, "sold/all"]),
        (["herald.idle"], ["bought/all", *ALWAYS, "viewed/all"]),
        (["herald.unknown"], ALWAYS),
    ],
)
def test_topics_are_those_of_what_is_heard_of_what_it_is_derived_from_and_of_what_is_always_heard(
    heard: list[str], topics: list[str]
) -> None:
    assert topics_of(make(Plain()), heard) == topics


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        (f"recipe: r\non: {{event: herald.sold}}\n{STEPS}", ["sold/all"]),
        (f"recipe: r\non: {{event: herald.idle}}\n{STEPS}", ["bought/all", "viewed/all"]),
        (
            f"recipe: r\non: {{event: herald.sold}}\nexit_on: [{{event: herald.returned}}]\n{STEPS}",
            ["returned/all", "sold/all"],
        ),
        (
            "recipe: r\non: {event: herald.sold}\nsteps:\n  - {wait_for: {back: {event: herald.returned}}, timeout: 7d}\n",
            ["returned/all", "sold/all"],
        ),
    ],
)
async def test_what_starts_ends_and_wakes_recipes_is_subscribed_to(
    lite: Callable[..., Any], recipe: str, more: list[str]
) -> None:
    async with lite() as it:
        assert it.herald.at(it.address) == ALWAYS
        await it.publish(recipe)
        assert it.herald.at(it.address) == sorted([*ALWAYS, *more])


async def test_a_paused_recipe_needs_what_ends_the_runs_inside_and_nothing_when_they_are_over(
    place: Callable[..., Any],
) -> None:
    recipe = (
        "recipe: r\non: {event: herald.sold}\nexit_on: [{event: herald.returned}]\n"
        "steps:\n  - {wait: 7d}\n  - {set: {contact.attributes.is_buyer: true}}\n"
    )
    async with place() as it:
        await it.publish(recipe)
        [hook] = [hook for hook in it.herald.hooks.values() if hook.topic == "sold/all"]
        # The secret that signs is given by hand to connections of this sort.
        await it.hub.connections.add_secrets(it.connection, lambda known: {"hook_secrets": f"{hook.id}:{hook.secret}"})
        await it.received(hook, id="s-1", email="jane@example.com")
        await it.rest()
        # when
        await it.hub.library.pause("r")
        await it.rest()
        # then nobody starts any more, and who is inside can still leave
        assert it.herald.at(it.address) == sorted([*ALWAYS, "returned/all"])
        await it.advance(parse_duration_ms("8d"))
        await it.advance(HOUR)
        assert it.herald.at(it.address) == ALWAYS


async def test_a_replaced_version_needs_what_the_runs_inside_will_wait_for(place: Callable[..., Any]) -> None:
    old = (
        "recipe: r\non: {event: herald.sold}\nsteps:\n  - {wait: 7d}\n"
        "  - {wait_for: {back: {event: herald.returned}}, timeout: 1d}\n"
    )
    async with place() as it:
        await it.publish(old)
        [hook] = [hook for hook in it.herald.hooks.values() if hook.topic == "sold/all"]
        await it.hub.connections.add_secrets(it.connection, lambda known: {"hook_secrets": f"{hook.id}:{hook.secret}"})
        await it.received(hook, id="s-1", email="jane@example.com")
        await it.rest()
        # when a version that waits for nothing is published while somebody is inside, before they wait
        await it.publish(f"recipe: r\non: {{event: herald.sold}}\n{STEPS}")
        await it.rest()
        # then what they will wait for is still heard, until they are through
        assert it.herald.at(it.address) == sorted([*ALWAYS, "returned/all", "sold/all"])
        await it.advance(parse_duration_ms("9d"))
        await it.advance(HOUR)
        assert it.herald.at(it.address) == sorted([*ALWAYS, "sold/all"])


async def test_a_connection_that_a_recipe_does_not_name_is_not_subscribed_for_it(lite: Callable[..., Any]) -> None:
    async with lite() as it:
        await it.hub.connections.add("herald", "second", {"account": "other"}, sandbox=True)
        await it.publish(f"recipe: r\non: {{event: herald.sold, from: second}}\n{STEPS}")
        second = it.hub.connections.addresses(await it.hub.connections.by_name("second")).wanted
        assert it.herald.at(it.address) == ALWAYS
        assert it.herald.at(second) == [*ALWAYS, "sold/all"]


async def test_a_vendor_that_subscribes_by_list_says_what_is_wanted(lite: Callable[..., Any]) -> None:
    async with lite(Lists()) as it:
        assert it.herald.at(it.address) == ["list-1", "list-2"]


# -- mending -----------------------------------------------------------------------------------------------------------


async def test_missing_ones_are_made_orphaned_and_doubled_ones_deleted_and_foreign_ones_left(
    place: Callable[..., Any],
) -> None:
    async with place(work=False) as it:
        # given
        key = it.connection.inbound_key
        former = f"https://old.example/hub/webhooks/herald/{key}"
        foreign = [
            it.herald.plant("sold/all", ELSEWHERE),
            it.herald.plant("viewed/all", f"https://hub.example.com/webhooks/herald/{'x' * len(key)}"),
            it.herald.plant("viewed/all", f"https://hub.example.com/webhooks/other/{key}"),
            it.herald.plant("sold/all", "pubsub://project:topic"),
            it.herald.plant("sold/all", "https://[bad"),
        ]
        for topic, address in {
            "returned/all": it.address,
            "viewed/all": former,
            "sold/all": former,
            "left/all": f"{it.address}/?again=1#now",
        }.items():
            it.herald.plant(topic, address)
        it.herald.plant("left/all", it.address.replace("https://hub.example.com", "https://HUB.example.com:443"))
        # when
        await it.hub.library.apply(SOLD, publish=True)
        async with working(it.hub):
            await it.rest()
            # then
            ours = [hook for hook in it.herald.hooks.values() if hook not in foreign]
            assert sorted(hook.topic for hook in ours) == [*ALWAYS, "sold/all"]
            assert [hook for hook in it.herald.hooks.values() if hook in foreign] == foreign
            shown = await it.shown()
            assert shown["wanted"] == [*ALWAYS, "sold/all"]
            assert (shown["missing"], shown["problem"], shown["address"]) == ([], None, it.address)
            assert Counter((one["deed"], one["why"]) for one in shown["mended"]) == {
                ("created", "a recipe needs it"): 1,
                ("created", "it leads to a former address"): 1,
                ("deleted", "it leads to a former address"): 1,
                ("deleted", "nothing needs it"): 2,
                ("deleted", "it is there twice"): 1,
            }


async def test_it_is_looked_at_every_hour_and_what_the_vendor_dropped_is_made_again(place: Callable[..., Any]) -> None:
    async with place() as it:
        await it.publish()
        it.herald.hooks.clear()
        await it.advance(HOUR // 2)
        assert it.herald.hooks == {}
        await it.advance(HOUR // 2)
        assert it.herald.at(it.address) == [*ALWAYS, "sold/all"]
        assert {one["why"] for one in (await it.shown())["mended"][:3]} == {"the vendor dropped it"}


async def test_after_one_was_dropped_the_polls_ask_at_once_for_what_was_missed(place: Callable[..., Any]) -> None:
    async with place() as it:
        await it.publish()
        asked = list(it.herald.asked)
        # given nothing dropped
        await it.advance(HOUR)
        assert it.herald.asked == asked
        # when
        it.herald.hooks.clear()
        await it.advance(HOUR)
        # then from the last poll's start on
        assert len(it.herald.asked) == len(asked) + 1
        assert it.herald.asked[-1] <= asked[-1] + 600_000


async def test_a_recipe_that_is_published_asks_no_poll(place: Callable[..., Any]) -> None:
    async with place() as it:
        asked = list(it.herald.asked)
        await it.publish()
        assert it.herald.asked == asked


async def test_a_gap_is_remembered_when_it_cannot_be_mended_at_once(place: Callable[..., Any]) -> None:
    async with place() as it:
        await it.publish()
        asked = len(it.herald.asked)
        it.herald.hooks.clear()
        it.herald.refuse_topics = set()
        # given a vendor that fails after the first one was made
        made = it.herald.made
        original = it.herald.plant

        def failing(topic: str, address: str, **more: Any) -> Hook:
            hook = original(topic, address, **more)
            it.herald.fail_next = 1 if it.herald.made == made + 1 else 0
            return hook

        it.herald.plant = failing
        await it.advance(HOUR)
        await it.advance(HOUR)
        # then
        assert it.herald.at(it.address) == [*ALWAYS, "sold/all"]
        assert len(it.herald.asked) == asked + 1
        assert (await it.kept()).gap is False


async def test_those_that_end_are_renewed_when_a_third_of_their_life_is_left(place: Callable[..., Any]) -> None:
    async with place(work=False) as it:
        it.herald.life_ms = 9 * HOUR
        async with working(it.hub):
            await it.rest()
            first = sorted(it.herald.hooks)
            for _ in range(5):
                await it.advance(HOUR)
            assert sorted(it.herald.hooks) == first
            await it.advance(HOUR + 60_000)
            assert not set(first) & set(it.herald.hooks)
            assert it.herald.at(it.address) == ALWAYS
            assert {one["deed"] for one in (await it.shown())["mended"][:2]} == {"renewed"}


async def test_those_that_live_shorter_than_an_hour_are_looked_at_in_time(lite: Callable[..., Any]) -> None:
    async with lite(work=False) as it:
        it.herald.life_ms = HOUR // 2
        async with working(it.hub):
            await it.rest()
            for _ in range(12):
                await it.advance(HOUR // 6)
                now_ms = it.hub.clock.now_ms()
                assert all(hook.expires_at_ms > now_ms for hook in it.herald.hooks.values())
                assert it.herald.at(it.address) == ALWAYS


async def test_a_vendor_that_takes_what_is_there_for_a_renewal_gets_a_new_one(lite: Callable[..., Any]) -> None:
    async with lite(work=False) as it:
        it.herald.life_ms, it.herald.once = 3 * HOUR, True
        async with working(it.hub):
            await it.rest()
            first = set(it.herald.hooks)
            await it.advance(2 * HOUR + 60_000)
            assert not first & set(it.herald.hooks)
            assert it.herald.at(it.address) == ALWAYS


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_the_secret_of_each_is_kept_and_its_calls_are_believed(place: Callable[..., Any]) -> None:
    async with place(Hooks()) as it:
        await it.publish()
        known = await it.secrets()
        assert all(f"{hook.id}:{hook.secret}" in known for hook in it.herald.hooks.values())
        [hook] = [hook for hook in it.herald.hooks.values() if hook.topic == "sold/all"]
        assert await it.received(hook, id="s-1") == ["herald.sold"]
        # and it is nowhere to be read
        async with it.hub.store.read() as c:
            rows = await c.all("select data from work where kind = 'subscriptions'")
        assert hook.secret not in json.dumps([dict(row) for row in rows]) + json.dumps(await it.shown())
        assert "hook_secrets" not in it.connection.settings


async def test_secrets_of_those_that_are_gone_are_forgotten(lite: Callable[..., Any]) -> None:
    async with lite(Hooks()) as it:
        await it.publish()
        gone = {hook.secret for hook in it.herald.hooks.values()}
        it.herald.hooks.clear()
        await it.advance(HOUR)
        assert not [secret for secret in gone if secret in await it.secrets()]


async def test_a_crash_between_making_one_and_keeping_its_secret_makes_a_new_one(
    place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):
        """The process is gone."""

    crashes = [1]

    def crash(at: str) -> None:
        if at == "subscription.created" and crashes:
            crashes.pop()
            raise Crash

    async with place(Hooks(), work=False, lease_s=3) as it:
        # given a vendor that takes the same one twice for as good as a new one, and does not tell its secret again
        it.herald.once = True
        monkeypatch.setattr(seams, "_at", crash)
        async with working(it.hub):
            async with asyncio.timeout(20):
                while crashes:  # noqa: ASYNC110  (what is waited for rings no bell)
                    await asyncio.sleep(0.01)
            # when whoever died is no longer waited for
            await it.advance(int(it.settings.lease_s * 1000) + HOUR)
            # then
            assert it.herald.at(it.address) == ALWAYS
            known = await it.secrets()
            assert all(f"{hook.id}:{hook.secret}" in known for hook in it.herald.hooks.values())
            assert ("deleted", "its secret is not known") in {
                (one["deed"], one["why"]) for one in (await it.shown())["mended"]
            }


async def test_secrets_that_are_kept_at_the_same_moment_lose_none(place: Callable[..., Any]) -> None:
    async with place(Hooks(), work=False) as it:
        connection = it.connection
        await asyncio.gather(
            *(
                it.hub.connections.add_secrets(
                    connection, lambda known, n=n: {"hook_secrets": f"{known.get('hook_secrets', '')} h{n}:s{n}"}
                )
                for n in range(10)
            )
        )
        assert set((await it.secrets()).split()) >= {f"h{n}:s{n}" for n in range(10)}


# -- when it does not go smoothly --------------------------------------------------------------------------------------


async def test_what_the_vendor_refuses_for_good_is_said_and_the_rest_is_done(lite: Callable[..., Any]) -> None:
    async with lite(work=False) as it:
        it.herald.refuse_topics = {"gone/all"}
        async with working(it.hub):
            await it.rest()
            assert it.herald.at(it.address) == ["left/all"]
            shown = await it.shown()
            assert shown["missing"] == ["gone/all"]
            assert "gone/all: " in shown["problem"]
            [line] = await views_of(it.hub)
            assert line["subscriptions"] == shown["problem"]
            # and it is tried again with the next look
            it.herald.refuse_topics = set()
            await it.advance(HOUR)
            assert (await it.shown())["problem"] is None
            assert it.herald.at(it.address) == ALWAYS


async def test_a_vendor_that_is_away_or_wants_fewer_calls_is_asked_again(place: Callable[..., Any]) -> None:
    async with place(work=False) as it:
        it.herald.fail_next = 2
        async with working(it.hub):
            await it.advance(60_000)
            assert it.herald.at(it.address) == ALWAYS
            it.herald.throttle_until_ms = it.hub.clock.now_ms() + 90_000
            await it.publish()
            assert it.herald.at(it.address) == ALWAYS
            assert (await it.shown())["problem"]
            await it.advance(5 * 60_000)
            assert it.herald.at(it.address) == [*ALWAYS, "sold/all"]
            assert (await it.shown())["problem"] is None


async def test_credentials_that_are_refused_are_waited_for(place: Callable[..., Any]) -> None:
    async with place() as it:
        async with it.hub.store.write() as c:
            await c.run("update connection set mode = 'live' where name = 'main'")
        # Live connections are given other credentials; this one's calls still lead to the sandbox.
        await it.hub.connections.add_secrets(it.connection, lambda known: {"token": "wrong"})
        async with it.hub.store.write() as c:
            await c.run("update connection set mode = 'sandbox' where name = 'main'")
        await it.hub.connections.add_secrets(it.connection, lambda known: {"token": "wrong again"})
        await it.publish()
        assert it.connection.health == "needs re-authorisation"
        assert (await it.shown())["problem"] == "they wait until it is authorised again"
        connector = it.hub.connections.connector("herald")
        fields = await it.hub.connections.fields(it.connection)
        await it.hub.connections.replace(
            it.connection, connector, connector.auth[0], "main", {**fields, "token": "good"}
        )
        await it.advance(2000)
        assert it.herald.at(it.address) == [*ALWAYS, "sold/all"]


async def test_another_public_url_moves_them_and_asks_for_what_was_missed(database_url: str, tmp_path: Any) -> None:
    async with place_of(database_url, tmp_path) as it:
        await it.publish()
        asked, before = len(it.herald.asked), it.address
        moved = it.settings.model_copy(update={"public_url": "https://new.example.com/hub"})
    # when the hub is started again under another address
    async with SandboxServer({"herald": it.herald}) as server:
        led = moved.model_copy(update={"sandbox_url": server.url})
        async with open_hub(led, plugins=it.plugins, clock=it.hub.clock) as hub, working(hub):
            there = Place(hub, it.herald, led, it.plugins)
            await there.rest()
            assert it.herald.at(before) == []
            assert there.address.startswith("https://new.example.com/hub/webhooks/herald/")
            assert it.herald.at(there.address) == [*ALWAYS, "sold/all"]
            assert len(it.herald.asked) == asked + 1


async def test_without_a_public_url_nothing_is_done_and_everybody_is_told(lite: Callable[..., Any]) -> None:
    async with lite(work=False, public_url=None) as it:
        async with it.hub.store.write() as c:
            await c.run("update connection set mode = 'live'")
        await it.hub.connections.add_secrets(it.connection, lambda known: {"token": "good"})
        async with working(it.hub):
            await it.rest()
            assert it.herald.hooks == {}
            assert "HUB_PUBLIC_URL is not set" in (await it.shown())["problem"]
            [line] = await views_of(it.hub)
            assert "HUB_PUBLIC_URL is not set" in line["subscriptions"]
            [found] = await _findings(it)
            assert (found.check, found.state.name) == ("subscriptions of main", "WARNING")


async def test_a_sandbox_needs_no_public_url(lite: Callable[..., Any]) -> None:
    async with lite(public_url=None) as it:
        assert it.address.startswith("http://127.0.0.1:8000/webhooks/herald/")
        assert it.herald.at(it.address) == ALWAYS
        assert [finding.state.name for finding in await _findings(it)] == ["OK"]


async def _findings(it: Place) -> list[Any]:
    found = [one async for one in in_database(it.settings, it.hub.store, it.plugins)]
    return [one for one in found if one.check.startswith("subscriptions")]


async def test_a_connection_that_is_removed_ends_its_subscriptions_first(place: Callable[..., Any]) -> None:
    async with place() as it:
        foreign = it.herald.plant("sold/all", ELSEWHERE)
        await it.publish()
        removed = await it.hub.connections.remove("main")
        assert (removed.unsubscribed, removed.problem) == (3, None)
        assert list(it.herald.hooks.values()) == [foreign]
        await it.advance(2 * HOUR)
        assert list(it.herald.hooks.values()) == [foreign]
        with pytest.raises(NotThere):
            await it.shown()


@pytest.mark.parametrize("kind", [Plain, Hooks, Shared])
@pytest.mark.parametrize("renewing", [False, True], ids=["made", "renewed"])
async def test_what_is_made_while_the_connection_is_removed_does_not_stay(
    place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: type[Hooks], renewing: bool
) -> None:
    kept, removed = kind(), list[Any]()
    create = kept.create

    async with place(kept, work=False) as it:

        async def late(ctx: Any, topic: str, address: str) -> Subscription:
            # The vendor makes it when whoever removes the connection has asked for what there is.
            if not removed:
                removed.append(await it.hub.connections.remove("main"))
            return await create(ctx, topic, address)

        foreign = it.herald.plant("sold/all", ELSEWHERE)
        it.herald.life_ms = 9 * HOUR
        if not renewing:
            monkeypatch.setattr(kept, "create", late)
        async with working(it.hub):
            await it.rest()
            monkeypatch.setattr(kept, "create", late)
            await it.advance(7 * HOUR)
        # then nothing is left at the vendor but what is not ours, and nobody looks at it any more
        assert [one.problem for one in removed] == [None]
        assert list(it.herald.hooks.values()) == [foreign]
        async with it.hub.store.read() as c:
            assert await c.all("select * from work where kind = 'subscriptions'") == []


async def test_a_connection_is_removed_also_while_its_vendor_is_away(lite: Callable[..., Any]) -> None:
    async with lite() as it:
        it.herald.fail_next = 100
        removed = await it.hub.connections.remove("main")
        assert removed.unsubscribed == 0
        address = it.hub.connections.inbound_url(removed.connection)
        assert removed.problem == (
            "its subscriptions at herald were not all deleted (the vendor answered 503): delete there what calls "
            f"{address}; until then such calls are refused here"
        )


async def test_what_is_made_too_late_to_be_deleted_is_told(
    lite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, removed = Plain(), list[Any]()
    create = kept.create

    async def late(ctx: Any, topic: str, address: str) -> Subscription:
        # The credentials are over by the time that it is made.
        if not removed:
            removed.append(await it.hub.connections.remove("main"))
        made = await create(ctx, topic, address)
        it.herald.refuse_next = 401
        return made

    async with lite(kept, work=False) as it:
        monkeypatch.setattr(kept, "create", late)
        async with working(it.hub):
            await it.rest()
        [told] = [r for r in caplog.records if getattr(r, "what", "") == "subscription_left"]
        assert (told.connection, told.error) == ("main", "auth_expired")
        assert len(it.herald.hooks) == 1


async def test_credentials_that_are_refused_after_their_connection_was_removed_are_nobody_s_concern(
    lite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hub.errands")
    kept = Plain()
    listed = kept.list

    async def late(ctx: Any) -> Sequence[Subscription]:
        # Once more by whoever removes it.
        monkeypatch.setattr(kept, "list", listed)
        await it.hub.connections.remove("main")
        raise AuthExpired()

    async with lite(kept, work=False) as it:
        monkeypatch.setattr(kept, "list", late)
        async with working(it.hub):
            await it.rest()
        assert [r.message for r in caplog.records if r.levelname == "ERROR"] == []
        assert "work_dropped" in {getattr(r, "what", "") for r in caplog.records}


async def test_a_connection_is_removed_also_when_its_plugin_fails_over_what_the_vendor_says(
    lite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lite() as it:
        kept = it.hub.connections.connector("herald").subscriptions

        async def broken(ctx: Any) -> Any:
            raise ValueError("not what was expected: jane@example.com")

        monkeypatch.setattr(kept, "list", broken)
        removed = await it.hub.connections.remove("main")
        assert removed.problem is not None
        assert "not all deleted (the plugin herald failed (ValueError); the hub's log says where)" in removed.problem
        assert await it.hub.connections.all() == []


async def test_accounts_of_an_app_with_common_subscriptions_leave_each_other_theirs(lite: Callable[..., Any]) -> None:
    async with lite(Shared(), work=False) as it:
        await it.hub.connections.remove("main")
        app = await it.hub.connections.add_app("herald", "ours", {"hook_secrets": "x:y"})
        for name, account in {"one": "main", "two": "other"}.items():
            await it.hub.connections.add("herald", name, {"account": account}, sandbox=True, app="ours")
        address = it.hub.connections.inbound_url(app)
        async with working(it.hub):
            await it.publish(f"recipe: r\non: {{event: herald.sold, from: one}}\n{STEPS}")
            await it.publish(f"recipe: s\non: {{event: herald.viewed, from: two}}\n{STEPS}")
            assert it.herald.at(address) == [*ALWAYS, "sold/all", "viewed/all"]
            # when nobody needs one of them any more, it goes
            await it.hub.library.pause("s")
            await it.rest()
            assert it.herald.at(address) == [*ALWAYS, "sold/all"]
            # and what one that is removed leaves is the others'
            assert (await it.hub.connections.remove("two")).unsubscribed == 0
            assert it.herald.at(address) == [*ALWAYS, "sold/all"]


async def test_a_look_that_changes_nothing_calls_nobody(lite: Callable[..., Any]) -> None:
    async with lite() as it:
        await it.publish()
        it.herald.fail_next = 1
        # when another recipe is published that needs nothing more, nobody is asked
        await it.publish(SOLD.replace("recipe: sales", "recipe: more"))
        assert it.herald.fail_next == 1
        assert (await it.shown())["problem"] is None


async def test_a_poll_after_an_outage_asks_from_the_last_good_instant(place: Callable[..., Any]) -> None:
    async with place(work=False) as it:
        began_ms = it.hub.clock.now_ms()
        # given a vendor that is away from the first poll on, for hours
        it.herald.fail_next = 1_000_000
        async with working(it.hub):
            for _ in range(5):
                await it.advance(HOUR)
            assert it.herald.asked == []
            it.herald.fail_next = 0
            await it.advance(2 * HOUR)
            # then the first answer is about all since the beginning
            assert it.herald.asked[0] <= began_ms - 600_000 + 1_000
            # and so is that after the next outage about all since the last poll that ended well
            good_ms = it.hub.clock.now_ms()
            it.herald.fail_next = 1_000_000
            for _ in range(8):
                await it.advance(HOUR)
            it.herald.fail_next, asked = 0, len(it.herald.asked)
            await it.advance(2 * HOUR)
            assert it.herald.asked[asked] < good_ms


# -- from any state ----------------------------------------------------------------------------------------------------

TOPICS = ["sold/all", "viewed/all", "returned/all", *ALWAYS]
_ADDRESSES = ["own", "own+", "former", "foreign", "strange"]
STATES = st.lists(
    st.tuples(st.sampled_from(TOPICS), st.sampled_from(_ADDRESSES), st.sampled_from([None, -1, 1, 60])), max_size=12
)


def _address(kind: str, own: str) -> str:
    key = own.rpartition("/")[2]
    return {
        "own": own,
        "own+": f"{own}?more=1",
        "former": f"http://former.example/webhooks/herald/{key}",
        "foreign": ELSEWHERE,
        "strange": "arn:aws:events:eu-west-1::event-source/aws.partner/herald",
    }[kind]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(state=STATES, secret=st.booleans(), once=st.booleans())
def test_from_any_state_the_wanted_one_is_reached_and_nobody_else_s_is_touched(
    state: list[tuple[str, str, int | None]], secret: bool, once: bool
) -> None:
    async def reach() -> None:
        connector = make(Hooks() if secret else Plain())
        async with hub_of(connector, {"account": "main"}, work=True) as (hub, herald):
            assert isinstance(herald, HeraldSandbox)
            herald.once = once
            own = hub.connections.addresses(await hub.connections.by_name("herald")).wanted
            now_ms = hub.clock.now_ms()
            for topic, kind, minutes in state:
                ends = None if minutes is None else now_ms + minutes * 60_000
                herald.plant(topic, _address(kind, own), expires_at_ms=ends)
            foreign = [hook for hook in herald.hooks.values() if hook.address in {ELSEWHERE, _address("strange", own)}]
            await hub.library.apply(SOLD, publish=True)
            await hub.connections.attend_all()
            await hub.time.advance(hub.clock.now_ms(), ring=hub.ring)
            ours = [hook for hook in herald.hooks.values() if hook not in foreign]
            assert sorted(hook.topic for hook in ours) == [*ALWAYS, "sold/all"]
            assert [hook for hook in herald.hooks.values() if hook in foreign] == foreign
            assert all(hook.address.partition("?")[0] == own for hook in ours)
            if secret:
                known = (await hub.connections.fields(await hub.connections.by_name("herald")))["hook_secrets"]
                assert all(f"{hook.id}:{hook.secret}" in known for hook in ours)

    asyncio.run(reach())


_OWN = "https://hub.example.com/webhooks/herald/key"
FOUND = st.lists(
    st.builds(
        Subscription,
        id=st.uuids().map(str),
        topic=st.sampled_from(TOPICS),
        address=st.sampled_from(_ADDRESSES).map(lambda kind: _address(kind, _OWN)),
        expires_at_ms=st.sampled_from([None, 1, 2_000, 10_000]),
    ),
    max_size=20,
)


@given(
    found=FOUND,
    wanted=st.lists(st.sampled_from(TOPICS)),
    tolerated=st.sets(st.sampled_from(TOPICS)),
    known=st.sets(st.integers(0, 20)),
)
def test_a_plan_leads_to_what_is_wanted_and_only_there(
    found: list[Subscription], wanted: list[str], tolerated: set[str], known: set[int]
) -> None:
    by = Measure(
        Addresses("herald", _OWN, {_OWN}, {"key"}),
        1_000,
        secrets={one.id for n, one in enumerate(found) if n in known},
    )
    plan = compare(found, wanted, tolerated, by)
    gone = {spare.subscription.id for spare in (*plan.first, *plan.after)}
    left = [one for one in found if one.id not in gone]
    ours = [one for one in left if by.addresses.is_ours(one.address)]
    # what is left of ours is good, once, and needed
    assert all(by.fault(one) is None for one in ours)
    assert Counter(one.topic for one in ours) == dict.fromkeys({one.topic for one in ours}, 1)
    assert {one.topic for one in ours} <= set(wanted) | tolerated
    # with what is made it is all that is wanted
    assert {one.topic for one in ours if one.topic in wanted} | set(plan.create) == set(wanted)
    assert not {one.topic for one in ours} & set(plan.create)
    # and nobody else's are touched
    assert [one for one in found if not by.addresses.is_ours(one.address)] == [
        one for one in left if not by.addresses.is_ours(one.address)
    ]
    assert len({spare.subscription.id for spare in plan.first} & {spare.subscription.id for spare in plan.after}) == 0
    # and looking again finds nothing to do
    made = [Subscription(f"new-{topic}", topic, _OWN) for topic in plan.create]
    again = compare(
        [*left, *made], wanted, tolerated, Measure(by.addresses, 1_000, secrets={one.id for one in (*left, *made)})
    )
    assert (again.first, again.create, again.after) == ([], {}, [])
