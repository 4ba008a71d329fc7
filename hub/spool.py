"""The spool: verified deliveries that the database cannot take now, on this machine's disk until it can.

A delivery counts as kept when it is synced. Replay stores it through the same T1 as any other, so that one which was
stored already changes nothing, and a file goes only when all that is in it is stored.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from hub import seams, segments
from hub.errors import ConfigError, StoreUnavailable
from hub.segments import Damaged, Depth, Segment
from hub.store.events import Incoming
from hub.store.grouped import Grouped
from hub.vault import Vault

SEGMENT_BYTES = 4_000_000
REPLAY_GROUP = 100
_OWNER = "spool"
_KEY_ID = 8
# After the disk refused, it is not asked again for so long.
_SHUT_S = 1.0
_ORPHANS_EVERY_S = 10.0
_LOOK_S = 0.5

_log = logging.getLogger(__name__)


class SpoolShut(StoreUnavailable):
    """The spool is full or its disk cannot be written. Nothing of this was kept; try again."""


class Spool:
    """The spool of one process. Several processes may share a folder: each file is locked by the one that holds it.

    Make it with `open`; `close` at the end leaves what is held to the next start.
    """

    def __init__(self, folder: Path, vault: Vault, *, most_bytes: int) -> None:
        self._folder, self._vault, self._most_bytes = folder, vault, most_bytes
        self._group: Grouped[bytes, None] = Grouped(self._append, most=500, bound=2000)
        self._left: list[Segment] = []
        self._current: Segment | None = None
        self._coming = 0
        self._is_open = False
        self._writing = asyncio.Lock()
        self._shut_until = self._orphans_at = float("-inf")

    async def open(self) -> None:
        """Make the folder and take what earlier processes left. Raises ConfigError when it cannot be used."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._adopt()
            self._is_open = True
        except OSError as error:
            raise ConfigError(
                f"the spool's folder {self._folder} cannot be used: {error.strerror}; make it writable, or set "
                "HUB_SPOOL_DIR to another one"
            ) from error

    def close(self) -> None:
        """Let go of all files; what they hold is replayed after the next start."""
        for segment in self._segments:
            segment.close()
        self._left, self._current, self._is_open = [], None, False

    @property
    def _segments(self) -> list[Segment]:
        return [*self._left, *([self._current] if self._current else [])]

    @property
    def depth(self) -> Depth:
        """What this process holds."""
        held = [one for one in self._segments if one.records]
        oldest = min((segments.began_ms(one.path) for one in held), default=None)
        return Depth(sum(one.records for one in held), sum(one.size for one in held), oldest)

    @property
    def accepts(self) -> bool:
        """Whether a delivery would be taken now, as far as is known."""
        return self._is_open and self._bytes < self._most_bytes and time.monotonic() >= self._shut_until

    @property
    def _bytes(self) -> int:
        return sum(one.size for one in self._segments) + self._coming

    # -- keeping ---------------------------------------------------------------------------------------------------

    async def keep(self, delivery: Incoming, *, patience_s: float | None = None) -> None:
        """Write a delivery and sync it, together with those that come at the same moment. Raises StoreUnavailable."""
        sealed = self._seal(delivery)
        if not self.accepts or self._bytes + len(sealed) > self._most_bytes:
            raise SpoolShut()
        self._coming += len(sealed)
        try:
            await self._group.submit(sealed, patience_s=patience_s)
        finally:
            self._coming -= len(sealed)
        seams.reach("spool.written")

    def _seal(self, delivery: Incoming) -> bytes:
        text = to_json(delivery, bytes_mode="base64").decode()
        return self._vault.key_id.encode() + self._vault.seal({"delivery": text}, _OWNER)

    async def _append(self, records: Sequence[bytes]) -> Sequence[None]:
        async with self._writing:
            try:
                self._current = await asyncio.to_thread(_written, self._current, self._folder, records)
            except OSError as error:
                self._shut_until = time.monotonic() + _SHUT_S
                raise SpoolShut(f"the spool cannot be written: {error.strerror}") from error
            if self._current.size >= SEGMENT_BYTES:
                self._rotate()
        return [None] * len(records)

    def _rotate(self) -> None:
        if self._current is not None:
            self._left.append(self._current)
            self._current = None

    # -- replaying -------------------------------------------------------------------------------------------------

    async def replay(self, store: Callable[[Sequence[Incoming]], Awaitable[object]]) -> int:
        """Store what is held, oldest first; returns how many. Raises StoreUnavailable when that cannot be, or no more."""
        done = 0
        while (segment := await self._oldest()) is not None:
            done += await self._replay(segment, store)
            self._left.remove(segment)
        return done

    async def _oldest(self) -> Segment | None:
        if time.monotonic() - self._orphans_at > _ORPHANS_EVERY_S:
            await self._adopt()
        if not self._left:
            async with self._writing:
                self._rotate()
        return min(self._left, key=lambda one: one.path.name, default=None)

    async def _adopt(self) -> None:
        """Take files that no process has in hand any more."""
        self._orphans_at = time.monotonic()
        mine = {one.path for one in self._segments}
        self._left += await asyncio.to_thread(_taken, self._folder, mine)

    async def _replay(self, segment: Segment, store: Callable[[Sequence[Incoming]], Awaitable[object]]) -> int:
        try:
            found = list(segments.unframe(await asyncio.to_thread(segment.read)))
        except OSError as error:
            raise StoreUnavailable(f"the spool cannot be read: {error.strerror}") from error
        aside: list[bytes] = []
        done = 0
        for group in _groups(found, REPLAY_GROUP):
            deliveries = [one for record in group if (one := self._opened(record, aside)) is not None]
            if done:
                seams.reach("spool.replaying")
            if deliveries:
                await store(deliveries)
            done += len(deliveries)
        seams.reach("spool.replayed")
        await asyncio.to_thread(_end, segment, aside)
        if aside:
            _log.error(
                "part of the spool cannot be read; it is kept beside the spool",
                extra={
                    "what": "spool_damaged",
                    "file": segment.path.with_suffix(segments.BAD).name,
                    "pieces": len(aside),
                },
            )
        return done

    def _opened(self, record: bytes | Damaged, aside: list[bytes]) -> Incoming | None:
        """The delivery of a record; what is none goes to `aside`, as it stands in the file."""
        if isinstance(record, Damaged):
            aside.append(record.raw)
            return None
        try:
            opened = self._vault.open(record[_KEY_ID:], _OWNER, record[:_KEY_ID].decode())
            return _delivery(opened["delivery"])
        except (ConfigError, ValidationError, ValueError, KeyError):
            # Of another key or of a release that is too new: reported by the caller, and read again when it is renamed.
            aside.append(segments.frame(record))
            return None


@cache
def _incoming() -> TypeAdapter[Incoming]:
    return TypeAdapter(Incoming)


def _delivery(text: str) -> Incoming:
    """A delivery as it was kept. Raises ValidationError, ValueError."""
    raw = from_json(text)
    body = raw.pop("body", None)
    delivery = _incoming().validate_python(raw)
    return delivery if body is None else replace(delivery, body=base64.urlsafe_b64decode(body))


def _written(current: Segment | None, folder: Path, records: Sequence[bytes]) -> Segment:
    segment = current or Segment.create(folder)
    try:
        segment.append(records)
    except OSError:
        if current is None:
            segment.remove()
        raise
    return segment


def _taken(folder: Path, but: set[Path]) -> list[Segment]:
    found = (Segment.take(path) for path in sorted(folder.glob(f"*{segments.SUFFIX}")) if path not in but)
    return [segment for segment in found if segment is not None]


def _end(segment: Segment, aside: Sequence[bytes]) -> None:
    if aside:
        segment.set_aside(aside)
    segment.remove()


def _groups(found: Sequence[bytes | Damaged], size: int) -> Iterator[Sequence[bytes | Damaged]]:
    for start in range(0, len(found), size):
        yield found[start : start + size]


async def replaying(spool: Spool, store: Callable[[Sequence[Incoming]], Awaitable[object]]) -> None:
    """Replay for as long as the process runs."""
    while True:
        try:
            if done := await spool.replay(store):
                _log.info("the spool was replayed", extra={"what": "spool_replayed", "deliveries": done})
        except (StoreUnavailable, OSError) as error:
            # The door says once that the database is away; this is asked every half second.
            _log.debug("the spool waits", extra={"what": "spool_waits", "error": str(error)})
        except Exception:  # one bad replay must not end all later ones
            _log.exception("the spool cannot be replayed; trying again", extra={"what": "spool_failed"})
        await asyncio.sleep(_LOOK_S)
