"""Recipe test files (`*.test.yaml`): given these events at these times, these effects and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.catalogue import nearest
from hub.clock import format_duration, parse_duration_ms, parse_time_ms
from hub.conditions import Truth, judge
from hub.connector import Trigger
from hub.documents import read, text_of
from hub.errors import ConfigError
from hub.events import Json
from hub.library import PURPOSES_FILE
from hub.misfits import misfits
from hub.playing import HORIZON_MS, GivenConsent, Stage, connections_named, stage
from hub.plugins import Plugins
from hub.process import Hub
from hub.store import views
from hub.text import TextError, render, templates

# Recipe tests begin on a Monday morning unless they say otherwise.
_START = "2026-01-05T09:00:00Z"
_TOLERANCE_MS = 1_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GivenEvent(_Model):
    """An event `at` a time after the start; `data` are the trigger's payload fields.

    What a step got at the vendor is named as in recipes: `message_id: "{{ steps.reminder.message_id }}"`.
    """

    at: str = "0s"
    event: str
    data: dict[str, Json] = Field(default_factory=dict)
    connection: str | None = None


class ExpectedEffect(_Model):
    """An effect that must happen: `with_` fields are values, or conditions such as `{contains: cart}`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    at: str
    do: str
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")


class ExpectedEnd(_Model):
    """How a run must end."""

    at: str | None = None
    by: str


class Expected(_Model):
    """All effects in their order, and the ends of all runs in the order of their starts; no more and no less."""

    effects: list[ExpectedEffect] = Field(default_factory=list)
    ends: list[ExpectedEnd] | None = None
    reasons: list[str] = Field(default_factory=list, description="Texts that must occur among the recorded reasons")


class Case(_Model):
    """One story: what happens, and what must come of it."""

    name: str
    start: str = _START
    consent: list[GivenConsent] = Field(default_factory=list)
    events: list[GivenEvent] = Field(min_length=1)
    expect: Expected


class TestFile(_Model):
    """A recipe's own tests. `recipes` are files beside this one; `purposes.yaml` beside it is used too."""

    __test__ = False

    recipes: list[str] = Field(min_length=1)
    cases: list[Case] = Field(min_length=1)


@dataclass(frozen=True)
class CaseReport:
    """What became of one case; `trace` tells each run's steps with their reasons."""

    name: str
    problems: tuple[str, ...]
    trace: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything happened as expected."""
        return not self.problems


@dataclass(frozen=True)
class TestReport:
    """What became of a test file."""

    __test__ = False

    file: str
    cases: tuple[CaseReport, ...]

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(case.passed for case in self.cases)


async def run_test_file(path: Path, plugins: Plugins) -> TestReport:
    """Run a recipe test file. Raises ConfigError (RecipeErrors) when it or a recipe in it is wrong."""
    document = read(text_of(path), file=str(path))
    try:
        tests = TestFile.model_validate(document.value)
    except ValidationError as error:
        lines = [f"{path}, at {wrong}" for wrong in misfits(error, whole="the whole", between="/")]
        raise ConfigError("\n".join(lines)) from None
    return TestReport(str(path), tuple([await _run_case(path, tests, case, plugins) for case in tests.cases]))


async def _run_case(path: Path, tests: TestFile, case: Case, plugins: Plugins) -> CaseReport:
    start_ms = parse_time_ms(case.start)
    sources = _sources(path.parent, tests.recipes)
    named = connections_named((source for _, source in sources), plugins.catalogue)
    async with stage(plugins, start_ms, connections=named) as play:
        await _apply(play.hub, path.parent, sources)
        await play.agree(case.consent)
        for given in sorted(case.events, key=lambda e: parse_duration_ms(e.at)):
            await play.advance(start_ms + parse_duration_ms(given.at))
            try:
                await _happen(play, given)
            except ConfigError as error:
                raise ConfigError(f"in the case {case.name!r} of {path}: {error}") from None
        await play.advance(play.clock.now_ms() + HORIZON_MS)
        return await _judge(play.hub, case, start_ms)


def _sources(folder: Path, names: Sequence[str]) -> list[tuple[Path, str]]:
    for name in names:
        if not (folder / name).exists():
            raise ConfigError(f"the test names the recipe file {name}, which is not beside it")
    return [(folder / name, text_of(folder / name)) for name in names]


async def _apply(hub: Hub, folder: Path, sources: Sequence[tuple[Path, str]]) -> None:
    purposes = folder / PURPOSES_FILE
    if purposes.exists():
        await hub.library.apply_purposes(text_of(purposes), file=str(purposes))
    for path, source in sources:
        await hub.library.apply(source, file=str(path), publish=True)


async def _happen(play: Stage, given: GivenEvent) -> None:
    """Store an event as if it had come through the door."""
    hub = play.hub
    trigger = hub.plugins.catalogue.trigger(given.event)
    if trigger is None:
        known = nearest(given.event, hub.plugins.catalogue.triggers())
        raise ConfigError(f"there is no event {given.event}{known}; `hub plugins` lists them")
    event = trigger.event(_payload(trigger, given, await _filled(hub, given)), hub.clock.now_ms())
    await play.happen([await play.new(event, given.connection or await play.connection_of(trigger.connector))])


async def _filled(hub: Hub, given: GivenEvent) -> Json:
    """The event's data with what steps have got so far; of several runs the youngest counts."""
    if not any(templates(given.data)):
        return given.data
    async with hub.store.read() as c:
        shown = [await views.show_run(c, run["id"]) for run in reversed(await views.list_runs(c, most=1000))]
    got = {e["step"]: e["output"] for run in shown for e in run["effects"] if e["state"] == "done"}
    try:
        return render(given.data, {"steps": got})
    except TextError as error:
        raise ConfigError(f"the data of the event {given.event} at {given.at}: {error}") from None


def _payload(trigger: Trigger[Any], given: GivenEvent, data: Json) -> BaseModel:
    try:
        payload: BaseModel = trigger.recall(data)
        return payload
    except ValidationError as error:
        wrong = "; ".join(misfits(error, whole="the whole"))
        raise ConfigError(f"the data of the event {given.event} at {given.at} does not fit: {wrong}") from None


# -- judging -----------------------------------------------------------------------------------------------------------


@dataclass
class _Happened:
    effects: list[dict[str, Json]] = field(default_factory=list)
    ends: list[dict[str, Json]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)


async def _judge(hub: Hub, case: Case, start_ms: int) -> CaseReport:
    happened = await _collect(hub, start_ms)
    problems = [*_effects(case.expect.effects, happened), *_ends(case.expect.ends, happened)]
    problems += [
        f"no recorded reason contains {text!r}"
        for text in case.expect.reasons
        if not any(text in reason for reason in happened.reasons)
    ]
    return CaseReport(case.name, tuple(problems), tuple(happened.trace))


async def _collect(hub: Hub, start_ms: int) -> _Happened:
    happened = _Happened()
    async with hub.store.read() as c:
        shown = [await views.show_run(c, run["id"]) for run in reversed(await views.list_runs(c, most=1000))]
        verdicts = await c.all("select recipe, outcome, reason, at from verdict order by at")
    for verdict in verdicts:
        happened.reasons.append(f"{verdict['outcome']}: {verdict['reason']}")
        happened.trace.append(
            f"+{format_duration(max(0, verdict['at'] - start_ms))} {verdict['recipe']} not started: {verdict['reason']}"
        )
    for run in shown:
        for step in run["steps"]:
            after = format_duration(parse_time_ms(step["at"]) - start_ms)
            happened.reasons.append(f"{step['outcome']}: {step['reason']}")
            happened.trace.append(
                f"+{after} {run['recipe']} {step['path']} {step['kind']}: {step['outcome']}, {step['reason']}"
            )
        happened.ends.append({"by": run["ended_by"], "at": run["finished_at"], "reason": run["reason"]})
        happened.trace.append(f"{run['recipe']} ended by {run['ended_by']}: {run['reason']}")
        # Of one instant, in the order of the run's steps.
        place = {step["step"]: number for number, step in enumerate(run["steps"])}
        done = [{**e} for e in run["effects"] if e["state"] == "done"]
        happened.effects += sorted(done, key=lambda e: place.get(e["step"], len(place)))
    happened.effects.sort(key=lambda e: str(e["intended_at"]))
    for effect in happened.effects:
        effect["after_ms"] = parse_time_ms(str(effect["intended_at"])) - start_ms
    for end in happened.ends:
        end["after_ms"] = parse_time_ms(end["at"]) - start_ms if end["at"] else None
    return happened


def _effects(expected: Sequence[ExpectedEffect], happened: _Happened) -> list[str]:
    problems = []
    for want, got in zip(expected, happened.effects, strict=False):
        if want.do != got["action"]:
            problems.append(
                f"expected {want.do}, but {got['action']} happened after {format_duration(got['after_ms'])}"
            )
            continue
        if abs(parse_duration_ms(want.at) - got["after_ms"]) > _TOLERANCE_MS:
            problems.append(f"{want.do} happened after {format_duration(got['after_ms'])}, expected after {want.at}")
        judgement = judge(dict(want.with_), got["input"]) if want.with_ else None
        if judgement is not None and judgement.truth is not Truth.TRUE:
            problems.append(f"{want.do} after {want.at}: {judgement.reason}")
    for want in expected[len(happened.effects) :]:
        problems.append(f"expected {want.do} after {want.at}, but it did not happen")
    for got in happened.effects[len(expected) :]:
        problems.append(f"{got['action']} happened after {format_duration(got['after_ms'])}, which was not expected")
    return problems


def _ends(expected: Sequence[ExpectedEnd] | None, happened: _Happened) -> list[str]:
    if expected is None:
        return []
    problems = []
    if len(expected) != len(happened.ends):
        problems.append(f"expected {len(expected)} runs, but there were {len(happened.ends)}")
    for want, got in zip(expected, happened.ends, strict=False):
        if want.by != got["by"]:
            problems.append(f"expected a run to end by {want.by}, but it ended by {got['by']} ({got['reason']})")
        elif want.at is not None and abs(parse_duration_ms(want.at) - (got["after_ms"] or 0)) > _TOLERANCE_MS:
            problems.append(f"a run ended after {format_duration(got['after_ms'] or 0)}, expected after {want.at}")
    return problems
