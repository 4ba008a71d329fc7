"""What tells a loop: the run whose effect caused an event, and how often somebody entered a recipe lately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.ids import reference, run_of
from hub.store.session import Connection


@dataclass(frozen=True)
class Cause:
    """The run of ours that an event came from."""

    run_id: str
    recipe: str
    depth: int


async def causes(c: Connection, references: Iterable[str]) -> Mapping[str, Cause]:
    """The runs whose effects have these references at a vendor; others' references are left out."""
    given = {given: run for given in references if (run := run_of(given))}
    rows = await c.group(
        "select run.id as id, run.recipe as recipe, run.depth as depth, effect.key as key "
        "from run join {rows} on run.id = r.id join effect on effect.run_id = run.id",
        {"id": "text"},
        [{"id": run} for run in sorted(set(given.values()))],
    )
    found = {reference(row["key"]): Cause(row["id"], row["recipe"], row["depth"]) for row in rows}
    return {one: found[one] for one in given if one in found}


async def entered_lately(
    c: Connection, entries: Iterable[tuple[str, str]], *, since_ms: int, id_floor: str
) -> dict[tuple[str, str], int]:
    """How many runs of each (recipe, contact) started since an instant. `id_floor` keeps it from reading older ones."""
    # Ranges over both columns of `run_of_contact`, and a recipe that no index is asked for: no other way looks good.
    rows = await c.group(
        "select r.recipe as recipe, r.contact as contact, count(*) as n from {rows} "
        "join run on (run.contact_id, run.id) > (r.contact, :floor) and (run.contact_id, run.id) < (r.contact, 'g') "
        "where run.recipe || '' = r.recipe and run.started_at > :since group by r.recipe, r.contact",
        {"recipe": "text", "contact": "text"},
        [{"recipe": recipe, "contact": contact} for recipe, contact in sorted(set(entries))],
        floor=id_floor,
        since=since_ms,
    )
    return {(row["recipe"], row["contact"]): row["n"] for row in rows}
