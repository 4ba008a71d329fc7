"""Pauses: stop calls, see what waits, let it go on."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from hub import shown
from hub.api.access import Reading, Writing, caller
from hub.api.given import Body
from hub.pauses import every_ms, older_ms, view
from hub.store.pauses import Held, Pause

router = APIRouter(prefix="/api/v1/pauses", tags=["pauses"])


class NewPause(Body):
    """What to hold back, and why. `target` is the name; empty for `all`."""

    kind: Literal["all", "recipe", "connection", "channel", "purpose"]
    target: str = Field("", max_length=200)
    reason: str = Field(min_length=1, max_length=1000)


@router.post("", status_code=201)
async def pause(hub: Writing, request: Request, new: NewPause) -> shown.Pause:
    """Make no more such calls, in any process, from two seconds on at the latest."""
    return view(await hub.pauses.pause(new.kind, new.target, reason=new.reason, who=caller(request)))


@router.get("")
async def list_pauses(hub: Reading) -> list[shown.PauseHolding]:
    """What is paused, by whom, why, and how much waits."""
    await hub.pauses.known.refresh()
    return [_holding(one, await hub.pauses.held(one)) for one in await hub.pauses.known.current()]


@router.get("/{id}")
async def show_pause(hub: Reading, id: str, expire_older_than: str | None = None) -> shown.PauseHolding:
    """One pause, and what would happen if it ended now."""
    found = await hub.pauses.by_id(id)
    return _holding(found, await hub.pauses.held(found, expire_older_ms=_ms(expire_older_than)))


@router.delete("/{id}")
async def resume(
    hub: Writing, id: str, expire_older_than: str | None = None, rate: str | None = None
) -> shown.PauseEnded:
    """Let it go on; what waited longer than `expire_older_than` skips that call, `rate` (100/min) spreads the rest."""
    found = await hub.pauses.by_id(id)
    apart_ms = every_ms(rate) if rate else None
    ended = await hub.pauses.resume(found, expire_older_ms=_ms(expire_older_than), every_ms=apart_ms)
    hub.ring()
    return {**view(found), "released": ended.released, "late": ended.late}


def _holding(pause: Pause, held: Held) -> shown.PauseHolding:
    return {
        **view(pause),
        "runs": held.runs,
        "batches": held.batches,
        "late": held.late,
        "expired": held.expired,
    }


def _ms(duration: str | None) -> int | None:
    return None if duration is None else older_ms(duration)
