"""What can be done with Twilio: send, schedule and cancel messages, look numbers up."""

from hub_twilio.actions import cancelling, lookups, mms, scheduling, sms, whatsapp

__all__ = ["cancelling", "lookups", "mms", "scheduling", "sms", "whatsapp"]
