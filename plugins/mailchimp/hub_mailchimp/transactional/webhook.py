"""How a call of Mailchimp Transactional is recognised, and how its webhook is kept.

It signs the address, exactly as it was registered, and the form's fields; the key belongs to the webhook, is made with it
and can be read later (django-anymail 15.2; swagger 1.4.1, `/webhooks`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from hub import (
    ActionContext,
    InboundRequest,
    NotFound,
    PayloadError,
    Reply,
    SignatureError,
    Subscription,
    Subscriptions,
    Webhook,
    same,
)
from hub_mailchimp.transactional.client import Answer, call, read, read_all

SIGNATURE_HEADER = "X-Mandrill-Signature"
KEYS = "webhook_keys"
EVENTS_FIELD = "mandrill_events"
TOPIC = "messages"
# All that can be said of messages: whoever bounces or complains must be known of, whatever recipes use.
_EVENTS = ("send", "hard_bounce", "soft_bounce", "open", "click", "spam", "unsub", "reject")
_DESCRIPTION = "Tetik Hub"


class MandrillWebhook(Webhook):
    """The signature over address and form; several keys stand for several webhooks."""

    secrets = (KEYS,)
    # The address is tried before the webhook, and so its key, exists.
    greets_first = True

    def handshake(self, request: InboundRequest, secrets: Mapping[str, str]) -> Reply | None:
        """Trying the address, by HEAD or with no events at all, which is signed with a key that nobody knows."""
        if request.method in ("GET", "HEAD"):
            return Reply()
        try:
            empty = request.form == [(EVENTS_FIELD, "[]")]
        except PayloadError:
            return None
        return Reply() if empty else None

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        given = request.headers.get(SIGNATURE_HEADER.lower())
        if not given:
            raise SignatureError(f"the header {SIGNATURE_HEADER} is missing")
        try:
            form = request.form
        except PayloadError as error:
            raise SignatureError("the body is no form, so nothing says that it is the vendor's") from error
        keys = [entry.rpartition(":")[2] for entry in secrets[KEYS].split()]
        matches = [same(given, _signature(key, request.url, form)) for key in keys]
        if not any(matches):
            raise SignatureError(
                f"{SIGNATURE_HEADER} does not match: compare the connection's {KEYS} with the webhook's key, and the hub's "
                "public URL with the address that was registered, letter by letter"
            )

    def topic(self, request: InboundRequest) -> str:
        return TOPIC if any(name == EVENTS_FIELD for name, _ in request.form) else ""


def _signature(key: str, url: str, form: Iterable[tuple[str, str]]) -> str:
    signed = url + "".join(name + value for name, value in sorted(form))
    return base64.b64encode(hmac.new(key.encode(), signed.encode(), hashlib.sha1).digest()).decode()


# -- the webhook -------------------------------------------------------------------------------------------------------


class _Hook(Answer):
    id: int
    url: str
    auth_key: str | None = Field(None, repr=False)
    events: Sequence[str] = ()


class MessageWebhook(Subscriptions):
    """One webhook for everything that becomes of messages; a subscription's topic lists its events."""

    secret_field: ClassVar[str] = KEYS

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        return [_subscription(hook) for hook in read_all(_Hook, await call(ctx, "/webhooks/list"))]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        wanted = {"url": address, "description": _DESCRIPTION, "events": topic.split(",")}
        for known in await self.list(ctx):
            if (known.topic, known.address) == (topic, address):
                return known
        return _subscription(read(_Hook, await call(ctx, "/webhooks/add", wanted)))

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        try:
            await call(ctx, "/webhooks/delete", {"id": int(subscription.id)})
        except NotFound:
            return

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        return [",".join(sorted(_EVENTS))] if topics else []


def _subscription(hook: _Hook) -> Subscription:
    return Subscription(
        id=str(hook.id), topic=",".join(sorted(hook.events)), address=hook.url, secret=hook.auth_key or None
    )
