"""What Twilio tells: what people send and click, what became of our messages, which calls ended; polls and the past."""

from hub_twilio.triggers import calls, links, listed, messages, statuses

__all__ = ["calls", "links", "listed", "messages", "statuses"]
