"""Retries: take up runs that failed, and answer those that ask."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from hub import shown
from hub.api.access import Reading, Writing, caller
from hub.api.given import Body, Time
from hub.clock import to_ms
from hub.retries import How, Preview, Retried
from hub.store.retries import Selection

router = APIRouter(prefix="/api/v1", tags=["retries"])


class Retry(Body):
    """Which runs, and how. Without a filter: every run that failed, was set aside as poison, or has an unknown effect."""

    run: str | None = None
    recipe: str | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    step: str | None = None
    error: str | None = None
    outcome: Literal["failed", "unknown", "poison"] | None = None
    started_after: Time | None = None
    started_before: Time | None = None
    finished_after: Time | None = None
    finished_before: Time | None = None
    from_start: bool = False
    newest: bool = False
    include_unknown: bool = False
    repeat_effects: bool = False
    first: int | None = Field(None, ge=1, le=2**31 - 1)

    def selection(self) -> Selection:
        """The runs that are meant."""
        times = ("started_after", "started_before", "finished_after", "finished_before")
        instants = {f"{name}_ms": to_ms(at) for name in times if (at := getattr(self, name)) is not None}
        return Selection(
            run=self.run,
            recipe=self.recipe,
            version=self.version,
            step=self.step,
            error=self.error,
            outcome=self.outcome,
            **instants,
        )

    def how(self) -> How:
        """In which way."""
        return How(
            from_start=self.from_start,
            newest=self.newest,
            include_unknown=self.include_unknown,
            repeat_effects=self.repeat_effects,
        )


class Answer(Body):
    """Whether the call was made."""

    done: bool


@router.post("/retries/preview")
async def preview(hub: Reading, given: Retry) -> Preview:
    """What a retry would call; changes nothing."""
    return await hub.retries.preview(given.selection(), given.how(), first=given.first)


@router.post("/retries")
async def retry(hub: Writing, request: Request, given: Retry) -> Retried:
    """Retry runs; look at the preview first."""
    done = await hub.retries.retry(given.selection(), given.how(), first=given.first, who=caller(request))
    hub.ring()
    return done


@router.post("/runs/{run_id}/answer")
async def answer(hub: Writing, request: Request, run_id: str, given: Answer) -> shown.Answered:
    """Tell a run that asks whether its last call was made."""
    await hub.retries.answer(run_id, done=given.done, who=caller(request))
    hub.ring()
    return {"run": run_id, "status": "ready"}
