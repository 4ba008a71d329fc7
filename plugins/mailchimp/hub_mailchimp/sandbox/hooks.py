"""The webhooks of a sandbox account: made after the address was tried, told as forms, signed where the account signs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp

from hub.clock import to_datetime
from hub_mailchimp.sandbox.state import List, Row

REPEATS = 2
"""How often a call is repeated that was not answered with 2xx. Mailchimp does so for about 75 minutes."""


def flat(value: Any, name: str) -> list[tuple[str, str]]:
    """A value as bracketed pairs of a form."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{name}[{key}]")]
    return [(name, "" if value is None else str(value))]


def body_of(kind: str, data: Row, fired_at_ms: int) -> bytes:
    """A call's body."""
    fired_at = to_datetime(fired_at_ms).strftime("%Y-%m-%d %H:%M:%S")
    return urlencode([("type", kind), ("fired_at", fired_at), *flat(data, "data")]).encode()


def headers_of(body: bytes, secret: str | None, at_ms: int) -> dict[str, str]:
    """A call's headers; signed where there is a secret."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "MailChimp.com"}
    if secret:
        seconds = str(at_ms // 1000)
        code = hmac.HMAC(secret.encode(), digestmod=hashlib.sha256)
        for part in (seconds, ".", body):
            code.update(part.encode() if isinstance(part, str) else part)
        headers["X-Mailchimp-Signature"] = f"t={seconds},v1={code.hexdigest()}"
    return headers


async def is_answered(url: str) -> bool:
    """Whether an address answers a GET with 200, as it must before it becomes a webhook."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False


def made(list_: List, asked: Row, *, signs: bool) -> Row:
    """A new webhook, as it is shown once: its secret is never shown again."""
    hook: Row = {"id": secrets.token_hex(5), "list_id": list_.id, **{k: asked[k] for k in ("url", "events", "sources")}}
    secret = secrets.token_hex(16) if signs else None
    list_.webhooks[hook["id"]] = {**hook, "secret": secret}
    return {**hook, "signing_enabled": signs, **({"signing_secret": secret} if secret else {})}


def shown(hook: Row) -> Row:
    """A webhook, as it is shown later."""
    return {name: value for name, value in hook.items() if name != "secret"}
