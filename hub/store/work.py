"""The queue: what is due, who holds it, until when. `due_at` is ready time, lease expiry and timer in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub.store.session import Connection
from hub.values import value

# A parked row is due never; `unpark` makes it due again.
NEVER_MS = 9_000_000_000_000_000


@value(frozen=True)
class Claim:
    """A piece of work in hand. Only who knows the current `epoch` may advance it. `queue` is the text of its lane, `was_due_at` since when it was
    due.
    """

    kind: str
    ref: str
    queue: str
    epoch: int
    claims: int
    attempts: int
    data: str | None
    was_due_at: int

    @property
    def name(self) -> str:
        """What it is called in a log: without the last part of `connection|type|key`, which may name a person."""
        return "|".join(self.ref.split("|")[:2])


_TAKE = """
update work set was_due_at = due_at, due_at = :until, epoch = epoch + 1, claims = claims + 1, owner = :owner,
parked_on = null where {chosen}
returning kind, ref, queue, epoch, claims, attempts, data, was_due_at
"""


async def claim(c: Connection, *, now_ms: int, lease_ms: int, owner: str, most: int) -> list[Claim]:
    """T3: take what is due, oldest first."""
    pick = f"where due_at <= :now order by due_at limit :most {c.skip_locked}"
    # PostgreSQL may run a subselect after `in` once per row, and then claims more than `most`; an array is made once.
    chosen = (
        f"ctid = any(array(select ctid from work {pick}))"
        if c.dialect == "postgresql"
        else f"(kind, ref) in (select kind, ref from work {pick})"
    )
    rows = await c.all(_TAKE.format(chosen=chosen), now=now_ms, until=now_ms + lease_ms, owner=owner, most=most)
    return [Claim(**row) for row in rows]


async def claim_from(
    c: Connection, portions: Mapping[str, int], *, now_ms: int, lease_ms: int, owner: str
) -> list[Claim]:
    """T3 when it is crowded: take what is due from each of these queues, oldest first, at most so many."""
    given = {"now": now_ms, "until": now_ms + lease_ms, "owner": owner}
    if c.dialect == "postgresql":
        chosen = (
            "ctid = any(array(select w.ctid from {rows} cross join lateral (select work.ctid from work "
            "where work.queue = r.queue and work.due_at <= :now order by work.due_at limit r.most "
            "for update skip locked) w))"
        )
        rows = await c.group(
            _TAKE.replace("{chosen}", chosen),
            {"queue": "text", "most": "bigint"},
            [{"queue": queue, "most": most} for queue, most in portions.items()],
            **given,
        )
    else:
        # SQLite joins nothing laterally: one select per queue.
        named = {f"q{n}": queue for n, queue in enumerate(portions)} | {
            f"m{n}": m for n, m in enumerate(portions.values())
        }
        picks = " union all ".join(
            f"select kind, ref from (select kind, ref from work where queue = :q{n} and due_at <= :now "
            f"order by due_at limit :m{n})"
            for n in range(len(portions))
        )
        rows = await c.all(_TAKE.format(chosen=f"(kind, ref) in ({picks})"), **named, **given)
    return [Claim(**row) for row in rows]


async def lanes(c: Connection) -> dict[str, int]:
    """When the earliest work of each queue is due; it jumps from queue to queue along the index."""
    # Compared as pairs, so that only the index of both will do: by that of the due times alone whoever looks for the earliest
    # of a lane that has to wait looks at all that is due before it.
    rows = await c.all(
        """
        with recursive lane(queue) as (
          select min(queue) from work
          union all
          select (select min(queue) from work where queue > lane.queue) from lane where lane.queue is not null
        )
        select queue, (
          select due_at from work where (work.queue, work.due_at) >= (lane.queue, 0) order by work.queue, work.due_at limit 1
        ) as due
        from lane where queue is not null
        """
    )
    return {row["queue"]: row["due"] for row in rows if row["due"] is not None and row["due"] < NEVER_MS}


async def renew(
    c: Connection, *, owner: str, until_ms: int, held: Iterable[tuple[str, str, int]]
) -> set[tuple[str, str]]:
    """T7: lengthen the leases of held work (kind, ref, epoch). What is not in the answer is lost."""
    rows = await c.group(
        "update work set due_at = :until from {rows} "
        "where {match work.kind kind} and {match work.ref ref} and work.epoch = r.epoch and work.owner = :owner "
        "returning work.kind as kind, work.ref as ref",
        {"kind": "text", "ref": "text", "epoch": "bigint"},
        [{"kind": kind, "ref": ref, "epoch": epoch} for kind, ref, epoch in held],
        until=until_ms,
        owner=owner,
    )
    return {(row["kind"], row["ref"]) for row in rows}


async def shorten(c: Connection, *, until_ms: int) -> int:
    """End leases that last longer than any does, from before the clock was set back; returns how many."""
    return await c.run(
        "update work set due_at = :until where owner is not null and due_at > :until",
        until=until_ms,
    )


async def end_stuck(c: Connection, after_s: float) -> int:
    """End sessions of hub processes that stopped in the middle of a statement, and with them their locks; returns how many.

    To the server such a session is busy, so that none of its own limits ends it: asyncpg sends a statement's parts one by
    one when it prepares it. SQLite has no sessions that outlive their process.
    """
    if c.dialect != "postgresql":
        return 0
    ended = await c.all(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and usename = current_user and application_name = 'tetik-hub' and state = 'active' and wait_event = 'ClientRead' "
        "and state_change < clock_timestamp() - make_interval(secs => :after)",
        after=after_s,
    )
    return len(ended)


async def put(c: Connection, rows: Iterable[Mapping[str, object]]) -> None:
    """Add work, or move what is there already to the new due time with new data; a holder of the old epoch is fenced off."""
    await c.group(
        """
        insert into work (kind, ref, queue, due_at, data)
        select kind, ref, queue, due_at, data from {rows} where true
        on conflict (kind, ref) do update
        set due_at = excluded.due_at, data = excluded.data, epoch = work.epoch + 1, owner = null, claims = 0, attempts = 0,
        parked_on = null
        """,
        {"kind": "text", "ref": "text", "queue": "text", "due_at": "bigint", "data": "text"},
        rows,
    )


async def add_if_absent(c: Connection, kind: str, ref: str, queue: str, due_ms: int, data: str | None = None) -> None:
    """Add work unless it is there already."""
    await c.run(
        "insert into work (kind, ref, queue, due_at, data) values (:kind, :ref, :queue, :due, :data) on conflict do nothing",
        kind=kind,
        ref=ref,
        queue=queue,
        due=due_ms,
        data=data,
    )


async def remember(c: Connection, held: Claim, data: str) -> bool:
    """Write down how far work in hand has come; False when it is no longer ours."""
    return bool(
        await c.run(
            "update work set data = :data where kind = :kind and ref = :ref and epoch = :epoch",
            data=data,
            kind=held.kind,
            ref=held.ref,
            epoch=held.epoch,
        )
    )


async def finish(c: Connection, held: Claim) -> bool:
    """Remove finished work; False when it is no longer ours."""
    return bool(
        await c.run(
            "delete from work where kind = :kind and ref = :ref and epoch = :epoch",
            kind=held.kind,
            ref=held.ref,
            epoch=held.epoch,
        )
    )


async def give_back(
    c: Connection, held: Claim, *, due_ms: int, data: str | None = None, attempts: int = 0, counted: bool = False
) -> bool:
    """Return work to be due again; the claim does not count unless `counted`. False when it is no longer ours."""
    return bool(
        await c.run(
            "update work set due_at = :due, owner = null, data = coalesce(:data, data), attempts = :attempts, "
            "claims = case when :counted = 1 then claims else 0 end "
            "where kind = :kind and ref = :ref and epoch = :epoch",
            due=due_ms,
            data=data,
            attempts=attempts,
            counted=int(counted),
            kind=held.kind,
            ref=held.ref,
            epoch=held.epoch,
        )
    )


async def park(c: Connection, held: Claim, on: str) -> bool:
    """Set work aside until `unpark(on)`; False when it is no longer ours."""
    return bool(
        await c.run(
            "update work set due_at = :never, owner = null, claims = 0, parked_on = :on "
            "where kind = :kind and ref = :ref and epoch = :epoch",
            never=NEVER_MS,
            on=on,
            kind=held.kind,
            ref=held.ref,
            epoch=held.epoch,
        )
    )


async def unpark(c: Connection, on: str, now_ms: int) -> int:
    """T9: what was parked on this is due again, spread over a second; returns how many."""
    rows = await c.all(
        f"update work set parked_on = null, due_at = cast(:now as bigint) + {c.within_a_second} "
        "where parked_on = :on returning kind, ref",
        on=on,
        now=now_ms,
    )
    await c.group(
        "update run set status = 'ready', reason = null from {rows} where run.id = r.ref",
        {"ref": "text"},
        [{"ref": row["ref"]} for row in rows if row["kind"] == "run"],
    )
    return len(rows)


async def next_due_ms(c: Connection) -> int | None:
    """When the earliest work is due; None when there is none but parked work."""
    row = await c.first("select min(due_at) as due from work where due_at < :never", never=NEVER_MS)
    return row["due"] if row else None
