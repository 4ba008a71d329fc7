"""Connections in use: finding them, opening their credentials, and giving code its way out."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import from_json, to_json

from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339, to_datetime
from hub.connections.addresses import Addresses
from hub.connections.tokens import Tokens
from hub.connections.versions import Ending, ending_of
from hub.connector import (
    CLIENT_FIELDS,
    TOKEN_FIELDS,
    Account,
    ActionContext,
    Auth,
    Connector,
    Field,
    OAuth2,
    sandbox_secret,
)
from hub.deadline import Deadline
from hub.errors import (
    ConnectionConfigError,
    HubError,
    NoSuchApp,
    NoSuchConnection,
    NoSuchConnector,
    StoreUnavailable,
)
from hub.events import Json
from hub.http import Answer, ConnectionHttp, Transport
from hub.ids import new_id, new_inbound_key
from hub.store import breakers, events, subscriptions, work
from hub.store import connections as rows
from hub.store.lanes import Lane, Rank
from hub.store.session import Connection as Transaction
from hub.store.session import Row, Store
from hub.vault import Vault

_LOOK_AGAIN_S = 1.0
# A webhook is verified with what is known rather than wait longer than this for what may have changed.
_READ_PATIENCE_S = 0.5
# The longest that somebody who removes a connection waits for its subscriptions to be deleted.
_UNSUBSCRIBE_S = 20.0

# What is left unknown of a secret of this length is still too much to be guessed.
_HINTED_FROM, _SHOWN = 12, 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """One authorised account, secrets left out."""

    id: str
    name: str
    connector: str
    account: str
    mode: str
    auth: str
    settings: Mapping[str, str]
    inbound_key: str
    app_id: str | None
    health: str
    health_reason: str | None
    token_epoch: int
    token_expires_at_ms: int | None
    scopes: frozenset[str] | None = None
    """What a person granted; None where that is not known."""

    @property
    def sandbox(self) -> bool:
        """Whether its calls are led to the sandbox."""
        return self.mode == "sandbox"


@dataclass(frozen=True)
class Removed:
    """A connection that was there. `revoked` says whether its vendor took the token back, `unsubscribed` how many of its
    subscriptions were deleted there, `problem` what could not be done."""

    connection: Connection
    revoked: bool
    unsubscribed: int
    problem: str | None


@dataclass(frozen=True)
class App:
    """One registration of ours at a vendor: its inbound address serves all of its connections."""

    id: str
    name: str
    connector: str
    settings: Mapping[str, str]
    inbound_key: str


@dataclass(frozen=True)
class SecretHint:
    """Of a secret whether it is stored, and how it ends; `ends_with` is None where that would tell too much of it."""

    name: str
    is_set: bool
    ends_with: str | None


@dataclass
class _Known:
    """What was read from the database, and when."""

    generation: int = -1
    looked_at: float = float("-inf")
    connections: dict[str, Connection] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    by_key: dict[str, Connection | App] = field(default_factory=dict)
    sealed: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    opened: dict[str, dict[str, str]] = field(default_factory=dict)


class Connections:
    """The connections of this hub, cached; other processes' changes are seen within a second."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        catalogue: Catalogue,
        clock: Clock,
        *,
        transport: Transport | None = None,
        public_url: str | None = None,
        noted: Callable[[str, Connector, Answer | None, Exception | None, float], None] | None = None,
    ) -> None:
        self._noted = noted
        self._store, self._vault, self._catalogue, self._clock = store, vault, catalogue, clock
        self._transport, self._public_url = transport, public_url
        self._known = _Known()
        self._reading = asyncio.Lock()
        self._rereading: asyncio.Future[None] | None = None
        self._missed_at = float("-inf")
        self.tokens = Tokens(store, clock, self, transport)

    # -- finding ---------------------------------------------------------------------------------------------------

    async def refresh(self, *, force: bool = False) -> None:
        """Read again what changed, at most once a second; callers go on with what is known while somebody reads."""
        if force or self._known.generation < 0:
            async with self._reading:
                if force or not self._is_fresh:
                    await self._read()
        elif not self._is_fresh and not self._reading.locked():
            self._rereading = asyncio.ensure_future(self._read_again())
            await asyncio.wait((self._rereading,), timeout=_READ_PATIENCE_S)

    async def _read_again(self) -> None:
        """Read what is known already, in case it changed; while the database is away what was known stays true."""
        async with self._reading:
            try:
                await self._read()
            except StoreUnavailable as error:
                self._known.looked_at = time.monotonic()
                _log.warning("connections stay as known", extra={"what": "connections_kept", "error": str(error)})

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._known.looked_at < _LOOK_AGAIN_S

    async def _read(self) -> None:
        async with self._store.read() as c:
            generation = await rows.generation(c)
            if generation == self._known.generation:
                self._known.looked_at = time.monotonic()
                return
            apps, connections = await rows.everything(c)
        known = _Known(generation, time.monotonic())
        for row in connections:
            known.connections[row["name"]] = connection = _connection(row)
            known.by_key[connection.inbound_key] = connection
            known.sealed[connection.id] = (row["secret"], row["key_id"])
        for row in apps:
            app = App(row["id"], row["name"], row["connector"], from_json(row["settings"]), row["inbound_key"])
            known.apps[app.name] = known.by_key[app.inbound_key] = app
            known.sealed[app.id] = (row["secret"], row["key_id"])
        self._known = known

    async def all(self) -> list[Connection]:
        """Every connection, by name."""
        await self.refresh()
        return list(self._known.connections.values())

    async def apps(self) -> list[App]:
        """Every app, by name."""
        await self.refresh()
        return list(self._known.apps.values())

    async def healths(self) -> dict[str, tuple[str, str | None]]:
        """The health of every connection that is not quite well, by name, and why: it needs somebody, or rests."""
        async with self._store.read() as c:
            rests = await breakers.everything(c)
        found = {r.connection: ("resting", f"until {rfc3339(r.until_ms)}: {r.reason}") for r in rests.values()}
        return found | {c.name: (c.health, c.health_reason) for c in await self.all() if c.health != "ok"}

    async def by_name(self, name: str) -> Connection:
        """One connection. Raises ConnectionConfigError with the nearest name."""
        await self.refresh()
        if name not in self._known.connections:
            await self.refresh(force=True)
        if name not in self._known.connections:
            raise NoSuchConnection(
                f"there is no connection {name}{nearest(name, self._known.connections)}; "
                "`hub connections list` shows what there is"
            )
        return self._known.connections[name]

    async def by_id(self, id_: str) -> Connection | None:
        """One connection by id, or None."""
        await self.refresh()
        return next((c for c in self._known.connections.values() if c.id == id_), None)

    def knows(self, id_: str) -> bool:
        """Whether a connection was there when connections were last read."""
        return any(c.id == id_ for c in self._known.connections.values())

    def current(self, connection: Connection) -> Connection:
        """A connection as last read; as given when it is gone."""
        return self._known.connections.get(connection.name, connection)

    def name_of(self, id_: str) -> str:
        """The name of a connection by id as last read; the id itself when it is gone."""
        return next((c.name for c in self._known.connections.values() if c.id == id_), id_)

    async def by_inbound_key(self, connector: str, key: str) -> Connection | App | None:
        """What a webhook address belongs to, or None."""
        await self.refresh()
        if key not in self._known.by_key and time.monotonic() - self._missed_at > _LOOK_AGAIN_S:
            # Somebody may have connected it a moment ago; guesses at addresses cost one read a second together.
            self._missed_at = time.monotonic()
            await self.refresh(force=True)
        found = self._known.by_key.get(key)
        return found if found and found.connector == connector else None

    def of_account(self, connector: str, account: str, app_id: str | None) -> Connection | None:
        """The connection of a vendor account; with `app_id` only among that app's."""
        for found in self._known.connections.values():
            if found.connector == connector and found.account == account and app_id in {None, found.app_id}:
                return found
        return None

    async def names(self) -> dict[str, list[str]]:
        """Connection names by connector: what recipes are bound to."""
        names: dict[str, list[str]] = {}
        for connection in await self.all():
            names.setdefault(connection.connector, []).append(connection.name)
        return names

    # -- adding ----------------------------------------------------------------------------------------------------

    async def add(
        self,
        connector_name: str,
        name: str,
        given: Mapping[str, str],
        *,
        sandbox: bool = False,
        auth: str | None = None,
        app: str | None = None,
    ) -> Connection:
        """Connect an account. In sandbox mode secrets are generated. Raises ConnectionConfigError naming the field."""
        connector, kind, values = await self.prepared(connector_name, name, given, sandbox=sandbox, auth=auth, app=app)
        if isinstance(kind, OAuth2) and not sandbox and "access_token" not in values:
            raise ConnectionConfigError(
                f"{connector.title} is authorised in the browser: begin with `hub connections add {connector.name} {name} "
                "--app APP` or POST /api/v1/authorisations"
            )
        account = connector.account(values)
        if sandbox:
            names = {f.name for f in (*connector.fields, *kind.fields) if f.secret}
            names |= {"access_token"} if isinstance(kind, OAuth2) else set()
            values |= {secret: sandbox_secret(connector.name, account, secret) for secret in sorted(names)}
        return await self.insert(connector, kind, name, account, values, sandbox=sandbox, app=app)

    async def prepared(
        self,
        connector_name: str,
        name: str,
        given: Mapping[str, str],
        *,
        sandbox: bool = False,
        auth: str | None = None,
        app: str | None = None,
    ) -> tuple[Connector, Auth, dict[str, str]]:
        """What a new connection is made of, once it is known that it can be. Raises ConnectionConfigError."""
        await self.require_free(name)
        connector = self.connector(connector_name)
        if app is not None and (app not in self._known.apps or self._known.apps[app].connector != connector_name):
            theirs = [a.name for a in self._known.apps.values() if a.connector == connector_name]
            raise NoSuchApp(
                f"there is no app {app} of {connector_name}{nearest(app, theirs)}; `hub apps list` shows what there is"
            )
        kind, values = self._fields(connector, given, sandbox=sandbox, auth=auth, inherited=app is not None)
        return connector, kind, values

    async def require_free(self, name: str) -> None:
        """Raise ConnectionConfigError when there is a connection of this name."""
        await self.refresh(force=True)
        if name in self._known.connections:
            raise ConnectionConfigError(f"there is a connection {name} already; choose another name")

    async def insert(
        self,
        connector: Connector,
        kind: Auth,
        name: str,
        account: str,
        values: Mapping[str, str],
        *,
        sandbox: bool,
        app: str | None,
        token_expires_at_ms: int | None = None,
        scopes: Sequence[str] | None = None,
    ) -> Connection:
        """Write a new connection down; what waited for one of its name goes on. Raises ConnectionConfigError."""
        if taken := self.of_account(connector.name, account, None):
            raise ConnectionConfigError(
                f"the account {account} is connected already, as {taken.name}; use that one, or give it new credentials by "
                f"`hub connections reauthorise {taken.name}`"
            )
        id_ = new_id()
        settings, secrets = _parted(connector, kind, values)
        sealed, key_id = self.seal(secrets, id_)
        async with self._store.write() as c:
            await rows.add(
                c,
                id=id_,
                connector=connector.name,
                name=name,
                app_id=self._known.apps[app].id if app else None,
                account=account,
                inbound_key=new_inbound_key(),
                auth=kind.name,
                mode="sandbox" if sandbox else "live",
                settings=settings,
                secret=sealed,
                key_id=key_id,
                token_expires_at=token_expires_at_ms,
                scopes=scopes,
                created_at=self._clock.now_ms(),
            )
            await self._attend(c, name, connector)
            # Those that met a connection of this name that was removed.
            await work.unpark(c, f"connection:{name}", self._clock.now_ms())
        await self.refresh(force=True)
        return self._known.connections[name]

    async def _attend(self, c: Transaction, name: str, connector: Connector) -> None:
        """Have done what is done for a connection again and again; what is done already goes on as it is."""
        now_ms, lane = self._clock.now_ms(), str(Lane(connection=name, rank=Rank.BULK))
        # Also when the first poll has to be repeated it asks for what came since it was to be made.
        start = to_json({"cursor": None, "since_ms": now_ms}).decode()
        for poll in connector.polls.values():
            await work.add_if_absent(c, "poll", f"{name}|{connector.name}.{poll.trigger}", lane, now_ms, start)
        if connector.subscriptions is not None:
            await subscriptions.ensure(c, name, now_ms)

    async def attend_all(self) -> None:
        """For connections that an older release or plugin made: what is done again and again, as for new ones.

        Subscriptions are looked at at once: the public URL or what the triggers want may be another one now.
        """
        every = await self.all()
        async with self._store.write() as c:
            for connection in every:
                if (connector := self._catalogue.connectors.get(connection.connector)) is not None:
                    await self._attend(c, connection.name, connector)
            await subscriptions.hasten(c, self._clock.now_ms())

    async def pretend(self, connector_name: str, name: str | None = None) -> None:
        """A connection that can never call anybody, named like its connector unless told otherwise: for rehearsals."""
        id_ = new_id()
        async with self._store.write() as c:
            await rows.add(
                c,
                id=id_,
                connector=connector_name,
                name=name or connector_name,
                app_id=None,
                account=f"rehearsal of {name or connector_name}",
                inbound_key=new_inbound_key(),
                auth=self.connector(connector_name).auth[0].name,
                mode="sandbox",
                settings={},
                secret=self._vault.seal({}, id_),
                key_id=self._vault.key_id,
                created_at=self._clock.now_ms(),
            )
        await self.refresh(force=True)

    async def add_app(self, connector_name: str, name: str, given: Mapping[str, str]) -> App:
        """Register an app of ours, which serves many connections: its webhook secrets, its client id and secret."""
        await self.refresh(force=True)
        connector = self.connector(connector_name)
        if name in self._known.apps:
            raise ConnectionConfigError(f"there is an app {name} already; choose another name")
        settings, secrets = _app_values(connector, given)
        id_ = new_id()
        async with self._store.write() as c:
            await rows.add_app(
                c,
                id=id_,
                connector=connector.name,
                name=name,
                inbound_key=new_inbound_key(),
                settings=settings,
                secret=self._vault.seal(secrets, id_),
                key_id=self._vault.key_id,
                created_at=self._clock.now_ms(),
            )
        await self.refresh(force=True)
        return self._known.apps[name]

    async def app_by_name(self, name: str) -> App:
        """One app. Raises NoSuchApp with the nearest name."""
        await self.refresh()
        if name not in self._known.apps:
            await self.refresh(force=True)
        if name not in self._known.apps:
            raise NoSuchApp(
                f"there is no app {name}{nearest(name, self._known.apps)}; `hub apps list` shows what there is"
            )
        return self._known.apps[name]

    async def set_app(self, name: str, given: Mapping[str, str]) -> App:
        """Change fields of an app, for all of its connections at once; the others stay. Raises ConnectionConfigError."""
        while True:
            await self.refresh(force=True)
            app = await self.app_by_name(name)
            settings, secrets = _app_values(self.connector(app.connector), given)
            was, _ = self._known.sealed[app.id]
            sealed, key_id = self.seal({**self.secrets(app), **secrets}, app.id)
            async with self._store.write() as c:
                done = await rows.replace_app(
                    c, app.id, was=was, settings={**app.settings, **settings}, secret=sealed, key_id=key_id
                )
            # Else somebody changed it, or sealed it with another key, in this moment.
            if done:
                await self.refresh(force=True)
                return self._known.apps[name]

    async def remove_app(self, name: str) -> App:
        """Forget an app and its secrets. Raises ConnectionConfigError while connections belong to it, naming them."""
        app = await self.app_by_name(name)
        async with self._store.write() as c:
            if used := await rows.connections_of(c, app.id):
                raise ConnectionConfigError(
                    f"the app {name} serves the connection{'s' if len(used) > 1 else ''} {', '.join(used)}; "
                    "`hub connections remove` them first"
                )
            await rows.remove_app(c, app.id)
        await self.refresh(force=True)
        return app

    async def remove(self, name: str) -> Removed:
        """Forget a connection and its credentials; what calls it from now on waits for another one of its name.

        Its subscriptions are deleted at the vendor first, then a token that the vendor takes back is given back. Its events
        and runs stay. Raises ConnectionConfigError when there is none.
        """
        connection = await self.by_name(name)
        revoked, unsubscribed, problems = False, 0, list[str]()
        # A vendor that is away, or a plugin that is gone, keeps nobody from forgetting it.
        try:
            unsubscribed = await self._unsubscribe(connection)
        except HubError as error:
            problems.append(str(error))
        except TimeoutError:
            problems.append(f"{connection.connector} took longer than {_UNSUBSCRIBE_S:.0f} s to end its subscriptions")
        try:
            revoked = await self.tokens.revoke(connection)
        except HubError as error:
            problems.append(str(error))
        async with self._store.write() as c:
            await rows.remove(c, connection.id, connection.name)
        await self.refresh(force=True)
        return Removed(connection, revoked, unsubscribed, "; ".join(dict.fromkeys(problems)) or None)

    async def _unsubscribe(self, connection: Connection) -> int:
        """Delete a connection's subscriptions at the vendor; returns how many there were. Raises ConnectorError, TimeoutError."""
        kept = self.connector(connection.connector).subscriptions
        if kept is None or not self._subscribes_alone(connection):
            return 0
        # Nobody is to make them anew meanwhile.
        async with self._store.write() as c:
            await rows.drop_work(c, subscriptions.KIND, connection.name)
        addresses, count = self.addresses(connection), 0
        async with asyncio.timeout(_UNSUBSCRIBE_S):
            context = await self.context(connection)
            for one in await kept.list(context):
                if addresses.is_ours(one.address):
                    await kept.delete(context, one)
                    count += 1
        return count

    async def is_leaving(self, connection: Connection) -> bool:
        """Whether somebody removes a connection, or has, and with it its subscriptions: what is made now would outlive it."""
        if not self._subscribes_alone(connection):
            return False
        async with self._store.read() as c:
            return not await subscriptions.are_looked_after(c, connection.id)

    def _subscribes_alone(self, connection: Connection) -> bool:
        """Whether a connection has subscriptions that are nobody else's."""
        kept = self.connector(connection.connector).subscriptions
        return kept is not None and not (kept.shared and self.siblings(connection))

    async def reauthorise(self, name: str, given: Mapping[str, str]) -> Connection:
        """New credentials for a connection, of the same account; runs that waited for them go on."""
        connection = await self.by_name(name)
        if connection.sandbox:
            raise ConnectionConfigError(
                f"{name} is in sandbox mode; its credentials are generated and cannot be replaced"
            )
        connector = self.connector(connection.connector)
        kept = dict(await self.fields(connection))
        if connection.token_expires_at_ms is not None:
            # A token that was exchanged belongs to the credentials that it was given for.
            kept = {name: value for name, value in kept.items() if name not in TOKEN_FIELDS}
        kind, values = self._fields(
            connector, {**kept, **given}, sandbox=False, auth=connection.auth, inherited=connection.app_id is not None
        )
        if isinstance(kind, OAuth2) and "access_token" not in given:
            raise ConnectionConfigError(
                f"{name} is authorised in the browser: begin with `hub connections reauthorise {name}` or "
                f"POST /api/v1/connections/{name}/authorise"
            )
        return await self.replace(connection, connector, kind, connector.account(values), values)

    async def change(self, name: str, given: Mapping[str, str]) -> Connection:
        """Other settings for a connection: fields that are no secret, and do not say which account it is.

        Raises ConnectionConfigError naming the field.
        """
        connection = await self.by_name(name)
        connector = self.connector(connection.connector)
        kind = next(a for a in connector.auth if a.name == connection.auth)
        fields = {f.name: f for f in (*connector.fields, *kind.fields)}
        secret = _secret_names(connector, kind)
        for field_name in given:
            if field_name in secret:
                raise ConnectionConfigError(
                    f"{field_name} is a secret; give a new one with `hub connections reauthorise {name}`"
                )
            if field_name not in fields:
                open_ = [one for one in fields if one not in secret]
                raise ConnectionConfigError(
                    f"{connector.name} has no setting {field_name}{nearest(field_name, open_)}; it has {', '.join(open_)}"
                )
            _check_pattern(fields[field_name], given[field_name])
        values = {**await self.fields(connection), **given}
        if connector.account(values) != connection.account:
            raise ConnectionConfigError(
                f"that would make {name} a connection of the account {connector.account(values)}; add another connection "
                "for the other account"
            )
        async with self._store.write() as c:
            await rows.replace_settings(c, connection.id, {**connection.settings, **given})
        await self.refresh(force=True)
        return self._known.connections[name]

    async def ending(self, name: str) -> Ending | None:
        """Whether the version of its vendor's API that a connection uses ends within ninety days, or has ended."""
        connection = await self.by_name(name)
        # Vendors know nothing of a clock that jumps.
        today = to_datetime(self._clock.now_ms() - self._clock.offset_ms).date()
        return ending_of(name, connection.settings, self.connector(connection.connector), today)

    async def replace(
        self,
        connection: Connection,
        connector: Connector,
        kind: Auth,
        account: str,
        values: Mapping[str, str],
        *,
        token_expires_at_ms: int | None = None,
        scopes: Sequence[str] | None = None,
    ) -> Connection:
        """Write a connection's new credentials down. Raises ConnectionConfigError when they are of another account."""
        if account != connection.account:
            raise ConnectionConfigError(
                f"these credentials are of the account {account}, the connection {connection.name} is of "
                f"{connection.account}; add another connection for the other account"
            )
        settings, secrets = _parted(connector, kind, values)
        sealed, key_id = self.seal(secrets, connection.id)
        async with self._store.write() as c:
            await rows.replace_secret(
                c,
                connection.id,
                settings=settings,
                secret=sealed,
                key_id=key_id,
                token_expires_at=token_expires_at_ms,
                scopes=scopes,
            )
            await work.unpark(c, f"connection:{connection.name}", self._clock.now_ms())
            await subscriptions.hasten(c, self._clock.now_ms(), connection.name)
        await self.refresh(force=True)
        return self._known.connections[connection.name]

    def connector(self, name: str) -> Connector:
        """A loaded connector. Raises NoSuchConnector with the nearest name, ConnectionConfigError if its plugin is unusable."""
        if name in self._catalogue.connectors:
            return self._catalogue.connectors[name]
        if name in self._catalogue.unusable:
            raise ConnectionConfigError(self._catalogue.unusable[name])
        raise NoSuchConnector(
            f"there is no connector {name}{nearest(name, self._catalogue.connectors)}; `hub plugins` lists them"
        )

    def _fields(
        self, connector: Connector, given: Mapping[str, str], *, sandbox: bool, auth: str | None, inherited: bool
    ) -> tuple[Auth, dict[str, str]]:
        """The kind of auth that fits the fields given, and all values with defaults."""
        kind = kind_of(connector, given, auth=auth, app=inherited)
        fields = {f.name: f for f in (*connector.fields, *kind.fields)}
        for name in given:
            if name not in fields and name not in TOKEN_FIELDS:
                raise ConnectionConfigError(
                    f"{connector.name} has no field {name}{nearest(name, fields)}; it has {', '.join(fields)}"
                )
        webhook = connector.webhook.secrets if connector.webhook and inherited else ()
        values = {f.name: f.default for f in fields.values() if f.default is not None} | dict(given)
        for f in fields.values():
            if f.name not in values and f.required and not (sandbox and f.secret) and f.name not in webhook:
                raise ConnectionConfigError(_missing(connector, f))
            if f.name in values:
                _check_pattern(f, values[f.name])
        return kind, values

    # -- credentials -----------------------------------------------------------------------------------------------

    def seal(self, secrets: Mapping[str, str], owner: str) -> tuple[bytes, str]:
        """Credentials as they are stored, and the id of the key."""
        return self._vault.seal(secrets, owner), self._vault.key_id

    def opened(self, owner: Connection | App, row: Row) -> dict[str, str]:
        """The credentials of a row that was just read. Raises ConfigError when the key is not configured."""
        return self._vault.open(bytes(row["secret"]), owner.id, row["key_id"])

    def secrets(self, owner: Connection | App) -> dict[str, str]:
        """The credentials alone, opened. Raises ConfigError when the key is not configured."""
        sealed, key_id = self._known.sealed[owner.id]
        return self._vault.open(bytes(sealed), owner.id, key_id)

    async def fields(self, owner: Connection | App) -> dict[str, str]:
        """Settings and secrets together, opened. Raises ConfigError when the key is not configured."""
        opened = self._known.opened.get(owner.id)
        if opened is None:
            opened = {**owner.settings, **self.secrets(owner)}
            self._known.opened[owner.id] = opened
        return opened

    async def hints(self, owner: Connection | App) -> list[SecretHint]:
        """Of each secret that an owner has or can have, whether it is stored and how it ends: to tell which one is in force.

        Opened for this alone, and kept nowhere. Raises ConfigError when the key is not configured.
        """
        stored = self.secrets(owner)
        connector = self._catalogue.connectors.get(owner.connector)
        names = _secrets_of(connector, owner) if connector is not None else []
        return [_hint(name, stored.get(name, "")) for name in dict.fromkeys([*names, *sorted(stored)])]

    async def webhook_secrets(self, owner: Connection | App) -> dict[str, str]:
        """The configured secrets that may verify a call to this owner's address; of the app where it has one."""
        webhook = self.connector(owner.connector).webhook
        names = webhook.secrets if webhook else ()
        values = await (self.client_fields(owner) if isinstance(owner, Connection) else self.fields(owner))
        return {name: values[name] for name in names if values.get(name)}

    async def client_fields(self, connection: Connection) -> dict[str, str]:
        """A connection's fields together with those of its app."""
        values = await self.fields(connection)
        app = self._app_of(connection)
        return values if app is None else {**values, **await self.fields(app)}

    async def add_secrets(
        self, connection: Connection, secrets: Callable[[Mapping[str, str]], Mapping[str, str]]
    ) -> dict[str, str]:
        """Change single credentials, whatever else of them changes at the same moment; returns all of them.

        `secrets` gets them as they are and gives those that are to be others. Raises NoSuchConnection.
        """
        async with self._store.write() as c:
            row = await rows.sealed(c, connection.id)
            if row is None:
                raise NoSuchConnection(f"the connection {connection.name} was removed meanwhile")
            known = self.opened(connection, row)
            changed = {**known, **secrets(known)}
            if changed == known:
                return known
            sealed, key_id = self.seal(changed, connection.id)
            await rows.reseal(c, "connection", connection.id, was=row["secret"], secret=sealed, key_id=key_id)
            await rows.changed(c)
        await self.refresh(force=True)
        return changed

    async def unhealthy(self, connection: Connection, reason: str) -> bool:
        """Note that the account has to be connected again; False when it was, since these credentials were read."""
        async with self._store.write() as c:
            known = await rows.set_health(
                c, connection.id, "needs re-authorisation", reason, epoch=connection.token_epoch
            )
        await self.refresh(force=True)
        return known

    async def unpark_if_healthy(self, connection: Connection) -> None:
        """What was parked on a connection goes on if it works. Asked after parking, as it may have been mended meanwhile."""
        async with self._store.read() as c:
            healthy = await rows.is_healthy(c, connection.id)
        if healthy:
            async with self._store.write() as c:
                await work.unpark(c, f"connection:{connection.name}", self._clock.now_ms())

    async def test(self, name: str) -> Account:
        """Ask the vendor whose account this is. Raises ConnectorError."""
        connection = await self.by_name(name)
        connector = self.connector(connection.connector)
        if connector.whoami is None:
            raise ConnectionConfigError(
                f"{connector.name} has no way to test a connection; `hub connections list` shows what its calls say"
            )
        account = await connector.whoami(await self.context(connection))
        async with self._store.write() as c:
            await rows.set_health(c, connection.id, "ok", None)
            await work.unpark(c, f"connection:{name}", self._clock.now_ms())
        return account

    # -- giving code its way out -----------------------------------------------------------------------------------

    def inbound_url(self, owner: Connection | App) -> str:
        """The address that vendors call, or '' when the hub has no public URL."""
        return (
            f"{self._public_url.rstrip('/')}/webhooks/{owner.connector}/{owner.inbound_key}" if self._public_url else ""
        )

    def addresses(self, connection: Connection) -> Addresses:
        """The webhook addresses that are this connection's: its own and, under an app, that of the app.

        Where subscriptions belong to the app, its address is the one to give to the vendor. Where each has a secret of its
        own, only the connection's own address will do, since the secrets are kept in the connection.
        """
        kept = self.connector(connection.connector).subscriptions
        app, own = self._app_of(connection), self.inbound_url(connection)
        usable = app if kept is not None and not kept.secret_field else None
        return Addresses(
            connector=connection.connector,
            wanted=self.inbound_url(usable) if usable and kept and kept.shared else own,
            accepted=frozenset({own, self.inbound_url(usable) if usable else own}),
            keys=frozenset({connection.inbound_key, app.inbound_key if app else connection.inbound_key}),
        )

    def siblings(self, connection: Connection) -> list[Connection]:
        """The other connections of its app, as last read."""
        if connection.app_id is None:
            return []
        every = self._known.connections.values()
        return [c for c in every if c.app_id == connection.app_id and c.name != connection.name]

    def _app_of(self, connection: Connection) -> App | None:
        return next((app for app in self._known.apps.values() if app.id == connection.app_id), None)

    async def context(
        self,
        connection: Connection,
        *,
        reference: str = "",
        idempotency_key: str = "",
        intended_at_ms: int = 0,
        total_s: float = 20.0,
        deadline: Deadline | None = None,
    ) -> ActionContext:
        """What an action, look-up, poll or enrichment of this connection gets. May renew the token first.

        With `deadline` no call is begun that might outlive it.
        """
        assert self._transport is not None, "only processes that make calls have a transport"
        connector = self.connector(connection.connector)
        kind, values = await self.tokens.authorised(connection, connector)
        http = self._http(connection, connector, kind, values, total_s=total_s, deadline=deadline)

        async def sightings(type_: str) -> Sequence[Mapping[str, Json]]:
            async with self._store.read() as c:
                found = await events.found_by_key(c, type_, f"reference={reference}")
            return [e.data for e in found if e.connection_id == connection.id]

        seek: Callable[[str], Awaitable[Sequence[Mapping[str, Json]]]] = sightings
        return ActionContext(
            connection=connection.name,
            connection_id=connection.id,
            account=connection.account,
            settings=connection.settings,
            http=http,
            now_ms=self._clock.now_ms(),
            reference=reference,
            idempotency_key=idempotency_key,
            intended_at_ms=intended_at_ms,
            callback_url=self.inbound_url(connection),
            sightings=seek,
        )

    def _http(
        self,
        connection: Connection,
        connector: Connector,
        kind: Auth,
        values: Mapping[str, str],
        *,
        total_s: float = 20.0,
        deadline: Deadline | None = None,
    ) -> ConnectionHttp:
        assert self._transport is not None, "only processes that make calls have a transport"
        return ConnectionHttp(
            transport=self._transport,
            connector=connector,
            connection_id=connection.id,
            credentials=values,
            authorisation=kind.headers(values),
            proof=kind.params(values) if kind.params else {},
            sandbox=connection.sandbox,
            total_s=total_s,
            deadline=deadline,
            **({"noted": partial(self._noted, connection.name, connector)} if self._noted else {}),
        )

    async def whose(
        self, connector: Connector, kind: Auth, name: str, values: Mapping[str, str], *, sandbox: bool
    ) -> Account:
        """Whose account these credentials are of, which are not stored yet. Raises ConnectorError."""
        assert connector.whoami is not None, "a connector that is authorised in the browser can tell"
        mode = "sandbox" if sandbox else "live"
        stranger = Connection("", name, connector.name, "", mode, kind.name, {}, "", None, "ok", None, 0, None)
        http = self._http(stranger, connector, kind, values)
        settings, _ = _parted(connector, kind, values)
        return await connector.whoami(
            ActionContext(
                connection=name,
                connection_id="",
                account="",
                settings=settings,
                http=http,
                now_ms=self._clock.now_ms(),
                reference="",
                idempotency_key="",
                intended_at_ms=0,
                callback_url="",
            )
        )


def kind_of(connector: Connector, given: Mapping[str, str], *, auth: str | None, app: bool) -> Auth:
    """The kind of auth of that name; without one, what was meant by these fields and whether an app was named.

    Raises ConnectionConfigError with the names there are.
    """
    kinds = [a for a in connector.auth if auth in {None, a.name}]
    if not kinds:
        raise ConnectionConfigError(
            f"{connector.name} has no auth {auth}; it has {', '.join(a.name for a in connector.auth)}"
        )
    # The kind whose own fields cover most of what was given is the one that was meant.
    return max(kinds, key=lambda a: (len({f.name for f in a.fields} & set(given)), app and isinstance(a, OAuth2)))


def _app_values(connector: Connector, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """An app's values as settings and secrets. Raises ConnectionConfigError naming what is none of its fields."""
    fields = app_fields(connector)
    if not fields:
        raise ConnectionConfigError(f"{connector.name} has no apps: its connections stand for themselves; add those")
    if unknown := sorted(set(given) - set(fields)):
        raise ConnectionConfigError(
            f"an app of {connector.name} has no field {unknown[0]}{nearest(unknown[0], fields)}; "
            f"it has {', '.join(fields)}"
        )
    if not given:
        raise ConnectionConfigError(
            f"an app of {connector.name} needs one of {', '.join(fields)}; give it with --set or --secret-from-env"
        )
    settings = {name: value for name, value in given.items() if not fields[name].secret}
    return settings, {name: value for name, value in given.items() if name not in settings}


def app_fields(connector: Connector) -> dict[str, Field]:
    """What an app of a connector may hold, by name: webhook secrets, and a client id and secret for authorising."""
    secrets = connector.webhook.secrets if connector.webhook else ()
    fields = {name: Field(name=name, title=name.replace("_", " "), secret=True) for name in secrets}
    if any(isinstance(kind, OAuth2) for kind in connector.auth):
        fields |= {f.name: f for f in CLIENT_FIELDS}
    return fields


def _secrets_of(connector: Connector, owner: Connection | App) -> list[str]:
    """The names of the secrets that an owner can be given."""
    if isinstance(owner, App):
        return [f.name for f in app_fields(connector).values() if f.secret]
    kinds = [kind for kind in connector.auth if kind.name == owner.auth]
    return [f.name for f in (*connector.fields, *(f for kind in kinds for f in kind.fields)) if f.secret]


def _hint(name: str, secret: str) -> SecretHint:
    return SecretHint(name, bool(secret), secret[-_SHOWN:] if len(secret) >= _HINTED_FROM else None)


def _secret_names(connector: Connector, kind: Auth) -> set[str]:
    return {f.name for f in (*connector.fields, *kind.fields) if f.secret} | TOKEN_FIELDS


def _parted(connector: Connector, kind: Auth, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A connection's values as settings and secrets."""
    secret = _secret_names(connector, kind)
    return (
        {name: value for name, value in values.items() if name not in secret},
        {name: value for name, value in values.items() if name in secret},
    )


def _check_pattern(f: Field, value: str) -> None:
    if f.pattern and not re.fullmatch(f.pattern, value):
        looks = f"{f.title}: {f.help.rstrip('.')}" if f.help else f.title
        raise ConnectionConfigError(f"{f.name} does not look like a {looks}; correct it and add it again")


def _missing(connector: Connector, f: Field) -> str:
    return f"{connector.name} needs {f.name}: {f.title}{f'. {f.help}' if f.help else ''}"


def _connection(row: Row) -> Connection:
    values: dict[str, Any] = {
        name: row[name]
        for name in (
            "id",
            "name",
            "connector",
            "account",
            "mode",
            "auth",
            "inbound_key",
            "app_id",
            "health",
            "health_reason",
        )
    }
    return Connection(
        **values,
        settings=from_json(row["settings"]),
        token_epoch=row["token_epoch"],
        token_expires_at_ms=row["token_expires_at"],
        scopes=frozenset(from_json(row["scopes"])) if row["scopes"] else None,
    )
