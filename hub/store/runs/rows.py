"""Runs and effects as stored, and reading them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import from_json

from hub.events import Json
from hub.store.session import Connection, Row
from hub.values import value


@value(frozen=True)
class RunRow:
    """A run as stored. `wake` is the event that ended its wait, `stop` the exit that ended it, if any."""

    id: str
    recipe: str
    version: int
    contact_id: str | None
    entry_key: str
    scope: str
    status: str
    position: str | None
    trigger: Mapping[str, Json]
    ctx: Mapping[str, Json]
    wake: Mapping[str, Json] | None
    stop: Mapping[str, Json] | None
    reason: str | None
    ended_by: str | None
    started_at_ms: int
    finished_at_ms: int | None
    steps: int
    watches: int

    @classmethod
    def of(cls, row: Row) -> RunRow:
        """From a row of the table `run`."""
        return cls(
            id=row["id"],
            recipe=row["recipe"],
            version=row["version"],
            contact_id=row["contact_id"],
            entry_key=row["entry_key"],
            scope=row["scope"],
            status=row["status"],
            position=row["at_step"],
            trigger=from_json(row["trigger_data"]),
            ctx=from_json(row["ctx"]),
            wake=from_json(row["wake"]) if row["wake"] else None,
            stop=from_json(row["stop"]) if row["stop"] else None,
            reason=row["reason"],
            ended_by=row["ended_by"],
            started_at_ms=row["started_at"],
            finished_at_ms=row["finished_at"],
            steps=row["steps"],
            watches=row["watches"],
        )


@value(frozen=True)
class EffectRow:
    """An effect as stored: planned (may be called), intended (a call may have been made), done, failed, skipped, unknown."""

    key: str
    run_id: str
    step_id: str
    action: str
    connection: str
    state: str
    token: str
    request: Mapping[str, Json]
    attempts: int
    intended_at_ms: int
    batch: str | None = None

    @classmethod
    def of(cls, row: Row) -> EffectRow:
        """From a row of the table `effect`."""
        return cls(
            key=row["key"],
            run_id=row["run_id"],
            step_id=row["step_id"],
            action=row["action"],
            connection=row["connection"],
            state=row["state"],
            token=row["token"],
            request=from_json(row["request"]),
            attempts=row["attempts"],
            intended_at_ms=row["intended_at"],
            batch=row["batch"],
        )


async def load(c: Connection, run_ids: Sequence[str]) -> dict[str, RunRow]:
    """Runs by id."""
    rows = await c.group(
        "select run.* from run join {rows} on run.id = r.id", {"id": "text"}, [{"id": id_} for id_ in run_ids]
    )
    return {row["id"]: RunRow.of(row) for row in rows}


async def open_effects(c: Connection, run_ids: Sequence[str]) -> dict[str, EffectRow]:
    """The effect of each run that has no outcome yet, by run id; a run has at most one."""
    rows = await c.group(
        "select effect.* from effect join {rows} on effect.run_id = r.id where effect.state in ('planned', 'intended', 'queued')",
        {"id": "text"},
        [{"id": id_} for id_ in run_ids],
    )
    return {row["run_id"]: EffectRow.of(row) for row in rows}


async def effect_state(c: Connection, run_id: str, step_id: str) -> str | None:
    """The state of the effect of a step of a run, or None when there is none."""
    row = await c.first("select state from effect where run_id = :run and step_id = :step", run=run_id, step=step_id)
    return row["state"] if row else None


async def outcome_of(c: Connection, effect_key: str) -> Row | None:
    """The outcome, reason and output of an effect that has one."""
    return await c.first(
        "select outcome, reason, case when state = 'done' then response end as output from effect where key = :key "
        "and state in ('done', 'failed', 'skipped', 'unknown')",
        key=effect_key,
    )
