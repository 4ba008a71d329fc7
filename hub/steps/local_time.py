"""The next time a clock on somebody's wall shows an hour."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.clock import to_datetime, to_ms

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def parse_time(text: str) -> time:
    """`09:00` as a time of day. Raises ValueError with what was expected."""
    if match := _TIME.fullmatch(text):
        return time(int(match[1]), int(match[2]))
    raise ValueError(f"{text!r} is no time of day; write it as 09:00 or 17:30")


@lru_cache(maxsize=512)
def zone_named(name: str | None) -> ZoneInfo | None:
    """The zone of an IANA name such as Europe/Istanbul, or None when there is none of that name."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def local_time(now_ms: int, at: time, zone: ZoneInfo, weekdays: Collection[str] = ()) -> int:
    """The first instant from `now_ms` on at which it is `at` in `zone`, on one of `weekdays` (none: any day), in ms.

    The zone's offset is the one of that instant. A time that a clock change skips is the first instant after the gap; of
    a time that comes twice it is the first.
    """
    day = to_datetime(now_ms).astimezone(zone).date() - timedelta(days=1)
    while True:
        if not weekdays or WEEKDAYS[day.weekday()] in weekdays:
            instant_ms = _instant_ms(datetime.combine(day, at), zone)
            if instant_ms >= now_ms:
                return instant_ms
        day += timedelta(days=1)


def _instant_ms(wall: datetime, zone: ZoneInfo) -> int:
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return to_ms(instant)
    return _end_of_gap_ms(wall, zone)


def _end_of_gap_ms(wall: datetime, zone: ZoneInfo) -> int:
    """The instant at which the clock jumps over `wall`: the first at which it shows more."""
    # The two readings of a skipped time (offset before and after the jump) lie on both sides of the jump.
    low, high = sorted(to_ms(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    while high - low > 1:
        middle = (low + high) // 2
        if to_datetime(middle).astimezone(zone).replace(tzinfo=None) > wall:
            high = middle
        else:
            low = middle
    return high
