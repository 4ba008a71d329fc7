"""Orders: those of a search, whole ones for polls and histories, refunds, and the changes made to an order."""

from __future__ import annotations

from datetime import datetime

from hub_shopify.api.parts import (
    LINE_FIELDS,
    MONEY_FIELDS,
    PERSON_FIELDS,
    Address,
    LineNodes,
    Listed,
    Person,
    ShopMoney,
)
from hub_shopify.client import Answer, Operation

# A query may ask for 1,000 points, and an order with ten lines is about 60 of them. (shopify.dev "API rate limits", 2026)
ORDERS_A_PAGE = 8
CHANGED_A_PAGE = 6
_PAYING = {"SALE", "CAPTURE"}
_ORDER_FIELDS = f"""id name createdAt updatedAt cancelledAt email phone customerLocale customerAcceptsMarketing
      fullyPaid displayFulfillmentStatus checkoutToken cartToken discountCodes tags
      billingAddress {{ firstName lastName phone countryCodeV2 }}
      customer {{ {PERSON_FIELDS} }}
      totalPriceSet {MONEY_FIELDS}
      {LINE_FIELDS}"""
_REFUND_FIELDS = f"id processedAt note totalRefundedSet {MONEY_FIELDS}"
_BUYER_FIELDS = f"id name email phone customer {{ {PERSON_FIELDS} }}"


class FoundOrder(Answer):
    id: str
    checkout_token: str | None


class FoundOrders(Answer):
    nodes: list[FoundOrder]


class OrdersAnswer(Answer):
    orders: FoundOrders


class OrderNode(Answer):
    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None
    email: str | None
    phone: str | None
    customer_locale: str | None
    customer_accepts_marketing: bool
    fully_paid: bool
    display_fulfillment_status: str
    checkout_token: str | None
    cart_token: str | None
    discount_codes: list[str]
    tags: list[str]
    billing_address: Address | None
    customer: Person | None
    total_price_set: ShopMoney
    line_items: LineNodes


class OrderPageAnswer(Answer):
    orders: Listed[OrderNode]


class Payment(Answer):
    kind: str
    status: str
    processed_at: datetime | None


class Shipment(Answer):
    created_at: datetime


class ChangedOrder(OrderNode):
    """An order together with what tells when it was paid and sent out."""

    transactions: list[Payment]
    fulfillments: list[Shipment]

    @property
    def paid_at(self) -> datetime | None:
        """When the last payment came in; None unless it is paid in full. One that cost nothing was paid when placed."""
        if not self.fully_paid:
            return None
        of = [
            p.processed_at for p in self.transactions if p.kind in _PAYING and p.status == "SUCCESS" and p.processed_at
        ]
        return max(of, default=self.created_at)

    @property
    def fulfilled_at(self) -> datetime | None:
        """When the last piece was sent out; None unless all were."""
        if self.display_fulfillment_status != "FULFILLED":
            return None
        return max((shipment.created_at for shipment in self.fulfillments), default=self.created_at)


class ChangedPageAnswer(Answer):
    orders: Listed[ChangedOrder]


class RefundNode(Answer):
    id: str
    processed_at: datetime
    note: str | None
    total_refunded_set: ShopMoney


class BuyerNode(Answer):
    """An order as far as it says whose it is."""

    id: str
    name: str
    email: str | None
    phone: str | None
    customer: Person | None


class RefundedNode(BuyerNode):
    updated_at: datetime
    refunds: list[RefundNode]


class RefundedAnswer(Answer):
    orders: Listed[RefundedNode]


class RefundOfOrder(RefundNode):
    order: BuyerNode


class RefundsAnswer(Answer):
    nodes: list[RefundOfOrder | None]


class NotedOrder(Answer):
    id: str
    note: str | None


class NoteAnswer(Answer):
    order: NotedOrder | None


class OrderUpdated(Answer):
    order: NotedOrder | None


class OrderUpdateAnswer(Answer):
    order_update: OrderUpdated


ORDERS = Operation(
    """query Orders($query: String!) {
  orders(first: 5, query: $query, sortKey: CREATED_AT, reverse: true) { nodes { id checkoutToken } }
}""",
    OrdersAnswer,
)

ORDER_PAGE = Operation(
    f"""query OrderPage($query: String!, $first: Int!, $after: String, $sort: OrderSortKeys!, $reverse: Boolean!) {{
  orders(first: $first, after: $after, query: $query, sortKey: $sort, reverse: $reverse) {{
    nodes {{
      {_ORDER_FIELDS}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    OrderPageAnswer,
)

CHANGED_PAGE = Operation(
    f"""query ChangedPage($query: String!, $first: Int!, $after: String, $sort: OrderSortKeys!) {{
  orders(first: $first, after: $after, query: $query, sortKey: $sort) {{
    nodes {{
      {_ORDER_FIELDS}
      transactions(first: 10) {{ kind status processedAt }}
      fulfillments(first: 10) {{ createdAt }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    ChangedPageAnswer,
)

REFUNDED_PAGE = Operation(
    f"""query RefundedPage($query: String!, $first: Int!, $after: String) {{
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {{
    nodes {{ {_BUYER_FIELDS} updatedAt refunds(first: 10) {{ {_REFUND_FIELDS} }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    RefundedAnswer,
)

REFUNDS = Operation(
    f"""query Refunds($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Refund {{ {_REFUND_FIELDS} order {{ {_BUYER_FIELDS} }} }} }}
}}""",
    RefundsAnswer,
)

ORDER_NOTE = Operation("query OrderNote($id: ID!) { order(id: $id) { id note } }", NoteAnswer)

ORDER_UPDATE = Operation(
    """mutation OrderUpdate($input: OrderInput!) {
  orderUpdate(input: $input) { order { id note } userErrors { field message } }
}""",
    OrderUpdateAnswer,
)
