"""Everything that came of played events, read at once: runs with their steps and effects, and who did not enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.store.session import Connection, Row

_PERSON = (
    "(select value from identity where identity.contact_id = {of}.contact_id and kind in ('email', 'phone') "
    "order by kind limit 1) as person"
)


@dataclass(frozen=True)
class Stories:
    """Rows of runs, of their steps and effects, and of verdicts; each in the order in which it happened."""

    runs: Sequence[Row]
    steps: Sequence[Row]
    effects: Sequence[Row]
    verdicts: Sequence[Row]


async def stories(c: Connection, recipe: str) -> Stories:
    """All that became of a recipe."""
    return Stories(
        runs=await c.all(
            f"select id, contact_id, status, trigger_data, reason, ended_by, started_at, finished_at, at_step, "
            f"{_PERSON.format(of='run')} from run where recipe = :recipe order by id",
            recipe=recipe,
        ),
        steps=await c.all(
            "select s.run_id as run_id, s.step_id as step_id, s.path as path, s.kind as kind, s.outcome as outcome, "
            "s.reason as reason, s.at as at from step s join run r on r.id = s.run_id where r.recipe = :recipe "
            "order by s.run_id, s.seq",
            recipe=recipe,
        ),
        effects=await c.all(
            "select e.run_id as run_id, e.step_id as step_id, e.action as action, e.connection as connection, "
            "e.state as state, e.reason as reason, e.request as request, e.intended_at as intended_at, "
            "m.channel as channel, m.purpose as purpose from effect e join run r on r.id = e.run_id "
            "left join message m on m.effect_key = e.key where r.recipe = :recipe order by e.run_id, e.intended_at, e.key",
            recipe=recipe,
        ),
        verdicts=await c.all(
            "select verdict.event_id as event_id, verdict.outcome as outcome, verdict.reason as reason, "
            f"verdict.at as at, verdict.contact_id as contact_id, {_PERSON.format(of='verdict')} "
            "from verdict where recipe = :recipe order by at, event_id",
            recipe=recipe,
        ),
    )
