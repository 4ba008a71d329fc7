"""What can be done in a shop, by subject. Each module declares its actions on the connector."""

from __future__ import annotations

from hub_shopify.actions import consent, customers, discounts, drafts, lookups, money, orders, recommendations

__all__ = ["consent", "customers", "discounts", "drafts", "lookups", "money", "orders", "recommendations"]
