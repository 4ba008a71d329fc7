"""What happened and why: runs, events, deliveries, contacts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from hub import replays
from hub.api.access import Reading, Writing, caller
from hub.events import Json
from hub.store import deliveries, runs, views

router = APIRouter(prefix="/api/v1", tags=["inspect"])

# How long a caller waits to hear what came of a replay.
_REPLAY_PATIENCE_S = 5.0

Most = Annotated[int, Query(ge=1, le=200)]


@router.get("/runs")
async def list_runs(
    hub: Reading,
    recipe: str | None = None,
    status: str | None = None,
    contact: str | None = None,
    outcome: str | None = None,
    before: str | None = None,
    limit: Most = 50,
) -> list[dict[str, Json]]:
    """Runs, newest first; go on with the last id as `before`. `outcome=unknown`: of a call whose outcome is not known."""
    async with hub.store.read() as c:
        return await views.list_runs(
            c, recipe=recipe, status=status, contact=contact, outcome=outcome, before=before, most=limit
        )


@router.get("/runs/{run_id}")
async def show_run(hub: Reading, run_id: str) -> dict[str, Json]:
    """One run with every step's reason, its effects and what it waits for."""
    async with hub.store.read() as c:
        return await views.show_run(c, run_id)


@router.post("/runs/{run_id}/cancel")
async def cancel_run(hub: Writing, run_id: str) -> dict[str, Json]:
    """End a run: at once when it waits, before its next call when it is being worked on."""
    async with hub.store.write() as c:
        shown = await views.show_run(c, run_id)
        if shown["finished_at"] is None:
            await runs.stop(c, {run_id: {"cancel": "cancelled", "event": None}}, hub.clock.now_ms())
    hub.ring()
    async with hub.store.read() as c:
        return await views.show_run(c, run_id)


@router.get("/events")
async def list_events(
    hub: Reading, type: str | None = None, stage: str | None = None, before: str | None = None, limit: Most = 50
) -> list[dict[str, Json]]:
    """Events, newest first, without their data; go on with the last id as `before`."""
    async with hub.store.read() as c:
        return await views.list_events(c, type_=type, stage=stage, before=before, most=limit)


@router.get("/events/{event_id}")
async def show_event(hub: Reading, event_id: str) -> dict[str, Json]:
    """One event, the runs it started, and why it started none of others."""
    async with hub.store.read() as c:
        return await views.show_event(c, event_id)


@router.post("/events/{event_id}/replay")
async def replay_event(hub: Writing, request: Request, event_id: str) -> dict[str, Json]:
    """Route an event again: recipes that it has not started are asked anew. Answers what came of it within five seconds.

    While `stage` is still `route`, no worker has taken it up.
    """
    kept = hub.settings.keep_runs_days
    await replays.replay(hub.store, hub.clock, event_id, who=caller(request), keep_runs_days=kept, ring=hub.ring)
    return await replays.outcome(hub.store, event_id, limit_s=_REPLAY_PATIENCE_S)


@router.get("/deliveries")
async def list_deliveries(
    hub: Reading, state: str | None = None, before: str | None = None, limit: Most = 50
) -> list[dict[str, Json]]:
    """Calls that were stored, newest first, without their bodies."""
    async with hub.store.read() as c:
        return [views.delivery_view(r) for r in await deliveries.listed(c, state=state, most=limit, before=before)]


@router.get("/deliveries/refused")
async def list_refusals(hub: Reading, limit: Most = 50) -> list[dict[str, Json]]:
    """Calls that were refused, counted per address, reason and minute."""
    async with hub.store.read() as c:
        return [views.refusal_view(row) for row in await deliveries.refused(c, limit)]


@router.get("/contacts/{name}")
async def show_contact(hub: Reading, name: str) -> dict[str, Json]:
    """A person by id, e-mail address or phone number: consent, runs, messages, and why they entered no more recipes."""
    async with hub.store.read() as c:
        return await views.show_contact(c, await views.find_contact(c, name))


@router.get("/counts")
async def counts(hub: Reading) -> dict[str, Json]:
    """How much of everything there is."""
    async with hub.store.read() as c:
        return await views.counts(c)
