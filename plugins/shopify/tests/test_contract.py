"""The contract of every connector."""

from __future__ import annotations

from hub.testing.contract import Contract
from hub_shopify import shopify
from hub_shopify.sandbox import ShopifySandbox

SHOP = "some-shop.myshopify.com"


class TestShopify(Contract):
    connector = shopify
    settings = {"shop": SHOP}
    inputs = {
        "create_discount": {"title": "Back again", "prefix": "BACK", "percentage": 10},
        "tag_customer": {"customer_id": "7", "tags": ["vip"]},
    }

    def prepare(self, sandbox: ShopifySandbox) -> None:
        sandbox.shop(SHOP).customer({"id": 7, "email": "jane@example.com"}, "2026-11-22T10:00:00Z")
