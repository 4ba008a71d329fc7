"""The door: what is stored once, what is refused, and what is kept although nobody can read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from hub import seams
from hub.connector import Reply
from hub.errors import StoreUnavailable
from hub.ingest import Refused
from hub.store import deliveries, views
from hub.store.events import Incoming
from hub.store.pools import PostgresPool
from tests.acme import acme, signed

SIGN_UP = {"id": "s-1", "email": "Ada@Example.com", "phone": "+14155550100", "first_name": "Ada"}


async def _events(it: Any) -> list[dict[str, Any]]:
    async with it.hub.store.read() as c:
        return await views.list_events(c, most=200)


async def _deliveries(it: Any) -> list[Any]:
    async with it.hub.store.read() as c:
        return await deliveries.listed(c, state=None, most=200)


async def test_a_delivery_is_stored_with_its_event_and_routed_to_a_contact(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        assert await it.deliver("signed_up", SIGN_UP, delivery="d-1") == 200
        await it.rest()
        [event] = await _events(it)
        assert (event["type"], event["stage"], event["connection"]) == ("acme.signed_up", "routed", "acme")
        async with it.hub.store.read() as c:
            person = await views.show_contact(c, await views.find_contact(c, "ada@example.com"))
        assert person["first_name"] == "Ada"
        assert {(i["kind"], i["value"]) for i in person["identities"]} == {
            ("email", "ada@example.com"),
            ("phone", "+14155550100"),
        }


async def test_a_redelivery_changes_nothing_and_is_counted(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        for _ in range(3):
            assert await it.deliver("signed_up", SIGN_UP, delivery="d-1") == 200
        [event] = await _events(it)
        assert event["duplicates"] == 2


async def test_two_connections_may_get_the_same_delivery_and_fact_ids(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.hub.connections.add("acme", "new", {"account": "other"}, sandbox=True)
        await it.deliver("signed_up", SIGN_UP, delivery="d-1")
        secret = it.sandbox.secret("other", "webhook_secret")
        await it.deliver("signed_up", SIGN_UP, delivery="d-1", connection="new", account="other", secret=secret)
        assert sorted((e["connection"], e["duplicates"]) for e in await _events(it)) == [("acme", 0), ("new", 0)]
        assert len(await _deliveries(it)) == 2


async def test_one_fact_in_two_deliveries_is_one_event(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url) as it:
        await it.deliver("signed_up", SIGN_UP, delivery="d-1")
        await it.deliver("signed_up", SIGN_UP, delivery="d-2")
        [event] = await _events(it)
        assert event["duplicates"] == 1
        assert len(await _deliveries(it)) == 2


async def test_many_deliveries_at_once_are_each_stored_once(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        bodies = [{"id": f"s-{n % 60}", "email": f"p{n % 60}@example.com"} for n in range(180)]
        replies = await asyncio.gather(*[it.deliver("signed_up", b, delivery=f"d-{n}") for n, b in enumerate(bodies)])
        assert set(replies) == {200}
        events = await _events(it)
        assert len(events) == 60
        assert sum(e["duplicates"] for e in events) == 120
        assert it.hub.ingest._in_hand_bytes == 0


async def test_several_accounts_in_one_delivery_go_to_their_connections(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        app = await it.hub.connections.add_app("acme", "our-app", {"webhook_secret": "app-secret"})
        for account in ("one", "other"):
            await it.hub.connections.add("acme", f"acme-{account}", {"account": account}, sandbox=True, app="our-app")
        accounts = ("one", "other", "main", "nobody")
        body, headers = signed("purchased", [{"id": "o-1", "account": a} for a in accounts], secret="app-secret")
        reply = await it.hub.ingest.receive(
            "acme", app.inbound_key, method="POST", query="", headers=headers, body=body
        )
        assert reply.status == 200
        # then those of this app find theirs; of the others, one stands alone with a secret of its own
        found = sorted((e["connection"] or "", e["stage"]) for e in await _events(it))
        unconnected = [("", "unconnected")] * 2
        assert found == [*unconnected, ("acme-one", "route"), ("acme-other", "route")]


async def test_who_knows_one_account_s_secret_says_nothing_for_another(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url, work=False) as it:
        await it.hub.connections.add("acme", "acme-other", {"account": "other"}, sandbox=True)
        items = [{"id": "o-1", "account": "main"}, {"id": "o-1", "account": "other"}]
        assert await it.deliver("purchased", items, delivery="d-1") == 200
        found = {(e["connection"], e["stage"]) for e in await _events(it)}
        assert found == {("acme", "route"), (None, "unconnected")}


async def test_an_app_s_address_serves_all_its_connections(running: Callable[..., Any], database_url: str) -> None:
    async with running(database_url, work=False) as it:
        app = await it.hub.connections.add_app("acme", "our-app", {"webhook_secret": "app-secret"})
        await it.hub.connections.add("acme", "shop", {"account": "shop"}, sandbox=True, app="our-app")
        body, headers = signed("signed_up", SIGN_UP, account="shop", secret="app-secret")
        reply = await it.hub.ingest.receive(
            "acme", app.inbound_key, method="POST", query="", headers=headers, body=body
        )
        assert reply.status == 200
        [event] = await _events(it)
        assert event["connection"] == "shop"


@pytest.mark.parametrize("break_it", ["bad signature", "no signature", "unknown address", "wrong connector"])
async def test_refused_calls_look_alike_and_are_counted_without_being_stored(
    running: Callable[..., Any], sqlite_url: str, break_it: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        connection = await it.hub.connections.by_name("acme")
        body, headers = signed("signed_up", SIGN_UP)
        key, connector = connection.inbound_key, "acme"
        if break_it == "bad signature":
            headers["x-acme-signature"] = headers["x-acme-signature"][:-1] + "0" * 1
            body += b" "
        elif break_it == "no signature":
            del headers["x-acme-signature"]
        elif break_it == "unknown address":
            key = "nobody-has-this"
        else:
            connector = "shopify"
        for _ in range(5):
            with pytest.raises(Refused):
                await it.hub.ingest.receive(connector, key, method="POST", query="", headers=headers, body=body)
        assert await _deliveries(it) == []
        await it.hub.ingest.flush_refusals()
        async with it.hub.store.read() as c:
            [row] = await deliveries.refused(c, 10)
        assert row["count"] == 5
        assert len(json.loads(row["samples"])) == 3
        assert "ada" not in row["samples"].lower()


async def test_without_a_configured_secret_every_call_is_refused(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.hub.connections.add("acme", "bare", {"account": "bare", "token": "t"})
        with pytest.raises(Refused, match="no secret is configured"):
            await it.deliver("signed_up", SIGN_UP, connection="bare", secret="")


@pytest.mark.parametrize(("greets_first", "answered"), [(True, 200), (False, 401)])
async def test_a_vendor_that_tries_the_address_before_it_tells_the_secret_is_answered(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch, greets_first: bool, answered: int
) -> None:
    webhook = acme.webhook
    assert webhook is not None
    monkeypatch.setattr(webhook, "greets_first", greets_first)
    monkeypatch.setattr(webhook, "handshake", lambda call, secrets: Reply() if call.method == "HEAD" else None)
    async with running(sqlite_url, work=False) as it:
        bare = await it.hub.connections.add("acme", "bare", {"account": "bare", "token": "t"})
        call = {"query": "", "headers": {}, "body": b""}
        try:
            status = (await it.hub.ingest.receive("acme", bare.inbound_key, method="HEAD", **call)).status
        except Refused:
            status = 401
        assert status == answered
        with pytest.raises(Refused, match="no secret is configured"):
            await it.hub.ingest.receive("acme", bare.inbound_key, method="POST", **call)
        assert await _deliveries(it) == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"id": "1", "id": "2"}', "Detected duplicate key"),
        (b'{"id": "1", "words": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper"),
        (b'{"email": "ada@example.com"}', "id: Field required"),
        (b'{"id": "1", "email": 7}', "email: Input should be a valid string"),
    ],
)
async def test_a_signed_body_nobody_can_read_is_kept_with_the_reason(
    running: Callable[..., Any], sqlite_url: str, raw: bytes, says: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        assert await it.deliver("signed_up", None, raw=raw) == 200
        [row] = await _deliveries(it)
        assert row["state"] == "unreadable"
        assert says in row["note"]
        assert "ada@" not in row["note"]
        async with it.hub.store.read() as c:
            kept = await c.first("select body from delivery")
        assert kept is not None
        assert bytes(kept["body"]) == raw


async def test_an_unknown_topic_is_kept_and_shown(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        assert await it.deliver("something_new", {"id": "1"}) == 200
        [row] = await _deliveries(it)
        assert (row["state"], row["note"]) == ("unrecognised", "no trigger takes the topic something_new")


async def test_a_character_the_database_cannot_hold_loses_nothing(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        odd = {"id": "s-\x00", "email": "a\x00da@example.com", "first_name": "A\x00da", "cart": "c\x00"}
        good = {"id": "s-2", "email": "bob@example.com"}
        assert await asyncio.gather(it.deliver("signed_up", odd), it.deliver("signed_up", good)) == [200, 200]
        await it.rest()
        assert {row["state"] for row in await _deliveries(it)} == {"accepted", "unreadable"}
        [event] = await _events(it)
        assert event["stage"] == "routed"


async def test_it_answers_only_after_the_commit_and_503_when_the_store_is_away(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.hub.store.close()
        it.hub.store._writer = it.hub.store._reader = PostgresPool("postgresql://nobody@127.0.0.1:1/nothing", 1, {})
        with pytest.raises(StoreUnavailable):
            await it.deliver("signed_up", SIGN_UP)


async def test_the_bell_is_rung_when_the_event_can_be_seen(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url, work=False) as it:
        reached: list[str] = []
        monkeypatch.setattr(seams, "_at", reached.append)
        monkeypatch.setattr(it.hub.ingest, "_ring", lambda: reached.append("ring"))
        await it.deliver("signed_up", SIGN_UP, delivery="d-1")
        assert reached == ["ingest.commit", "ingest.committed", "ring"]
        # Of a repeat there is nothing to tell.
        await it.deliver("signed_up", SIGN_UP, delivery="d-1")
        assert reached.count("ring") == 1


async def test_refusals_that_could_not_be_written_are_counted_on(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable

    async with running(sqlite_url, work=False) as it:
        it.hub.ingest.refuse_flood("acme", "k")
        with monkeypatch.context() as while_away:
            while_away.setattr("hub.ingest.count_refusals", away)
            with pytest.raises(StoreUnavailable):
                await it.hub.ingest.flush_refusals()
        it.hub.ingest.refuse_flood("acme", "k")
        await it.hub.ingest.flush_refusals()
        async with it.hub.store.read() as c:
            assert sum(row["count"] for row in await deliveries.refused(c, 10)) == 2


async def test_what_the_database_cannot_hold_keeps_nothing_else_in_the_spool(
    running: Callable[..., Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(postgres_url, work=False) as it:
        kept: list[Incoming] = []

        async def keep(incoming: Incoming) -> None:
            kept.append(incoming)

        with monkeypatch.context() as while_away:
            while_away.setattr(it.hub.ingest, "_store_it", keep)
            await it.deliver("signed_up", {"id": "s-\x00", "cart": "c\x00"})
            await it.deliver("signed_up", {"id": "s-2"})
        await it.hub.ingest.store_kept(kept)
        assert sorted(row["state"] for row in await _deliveries(it)) == ["accepted", "unreadable"]


async def test_the_first_calls_after_a_start_are_all_accepted(running: Callable[..., Any], database_url: str) -> None:
    from hub.process import open_hub

    async with running(database_url, work=False) as it:
        key = (await it.hub.connections.by_name("acme")).inbound_key
        async with open_hub(it.settings, plugins=it.hub.plugins) as fresh:
            calls = []
            for n in range(100):
                body, headers = signed("signed_up", {"id": f"s-{n}"}, delivery=f"d-{n}")
                calls.append(fresh.ingest.receive("acme", key, method="POST", query="", headers=headers, body=body))
            replies = await asyncio.gather(*calls)
        assert {reply.status for reply in replies} == {200}


async def test_a_connection_made_a_moment_ago_in_another_process_is_known_at_its_first_call(
    running: Callable[..., Any], database_url: str
) -> None:
    from hub.process import open_hub

    async with running(database_url, work=False) as it, open_hub(it.settings, plugins=it.hub.plugins) as other:
        await other.connections.all()
        made = await it.hub.connections.add("acme", "new", {"account": "other"}, sandbox=True)
        body, headers = signed("signed_up", {"id": "s-1"}, account="other")
        reply = await other.ingest.receive(
            "acme", made.inbound_key, method="POST", query="", headers=headers, body=body
        )
        assert reply.status == 200
