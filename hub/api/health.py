"""Is this process alive, and can it do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.requests import Request

from hub.api.access import Reading, get_hub
from hub.errors import HubError
from hub.events import Json
from hub.store import migrate

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """The database answers and has the schema this release needs; else 503 and the reason."""
    try:
        await migrate.require_ready_or_memory(get_hub(request).store)
    except HubError as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, 503, {"Retry-After": "5"})
    return JSONResponse({"status": "ok"})


@router.get("/api/v1/plugins")
async def plugins(hub: Reading) -> list[dict[str, Json]]:
    """The loaded plugins and what they offer."""
    return [vars(info) for info in hub.plugins.infos]
