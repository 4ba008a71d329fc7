"""Credentials at rest."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from hub.errors import ConfigError
from hub.settings import load_settings
from hub.vault import Vault, generate_key, keys_from_file, make_vault

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


def test_who_moved_to_a_server_is_told_where_the_keys_are(tmp_path: Path) -> None:
    keys_from_file(tmp_path / "keys")
    settings = load_settings(data_dir=tmp_path, database_url="postgresql://hub@localhost/hub")
    with pytest.raises(ConfigError, match=f"set it to the keys in {tmp_path / 'keys'}, separated by commas"):
        make_vault(settings)


@pytest.mark.parametrize("length", [0, 5, 40, 75])
def test_what_was_cut_off_is_told_like_what_was_changed(length: int) -> None:
    vault = Vault([generate_key()])
    sealed = vault.seal(RECORD, "c-1")
    with pytest.raises(ConfigError, match="do not open"):
        vault.open(sealed[:length], "c-1", vault.key_id)


def test_processes_that_begin_at_the_same_moment_make_one_key(tmp_path: Path) -> None:
    for n in range(20):
        file, begin = tmp_path / str(n) / "keys", Barrier(8)

        def make(file: Path = file, begin: Barrier = begin) -> list[str]:
            begin.wait()
            return keys_from_file(file)

        with ThreadPoolExecutor(8) as pool:
            found = [one.result() for one in [pool.submit(make) for _ in range(8)]]
        assert [len(keys) for keys in found] == [1] * 8
        assert len({keys[0] for keys in found}) == 1
        assert [one.name for one in file.parent.iterdir()] == ["keys"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_key_file_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as FAT answers

    monkeypatch.setattr(os, "link", refused)
    test_processes_that_begin_at_the_same_moment_make_one_key(tmp_path)


def test_a_key_file_that_could_not_be_written_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            keys_from_file(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()
    assert len(keys_from_file(tmp_path / "keys")) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]
