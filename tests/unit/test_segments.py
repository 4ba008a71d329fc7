"""The files of the spool: whatever a crash or a bad disk leaves, what was whole is found and what was not is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.segments import Damaged, Segment, frame, unframe

_RECORDS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


def _whole(raw: bytes) -> list[bytes]:
    return [one for one in unframe(raw) if isinstance(one, bytes)]


def _damaged(raw: bytes) -> list[bytes]:
    return [one.raw for one in unframe(raw) if isinstance(one, Damaged)]


@given(_RECORDS)
def test_what_was_written_is_read(records: list[bytes]) -> None:
    assert list(unframe(b"".join(map(frame, records)))) == records


@given(_RECORDS, st.data())
def test_a_file_cut_off_anywhere_holds_the_records_before_the_cut_and_no_damage(
    records: list[bytes], data: st.DataObject
) -> None:
    raw = b"".join(map(frame, records))
    cut = data.draw(st.integers(0, len(raw)))
    found = list(unframe(raw[:cut]))
    assert found == records[: len(found)]
    assert len(b"".join(map(frame, records[: len(found) + 1]))) > cut or len(found) == len(records)


@given(_RECORDS, st.integers(1, 200))
def test_space_that_was_never_written_is_a_torn_end(records: list[bytes], zeros: int) -> None:
    raw = b"".join(map(frame, records))
    assert list(unframe(raw + bytes(zeros))) == records


@given(_RECORDS, st.integers(1, 255), st.data())
def test_a_changed_byte_costs_its_own_record_and_is_kept(records: list[bytes], flip: int, data: st.DataObject) -> None:
    # given a file in which one byte of one record was changed
    frames = [frame(record) for record in records]
    which = data.draw(st.integers(0, len(frames) - 1))
    at = data.draw(st.integers(0, len(frames[which]) - 1))
    hurt = bytearray(frames[which])
    hurt[at] ^= flip
    raw = b"".join([*frames[:which], bytes(hurt), *frames[which + 1 :]])
    # then every other record is found, and the changed one is given as it is
    assert _whole(raw) == [*records[:which], *records[which + 1 :]]
    assert _damaged(raw) == [bytes(hurt)]


def test_records_count_once_the_disk_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment.create(tmp_path)
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fsync", lambda at: synced.append((at, os.fstat(at).st_size)))
    # given records that are written, then all of them are synced before they count
    segment.append([b"one", b"two"])
    assert synced == [(segment.descriptor, segment.size)]

    def full(_: int) -> None:
        raise OSError(errno.EIO, "the disk does not answer")

    # when the disk cannot say that it has them, none of them counts or is left in the file
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="does not answer"):
        segment.append([b"three"])
    assert (segment.records, _whole(segment.read())) == (2, [b"one", b"two"])
    segment.close()
