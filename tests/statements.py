"""The statements that a hub sends to its database, recorded at the driver while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hub.store.drivers import Driver, Postgres
from hub.store.pools import Pool
from hub.store.session import Store

Statements = dict[str, tuple[Any, ...]]
"""Each statement once, in the order of its first execution, with that execution's parameters in order.

On SQLite the parameters stand in the text already.
"""

# Said by the driver, or only asked by the clock of development mode.
_NOT_OURS = ("BEGIN", "COMMIT", "ROLLBACK", "SET ", "PRAGMA", "--")
_CLOCK = "in_hand"


@contextmanager
def recorded(store: Store) -> Iterator[Statements]:
    """What is executed over connections that are lent from now on."""
    found: Statements = {}
    lending = store._writer, store._reader
    store._writer, store._reader = (_Heard(pool, found) for pool in lending)
    try:
        yield found
    finally:
        store._writer, store._reader = lending


class _Heard:
    """A pool whose connections tell what they execute."""

    def __init__(self, pool: Pool, found: Statements) -> None:
        self._pool, self._found = pool, found

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Driver]:
        async with self._pool.lend() as driver:
            connection: Any = driver._connection  # type: ignore[attr-defined]  # both kinds have one
            if isinstance(driver, Postgres):
                connection.add_query_logger(self._said)
                yield driver
                connection.remove_query_logger(self._said)
            else:
                await connection.set_trace_callback(lambda text: self._keep(text, ()))
                yield driver
                await connection.set_trace_callback(None)

    def _said(self, record: Any) -> None:
        # Of a statement for many rows the first execution's.
        first = record.args[0] if isinstance(record.args, list) else record.args
        self._keep(record.query, tuple(first))

    def _keep(self, statement: str, parameters: tuple[Any, ...]) -> None:
        if not statement.lstrip().upper().startswith(_NOT_OURS) and _CLOCK not in statement:
            self._found.setdefault(statement, parameters)

    async def close(self) -> None:
        await self._pool.close()
