"""What can be done at Meta: people into and out of audiences, audiences themselves, conversion events, campaigns."""

from hub_facebook_ads.actions import audiences, campaigns, conversions, members

__all__ = ["audiences", "campaigns", "conversions", "members"]
