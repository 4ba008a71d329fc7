"""What inputs of several actions have in common: how a contact is named, how values become HubSpot's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hub import Rejected

# How long a `sendId` and a `uuid` are remembered. HubSpot names no end; a day is what keys elsewhere last at least.
# (Single-send API v4, "sendId"; Custom events API, "uuid"; read 2026-11-22)
KEY_WINDOW_S = 24 * 3600

Value = str | bool | int | float | None


class Input(BaseModel):
    """What a step gives an action; a field that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Contact = Annotated[
    str,
    Field(
        pattern=r"^([0-9]+|[^@\s]+@[^@\s]+)$",
        description="The contact's id or e-mail address: {{ trigger.contact_id }}, {{ contact.email }}",
    ),
]
RecordId = Annotated[str, Field(pattern=r"^[0-9]+$")]
Properties = Annotated[
    dict[str, Value],
    Field(description="By their internal names. An empty text clears a property; null leaves it as it is"),
]


def texts(properties: Mapping[str, Value], **named: str | None) -> dict[str, str]:
    """Values as HubSpot takes them, which is as text; named ones win. None leaves a property as it is."""
    every: dict[str, Value] = {**properties, **{name: value for name, value in named.items() if value is not None}}
    return {name: _text(value) for name, value in every.items() if value is not None}


def number(field: str, text: str) -> int:
    """An id that HubSpot takes as a number. Raises Rejected for anything else, such as a label that nobody resolved."""
    if not (text.isascii() and text.isdecimal()):
        raise Rejected(f"`{field}` is no id of HubSpot: write the number, or a label that `hub recipes plan` resolves")
    return int(text)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
