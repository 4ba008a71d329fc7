"""Guestbook: a made-up vendor that passes on what people want done with their data, and keeps people on a list."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from hub import (
    ActionContext,
    Connector,
    ConsentSignal,
    ConsentState,
    Delivery,
    Field,
    Hmac,
    Identity,
    RegisterConnector,
    StaticToken,
    hookimpl,
)
from hub.connector import Privacy, sandbox_secret
from hub.testing.sandbox import Sandbox

guestbook = Connector(
    name="guestbook",
    title="Guestbook",
    hosts=["api.guestbook.example"],
    base_url=lambda fields: "https://api.guestbook.example",
    account=lambda fields: fields["account"],
    auth=[
        StaticToken(
            headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
            fields=(Field(name="token", title="API token", secret=True),),
        )
    ],
    fields=[
        Field(name="account", title="Account"),
        Field(name="webhook_secret", title="Webhook secret", secret=True, required=False),
    ],
    webhook=Hmac(
        header="X-Guestbook-Signature",
        encoding="hex",
        delivery_id="X-Guestbook-Delivery",
        account="X-Guestbook-Account",
        topic="X-Guestbook-Topic",
    ),
    sandbox="tests.guestbook:GuestbookSandbox",
)


class Entry(BaseModel):
    """What Guestbook says about somebody."""

    id: str
    guest: str | None = None
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    text: str = ""
    at: AwareDatetime | None = None
    letters: str | None = None
    letters_at: AwareDatetime | None = None


def _whose(entry: Entry) -> Identity:
    return Identity(email=entry.email, phone=entry.phone, vendor=entry.guest, first_name=entry.first_name)


def _said(entry: Entry) -> Iterable[ConsentSignal]:
    if entry.email and entry.letters:
        state = ConsentState(entry.letters)
        yield ConsentSignal("email", entry.email, state, f"letters {entry.letters}", at=entry.letters_at)


def _declare(name: str, privacy: Privacy | None = None, *, ends_access: bool = False) -> Any:
    @guestbook.trigger(
        name,
        topic=name,
        payload=Entry,
        # Names the person, as some vendors' facts do.
        fact=lambda entry: f"{entry.id}:{entry.email or entry.guest}",
        subject=_whose,
        occurred_at=lambda entry: entry.at,
        correlate=("email",),
        consent=_said,
        privacy=privacy,
        ends_access=ends_access,
    )
    def parse(delivery: Delivery) -> Iterable[Entry]:
        """Guestbook has something to tell."""
        return [Entry.model_validate(delivery.json())]

    return parse


signed = _declare("signed")
erase_me = _declare("erase_me", Privacy.ERASE_PERSON)
tell_me = _declare("tell_me", Privacy.EXPORT_PERSON)
closed = _declare("closed", Privacy.ERASE_ACCOUNT)
locked_out = _declare("locked_out", ends_access=True)


@guestbook.forget
async def forget(ctx: ActionContext, identity: Identity) -> None:
    await ctx.http.request(
        "POST",
        "/forget",
        json={"guest": identity.vendor, "email": identity.email, "phone": identity.phone},
        headers={"Idempotency-Key": ctx.idempotency_key},
    )


class GuestbookSandbox(Sandbox):
    """Guestbook's stand-in."""

    connector = "guestbook"

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        # Whether our tokens are.
        self.known = True

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "30"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/forget", self.post_forget)]

    async def post_forget(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization")
        account = next((a for a in ("main", "other") if given == f"Bearer {self.secret(a, 'token')}"), None)
        if account is None or not self.known:
            return web.Response(status=401)
        self.record("forget", account, **await request.json())
        return web.json_response({})


def delivered(topic: str, body: Any, *, account: str = "main", delivery: str) -> tuple[bytes, dict[str, str]]:
    """A webhook's body and headers as Guestbook sends them."""
    payload = json.dumps(body).encode()
    webhook = guestbook.webhook
    assert isinstance(webhook, Hmac), "guestbook signs by HMAC"
    return payload, {
        "x-guestbook-signature": webhook.sign(payload, sandbox_secret("guestbook", account, "webhook_secret")),
        "x-guestbook-topic": topic,
        "x-guestbook-account": account,
        "x-guestbook-delivery": delivery,
    }


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(guestbook)
