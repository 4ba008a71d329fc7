"""Finding connections and apps, cached: other processes' changes are seen within a second."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from pydantic_core import from_json

from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339, to_datetime
from hub.connections.accounts import App, Connection, connection_of
from hub.connections.versions import Ending, ending_of
from hub.connector import Connector
from hub.errors import ConnectionConfigError, NoSuchApp, NoSuchConnection, NoSuchConnector, StoreUnavailable
from hub.store import breakers
from hub.store import connections as rows
from hub.store.session import Store

_LOOK_AGAIN_S = 1.0
# A webhook is verified with what is known rather than wait longer than this for what may have changed.
_READ_PATIENCE_S = 0.5

_log = logging.getLogger(__name__)


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


class Finding:
    """The connections and apps of this hub, as read last."""

    def __init__(self, store: Store, catalogue: Catalogue, clock: Clock) -> None:
        self._store, self._catalogue, self._clock = store, catalogue, clock
        self._known = _Known()
        self._reading = asyncio.Lock()
        self._rereading: asyncio.Future[None] | None = None
        self._missed_at = float("-inf")

    # -- reading ---------------------------------------------------------------------------------------------------

    async def refresh(self, *, force: bool = False) -> None:
        """Read again what changed, at most once a second; callers go on with what is known while somebody reads."""
        if force or self._known.generation < 0:
            async with self._reading:
                if force or not self._is_fresh:
                    await self._read()
        elif not self._is_fresh and not self._reading.locked():
            self._rereading = asyncio.ensure_future(self._read_again())
            await asyncio.wait((self._rereading,), timeout=_READ_PATIENCE_S)

    def look_again(self) -> None:
        """Somebody changed a connection in a transaction of theirs: whoever asks next reads it."""
        self._known.looked_at = float("-inf")

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
            known.connections[row["name"]] = connection = connection_of(row)
            known.by_key[connection.inbound_key] = connection
            known.sealed[connection.id] = (row["secret"], row["key_id"])
        for row in apps:
            app = App(row["id"], row["name"], row["connector"], from_json(row["settings"]), row["inbound_key"])
            known.apps[app.name] = known.by_key[app.inbound_key] = app
            known.sealed[app.id] = (row["secret"], row["key_id"])
        self._known = known

    # -- connections -----------------------------------------------------------------------------------------------

    async def all(self) -> list[Connection]:
        """Every connection, by name."""
        await self.refresh()
        return list(self._known.connections.values())

    async def names(self) -> dict[str, list[str]]:
        """Connection names by connector: what recipes are bound to."""
        names: dict[str, list[str]] = {}
        for connection in await self.all():
            names.setdefault(connection.connector, []).append(connection.name)
        return names

    async def healths(self) -> dict[str, tuple[str, str | None]]:
        """The health of every connection that is not quite well, by name, and why: it needs somebody, or rests. As stored."""
        await self.refresh(force=True)
        async with self._store.read() as c:
            rests = await breakers.everything(c)
        found = {r.connection: ("resting", f"until {rfc3339(r.until_ms)}: {r.reason}") for r in rests.values()}
        return found | {
            c.name: (c.health, c.health_reason) for c in self._known.connections.values() if c.health != "ok"
        }

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

    def siblings(self, connection: Connection) -> list[Connection]:
        """The other connections of its app, as last read."""
        if connection.app_id is None:
            return []
        every = self._known.connections.values()
        return [c for c in every if c.app_id == connection.app_id and c.name != connection.name]

    async def ending(self, name: str) -> Ending | None:
        """Whether the version of its vendor's API that a connection uses ends within ninety days, or has ended."""
        connection = await self.by_name(name)
        # Vendors know nothing of a clock that jumps.
        today = to_datetime(self._clock.now_ms() - self._clock.offset_ms).date()
        return ending_of(name, connection.settings, self.connector(connection.connector), today)

    # -- apps and connectors ---------------------------------------------------------------------------------------

    async def apps(self) -> list[App]:
        """Every app, by name."""
        await self.refresh()
        return list(self._known.apps.values())

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

    def _app_of(self, connection: Connection) -> App | None:
        return next((app for app in self._known.apps.values() if app.id == connection.app_id), None)

    def connector(self, name: str) -> Connector:
        """A loaded connector. Raises NoSuchConnector with the nearest name, ConnectionConfigError if its plugin is unusable."""
        if name in self._catalogue.connectors:
            return self._catalogue.connectors[name]
        if name in self._catalogue.unusable:
            raise ConnectionConfigError(self._catalogue.unusable[name])
        raise NoSuchConnector(
            f"there is no connector {name}{nearest(name, self._catalogue.connectors)}; `hub plugins` lists them"
        )
