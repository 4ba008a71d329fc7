"""Discount codes."""

from __future__ import annotations

from hub_shopify.client import Answer, Operation


class Discount(Answer):
    """What a code gives. Other kinds than basic ones come without title."""

    title: str | None = None
    ends_at: str | None = None


class DiscountNode(Answer):
    id: str
    code_discount: Discount


class DiscountCreated(Answer):
    code_discount_node: DiscountNode


class DiscountCreateAnswer(Answer):
    discount_code_basic_create: DiscountCreated


class DiscountByCodeAnswer(Answer):
    code_discount_node_by_code: DiscountNode | None


DISCOUNT_CREATE = Operation(
    """mutation DiscountCreate($discount: DiscountCodeBasicInput!) {
  discountCodeBasicCreate(basicCodeDiscount: $discount) {
    codeDiscountNode { id codeDiscount { ... on DiscountCodeBasic { title endsAt } } }
    userErrors { field message code }
  }
}""",
    DiscountCreateAnswer,
)

DISCOUNT_BY_CODE = Operation(
    """query DiscountByCode($code: String!) {
  codeDiscountNodeByCode(code: $code) { id codeDiscount { ... on DiscountCodeBasic { title endsAt } } }
}""",
    DiscountByCodeAnswer,
)
