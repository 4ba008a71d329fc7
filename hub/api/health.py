"""Is this process alive, and can it do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.requests import Request

from hub.api.access import Reading, get_hub
from hub.clock import rfc3339
from hub.errors import HubError, StoreUnavailable
from hub.events import Json
from hub.process import Hub
from hub.store import migrate

# Whoever asks whether this process is well does not wait long for the answer.
_PATIENCE_S = 2.0

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Deliveries are taken: the database answers and has the schema this release needs, or the spool keeps them.

    Else 503 and the reason. `spool` says how much waits there: records, bytes, and the start of the oldest file;
    `turned_away` how many deliveries were answered 503 since the start.
    """
    hub = get_hub(request)
    waiting = _waiting(hub)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await migrate.require_ready_or_memory(hub.store)
    except (StoreUnavailable, TimeoutError) as error:
        reason = str(error) or f"the database did not answer within {_PATIENCE_S:.0f} s"
        if hub.ingest.accepts:
            return JSONResponse({"status": "spooling", "reason": reason, **waiting})
        return JSONResponse({"status": "unavailable", "reason": reason, **waiting}, 503, {"Retry-After": "5"})
    except HubError as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, 503, {"Retry-After": "5"})
    return JSONResponse({"status": "ok", **waiting})


def _waiting(hub: Hub) -> dict[str, Json]:
    counted: dict[str, Json] = {"turned_away": hub.ingest.turned_away}
    if hub.ingest.spool is None:
        return counted
    depth = hub.ingest.spool.depth
    since = rfc3339(depth.oldest_ms) if depth.oldest_ms is not None else None
    return counted | {"spool": {"records": depth.records, "bytes": depth.bytes, "oldest": since}}


@router.get("/api/v1/plugins")
async def plugins(hub: Reading) -> list[dict[str, Json]]:
    """The loaded plugins and what they offer."""
    return [vars(info) for info in hub.plugins.infos]
