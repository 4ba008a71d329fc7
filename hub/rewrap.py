"""After a change of keys: credentials sealed with an older key are sealed again with the first one, while the hub runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from hub.errors import ConfigError
from hub.store import connections as rows
from hub.store import pulse
from hub.store.session import Store
from hub.vault import Vault


async def rewrap(store: Store, vault: Vault, *, progress: Callable[[int, int], None] = lambda done, all_: None) -> int:
    """Seal every record with the first key; returns how many were not.

    Raises ConfigError for a key that is not configured, and while a process is at work that does not know the first one.

    `progress` is told how many are done, of how many.

    A token that is renewed meanwhile is left as it is, and looked at again: it may have been sealed by a process that does
    not know the new key yet.
    """
    await _known_to_all(store, vault)
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


async def _known_to_all(store: Store, vault: Vault) -> None:
    async with store.read() as c:
        alive = await pulse.processes(c, int(time.time() * 1000))
    # A process of an older release does not tell which keys it knows.
    behind = [one.process for one in alive if vault.key_id not in one.tally.get("keys", [vault.key_id])]
    if behind:
        which = ", ".join(f"{one.kind} {one.id[-8:]}" for one in behind)
        raise ConfigError(
            f"a process at work does not know the key {vault.key_id} and could not open what it seals: {which}; restart it "
            "with the HUB_KEYS of this command, then run this again (`hub top --once` shows the processes)"
        )
