"""Facebook Ads for the hub: leads in; people into audiences, conversion events, campaigns and budgets out."""

from __future__ import annotations

from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_facebook_ads import actions, choices, forgetting, triggers  # noqa: F401  (they declare themselves on the connector)
from hub_facebook_ads.connector import facebook_ads

__all__ = ["facebook_ads", "hub_register_connectors"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Offer the connector; its triggers and actions come with it."""
    register(facebook_ads)
