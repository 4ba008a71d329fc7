"""What a recipe's author may choose from: segments, locations, variants, discounts."""

from __future__ import annotations

from hub_shopify.api.parts import Listed
from hub_shopify.client import Answer, Operation

CHOICES_A_PAGE = 50


class Named(Answer):
    id: str
    name: str


class SegmentsAnswer(Answer):
    segments: Listed[Named]


class LocationsAnswer(Answer):
    locations: Listed[Named]


class Variant(Answer):
    id: str
    display_name: str
    sku: str | None


class VariantsAnswer(Answer):
    product_variants: Listed[Variant]


class Code(Answer):
    code: str


class Codes(Answer):
    nodes: list[Code]


class CodeDiscount(Answer):
    """A discount by code; automatic ones come without all of it."""

    title: str | None = None
    codes: Codes | None = None


class DiscountChoice(Answer):
    id: str
    discount: CodeDiscount


class DiscountsAnswer(Answer):
    discount_nodes: Listed[DiscountChoice]


SEGMENTS = Operation(
    """query Segments($first: Int!, $after: String, $query: String) {
  segments(first: $first, after: $after, query: $query) { nodes { id name } pageInfo { hasNextPage endCursor } }
}""",
    SegmentsAnswer,
)

LOCATIONS = Operation(
    """query Locations($first: Int!, $after: String, $query: String) {
  locations(first: $first, after: $after, query: $query) { nodes { id name } pageInfo { hasNextPage endCursor } }
}""",
    LocationsAnswer,
)

VARIANTS = Operation(
    """query Variants($first: Int!, $after: String, $query: String) {
  productVariants(first: $first, after: $after, query: $query) {
    nodes { id displayName sku }
    pageInfo { hasNextPage endCursor }
  }
}""",
    VariantsAnswer,
)

DISCOUNTS = Operation(
    """query Discounts($first: Int!, $after: String, $query: String) {
  discountNodes(first: $first, after: $after, query: $query) {
    nodes {
      id
      discount {
        ... on DiscountCodeBasic { title codes(first: 1) { nodes { code } } }
        ... on DiscountCodeBxgy { title codes(first: 1) { nodes { code } } }
        ... on DiscountCodeFreeShipping { title codes(first: 1) { nodes { code } } }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}""",
    DiscountsAnswer,
)
