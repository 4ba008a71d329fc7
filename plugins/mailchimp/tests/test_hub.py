"""Both connectors in a whole hub: what its worker makes of polls and silence, and its door of the vendor's calls."""

from __future__ import annotations

from typing import Any

import pytest

from hub import Rate
from hub.connector import sandbox_secret
from hub.process import Hub
from hub.store import views, work
from hub.store.lanes import Lane, Rank
from hub.testing.contract.stage import hub_of, webhook
from hub_mailchimp import mailchimp, mandrill
from hub_mailchimp.marketing.carts import QUIET_S, CartInput, upsert_cart
from hub_mailchimp.sandbox.hooks import body_of, headers_of
from hub_mailchimp.sandbox.marketing import DEFAULT_LIST, MailchimpSandbox
from hub_mailchimp.sandbox.state import Store
from hub_mailchimp.transactional.webhook import KEYS

from .test_contract import CART

HOUR_MS = 3_600_000


async def types(hub: Hub) -> list[str]:
    async with hub.store.read() as c:
        return sorted(event["type"] for event in await views.list_events(c, most=100))


async def poll_from_now(hub: Hub, trigger: str) -> None:
    """Let the worker poll a trigger of the connection `mailchimp`, as it does from when it is connected."""
    lane = str(Lane(connection="mailchimp", rank=Rank.BULK))
    async with hub.store.write() as c:
        await work.add_if_absent(c, "poll", f"mailchimp|mailchimp.{trigger}", lane, hub.clock.now_ms())


async def receive(hub: Hub, method: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
    connection = await hub.connections.by_name("mailchimp")
    named = {name.lower(): value for name, value in (headers or {}).items()}
    call: dict[str, Any] = {"method": method, "query": "", "headers": named, "body": body}
    return (await hub.ingest.receive("mailchimp", connection.inbound_key, **call)).status


async def test_a_cart_that_is_left_alone_is_told_once() -> None:
    async with hub_of(mailchimp, {}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, MailchimpSandbox)
        sandbox.account("main").stores["shop-1"] = Store("shop-1", DEFAULT_LIST)
        ctx = await hub.connections.context(await hub.connections.by_name("mailchimp"))
        await upsert_cart.run(ctx, CartInput.model_validate({**CART, "cart_id": "A-77"}))
        await poll_from_now(hub, "cart_updated")
        await hub.time.advance(hub.clock.now_ms() + QUIET_S * 1000 - 60_000, ring=hub.ring)
        assert await types(hub) == ["mailchimp.cart_updated"]
        await hub.time.advance(hub.clock.now_ms() + 2 * HOUR_MS, ring=hub.ring)
        assert await types(hub) == ["mailchimp.cart_abandoned", "mailchimp.cart_updated"]


async def test_a_campaigns_news_become_events_once_however_often_it_is_polled() -> None:
    async with hub_of(mailchimp, {"not_opened_after": "1h"}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, MailchimpSandbox)
        for name in ("ada", "bob"):
            await sandbox.subscribe(f"{name}@example.test")
        sandbox.send("main", campaign := sandbox.draft())
        await sandbox.act(campaign, "ada@example.test", "open")
        for trigger in ("email_opened", "email_not_opened"):
            await poll_from_now(hub, trigger)
        await hub.time.advance(hub.clock.now_ms() + 3 * HOUR_MS, ring=hub.ring)
        assert await types(hub) == ["mailchimp.email_not_opened", "mailchimp.email_opened"]


async def test_the_same_fact_by_webhook_and_poll_is_one_event() -> None:
    async with hub_of(mailchimp, {"member_poll": "all"}, work=True) as (hub, sandbox):
        assert isinstance(sandbox, MailchimpSandbox)
        assert await receive(hub, "GET") == 200
        row = await sandbox.subscribe("ada@example.test")
        data = {"list_id": DEFAULT_LIST, "email": "ada@example.test", "merges": row["merge_fields"]}
        body = body_of("subscribe", data, sandbox.clock.now_ms())
        signed = headers_of(body, sandbox.secret("main", "signing_secrets"), sandbox.clock.now_ms())
        for _ in range(2):
            assert await receive(hub, "POST", body, signed) == 200
        await poll_from_now(hub, "member_subscribed")
        await hub.time.advance(hub.clock.now_ms() + HOUR_MS, ring=hub.ring)
        assert await types(hub) == ["mailchimp.member_subscribed"]


async def test_the_key_of_the_webhook_stays_unknown_to_logs_and_the_connection(caplog: Any) -> None:
    async with hub_of(mandrill, {}) as (hub, _):
        connection = await hub.connections.by_name("mandrill")
        fields = await hub.connections.fields(connection)
        assert fields[KEYS]
        assert fields[KEYS] not in repr(connection)
        assert KEYS not in connection.settings
    assert fields[KEYS] not in caplog.text


MAIL = """
recipe: mail
on: {event: contract.begun}
steps:
  - do: mandrill.send_email
    purpose: orders
    with: {to: "{{ trigger.id }}@example.test", from_email: "shop@example.test", subject: Hello, html: "<p>Hi</p>"}
"""


async def test_a_look_up_waits_for_the_searches_that_the_vendor_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a vendor that allows few searches, all of which were made
    monkeypatch.setattr(mandrill, "budgets", [Rate(2, per_s=2 / 3600, name="searches", apart=True)])
    async with hub_of(mandrill, {}, work=True) as (hub, sandbox):
        await hub.library.apply_purposes("orders: {channel: email, class: transactional}")
        await hub.library.apply(MAIL, publish=True)
        assert await hub.limits.draw("mandrill", mandrill, {"searches": 2}) is None
        # when the answer to an e-mail is lost
        sandbox.drop_answers = 1
        connection, body = await hub.connections.by_name("contract"), b'{"id": "ada"}'
        headers = webhook.headers(body, sandbox_secret("contract", "contract", "webhook_secret"))
        call: dict[str, Any] = {"method": "POST", "query": "", "headers": headers, "body": body}
        await hub.ingest.receive("contract", connection.inbound_key, **call)
        # then it is looked for when the vendor allows it again, and found
        found = []
        for minutes in (20, 60):
            await hub.time.advance(hub.clock.now_ms() + minutes * 60_000, ring=hub.ring)
            async with hub.store.read() as c:
                found.append([(row["state"], row["attempts"]) for row in await c.all("select * from effect")])
                reason = await c.first("select reason from run")
            assert minutes == 60 or (reason and reason["reason"] == "waiting for the searches of mandrill")
        assert found == [[("intended", 1)], [("done", 1)]]
        assert [entry.operation for entry in sandbox.log] == ["send"]
