"""The day for people: what came in, who got what when, why no more, and whether every effect happened once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hub.demo.outcome import Outcome, PersonSeen

_WIDTH = 100
_NEXT = (
    ("hub up", "the same hub for good: your own connections and recipes"),
    ("hub recipes test recipes/", "these recipes' own tests, on a clock that jumps"),
    ("hub demo --report day.json", "this day again, every effect as data"),
    ("docs/", "the tutorial, the recipe language, and how to write a connector"),
)


def show(outcome: Outcome, console: Console) -> None:
    """Print the report, at most 100 columns wide."""
    parts = (_came_in(outcome), _ended(outcome), _people(outcome), _at_the_vendors(outcome), _go_on())
    for part in parts:
        console.print(part, width=min(_WIDTH, console.width))


# -- counts ------------------------------------------------------------------------------------------------------------


def _came_in(outcome: Outcome) -> RenderableType:
    events = outcome.events
    webhooks = sum(events.webhooks.values())
    table = _facts()
    table.add_row(str(webhooks), "webhooks stored", f"{events.stored} events, those derived from silence included")
    table.add_row(
        str(events.duplicates), "duplicates", "redelivered, or told by a second subscription; they changed nothing"
    )
    for reason, count in events.refused.items():
        table.add_row(str(count), "refused", Text(reason))
    for topic in events.unrecognised_topics:
        table.add_row("1", "kept aside", Text(f"no trigger takes the topic {topic}"))
    return _section("What came in", table)


def _ended(outcome: Outcome) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan")
    table.add_column("recipe", no_wrap=True)
    table.add_column("runs", justify="right")
    table.add_column("ended by")
    for recipe, ends in outcome.runs.items():
        table.add_row(recipe, str(sum(ends.values())), ", ".join(f"{count} {end}" for end, count in ends.items()))
    return _section("How the runs ended", table)


# -- people ------------------------------------------------------------------------------------------------------------


def _people(outcome: Outcome) -> RenderableType:
    first_day = datetime.fromisoformat(outcome.began_at).date()
    parts: list[RenderableType] = []
    for part, people in groupby(outcome.people, key=lambda person: person.part):
        table = Table.grid(padding=(0, 2, 0, 0))
        for width in (12, 42, 42):
            table.add_column(width=width)
        for alike in _alike(people):
            person, more = alike[0], len(alike) - 1
            table.add_row(person.name, Text(_got(person, first_day)), Text("; ".join(_why(person)), style="dim"))
            if more:
                table.add_row(f"and {more} more", Text("the same, each at their own time", style="dim"))
        parts += [Text(f"who {part}", style="cyan"), table]
    return _section("Who got what when, and why no more (times in UTC)", *parts)


def _alike(people: Iterable[PersonSeen]) -> list[list[PersonSeen]]:
    """People of one part who got the same for the same reasons, whenever that was."""
    found: dict[tuple[str, ...], list[PersonSeen]] = {}
    for person in people:
        got = sorted(effect.step for effect in person.effects if effect.state == "done")
        found.setdefault((*got, *_why(person)), []).append(person)
    return list(found.values())


def _got(person: PersonSeen, first_day: date) -> str:
    """What was done for somebody, by the minute: `12:52 reminder · +1d 12:52 coupon, offer`."""
    done = [(datetime.fromisoformat(e.finished_at or ""), e.step) for e in person.effects if e.state == "done"]
    by_minute = groupby(sorted(done), key=lambda one: f"{_later(one[0].date(), first_day)}{one[0]:%H:%M}")
    return " · ".join(f"{minute} {', '.join(step for _, step in steps)}" for minute, steps in by_minute) or "nothing"


def _later(day: date, first_day: date) -> str:
    return f"+{(day - first_day).days}d " if day > first_day else ""


def _why(person: PersonSeen) -> list[str]:
    """The reasons on record: of what was refused or went oddly, of ends, of recipes that were not started."""
    return list(dict.fromkeys(_reasons(person)))


def _reasons(person: PersonSeen) -> Iterator[str]:
    for effect in person.effects:
        if effect.reason:
            yield f"{effect.step} {effect.reason}"
        elif effect.attempts > 1:
            yield f"{effect.step} took {effect.attempts} attempts"
    for run in person.runs:
        for step in run.steps:
            if step.kind == "do" and step.outcome not in {"sent", "done"}:
                yield f"no {step.step}: {step.reason}"
        if run.ended_by is None:
            # The day of a wait that goes on is enough.
            yield f"{run.recipe} {run.reason.partition('T')[0]}"
        elif run.ended_by != "done":
            yield run.reason.removeprefix("stopped: ")
    for verdict in person.not_started:
        # Which run it is that goes on is no news here, nor that a recipe is for others where another one was entered.
        if verdict.outcome == "already_inside":
            yield "not again: already_inside"
        elif not person.runs:
            yield verdict.reason


# -- the check ---------------------------------------------------------------------------------------------------------


def _at_the_vendors(outcome: Outcome) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (12, 60, 24):
        table.add_column(width=width)
    for name, sandbox in outcome.sandboxes.items():
        done = ", ".join(f"{count} {operation}" for operation, count in sandbox.carried_out.items())
        table.add_row(Text(name, style="bold"), done, Text(f"{sandbox.throttled} turned away", style="dim"))
    note = Text(
        "By the sandboxes' own count; a call may be for many, and calls that were turned away were made later.",
        style="dim",
    )
    once = outcome.once
    holds = Text("every effect once: ", style="bold green" if once.holds else "bold red")
    holds.append(f"{once.asked_for} asked for, {once.at_sandboxes} at the sandboxes")
    lines = [Text(f"missing at the sandbox: {proof}", style="red") for proof in once.missing]
    lines += [Text(f"not asked for, or twice: {proof}", style="red") for proof in once.unexpected]
    return _section("At the vendors", table, note, Text(), holds, *lines)


def _go_on() -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for command, what in _NEXT:
        table.add_row(Text(command, style="bold cyan"), what)
    return _section("What next", table)


def _facts() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    return table


def _section(title: str, *content: RenderableType) -> RenderableType:
    return Group(Text(), Rule(Text(title, style="bold"), align="left"), *content)
