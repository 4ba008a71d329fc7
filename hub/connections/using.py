"""Using connections: opening their credentials, giving code its way out, and noting how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hub.catalogue import Catalogue
from hub.clock import Clock
from hub.connections.accounts import App, Connection
from hub.connections.addresses import Addresses
from hub.connections.fields import parted, secrets_of
from hub.connections.finding import Finding
from hub.connections.tokens import Tokens
from hub.connector import Account, ActionContext, Auth, Connector, StaticToken
from hub.deadline import Deadline
from hub.errors import AuthExpired, ConnectionConfigError, NoSuchConnection
from hub.events import Json
from hub.http import Answer, ConnectionHttp, Transport
from hub.store import connections as rows
from hub.store import events, work
from hub.store import rota as rotas
from hub.store.session import Row, Store
from hub.vault import Vault

# What is left unknown of a secret of this length is still too much to be guessed.
_HINTED_FROM, _SHOWN = 12, 4


@dataclass(frozen=True)
class SecretHint:
    """Of a secret whether it is stored, and how it ends; `ends_with` is None where that would tell too much of it."""

    name: str
    is_set: bool
    ends_with: str | None


class Using(Finding):
    """Connections with their credentials and their way to the vendor; `noted` is told what came of each request."""

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
        super().__init__(store, catalogue, clock)
        self._vault, self._transport, self._public_url, self._noted = vault, transport, public_url, noted
        self.tokens = Tokens(store, clock, self, transport)

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

    @property
    def key_ids(self) -> list[str]:
        """The ids of the keys that open credentials here."""
        return self._vault.key_ids

    async def fields(self, owner: Connection | App) -> dict[str, str]:
        """Settings and secrets together, opened. Raises ConfigError when the key is not configured."""
        opened = self._known.opened.get(owner.id)
        if opened is None:
            opened = {**owner.settings, **self.secrets(owner)}
            self._known.opened[owner.id] = opened
        return opened

    async def client_fields(self, connection: Connection) -> dict[str, str]:
        """A connection's fields together with those of its app."""
        values = await self.fields(connection)
        app = self._app_of(connection)
        return values if app is None else {**values, **await self.fields(app)}

    async def hints(self, owner: Connection | App) -> list[SecretHint]:
        """Of each secret that an owner has or can have, whether it is stored and how it ends: to tell which one is in force.

        Opened for this alone, and kept nowhere. Raises ConfigError when the key is not configured.
        """
        stored = self.secrets(owner)
        connector = self._catalogue.connectors.get(owner.connector)
        names = secrets_of(connector, owner) if connector is not None else []
        return [_hint(name, stored.get(name, "")) for name in dict.fromkeys([*names, *sorted(stored)])]

    async def webhook_secrets(self, owner: Connection | App) -> dict[str, str]:
        """The configured secrets that may verify a call to this owner's address; of the app where it has one."""
        webhook = self.connector(owner.connector).webhook
        names = webhook.secrets if webhook else ()
        values = await (self.client_fields(owner) if isinstance(owner, Connection) else self.fields(owner))
        return {name: values[name] for name in names if values.get(name)}

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
        app_http = None
        if connector.app_auth is not None:
            app = self._app_of(connection)
            both = values if app is None else {**values, **await self.fields(app)}
            if all(both.get(f.name) for f in connector.app_auth.fields):
                app_http = self._http(
                    connection, connector, connector.app_auth, both, total_s=total_s, deadline=deadline
                )

        async def sightings(type_: str) -> Sequence[Mapping[str, Json]]:
            async with self._store.read() as c:
                found = await events.found_by_key(c, type_, f"reference={reference}")
            return [e.data for e in found if e.connection_id == connection.id]

        async def rota(name: str) -> int:
            async with self._store.write() as c:
                return await rotas.take(c, connection.id, name, reference, self._clock.now_ms())

        seek: Callable[[str], Awaitable[Sequence[Mapping[str, Json]]]] = sightings
        return ActionContext(
            connection=connection.name,
            connection_id=connection.id,
            account=connection.account,
            settings=connection.settings,
            http=http,
            app_http=app_http,
            now_ms=self._clock.now_ms(),
            reference=reference,
            idempotency_key=idempotency_key,
            intended_at_ms=intended_at_ms,
            callback_url=self.inbound_url(connection),
            sightings=seek,
            # Without a reference there is no effect whose repeat would be recognised.
            **({"rota": rota} if reference else {}),
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
        settings, _ = parted(connector, kind, values)
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

    # -- how it went -----------------------------------------------------------------------------------------------

    async def _renew(self, connection: Connection, refused: AuthExpired) -> None:
        """Renew a token that the vendor refused. Raises AuthExpired, by the connection's name, where that is in vain."""
        try:
            renewed = await self.tokens.renew_refused(connection)
        except AuthExpired as again:
            renewed, refused = False, again
        if not renewed:
            await self.unhealthy(connection, str(refused))
            raise _refused(connection.name, refused) from refused

    async def test(self, name: str) -> Account:
        """Ask the vendor whose account this is. Raises ConnectorError."""
        connection = await self.by_name(name)
        connector = self.connector(connection.connector)
        if connector.whoami is None:
            raise ConnectionConfigError(
                f"{connector.name} has no way to test a connection; `hub connections list` shows what its calls say"
            )
        try:
            account = await connector.whoami(await self.context(connection))
        except AuthExpired as error:
            await self._renew(connection, error)
            account = await connector.whoami(await self.context(self.current(connection)))
        kind = next((kind for kind in connector.auth if kind.name == connection.auth), None)
        ask = kind.granted if isinstance(kind, StaticToken) else None
        scopes = await ask(await self.context(connection), await self.fields(connection)) if ask else None
        async with self._store.write() as c:
            if ask is not None:
                await rows.set_scopes(c, connection.id, scopes, epoch=connection.token_epoch)
                await rows.changed(c)
            await rows.set_health(c, connection.id, "ok", None)
            await work.unpark(c, f"connection:{name}", self._clock.now_ms())
        if ask is not None:
            await self.refresh(force=True)
        return account

    async def unhealthy(self, connection: Connection, reason: str) -> bool:
        """Note that the account has to be connected again; False when it was, since these credentials were read."""
        async with self._store.write() as c:
            known = await rows.set_health(
                c, connection.id, rows.NEEDS_REAUTHORISATION, reason, epoch=connection.token_epoch
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


def _hint(name: str, secret: str) -> SecretHint:
    return SecretHint(name, bool(secret), secret[-_SHOWN:] if len(secret) >= _HINTED_FROM else None)


def _refused(name: str, error: AuthExpired) -> AuthExpired:
    """What is told of credentials that the vendor took back, by the connection's name."""
    why = f"the vendor no longer takes the credentials of {name}" if str(error) == str(AuthExpired()) else str(error)
    return AuthExpired(
        f"{why}; give new ones by `hub connections reauthorise {name}`",
        connector=error.connector,
        connection_id=error.connection_id,
        status=error.status,
    )
