"""Connections in use: finding them, opening their credentials, renewing their tokens, and giving code its way out."""

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

from hub import seams
from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339
from hub.connector import Account, ActionContext, Auth, ClientCredentials, Connector, Field, sandbox_secret
from hub.deadline import Deadline
from hub.errors import AuthExpired, ConnectionConfigError, NotSent, OutcomeUnknown, StoreUnavailable
from hub.events import Json
from hub.http import Answer, ConnectionHttp, Transport, error_for, sandbox_headers
from hub.ids import new_id, new_inbound_key
from hub.store import breakers, events, work
from hub.store import connections as rows
from hub.store.lanes import Lane, Rank
from hub.store.session import Row, Store
from hub.vault import Vault

_LOOK_AGAIN_S = 1.0
# A webhook is verified with what is known rather than wait longer than this for what may have changed.
_READ_PATIENCE_S = 0.5
_RENEW_EARLY_MS = 120_000
_RENEWED_LATELY_S = 60.0
# Longer than the exchange may take. Others look so often, so many times, for what came of it.
_RENEW_LEASE_S = 22.0
_RENEW_LOOK_S = 0.2
_RENEW_LOOKS = 30

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

    @property
    def sandbox(self) -> bool:
        """Whether its calls are led to the sandbox."""
        return self.mode == "sandbox"


@dataclass(frozen=True)
class App:
    """One registration of ours at a vendor: its inbound address serves all of its connections."""

    id: str
    name: str
    connector: str
    settings: Mapping[str, str]
    inbound_key: str


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
        self._locks: dict[str, asyncio.Lock] = {}
        self._renewed: dict[str, float] = {}
        # The epoch of the token that the vendor refused last.
        self._refused: dict[str, int] = {}

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
            raise ConnectionConfigError(
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
        await self.refresh(force=True)
        connector = self.connector(connector_name)
        if name in self._known.connections:
            raise ConnectionConfigError(f"there is a connection {name} already; choose another name")
        if app is not None and app not in self._known.apps:
            raise ConnectionConfigError(f"there is no app {app}{nearest(app, self._known.apps)}")
        kind, values = self._fields(connector, given, sandbox=sandbox, auth=auth, inherited=app is not None)
        account = connector.account(values)
        if taken := self.of_account(connector_name, account, None):
            raise ConnectionConfigError(f"the account {account} is connected already, as {taken.name}")
        if sandbox:
            values |= {
                f.name: sandbox_secret(connector.name, account, f.name)
                for f in (*connector.fields, *kind.fields)
                if f.secret
            }
        id_ = new_id()
        secret_names = {f.name for f in (*connector.fields, *kind.fields) if f.secret}
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
                settings={k: v for k, v in values.items() if k not in secret_names},
                secret=self._vault.seal({k: v for k, v in values.items() if k in secret_names}, id_),
                key_id=self._vault.key_id,
                created_at=self._clock.now_ms(),
            )
            for poll in connector.polls.values():
                lane = str(Lane(connection=name, rank=Rank.BULK))
                await work.add_if_absent(
                    c, "poll", f"{name}|{connector.name}.{poll.trigger}", lane, self._clock.now_ms()
                )
            # Those that met a connection of this name that was removed.
            await work.unpark(c, f"connection:{name}", self._clock.now_ms())
        await self.refresh(force=True)
        return self._known.connections[name]

    async def pretend(self, connector_name: str) -> None:
        """A connection named like its connector that can never call anybody: for rehearsals."""
        id_ = new_id()
        async with self._store.write() as c:
            await rows.add(
                c,
                id=id_,
                connector=connector_name,
                name=connector_name,
                app_id=None,
                account="rehearsal",
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
        """Register an app of ours: the webhook secrets that serve all of its connections."""
        await self.refresh(force=True)
        connector = self.connector(connector_name)
        if name in self._known.apps:
            raise ConnectionConfigError(f"there is an app {name} already; choose another name")
        secrets = connector.webhook.secrets if connector.webhook else ()
        if unknown := sorted(set(given) - set(secrets)):
            raise ConnectionConfigError(
                f"an app of {connector_name} has no field {unknown[0]}; it has {', '.join(secrets)}"
            )
        if not given:
            raise ConnectionConfigError(f"an app of {connector_name} needs one of {', '.join(secrets)}")
        id_ = new_id()
        async with self._store.write() as c:
            await rows.add_app(
                c,
                id=id_,
                connector=connector.name,
                name=name,
                inbound_key=new_inbound_key(),
                settings={},
                secret=self._vault.seal(given, id_),
                key_id=self._vault.key_id,
                created_at=self._clock.now_ms(),
            )
        await self.refresh(force=True)
        return self._known.apps[name]

    async def remove(self, name: str) -> Connection:
        """Forget a connection and its credentials; what calls it from now on waits for another one of its name.

        Its events and runs stay. Raises ConnectionConfigError when there is none.
        """
        connection = await self.by_name(name)
        async with self._store.write() as c:
            await rows.remove(c, connection.id, connection.name)
        await self.refresh(force=True)
        return connection

    async def reauthorise(self, name: str, given: Mapping[str, str]) -> Connection:
        """New credentials for a connection, of the same account; runs that waited for them go on."""
        connection = await self.by_name(name)
        if connection.sandbox:
            raise ConnectionConfigError(
                f"{name} is in sandbox mode; its credentials are generated and cannot be replaced"
            )
        connector = self.connector(connection.connector)
        kept = await self.fields(connection)
        kind, values = self._fields(
            connector, {**kept, **given}, sandbox=False, auth=connection.auth, inherited=connection.app_id is not None
        )
        if connector.account(values) != connection.account:
            raise ConnectionConfigError(
                f"these credentials are of the account {connector.account(values)}, the connection {name} is of "
                f"{connection.account}; add another connection for the other account"
            )
        secret_names = {f.name for f in (*connector.fields, *kind.fields) if f.secret}
        async with self._store.write() as c:
            await rows.replace_secret(
                c,
                connection.id,
                settings={k: v for k, v in values.items() if k not in secret_names},
                secret=self._vault.seal({k: v for k, v in values.items() if k in secret_names}, connection.id),
                key_id=self._vault.key_id,
            )
            await work.unpark(c, f"connection:{name}", self._clock.now_ms())
        await self.refresh(force=True)
        return self._known.connections[name]

    def connector(self, name: str) -> Connector:
        """A loaded connector. Raises ConnectionConfigError with the nearest name, or why its plugin is not loaded."""
        if name in self._catalogue.connectors:
            return self._catalogue.connectors[name]
        if name in self._catalogue.unusable:
            raise ConnectionConfigError(self._catalogue.unusable[name])
        raise ConnectionConfigError(
            f"there is no connector {name}{nearest(name, self._catalogue.connectors)}; `hub plugins` lists them"
        )

    def _fields(
        self, connector: Connector, given: Mapping[str, str], *, sandbox: bool, auth: str | None, inherited: bool
    ) -> tuple[Auth, dict[str, str]]:
        """The kind of auth that fits the fields given, and all values with defaults."""
        kinds = [a for a in connector.auth if auth in {None, a.name}]
        if not kinds:
            raise ConnectionConfigError(
                f"{connector.name} has no auth {auth}; it has {', '.join(a.name for a in connector.auth)}"
            )
        # The kind whose own fields cover most of what was given is the one that was meant.
        kind = max(kinds, key=lambda a: len({f.name for f in a.fields} & set(given)))
        fields = {f.name: f for f in (*connector.fields, *kind.fields)}
        for name in given:
            if name not in fields and name != "access_token":
                raise ConnectionConfigError(
                    f"{connector.name} has no field {name}{nearest(name, fields)}; it has {', '.join(fields)}"
                )
        webhook = connector.webhook.secrets if connector.webhook and inherited else ()
        values = {f.name: f.default for f in fields.values() if f.default is not None} | dict(given)
        for f in fields.values():
            if f.name not in values and f.required and not (sandbox and f.secret) and f.name not in webhook:
                raise ConnectionConfigError(_missing(connector, f))
            if f.name in values and f.pattern and not re.fullmatch(f.pattern, values[f.name]):
                raise ConnectionConfigError(f"{f.name} does not look like a {f.title}{f': {f.help}' if f.help else ''}")
        return kind, values

    # -- credentials -----------------------------------------------------------------------------------------------

    async def fields(self, owner: Connection | App) -> dict[str, str]:
        """Settings and secrets together, opened. Raises ConfigError when the key is not configured."""
        opened = self._known.opened.get(owner.id)
        if opened is None:
            sealed, key_id = self._known.sealed[owner.id]
            opened = {**owner.settings, **self._vault.open(bytes(sealed), owner.id, key_id)}
            self._known.opened[owner.id] = opened
        return opened

    async def webhook_secrets(self, owner: Connection | App) -> dict[str, str]:
        """The configured secrets that may verify a call to this owner's address; of the app where it has one."""
        webhook = self.connector(owner.connector).webhook
        names = webhook.secrets if webhook else ()
        values = await self.fields(owner)
        if isinstance(owner, Connection) and owner.app_id:
            app = next(a for a in self._known.apps.values() if a.id == owner.app_id)
            values = {**values, **await self.fields(app)}
        return {name: values[name] for name in names if values.get(name)}

    async def _authorised(self, connection: Connection, connector: Connector) -> tuple[Auth, dict[str, str]]:
        """The connection's fields with a token that is good for a while yet."""
        kind = next(a for a in connector.auth if a.name == connection.auth)
        if isinstance(kind, ClientCredentials):
            async with self._locks.setdefault(connection.id, asyncio.Lock()):
                connection = self._known.connections.get(connection.name, connection)
                expires = connection.token_expires_at_ms
                if expires is None or expires - _RENEW_EARLY_MS < int(time.time() * 1000):
                    await self._renew_once(connection, connector, kind)
        return kind, await self.fields(connection)

    async def _renew_once(self, connection: Connection, connector: Connector, kind: ClientCredentials) -> None:
        """Renew, unless another process does: then wait for its token. Raises NotSent when that takes too long.

        A token that is good for a while yet is used meanwhile. Who was killed over it is waited for until its lease ends.
        """
        epoch, owner = connection.token_epoch, new_id()
        for _ in range(_RENEW_LOOKS):
            if await self._lease_token(connection, owner):
                try:
                    await self._renew(connection, connector, kind)
                except BaseException:
                    async with self._store.write() as c:
                        await rows.free_token(c, connection.id, owner)
                    raise
                return
            await self.refresh(force=True)
            current = self._known.connections.get(connection.name, connection)
            good = (current.token_expires_at_ms or 0) > int(time.time() * 1000)
            if current.token_epoch != epoch or (good and self._refused.get(connection.id) != epoch):
                return
            await asyncio.sleep(_RENEW_LOOK_S)
        raise NotSent(f"another process is renewing the token of {connection.name}", retry_after_s=_RENEW_LEASE_S)

    async def _lease_token(self, connection: Connection, owner: str) -> bool:
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

    async def _renew(self, connection: Connection, connector: Connector, kind: ClientCredentials) -> None:
        """Exchange client id and secret for a token and store it before it is used."""
        assert self._transport is not None, "only processes that make calls renew tokens"
        values = await self.fields(connection)
        address = self._transport.address(kind.token_url(values), connector, sandbox=connection.sandbox)
        body = to_json(
            {
                "client_id": values["client_id"],
                "client_secret": values["client_secret"],
                "grant_type": "client_credentials",
            }
        )
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= sandbox_headers(kind.token_url(values)) if connection.sandbox else {}
        answer = await self._transport.send("POST", address, headers=headers, body=body, total_s=20)
        problem = error_for(answer)
        if problem is not None:
            raise (
                AuthExpired(f"no token for {connection.name}: the vendor answered {answer.status}")
                if (400 <= answer.status < 500 and answer.status != 429)
                else problem
            )
        got = answer.json()
        if not isinstance(got, dict) or "access_token" not in got:
            raise OutcomeUnknown(f"the token answer for {connection.name} holds no access_token")
        seams.reach("token.answered")
        secrets = self._vault.open(
            bytes(self._known.sealed[connection.id][0]), connection.id, self._known.sealed[connection.id][1]
        )
        secrets["access_token"] = str(got["access_token"])
        async with self._store.write() as c:
            await rows.store_token(
                c,
                connection.id,
                epoch=connection.token_epoch,
                secret=self._vault.seal(secrets, connection.id),
                key_id=self._vault.key_id,
                expires_at_ms=int((time.time() + float(got.get("expires_in", 3600))) * 1000),
            )
        self._renewed[connection.id] = time.monotonic()
        await self.refresh(force=True)

    async def renew_refused(self, connection: Connection) -> bool:
        """After a refused call: renew a token that can be renewed and is older than a minute; whether that was done."""
        connector = self.connector(connection.connector)
        kind = next(a for a in connector.auth if a.name == connection.auth)
        if not isinstance(kind, ClientCredentials):
            return False
        async with self._locks.setdefault(connection.id, asyncio.Lock()):
            current = self._known.connections.get(connection.name, connection)
            if current.token_epoch != connection.token_epoch:
                return True
            if time.monotonic() - self._renewed.get(connection.id, float("-inf")) < _RENEWED_LATELY_S:
                return False
            self._refused[connection.id] = current.token_epoch
            await self._renew_once(current, connector, kind)
        return True

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
            raise ConnectionConfigError(f"{connector.name} has no way to test a connection")
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
        kind, values = await self._authorised(connection, connector)

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
            http=ConnectionHttp(
                transport=self._transport,
                connector=connector,
                connection_id=connection.id,
                credentials=values,
                authorisation=kind.headers(values),
                sandbox=connection.sandbox,
                total_s=total_s,
                deadline=deadline,
                **({"noted": partial(self._noted, connection.name, connector)} if self._noted else {}),
            ),
            now_ms=self._clock.now_ms(),
            reference=reference,
            idempotency_key=idempotency_key,
            intended_at_ms=intended_at_ms,
            callback_url=self.inbound_url(connection),
            sightings=seek,
        )


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
    )
