"""The schema's versions: what the database has and what this release needs. The way from one to the other is `migrate`'s."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hub.errors import StoreError
from hub.store.session import Store

# The row of `meta` with the oldest revision whose code can work on the schema as it is.
KEY = "serves"
_VERSIONS = Path(__file__).parent / "migrations" / "versions"


@dataclass(frozen=True)
class SchemaStatus:
    """`current` is the database's revision (None: empty), `needed` this release's, `behind` the revisions between.

    During a rolling deploy `current` may be one of the next release, which serves this one.
    """

    current: str | None
    needed: str
    behind: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether this release can run on the database."""
        return not self.behind


async def status(store: Store) -> SchemaStatus:
    """Where the database stands. Raises StoreUnavailable; StoreError when it no longer serves this release."""
    current = await _current(store)
    known = revisions()
    if current is not None and current not in known:
        async with store.read() as c:
            word = await c.first("select value from meta where key = :key", key=KEY)
        serves = word["value"] if word else current
        if serves not in known:
            raise StoreError(
                f"the database is at revision {current}, which serves releases from revision {serves} on; this one knows "
                f"{known[-1]} at most: upgrade tetik-hub"
            )
        return SchemaStatus(current, known[-1], ())
    behind = known[known.index(current) + 1 :] if current else known
    return SchemaStatus(current, known[-1], tuple(behind))


@cache
def revisions() -> tuple[str, ...]:
    """Every revision that this release knows, oldest first. Their files are named by them, so that nothing is imported."""
    return tuple(sorted(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*_*.py")))


async def _current(store: Store) -> str | None:
    exists = (
        "select to_regclass('alembic_version') is not null as there"
        if store.dialect == "postgresql"
        else "select count(*) > 0 as there from sqlite_master where name = 'alembic_version'"
    )
    async with store.read() as c:
        found = await c.first(exists)
        row = await c.first("select version_num from alembic_version") if found and found["there"] else None
    return row["version_num"] if row else None


async def require_ready(store: Store) -> None:
    """Raise StoreError, naming the command that mends it, unless the schema is what this release needs."""
    found = await status(store)
    if not found.ready:
        raise StoreError(
            f"the database is {'empty' if found.current is None else f'at revision {found.current}'} and this release "
            f"needs {found.needed}; run `hub db upgrade`"
        )


async def require_ready_or_memory(store: Store) -> None:
    """As `require_ready`; a database in memory has no revisions and is always of this release."""
    if not store.in_memory:
        await require_ready(store)
