"""Shopify for the hub: what happens in a shop, and what can be done there."""

from __future__ import annotations

from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_shopify import actions, choices, polls, triggers  # noqa: F401  (they declare themselves on the connector)
from hub_shopify.connector import shopify

__all__ = ["hub_register_connectors", "shopify"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Offer the connector; its triggers and actions come with it."""
    register(shopify)
