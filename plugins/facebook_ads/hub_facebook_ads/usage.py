"""What Meta says about its own count of our calls: headers with percentages, and minutes until more are allowed.

Names and units: dev.fb "Rate limiting", read 2026-08; there is no Retry-After.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from hub import Json

_BUSINESS, _APP, _AD_ACCOUNT = "X-Business-Use-Case-Usage", "X-App-Usage", "X-Ad-Account-Usage"
_PERCENTAGES = ("call_count", "total_cputime", "total_time", "acc_id_util_pct")


def used_percent(headers: Mapping[str, str]) -> float | None:
    """The fullest of all counts that an answer tells of, 0 to 100 and beyond; None when it tells of none."""
    told = [
        float(count[name])
        for count in _counts(headers)
        for name in _PERCENTAGES
        if isinstance(count.get(name), int | float)
    ]
    return max(told, default=None)


def regained_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until calls are taken again, where Meta estimates it."""
    minutes = [count.get("estimated_time_to_regain_access") for count in _counts(headers)]
    told = [float(one) * 60 for one in minutes if isinstance(one, int | float) and one > 0]
    return max(told, default=None)


def _counts(headers: Mapping[str, str]) -> Iterator[Mapping[str, Json]]:
    business = _read(headers.get(_BUSINESS))
    for of_one in business.values():
        yield from (count for count in (of_one if isinstance(of_one, list) else ()) if isinstance(count, dict))
    yield from (_read(headers.get(name)) for name in (_APP, _AD_ACCOUNT))


def _read(value: str | None) -> Mapping[str, Json]:
    try:
        found = json.loads(value or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
