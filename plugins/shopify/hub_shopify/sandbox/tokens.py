"""Who may call: pasted tokens, those for client credentials, and those of people who authorised an app in the browser."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from hub import same
from hub.clock import Clock
from hub.connector import sandbox_secret
from hub.testing.oauth import OAuthServer

_TOKEN_S = 24 * 3600
_EXPIRING_S = 3600


class Tokens:
    """Shopify's tokens. `oauth` is its page in the browser, where `&as=my-shop.myshopify.com` names the shop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._issued: dict[str, tuple[str, int]] = {}
        self._app_secrets: dict[str, str] = {}
        self.oauth = OAuthServer(
            clock,
            expires_in_s=_EXPIRING_S,
            scope_separator=",",
            authorise_path="/admin/oauth/authorize",
            token_path="/admin/oauth/access_token",  # noqa: S106  (an address)
        )

    def routes(self) -> Iterable[web.RouteDef]:
        authorise, self._token, _ = self.oauth.routes()
        return [authorise, web.post("/admin/oauth/access_token", self._issue)]

    def signing_secret(self, shop: str) -> str:
        """What a shop's webhooks are signed with: the secret of the app that was authorised, else a derived one."""
        return self._app_secrets.get(shop) or sandbox_secret("shopify", shop, "client_secret")

    def shop_of(self, request: web.Request, shops: Iterable[str]) -> str | None:
        """Whose token a call bears; None when it is nobody's, or of another shop than the call is for."""
        token = request.headers.get("X-Shopify-Access-Token", "")
        named = request.headers.get("X-Sandbox-Host")
        issued_to, expires_at_ms = self._issued.get(token, (None, 0))
        if issued_to is not None:
            good = named in {None, issued_to} and self._clock.now_ms() < expires_at_ms
            return issued_to if good else None
        if authorised := self.oauth.account_of(token):
            return authorised if named in {None, authorised} else None
        return _whose(token, "access_token", [named] if named else shops)

    def forget(self, shop: str) -> None:
        """The shop removed the app: none of its tokens is good any more."""
        self.oauth.forget(shop)
        for token in [token for token, (of, _) in self._issued.items() if of == shop]:
            del self._issued[token]

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        as_json = request.content_type == "application/json"
        asked: Mapping[str, Any] = await request.json() if as_json else await request.post()
        named = request.headers.get("X-Sandbox-Host", "")
        if asked.get("grant_type") in {"authorization_code", "refresh_token"}:
            if asked["grant_type"] == "authorization_code" and str(asked.get("expiring")) != "1":
                return _refused("the sandbox gives expiring tokens only, as public apps must ask for")
            answer = await self._token.handler(request)
            if answer.status == 200:
                self._app_secrets[named] = str(asked.get("client_secret"))
            return answer
        shop = _whose(str(asked.get("client_secret")), "client_secret", [named])
        if asked.get("grant_type") != "client_credentials" or not asked.get("client_id") or shop is None:
            return _refused("unknown client, or another grant than ours")
        token = f"shpat_{uuid.uuid4().hex}"
        self._issued[token] = (shop, self._clock.now_ms() + _TOKEN_S * 1000)
        return web.json_response({"access_token": token, "scope": "write_customers", "expires_in": _TOKEN_S})


def _whose(secret: str, field_name: str, shops: Iterable[str]) -> str | None:
    return next((shop for shop in shops if same(secret, sandbox_secret("shopify", shop, field_name))), None)


def _refused(why: str) -> web.Response:
    return web.json_response({"error": "invalid_request", "error_description": why}, status=400)
