"""What happens in a shop, by subject. Each module declares its triggers on the connector."""

from __future__ import annotations

from hub_shopify.triggers import app, carts, checkouts, customers, orders, privacy, stock

__all__ = ["app", "carts", "checkouts", "customers", "orders", "privacy", "stock"]
