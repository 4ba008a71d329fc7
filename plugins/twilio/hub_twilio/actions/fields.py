"""What the inputs and outputs of several actions share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hub import Chosen, e164

MOST_CHARACTERS = 1600
MOST_MEDIA = 10

_URL = re.compile(r"https?://[^\s/?#]+\S*")


def _phone(text: str) -> str:
    # `whatsapp:+1…` is another channel, with a consent of its own.
    if ":" in text or (number := e164(text)) is None:
        raise ValueError("write a phone number with its country code, such as +14155550100")
    return number


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError("write a whole address, such as https://example.com/picture.jpg")
    return text


Phone = Annotated[str, AfterValidator(_phone)]
"""A phone number, normalised to E.164."""

ValidityS = Annotated[
    int, Field(ge=1, le=36_000, description="Seconds that it may wait in Twilio's queue before it is dropped")
]

MediaUrls = Annotated[list[Annotated[str, AfterValidator(_url)]], Field(max_length=MOST_MEDIA)]
"""Addresses of pictures and other files, which Twilio fetches."""

ServiceSid = Annotated[str, Chosen("messaging_services")]
"""A Messaging Service, by its SID; recipes may write its name."""


class Input(BaseModel):
    """An input that knows its fields."""

    model_config = ConfigDict(extra="forbid")


class SentMessage(BaseModel):
    """The message as Twilio took it. `segments` is 0 and `from_number` None while Twilio does not know them."""

    message_id: str
    status: str
    to: str
    from_number: str | None = None
    messaging_service_sid: str | None = None
    segments: int = 0
