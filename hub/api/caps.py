"""Spending caps."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body
from hub.store.spending import Cap

router = APIRouter(prefix="/api/v1/caps", tags=["caps"])


class NewCap(Body):
    """How much may be spent: at most so many of a unit per day or month, on a connection or by a recipe."""

    kind: Literal["connection", "recipe"]
    target: str = Field(max_length=200)
    per: Literal["day", "month"]
    most: int = Field(ge=0, le=2**53)
    unit: str = Field("calls", max_length=100)


@router.get("")
async def list_caps(hub: Reading) -> list[shown.CapUsed]:
    """Every cap, and what was used of it in its present period."""
    return await hub.spending.shown()


@router.post("", status_code=201)
async def set_cap(hub: Writing, new: NewCap) -> Cap:
    """Set a cap, or change the one there is."""
    made = await hub.spending.set(new.kind, new.target, per=new.per, most=new.most, unit=new.unit)
    hub.ring()
    return made


@router.delete("/{id}")
async def remove_cap(hub: Writing, id: str) -> Cap:
    """Remove a cap; runs that wait for it go on."""
    removed = await hub.spending.remove(id)
    hub.ring()
    return removed
