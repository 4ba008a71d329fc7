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
    Node,
    Person,
    ShopMoney,
)
from hub_shopify.client import Answer, Operation

# A query may ask for 1,000 points, and an order with ten lines is about 60 of them. (shopify.dev "API rate limits", 2026)
ORDERS_A_PAGE = 8
CHANGED_A_PAGE = 6
# Payments, shipments and refunds have no pages. A page of orders asks for this many of each; an order that has as many is
# asked about alone, for more than anybody has; all that is asked for must be within the points that are left.
PARTS_A_PAGE, MOST_PARTS = 10, 100
_PAYING = {"SALE", "CAPTURE"}
_ORDER_FIELDS = f"""id name createdAt updatedAt cancelledAt email phone customerLocale customerAcceptsMarketing
      fullyPaid displayFulfillmentStatus checkoutToken cartToken discountCodes tags
      billingAddress {{ firstName lastName phone countryCodeV2 }}
      customer {{ {PERSON_FIELDS} }}
      totalPriceSet {MONEY_FIELDS}
      {LINE_FIELDS}"""
_REFUND_FIELDS = f"id processedAt note totalRefundedSet {MONEY_FIELDS}"
_BUYER_FIELDS = f"id name email phone customer {{ {PERSON_FIELDS} }}"


_PAYMENT_FIELDS = "{ kind status processedAt }"
_SHIPMENT_FIELDS = "{ createdAt }"


class FoundOrder(Answer):
    id: str
    created_at: datetime
    checkout_token: str | None
    email: str | None
    customer: Node | None


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
    def is_cut(self) -> bool:
        """Whether there may be more of its payments or shipments than a page of orders holds."""
        return max(len(self.transactions), len(self.fulfillments)) >= PARTS_A_PAGE

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


class OrderParts(Answer):
    """All payments and shipments of one order."""

    transactions: list[Payment]
    fulfillments: list[Shipment]


class OrderPartsAnswer(Answer):
    order: OrderParts | None


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

    @property
    def is_cut(self) -> bool:
        """Whether there may be more of its refunds than a page of orders holds."""
        return len(self.refunds) >= PARTS_A_PAGE


class OrderRefunds(Answer):
    refunds: list[RefundNode]


class OrderRefundsAnswer(Answer):
    order: OrderRefunds | None


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
  orders(first: 5, query: $query, sortKey: CREATED_AT, reverse: true) {
    nodes { id createdAt checkoutToken email customer { id } }
  }
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
      transactions(first: {PARTS_A_PAGE}) {_PAYMENT_FIELDS}
      fulfillments(first: {PARTS_A_PAGE}) {_SHIPMENT_FIELDS}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    ChangedPageAnswer,
)

REFUNDED_PAGE = Operation(
    f"""query RefundedPage($query: String!, $first: Int!, $after: String) {{
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {{
    nodes {{ {_BUYER_FIELDS} updatedAt refunds(first: {PARTS_A_PAGE}) {{ {_REFUND_FIELDS} }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    RefundedAnswer,
)

ORDER_PARTS = Operation(
    f"""query OrderParts($id: ID!) {{
  order(id: $id) {{
    transactions(first: {MOST_PARTS}) {_PAYMENT_FIELDS}
    fulfillments(first: {MOST_PARTS}) {_SHIPMENT_FIELDS}
  }}
}}""",
    OrderPartsAnswer,
)

ORDER_REFUNDS = Operation(
    f"""query OrderRefunds($id: ID!) {{
  order(id: $id) {{ refunds(first: {MOST_PARTS}) {{ {_REFUND_FIELDS} }} }}
}}""",
    OrderRefundsAnswer,
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
