"""The Admin API's operations over a sandbox shop, with the refusals that Shopify has for them."""

from __future__ import annotations

from hub.events import Json
from hub_shopify.sandbox.graphql import Selection, pick
from hub_shopify.sandbox.resolvers import catalogue, checkouts, customers, discounts, drafts, money, orders, webhooks
from hub_shopify.sandbox.resolvers.parts import Asked, Record, Resolver, UserError
from hub_shopify.sandbox.shop import SandboxShop

_SUBJECTS = (catalogue, checkouts, customers, discounts, drafts, money, orders, webhooks)
_QUERIES: dict[str, Resolver] = {name: one for subject in _SUBJECTS for name, one in subject.QUERIES.items()}
_MUTATIONS: dict[str, Resolver] = {name: one for subject in _SUBJECTS for name, one in subject.MUTATIONS.items()}


def execute(kind: str, selections: list[Selection], shop: SandboxShop, record: Record, now_ms: int) -> Json:
    """The `data` of an operation. Raises ValueError for what does not fit the API, as far as the sandbox knows it."""
    return {s.alias: pick(s.fields, _resolve(kind, s, shop, record, now_ms)) for s in selections}


def _resolve(kind: str, selection: Selection, shop: SandboxShop, record: Record, now_ms: int) -> Json:
    resolver = (_MUTATIONS if kind == "mutation" else _QUERIES).get(selection.name)
    if resolver is None:
        raise ValueError(f"Field '{selection.name}' doesn't exist on type '{kind.title()}', or not in the sandbox")
    try:
        value = resolver(Asked(shop, selection.args, selection.directives, record, now_ms))
    except KeyError as error:
        raise ValueError(f"Field '{selection.name}' is missing required arguments: {error.args[0]}") from error
    except UserError as error:
        return dict.fromkeys((f.name for f in selection.fields), None) | {"userErrors": [error.shown]}
    return value | {"userErrors": []} if kind == "mutation" else value
