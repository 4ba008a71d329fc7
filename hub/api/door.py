"""How many calls one address may take and one caller may get wrong. In memory; nothing refused here reaches the database."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

from hub.connector import Rate
from hub.limits import rates
from hub.reach import is_public

# How often somebody may come with a wrong signature, address or key.
_WRONG = Rate(limit=60, per_s=1)
_MOST_KNOWN = 10_000


class Door:
    """One for each process that answers. Gives the seconds to wait to whom it turns away, else None."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._calls: OrderedDict[str, float] = OrderedDict()
        self._wrong: OrderedDict[str, float] = OrderedDict()

    def call(self, address: str, per_s: int) -> float | None:
        """A call at a webhook's address, which takes `per_s` of them (0: any number), and twice as many at once."""
        return self._take(self._calls, address, Rate(limit=2 * per_s, per_s=per_s)) if per_s else None

    def wrong(self, caller: str) -> None:
        """Somebody was refused."""
        if _counts(caller):
            self._take(self._wrong, caller, _WRONG)

    def shut(self, caller: str) -> float | None:
        """Whether this caller was refused so often that it is not even listened to now."""
        if caller not in self._wrong:
            return None
        left = rates.available(_WRONG, self._wrong[caller], self._now())
        return (1 - left) / _WRONG.per_s if left < 1 else None

    def _take(self, known: OrderedDict[str, float], name: str, rate: Rate) -> float | None:
        taken = rates.take([rate], {rate.name: known.get(name, 0.0)}, 1, self._now())
        if isinstance(taken, float):
            return taken
        known[name] = taken[rate.name]
        known.move_to_end(name)
        if len(known) > _MOST_KNOWN:
            known.popitem(last=False)
        return None


def _counts(caller: str) -> bool:
    """Behind a proxy that is not named in HUB_PROXIES everybody comes from one private address: nobody is shut out then."""
    try:
        return is_public(ip_address(caller))
    except ValueError:
        return False
