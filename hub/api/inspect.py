"""What happened and why: runs, events, deliveries, contacts."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from hub import replays, shown
from hub.api.access import Reading, Writing, caller
from hub.api.given import Cursor, Listing, Most, Page
from hub.api.problems import for_programs
from hub.store import deliveries, runs, views

router = APIRouter(prefix="/api/v1", tags=["inspect"])

RunStatus = Literal["ready", "running", "sleeping", "waiting", "parked", "done", "failed", "cancelled"]
Outcome = Literal["done", "failed", "skipped", "unknown"]
Stage = Literal["enrich", "route", "routed", "quarantined", "plugin", "unconnected", "history", "erased"]
DeliveryState = Literal["accepted", "unrecognised", "unreadable"]
# How long a caller waits to hear what came of a replay.
_REPLAY_PATIENCE_S = 5.0


@router.get("/runs")
async def list_runs(
    hub: Reading,
    recipe: str | None = None,
    status: RunStatus | None = None,
    contact: str | None = None,
    outcome: Outcome | None = None,
    cursor: Cursor = None,
    limit: Most = 50,
) -> Page[shown.RunLine]:
    """Runs, newest first. `contact` is an id, e-mail address or phone number; `outcome=unknown`: of a call that nobody knows the end of."""
    asked = Listing("runs", recipe=recipe, status=status, contact=contact, outcome=outcome)
    async with hub.store.read() as c:
        found = await views.list_runs(
            c,
            recipe=recipe,
            status=status,
            contact=None if contact is None else await views.find_contact(c, contact),
            outcome=outcome,
            before=asked.after(cursor),
            most=limit + 1,
        )
    return asked.page(found, limit, lambda run: run["id"])


@router.get("/runs/{run_id}")
async def show_run(hub: Reading, run_id: str) -> shown.Run:
    """One run with every step's reason, its effects and what it waits for."""
    async with hub.store.read() as c:
        return await views.show_run(c, run_id)


@router.post("/runs/{run_id}/cancel")
async def cancel_run(hub: Writing, run_id: str) -> shown.Run:
    """End a run: at once when it waits, before its next call when it is being worked on. One that has ended stays as it is."""
    async with hub.store.write() as c:
        found = await views.show_run(c, run_id)
        if found["finished_at"] is None:
            await runs.stop(c, {run_id: {"cancel": "cancelled", "event": None}}, hub.clock.now_ms())
    hub.ring()
    async with hub.store.read() as c:
        return await views.show_run(c, run_id)


@router.get("/events")
async def list_events(
    hub: Reading, type: str | None = None, stage: Stage | None = None, cursor: Cursor = None, limit: Most = 50
) -> Page[shown.EventLine]:
    """Events, newest first, without their data."""
    asked = Listing("events", type=type, stage=stage)
    async with hub.store.read() as c:
        found = await views.list_events(
            c,
            type_=type,
            stage=stage,
            before=asked.after(cursor),
            most=limit + 1,
            installed=hub.plugins.catalogue.triggers,
        )
    return asked.page(found, limit, lambda event: event["id"])


@router.get("/events/{event_id}")
async def show_event(hub: Reading, event_id: str) -> shown.Event:
    """One event, the runs it started, and why it started none of others."""
    async with hub.store.read() as c:
        return await views.show_event(c, event_id)


@router.post("/events/{event_id}/replay")
async def replay_event(hub: Writing, request: Request, event_id: str) -> shown.Event:
    """Route an event again: recipes that it has not started are asked anew. Answers what came of it within five seconds.

    While `stage` is still `route`, no worker has taken it up.
    """
    kept = hub.settings.keep_runs_days
    await replays.replay(hub.store, hub.clock, event_id, who=caller(request), keep_runs_days=kept, ring=hub.ring)
    return await replays.outcome(hub.store, event_id, limit_s=_REPLAY_PATIENCE_S)


@router.get("/deliveries")
async def list_deliveries(
    hub: Reading, state: DeliveryState | None = None, cursor: Cursor = None, limit: Most = 50
) -> Page[shown.Delivery]:
    """Calls that were stored, newest first, without their bodies."""
    asked = Listing("deliveries", state=state)
    async with hub.store.read() as c:
        rows = await deliveries.listed(c, state=state, most=limit + 1, before=asked.after(cursor))
    return asked.page([views.delivery_view(row) for row in rows], limit, lambda delivery: delivery["id"])


@router.get("/refusals")
async def list_refusals(hub: Reading, limit: Most = 50) -> list[shown.Refusal]:
    """Calls that were refused, counted per address, reason and minute, newest first; whose address it is, and what to do."""
    async with hub.store.read() as c:
        found = await views.list_refusals(c, most=limit)
    for one in found:
        one["remedy"] = for_programs(one["remedy"])
    return found


@router.get("/contacts")
async def list_contacts(hub: Reading, cursor: Cursor = None, limit: Most = 50) -> Page[shown.Person]:
    """People, newest first."""
    asked = Listing("contacts")
    async with hub.store.read() as c:
        found = await views.list_contacts(c, before=asked.after(cursor), most=limit + 1)
    return asked.page(found, limit, lambda person: person["id"])


@router.get("/contacts/{name}")
async def show_contact(hub: Reading, name: str) -> shown.Contact:
    """A person by id, e-mail address or phone number: consent, runs, messages, and why they entered no more recipes."""
    async with hub.store.read() as c:
        return await views.show_contact(c, await views.find_contact(c, name))


@router.get("/counts")
async def counts(hub: Reading) -> shown.Counts:
    """How much of everything there is."""
    async with hub.store.read() as c:
        return await views.counts(c)
