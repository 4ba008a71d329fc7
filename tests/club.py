"""Club: a made-up vendor whose accounts are authorised in the browser, with a sandbox that has an OAuth 2 server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hub import Account, ActionContext, Connector, Delivery, OAuth2, hookimpl
from hub.connector import Effect
from hub.hookspecs import RegisterConnector
from hub.testing.oauth import OAuthServer
from hub.testing.sandbox import Sandbox

ISSUER = "https://id.club.example"

browser = OAuth2(
    headers=lambda fields: {"Authorization": f"Bearer {fields['access_token']}"},
    authorise_url=lambda fields: "https://id.club.example/oauth/authorize",
    token_url=lambda fields: "https://id.club.example/oauth/token",
    revoke_url=lambda fields: "https://id.club.example/oauth/revoke",
    scopes=("members.read", "members.greet"),
    issuer=ISSUER,
)
club = Connector(
    name="club",
    title="Club",
    hosts=["id.club.example"],
    base_url=lambda fields: "https://id.club.example",
    account=lambda fields: "generated",
    auth=[browser],
    sandbox="tests.club:ClubSandbox",
)


class Joined(BaseModel):
    """Somebody who joined."""

    id: str


@club.trigger("joined", topic="joined", payload=Joined, fact=lambda joined: joined.id, scopes=["members.read"])
def joined(delivery: Delivery) -> list[Joined]:
    """Somebody joined."""
    return [Joined.model_validate(delivery.json())]


class Greeting(BaseModel):
    """Whom to greet."""

    who: str


class Greeted(BaseModel):
    """Nothing more to know."""


@club.action("greet", input=Greeting, output=Greeted, effect=Effect.IDEMPOTENT, scopes=["members.greet"])
async def greet(ctx: ActionContext, input: Greeting) -> Greeted:
    """Greet a member."""
    await ctx.http.request("POST", "/greetings", json=input.model_dump())
    return Greeted()


async def whoami(ctx: ActionContext) -> Account:
    answer = await ctx.http.request("GET", "/me")
    return Account(id=answer.json()["id"], title="A club")


club.whoami = whoami


class ClubSandbox(Sandbox):
    """Club's stand-in."""

    connector = "club"

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.oauth = OAuthServer(clock, issuer=ISSUER)

    def throttled(self) -> web.Response:
        return web.Response(status=429)

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            *self.oauth.routes(),
            web.get("/me", self.get_me),
            web.post("/greetings", self.post_greeting),
            web.post("/_sandbox/oauth", self.set_oauth),
        ]

    async def set_oauth(self, request: web.Request) -> web.Response:
        """What the OAuth 2 server shall do, for tests to which it is another process."""
        for name, wanted in (await request.json()).items():
            setattr(self.oauth, name, wanted)
        return web.json_response({"asked": self.oauth.asked})

    def _account(self, request: web.Request) -> str:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        account = "generated" if token == self.secret("generated", "access_token") else self.oauth.account_of(token)
        if account is None:
            raise web.HTTPUnauthorized
        return account

    async def get_me(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._account(request)})

    async def post_greeting(self, request: web.Request) -> web.Response:
        self.record("greet", self._account(request), **await request.json())
        return web.json_response({})


class Closed(ClubSandbox):
    """One that has no page for people."""

    def routes(self) -> Iterable[web.RouteDef]:
        return [route for route in super().routes() if route.path != self.oauth.authorise_path]


class Endless(ClubSandbox):
    """One whose tokens never end, so that it gives nothing to renew them by."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.oauth.expires_in_s = None


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(club)
