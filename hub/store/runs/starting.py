"""Starting runs (T2), and what decides whether one may start: known entry keys, live runs, times of entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.store.lanes import Lane
from hub.store.runs.rows import RunRow
from hub.store.session import Change, Connection
from hub.store.work import Claim
from hub.values import value


@value(frozen=True)
class NewRun:
    """A run about to start."""

    id: str
    recipe: str
    version: int
    contact_id: str | None
    entry_key: str
    scope: str
    trigger: Mapping[str, Json]
    started_at_ms: int
    depth: int = 0
    since_ms: int | None = None
    """From when on what comes counts for it, if not from its start."""

    @property
    def ctx(self) -> Mapping[str, Json]:
        """What its first decision finds."""
        return {} if self.since_ms is None else {"since": self.since_ms}

    @property
    def queue(self) -> str:
        """Where it stands at first."""
        return str(Lane(self.recipe))

    def row(self) -> RunRow:
        """The run as it is stored when it has just started."""
        return RunRow(
            id=self.id,
            recipe=self.recipe,
            version=self.version,
            contact_id=self.contact_id,
            entry_key=self.entry_key,
            scope=self.scope,
            status="ready",
            position=None,
            trigger=self.trigger,
            ctx=self.ctx,
            wake=None,
            stop=None,
            reason=None,
            ended_by=None,
            started_at_ms=self.started_at_ms,
            finished_at_ms=None,
            steps=0,
            watches=0,
        )


@value(frozen=True)
class Lease:
    """Who takes up to `most` pieces of work in hand, until when."""

    owner: str
    until_ms: int
    most: int


async def start(c: Connection, runs: Sequence[NewRun], lease: Lease, *along: Change) -> list[tuple[Claim, RunRow]]:
    """Insert runs with their work, except those whose entry key is known. Returns the ones that are born in hand.

    A run that its router can take at once is claimed as it is made: that saves a claim, which is a transaction. Changes
    that go `along` cost no round trip of their own.
    """
    kept, left = runs[: lease.most], runs[lease.most :]
    work = Change(
        "insert into work (kind, ref, queue, due_at, owner, epoch, claims) "
        "select 'run', ref, queue, due_at, owner, epoch, epoch from {rows} where true",
        {"ref": "text", "queue": "text", "due_at": "bigint", "owner": "text", "epoch": "bigint"},
        [
            *(
                {"ref": r.id, "queue": r.queue, "due_at": lease.until_ms, "owner": lease.owner, "epoch": 1}
                for r in kept
            ),
            *({"ref": r.id, "queue": r.queue, "due_at": r.started_at_ms, "epoch": 0} for r in left),
        ],
    )
    rows = await c.together(*along, work, Change(_START, _START_COLUMNS, [_start_row(r) for r in runs]))
    new = {row["id"] for row in rows} if runs else set()
    if known := [{"ref": r.id} for r in runs if r.id not in new]:
        await c.group("delete from work where kind = 'run' and ref in (select ref from {rows})", {"ref": "text"}, known)
    return [
        (Claim("run", r.id, r.queue, epoch=1, claims=1, attempts=0, data=None, was_due_at=r.started_at_ms), r.row())
        for r in kept
        if r.id in new
    ]


_START = """
insert into run (id, recipe, version, contact_id, entry_key, scope, status, trigger_data, ctx, started_at, depth)
select id, recipe, version, contact_id, entry_key, scope, 'ready', trigger_data, ctx, started_at, depth from {rows} where true
on conflict (recipe, entry_key) do nothing returning id
"""
_START_COLUMNS = dict.fromkeys(("id", "recipe", "contact_id", "entry_key", "scope", "trigger_data", "ctx"), "text") | {
    "version": "bigint",
    "started_at": "bigint",
    "depth": "bigint",
}


def _start_row(run: NewRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "recipe": run.recipe,
        "version": run.version,
        "contact_id": run.contact_id,
        "entry_key": run.entry_key,
        "scope": run.scope,
        "trigger_data": to_json(run.trigger).decode(),
        "ctx": to_json(run.ctx).decode(),
        "started_at": run.started_at_ms,
        "depth": run.depth,
    }


async def known_keys(c: Connection, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (recipe, entry key) started a run already."""
    rows = await c.group(
        "select run.recipe as recipe, run.entry_key as entry_key from {rows} "
        "join run on run.recipe = r.recipe and run.entry_key = r.entry_key",
        {"recipe": "text", "entry_key": "text"},
        [{"recipe": recipe, "entry_key": key} for recipe, key in sorted(set(keys))],
    )
    return {(row["recipe"], row["entry_key"]) for row in rows}


async def inside(c: Connection, scopes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """The live runs of each (recipe, scope): run ids, oldest first."""
    # A subselect per row is always looked up by index; a join may read all runs that go on while they are few.
    rows = await c.group(
        f"select recipe, scope, (select {c.listed('run.id')} from run where run.recipe = r.recipe "
        "and run.scope = r.scope and run.finished_at is null) as ids from {rows}",
        {"recipe": "text", "scope": "text"},
        [{"recipe": recipe, "scope": scope} for recipe, scope in scopes],
    )
    return {(row["recipe"], row["scope"]): sorted(row["ids"].split()) for row in rows if row["ids"]}


async def entries(c: Connection, scopes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """The recorded entry times of each (recipe, scope), locked; rows are made where there are none."""
    given = [{"recipe": recipe, "scope": scope} for recipe, scope in sorted(set(scopes))]
    columns = {"recipe": "text", "scope": "text"}
    await c.group(
        "insert into entry (recipe, scope, times) select recipe, scope, '[]' from {rows} where true on conflict do nothing",
        columns,
        given,
    )
    lock = "for update of entry" if c.dialect == "postgresql" else ""
    rows = await c.group(
        "select entry.recipe as recipe, entry.scope as scope, entry.times as times from entry join {rows} "
        f"on entry.recipe = r.recipe and entry.scope = r.scope order by entry.recipe, entry.scope {lock}",
        columns,
        given,
    )
    return {(row["recipe"], row["scope"]): from_json(row["times"]) for row in rows}


def write_entries(times: Mapping[tuple[str, str], Sequence[int]]) -> Change:
    """Replace the recorded entry times."""
    return Change(
        "update entry set times = r.times from {rows} where entry.recipe = r.recipe and entry.scope = r.scope",
        {"recipe": "text", "scope": "text", "times": "text"},
        [{"recipe": r, "scope": s, "times": to_json(list(t)).decode()} for (r, s), t in times.items()],
    )
