"""Polls and histories: the same facts as webhooks', page by page, and on after a crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hub import ActionContext, Event
from hub.clock import FrozenClock, parse_time_ms
from hub.testing.context import sandbox_context
from hub.testing.sandbox import SandboxServer
from hub_shopify import shopify
from hub_shopify.api.customers import CUSTOMERS_A_PAGE
from hub_shopify.api.orders import CHANGED_A_PAGE, ORDERS_A_PAGE
from hub_shopify.sandbox import ShopifySandbox

DAY_MS = 86_400_000
_A_PAGE = {"customer_created": CUSTOMERS_A_PAGE, "order_created": ORDERS_A_PAGE, "order_paid": CHANGED_A_PAGE}


async def found_by(fetch: Any, trigger: str, ctx: ActionContext, cursor: str | None, since_ms: int) -> list[Event]:
    """What a poll or a history finds, as events."""
    made = shopify.triggers[trigger]
    return [made.event(item, 0) async for page in fetch(ctx, cursor, since_ms) for item in page.items]


async def live(sandbox: ShopifySandbox, clock: FrozenClock, address: str | None, shop: str) -> None:
    """A little life of a shop, told by webhooks where there is an address."""
    buyer = {"email": "jane@example.com", "phone": "+14155550100", "first_name": "Jane", "last_name": "Doe"}
    await sandbox.customer(address, shop, id=7, **buyer, tags="vip")
    for n in range(20):
        clock.offset_ms += 60_000
        codes = [{"code": f"back-{n}", "amount": "1.00"}] if n % 7 == 0 else []
        await sandbox.order(address, shop, id=100 + n, customer={"id": 7}, discount_codes=codes)
    clock.offset_ms += 60_000
    await sandbox.order(address, shop, id=101, cancelled_at="2026-11-22T10:20:00Z")
    await sandbox.order(address, shop, id=102, fulfillment_status="fulfilled")
    await sandbox.happen("refund", address, shop, order_id=103, amount="12.50", note="torn")
    await sandbox.checkout(address, shop, token="t-1", customer={"id": 7})
    clock.offset_ms += 60_000
    await sandbox.customer(address, shop, id=7, email_marketing_consent={"state": "subscribed"})


@pytest.mark.parametrize("trigger", sorted(shopify.polls))
async def test_a_webhook_and_a_poll_make_one_fact(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock, inbox: Any
) -> None:
    # given
    since_ms = clock.now_ms()
    await live(sandbox, clock, inbox.url, ctx.account)
    sandbox.shop(ctx.account).bucket_size = sandbox.shop(ctx.account).bucket = 100_000
    told = {e.fact_id: e for e in inbox.events if e.type == f"shopify.{trigger}"}

    # when
    asked = {e.fact_id: e for e in await found_by(shopify.polls[trigger].fetch, trigger, ctx, None, since_ms)}

    # then
    if trigger == "customer_updated":
        # A webhook tells of each change, a poll of the last.
        assert asked.keys() <= told.keys()
    else:
        assert asked.keys() == told.keys()
    assert asked
    for fact, event in asked.items():
        # Of what has no time of its own in the API it is that of the last change.
        assert event.occurred_at_ms == told[fact].occurred_at_ms or trigger in {"order_paid", "order_fulfilled"}
        whose = (event.subject, told[fact].subject)
        assert trigger == "order_refunded" or len({w.vendor for w in whose if w}) == 1


@pytest.mark.parametrize("trigger", ["order_created", "order_paid", "customer_created", "checkout_updated"])
async def test_what_a_poll_finds_is_what_the_webhook_told(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock, inbox: Any
) -> None:
    # given
    since_ms = clock.now_ms()
    await sandbox.checkout(inbox.url, ctx.account, token="t-1", email="jane@example.com")
    await sandbox.customer(inbox.url, ctx.account, email="jim@example.com", tags="a, b")
    await sandbox.order(inbox.url, ctx.account, email="jo@example.com", tags="x, y", discount_codes=[{"code": "ab"}])
    [told] = [event for event in inbox.events if event.type == f"shopify.{trigger}"]

    # when
    found = await found_by(shopify.polls[trigger].fetch, trigger, ctx, None, since_ms)

    # then all that both can know is the same
    [asked] = [event for event in found if event.fact_id == told.fact_id]
    unknown = {"checkout_token", "cart_token", "checkout_id", "language", "customer_locale", "paid_at"}
    differing = {name for name, value in told.data.items() if asked.data[name] != value} - unknown
    assert differing <= {"email_consent", "sms_consent"}


@pytest.mark.parametrize("trigger", ["order_paid", "order_cancelled", "order_fulfilled", "order_refunded"])
async def test_an_old_order_that_somebody_touches_has_not_happened_anew(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given an order of long ago that was paid, cancelled, sent out and refunded then
    shop, then = sandbox.shop(ctx.account), "2024-01-01T10:00:00Z"
    done = {"cancelled_at": then, "fulfillment_status": "fulfilled", "fulfilled_at": then, "created_at": then}
    shop.refund(shop.order({"id": 1, **done}, then), ["1.00"], None, then)

    # when somebody changes its note
    shop.orders["1"]["updated_at"] = "2026-11-22T10:00:00Z"

    # then
    assert await found_by(shopify.polls[trigger].fetch, trigger, ctx, None, clock.now_ms() - DAY_MS) == []


@pytest.mark.parametrize("trigger", ["order_paid", "order_fulfilled"])
async def test_an_order_of_many_payments_and_pieces_is_done_with_the_last_of_them(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given an order that was paid and sent out in twelve parts, the last an hour ago
    long_ago, then = "2026-01-01T10:00:00Z", "2026-11-22T09:00:00Z"
    parts = {name: [*([long_ago] * 11), then] for name in ("paid_in_parts", "sent_in_parts")}
    sandbox.shop(ctx.account).bucket_size = sandbox.shop(ctx.account).bucket = 100_000
    sandbox.shop(ctx.account).order({"id": 1, "created_at": long_ago, "fulfillment_status": "fulfilled", **parts}, then)

    # when
    [event] = await found_by(shopify.polls[trigger].fetch, trigger, ctx, None, clock.now_ms() - DAY_MS)

    # then
    assert event.occurred_at_ms == parse_time_ms(then)
    if trigger == "order_paid":
        [told] = await found_by(shopify.histories[trigger].fetch, trigger, ctx, None, 0)
        assert told.occurred_at_ms == parse_time_ms(then)


async def test_all_refunds_of_an_order_are_found(
    ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given
    shop, now = sandbox.shop(ctx.account), "2026-11-22T10:00:00Z"
    order = shop.order({"id": 1}, now)
    made = [shop.refund(order, ["0.10"], None, now) for _ in range(12)]

    # when
    found = await found_by(shopify.polls["order_refunded"].fetch, "order_refunded", ctx, None, clock.now_ms() - DAY_MS)

    # then
    assert {event.data["refund_id"] for event in found} == {str(one["id"]) for one in made}


@pytest.mark.parametrize("trigger", ["order_paid", "order_fulfilled"])
async def test_an_order_was_paid_and_sent_out_when_it_was_and_not_when_it_last_changed(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given an order that was paid and sent out an hour ago, and whose note was changed just now
    then = "2026-11-22T09:00:00Z"
    sandbox.shop(ctx.account).order({"id": 1, "fulfillment_status": "fulfilled", "fulfilled_at": then}, then)
    sandbox.shop(ctx.account).orders["1"]["updated_at"] = "2026-11-22T10:00:00Z"

    # when
    [event] = await found_by(shopify.polls[trigger].fetch, trigger, ctx, None, clock.now_ms() - DAY_MS)

    # then
    assert event.occurred_at_ms == parse_time_ms(then)


@pytest.mark.parametrize(
    ("trigger", "processed_at"), [("order_created", None), ("order_paid", None), ("order_paid", "2025-01-08T10:00:00Z")]
)
async def test_a_past_order_that_somebody_touched_lately_is_as_old_as_it_is(
    trigger: str, processed_at: str | None, ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    # given an order of long ago, paid at once or some days later, and tagged only now
    then = "2025-01-01T10:00:00Z"
    paid = {"processed_at": processed_at} if processed_at else {}
    sandbox.shop(ctx.account).order({"id": 1, "created_at": then, **paid}, "2026-11-22T10:00:00Z")

    # when
    [event] = await found_by(shopify.histories[trigger].fetch, trigger, ctx, None, 0)

    # then
    assert event.occurred_at_ms == parse_time_ms(processed_at or then)


async def test_a_poll_that_broke_off_goes_on_after_its_last_page(
    ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given
    since_ms = clock.now_ms()
    await live(sandbox, clock, None, ctx.account)
    fetch = shopify.polls["order_created"].fetch
    pages = []
    async for page in fetch(ctx, None, since_ms):
        pages.append(page)
        break
    clock.offset_ms += 60_000

    # when
    rest = [page async for page in fetch(ctx, pages[0].cursor, since_ms)]

    # then
    ids = [item.order_id for page in (*pages, *rest) for item in page.items]
    assert len(pages[0].items) == ORDERS_A_PAGE
    assert ids == [str(100 + n) for n in range(20)]


async def test_the_next_poll_begins_anew(ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock) -> None:
    since_ms = clock.now_ms()
    await sandbox.order(None, ctx.account, id=1)
    fetch = shopify.polls["order_created"].fetch
    [page] = [page async for page in fetch(ctx, None, since_ms)]
    later = [item.order_id async for p in fetch(ctx, page.cursor, since_ms - 1000) for item in p.items]
    assert later == ["1"]


async def test_what_the_search_does_not_show_yet_is_found_by_the_overlap(
    ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given an order that the search has not indexed when the poll comes
    sandbox.search_lag_ms = 300_000
    began_ms = clock.now_ms()
    await sandbox.order(None, ctx.account, id=1)
    poll = shopify.polls["order_created"]
    assert await found_by(poll.fetch, "order_created", ctx, None, began_ms - poll.overlap_s * 1000) == []

    # when the next one comes, which begins before the last one did
    clock.offset_ms += poll.every_s * 1000
    found = await found_by(poll.fetch, "order_created", ctx, None, began_ms - poll.overlap_s * 1000)

    # then
    assert [event.fact_id for event in found] == ["order_created:1"]


# -- histories ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", sorted(shopify.histories))
async def test_two_years_are_read_in_pages_and_on_from_where_it_stopped(
    trigger: str, server: SandboxServer, ctx: ActionContext, sandbox: ShopifySandbox, clock: FrozenClock
) -> None:
    # given a past of 24 months, and something older
    shop, begin_ms = sandbox.shop(ctx.account), parse_time_ms("2024-11-22T10:00:00Z")
    times = [
        f"{year}-{month:02}-{day:02}T10:00:00Z"
        for year in (2025, 2026)
        for month in range(1, 11)
        for day in (1, 2, 3, 4, 5, 6)
    ]
    for n, at in enumerate(["2023-01-01T10:00:00Z", *times]):
        shop.customer({"id": n, "email": f"p{n}@example.com", "created_at": at}, at)
        shop.signed_up.add(str(n))
        shop.order({"id": n, "customer": None, "created_at": at}, at)
    shop.bucket_size = shop.bucket = 1_000_000
    fetch = shopify.histories[trigger].fetch

    # when it breaks off after two pages, and goes on, a day later, from the cursor of the second
    pages = []
    async for page in fetch(ctx, None, begin_ms):
        pages.append(page)
        if len(pages) == 2:
            break
    rest = [page async for page in fetch(ctx, pages[1].cursor, begin_ms + DAY_MS)]

    # then nothing is missing; what comes twice is the same fact
    made = shopify.triggers[trigger]
    facts = [made.event(item, 0).fact_id for page in (*pages, *rest) for item in page.items]
    assert set(facts) == {f"{trigger}:{n}" for n in range(1, 121)}
    assert len(facts) <= len(set(facts)) + 1
    assert len(pages[0].items) == _A_PAGE[trigger]
    # and it has the vendor's own time
    assert made.event(pages[0].items[0], 0).occurred_at_ms == parse_time_ms("2025-01-01T10:00:00Z")


@pytest.mark.parametrize("trigger", sorted(shopify.histories))
async def test_a_past_of_which_more_than_a_page_fell_into_one_second_comes_to_an_end(
    trigger: str, ctx: ActionContext, sandbox: ShopifySandbox
) -> None:
    # given what was imported in one second, between something earlier and something later
    shop, many = sandbox.shop(ctx.account), 3 * CUSTOMERS_A_PAGE
    shop.bucket_size = shop.bucket = 1_000_000
    for n in range(many):
        at = "2026-01-02T10:00:00Z" if 0 < n < many - 1 else f"2026-01-0{1 if n == 0 else 3}T10:00:00Z"
        shop.customer({"id": n, "email": f"p{n}@example.com", "created_at": at}, at)
        shop.signed_up.add(str(n))
        shop.order({"id": n, "customer": None, "created_at": at}, at)

    # when it is cut off after every page
    made, facts, cursor = shopify.triggers[trigger], list[str](), None
    for _ in range(many):
        page = await anext(shopify.histories[trigger].fetch(ctx, cursor, 0), None)
        if page is None:
            break
        facts += [made.event(item, 0).fact_id for item in page.items]
        cursor = page.cursor

    # then all of it was read
    assert page is None
    assert set(facts) == {f"{trigger}:{n}" for n in range(many)}


@pytest.mark.parametrize("trigger", sorted(shopify.polls))
async def test_a_poll_says_what_a_page_of_it_costs(trigger: str) -> None:
    asked: list[float] = []

    def noted(answer: Any, problem: Exception | None, began: float) -> None:
        asked.append(answer.json()["extensions"]["cost"]["requestedQueryCost"])

    async with (
        SandboxServer({"shopify": ShopifySandbox(FrozenClock(0))}) as server,
        sandbox_context(shopify, server.url, {"shop": "my-shop.myshopify.com"}) as ctx,
    ):
        told = replace(ctx, http=replace(ctx.http, noted=noted))  # type: ignore[type-var]
        await found_by(shopify.polls[trigger].fetch, trigger, told, None, 0)
    assert 0.9 * shopify.polls[trigger].cost <= max(asked) <= shopify.polls[trigger].cost
