"""What goes with a product: a question to the shop, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from hub import ActionContext, Effect, Money
from hub_shopify.actions.inputs import Input, ProductId
from hub_shopify.api.products import RECOMMENDED, RECOMMENDED_A_PRODUCT, ProductNode, RecommendingNode
from hub_shopify.client import OBJECT, call, gid, rest_id
from hub_shopify.connector import shopify

Kind = Literal["complementary", "related"]
# A query may ask for 1,000 points: a product with its two lists is 2 * (2 + 6 * RECOMMENDED_A_PRODUCT) of them.
_PRODUCTS_ASKED = 5
_A_PRODUCT_S_COST = (1 + 2 * (2 + 6 * RECOMMENDED_A_PRODUCT)) * OBJECT


def _products_of(lines: Any) -> Any:  # the input of a validator may be anything
    """Ids as they are; the lines of an order, checkout or cart as their products' ids, own items without one left out."""
    if not isinstance(lines, list):
        return lines
    return [id_ for line in lines if (id_ := line.get("product_id") if isinstance(line, dict) else line)]


class RecommendationsInput(Input):
    products: Annotated[list[ProductId], BeforeValidator(_products_of)] = Field(
        max_length=250,
        description=f"Ids of products, or lines: {{{{ trigger.line_items }}}}; the first {_PRODUCTS_ASKED} products count",
    )
    kind: Kind | None = Field(
        None, description="complementary: pairs well with; related: instead of. Without it both, complementary first"
    )
    limit: int = Field(4, ge=1, le=RECOMMENDED_A_PRODUCT)


class Recommendation(BaseModel):
    """A product to recommend; `price` is that of its cheapest variant, in the shop's currency."""

    kind: Kind
    product_id: str
    title: str
    handle: str
    url: str
    price: Money
    image_url: str | None = None


class FoundRecommendations(BaseModel):
    """Each product once, none that was asked about; empty where the shop recommends nothing."""

    count: int
    products: list[Recommendation]


@shopify.action(
    "find_product_recommendations",
    title="Find what goes with a product",
    input=RecommendationsInput,
    output=FoundRecommendations,
    effect=Effect.IDEMPOTENT,
    scopes=["read_products"],
    cost=_PRODUCTS_ASKED * _A_PRODUCT_S_COST,
)
async def find_product_recommendations(ctx: ActionContext, input: RecommendationsInput) -> FoundRecommendations:
    """What the merchant chose to go with these products, as far as it can be bought in the online store.

    Those that Shopify works out by itself on a page of the shop are not told to apps.
    """
    asked = list(dict.fromkeys(map(rest_id, input.products)))
    if not asked:
        return FoundRecommendations(count=0, products=[])
    ids = [gid("Product", id_) for id_ in asked[:_PRODUCTS_ASKED]]
    known = [node for node in (await call(ctx, RECOMMENDED, {"ids": ids})).nodes if node]
    found: dict[str, Recommendation] = {}
    for kind in ("complementary", "related") if input.kind is None else (input.kind,):
        for one in _chosen(known, kind):
            if one.product_id not in asked:
                found.setdefault(one.product_id, one)
    products = list(found.values())[: input.limit]
    return FoundRecommendations(count=len(products), products=products)


def _chosen(products: list[RecommendingNode], kind: Kind) -> Iterator[Recommendation]:
    for product in products:
        chosen = product.complementary if kind == "complementary" else product.related
        for node in chosen.references.nodes if chosen and chosen.references else ():
            if node and node.online_store_url and node.status == "ACTIVE":
                yield _recommendation(kind, node, node.online_store_url)


def _recommendation(kind: Kind, node: ProductNode, url: str) -> Recommendation:
    return Recommendation(
        kind=kind,
        product_id=rest_id(node.id),
        title=node.title,
        handle=node.handle,
        url=url,
        price=node.price_range_v2.min_variant_price.money,
        image_url=node.image_url,
    )


@find_product_recommendations.simulate
def _pretend_recommendations(input: RecommendationsInput, now_ms: int) -> FoundRecommendations:
    return FoundRecommendations(count=0, products=[])


@find_product_recommendations.describe
def _describe_recommendations(input: RecommendationsInput) -> str:
    return f"look up what goes with {len(input.products)} product{'' if len(input.products) == 1 else 's'}"
