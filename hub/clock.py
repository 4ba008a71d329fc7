"""Hub time: milliseconds since 1970 UTC, real time plus one offset that only development mode may move."""

from __future__ import annotations

import re
import time
from calendar import monthrange
from datetime import UTC, datetime

DAY_MS = 24 * 3_600_000
"""The milliseconds of 24 hours; a local day may have more or fewer."""
_LONGEST_MS = 36_525 * DAY_MS
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
_PART = re.compile(r"(\d+)\s*(ms|min|s|m|h|d|w)")
_DURATION = re.compile(r"\s*-?(?:\d+\s*(?:ms|min|s|m|h|d|w)\s*)+")


class Clock:
    """The one clock that a process's composition root hands to everything that needs the time.

    `offset_ms` is what hub time is ahead of real time (development mode jumps it); `skew_ms` what the database's clock
    is ahead of this machine's, so that all processes agree.
    """

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Hub time now."""
        return int(time.time() * 1000) + self.skew_ms + self.offset_ms


class FrozenClock(Clock):
    """A clock that stands still until told to move: rehearsals and tests."""

    def __init__(self, now_ms: int) -> None:
        super().__init__()
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms + self.offset_ms


def parse_duration_ms(text: str) -> int:
    """`24h`, `1d 12h`, `-3d`, `500ms` in milliseconds, at most a hundred years. Raises ValueError with what was expected."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write a number and a unit, such as 30s, 15m, 24h, 3d or 2w")
    total = sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
    # Dates end with the year 9999.
    if total > _LONGEST_MS:
        raise ValueError(f"{text} is longer than a hundred years; write less")
    return -total if text.strip().startswith("-") else total


def parse_since_ms(text: str, now_ms: int) -> int:
    """An instant in the past: `24mo`, `2y` or `90d` before now, or a date (`2024-11-22`). Raises ValueError."""
    if found := re.fullmatch(r"\s*(\d{1,4})\s*(mo|y)\s*", text):
        months = int(found[1]) * (12 if found[2] == "y" else 1)
        now = to_datetime(now_ms)
        # Months of a year; a day that the month does not have is its last.
        whole = now.year * 12 + now.month - 1 - months
        if whole < 12 * 1970:
            raise ValueError(f"{text} ago is before 1970; write less")
        year, month = divmod(whole, 12)
        day = min(now.day, monthrange(year, month + 1)[1])
        return to_ms(now.replace(year=year, month=month + 1, day=day))
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
        since_ms = to_ms(datetime.fromisoformat(text.strip()).replace(tzinfo=UTC))
    else:
        try:
            since_ms = now_ms - parse_duration_ms(text)
        except ValueError as error:
            raise ValueError(
                f"{text!r} says not since when; write 24mo, 2y, 90d or a date such as 2024-11-22"
            ) from error
    if not 0 <= since_ms <= now_ms:
        raise ValueError(f"{text} lies in the future, or before 1970; write an instant between")
    return since_ms


def format_duration(ms: int) -> str:
    """A length of time for people: `24h` stays `24h`, 90,000 ms is `1m 30s`; the two largest units are enough."""
    if ms < 1_000:
        return f"{ms}ms"
    parts: list[str] = []
    rest = ms
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def to_datetime(ms: int) -> datetime:
    """Milliseconds since 1970 as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: datetime) -> int:
    """An aware datetime as milliseconds since 1970. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is ambiguous; add Z or an offset such as +03:00")
    return round(moment.timestamp() * 1000)


def parse_time_ms(text: str) -> int:
    """An RFC 3339 instant (`2026-11-22T10:00:00Z`) as milliseconds since 1970. Raises ValueError."""
    return to_ms(datetime.fromisoformat(text))


def rfc3339(ms: int) -> str:
    """Milliseconds since 1970 in RFC 3339, UTC, to the millisecond."""
    return to_datetime(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
