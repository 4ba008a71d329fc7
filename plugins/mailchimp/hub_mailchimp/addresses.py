"""E-mail addresses, as the inputs of both connectors take them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _address(text: str) -> str:
    email = text.strip()
    local, at, domain = email.rpartition("@")
    if not (local and at and "." in domain) or any(c.isspace() for c in email):
        raise ValueError("is no e-mail address")
    return email


Email = Annotated[str, AfterValidator(_address)]
