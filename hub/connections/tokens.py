"""Tokens: exchanged with the vendor, renewed early and by one process only, stored before they are used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic_core import to_json

from hub import seams
from hub.clock import Clock
from hub.connections.accounts import Connection
from hub.connections.fields import auth_of
from hub.connector import Auth, ClientCredentials, Connector, OAuth2
from hub.errors import AuthExpired, ConnectionConfigError, ConnectorError, NoSuchConnection, NotSent, OutcomeUnknown
from hub.http import Answer, Transport, error_for, sandbox_headers
from hub.ids import new_id
from hub.store import connections as rows
from hub.store.session import Store
from hub.values import value

if TYPE_CHECKING:
    from hub.connections.using import Using

_RENEW_EARLY_MS = 120_000
_RENEWED_LATELY_S = 60.0
# Longer than the exchange may take. Others look so often, so many times, for what came of it.
_RENEW_LEASE_S = 22.0
_RENEW_LOOK_S = 0.2
_RENEW_LOOKS = 30
_EXCHANGE_S = 20.0
# What RFC 6749 § 5.2 and RFC 7009 § 2.2.1 let a token endpoint say. Nothing else of its answer is repeated anywhere.
_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "unsupported_token_type",
    }
)


@value(frozen=True)
class Grant:
    """What a token endpoint gave. `secrets` are the fields to keep; `scopes` is None when the vendor did not say."""

    secrets: Mapping[str, str]
    expires_at_ms: int | None
    scopes: frozenset[str] | None


class Tokens:
    """Good tokens for the connections of a book."""

    def __init__(self, store: Store, clock: Clock, book: Using, transport: Transport | None) -> None:
        self._store, self._clock, self._book, self._transport = store, clock, book, transport
        self._locks: dict[str, asyncio.Lock] = {}
        self._renewed: dict[str, float] = {}
        # The epoch of the token that the vendor refused last.
        self._refused: dict[str, int] = {}

    async def authorised(self, connection: Connection, connector: Connector) -> tuple[Auth, dict[str, str]]:
        """The connection's fields with a token that is good for a while yet. Raises AuthExpired, NotSent, and others."""
        kind = auth_of(connector, connection.auth)
        if not isinstance(kind, ClientCredentials | OAuth2):
            return kind, await self._book.fields(connection)
        async with self._locks.setdefault(connection.id, asyncio.Lock()):
            connection = self._book.current(connection)
            if await self._is_due(connection, kind):
                await self._renew_once(connection, connector, kind)
        return kind, await self._book.fields(self._book.current(connection))

    async def ends_at_ms(self, connection: Connection) -> int | None:
        """When the token ends for good, in real time; None where it is renewed by itself, or has no end that is known."""
        connector = self._book.connector(connection.connector)
        kind = auth_of(connector, connection.auth)
        expires = connection.token_expires_at_ms
        return None if expires is None or await self._is_renewable(connection, kind) else expires

    async def _is_due(self, connection: Connection, kind: ClientCredentials | OAuth2) -> bool:
        expires = connection.token_expires_at_ms
        if expires is not None:
            return expires - _RENEW_EARLY_MS < int(time.time() * 1000) and await self._is_renewable(connection, kind)
        # A token of a person that says nothing is good until it is refused.
        return isinstance(kind, ClientCredentials)

    async def _is_renewable(self, connection: Connection, kind: Auth) -> bool:
        if isinstance(kind, OAuth2):
            return bool((await self._book.fields(connection)).get("refresh_token"))
        return isinstance(kind, ClientCredentials)

    async def renew_refused(self, connection: Connection) -> bool:
        """After a refused call: renew a token that can be renewed and is older than a minute; whether that was done."""
        connector = self._book.connector(connection.connector)
        kind = auth_of(connector, connection.auth)
        if not isinstance(kind, ClientCredentials | OAuth2):
            return False
        async with self._locks.setdefault(connection.id, asyncio.Lock()):
            current = self._book.current(connection)
            if current.token_epoch != connection.token_epoch:
                return True
            if time.monotonic() - self._renewed.get(connection.id, float("-inf")) < _RENEWED_LATELY_S:
                return False
            if not await self._is_renewable(current, kind):
                return False
            self._refused[connection.id] = current.token_epoch
            await self._renew_once(current, connector, kind)
        return True

    def seems_old(self, connection: Connection) -> None:
        """Its token counts as renewed long ago: for the contract, which has no minute to wait before one is refused."""
        self._renewed.pop(connection.id, None)

    async def _renew_once(self, connection: Connection, connector: Connector, kind: ClientCredentials | OAuth2) -> None:
        """Renew, unless another process does: then wait for its token. Raises NotSent when that takes too long.

        A token that is good for a while yet is used meanwhile. Who was killed over it is waited for until its lease ends.
        """
        epoch, owner = connection.token_epoch, new_id()
        for _ in range(_RENEW_LOOKS):
            if await self._lease(connection, owner):
                try:
                    await self._renew(connection, connector, kind)
                except BaseException:
                    async with self._store.write() as c:
                        await rows.free_token(c, connection.id, owner)
                    raise
                return
            await self._book.refresh(force=True)
            current = self._book.current(connection)
            good = (current.token_expires_at_ms or 0) > int(time.time() * 1000)
            if current.token_epoch != epoch or (good and self._refused.get(connection.id) != epoch):
                return
            await asyncio.sleep(_RENEW_LOOK_S)
        raise NotSent(f"another process is renewing the token of {connection.name}", retry_after_s=_RENEW_LEASE_S)

    async def _lease(self, connection: Connection, owner: str) -> bool:
        # Real time: a clock that jumps must not end the lease under a renewal.
        now_ms = self._clock.now_ms() - self._clock.offset_ms
        async with self._store.write() as c:
            return await rows.lease_token(
                c,
                connection.id,
                epoch=connection.token_epoch,
                owner=owner,
                now_ms=now_ms,
                until_ms=now_ms + int(_RENEW_LEASE_S * 1000),
            )

    async def _renew(self, connection: Connection, connector: Connector, kind: ClientCredentials | OAuth2) -> None:
        values = await self._book.client_fields(connection)
        asked = {"grant_type": "client_credentials"}
        if isinstance(kind, OAuth2):
            asked = {"grant_type": "refresh_token", "refresh_token": values["refresh_token"]}
        got = await self.exchange(connection.name, connector, kind, values, asked, sandbox=connection.sandbox)
        seams.reach("token.answered")
        async with self._store.write() as c:
            # What else is kept in the connection may have changed since it was read.
            row = await rows.sealed(c, connection.id)
            if row is None:
                raise NoSuchConnection(f"the connection {connection.name} was removed while its token was renewed")
            secrets = {**self._book.opened(connection, row), **got.secrets}
            sealed, key_id = self._book.seal(secrets, connection.id)
            await rows.store_token(
                c,
                connection.id,
                epoch=connection.token_epoch,
                secret=sealed,
                key_id=key_id,
                expires_at_ms=got.expires_at_ms,
                scopes=None if got.scopes is None else sorted(got.scopes),
            )
        self._renewed[connection.id] = time.monotonic()
        await self._book.refresh(force=True)

    async def exchange(
        self,
        name: str,
        connector: Connector,
        kind: ClientCredentials | OAuth2,
        values: Mapping[str, str],
        asked: Mapping[str, str],
        *,
        sandbox: bool,
    ) -> Grant:
        """Ask the token endpoint (RFC 6749 § 3.2) for `name`'s token.

        Raises AuthExpired when the vendor says no, OutcomeUnknown for an answer that holds no token, NotSent, and others.
        """
        answer = await self._post(kind.token_url(values), connector, kind, values, asked, sandbox=sandbox)
        if (problem := error_for(answer)) is not None:
            raise _refusal(f"no token for {name}", answer) or problem
        got = answer.json()
        token = got.get("access_token") if isinstance(got, dict) else None
        if not isinstance(got, dict) or not isinstance(token, str) or not token:
            raise OutcomeUnknown(f"the token answer for {name} holds no access_token")
        secrets = {"access_token": token}
        # A vendor that gives no new one means the old one to go on (§ 6).
        if isinstance(renewal := got.get("refresh_token"), str) and renewal:
            secrets["refresh_token"] = renewal
        # Some tell them as `scopes`, a list, which the standard does not know.
        granted = _granted(got.get("scope") or got.get("scopes"), kind)
        return Grant(secrets, _expiry_ms(got.get("expires_in"), kind), granted)

    async def revoke(self, connection: Connection) -> bool:
        """Ask the vendor to forget the tokens (RFC 7009); False where it has no address for that. Raises ConnectorError."""
        connector = self._book.connector(connection.connector)
        kind = auth_of(connector, connection.auth)
        if not isinstance(kind, OAuth2) or kind.revoke_url is None:
            return False
        values = await self._book.client_fields(connection)
        hint = next((name for name in ("refresh_token", "access_token") if values.get(name)), None)
        if hint is None:
            return False
        asked = {"token": values[hint], "token_type_hint": hint}
        answer = await self._post(kind.revoke_url(values), connector, kind, values, asked, sandbox=connection.sandbox)
        if (problem := error_for(answer)) is not None:
            raise _refusal("the token was not revoked", answer) or problem
        return True

    async def _post(
        self,
        url: str,
        connector: Connector,
        kind: ClientCredentials | OAuth2,
        values: Mapping[str, str],
        asked: Mapping[str, str],
        *,
        sandbox: bool,
    ) -> Answer:
        # Here, so that commands that do not need it start without it. Authlib ships no types.
        from authlib.common.urls import add_params_to_qs  # type: ignore[import-untyped]
        from authlib.oauth2 import ClientAuth  # type: ignore[import-untyped]

        assert self._transport is not None, "only processes that make calls exchange tokens"
        if missing := [name for name in ("client_id", "client_secret") if not values.get(name)]:
            raise ConnectionConfigError(f"{connector.name} needs {' and '.join(missing)} to be asked for a token")
        headers = {"Accept": "application/json", **(sandbox_headers(url) if sandbox else {})}
        if kind.request_format == "json":
            headers["Content-Type"] = "application/json"
            ours = {name: values[name] for name in ("client_id", "client_secret")}
            body = to_json({**ours, **asked})
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            client = ClientAuth(values["client_id"], values["client_secret"], f"client_secret_{kind.client_auth}")
            _, headers, form = client.prepare("POST", url, headers, add_params_to_qs("", asked.items()))
            body = form.encode()
        address = self._transport.address(url, connector, sandbox=sandbox)
        return await self._transport.send("POST", address, headers=headers, body=body, total_s=_EXCHANGE_S)


def _refusal(what: str, answer: Answer) -> ConnectorError | None:
    """The vendor's no, with its code where that is one of the standard's; None when asking again may help."""
    if not 400 <= answer.status < 500 or answer.status in {408, 425, 429}:
        return None
    try:
        said = answer.json()
    except OutcomeUnknown:
        said = None
    code = said.get("error") if isinstance(said, dict) else None
    told = f" {code}" if isinstance(code, str) and code in _CODES else ""
    return AuthExpired(f"{what}: the vendor answered {answer.status}{told}", status=answer.status)


def _expiry_ms(expires_in: object, kind: ClientCredentials | OAuth2) -> int | None:
    """When a token of so many seconds ends; where the vendor does not say, an hour from now or never, by the kind."""
    try:
        seconds = float(str(expires_in))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**9:
        if isinstance(kind, OAuth2):
            return None
        seconds = 3600.0
    return int((time.time() + seconds) * 1000)


def _granted(given: object, kind: ClientCredentials | OAuth2) -> frozenset[str] | None:
    """The scopes of an answer together with those that they imply."""
    scopes = _scopes(given)
    if scopes is None or not isinstance(kind, OAuth2):
        return scopes
    return scopes.union(*(kind.implied_scopes.get(scope, ()) for scope in scopes))


def _scopes(given: object) -> frozenset[str] | None:
    if isinstance(given, list):
        return frozenset(str(one) for one in given)
    # Some separate them by commas.
    return frozenset(given.replace(",", " ").split()) if isinstance(given, str) and given else None
