"""How a call of Mailchimp Marketing is recognised, and how an audience's webhooks are kept.

Newer webhooks are signed, older ones are not (asyncapi of the official guide, read 2026-08-13; swagger 3.0.55 does not
know the fields). Which it is, the answer that makes a webhook tells, once: a signing secret, or none. Both are written
down as `id:secret`, the latter as `id:unsigned`; of such a webhook the secret path of the address is the credential.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from hub import (
    ActionContext,
    InboundRequest,
    Json,
    NotFound,
    PayloadError,
    Rejected,
    Reply,
    SignatureError,
    StaleError,
    Subscription,
    Subscriptions,
    Webhook,
    same,
)
from hub_mailchimp.marketing.client import Answer, audiences, read

SIGNATURE_HEADER = "X-Mailchimp-Signature"
SECRETS = "signing_secrets"
UNSIGNED = "unsigned"
TOLERANCE_S = 300
_EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_MOST_LEVELS = 8

_log = logging.getLogger(__name__)


class MailchimpWebhook(Webhook):
    """Mailchimp's signature where the webhook has one, else the secret path for those that are known to have none."""

    secrets = (SECRETS,)
    # The address is tried before the webhook, and so its secret, exists.
    greets_first = True

    def handshake(self, request: InboundRequest, secrets: Mapping[str, str]) -> Reply | None:
        return Reply() if request.method in ("GET", "HEAD") else None

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        known = [_entry(text) for text in secrets[SECRETS].split()]
        given = request.headers.get(SIGNATURE_HEADER.lower())
        if given is not None:
            _verify_signed(request, given, [secret for _, secret in known if secret != UNSIGNED])
        elif not _is_unsigned(request, [hook for hook, secret in known if secret == UNSIGNED]):
            raise SignatureError(f"the header {SIGNATURE_HEADER} is missing, and the webhook of this audience signs")

    def topic(self, request: InboundRequest) -> str:
        return dict(request.form).get("type", "")


def _entry(text: str) -> tuple[str, str]:
    """`audience/hook:secret` in two; one that was given by hand may have no id."""
    hook, colon, secret = text.partition(":")
    return (hook, secret) if colon else ("", text)


def _verify_signed(request: InboundRequest, given: str, secrets: Sequence[str]) -> None:
    """Raise SignatureError unless one of the header's signatures is that of one of the secrets; StaleError when it is old."""
    parts = [part.strip().partition("=")[::2] for part in given.split(",")]
    at = next((value for name, value in parts if name == "t"), "")
    signatures = [value for name, value in parts if name == "v1"]
    signed = at.encode() + b"." + request.body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    matches = [same(one, other) for one in signatures for other in expected]
    if not any(matches):
        raise SignatureError(
            f"{SIGNATURE_HEADER} matches no signing secret of the connection; a lost one is replaced by making the webhook anew"
        )
    if not at.isdecimal() or abs(request.received_at_ms / 1000 - int(at)) > TOLERANCE_S:
        raise StaleError(f"the call was not signed within the last {TOLERANCE_S} s; check the clocks")


def _is_unsigned(request: InboundRequest, hooks: Sequence[str]) -> bool:
    """Whether the call is of an audience whose webhook is known to be unsigned, or all are (no id beside the word)."""
    try:
        audience = dict(request.form).get("data[list_id]", "")
    except PayloadError:
        return False
    return any(hook == "" or (audience and hook.partition("/")[0] == audience) for hook in hooks)


def nested(pairs: Sequence[tuple[str, str]]) -> Mapping[str, Json]:
    """A form's bracketed names as objects: `data[merges][FNAME]` is `{"data": {"merges": {"FNAME": …}}}`.

    Raises PayloadError where one name is both a value and an object.
    """
    found: dict[str, Json] = {}
    for name, value in pairs:
        root = name.partition("[")[0]
        path = [root, *_BRACKETED.findall(name[len(root) :])]
        if len(path) > _MOST_LEVELS:
            raise PayloadError(f"a name of the form is nested deeper than {_MOST_LEVELS} levels")
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise PayloadError("a name of the form is both a value and an object")
        if isinstance(place.get(path[-1]), dict):
            raise PayloadError("a name of the form is both a value and an object")
        place[path[-1]] = value
    return found


# -- the webhooks of audiences -----------------------------------------------------------------------------------------


class _Hook(Answer):
    id: str
    url: str
    list_id: str
    events: Mapping[str, bool] = {}
    sources: Mapping[str, bool] = {}
    signing_secret: str | None = Field(None, repr=False)


class _Hooks(Answer):
    webhooks: Sequence[_Hook]


class AudienceWebhooks(Subscriptions):
    """One webhook for each audience, for all events; a subscription's topic is the audience's id.

    A webhook that is set otherwise has a topic that nobody wants, so that it is made anew: its secret cannot be read again.
    """

    secret_field: ClassVar[str] = SECRETS

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        found = [hook for audience in await audiences(ctx) for hook in await _hooks(ctx, audience)]
        return [_subscription(hook, ctx) for hook in found]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        """Make the webhook; one for this address that is there already is replaced, as its secret is told only now."""
        wanted: Json = {"url": address, "events": dict.fromkeys(_EVENTS, True), "sources": _sources(ctx)}
        path = f"/lists/{topic}/webhooks"
        try:
            made = read(_Hook, await ctx.http.request("POST", path, json=wanted))
        except Rejected:
            # Two for one address are refused, in words that may change: look instead of reading them.
            doubled = [hook for hook in await _hooks(ctx, topic) if hook.url == address]
            if not doubled:
                raise
            for hook in doubled:
                await self.delete(ctx, _subscription(hook, ctx))
            made = read(_Hook, await ctx.http.request("POST", path, json=wanted))
        if not made.signing_secret:
            _log.warning(
                "Mailchimp does not sign this webhook; the secret path of its address is all that tells its calls",
                extra={"what": "webhook_unsigned", "connection_id": ctx.connection_id, "audience": topic},
            )
        return _subscription(made, ctx, secret=made.signing_secret or UNSIGNED)

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        audience, _, hook = subscription.id.partition("/")
        try:
            await ctx.http.request("DELETE", f"/lists/{audience}/webhooks/{hook}")
        except NotFound:
            return

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        return await audiences(ctx) if topics else []


async def _hooks(ctx: ActionContext, audience: str) -> Sequence[_Hook]:
    # This collection has no pages. (swagger 3.0.55)
    return read(_Hooks, await ctx.http.request("GET", f"/lists/{audience}/webhooks")).webhooks


def _sources(ctx: ActionContext) -> dict[str, bool]:
    return {"user": True, "admin": True, "api": ctx.settings.get("api_changes") == "yes"}


def _subscription(hook: _Hook, ctx: ActionContext, secret: str | None = None) -> Subscription:
    as_wanted = all(hook.events.get(event) for event in _EVENTS) and dict(hook.sources) == _sources(ctx)
    topic = hook.list_id if as_wanted else f"{hook.list_id} set otherwise"
    return Subscription(id=f"{hook.list_id}/{hook.id}", topic=topic, address=hook.url, secret=secret)
