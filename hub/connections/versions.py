"""The version of a vendor's API that a connection uses, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from hub.connector import Connector

# So long before its end somebody is told.
TOLD_DAYS = 90


@dataclass(frozen=True)
class Ending:
    """A version that ends within ninety days, or has ended."""

    connection: str
    connector: str
    title: str
    field: str
    version: str
    day: date
    left_days: int
    newest: str | None
    """The version that lasts longest, where one lasts longer."""

    @property
    def is_over(self) -> bool:
        """Whether the vendor need not answer any more."""
        return self.left_days < 0

    @property
    def sentence(self) -> str:
        """What is the matter."""
        when = f"{self.left_days} days" if self.left_days != 1 else "1 day"
        ends = f"ended on {self.day}" if self.is_over else f"ends on {self.day}, in {when}"
        return f"{self.connection} uses the version {self.version} of {self.title}'s API, which {ends}"

    @property
    def mend(self) -> str:
        """The command that changes it, or that brings a newer connector."""
        if self.newest is None:
            return f"pip install --upgrade tetik-hub-{self.connector.replace('_', '-')}"
        return f"hub connections set {self.connection} {self.field}={self.newest}"


def ending_of(name: str, settings: Mapping[str, str], connector: Connector, today: date) -> Ending | None:
    """What is to be told about a connection's version; None while it lasts, or where its end is not known."""
    versions = connector.versions
    if versions is None:
        return None
    defaults = {f.name: f.default for kind in connector.auth for f in (*connector.fields, *kind.fields)}
    version = settings.get(versions.field) or defaults.get(versions.field)
    day = versions.ends.get(version) if version else None
    if version is None or day is None or (left := (day - today).days) >= TOLD_DAYS:
        return None
    newest = max(versions.ends, key=versions.ends.__getitem__)
    return Ending(
        name,
        connector.name,
        connector.title,
        versions.field,
        version,
        day,
        left,
        newest if versions.ends[newest] > day else None,
    )
