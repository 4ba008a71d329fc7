"""Changing connections and apps: adding and removing them, giving them other settings and credentials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic_core import to_json

from hub.catalogue import nearest
from hub.connections.accounts import App, Connection
from hub.connections.fields import app_values, auth_of, check_pattern, parted, require_client, secret_names, values_of
from hub.connections.using import Using
from hub.connector import TOKEN_FIELDS, Auth, Connector, OAuth2, sandbox_secret
from hub.errors import ConnectionConfigError, HubError, NoSuchApp
from hub.ids import new_id, new_inbound_key
from hub.store import connections as rows
from hub.store import subscriptions, work
from hub.store.lanes import Lane, Rank
from hub.store.session import Connection as Transaction

T = TypeVar("T")

# The longest that somebody who removes a connection waits for its subscriptions to be deleted.
_UNSUBSCRIBE_S = 20.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removed:
    """A connection that was there. `revoked` says whether its vendor took the token back, `unsubscribed` how many of its
    subscriptions were deleted there, `problem` what could not be done."""

    connection: Connection
    revoked: bool
    unsubscribed: int
    problem: str | None


class Connections(Using):
    """The connections and apps of this hub: found, used and changed."""

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
        kind, values = values_of(connector, given, sandbox=sandbox, auth=auth, inherited=app is not None)
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
        id_ = new_id()
        settings, secrets = parted(connector, kind, values)
        while True:
            await self.require_free(name)
            if taken := self.of_account(connector.name, account, None):
                raise ConnectionConfigError(
                    f"the account {account} is connected already, as {taken.name}; use that one, or give it new credentials "
                    f"by `hub connections reauthorise {taken.name}`"
                )
            app_id = (await self.app_by_name(app)).id if app else None
            sealed, key_id = self.seal(secrets, id_)
            async with self._store.write() as c:
                if app_id is not None and not await rows.keep_app(c, app_id):
                    continue
                done = await rows.add(
                    c,
                    id=id_,
                    connector=connector.name,
                    name=name,
                    app_id=app_id,
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
                if done:
                    await self._attend(c, name, connector)
                    # Those that met a connection of this name that was removed.
                    await work.unpark(c, f"connection:{name}", self._clock.now_ms())
            # Else somebody connected one of this name or account, or removed the app, in this moment: that is told next.
            if done:
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

    # -- changing --------------------------------------------------------------------------------------------------

    async def change(self, name: str, given: Mapping[str, str]) -> Connection:
        """Other settings for a connection: fields that are no secret, and do not say which account it is.

        Raises ConnectionConfigError naming the field.
        """
        while not await self._changed(await self.by_name(name), given):
            # Somebody changed others of them, or removed it, in this moment.
            await self.refresh(force=True)
        await self.refresh(force=True)
        return await self.by_name(name)

    async def _changed(self, connection: Connection, given: Mapping[str, str]) -> bool:
        name, connector = connection.name, self.connector(connection.connector)
        kind = auth_of(connector, connection.auth)
        fields = {f.name: f for f in (*connector.fields, *kind.fields)}
        secret = secret_names(connector, kind)
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
            check_pattern(fields[field_name], given[field_name])
        known = await self.fields(connection)
        values = {**known, **given}
        # What the vendor said whose account it is need not be what the fields say.
        if connector.account(values) != connector.account(known):
            raise ConnectionConfigError(
                f"that would make {name} a connection of the account {connector.account(values)}; add another connection "
                "for the other account"
            )
        async with self._store.write() as c:
            if await rows.settings(c, connection.id) != connection.settings:
                return False
            await rows.replace_settings(c, connection.id, {**connection.settings, **given})
        return True

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
        kind, values = values_of(
            connector, {**kept, **given}, sandbox=False, auth=connection.auth, inherited=connection.app_id is not None
        )
        if isinstance(kind, OAuth2) and "access_token" not in given:
            raise ConnectionConfigError(
                f"{name} is authorised in the browser: begin with `hub connections reauthorise {name}` or "
                f"POST /api/v1/connections/{name}/authorise"
            )
        return await self.replace(connection, connector, kind, connector.account(values), values)

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
        settings, secrets = parted(connector, kind, values)
        sealed, key_id = self.seal(secrets, connection.id)
        async with self._store.write() as c:
            await rows.replace_secret(
                c,
                connection.id,
                settings=settings,
                secret=sealed,
                key_id=key_id,
                at_ms=self._clock.now_ms(),
                token_expires_at=token_expires_at_ms,
                scopes=scopes,
            )
            await work.unpark(c, f"connection:{connection.name}", self._clock.now_ms())
            await subscriptions.hasten(c, self._clock.now_ms(), connection.name)
        await self.refresh(force=True)
        return self._known.connections[connection.name]

    # -- removing --------------------------------------------------------------------------------------------------

    async def remove(self, name: str) -> Removed:
        """Forget a connection and its credentials; what calls it from now on waits for another one of its name.

        Its subscriptions are deleted at the vendor first, then a token that the vendor takes back is given back. Its events
        and runs stay. Raises ConnectionConfigError when there is none.
        """
        connection = await self.by_name(name)
        unsubscribed, kept = await self._tried(connection, self._unsubscribe(connection), 0)
        revoked, held = await self._tried(connection, self.tokens.revoke(connection), False)
        async with self._store.write() as c:
            await rows.remove(c, connection.id, connection.name)
        await self.refresh(force=True)
        left = kept and self._left(connection, kept)
        problems = dict.fromkeys(problem for problem in (left, held) if problem)
        return Removed(connection, revoked, unsubscribed, "; ".join(problems) or None)

    async def _tried(self, connection: Connection, attempt: Awaitable[T], otherwise: T) -> tuple[T, str | None]:
        """What came of it, and what went wrong: a vendor that is away, a plugin that is gone or fails, keeps nobody from
        forgetting an account."""
        try:
            return await attempt, None
        except HubError as error:
            return otherwise, str(error)
        except TimeoutError:
            return otherwise, f"it took longer than {_UNSUBSCRIBE_S:.0f} s"
        except Exception as error:  # a plugin may raise anything
            _log.exception(
                "an account was forgotten without its vendor",
                extra={"what": "removing_failed", "connection": connection.name, "connector": connection.connector},
            )
            return (
                otherwise,
                f"the plugin {connection.connector} failed ({type(error).__name__}); the hub's log says where",
            )

    def _left(self, connection: Connection, why: str) -> str:
        """What somebody has to do about subscriptions that stay at the vendor: nobody here can call there any more."""
        address = self.inbound_url(connection) or f"an address that ends in {connection.inbound_key}"
        return (
            f"its subscriptions at {connection.connector} were not all deleted ({why}): delete there what calls {address}; "
            "until then such calls are refused here"
        )

    async def _unsubscribe(self, connection: Connection) -> int:
        """Delete a connection's subscriptions at the vendor; returns how many there were. Raises ConnectorError, TimeoutError."""
        kept = self.connector(connection.connector).subscriptions
        if kept is None:
            return 0
        # Nobody is to make them anew meanwhile.
        async with self._store.write() as c:
            await rows.drop_work(c, subscriptions.KIND, connection.name)
        addresses, count = self.addresses(connection), 0
        async with asyncio.timeout(_UNSUBSCRIBE_S):
            context = await self.context(connection)
            for one in await kept.list(context):
                if addresses.is_ours(one.address) and not self._serves_others(connection, one.topic):
                    await kept.delete(context, one)
                    count += 1
        return count

    async def is_leaving(self, connection: Connection, topic: str) -> bool:
        """Whether somebody removes a connection, or has, and with it a subscription: what is made now would outlive it."""
        if self._serves_others(connection, topic):
            return False
        async with self._store.read() as c:
            return not await subscriptions.are_looked_after(c, connection.id)

    def _serves_others(self, connection: Connection, topic: str) -> bool:
        """Whether a subscription serves other connections of the app, too."""
        kept = self.connector(connection.connector).subscriptions
        return kept is not None and kept.is_shared(topic) and bool(self.siblings(connection))

    # -- apps ------------------------------------------------------------------------------------------------------

    async def add_app(self, connector_name: str, name: str, given: Mapping[str, str]) -> App:
        """Register an app of ours, which serves many connections: its webhook secrets, its client id and secret."""
        connector = self.connector(connector_name)
        settings, secrets = app_values(connector, given)
        require_client(connector, given)
        id_ = new_id()
        while True:
            await self.refresh(force=True)
            if name in self._known.apps:
                raise ConnectionConfigError(f"there is an app {name} already; choose another name")
            async with self._store.write() as c:
                done = await rows.add_app(
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
            # Else somebody registered one of this name in this moment.
            if done:
                await self.refresh(force=True)
                return self._known.apps[name]

    async def set_app(self, name: str, given: Mapping[str, str]) -> App:
        """Change fields of an app, for all of its connections at once; the others stay. Raises ConnectionConfigError."""
        while True:
            await self.refresh(force=True)
            app = await self.app_by_name(name)
            connector = self.connector(app.connector)
            settings, secrets = app_values(connector, given)
            was, _ = self._known.sealed[app.id]
            settings, secrets = {**app.settings, **settings}, {**self.secrets(app), **secrets}
            require_client(connector, {**settings, **secrets})
            sealed, key_id = self.seal(secrets, app.id)
            async with self._store.write() as c:
                done = await rows.replace_app(c, app.id, was=was, settings=settings, secret=sealed, key_id=key_id)
            # Else somebody changed it, or sealed it with another key, in this moment.
            if done:
                await self.refresh(force=True)
                return self._known.apps[name]

    async def remove_app(self, name: str) -> App:
        """Forget an app and its secrets. Raises ConnectionConfigError while connections belong to it, naming them."""
        app = await self.app_by_name(name)
        async with self._store.write() as c:
            await rows.keep_app(c, app.id)
            if used := await rows.connections_of(c, app.id):
                raise ConnectionConfigError(
                    f"the app {name} serves the connection{'s' if len(used) > 1 else ''} {', '.join(used)}; "
                    "`hub connections remove` them first"
                )
            await rows.remove_app(c, app.id)
        await self.refresh(force=True)
        return app
