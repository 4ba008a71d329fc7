"""Local times: the offset of the target instant, gaps and overlaps, weekdays."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.clock import parse_time_ms, rfc3339, to_datetime
from hub.steps.local_time import WEEKDAYS, local_time, parse_time, zone_named


def next_time(now: str, at: str, zone: str, *weekdays: str) -> str:
    found = local_time(parse_time_ms(now), parse_time(at), ZoneInfo(zone), weekdays)
    return rfc3339(found).replace(".000Z", "Z")


@pytest.mark.parametrize(
    ("now", "at", "zone", "weekdays", "then"),
    [
        ("2026-11-22T05:00:00Z", "09:00", "Europe/Istanbul", (), "2026-11-22T06:00:00Z"),
        ("2026-11-22T06:00:00Z", "09:00", "Europe/Istanbul", (), "2026-11-22T06:00:00Z"),
        ("2026-11-22T06:00:01Z", "09:00", "Europe/Istanbul", (), "2026-11-23T06:00:00Z"),
        # 22 November 2026 is a Sunday
        ("2026-11-22T05:00:00Z", "09:00", "Europe/Istanbul", ("mon", "tue"), "2026-11-23T06:00:00Z"),
        ("2026-11-22T05:00:00Z", "09:00", "Europe/Istanbul", ("sat",), "2026-11-28T06:00:00Z"),
        # already Monday there
        ("2026-11-22T10:00:00Z", "00:30", "Pacific/Kiritimati", ("mon",), "2026-11-22T10:30:00Z"),
        # the offset is that of the instant waited for: summer time begins in between
        ("2027-03-27T12:00:00Z", "09:00", "Europe/Berlin", (), "2027-03-28T07:00:00Z"),
        ("2026-10-24T12:00:00Z", "09:00", "Europe/Berlin", (), "2026-10-25T08:00:00Z"),
        # 02:30 is skipped on 28 March 2027: the first instant after the gap
        ("2027-03-27T12:00:00Z", "02:30", "Europe/Berlin", (), "2027-03-28T01:00:00Z"),
        ("2027-03-13T12:00:00Z", "02:30", "America/New_York", (), "2027-03-14T07:00:00Z"),
        ("2026-10-03T12:00:00Z", "02:15", "Australia/Lord_Howe", (), "2026-10-03T15:30:00Z"),
        # 02:30 comes twice on 25 October 2026: the first
        ("2026-10-24T12:00:00Z", "02:30", "Europe/Berlin", (), "2026-10-25T00:30:00Z"),
        ("2026-10-31T12:00:00Z", "01:30", "America/New_York", (), "2026-11-01T05:30:00Z"),
        # the whole of 30 December 2011 is skipped in Samoa
        ("2011-12-30T09:00:00Z", "09:00", "Pacific/Apia", (), "2011-12-30T10:00:00Z"),
    ],
)
def test_the_next_time_a_clock_shows_an_hour(
    now: str, at: str, zone: str, weekdays: tuple[str, ...], then: str
) -> None:
    assert next_time(now, at, zone, *weekdays) == then


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Tehran", "America/Santiago"]
ZONES += ["Europe/Istanbul", "UTC", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca"]


@given(
    st.integers(parse_time_ms("2005-01-01T00:00:00Z"), parse_time_ms("2030-01-01T00:00:00Z")),
    st.integers(0, 1439),
    st.sampled_from(ZONES),
    st.sets(st.sampled_from(WEEKDAYS)),
)
def test_it_is_the_first_such_instant_in_any_zone(now_ms: int, minute: int, name: str, weekdays: set[str]) -> None:
    # given a time of day and a zone
    at, zone = time(minute // 60, minute % 60), ZoneInfo(name)
    # when the next such instant is looked for
    found = local_time(now_ms, at, zone, weekdays)
    wall = to_datetime(found).astimezone(zone)
    before = to_datetime(found - 1).astimezone(zone)
    # then it is not in the past, and the clock there shows that time, or has just jumped over it
    assert found >= now_ms
    shown = wall.time().replace(fold=0) == at
    jumped = before.replace(tzinfo=None) < datetime.combine(wall.date(), at) < wall.replace(tzinfo=None) or (
        wall.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(minutes=1)
    )
    assert shown or jumped
    if shown:
        assert wall.fold == 0
        assert not weekdays or WEEKDAYS[wall.weekday()] in weekdays
    # and there was none on the days before
    if not weekdays:
        assert found - now_ms <= 50 * 3_600_000


@pytest.mark.parametrize("text", ["9:00", "24:00", "09:60", "09:00:00", "nine"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 09:00 or 17:30"):
        parse_time(text)


@pytest.mark.parametrize("name", [None, "", "Mars/Base", "../../etc/passwd", "/etc/passwd", "Europe"])
def test_what_is_no_zone_is_none(name: str | None) -> None:
    assert zone_named(name) is None
