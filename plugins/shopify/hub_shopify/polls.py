"""What webhooks may have missed, and what happened before the hub was there: orders, customers, open checkouts.

Facts are named as webhooks name them, so that what both tell of is one event. Shopify's search lags behind what it shows
elsewhere, which the overlap of the polls covers. A crash between two pages goes on after the last one that was stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
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
    ORDER_PARTS,
    ORDER_REFUNDS,
    ORDERS_A_PAGE,
    REFUNDED_PAGE,
    ChangedOrder,
    OrderNode,
    RefundedNode,
)
from hub_shopify.api.parts import Listed, N
from hub_shopify.client import A, Operation, call, rfc3339
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
    return f"{field}:>='{rfc3339(_moment(since_ms))}'"


def _moment(ms: int) -> datetime:
    """An instant; what lies before all of them is the first one."""
    return datetime.fromtimestamp(max(ms, 0) / 1000, UTC)


def _cursor(since_ms: int, page: Listed[N]) -> str:
    """A poll's cursor after a page: of which poll it is, and Shopify's own."""
    return f"{since_ms}|{page.page_info.end_cursor or ''}"


def _resumed(cursor: str | None, since_ms: int) -> str | None:
    """Where a poll that broke off goes on: after the last page that was stored, if it was of the same poll."""
    of, _, after = (cursor or "").partition("|")
    return after or None if of == str(since_ms) else None


async def _paged(
    ctx: ActionContext, operation: Operation[A], asked: Mapping[str, Json], listed: Callable[[A], Listed[N]]
) -> AsyncIterator[Listed[N]]:
    """The pages of a list, from `after` on; `listed` finds them in an answer."""
    after = asked["after"]
    while True:
        page = listed(await call(ctx, operation, {**asked, "after": after}))
        yield page
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


def _orders(ctx: ActionContext, query: str, sort: str, after: str | None) -> AsyncIterator[Listed[OrderNode]]:
    """Pages of orders, oldest first."""
    asked = {"query": query, "first": ORDERS_A_PAGE, "after": after, "sort": sort, "reverse": False}
    return _paged(ctx, ORDER_PAGE, asked, lambda answer: answer.orders)


async def _changed(ctx: ActionContext, query: str, sort: str, after: str | None) -> AsyncIterator[Listed[ChangedOrder]]:
    """The same with all of their payments and shipments."""
    asked = {"query": query, "first": CHANGED_A_PAGE, "after": after, "sort": sort}
    async for page in _paged(ctx, CHANGED_PAGE, asked, lambda answer: answer.orders):
        yield page.model_copy(update={"nodes": [await _with_all_parts(ctx, node) for node in page.nodes]})


async def _with_all_parts(ctx: ActionContext, node: ChangedOrder) -> ChangedOrder:
    whole = (await call(ctx, ORDER_PARTS, {"id": node.id})).order if node.is_cut else None
    if whole is None:
        return node
    return node.model_copy(update={"transactions": whole.transactions, "fulfillments": whole.fulfillments})


async def _with_all_refunds(ctx: ActionContext, node: RefundedNode) -> RefundedNode:
    whole = (await call(ctx, ORDER_REFUNDS, {"id": node.id})).order if node.is_cut else None
    return node if whole is None else node.model_copy(update={"refunds": whole.refunds})


def _customers(ctx: ActionContext, query: str, sort: str, after: str | None) -> AsyncIterator[Listed[CustomerNode]]:
    """The same of customers."""
    asked = {"query": query, "first": CUSTOMERS_A_PAGE, "after": after, "sort": sort}
    return _paged(ctx, CUSTOMER_PAGE, asked, lambda answer: answer.customers)


async def _changed_orders(
    ctx: ActionContext, cursor: str | None, since_ms: int, when: Callable[[ChangedOrder], datetime | None]
) -> Pages[Order]:
    """Orders that changed, as far as what `when` asks about happened since: old orders change for many a reason."""
    since, query = _moment(since_ms), _since("updated_at", since_ms)
    async for page in _changed(ctx, query, "UPDATED_AT", _resumed(cursor, since_ms)):
        found = [nodes.changed_order(node) for node in page.nodes if (at := when(node)) and at >= since]
        yield Page(found, _cursor(since_ms, page))


# -- polls -------------------------------------------------------------------------------------------------------------


@shopify.poll("order_created", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def created_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were placed."""
    query, after = _since("created_at", since_ms), _resumed(cursor, since_ms)
    async for page in _orders(ctx, query, "CREATED_AT", after):
        yield Page([nodes.order(node) for node in page.nodes], _cursor(since_ms, page))


@shopify.poll("discount_redeemed", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def redeemed_codes(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Redemption]:
    """The codes of orders that were placed."""
    query, after = _since("created_at", since_ms), _resumed(cursor, since_ms)
    async for page in _orders(ctx, query, "CREATED_AT", after):
        found = [one for node in page.nodes for one in redemptions(nodes.order(node))]
        yield Page(found, _cursor(since_ms, page))


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
    since, query = _moment(since_ms), _since("updated_at", since_ms)
    asked = {"query": query, "first": ORDERS_A_PAGE, "after": _resumed(cursor, since_ms)}
    async for page in _paged(ctx, REFUNDED_PAGE, asked, lambda answer: answer.orders):
        whole = [await _with_all_refunds(ctx, node) for node in page.nodes]
        found = [one for node in whole for one in nodes.refunds(node) if one.processed_at >= since]
        yield Page(found, _cursor(since_ms, page))


@shopify.poll("customer_created", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=CUSTOMERS_COST)
async def created_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers who are new."""
    query, after = _since("customer_date", since_ms), _resumed(cursor, since_ms)
    async for page in _customers(ctx, query, "CREATED_AT", after):
        yield Page([nodes.customer(node) for node in page.nodes], _cursor(since_ms, page))


@shopify.poll("customer_updated", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=CUSTOMERS_COST)
async def updated_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers who were changed, as they are now."""
    query, after = _since("updated_at", since_ms), _resumed(cursor, since_ms)
    async for page in _customers(ctx, query, "UPDATED_AT", after):
        yield Page([nodes.customer(node) for node in page.nodes], _cursor(since_ms, page))


@shopify.poll("checkout_updated", every_s=EVERY_S, overlap_s=OVERLAP_S, cost=ORDERS_COST)
async def open_checkouts(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Checkout]:
    """Checkouts that changed and are not completed."""
    asked = {"query": _since("updated_at", since_ms), "first": CHECKOUTS_A_PAGE, "after": _resumed(cursor, since_ms)}
    async for page in _paged(ctx, CHECKOUT_PAGE, asked, lambda answer: answer.abandoned_checkouts):
        found = [nodes.checkout(node) for node in page.nodes if node.completed_at is None]
        yield Page(found, _cursor(since_ms, page))


# -- histories ---------------------------------------------------------------------------------------------------------
# Their cursor is the time of the last one stored, not Shopify's, which may not outlive the days that a long past takes.
# Only while whole pages are of one second, as after an import, Shopify's is what gets beyond it.


def _begun(cursor: str | None, since_ms: int) -> tuple[str, str | None]:
    """From which time on to search, and where in what is found."""
    at, _, after = (cursor or "").partition("|")
    return at or rfc3339(_moment(since_ms)), after or None


def _reached(begun: str, page: Listed[OrderNode] | Listed[ChangedOrder] | Listed[CustomerNode]) -> str:
    """The cursor after a page of what is searched from a time on."""
    at = rfc3339(page.nodes[-1].created_at.astimezone(UTC))
    return f"{begun}|{page.page_info.end_cursor or ''}" if at == begun else at


@shopify.history("order_created")
async def past_orders(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that were placed, from the oldest on."""
    begun, after = _begun(cursor, since_ms)
    async for page in _orders(ctx, f"created_at:>='{begun}'", "CREATED_AT", after):
        if page.nodes:
            yield Page([nodes.order(node) for node in page.nodes], _reached(begun, page))


@shopify.history("order_paid")
async def past_payments(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Order]:
    """Orders that are paid in full; read in the order in which they were placed."""
    begun, after = _begun(cursor, since_ms)
    async for page in _changed(ctx, f"created_at:>='{begun}'", "CREATED_AT", after):
        if page.nodes:
            yield Page([nodes.changed_order(node) for node in page.nodes if node.fully_paid], _reached(begun, page))


@shopify.history("customer_created")
async def past_customers(ctx: ActionContext, cursor: str | None, since_ms: int) -> Pages[Customer]:
    """Customers, from the oldest on."""
    begun, after = _begun(cursor, since_ms)
    async for page in _customers(ctx, f"customer_date:>='{begun}'", "CREATED_AT", after):
        if page.nodes:
            yield Page([nodes.customer(node) for node in page.nodes], _reached(begun, page))
