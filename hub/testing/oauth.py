"""An OAuth 2 server for sandboxes: codes with PKCE, tokens that expire and rotate, revocation. It shares no code with the hub's client.

A sandbox makes one, adds its `routes()` to its own and asks `account_of` whose token a call bears. Whoever opens the
authorisation page says by `&as=ACCOUNT` whom they authorise, or by `&deny=1` that they do not; without either the page asks.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from urllib.parse import urlencode

from aiohttp import web

from hub.clock import Clock

_CODE_MS = 60_000


@dataclass
class _Code:
    account: str
    client_id: str
    redirect_uri: str
    challenge: str
    scopes: list[str]
    expires_at_ms: int


@dataclass
class _Token:
    account: str
    client_id: str
    scopes: list[str]
    expires_at_ms: int | None
    renewal: str | None


@dataclass
class OAuthServer:
    """Set what it shall do: `expires_in_s` None for tokens that never do, `rotates` for a new refresh token each time, with
    `keeps_spent` the old one stays good, `refuses` for scopes that people leave out, `lacks` for scopes that the account does
    not have, which may be asked for as `optional_scope` only, `issuer` for what it calls itself (RFC 9207). `asked` counts
    requests for tokens.
    """

    clock: Clock
    expires_in_s: int | None = 1800
    rotates: bool = True
    keeps_spent: bool = False
    refuses: set[str] = field(default_factory=set)
    lacks: set[str] = field(default_factory=set)
    issuer: str | None = None
    scope_separator: str = " "
    lists_scopes: bool = False
    """Whether its answer tells what was granted as a list `scopes`, as some vendors do, and not as the text `scope`."""
    asked: int = 0
    authorise_path: str = "/oauth/authorize"
    token_path: str = "/oauth/token"  # noqa: S105  (an address)
    revoke_path: str = "/oauth/revoke"

    def __post_init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._codes: dict[str, _Code] = {}
        self._tokens: dict[str, _Token] = {}
        self._renewals: dict[str, _Token] = {}
        self._spent: dict[str, str] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        """Its three addresses."""
        return [
            web.get(self.authorise_path, self._authorise),
            web.post(self.token_path, self._token),
            web.post(self.revoke_path, self._revoke),
        ]

    def account_of(self, token: str) -> str | None:
        """Whose token it is; None when it is unknown, revoked or over."""
        found = self._tokens.get(token)
        if found is None or (found.expires_at_ms is not None and found.expires_at_ms <= self._now_ms()):
            return None
        return found.account

    def scopes_of(self, token: str) -> list[str]:
        """What was granted with a token."""
        return self._tokens[token].scopes

    def expire(self) -> None:
        """All access tokens end now; refresh tokens stay good."""
        for token in self._tokens.values():
            token.expires_at_ms = self._now_ms()

    def forget(self, account: str) -> None:
        """What a person does who takes the access back."""
        for kept in (self._tokens, self._renewals):
            for token in [token for token, of in kept.items() if of.account == account]:
                del kept[token]

    def _now_ms(self) -> int:
        return self.clock.now_ms()

    # -- the page ------------------------------------------------------------------------------------------------------

    async def _authorise(self, request: web.Request) -> web.Response:
        asked = request.query
        back, client_id = asked.get("redirect_uri"), asked.get("client_id")
        if not back or not client_id or len(asked.getall("redirect_uri")) > 1:
            return web.Response(status=400, text="client_id and redirect_uri are needed")
        answer = {"state": asked["state"]} if "state" in asked else {}
        if self.issuer:
            answer["iss"] = self.issuer
        if asked.get("response_type") != "code":
            return _redirect(back, answer | {"error": "unsupported_response_type"})
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            return _redirect(
                back, answer | {"error": "invalid_request", "error_description": "PKCE with S256 is needed"}
            )
        if asked.get("deny"):
            return _redirect(back, answer | {"error": "access_denied"})
        if not asked.get("as"):
            return _consent(request)
        wanted = [scope for scope in asked.get("scope", "").split(self.scope_separator) if scope]
        if self.lacks.intersection(wanted):
            return _redirect(back, answer | {"error": "invalid_scope"})
        wanted += [scope for scope in asked.get("optional_scope", "").split(self.scope_separator) if scope]
        code = secrets.token_urlsafe(16)
        self._codes[code] = _Code(
            account=asked["as"],
            client_id=client_id,
            redirect_uri=back,
            challenge=asked["code_challenge"],
            scopes=[scope for scope in wanted if scope not in self.refuses | self.lacks],
            expires_at_ms=self._now_ms() + _CODE_MS,
        )
        return _redirect(back, answer | {"code": code})

    # -- tokens --------------------------------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        self.asked += 1
        form = await request.json() if request.content_type == "application/json" else await request.post()
        asked = {name: str(value) for name, value in form.items()}
        client_id = self._client(request, asked)
        if client_id is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        if asked.get("grant_type") == "authorization_code":
            return self._for_code(client_id, asked)
        if asked.get("grant_type") == "refresh_token":
            return self._for_renewal(client_id, asked.get("refresh_token", ""))
        return web.json_response({"error": "unsupported_grant_type"}, status=400)

    def _for_code(self, client_id: str, asked: dict[str, str]) -> web.Response:
        code = asked.get("code", "")
        if code in self._spent:
            # Somebody used it twice: whoever has its tokens is not to be trusted with them (RFC 6749 § 4.1.2).
            self.forget(self._spent[code])
            return _invalid_grant()
        found = self._codes.pop(code, None)
        if found is None or found.client_id != client_id or found.redirect_uri != asked.get("redirect_uri"):
            return _invalid_grant()
        self._spent[code] = found.account
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != found.challenge:
            return _invalid_grant()
        if found.expires_at_ms <= self._now_ms():
            return _invalid_grant()
        return self._give(found.account, client_id, found.scopes)

    def _for_renewal(self, client_id: str, renewal: str) -> web.Response:
        found = self._renewals.get(renewal)
        if found is None or found.client_id != client_id:
            return _invalid_grant()
        if self.rotates:
            if not self.keeps_spent:
                del self._renewals[renewal]
            return self._give(found.account, client_id, found.scopes)
        return self._give(found.account, client_id, found.scopes, renewal=renewal)

    def _give(self, account: str, client_id: str, scopes: list[str], *, renewal: str | None = None) -> web.Response:
        token, expires = secrets.token_urlsafe(16), self.expires_in_s
        given: dict[str, object] = {"access_token": token, "token_type": "bearer"}
        given |= {"scopes": scopes} if self.lists_scopes else {"scope": self.scope_separator.join(scopes)}
        if expires is not None:
            renewal = renewal or secrets.token_urlsafe(16)
            given |= {"expires_in": expires, "refresh_token": renewal}
        until = None if expires is None else self._now_ms() + expires * 1000
        self._tokens[token] = made = _Token(account, client_id, scopes, until, renewal)
        if renewal:
            self._renewals[renewal] = made
        return web.json_response(given)

    async def _revoke(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = {name: str(value) for name, value in form.items()}
        if self._client(request, asked) is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        found = self._tokens.get(asked.get("token", "")) or self._renewals.get(asked.get("token", ""))
        if found is not None:
            self.forget(found.account)
        return web.json_response({})

    def _client(self, request: web.Request, asked: dict[str, str]) -> str | None:
        """Which client asks; it keeps to the secret that it came with first."""
        client_id, secret = asked.get("client_id", ""), asked.get("client_secret", "")
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            client_id, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        if not client_id or not secret or self._secrets.setdefault(client_id, secret) != secret:
            return None
        return client_id


def _redirect(back: str, answer: dict[str, str]) -> web.Response:
    return web.Response(status=302, headers={"Location": f"{back}{'&' if '?' in back else '?'}{urlencode(answer)}"})


def _invalid_grant() -> web.Response:
    return web.json_response({"error": "invalid_grant"}, status=400)


def _consent(request: web.Request) -> web.Response:
    """The page that a person sees."""
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in request.query.items()
    )
    scopes = escape(request.query.get("scope", "nothing in particular"))
    return web.Response(
        content_type="text/html",
        text=f"<!doctype html><title>Sandbox</title><h1>Allow {escape(request.query['client_id'])}?</h1><p>It asks for "
        f'{scopes}.</p><form>{kept}<label>Account <input name="as" value="main"></label> <button>Allow</button></form>'
        f'<form>{kept}<button name="deny" value="1">Do not allow</button></form>',
    )
