"""What can be done in an account: one module for each kind of thing. Importing this declares all actions."""

from hub_hubspot.actions import activities, consent, contacts, deals, emails, events, lists, owners, tickets

__all__ = ["activities", "consent", "contacts", "deals", "emails", "events", "lists", "owners", "tickets"]
