"""`hub demo`: a made-up day of signed webhooks through a real hub and the vendors' stand-ins, and what came of it."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from hub.clock import to_datetime
from hub.demo.day import ASKED_UNTIL_S, LASTS_S, plan
from hub.demo.outcome import Outcome, read_outcome
from hub.demo.people import Part, everybody
from hub.demo.report import show
from hub.demo.stage import Stage, open_stage
from hub.errors import ConfigError

__all__ = ["play_day", "run_demo"]


async def run_demo(console: Console, report: Path | None) -> None:
    """Play the day, write what came of it to `report` as JSON, and print it.

    Raises ConfigError when a plugin is missing, the file cannot be written, or an effect did not happen exactly once.
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {report.parent} for the report; make it, or name another")
    outcome = await play_day(console)
    if report is not None:
        try:
            report.write_text(outcome.model_dump_json(indent=2), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the report cannot be written to {report}: {error.strerror}") from error
    show(outcome, console)
    if not outcome.once.holds:
        raise ConfigError("not every effect happened exactly once, as the report says; please report this defect")


async def play_day(console: Console) -> Outcome:
    """Play the day and return what came of it; the console shows how it goes. Raises ConfigError."""
    began = time.monotonic()
    people = everybody()
    with console.status("starting a hub and the vendors' stand-ins") as status:
        async with open_stage() as on:
            moments = plan(people, on.start_ms)
            for person in people:
                if person.part is Part.UNDELIVERABLE:
                    on.disconnect_phone(person.phone)
            asking = True
            for moment in moments:
                await on.until(moment.at_s)
                if asking and moment.at_s >= ASKED_UNTIL_S:
                    await on.ask_no_more()
                    asking = False
                status.update(f"{_time(on)}  {moment.story}")
                await on.happen(moment)
            status.update("the day after: reminders, codes, welcomes")
            await on.until(LASTS_S)
            repeats = sum(moment.repeats for moment in moments)
            return await read_outcome(on, people, repeats_sent=repeats, took_s=time.monotonic() - began)


def _time(on: Stage) -> str:
    return f"{to_datetime(on.hub.clock.now_ms()):%H:%M}"
