"""Credentials at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hub.errors import ConfigError
from hub.vault import Vault, generate_key, keys_from_file

RECORD = {"token": "canary-secret-1"}


def test_what_is_sealed_opens_for_its_owner_only() -> None:
    vault = Vault([generate_key()])
    sealed = vault.seal(RECORD, "connection-1")
    assert b"canary" not in sealed
    assert vault.open(sealed, "connection-1", vault.key_id) == RECORD
    with pytest.raises(ConfigError, match="belong to another row"):
        vault.open(sealed, "connection-2", vault.key_id)


def test_a_changed_byte_does_not_open() -> None:
    vault = Vault([generate_key()])
    sealed = bytearray(vault.seal(RECORD, "c"))
    sealed[-1] ^= 1
    with pytest.raises(ConfigError, match="do not open"):
        vault.open(bytes(sealed), "c", vault.key_id)


def test_an_older_key_still_reads_while_the_newest_writes() -> None:
    old, new = generate_key(), generate_key()
    before = Vault([old])
    sealed = before.seal(RECORD, "c")
    both = Vault([new, old])
    assert both.open(sealed, "c", before.key_id) == RECORD
    assert both.key_id != before.key_id


def test_a_missing_key_says_which_one_and_what_to_do() -> None:
    before = Vault([generate_key()])
    sealed = before.seal(RECORD, "c")
    with pytest.raises(ConfigError, match=f"key {before.key_id}, which HUB_KEYS does not hold"):
        Vault([generate_key()]).open(sealed, "c", before.key_id)


@pytest.mark.parametrize("keys", [[], ["short"], ["bm90IDMyIGJ5dGVz"]])
def test_no_key_or_a_bad_one_is_refused(keys: list[str]) -> None:
    with pytest.raises(ConfigError, match="hub keys generate"):
        Vault(keys)


def test_the_embedded_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "data" / "keys"
    assert keys_from_file(file) == keys_from_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
