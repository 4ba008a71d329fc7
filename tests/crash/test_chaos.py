"""Chaos, for a short while, in every run of the tests; `make chaos` takes longer and other seeds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.chaos import crowd, kill_at_the_demo, kill_embedded, plan, show, wreak
from tests.crash.demo_load import PROCESSES, DemoStage, schedule
from tests.crash.world import opened_embedded, opened_world

SEED = 20261122
# A few of the twenty that `make chaos KILLS=20 EMBEDDED=1` does in a minute.
KILLS = 6
# The first hours of the day that `make chaos KILLS=20` plays in four minutes.
MOMENTS = 75


def test_the_schedule_is_a_function_of_its_seed() -> None:
    assert plan(SEED, 60) == plan(SEED, 60) != plan(SEED + 1, 60)
    assert crowd(SEED, 60) == crowd(SEED, 60) != crowd(SEED + 1, 60)
    assert schedule(SEED, 20, 231) == schedule(SEED, 20, 231) != schedule(SEED + 1, 20, 231)
    assert {kill.who for kill in schedule(SEED, 20, 231)} == set(PROCESSES)
    assert len({fault.what for fault in plan(SEED, 300)}) == 17


def test_half_a_minute_of_chaos_loses_and_doubles_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened_world(tmp_path) as world:
        report = asyncio.run(wreak(world, SEED, 30))
    show(report)
    assert report.violations == []
    assert sum(report.faults.values()) == len(plan(SEED, 30))
    assert "nothing lost, nothing doubled" in capsys.readouterr().out


def test_an_embedded_hub_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with opened_embedded(tmp_path) as stage:
        report = asyncio.run(kill_embedded(stage, SEED, KILLS))
    show(report)
    assert report.violations == []
    assert report.faults["hub killed"] == KILLS


def test_processes_killed_in_the_demo_s_first_hours_lose_and_double_nothing(tmp_path: Path) -> None:
    with opened_world(tmp_path, DemoStage) as world:
        report = asyncio.run(kill_at_the_demo(world, SEED, 3, most=MOMENTS))
    show(report)
    assert report.violations == []
    assert sum(report.faults.values()) == 3
    assert sum(tally.happened for tally in report.effects.values()) > 0
