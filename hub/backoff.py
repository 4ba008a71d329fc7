"""When to try again, and when no more: one schedule for calls, batches and sources."""

from __future__ import annotations

MIN_ATTEMPTS = 12
FEW_ATTEMPTS = 3
# Claims that brought nothing, as when each of them ended its process.
MAX_CLAIMS = 5
GIVE_UP_MS = 3 * 24 * 3_600_000
_LONGEST_S = 3600.0
# A wait that a vendor asks for and that is longer than this is no wait any more but a mistake of the vendor's.
LONGEST_TOLD_S = 86_400.0
_SOONEST_S = 0.1


def backoff_s(attempts: int, draw: float, retry_after_s: float | None = None) -> float:
    """Seconds until the next try after `attempts` (from 1 on): the vendor's word, up to a day, with a little jitter on
    top, else anywhere up to 2 s, doubling to an hour. `draw` is between 0 and 1."""
    if retry_after_s is not None:
        return max(_SOONEST_S, min(LONGEST_TOLD_S, retry_after_s) * (1 + 0.1 * draw))
    return max(_SOONEST_S, draw * min(_LONGEST_S, 2.0 ** min(attempts, 32)))


def is_over(attempts: int, since_ms: int, now_ms: int) -> bool:
    """Whether an outage has been waited out for long enough: three days, and as many tries as a short one gets."""
    return attempts >= MIN_ATTEMPTS and now_ms - since_ms > GIVE_UP_MS
