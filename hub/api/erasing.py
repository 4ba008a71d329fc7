"""What people may ask for about their own data: erasing them, exporting what is known, and requests that vendors pass on."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from hub import exporting, shown
from hub.api.access import Reading, Writing, caller
from hub.api.given import Cursor, Listing, Most, Page
from hub.errors import NotThere
from hub.store import erasures, views

router = APIRouter(prefix="/api/v1", tags=["erasing"])

Reason = Annotated[str, Query(min_length=1, max_length=500, description="Why; kept with the record")]


@router.delete("/contacts/{name}")
async def erase_contact(hub: Writing, request: Request, name: str, reason: Reason) -> shown.Erasure:
    """Erase a person (id, e-mail address or phone number): from now on nothing is sent to them; what is stored is emptied next."""
    async with hub.store.read() as c:
        contact_id = await views.find_contact(c, name)
    found = await hub.erasing.erase(contact_id, reason=reason, who=caller(request))
    hub.ring()
    return views.erasure_view(found)


@router.get("/contacts/{name}/export")
async def export_contact(hub: Reading, name: str) -> shown.Export:
    """Everything that is known of a person (id, e-mail address or phone number)."""
    async with hub.store.read() as c:
        contact_id = await views.find_contact(c, name)
    return await exporting.gather(hub.store, hub.clock, contact_id)


@router.get("/erasures")
async def list_erasures(hub: Reading, cursor: Cursor = None, limit: Most = 50) -> Page[shown.Erasure]:
    """What was erased, newest first."""
    asked = Listing("erasures")
    async with hub.store.read() as c:
        rows = await erasures.listed(c, before=asked.after(cursor), most=limit + 1)
    return asked.page([views.erasure_view(row) for row in rows], limit, lambda erasure: erasure["id"])


@router.get("/erasures/{erasure_id}")
async def show_erasure(hub: Reading, erasure_id: str) -> shown.Erasure:
    """One erasure: whether it is done, and how many connections have forgotten."""
    async with hub.store.read() as c:
        row = await erasures.get(c, erasure_id)
    if row is None:
        raise NotThere("there is no erasure with this id; GET /api/v1/erasures lists them")
    return views.erasure_view(row)


@router.get("/export-requests")
async def list_export_requests(
    hub: Reading, state: Literal["open", "done"] | None = None, cursor: Cursor = None, limit: Most = 50
) -> Page[shown.ExportRequest]:
    """What people asked to know of themselves by way of a vendor, newest first."""
    asked = Listing("export-requests", state=state)
    async with hub.store.read() as c:
        rows = await erasures.requests(c, state=state, before=asked.after(cursor), most=limit + 1)
    return asked.page([views.export_request_view(row) for row in rows], limit, lambda one: one["id"])


@router.post("/export-requests/{request_id}/answered")
async def answer_export_request(hub: Writing, request: Request, request_id: str) -> dict[str, bool]:
    """The export was handed over: the request is done. Raises a problem when it is not open."""
    if not await exporting.answer(hub.store, hub.clock, request_id, who=caller(request)):
        raise NotThere("there is no open request with this id; GET /api/v1/export-requests?state=open lists them")
    return {"answered": True}
