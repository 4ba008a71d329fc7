"""The statements that a hub sends to its database, recorded at the driver while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

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
    """What is executed over connections that are taken from the pools from now on."""
    found: Statements = {}
    heard: set[int] = set()

    def keep(statement: str, parameters: tuple[Any, ...]) -> None:
        if not statement.lstrip().upper().startswith(_NOT_OURS) and _CLOCK not in statement:
            found.setdefault(statement, parameters)

    def listen(dbapi_connection: Any, *_: object) -> None:
        driver = dbapi_connection.driver_connection
        if id(driver) in heard:
            return
        heard.add(id(driver))
        if store.dialect == "postgresql":
            driver.add_query_logger(lambda record: keep(record.query, _one(record.args)))
        else:
            dbapi_connection.run_async(lambda c: c.set_trace_callback(lambda text: keep(text, ())))

    engines = {id(e): e.sync_engine for e in (store.writer, store._reader)}.values()
    for engine in engines:
        event.listen(engine, "checkout", listen)
    try:
        yield found
    finally:
        for engine in engines:
            event.remove(engine, "checkout", listen)


def _one(parameters: Any) -> tuple[Any, ...]:
    """One execution's parameters: of a statement for many rows, the first's."""
    return tuple(parameters[0] if isinstance(parameters, list) else parameters)
