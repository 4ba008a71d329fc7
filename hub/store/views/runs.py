"""Runs and recipes as people see them."""

from __future__ import annotations

from pydantic_core import from_json

from hub import shown
from hub.catalogue import nearest
from hub.clock import rfc3339
from hub.errors import NotThere
from hub.store import recipes
from hub.store.session import Connection, Row
from hub.store.views.words import STATUS, when

RUNS = "select run.*, work.due_at as due_at from run left join work on work.kind = 'run' and work.ref = run.id"

# What is true of every run of a status as well, in the words of an index.
_FOUND_BY = {
    **dict.fromkeys(("ready", "running", "sleeping", "waiting"), "run.id in (select ref from work where kind = 'run')"),
    "parked": "run.id in (select ref from work where kind = 'run' and parked_on is not null)",
    "failed": "run.ended_by = 'failed'",
    "cancelled": "run.ended_by = 'cancelled'",
}


async def list_runs(
    c: Connection,
    *,
    recipe: str | None = None,
    status: str | None = None,
    contact: str | None = None,
    outcome: str | None = None,
    before: str | None = None,
    most: int = 50,
) -> list[shown.RunLine]:
    """Runs, newest first; `before` is the id to go on from. With `outcome` those that have an effect of this state.

    Raises NotThere for a recipe that there is not.
    """
    inner = [name for name, shown_as in STATUS.items() if shown_as == status] + [status]
    tests = {
        "run.recipe = :recipe": recipe,
        "run.contact_id = :contact": contact,
        "run.id < :before": before,
        "run.id in (select run_id from effect where state = :outcome)": outcome,
        f"run.status in ({', '.join(f':s{n}' for n in range(len(inner)))})": status,
    }
    where = [test for test, given in tests.items() if given is not None]
    where += [_FOUND_BY[status]] if status in _FOUND_BY else []
    given = {"recipe": recipe, "contact": contact, "before": before, "outcome": outcome} | {
        f"s{n}": s for n, s in enumerate(inner)
    }
    used = {name: value for name, value in given.items() if any(f":{name}" in test for test in where)}
    only = f"where {' and '.join(where)}" if where else ""
    rows = await c.all(f"{RUNS} {only} order by run.id desc limit :most", most=most, **used)
    if recipe is not None and not rows:
        await require_recipe(c, recipe)
    return [run_view(row) for row in rows]


async def require_run(c: Connection, run_id: str) -> None:
    """Raise NotThere when there is no such run."""
    if await c.first("select 1 as known from run where id = :id", id=run_id) is None:
        raise _no_run(run_id)


def _no_run(run_id: str) -> NotThere:
    return NotThere(f"there is no run {run_id}; `hub runs list` shows what there is")


async def show_run(c: Connection, run_id: str) -> shown.Run:
    """One run with every step's reason, its effects, and what it waits for. Raises NotThere."""
    row = await c.first(f"{RUNS} where run.id = :id", id=run_id)
    if row is None:
        raise _no_run(run_id)
    steps = await c.all("select * from step where run_id = :id order by seq", id=run_id)
    effects = await c.all("select * from effect where run_id = :id order by intended_at, key", id=run_id)
    waiters = await c.all("select * from waiter where run_id = :id order by n", id=run_id)
    return {
        **run_view(row),
        "trigger": from_json(row["trigger_data"]),
        "steps": [
            {
                "step": s["step_id"],
                "path": s["path"],
                "kind": s["kind"],
                "outcome": s["outcome"],
                "reason": s["reason"],
                "at": rfc3339(s["at"]),
            }
            for s in steps
        ],
        "effects": [_effect_view(e) for e in effects],
        "waits_for": [{"kind": w["kind"], "name": w["name"], "event": w["type"]} for w in waiters],
    }


def run_view(row: Row) -> shown.RunLine:
    """A run in one line: `due_at` is when it goes on by itself, `reason` what it waits for or why it ended."""
    return {
        "id": row["id"],
        "recipe": row["recipe"],
        "version": row["version"],
        "contact": row["contact_id"],
        "status": STATUS.get(row["status"]) or row["status"],
        "step": row["at_step"],
        "reason": row["reason"],
        "ended_by": row["ended_by"],
        "started_at": rfc3339(row["started_at"]),
        "finished_at": when(row["finished_at"]),
        "due_at": when(row["due_at"]),
    }


def _effect_view(row: Row) -> shown.Effect:
    """An effect: what was asked for, in which state it is, why, and what the vendor answered where it was not done."""
    answer = from_json(row["response"]) if row["response"] else None
    done = row["state"] == "done"
    refusal = {} if done or answer is None else answer
    return {
        "step": row["step_id"],
        "action": row["action"],
        "connection": row["connection"],
        "state": row["state"],
        "reason": row["reason"],
        "http_status": refusal.get("http_status"),
        "code": refusal.get("code"),
        "attempts": row["attempts"],
        "input": from_json(row["request"])["input"],
        "output": answer if done else None,
        "intended_at": rfc3339(row["intended_at"]),
        "finished_at": when(row["finished_at"]),
    }


async def list_recipes(c: Connection, *, after: str | None = None, most: int | None = None) -> list[shown.RecipeLine]:
    """Recipes by name, at most so many of those after a name."""
    return [
        {
            "name": row["name"],
            "state": row["state"],
            "version": row["version"],
            "draft": row["draft"] is not None,
            "updated_at": rfc3339(row["updated_at"]),
        }
        for row in await recipes.listed(c, after=after, most=most)
    ]


async def require_recipe(c: Connection, name: str) -> None:
    """Raise NotThere with the nearest name when there is no such recipe."""
    if await c.first("select 1 as known from recipe where name = :name", name=name) is None:
        known = [row["name"] for row in await c.all("select name from recipe order by name limit 1000")]
        raise NotThere(f"there is no recipe {name}{nearest(name, known)}; `hub recipes list` shows what there is")
