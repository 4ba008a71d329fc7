"""Acme under tight limits, as a plugin that real processes load: see `limited_environment`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hub import Concurrency, Rate, RegisterConnector, hookimpl
from tests import acme as plugin

ROOT = Path(__file__).parent.parent
RATE = Rate(10, per_s=50)
CONCURRENCY = Concurrency(20)

acme = replace(plugin.acme, budgets=[RATE, CONCURRENCY])


@hookimpl
def hub_register_connectors(register: RegisterConnector) -> None:
    register(acme)


def limited_environment(settings: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Settings of processes that find this plugin installed."""
    site = folder / "site"
    about = site / "limited_acme-0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: limited-acme\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[hub]\nlimited-acme = tests.limited\n")
    paths = [str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**settings, "PYTHONPATH": os.pathsep.join(paths)}
