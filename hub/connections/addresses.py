"""Which webhook addresses at a vendor are ours: told by the inbound key in their path, whatever stands before it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Addresses:
    """The addresses at which one connection may be called. `wanted` is the one to give to the vendor.

    `accepted` are those at which its calls are taken now; `keys` are the inbound keys that say an address was ever ours.
    """

    connector: str
    wanted: str
    accepted: Collection[str]
    keys: Collection[str]

    def is_ours(self, address: str) -> bool:
        """Whether an address was given to the vendor by this hub, perhaps under a former public URL."""
        place = _place(address)
        if place is None:
            return False
        path = place[2]
        return any(path.endswith(f"/webhooks/{self.connector}/{key}") for key in self.keys)

    def is_accepted(self, address: str) -> bool:
        """Whether calls to an address reach this hub and are taken; query and fragment may say more."""
        place = _place(address)
        return place is not None and place in {_place(one) for one in self.accepted}

    def is_wanted(self, address: str) -> bool:
        """Whether it is the one to be given to the vendor."""
        return _place(address) == _place(self.wanted)


def _place(address: str) -> tuple[str, str, str] | None:
    """Scheme, host with port, and path, as far as they tell addresses apart; None where it is no web address."""
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, f"{parts.hostname}:{port}", parts.path.rstrip("/")) if parts.scheme in _PORTS else None
