"""Twilio for the hub: `send_sms`, and triggers for what people answer and what became of each message."""

# Importing these two declares the triggers and actions on the connector.
from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_twilio import actions, triggers
from hub_twilio.connector import twilio

__all__ = ["actions", "hub_register_connectors", "triggers", "twilio"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Add the connector `twilio`."""
    register(twilio)
