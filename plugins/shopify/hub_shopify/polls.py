"""What webhooks may have missed, and what happened before the hub was there: orders, customers, open checkouts.

Facts are named as webhooks name them, so that what both tell of is one event. Shopify's search lags behind what it shows
elsewhere, which the overlap of the polls covers. A crash between two pages goes on after the last one that was stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TypeVar

from hub import ActionContext, Page
from hub.events import Json
from hub_shopify import nodes
from hub_shopify.api.checkouts import CHECKOUT_PAGE, CHECKOUTS_A_PAGE
from hub_shopify.api.customers import CUSTOMER_PAGE, CUSTOMERS_A_PAGE, CustomerNode
from hub_shopify.api.orders import (
    CHANGED_A_PAGE,
    CHANGED_PAGE,
    ORDER_PAGE,
    ORDERS_A_PAGE,
    REFUNDED_PAGE,
    ChangedOrder,
    OrderNode,
)
from hub_shopify.client import call, rfc3339
from hub_shopify.connector import shopify
from hub_shopify.payloads import Checkout, Customer, Order, Payload, Redemption, Refund
from hub_shopify.triggers.orders import redemptions

EVERY_S, OVERLAP_S = 3600, 7200
# What a page asks for, in points.
ORDERS_COST, CUSTOMERS_COST, REFUNDS_COST = 490, 260, 210

P = TypeVar("P", bound=Payload)
Pages = AsyncIterator[Page[P]]


# -- paging ------------------------------------------------------------------------------------------------------------


def _since(field: str, since_ms: int) -> str:
    """A search for what is not older; `field` is what the search calls the time."""
    return f"{field}:>='{rfc3339(datetime.fromtimestamp(max(since_ms, 0) / 1000, UTC))}'"


def _resumed(cursor: str | None, since_ms: int) -> str | None:
    """Where a poll that broke off goes on: after the last page that was stored, if it was of the same poll."""
    of, _, after = (cursor or "").partition("|")
    return after or None if of == str(since_ms) else None


async def _orders(
    ctx: ActionContext, query: str, sort: str, after: str | None
) -> AsyncIterator[tuple[list[OrderNode], str]]:
    """Pages of orders, oldest first, each with Shopify's cursor after it."""
    while True:
        variables = {"query": query, "first": ORDERS_A_PAGE, "after": after, "sort": sort, "reverse": False}
        page = (await call(ctx, ORDER_PAGE, variables)).orders
        yield page.nodes, page.page_info.end_cursor or ""
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


async def _customers(
    ctx: ActionContext, query: str, sort: str, after: str | None
) -> AsyncIterator[tuple[list[CustomerNode], str]]:
    """The same of customers."""
    while True:
        variables = {"query": query, "first": CUSTOMERS_A_PAGE, "after": after, "sort": sort}
        page = (await call(ctx, CUSTOMER_PAGE, variables)).customers
        yield page.nodes, page.page_info.end_cursor or ""
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


async def _changed_orders(
    ctx: ActionContext, cursor: str | None, since_ms: int, when: Callable[[ChangedOrder], datetime | None]
) -> Pages[Order]:
    """Orders that changed, as far as what `when` asks about happened since: old orders change for many a reason."""
    since = datetime.fromtimestamp(max(since_ms, 0) / 1000, UTC)
    query, after = _since("updated_at", since_ms), _resumed(cursor, since_ms)
    while True:
        page = (await call(ctx, CHANGED_PAGE, {"query": query, "first": CHANGED_A_PAGE, "after": after})).orders
        found = [nodes.order(node) for node in page.nodes if (at := when(node)) and at >= since]
        yield Page(found, cursor=f"{since_ms}|{page.page_info.end_cursor or ''}")
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


# -- polls -------------------------------------------------------------------------------------------------------------


@shopify.poll("order_created", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def created_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were placed."""
    query, after = _since("created_at", since_ms), _resumed(cursor, since_ms)
    async for found, end in _orders(ctx, query, "CREATED_AT", after):
        yield Page([nodes.order(node) for node in found], cursor=f"{since_ms}|{end}")


@shopify.poll("discount_redeemed", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def redeemed_codes(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Redemption]:
    """The codes of orders that were placed."""
    query, after = _since("created_at", since_ms), _resumed(cursor, since_ms)
    async for found, end in _orders(ctx, query, "CREATED_AT", after):
        yield Page([one for node in found for one in redemptions(nodes.order(node))], cursor=f"{since_ms}|{end}")


@shopify.poll("order_paid", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def paid_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were paid in full."""
    async for page in _changed_orders(ctx, cursor, since_ms, lambda order: order.paid_at):
        yield page


@shopify.poll("order_cancelled", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def cancelled_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were cancelled."""
    async for page in _changed_orders(ctx, cursor, since_ms, lambda order: order.cancelled_at):
        yield page


@shopify.poll("order_fulfilled", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def fulfilled_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were sent out whole."""
    async for page in _changed_orders(ctx, cursor, since_ms, lambda order: order.fulfilled_at):
        yield page


@shopify.poll("order_refunded", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=REFUNDS_COST)
async def refunded_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Refund]:
    """The refunds of orders that changed, as far as they are not older themselves."""
    since = datetime.fromtimestamp(max(since_ms, 0) / 1000, UTC)
    query, after = _since("updated_at", since_ms), _resumed(cursor, since_ms)
    while True:
        page = (await call(ctx, REFUNDED_PAGE, {"query": query, "first": ORDERS_A_PAGE, "after": after})).orders
        found = [one for node in page.nodes for one in nodes.refunds(node) if one.processed_at >= since]
        yield Page(found, cursor=f"{since_ms}|{page.page_info.end_cursor or ''}")
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


@shopify.poll("customer_created", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=CUSTOMERS_COST)
async def created_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers who are new."""
    query, after = _since("customer_date", since_ms), _resumed(cursor, since_ms)
    async for found, end in _customers(ctx, query, "CREATED_AT", after):
        yield Page([nodes.customer(node) for node in found], cursor=f"{since_ms}|{end}")


@shopify.poll("customer_updated", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=CUSTOMERS_COST)
async def updated_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers who were changed, as they are now."""
    query, after = _since("updated_at", since_ms), _resumed(cursor, since_ms)
    async for found, end in _customers(ctx, query, "UPDATED_AT", after):
        yield Page([nodes.customer(node) for node in found], cursor=f"{since_ms}|{end}")


@shopify.poll("checkout_updated", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def open_checkouts(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Checkout]:
    """Checkouts that changed and are not completed."""
    query, after = _since("updated_at", since_ms), _resumed(cursor, since_ms)
    while True:
        variables: dict[str, Json] = {"query": query, "first": CHECKOUTS_A_PAGE, "after": after}
        page = (await call(ctx, CHECKOUT_PAGE, variables)).abandoned_checkouts
        found = [nodes.checkout(node) for node in page.nodes if node.completed_at is None]
        yield Page(found, cursor=f"{since_ms}|{page.page_info.end_cursor or ''}")
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


# -- histories ---------------------------------------------------------------------------------------------------------
# Their cursor is the time of the last one stored, not Shopify's, which may not outlive the days that a long past takes.
# Only while whole pages are of one second, as after an import, Shopify's is what gets beyond it.


def _begun(cursor: str | None, since_ms: int) -> tuple[str, str | None]:
    """From which time on to search, and where in what is found."""
    at, _, after = (cursor or "").partition("|")
    return at or rfc3339(datetime.fromtimestamp(max(since_ms, 0) / 1000, UTC)), after or None


def _reached(begun: str, last: datetime, end: str) -> str:
    """The cursor after a page whose last one is of that time."""
    at = rfc3339(last.astimezone(UTC))
    return f"{begun}|{end}" if at == begun else at


@shopify.history("order_created")
async def past_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were placed, from the oldest on."""
    async for found, reached in _past_orders(ctx, cursor, since_ms):
        yield Page([nodes.order(node) for node in found], cursor=reached)


@shopify.history("order_paid")
async def past_payments(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that are paid in full, by the time they were placed."""
    async for found, reached in _past_orders(ctx, cursor, since_ms):
        yield Page([nodes.order(node) for node in found if node.fully_paid], cursor=reached)


@shopify.history("customer_created")
async def past_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers, from the oldest on."""
    begun, after = _begun(cursor, since_ms)
    async for found, end in _customers(ctx, f"customer_date:>='{begun}'", "CREATED_AT", after):
        reached = _reached(begun, found[-1].created_at, end) if found else begun
        yield Page([nodes.customer(node) for node in found], cursor=reached)


async def _past_orders(
    ctx: ActionContext, cursor: str | None, since_ms: int
) -> AsyncIterator[tuple[list[OrderNode], str]]:
    begun, after = _begun(cursor, since_ms)
    async for found, end in _orders(ctx, f"created_at:>='{begun}'", "CREATED_AT", after):
        yield found, _reached(begun, found[-1].created_at, end) if found else begun
