"""Events that do not come through the door: after silence, filled in, polled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from hub.clock import parse_duration_ms
from hub.errors import VendorUnavailable
from hub.plugins import load_plugins
from hub.process import open_hub, working
from hub.store import views
from tests.acme import acme

MINUTES = 60_000


async def _types(it: Any) -> list[tuple[str, str]]:
    async with it.hub.store.read() as c:
        return [(e["type"], e["stage"]) for e in reversed(await views.list_events(c, most=200))]


def _cart(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"c-{n}", "cart": "cart-1", "email": "ada@example.com", **more}


async def test_silence_after_the_last_activity_becomes_one_event(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given three activities, ten minutes apart
        for n in range(3):
            await it.deliver("carted", _cart(n))
            await it.advance(10 * MINUTES)
        # when 19 more minutes pass, nothing has happened; when 30 have passed since the last one, it has
        await it.advance(19 * MINUTES)
        assert ("acme.cart_idle", "routed") not in await _types(it)
        await it.advance(2 * MINUTES)
        assert (await _types(it)).count(("acme.cart_idle", "routed")) == 1
        # and the derived event carries the newest activity's payload
        async with it.hub.store.read() as c:
            [idle] = [e for e in await views.list_events(c) if e["type"] == "acme.cart_idle"]
            assert (await views.show_event(c, idle["id"]))["data"]["id"] == "c-2"


async def test_a_purchase_ends_the_silence(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.deliver("carted", _cart(1))
        await it.advance(10 * MINUTES)
        await it.deliver("purchased", {"id": "p-1", "cart": "cart-1", "email": "ada@example.com"})
        await it.advance(parse_duration_ms("2h"))
        assert "acme.cart_idle" not in {t for t, _ in await _types(it)}


async def test_the_vendor_s_no_drops_the_derived_event(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        it.sandbox.bought.add("cart-1")
        await it.deliver("carted", _cart(1))
        await it.advance(parse_duration_ms("2h"))
        assert "acme.cart_idle" not in {t for t, _ in await _types(it)}


async def test_a_vendor_that_is_away_delays_the_confirmation(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await it.deliver("carted", _cart(1))
        it.sandbox.status["/carts/cart-1"] = 503
        await it.advance(parse_duration_ms("40m"))
        assert "acme.cart_idle" not in {t for t, _ in await _types(it)}
        it.sandbox.status.clear()
        await it.advance(parse_duration_ms("3h"))
        assert ("acme.cart_idle", "routed") in await _types(it)


async def test_events_with_ids_only_are_filled_in_before_they_are_routed(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        it.sandbox.leads = {f"l-{n}": {"email": f"lead{n}@example.com"} for n in range(130)}
        await it.deliver("lead", [{"id": f"l-{n}"} for n in range(130)])
        await it.rest()
        assert (await _types(it)).count(("acme.lead", "routed")) == 130
        async with it.hub.store.read() as c:
            assert (await views.show_contact(c, await views.find_contact(c, "lead7@example.com")))["email"]


async def test_a_poll_stores_each_page_with_its_cursor_and_knows_what_a_webhook_brought(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, polls=True) as it:
        await it.rest()
        await it.deliver("purchased", {"id": "p-1", "email": "ada@example.com"})
        it.sandbox.purchases = [{"id": f"p-{n}", "email": "ada@example.com"} for n in range(1, 6)]
        await it.advance(6 * MINUTES)
        assert (await _types(it)).count(("acme.purchased", "routed")) == 5
        it.sandbox.purchases.append({"id": "p-6", "email": "ada@example.com"})
        await it.advance(6 * MINUTES)
        assert (await _types(it)).count(("acme.purchased", "routed")) == 6
        # What a poll knows already was not told twice.
        async with it.hub.store.read() as c:
            assert (await views.counts(c))["duplicates"] == 0


async def test_a_failing_poll_moves_no_cursor(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, polls=True) as it:
        await it.rest()
        it.sandbox.purchases = [{"id": f"p-{n}", "email": "ada@example.com"} for n in range(1, 4)]
        it.sandbox.status["/purchases"] = 503
        await it.advance(12 * MINUTES)
        assert await _types(it) == []
        it.sandbox.status.clear()
        await it.advance(parse_duration_ms("3h"))
        assert len(await _types(it)) == 3


async def test_the_work_of_a_missing_plugin_is_parked_and_not_dropped(
    running: Callable[..., Any], database_url: str
) -> None:
    # Given a poll that is due, and a process without its plugin
    async with (
        running(database_url, work=False, polls=True) as it,
        open_hub(it.settings, plugins=load_plugins(), clock=it.hub.clock) as without,
    ):
        async with it.hub.store.write() as c:
            await c.run("update work set due_at = 1 where kind = 'poll'")

        # When that process works
        async with working(without), asyncio.timeout(20):
            while not (parked := await _parked(it)):  # noqa: ASYNC110  (what is waited for rings no bell)
                await asyncio.sleep(0.02)

        # Then the work waits for the plugin, and goes on with a process that has it
        assert parked == ["plugin:acme"]
        async with working(it.hub):
            assert await _parked(it) == []


async def _parked(it: Any) -> list[str]:
    async with it.hub.store.read() as c:
        return [row["parked_on"] for row in await c.all("select parked_on from work where parked_on is not null")]


async def _until_left(it: Any) -> None:
    """Wait until the enrichment was given back, to be tried again."""
    async with asyncio.timeout(20):
        while True:
            async with it.hub.store.read() as c:
                row = await c.first("select owner, attempts from work where kind = 'enrich'")
            if row is not None and row["owner"] is None and row["attempts"]:
                return
            await asyncio.sleep(0.02)


async def _change(it: Any, statement: str, **given: Any) -> None:
    async with it.hub.store.write() as c:
        await c.run(statement, **given)


async def test_a_source_that_raises_is_asked_again_and_its_events_set_aside_at_last(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(ctx: Any, payloads: Any) -> Any:
        raise KeyError("ada@example.com")

    async with running(database_url) as it:
        # given a plugin with a defect
        monkeypatch.setattr(acme.triggers["lead"], "enrich_", explode)
        monkeypatch.setattr(random, "random", lambda: 1.0)
        await it.deliver("lead", {"id": "l-1"})
        # then it is asked again later, and no lease has to end for it
        await _until_left(it)
        # and when it has raised often enough, the event says that it could not be filled in
        await _change(it, "update work set attempts = 12, due_at = 1 where kind = 'enrich'")
        await it.rest()
        async with it.hub.store.read() as c:
            [event] = await c.all("select stage, note from event")
        why = (
            "it could not be filled in after 12 attempts; the last one: the connector raised KeyError; mend the plugin"
        )
        assert (event["stage"], event["note"]) == ("quarantined", why)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("not_ready", "VendorUnavailable, status 503, code not_ready"),
        ("ada@example.com", "VendorUnavailable, status 503"),
    ],
)
async def test_an_event_that_was_never_filled_in_says_what_its_vendor_answered_and_nobodys_name(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    async def refuse(ctx: Any, payloads: Any) -> Any:
        raise VendorUnavailable("the lead of ada@example.com is not there yet", status=503, code=code)

    async with running(database_url) as it:
        monkeypatch.setattr(acme.triggers["lead"], "enrich_", refuse)
        monkeypatch.setattr(random, "random", lambda: 1.0)
        await it.deliver("lead", {"id": "l-1"})
        await _until_left(it)
        await _change(it, "update work set attempts = 12, due_at = 1 where kind = 'enrich'")
        await it.rest()
        async with it.hub.store.read() as c:
            [event] = await c.all("select note from event")
        assert event["note"] == f"it could not be filled in after 12 attempts; the last one: {said}"


async def test_a_source_that_ends_its_process_each_time_is_left_alone_for_a_while(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def fill_in(ctx: Any, payloads: Any) -> Any:
        asked.append(len(payloads))
        return payloads

    async with running(database_url, work=False) as it:
        monkeypatch.setattr(acme.triggers["lead"], "enrich_", fill_in)
        # given work that was claimed again and again, and never given back
        await it.deliver("lead", {"id": "l-1"})
        await _change(it, "update work set claims = 5 where kind = 'enrich'")
        # when the next process comes, it leaves the plugin alone for now
        monkeypatch.setattr(random, "random", lambda: 1.0)
        async with working(it.hub):
            await _until_left(it)
            assert asked == []
            # and asks it again later
            await it.advance(MINUTES)
            assert asked == [1]
            assert ("acme.lead", "routed") in await _types(it)
