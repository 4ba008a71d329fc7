"""What is asked of the Admin GraphQL API, by subject: documents, and the models of their answers.

`OPERATIONS` holds all of them; tests and `tools/shopify_facts.py` check each against Shopify's schema.
"""

from __future__ import annotations

from hub_shopify.api import catalogue, checkouts, customers, discounts, drafts, money, orders, products, shop
from hub_shopify.client import Answer, Operation

OPERATIONS: tuple[Operation[Answer], ...] = tuple(
    value
    for module in (shop, orders, customers, checkouts, discounts, drafts, money, catalogue, products)
    for value in vars(module).values()
    if isinstance(value, Operation)
)
