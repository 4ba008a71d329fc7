"""Products, and those that the shop recommends beside them."""

from __future__ import annotations

from hub_shopify.api.parts import Amount
from hub_shopify.client import Answer, Operation

RECOMMENDED_A_PRODUCT = 10
# What the merchant chose in the Search & Discovery app. The Admin API has no query for recommendations; they stand in two
# standard metafields of the product, both lists of products (`list.product_reference`). (shopify.dev "List of standard
# metafield definitions", 14 "Related products" and 17 "Complementary products", read 2026-11-29)
RECOMMENDATIONS = "shopify--discovery--product_recommendation"
COMPLEMENTARY, RELATED = "complementary_products", "related_products"
_REFERENCES = f"""references(first: {RECOMMENDED_A_PRODUCT}) {{
        nodes {{
          ... on Product {{
            id title handle status onlineStoreUrl
            priceRangeV2 {{ minVariantPrice {{ amount currencyCode }} }}
            featuredMedia {{ preview {{ image {{ url }} }} }}
          }}
        }}
      }}"""


class Image(Answer):
    url: str


class Preview(Answer):
    """A smaller picture of a picture or film; without one until Shopify has made it."""

    image: Image | None


class Media(Answer):
    preview: Preview | None


class PriceRange(Answer):
    min_variant_price: Amount


class ProductNode(Answer):
    """A product; one that is not in the online store has no URL."""

    id: str
    title: str
    handle: str
    status: str
    online_store_url: str | None
    price_range_v2: PriceRange
    featured_media: Media | None

    @property
    def image_url(self) -> str | None:
        preview = self.featured_media.preview if self.featured_media else None
        return preview.image.url if preview and preview.image else None


class References(Answer):
    nodes: list[ProductNode | None]


class Choice(Answer):
    """The products of a metafield."""

    references: References | None


class RecommendingNode(Answer):
    id: str
    complementary: Choice | None
    related: Choice | None


class RecommendationsAnswer(Answer):
    nodes: list[RecommendingNode | None]


RECOMMENDED = Operation(
    f"""query Recommended($ids: [ID!]!) {{
  nodes(ids: $ids) {{
    ... on Product {{
      id
      complementary: metafield(namespace: "{RECOMMENDATIONS}", key: "{COMPLEMENTARY}") {{
        {_REFERENCES}
      }}
      related: metafield(namespace: "{RECOMMENDATIONS}", key: "{RELATED}") {{
        {_REFERENCES}
      }}
    }}
  }}
}}""",
    RecommendationsAnswer,
)
