"""What came of the day, as data: read from the hub's records, and checked against the sandboxes' own logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from hub.clock import rfc3339
from hub.demo.people import Person
from hub.demo.proofs import PROOFS, done_at
from hub.demo.stage import Stage
from hub.events import Json
from hub.store import deliveries, views
from hub.store.session import Connection

_MOST = 10_000
_GOES_ON = "still inside"
# Effects of these states may have reached the vendor; the others certainly did not.
_ASKED = {"done", "unknown", "intended"}


class EffectSeen(BaseModel):
    """One thing the hub asked a vendor for. `proof` is what the vendor's log must name it by, if it was done."""

    connector: str
    action: str
    connection: str
    recipe: str
    step: str
    contact: str
    state: str
    reason: str
    attempts: int
    intended_at: str | None
    finished_at: str | None
    asked: bool
    """Whether it must stand in the vendor's log: it may have reached it, and there was something to do."""
    proof: str | None


class StepSeen(BaseModel):
    """One step that a run passed: what it came to and why."""

    step: str
    kind: str
    outcome: str
    reason: str
    at: str


class RunSeen(BaseModel):
    """One run: every step with its reason, and how it ended."""

    recipe: str
    status: str
    ended_by: str | None
    reason: str
    started_at: str
    finished_at: str | None
    steps: list[StepSeen]


class NotStarted(BaseModel):
    """A recipe that an event did not start, and why."""

    recipe: str
    outcome: str
    reason: str


class PersonSeen(BaseModel):
    """One person's day: what they did, what they got, and why no more."""

    name: str
    email: str
    phone: str
    part: str
    effects: list[EffectSeen]
    runs: list[RunSeen]
    not_started: list[NotStarted]


class Events(BaseModel):
    """What came in. `webhooks` counts stored deliveries by state, `refused` the calls by reason."""

    stored: int
    by_type: dict[str, int]
    duplicates: int
    repeats_sent: int
    webhooks: dict[str, int]
    unrecognised_topics: list[str]
    refused: dict[str, int]


class CarriedOut(BaseModel):
    """An entry of a sandbox's own log: one effect that the vendor's stand-in accepted."""

    at: str
    operation: str
    data: dict[str, Json]


class SandboxSeen(BaseModel):
    """A sandbox's own account: how often it carried out what, and how many calls it turned away as too many."""

    carried_out: dict[str, int]
    throttled: int
    log: list[CarriedOut]


class Once(BaseModel):
    """Every effect exactly once? What the hub asked for against what the sandboxes say they did."""

    asked_for: int
    at_sandboxes: int
    missing: list[str]
    unexpected: list[str]

    @property
    def holds(self) -> bool:
        """Whether both tell the same."""
        return not self.missing and not self.unexpected


class Outcome(BaseModel):
    """The whole day."""

    began_at: str
    ended_at: str
    took_s: float
    events: Events
    runs: dict[str, dict[str, int]]
    people: list[PersonSeen]
    sandboxes: dict[str, SandboxSeen]
    once: Once

    @property
    def effects(self) -> list[EffectSeen]:
        """Everybody's effects."""
        return [effect for person in self.people for effect in person.effects]


async def read_outcome(stage: Stage, people: Sequence[Person], *, repeats_sent: int, took_s: float) -> Outcome:
    """Look up what happened to everybody. Raises NotThere when somebody is unknown to the hub."""
    await stage.hub.ingest.flush_refusals()
    async with stage.hub.store.read() as c:
        seen = [await _person(c, person) for person in people]
        events = await _events(c, repeats_sent)
    sandboxes = {name: _sandbox(stage, name) for name in stage.connectors}
    runs = [run for person in seen for run in person.runs]
    return Outcome(
        began_at=rfc3339(stage.start_ms),
        ended_at=rfc3339(stage.hub.clock.now_ms()),
        took_s=round(took_s, 1),
        events=events,
        runs={
            recipe: dict(Counter(run.ended_by or _GOES_ON for run in runs if run.recipe == recipe).most_common())
            for recipe in sorted({run.recipe for run in runs})
        },
        people=seen,
        sandboxes=sandboxes,
        once=_once(stage, [effect for person in seen for effect in person.effects]),
    )


# -- from the hub's records --------------------------------------------------------------------------------------------


async def _person(c: Connection, person: Person) -> PersonSeen:
    contact = await views.show_contact(c, await views.find_contact(c, person.email))
    runs = [await views.show_run(c, run["id"]) for run in reversed(contact["runs"])]
    effects = [_effect(run, effect, person.name) for run in runs for effect in run["effects"]]
    return PersonSeen(
        name=person.name,
        email=person.email,
        phone=person.phone,
        part=person.part.value,
        effects=sorted(effects, key=lambda effect: effect.intended_at or ""),
        runs=[RunSeen.model_validate({**run, "reason": run["reason"] or ""}) for run in runs],
        not_started=[NotStarted.model_validate(verdict) for verdict in reversed(contact["not_started"])],
    )


def _effect(run: Json, effect: Json, contact: str) -> EffectSeen:
    output = effect["output"]
    proof = PROOFS[effect["action"]].of_effect(effect["input"], output) if output else None
    return EffectSeen(
        connector=effect["action"].partition(".")[0],
        action=effect["action"],
        connection=effect["connection"],
        recipe=run["recipe"],
        step=effect["step"],
        contact=contact,
        state=effect["state"],
        reason=effect["reason"] or "",
        attempts=effect["attempts"],
        intended_at=effect["intended_at"],
        finished_at=effect["finished_at"],
        asked=effect["state"] in _ASKED and (proof is not None or not output),
        proof=proof,
    )


async def _events(c: Connection, repeats_sent: int) -> Events:
    counted = await views.counts(c)
    every = await views.list_events(c, most=_MOST)
    refusals = await deliveries.refused(c, _MOST)
    odd = await deliveries.listed(c, state="unrecognised", most=_MOST)
    refused: Counter[str] = Counter()
    for refusal in refusals:
        refused[refusal["reason"]] += refusal["count"]
    return Events(
        stored=counted["events"],
        by_type=dict(Counter(event["type"] for event in every).most_common()),
        duplicates=counted["duplicates"],
        repeats_sent=repeats_sent,
        webhooks=counted["deliveries"],
        unrecognised_topics=[row["topic"] for row in odd],
        refused=dict(refused),
    )


# -- from the sandboxes ------------------------------------------------------------------------------------------------


def _sandbox(stage: Stage, name: str) -> SandboxSeen:
    sandbox = stage.sandbox(name)
    log = [CarriedOut(at=rfc3339(e.at_ms), operation=e.operation, data=dict(e.data)) for e in sandbox.log]
    carried_out = Counter(entry.operation for entry in log)
    return SandboxSeen(carried_out=dict(carried_out.most_common()), throttled=sandbox.refused, log=log)


def _once(stage: Stage, effects: Iterable[EffectSeen]) -> Once:
    asked = Counter(f"{e.action} {e.proof or 'without an answer'}" for e in effects if e.asked)
    done = Counter(what for name in stage.connectors for what in done_at(name, stage.sandbox(name).log))
    return Once(
        asked_for=asked.total(),
        at_sandboxes=done.total(),
        missing=sorted((asked - done).elements()),
        unexpected=sorted((done - asked).elements()),
    )
