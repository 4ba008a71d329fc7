"""Mailchimp Transactional, formerly Mandrill: single e-mails, and what became of each."""

from __future__ import annotations

# Importing these declares triggers, actions and choices on the connector.
from hub_mailchimp.transactional import actions, choices, triggers
from hub_mailchimp.transactional.connector import mandrill

__all__ = ["actions", "choices", "mandrill", "triggers"]
