"""Files that records are appended to: what was synced is found again after a crash, what was torn or damaged is recognised.

A record is a head (mark, length, checksum of the record, checksum of the head) and its bytes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hub.ids import new_id

SUFFIX, BAD = ".spool", ".bad"
_MARK = b"\xf5hub"
_HEAD = struct.Struct(">4sIII")


@dataclass(frozen=True)
class Damaged:
    """Bytes of a file that are no record. They may once have been one, so they are kept."""

    raw: bytes


def frame(record: bytes) -> bytes:
    """A record as it stands in a file."""
    start = _HEAD.pack(_MARK, len(record), zlib.crc32(record), 0)[:-4]
    return start + zlib.crc32(start).to_bytes(4, "big") + record


def unframe(raw: bytes) -> Iterator[bytes | Damaged]:
    """The records of a file in order. What is damaged is given as such; a torn end was never confirmed and is left out."""
    at = 0
    while at < len(raw):
        record = _record_at(raw, at)
        if record is not None:
            yield record
            at += _HEAD.size + len(record)
            continue
        after = _next_record(raw, at)
        rest = raw[at:after]
        if after == len(raw) and _is_torn(rest):
            return
        yield Damaged(rest)
        at = after


def _record_at(raw: bytes, at: int) -> bytes | None:
    length = _length_at(raw, at)
    if length is None:
        return None
    record = raw[at + _HEAD.size : at + _HEAD.size + length]
    (checksum,) = struct.unpack_from(">I", raw, at + 8)
    return record if len(record) == length and zlib.crc32(record) == checksum else None


def _length_at(raw: bytes, at: int) -> int | None:
    """How long the record is that a whole head at this place announces, if there is one."""
    head = raw[at : at + _HEAD.size]
    if len(head) < _HEAD.size or head[:4] != _MARK or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "big"):
        return None
    return int.from_bytes(head[4:8], "big")


def _next_record(raw: bytes, at: int) -> int:
    """Where the next whole record begins; the end of the file when none does."""
    while (at := raw.find(_MARK, at + 1)) != -1:
        if _record_at(raw, at) is not None:
            return at
    return len(raw)


def _is_torn(rest: bytes) -> bool:
    """Whether this is the end of a file whose writing was cut off: part of a head, of a record, or space not yet written."""
    length = _length_at(rest, 0)
    if length is not None:
        return len(rest) < _HEAD.size + length
    return (len(rest) < _HEAD.size and _MARK.startswith(rest[:4])) or not any(rest)


@dataclass
class Segment:
    """One file in the hands of this process: locked, so that no other process reads or removes it."""

    path: Path
    descriptor: int
    size: int = 0
    records: int = 0

    @classmethod
    def create(cls, folder: Path) -> Segment:
        """A new file. Raises OSError."""
        path = folder / f"{new_id()}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:
                # Somebody took it for one left behind, in the instant before it was locked.
                raise FileNotFoundError(f"{path.name} was removed by another process")
            _sync_folder(folder)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def take(cls, path: Path) -> Segment | None:
        """A file that was left behind; None when another process has it in hand or was quicker. Raises OSError."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not os.fstat(descriptor).st_nlink:
            os.close(descriptor)
            return None
        taken = cls(path, descriptor)
        taken.size = os.fstat(descriptor).st_size
        taken.records = sum(isinstance(one, bytes) for one in unframe(taken.read()))
        return taken

    def append(self, records: Sequence[bytes]) -> None:
        """Write records and sync them. Raises OSError; then none of them counts."""
        whole = b"".join(map(frame, records))
        try:
            written = 0
            while written < len(whole):
                written += os.write(self.descriptor, whole[written:])
            os.fsync(self.descriptor)
        except OSError:
            os.ftruncate(self.descriptor, self.size)
            raise
        self.size += len(whole)
        self.records += len(records)

    def read(self) -> bytes:
        """The whole file. Raises OSError."""
        return self.path.read_bytes()

    def set_aside(self, raw: Sequence[bytes]) -> None:
        """Keep bytes beside the file, synced, in one that is not read again by itself. Raises OSError."""
        descriptor = os.open(self.path.with_suffix(BAD), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(raw))
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)

    def remove(self) -> None:
        """Delete the file and let go of it. Raises OSError."""
        self.path.unlink()
        _sync_folder(self.path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Depth:
    """What a folder holds: records and bytes to be stored, since when (ms, None: nothing), and files set aside."""

    records: int = 0
    bytes: int = 0
    oldest_ms: int | None = None
    bad: Sequence[str] = field(default=())


def survey(folder: Path) -> Depth:
    """What a folder holds, whoever writes it now. Raises OSError."""
    records = size = 0
    oldest: int | None = None
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            continue  # it was replayed this moment
        records += sum(isinstance(one, bytes) for one in unframe(raw))
        size += len(raw)
        oldest = oldest or (began_ms(path) if raw else None)
    return Depth(records, size, oldest, tuple(path.name for path in sorted(folder.glob(f"*{BAD}"))))


def began_ms(path: Path) -> int:
    """When a file was begun, real time: its name is a UUID of version 7. The file's own time if somebody renamed it."""
    digits = path.stem.replace("-", "")[:12]
    try:
        return int(digits, 16)
    except ValueError:
        return int(path.stat().st_mtime * 1000)
