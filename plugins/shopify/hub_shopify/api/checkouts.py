"""Checkouts that were not completed, as the API lists them: it gives their id, and not the token that webhooks carry."""

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

CHECKOUTS_A_PAGE = 8


class CheckoutNode(Answer):
    id: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    abandoned_checkout_url: str
    discount_codes: list[str]
    billing_address: Address | None
    customer: Person | None
    total_price_set: ShopMoney
    line_items: LineNodes


class CheckoutPageAnswer(Answer):
    abandoned_checkouts: Listed[CheckoutNode]


CHECKOUT_PAGE = Operation(
    f"""query CheckoutPage($query: String!, $first: Int!, $after: String) {{
  abandonedCheckouts(first: $first, after: $after, query: $query, sortKey: CREATED_AT) {{
    nodes {{
      id createdAt updatedAt completedAt abandonedCheckoutUrl discountCodes
      billingAddress {{ firstName lastName phone countryCodeV2 }}
      customer {{ {PERSON_FIELDS} }}
      totalPriceSet {MONEY_FIELDS}
      {LINE_FIELDS}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}""",
    CheckoutPageAnswer,
)
