"""Simulation: many events through one recipe on a clock that jumps, and what came of it for each person.

The decisions are the live ones (`hub.playing`). What vendors would have answered is pretended, or repeats what they
answered when the events were stored (`hub.simulation.recorded`); their failures are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pydantic_core import from_json

from hub.clock import rfc3339
from hub.events import Json
from hub.playing import HORIZON_MS, Stage, connections_named, stage
from hub.plugins import Plugins
from hub.purposes import Purpose
from hub.simulation.played import Played, read_events
from hub.simulation.recorded import Recorded, answering, recorded
from hub.steps.do import SENT
from hub.store import recipes as recipe_rows
from hub.store import replaying
from hub.store.session import Row
from hub.store.stories import Stories, stories

__all__ = [
    "Effect",
    "NotEntered",
    "Passed",
    "Path",
    "Played",
    "Recorded",
    "Simulation",
    "Summary",
    "read_events",
    "recorded",
    "simulate",
]

Progress = Callable[[int, int], None]
"""Told how many events of how many were played."""


@dataclass(frozen=True)
class Passed:
    """One step of one person's path."""

    at: str
    step: str
    path: str
    kind: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Effect:
    """One call that would have been made, or was held back. `channel` and `purpose` are those of a message."""

    at: str
    step: str
    action: str
    connection: str
    state: str
    reason: str
    channel: str | None
    purpose: str | None
    input: Mapping[str, Json]


@dataclass(frozen=True)
class Path:
    """One person's way through the recipe. `ended_by` None: still inside when nothing was due any more."""

    person: str | None
    contact: str | None
    event: str
    started_at: str
    steps: Sequence[Passed]
    effects: Sequence[Effect]
    ended_by: str | None
    ended_at: str | None
    reason: str | None


@dataclass(frozen=True)
class NotEntered:
    """An event of the kind that starts the recipe, which started no run, and why."""

    person: str | None
    contact: str | None
    event: str
    at: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """Everything counted. `sent` is by channel, `done` by action, `held_back` by outcome."""

    events: int
    entered: int
    people: int
    inside: int
    not_entered: Mapping[str, int]
    sent: Mapping[str, int]
    done: Mapping[str, int]
    held_back: Mapping[str, int]
    ended: Mapping[str, int]


@dataclass(frozen=True)
class Simulation:
    """What would have happened."""

    recipe: str
    summary: Summary
    paths: Sequence[Path] = field(default=())
    not_entered: Sequence[NotEntered] = field(default=())


async def simulate(
    source: str,
    given: Recorded | Sequence[Played],
    plugins: Plugins,
    *,
    purposes: Mapping[str, Purpose],
    file: str | None = None,
    progress: Progress = lambda done, whole: None,
) -> Simulation:
    """Play events through a recipe until nothing is due any more. Raises RecipeErrors, ConfigError.

    Recorded events are those of a hub: what it derived from silence is among them, and nothing else is derived.
    """
    stored = given if isinstance(given, Recorded) else None
    played = stored.played if stored else given
    assert not isinstance(played, Recorded), "a recording holds what is played"
    named = stored.connections if stored else _with_played(connections_named([source], plugins.catalogue), played)
    start_ms = played[0].at_ms if played else 0
    async with stage(answering(plugins, stored.answers) if stored else plugins, start_ms, connections=named) as play:
        async with play.hub.store.write() as c:
            await recipe_rows.save_purposes(c, purposes)
            await replaying.put(c, stored.before if stored else replaying.Before())
        applied = await play.hub.library.apply(source, file=file, publish=True)
        done = 0
        for at_ms, together in groupby(played, key=lambda one: one.at_ms):
            await play.advance(at_ms)
            for one in together:
                await _happen(play, one)
                done += 1
                progress(done, len(played))
            if stored:
                async with play.hub.store.write() as c:
                    await replaying.forget_silence(c)
        await play.advance(play.clock.now_ms() + HORIZON_MS)
        async with play.hub.store.read() as c:
            found = await stories(c, applied.name)
    return _told(applied.name, sum(one.event is not None for one in played), found)


def _with_played(named: dict[str, set[str]], played: Sequence[Played]) -> dict[str, set[str]]:
    """The connections, and those that events name."""
    for one in played:
        if one.event is not None and one.connection is not None:
            names = named[one.event.type.partition(".")[0]]
            names.add(one.connection)
    return named


async def _happen(play: Stage, one: Played) -> None:
    if one.consent:
        await play.agree(one.consent)
    if one.event is None:
        return
    name = one.connection or await play.connection_of(one.event.type.partition(".")[0])
    new = await play.new(one.event, name, id_=one.id)
    if one.contact is not None:
        await play.introduce(new, one.contact.changes())
    await play.happen([new])


# -- telling -----------------------------------------------------------------------------------------------------------


def _told(recipe: str, events: int, found: Stories) -> Simulation:
    steps, effects = _by_run(found.steps), _by_run(found.effects)
    paths = [_path(run, steps.get(run["id"], []), effects.get(run["id"], [])) for run in found.runs]
    kept_out = [_not_entered(row) for row in found.verdicts]
    return Simulation(recipe, _summary(events, paths, kept_out), paths, kept_out)


def _by_run(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {run: list(found) for run, found in groupby(rows, key=lambda row: str(row["run_id"]))}


def _path(run: Row, steps: Sequence[Row], effects: Sequence[Row]) -> Path:
    # Of one instant, in the order of the run's steps.
    place = {step["step_id"]: number for number, step in enumerate(steps)}
    in_order = sorted(effects, key=lambda e: (e["intended_at"], place.get(e["step_id"], len(place))))
    return Path(
        person=run["person"],
        contact=run["contact_id"],
        event=str(from_json(run["trigger_data"])["event_id"]),
        started_at=rfc3339(run["started_at"]),
        steps=[
            Passed(rfc3339(s["at"]), s["step_id"], s["path"], s["kind"], s["outcome"], s["reason"] or "") for s in steps
        ],
        effects=[
            Effect(
                rfc3339(e["intended_at"]),
                e["step_id"],
                e["action"],
                e["connection"],
                e["state"],
                e["reason"] or "",
                e["channel"],
                e["purpose"],
                from_json(e["request"])["input"],
            )
            for e in in_order
        ],
        ended_by=run["ended_by"],
        ended_at=rfc3339(run["finished_at"]) if run["finished_at"] is not None else None,
        reason=run["reason"],
    )


def _not_entered(row: Row) -> NotEntered:
    return NotEntered(
        row["person"], row["contact_id"], row["event_id"], rfc3339(row["at"]), row["outcome"], row["reason"]
    )


def _summary(events: int, paths: Sequence[Path], kept_out: Sequence[NotEntered]) -> Summary:
    effects = [effect for path in paths for effect in path.effects]
    done = [effect for effect in effects if effect.state == "done"]
    acts = [step for path in paths for step in path.steps if step.kind == "do"]
    return Summary(
        events=events,
        entered=len(paths),
        people=len({path.contact or path.event for path in paths}),
        inside=sum(path.ended_by is None for path in paths),
        not_entered=_counted(one.outcome for one in kept_out),
        sent=_counted(effect.channel for effect in done if effect.channel),
        done=_counted(effect.action for effect in done if not effect.channel),
        held_back=_counted(step.outcome for step in acts if step.outcome not in SENT),
        ended=_counted(path.ended_by for path in paths if path.ended_by),
    )


def _counted(words: Iterable[str]) -> dict[str, int]:
    """How often each word comes, the most frequent first."""
    return dict(Counter(words).most_common())
