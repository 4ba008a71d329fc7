"""Contacts that are one person: merging them, and undoing it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field

from hub import merging, shown
from hub.api.access import Reading, Writing, caller
from hub.api.given import Body

router = APIRouter(prefix="/api/v1/contacts", tags=["merging"])


class Other(Body):
    """The contact that is the same person: id, e-mail address or phone number."""

    other: str = Field(min_length=1, max_length=500)


class Which(Body):
    """The merge to undo; null: the person's newest one that stands."""

    merge: str | None = Field(None, max_length=100)


@router.get("/{name}/merge")
async def look_at_merge(hub: Reading, name: str, other: str) -> shown.Merging:
    """What merging `other` into a person would move, and which runs would end; nothing is done."""
    return merging.view(await hub.merging.look(*await merging.find(hub.store, name, other)))


@router.post("/{name}/merge")
async def merge_contacts(hub: Writing, request: Request, name: str, given: Other) -> shown.Merging:
    """Make two contacts one person: what `other` did, is known by and waits for is this one's; nothing starts."""
    done = await hub.merging.merge(*await merging.find(hub.store, name, given.other), who=caller(request))
    hub.ring()
    return merging.view(done)


@router.post("/{name}/unmerge")
async def unmerge_contacts(hub: Writing, name: str, given: Which) -> shown.Unmerged:
    """Make two contacts of one again: both are as they were, and what came since stays with the one that was kept."""
    done = await hub.merging.undo(await merging.newest(hub.store, name, given.merge))
    hub.ring()
    return merging.undone_view(done)
