"""Notices: what plugins are still to be told. A row of `work` each, written with the fact itself and removed once they heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import to_json

from hub.events import Json
from hub.store.session import Connection
from hub.values import value

KIND = "notice"


@value(frozen=True)
class Notice:
    """A hook and what it is called with; `ref` names the fact. With an `owner` it is born in hand until `due_ms`.

    The notice of an effect's outcome names the effect; with a `token` it is written only where the outcome of that try is
    what is stored.
    """

    ref: str
    hook: str
    arguments: Mapping[str, Json]
    due_ms: int
    owner: str | None = None
    effect: str | None = None
    token: str | None = None


@value(frozen=True)
class Kept:
    """A notice that is stored, and the epoch that whoever tells it removes it under."""

    notice: Notice
    epoch: int


# The same fact written a second time, or a later outcome of the same effect, is told again.
_WRITE = """
insert into work (kind, ref, queue, due_at, data, owner, epoch, claims)
select 'notice', ref, 'notice', due_at, data, owner, epoch, epoch from {rows}
where r.token is null or exists (select 1 from effect where effect.key = r.effect and effect.token = r.token)
on conflict (kind, ref) do update
set due_at = excluded.due_at, data = excluded.data, owner = excluded.owner, epoch = work.epoch + 1, claims = excluded.claims
returning ref, epoch
"""
_COLUMNS = dict.fromkeys(("ref", "data", "owner", "effect", "token"), "text") | {"due_at": "bigint", "epoch": "bigint"}


async def write(c: Connection, notices: Sequence[Notice]) -> list[Kept]:
    """Write notices in the transaction of their facts; returns those that are to be told."""
    rows = await c.group(_WRITE, _COLUMNS, [_row(notice) for notice in notices])
    epochs = {row["ref"]: row["epoch"] for row in rows}
    return [Kept(notice, epochs[notice.ref]) for notice in notices if notice.ref in epochs]


async def finish(c: Connection, told: Sequence[Kept]) -> None:
    """Remove what was told, unless it is somebody else's by now."""
    await c.group(
        "delete from work where kind = 'notice' and ref in (select ref from {rows}) "
        "and (ref, epoch) in (select ref, epoch from {rows})",
        {"ref": "text", "epoch": "bigint"},
        [{"ref": kept.notice.ref, "epoch": kept.epoch} for kept in told],
    )


def _row(notice: Notice) -> dict[str, Json]:
    return {
        "ref": notice.ref,
        "data": to_json({"hook": notice.hook, "arguments": notice.arguments}).decode(),
        "owner": notice.owner,
        "effect": notice.effect,
        "token": notice.token,
        "due_at": notice.due_ms,
        "epoch": int(notice.owner is not None),
    }
