"""Twilio for the hub: messages by SMS, MMS and WhatsApp, what people answer, and what became of each message."""

# Importing these declares the triggers, actions and choices on the connector.
from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_twilio import actions, choices, triggers
from hub_twilio.connector import twilio

__all__ = ["actions", "choices", "hub_register_connectors", "triggers", "twilio"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Add the connector `twilio`."""
    register(twilio)
