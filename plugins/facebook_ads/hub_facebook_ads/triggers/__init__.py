"""What happens at Meta: leads, and audiences and ad accounts that got into trouble."""

from hub_facebook_ads.triggers import leads, problems

__all__ = ["leads", "problems"]
