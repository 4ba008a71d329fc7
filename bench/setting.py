"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """A folder of its own, the servers' URLs, and how long it may take."""

    folder: Path
    postgres: str
    redis: str
    quick: bool
    httpx_python: str
