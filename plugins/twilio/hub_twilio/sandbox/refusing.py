"""How Twilio refuses: its error bodies, and who may ask at all."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode

from aiohttp import web

_REFUSALS = {400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 404: web.HTTPNotFound}


def error_body(status: int, code: int, message: str) -> dict[str, object]:
    """An error as Twilio writes it."""
    link = f"https://www.twilio.com/docs/errors/{code}"
    return {"code": code, "message": message, "more_info": link, "status": status}


def refusal(status: int, code: int, message: str) -> web.HTTPException:
    """An answer that refuses, to be raised."""
    body = json.dumps(error_body(status, code, message))
    return _REFUSALS[status](text=body, content_type="application/json")


def missing(path: str) -> web.HTTPException:
    """What is not there."""
    return refusal(404, 20404, f"The requested resource {path} was not found")


def basic(header: str) -> tuple[str, str]:
    """User and password of a Basic header; empty when there are none."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, _, password = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (user, password) if scheme == "Basic" else ("", "")
