"""The shop itself, its products, and what a recipe's author may choose from: segments, locations, variants."""

from __future__ import annotations

from collections.abc import Mapping

from hub.events import Json
from hub_shopify.sandbox.ids import gid
from hub_shopify.sandbox.resolvers.parts import Asked, Resolver, Term, amount, found, page, unknown
from hub_shopify.sandbox.shop import Fields, SandboxShop

_CHOSEN = {"complementary_products": "complementary", "related_products": "related"}


def _shop(asked: Asked) -> Json:
    shop = asked.shop
    return {
        "id": gid("Shop", "1"),
        "name": shop.domain.partition(".")[0].replace("-", " ").title(),
        "myshopifyDomain": shop.domain,
        "currencyCode": shop.currency,
        "ianaTimezone": shop.zone,
    }


def _segments(asked: Asked) -> Json:
    return page(
        [{"id": gid("Segment", one["id"]), "name": one["name"]} for one in _named(asked, asked.shop.segments)],
        asked.args,
    )


def _locations(asked: Asked) -> Json:
    return page(
        [{"id": gid("Location", one["id"]), "name": one["name"]} for one in _named(asked, asked.shop.locations)],
        asked.args,
    )


def _variants(asked: Asked) -> Json:
    every = [one | {"updated_at": asked.now} for one in asked.shop.variants.values()]
    hits = found(asked, every, lambda one, term: any(term.holds(w) for w in [*one["name"].split(), one["sku"]]))
    nodes = [{"id": gid("ProductVariant", one["id"]), "displayName": one["name"], "sku": one["sku"]} for one in hits]
    return page(nodes, asked.args)


def product_node(shop: SandboxShop, product: Fields) -> Fields:
    """A product, with the lists of products that its merchant chose to go with it."""
    handle, status = product["name"].lower().replace(" ", "-"), product.get("status", "ACTIVE")

    def metafield(args: Mapping[str, Json]) -> Json:
        known = args["namespace"] == "shopify--discovery--product_recommendation"
        chosen = product.get(_CHOSEN.get(args["key"], "")) if known else None
        if not chosen:
            return None
        nodes = [product_node(shop, shop.products[one]) for one in chosen]
        return {"references": lambda args: page(nodes, args)}

    return {
        "__typename": "Product",
        "id": gid("Product", product["id"]),
        "title": product["name"],
        "handle": handle,
        "status": status,
        "onlineStoreUrl": f"https://{shop.domain}/products/{handle}" if status == "ACTIVE" else None,
        "priceRangeV2": {"minVariantPrice": amount(shop, product["price"])},
        "featuredMedia": {"preview": {"image": {"url": f"https://cdn.shopify.example/{handle}.jpg"}}},
        "metafield": metafield,
    }


def _named(asked: Asked, kept: Mapping[str, str]) -> list[Fields]:
    every = [{"id": one, "name": name, "updated_at": asked.now} for one, name in kept.items()]
    return found(asked, every, _is_named)


def _is_named(one: Fields, term: Term) -> bool:
    if term.field != "name":
        raise unknown("these", term)
    return any(term.holds(word) for word in one["name"].split())


QUERIES: dict[str, Resolver] = {
    "shop": _shop,
    "segments": _segments,
    "locations": _locations,
    "productVariants": _variants,
}
MUTATIONS: dict[str, Resolver] = {}
