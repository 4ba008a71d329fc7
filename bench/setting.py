"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """A folder of its own, the servers' URLs, how long it may take, how many rows to fill tables with, events to send."""

    folder: Path
    postgres: str
    redis: str
    quick: bool
    rows: int | None
    httpx_python: str
