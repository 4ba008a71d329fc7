"""Mailchimp Marketing: audiences and their members, campaigns and their reports, carts and orders."""

from __future__ import annotations

# Importing these declares triggers, polls, actions and choices on the connector.
from hub_mailchimp.marketing import (
    activity,
    campaigns,
    carts,
    choices,
    events,
    leaving,
    members,
    polls,
    reports,
    triggers,
)
from hub_mailchimp.marketing.connector import mailchimp

__all__ = [
    "activity",
    "campaigns",
    "carts",
    "choices",
    "events",
    "leaving",
    "mailchimp",
    "members",
    "polls",
    "reports",
    "triggers",
]
