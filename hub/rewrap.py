"""After a change of keys: credentials sealed with an older key are sealed again with the first one, while the hub runs."""

from __future__ import annotations

from collections.abc import Callable

from hub.store import connections as rows
from hub.store.session import Store
from hub.vault import Vault


async def rewrap(store: Store, vault: Vault, *, progress: Callable[[int, int], None] = lambda done, all_: None) -> int:
    """Seal every record with the first key; returns how many were not. Raises ConfigError for a key that is not configured.

    `progress` is told how many are done, of how many.

    A token that is renewed meanwhile is left as it is, and looked at again: it may have been sealed by a process that does
    not know the new key yet.
    """
    done = 0
    while True:
        async with store.read() as c:
            old = await rows.sealed_otherwise(c, vault.key_id)
        if not old:
            return done
        # Open all of them first: one whose key is missing stops everything before anything is changed.
        opened = [vault.open(bytes(row["secret"]), row["id"], row["key_id"]) for row in old]
        before = done
        for row, record in zip(old, opened, strict=True):
            async with store.write() as c:
                sealed = vault.seal(record, row["id"])
                done += await rows.reseal(
                    c, row["kind"], row["id"], was=row["secret"], secret=sealed, key_id=vault.key_id
                )
            progress(done, before + len(old))
