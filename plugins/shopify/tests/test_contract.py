"""The contract of every connector: each action's effect class, proved against the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from hub.testing.contract import prove_effect_class
from hub_shopify import shopify

SHOP = "some-shop.myshopify.com"
INPUTS = {
    "create_discount": {"title": "Back again", "prefix": "BACK", "percentage": 10},
    "tag_customer": {"customer_id": "7", "tags": ["vip"]},
}


@pytest.mark.parametrize("action", shopify.actions)
async def test_an_action_s_effect_class_holds(action: str) -> None:
    def prepare(sandbox: Any) -> None:
        sandbox.shop(SHOP).customer({"id": 7, "email": "jane@example.com"}, "2026-11-22T10:00:00Z")

    await prove_effect_class(shopify, action, INPUTS[action], settings={"shop": SHOP}, prepare=prepare)
