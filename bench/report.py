"""What was measured, as one table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

_VERSIONS = ("tetik-hub", "uvicorn", "uvloop", "fastapi", "sqlalchemy", "asyncpg", "aiohttp", "dramatiq")


@dataclass(frozen=True)
class Row:
    """One number. `floor` and `target` are in the same unit; with `less` smaller is better."""

    benchmark: str
    what: str
    value: float
    unit: str
    floor: tuple[str, float] | None = None
    target: float | None = None
    less: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {_number(self.value)} {self.unit}"

    @property
    def ratio(self) -> str:
        """The number as a share of its floor."""
        return f"{self.value / self.floor[1]:.2f} of {self.floor[0]}" if self.floor else ""

    @property
    def verdict(self) -> str:
        """The target and whether it was reached."""
        if self.target is None:
            return ""
        reached = self.value <= self.target if self.less else self.value >= self.target
        return f"{'≤' if self.less else '≥'} {_number(self.target)} {'yes' if reached else 'NO'}"


def table(rows: Sequence[Row]) -> str:
    """All rows with their floors and targets, as a Markdown table that is readable as it stands."""
    cells = [("benchmark", "what", "measured", "of its floor", "target")]
    cells += [(r.benchmark, r.what, f"{_number(r.value)} {r.unit}", r.ratio, r.verdict) for r in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def machine(postgres: str | None) -> str:
    """What it was measured on, in two lines."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor()
    )
    memory_gb = psutil.virtual_memory().total / 1e9
    software = [f"Python {platform.python_version()}"] + ([f"PostgreSQL {postgres}"] if postgres else [])
    software += [f"{name} {version(name)}" for name in _VERSIONS]
    return (
        f"{psutil.cpu_count()} × {model}, {memory_gb:.0f} GB, {platform.system()} {platform.release()}\n"
        + ", ".join(software)
    )


def _cpu_lines() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.exists() else []


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
