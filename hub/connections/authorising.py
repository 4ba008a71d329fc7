"""Accounts that a person authorises in the browser: from the address that begins it to the vendor's answer.

What protects it (RFC 6749, 7636, 9207, 9700): the address that begins it works in one browser; the answer must come from
that browser, with a state that is used once, within ten minutes, for the connector it was begun with; the code is worth
nothing without the verifier, which never leaves the hub. Only hashes of what the browser knows are stored.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from hub.catalogue import nearest
from hub.clock import Clock
from hub.connections.accounts import App, Connection
from hub.connections.changing import Connections
from hub.connections.fields import auth_of
from hub.connector import CLIENT_FIELDS, Connector, OAuth2
from hub.errors import ConfigError, ConnectionConfigError, HubError
from hub.http import Transport
from hub.store import authorisations as rows
from hub.store.session import Row, Store
from hub.vault import Vault

LASTS_MS = 600_000
_log = logging.getLogger(__name__)
# What RFC 6749 § 4.1.2.1 lets a vendor say instead of giving a code. Nothing else of its answer is repeated.
_REFUSALS = {
    "access_denied": "it was not allowed",
    "invalid_request": "the vendor did not understand the request",
    "invalid_scope": "the vendor does not know what was asked for",
    "server_error": "the vendor failed",
    "temporarily_unavailable": "the vendor cannot do it now",
    "unauthorized_client": "the app may not ask for it",
    "unsupported_response_type": "the app may not ask for it",
}


_GONE = "the app or its plugin is gone since this was begun; begin anew"


class AuthorisingError(ConfigError):
    """An authorisation that cannot go on; the text is for the person in the browser."""


@dataclass(frozen=True)
class Begun:
    """`url` is for the browser of whoever may authorise the account, within ten minutes; the vendor must know `url_back`.

    `id` tells how it went.
    """

    id: str
    url: str
    url_back: str
    scopes: Sequence[str]
    expires_at_ms: int


@dataclass(frozen=True)
class Finished:
    """A connected account. `missing` are the scopes that were asked for and not granted."""

    connection: Connection
    title: str
    missing: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """How an authorisation stands: `waiting`, `connected` (`detail` is the connection's name), `failed` or `expired`."""

    state: str
    detail: str


class Authorising:
    """Begins and finishes authorisations; any process with a transport may, whoever began them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        vault: Vault,
        book: Connections,
        transport: Transport | None,
        public_url: str,
    ) -> None:
        self._store, self._clock, self._vault, self._book = store, clock, vault, book
        self._transport, self._public_url = transport, public_url.rstrip("/")

    async def begin(
        self,
        connector_name: str,
        name: str,
        given: Mapping[str, str],
        *,
        app: str,
        auth: str | None = None,
        sandbox: bool = False,
        scopes: Sequence[str] | None = None,
    ) -> Begun:
        """A new connection. Asks for all of the connector's scopes unless told which. Raises ConfigError with what to do."""
        connector, kind, values = await self._book.prepared(
            connector_name, name, given, sandbox=sandbox, auth=auth, app=app
        )
        if not isinstance(kind, OAuth2):
            raise ConnectionConfigError(
                f"{connector_name} is not authorised in the browser by {kind.name}; give its fields to "
                "`hub connections add` or POST /api/v1/connections"
            )
        [ours] = [a for a in await self._book.apps() if a.name == app]
        _require_client(ours.name, await self._book.fields(ours))
        return await self._begin(connector, kind, name, values, ours.id, None, sandbox=sandbox, scopes=scopes)

    async def begin_again(self, name: str, *, scopes: Sequence[str] | None = None) -> Begun:
        """The same account of a connection that is there, with its settings. Raises ConfigError with what to do."""
        connection = await self._book.by_name(name)
        connector = self._book.connector(connection.connector)
        kind = auth_of(connector, connection.auth)
        if not isinstance(kind, OAuth2):
            raise ConnectionConfigError(
                f"{name} is not authorised in the browser: give its credentials to `hub connections reauthorise {name}`"
            )
        if connection.app_id is None:
            raise ConnectionConfigError(f"{name} has no app, by which it could be authorised; add it anew with one")
        values = await self._book.fields(connection)
        values = {field.name: values[field.name] for field in (*connector.fields, *kind.fields) if field.name in values}
        # A vendor may have granted more than the plugin asks for.
        granted = [scope for scope in kind.scopes if scope in (connection.scopes or ())]
        return await self._begin(
            connector,
            kind,
            name,
            values,
            connection.app_id,
            connection.id,
            sandbox=connection.sandbox,
            scopes=scopes if scopes is not None else granted or kind.scopes,
        )

    async def _begin(
        self,
        connector: Connector,
        kind: OAuth2,
        name: str,
        values: Mapping[str, str],
        app_id: str,
        connection_id: str | None,
        *,
        sandbox: bool,
        scopes: Sequence[str] | None,
    ) -> Begun:
        wanted = list(kind.scopes if scopes is None else scopes)
        if strange := next((scope for scope in wanted if scope not in kind.scopes), None):
            raise ConnectionConfigError(
                f"{connector.name} has no use for the scope {strange}{nearest(strange, kind.scopes)}; "
                f"it asks for {', '.join(kind.scopes)}"
            )
        ticket = secrets.token_urlsafe(32)
        id_ = _hash(ticket)
        hidden = {f.name for f in (*connector.fields, *kind.fields) if f.secret}
        kept = {k: v for k, v in values.items() if k in hidden} | {"code_verifier": secrets.token_urlsafe(48)}
        expires_at_ms = self._clock.now_ms() + LASTS_MS
        async with self._store.write() as c:
            await rows.add(
                c,
                id=id_,
                connector=connector.name,
                name=name,
                connection=connection_id,
                app_id=app_id,
                auth=kind.name,
                mode="sandbox" if sandbox else "live",
                settings={k: v for k, v in values.items() if k not in hidden},
                scopes=wanted,
                secret=self._vault.seal(kept, id_),
                key_id=self._vault.key_id,
                expires_at=expires_at_ms,
            )
        url = f"{self._public_url}/oauth/begin/{ticket}"
        return Begun(id_, url, self._callback_url(connector.name), wanted, expires_at_ms)

    async def open(self, ticket: str, session: str) -> str:
        """The vendor's address for the browser that opened the hub's. `session` is what that browser keeps.

        Raises AuthorisingError when another browser was quicker, or it is too late.
        """
        # Here, so that commands that do not need it start without it. Authlib ships no types.
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]

        id_, state = _hash(ticket), secrets.token_urlsafe(32)
        async with self._store.write() as c:
            row = await rows.by_id(c, id_)
            bound = row is not None and await rows.bind(
                c, id_, session=_hash(session), state=_hash(state), now_ms=self._clock.now_ms()
            )
        if row is None or not bound:
            raise AuthorisingError(
                "this address was opened in another browser before, was used already, or is older than ten minutes; "
                "ask for a new one"
            )
        connector, kind, values = await self._found(row)
        assert self._transport is not None, "only processes that make calls send anybody to a vendor"
        address = self._transport.address(kind.authorise_url(values), connector, sandbox=row["mode"] == "sandbox")
        wanted: list[str] = from_json(row["scopes"])
        optional = [scope for scope in wanted if scope in kind.optional_scopes]
        also = {"optional_scope": kind.scope_separator.join(optional)} if optional else {}
        url: str = prepare_grant_uri(
            str(address),
            client_id=values["client_id"],
            response_type="code",
            redirect_uri=self._callback_url(connector.name),
            scope=kind.scope_separator.join(scope for scope in wanted if scope not in optional) or None,
            state=state,
            code_challenge=create_s256_code_challenge(values["code_verifier"]),
            code_challenge_method="S256",
            **also,
            **kind.authorise_params,
        )
        return url

    async def finish(self, connector_name: str, answer: Sequence[tuple[str, str]], session: str | None) -> Finished:
        """The vendor's answer, as the browser brings it. Raises AuthorisingError with what happened and what to do."""
        given = dict(answer)
        if len(given) != len(answer):
            raise AuthorisingError("the vendor's answer says the same thing twice; begin anew")
        row = await self._row_of(connector_name, given.get("state"), session)
        async with self._store.write() as c:
            if not await rows.use(c, row["id"], self._clock.now_ms()):
                raise AuthorisingError("this was used already, or took longer than ten minutes; begin anew")
        try:
            finished = await self._connect(row, given)
        except HubError as error:
            await self._conclude(row, "failed", str(error))
            raise AuthorisingError(str(error)) from error
        except Exception as error:  # a plugin may raise anything when it is asked whose account it is
            _log.exception(
                "an account was not connected", extra={"what": "authorising_failed", "connector": connector_name}
            )
            told = f"the plugin {connector_name} failed ({type(error).__name__}); the hub's log says where"
            await self._conclude(row, "failed", told)
            raise AuthorisingError(told) from error
        await self._conclude(row, "connected", finished.connection.name)
        return finished

    async def _row_of(self, connector_name: str, state: str | None, session: str | None) -> Row:
        """Who began it. A wrong browser, connector or state look alike."""
        if state and session:
            async with self._store.read() as c:
                row = await rows.by_state(c, _hash(state))
            ours = row is not None and row["connector"] == connector_name
            if row is not None and ours and secrets.compare_digest(row["session"], _hash(session)):
                return row
        raise AuthorisingError(
            "this answer does not belong to anything that was begun in this browser; open the hub's address again, in the "
            "browser in which you authorise the account"
        )

    async def _connect(self, row: Row, given: Mapping[str, str]) -> Finished:
        connector, kind, values = await self._found(row)
        if kind.issuer is not None and given.get("iss") != kind.issuer:
            raise AuthorisingError("the answer is not from the vendor that was asked; nothing was connected")
        if kind.check_callback is not None and row["mode"] != "sandbox":
            kind.check_callback(given, values)
        if "error" in given:
            why = _REFUSALS.get(given["error"], "the vendor refused")
            raise AuthorisingError(f"{connector.title} gave no access: {why}; begin anew to try again")
        if not given.get("code"):
            raise AuthorisingError(f"{connector.title} answered without a code; begin anew")
        sandbox, name = row["mode"] == "sandbox", row["name"]
        if row["connection"] is None:
            await self._book.require_free(name)
        asked = {
            "grant_type": "authorization_code",
            "code": given["code"],
            "redirect_uri": self._callback_url(connector.name),
            "code_verifier": values.pop("code_verifier"),
            **kind.token_params,
        }
        got = await self._book.tokens.exchange(name, connector, kind, values, asked, sandbox=sandbox)
        kept = {k: v for k, v in values.items() if k not in {"client_id", "client_secret"}} | dict(got.secrets)
        whose = await self._book.whose(connector, kind, name, {**values, **kept}, sandbox=sandbox)
        kept |= whose.fields
        wanted: list[str] = from_json(row["scopes"])
        # A vendor that does not say what it granted granted what was asked for (RFC 6749 § 5.1).
        granted = got.scopes if got.scopes is not None else frozenset(wanted)
        if row["connection"] is None:
            app = await self._app_of(row)
            connection = await self._book.insert(
                connector,
                kind,
                name,
                whose.id,
                kept,
                sandbox=sandbox,
                app=app.name,
                token_expires_at_ms=got.expires_at_ms,
                scopes=sorted(granted),
            )
        else:
            known = await self._book.by_name(name)
            ours = {field.name for field in (*connector.fields, *kind.fields)}
            # Settings that somebody changed since this was begun stay as they are; what was learnt just now is newer.
            changed = {field: value for field, value in known.settings.items() if field in ours}
            connection = await self._book.replace(
                known,
                connector,
                kind,
                whose.id,
                {**kept, **changed, **whose.fields},
                token_expires_at_ms=got.expires_at_ms,
                scopes=sorted(granted),
            )
        return Finished(connection, whose.title, [scope for scope in wanted if scope not in granted])

    async def _found(self, row: Row) -> tuple[Connector, OAuth2, dict[str, str]]:
        """What an authorisation is about: its values together with its app's client id and secret."""
        connector = self._book.connector(row["connector"])
        kind = next((a for a in connector.auth if a.name == row["auth"]), None)
        if not isinstance(kind, OAuth2):
            raise AuthorisingError(_GONE)
        app = await self._app_of(row)
        own = self._vault.open(bytes(row["secret"]), row["id"], row["key_id"])
        values = {**await self._book.fields(app), **from_json(row["settings"]), **own}
        return connector, kind, values

    async def _app_of(self, row: Row) -> App:
        app = next((a for a in await self._book.apps() if a.id == row["app_id"]), None)
        if app is None:
            raise AuthorisingError(_GONE)
        return app

    async def _conclude(self, row: Row, outcome: str, detail: str) -> None:
        async with self._store.write() as c:
            await rows.conclude(c, row["id"], outcome, detail)

    async def outcome(self, id_: str) -> Outcome | None:
        """How an authorisation stands, or None when there is no such."""
        async with self._store.read() as c:
            row = await rows.by_id(c, id_)
        if row is None:
            return None
        if row["outcome"] is not None:
            return Outcome(row["outcome"], row["detail"] or "")
        # Also what was begun to be finished by a process that died over it.
        if row["expires_at"] <= self._clock.now_ms():
            return Outcome("expired", "it was not finished within ten minutes")
        return Outcome("waiting", "opened in a browser" if row["session"] else "not opened yet")

    def callback_of(self, app: App) -> str:
        """The redirect address to register at the vendor for an app; '' where nobody is authorised in the browser."""
        connector = self._book.connector(app.connector)
        return self._callback_url(app.connector) if any(isinstance(k, OAuth2) for k in connector.auth) else ""

    def _callback_url(self, connector_name: str) -> str:
        # One for each connector, so that no vendor can pass its answer off as another's (RFC 9700 § 4.4).
        return f"{self._public_url}/oauth/callback/{connector_name}"


def _require_client(app: str, values: Mapping[str, str]) -> None:
    if missing := [f.name for f in CLIENT_FIELDS if not values.get(f.name)]:
        raise ConnectionConfigError(
            f"the app {app} has no {' and no '.join(missing)}; give it one with `hub apps set {app}`"
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
