"""Our filters: money, dates in a zone, phones, hashes, and time plus a duration.

They keep no cause of a TextError: Python's messages repeat the value, which is somebody's data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.clock import parse_duration_ms, parse_time_ms, rfc3339, to_datetime
from hub.events import Money, e164
from hub.text.values import TextError, as_text, money_of

_NUMERAL = re.compile(r"\s*-?\d+(\.\d+)?\s*")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def filter_money(value: object, currency: str | None = None) -> str:
    """Money as `50.00 EUR`; a number of minor units needs its currency."""
    if money := money_of(value):
        return str(money)
    if isinstance(value, int) and currency:
        return str(Money(amount_minor=value, currency=currency))
    try:
        return str(Money.parse(str(value)))
    except ValueError:
        raise TextError("money: the value is no money; write an amount and a currency, such as 50.00 EUR") from None


def _moment(value: object, name: str) -> datetime:
    try:
        if isinstance(value, str) and len(value) == len("2026-11-22"):
            return datetime.combine(date.fromisoformat(value), datetime.min.time(), ZoneInfo("UTC"))
        return to_datetime(parse_time_ms(str(value)))
    except (ValueError, OverflowError):
        raise TextError(f"{name}: the value is no time; a time looks like 2026-11-22T10:00:00Z") from None


# Directives that read alike in every language; names of months and days would need a locale.
_DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "Y": lambda t: f"{t.year:04}",
    "y": lambda t: f"{t.year % 100:02}",
    "m": lambda t: f"{t.month:02}",
    "d": lambda t: f"{t.day:02}",
    "e": lambda t: f"{t.day}",
    "H": lambda t: f"{t.hour:02}",
    "I": lambda t: f"{(t.hour + 11) % 12 + 1:02}",
    "M": lambda t: f"{t.minute:02}",
    "S": lambda t: f"{t.second:02}",
    "j": lambda t: f"{t.timetuple().tm_yday:03}",
    "z": lambda t: t.strftime("%z"),
    "%": lambda t: "%",
}


def filter_date(value: object, format: str, zone: str = "UTC") -> str:
    """A time in a zone: `{{ trigger.occurred_at | date: "%d.%m.%Y %H:%M", zone: "Europe/Istanbul" }}`."""
    moment = _moment(value, "date")
    try:
        moment = moment.astimezone(_zone(zone or "UTC"))
    except (OverflowError, ValueError):
        raise TextError("date: the time lies outside of the years that there are") from None
    return "".join(piece if isinstance(piece, str) else piece(moment) for piece in _pieces(str(format)))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise TextError("date: there is no such zone; a zone looks like Europe/Istanbul") from None


def _pieces(format: str) -> list[str | Callable[[datetime], str]]:
    """A format's characters and directives. Raises TextError for a directive that is none."""
    pieces, left = list[str | Callable[[datetime], str]](), iter(format)
    for character in left:
        directive = next(left, "") if character == "%" else ""
        if character == "%" and directive not in _DIRECTIVES:
            raise TextError(f"date: %{directive} is not known; use %{', %'.join(_DIRECTIVES)}")
        pieces.append(_DIRECTIVES[directive] if directive else character)
    return pieces


def check_date(format: str | None = None, zone: str | None = None) -> None:
    """Raises TextError for a written format or zone that is none; None stands for what only the run knows."""
    _pieces(format or "")
    _zone(zone or "UTC")


def check_plus(other: str | None = None) -> None:
    """Raises TextError for a written text that is neither a number nor a duration."""
    if other is None or _NUMERAL.fullmatch(other):
        return
    try:
        parse_duration_ms(other)
    except ValueError as error:
        raise TextError(f"plus: {error}") from None


def filter_e164(value: object, region: str | None = None) -> str:
    """A phone number as +14155550100; `region` (TR) for numbers without a +."""
    number = e164(str(value), region)
    if number is None:
        raise TextError("e164: the value is no phone number")
    return number


def filter_sha256(value: object) -> str:
    """The SHA-256 of a text, in hex."""
    return hashlib.sha256(as_text(value).encode()).hexdigest()


def shifting(plus: Callable[..., object]) -> Callable[..., object]:
    """Liquid's `plus`, which also moves a time by a duration."""

    def filter_plus(value: object, other: object) -> object:
        """A sum; a time plus a duration (`plus: '14d'`) is a time."""
        if not isinstance(value, str):
            return plus(value, other)
        try:
            shift_ms = parse_duration_ms(str(other))
        except ValueError:
            if _DAY.match(value):
                raise TextError("plus: a time and something that is no duration; a duration looks like 14d") from None
            return plus(value, other)
        return rfc3339(round(_moment(value, "plus").timestamp() * 1000) + shift_ms)

    return filter_plus
