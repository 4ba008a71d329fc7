"""Encryption of credentials at rest: AES-256-GCM with a data key per record, wrapped by a key of the operator's.

The owner's id is associated data, so that a ciphertext moved to another row does not open.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.errors import ConfigError
from hub.settings import Settings

_NONCE = 12
_WRAPPED = _NONCE + 32 + 16


def generate_key() -> str:
    """A new key: 32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Vault:
    """Seals and opens records. `keys` are base64, the first one seals; at least one is needed."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigError("HUB_KEYS is not set; make a key with `hub keys generate` and keep it safe")
        self._keys = {_key_id(raw): AESGCM(raw) for raw in map(_decode, keys)}
        self.key_id = next(iter(self._keys))

    @property
    def key_ids(self) -> list[str]:
        """The ids of all keys, the one that seals first."""
        return list(self._keys)

    def seal(self, record: Mapping[str, str], owner: str) -> bytes:
        """A record of secrets as bytes that only `open` with the same owner can read."""
        data_key = secrets.token_bytes(32)
        wrap_nonce, nonce = os.urandom(_NONCE), os.urandom(_NONCE)
        aad = owner.encode()
        wrapped = self._keys[self.key_id].encrypt(wrap_nonce, data_key, aad)
        sealed = AESGCM(data_key).encrypt(nonce, json.dumps(dict(record)).encode(), aad)
        return wrap_nonce + wrapped + nonce + sealed

    def open(self, sealed: bytes, owner: str, key_id: str) -> dict[str, str]:
        """The record. Raises ConfigError when its key is not configured or the bytes are not this owner's."""
        key = self._keys.get(key_id)
        if key is None:
            raise ConfigError(
                f"the credentials of {owner} are encrypted with key {key_id}, which HUB_KEYS does not hold; "
                "add that key again, or connect the account anew"
            )
        aad = owner.encode()
        try:
            data_key = key.decrypt(sealed[:_NONCE], sealed[_NONCE:_WRAPPED], aad)
            body = AESGCM(data_key).decrypt(sealed[_WRAPPED : _WRAPPED + _NONCE], sealed[_WRAPPED + _NONCE :], aad)
        except (InvalidTag, ValueError):  # of what was cut off not even the nonce may be there
            raise ConfigError(
                f"the credentials of {owner} do not open: they were changed or belong to another row; give "
                "new ones by `hub connections reauthorise NAME`"
            ) from None
        opened: dict[str, str] = json.loads(body)
        return opened


def _decode(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigError("a key in HUB_KEYS is not 32 bytes in base64; make one with `hub keys generate`")
    return raw


def _key_id(raw: bytes) -> str:
    return hashlib.sha256(b"tetik-hub key id" + raw).hexdigest()[:8]


def keys_from_file(path: Path) -> list[str]:
    """The embedded hub's keys, one a line; the file is made with a new key, readable by its owner only, if it is missing."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                _write_whole(path, generate_key() + "\n")
    return path.read_text().split()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Be the only process here; of several that begin at once all use the key of the first.

    Without an error the lock file goes: whoever still waits for it, or makes it anew, finds the keys.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _write_whole(path: Path, text: str) -> None:
    """A file that is whole from the moment at which it is there, on whatever file system, also when the power fails."""
    made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def make_vault(settings: Settings) -> Vault:
    """The keys of this hub. Embedded ones live in the data directory; distributed ones must be set."""
    keys, file = [key.get_secret_value() for key in settings.keys], settings.data_dir / "keys"
    if not keys and settings.embedded:
        keys = keys_from_file(file)
    if not keys and file.exists():
        raise ConfigError(
            f"HUB_KEYS is not set; if this database was copied from the hub of {settings.data_dir}, set it to the keys in "
            f"{file}, separated by commas, else to a new one of `hub keys generate`"
        )
    return Vault(keys)
