"""Reading a connection's past: asking for it, how far it has come, giving it up. Who reads is `hub.sources`.

The past fills in what is known of people and since when. It is never routed: it starts, wakes and ends no run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from hub import shown
from hub.catalogue import Catalogue, nearest
from hub.clock import Clock, rfc3339
from hub.connections import Connection, Connections
from hub.errors import ConfigError
from hub.store import histories, work
from hub.store.histories import KIND, Progress
from hub.store.lanes import Lane, Rank
from hub.store.session import Row, Store
from hub.store.work import NEVER_MS


class Backfills:
    """The readings of this hub's connections. `ring` is called when there is something to do."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        catalogue: Catalogue,
        clock: Clock,
        *,
        ring: Callable[[], None],
    ) -> None:
        self._store, self._connections, self._catalogue, self._clock = store, connections, catalogue, clock
        self._ring = ring

    async def begin(
        self, name: str, *, since_ms: int, only: Collection[str] = (), again: bool = False
    ) -> list[shown.Backfill]:
        """Have a connection's past read since an instant, of these triggers only if any are named.

        What is being read already since then or longer goes on where it is; what was read so far back is left alone,
        unless `again`. Raises ConfigError when there is no past to read.
        """
        connection = await self._connections.by_name(name)
        types = self._types(connection, only)
        now_ms, lane = self._clock.now_ms(), str(Lane(connection=name, rank=Rank.BULK))
        async with self._store.write() as c:
            going = await histories.under_way(c, (_ref(name, type_) for type_ in types))
            known = {type_: row["since"] for type_, row in (await histories.read_of(c, connection.id)).items()}
            wanted = [
                {"kind": KIND, "ref": ref, "queue": lane, "due_at": now_ms, "data": Progress(since_ms).json()}
                for type_ in types
                for ref in [_ref(name, type_)]
                if (ref not in going or Progress.of(going[ref]["data"]).since_ms > since_ms)
                and (again or type_ not in known or known[type_] > since_ms)
            ]
            await work.put(c, wanted)
        self._ring()
        return await self.status(name)

    async def status(self, name: str) -> list[shown.Backfill]:
        """How far each trigger's past was read, in the order in which the connector declares them."""
        connection = await self._connections.by_name(name)
        types = self._types(connection, ())
        async with self._store.read() as c:
            going = await histories.under_way(c, (_ref(name, type_) for type_ in types))
            done = await histories.read_of(c, connection.id)
        now_ms = self._clock.now_ms()
        return [_told(type_, going.get(_ref(name, type_)), done.get(type_), now_ms) for type_ in types]

    async def stop(self, name: str, *, only: Collection[str] = ()) -> int:
        """Give up what is being read; what was stored stays. Returns how many readings there were."""
        types = self._types(await self._connections.by_name(name), only)
        async with self._store.write() as c:
            return await histories.stop(c, (_ref(name, type_) for type_ in types))

    def _types(self, connection: Connection, only: Collection[str]) -> list[str]:
        """The event types whose past can be read; those of `only`, which may leave the connector's name out."""
        connector = self._connections.connector(connection.connector)
        known = {f"{connector.name}.{name}": name for name in connector.histories}
        if not known:
            raise ConfigError(
                f"{connector.name} does not tell its past; what happens from now on is stored, and nothing is to be done"
            )
        given = [one if one in known else f"{connector.name}.{one}" for one in only]
        for one in given:
            if one not in known:
                raise ConfigError(
                    f"the past of {one} cannot be read{nearest(one, known)}; that of {', '.join(known)} can"
                )
        return [type_ for type_ in known if type_ in (given or known)]


def _ref(name: str, type_: str) -> str:
    return f"{name}|{type_}"


def _told(type_: str, going: Row | None, done: Row | None, now_ms: int) -> shown.Backfill:
    """One reading as people are told of it; of one that is going on its own numbers, else those of the last one's end."""
    data = going["data"] if going else done["progress"] if done else None
    progress = None if data is None else Progress.of(data)
    state, again_ms = "done" if done else "never", None
    if going:
        parked, waits = going["parked_on"] is not None, going["owner"] is None and going["due_at"] > now_ms
        state = "parked" if parked else "waiting" if waits else "reading"
        again_ms = going["due_at"] if state == "waiting" and going["due_at"] < NEVER_MS else None
    return {
        "event": type_,
        "state": state,
        "since_at": _when(progress.since_ms if progress else None),
        "pages": progress.pages if progress else 0,
        "items": progress.items if progress else 0,
        "new": progress.new if progress else 0,
        "oldest_at": _when(progress.oldest_ms if progress else None),
        "newest_at": _when(progress.newest_ms if progress else None),
        "problem": progress.problem if progress else None,
        "again_at": _when(again_ms),
        "finished_at": _when(done["finished_at"] if done else None),
    }


def _when(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
