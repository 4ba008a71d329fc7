"""A made-up vendor for tests that calls where it was told to: subscriptions of every sort, over real HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hub import (
    ActionContext,
    Connector,
    ConsentSignal,
    ConsentState,
    Delivery,
    Field,
    Identity,
    InboundRequest,
    Page,
    Privacy,
    RegisterConnector,
    SignatureError,
    StaticToken,
    Subscription,
    Subscriptions,
    Webhook,
    hookimpl,
    same,
    secrets_in,
)
from hub.testing.sandbox import Sandbox


class News(BaseModel):
    """Something happened."""

    id: str
    email: str | None = None


class Signed(Webhook):
    """Calls that are signed with the secret of their subscription."""

    secrets = ("hook_secrets",)

    def verify(self, request: InboundRequest, secrets: Mapping[str, str]) -> None:
        given = request.headers.get("x-signature", "")
        known = [same(given, sign(request.body, one)) for one in secrets_in(secrets["hook_secrets"]).values()]
        if not any(known):
            raise SignatureError

    def topic(self, request: InboundRequest) -> str:
        return request.headers.get("x-topic", "")

    def account(self, request: InboundRequest) -> str | None:
        return request.headers.get("x-account")


def sign(body: bytes, secret: str) -> str:
    """What stands in the header of a call."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _subscription(found: Mapping[str, Any]) -> Subscription:
    return Subscription(**{name: found.get(name) for name in ("id", "topic", "address", "expires_at_ms", "secret")})


class Hooks(Subscriptions):
    """Whose calls are signed with a secret of each subscription."""

    secret_field = "hook_secrets"

    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        return [_subscription(one) for one in (await ctx.http.request("GET", "/hooks")).json()]

    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        answer = await ctx.http.request("POST", "/hooks", json={"topic": topic, "address": address})
        return _subscription(answer.json())

    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        await ctx.http.request("DELETE", f"/hooks/{subscription.id}")


class Plain(Hooks):
    """Without secrets of their own."""

    secret_field = ""


class Shared(Plain):
    """Of the app."""

    shared = True


class Lists(Plain):
    """One subscription for each list, whatever happens on it."""

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        return ["list-1", "list-2"] if topics else []


def make(subscriptions: Subscriptions) -> Connector:
    """The connector with subscriptions of one sort."""
    herald = Connector(
        name="herald",
        title="Herald",
        hosts=["api.herald.example"],
        base_url=lambda fields: "https://api.herald.example",
        account=lambda fields: fields["account"],
        auth=[
            StaticToken(
                headers=lambda fields: {"Authorization": f"Bearer {fields['token']}"},
                fields=(Field(name="token", title="Token", secret=True),),
            )
        ],
        fields=[
            Field(name="account", title="Account"),
            Field(name="hook_secrets", title="Secrets of subscriptions", secret=True, required=False),
        ],
        webhook=Signed(),
        subscriptions=subscriptions,
        sandbox="tests.herald:HeraldSandbox",
    )

    def declare(name: str, **more: Any) -> None:
        @herald.trigger(name, topic=f"{name}/all", payload=News, fact=lambda news: news.id, subject=_whose, **more)
        def parse(delivery: Delivery) -> Iterable[News]:
            """Something happened."""
            return [News.model_validate(delivery.json())]

    for name in ("sold", "returned", "viewed", "bought"):
        declare(name)
    declare("left", consent=_said)
    declare("gone", privacy=Privacy.ERASE_PERSON)
    herald.quiet_trigger(
        "idle",
        payload=News,
        fact=lambda news: news.id,
        source=["viewed"],
        cancel=["bought"],
        key=lambda d: "k",
        after_s=60,
    )

    @herald.poll("sold", every_s=3 * 3600, overlap_s=600)
    async def recent(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[News]]:
        answer = await ctx.http.request("GET", "/news", params={"since": str(since_ms)})
        yield Page([News.model_validate(one) for one in answer.json()], "")

    return herald


def _whose(news: News) -> Identity:
    return Identity(email=news.email)


def _said(news: News) -> Iterable[ConsentSignal]:
    if news.email:
        yield ConsentSignal("email", news.email, ConsentState.REVOKED, "left")


@dataclass
class Hook:
    """A subscription as Herald keeps it."""

    id: str
    topic: str
    address: str
    secret: str
    expires_at_ms: int | None = None


class HeraldSandbox(Sandbox):
    """Herald's stand-in. `life_ms` is how long new subscriptions live; `refuse_topics` are not subscribed to."""

    connector = "herald"

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.hooks: dict[str, Hook] = {}
        self.life_ms: int | None = None
        self.refuse_topics: set[str] = set()
        self.once = False
        self.asked: list[int] = []
        self.made = 0

    def throttled(self) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "30"})

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/hooks", self.get_hooks),
            web.post("/hooks", self.post_hook),
            web.delete("/hooks/{id}", self.delete_hook),
            web.get("/news", self.get_news),
        ]

    def plant(self, topic: str, address: str, **more: Any) -> Hook:
        """A subscription that somebody made."""
        self.made += 1
        hook = Hook(f"h-{self.made}", topic, address, f"secret-{self.made}", **more)
        self.hooks[hook.id] = hook
        return hook

    def at(self, address: str) -> list[str]:
        """The topics that lead to an address, those twice twice."""
        return sorted(hook.topic for hook in self.hooks.values() if hook.address == address)

    async def call(self, hook: Hook, **news: Any) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a call."""
        body = News(**news).model_dump_json().encode()
        return body, {"x-signature": sign(body, hook.secret), "x-topic": hook.topic, "x-account": "main"}

    def _refuse(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization")
        known = {f"Bearer {self.secret(account, 'token')}" for account in ("main", "other")}
        return None if given in known | {"Bearer good"} else web.Response(status=401)

    async def get_hooks(self, request: web.Request) -> web.Response:
        shown = [{**asdict(hook), "secret": None} for hook in self.hooks.values()]
        return self._refuse(request) or web.json_response(shown)

    async def post_hook(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        asked = await request.json()
        if asked["topic"] in self.refuse_topics:
            return web.Response(status=422)
        for hook in self.hooks.values():
            if self.once and (hook.topic, hook.address) == (asked["topic"], asked["address"]):
                return web.json_response({**asdict(hook), "secret": None})
        ends = None if self.life_ms is None else self.clock.now_ms() + self.life_ms
        hook = self.plant(asked["topic"], asked["address"], expires_at_ms=ends)
        self.record("create", "main", topic=hook.topic)
        return web.json_response(asdict(hook), status=201)

    async def delete_hook(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        if gone := self.hooks.pop(request.match_info["id"], None):
            self.record("delete", "main", topic=gone.topic)
        return web.Response(status=204)

    async def get_news(self, request: web.Request) -> web.Response:
        if refused := self._refuse(request):
            return refused
        self.asked.append(int(request.query["since"]))
        return web.json_response([])


class Plugin:
    """What brings the connector."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.__name__, self.connector = "herald under test", make(subscriptions)

    @hookimpl
    def hub_register_connectors(self, register: RegisterConnector) -> None:
        register(self.connector)
