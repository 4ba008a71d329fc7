"""How parameters of Twilio's calls are read, whatever they tell."""

from __future__ import annotations

from collections.abc import Mapping

from hub import PayloadError


def address(text: str) -> tuple[str, str]:
    """`whatsapp:+14155550100` as ("whatsapp", "+14155550100"); without a channel it is SMS."""
    channel, _, bare = text.rpartition(":")
    return channel or "sms", bare


def required(params: Mapping[str, str], name: str) -> str:
    """A parameter that must be there. Raises PayloadError, which names it."""
    if not (value := params.get(name)):
        raise PayloadError(f"the parameter {name} is missing")
    return value
