"""What Twilio tells: what people send and click, what became of our messages, which calls ended; polls and the past."""

from hub_twilio.triggers import messages, polls, short_links, statuses, voice

__all__ = ["messages", "polls", "short_links", "statuses", "voice"]
