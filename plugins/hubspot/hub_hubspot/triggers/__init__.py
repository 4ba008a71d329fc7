"""What happens in an account: one module for each kind of thing. Importing this declares all triggers and polls."""

from hub_hubspot.triggers import contacts, emails, forms, lists, records

__all__ = ["contacts", "emails", "forms", "lists", "records"]
