"""What can be done in an account: one module for each kind of thing. Importing this declares all actions."""

from hub_hubspot.actions import contacts

__all__ = ["contacts"]
