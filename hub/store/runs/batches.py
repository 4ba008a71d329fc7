"""Effects that are called together: queued in a batch, frozen for its next call, settled one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.store import spending
from hub.store.runs.effects import EffectResult, record, settle_spending
from hub.store.runs.rows import EffectRow
from hub.store.runs.waking import wake
from hub.store.session import Connection
from hub.store.work import Claim
from hub.values import value


@value(frozen=True)
class Frozen:
    """The effects of a batch's next call; `begun` says that an earlier call with exactly these may have been made."""

    effects: Sequence[EffectRow]
    begun: bool


async def freeze_batch(c: Connection, held: Claim, size: int, token: str, now_ms: int) -> Frozen | None:
    """The effects of a batch's next call: those of a call that was begun, exactly, else the oldest queued ones.

    None when the batch is somebody else's by now: a call that they have begun is theirs to judge.
    """
    batch = held.ref
    if not await c.all(
        "select ref from work where kind = 'batch' and ref = :batch and epoch = :epoch", batch=batch, epoch=held.epoch
    ):
        return None
    begun = await c.all("select * from effect where batch = :batch and state = 'intended' order by key", batch=batch)
    if begun:
        return Frozen([EffectRow.of(row) for row in begun], begun=True)
    await c.run(
        "update effect set state = 'intended', token = :token, attempts = attempts + 1, "
        # How long it has been tried counts from the first time.
        "intended_at = case when attempts = 0 then :now else intended_at end where key in "
        "(select key from effect where batch = :batch and state = 'queued' order by intended_at, key limit :size)",
        token=token,
        now=now_ms,
        batch=batch,
        size=size,
    )
    rows = await c.all("select * from effect where batch = :batch and state = 'intended' order by key", batch=batch)
    fresh = [EffectRow.of(row) for row in rows]
    await spending.renamed(c, [effect.key for effect in fresh if effect.request.get("spent")], token)
    return Frozen(fresh, begun=False)


async def thaw_batch(c: Connection, batch: str, epoch: int) -> None:
    """A batch's call certainly did nothing: its effects are queued as before, if the batch is still held under the epoch."""
    await c.run(
        "update effect set state = 'queued' where batch = :batch and state = 'intended' "
        "and exists (select 1 from work where kind = 'batch' and ref = :batch and epoch = :epoch)",
        batch=batch,
        epoch=epoch,
    )


async def settle_batch(c: Connection, results: Sequence[EffectResult], run_ids: Mapping[str, str], now_ms: int) -> None:
    """The results of one call, per effect, and their runs (effect key to run id) woken."""
    await record(c, results)
    await wake(c, {run_ids[r.key]: {"effect": r.key} for r in results}, now_ms)
    await settle_spending(c, [r for r in results if r.spent])


async def queued_in(c: Connection, batch: str, most: int) -> int:
    """How many effects wait for the batch's next call, counted up to `most`."""
    rows = await c.all(
        "select key from effect where batch = :batch and state = 'queued' limit :most", batch=batch, most=most
    )
    return len(rows)
