"""HubSpot for the hub: what happens to contacts, deals, tickets, forms, lists and e-mails, and what can be done there."""

# Importing these declares the triggers, actions and choices on the connector.
from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_hubspot import actions, choices, triggers
from hub_hubspot.connector import hubspot

__all__ = ["actions", "choices", "hub_register_connectors", "hubspot", "triggers"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Add the connector `hubspot`."""
    register(hubspot)
