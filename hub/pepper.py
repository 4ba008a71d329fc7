"""The secret under which erased people are known: their identities are kept as hashes that nobody can make without it.

It lies in the database, sealed like credentials. It also seals what is still to be done about somebody who is being erased.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from hub.errors import ConfigError
from hub.store import tombstones
from hub.store.session import Store
from hub.vault import Vault

_ID = "erased"


class Pepper:
    """Hashes identities, and seals records until they are not needed any more."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._vault = Vault([base64.b64encode(hmac.digest(secret, b"work", hashlib.sha256)).decode()])

    def hash(self, kind: str, value: str) -> str:
        """The name of an identity that says nothing about it: 64 hexadecimal digits."""
        return hmac.digest(self._secret, f"{kind}\0{value}".encode(), hashlib.sha256).hex()

    def seal(self, record: Mapping[str, str], owner: str) -> str:
        """A record as text that only `open` with the same owner can read."""
        return base64.b64encode(self._vault.seal(record, owner)).decode()

    def open(self, sealed: str, owner: str) -> dict[str, str]:
        """The record. Raises ConfigError when it is not this owner's."""
        return self._vault.open(base64.b64decode(sealed), owner, self._vault.key_id)


async def load(store: Store, vault: Vault) -> Pepper:
    """This hub's pepper, made when there is none; the store hashes with it from now on.

    Raises ConfigError when it does not open: then nobody who was erased would be recognised.
    """
    async with store.read() as c:
        kept = await tombstones.pepper(c, _ID)
    if kept is None:
        made = vault.seal({"pepper": secrets.token_hex(32)}, _ID)
        async with store.write() as c:
            await tombstones.keep_pepper(c, _ID, made, vault.key_id)
            kept = await tombstones.pepper(c, _ID)
    assert kept is not None, "it was just made, here or by another process"
    try:
        opened = vault.open(bytes(kept["secret"]), _ID, kept["key_id"])
    except ConfigError as error:
        async with store.write() as c:
            lost = await tombstones.drop_unused_pepper(c, _ID)
        if lost:
            return await load(store, vault)
        raise ConfigError(
            f"people who were erased cannot be recognised: their hashes need key {kept['key_id']}, which HUB_KEYS does not "
            "hold; add that key again"
        ) from error
    pepper = Pepper(bytes.fromhex(opened["pepper"]))
    store.hashed = pepper.hash
    return pepper
