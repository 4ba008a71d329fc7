"""Mailchimp for the hub, as the two products that it is: Marketing (`mailchimp`) and Transactional (`mandrill`)."""

from __future__ import annotations

from hub import hookimpl
from hub.hookspecs import RegisterConnector
from hub_mailchimp.marketing import mailchimp
from hub_mailchimp.transactional import mandrill

__all__ = ["hub_register_connectors", "mailchimp", "mandrill"]


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    """Offer both connectors; their triggers and actions come with them."""
    register(mailchimp)
    register(mandrill)
