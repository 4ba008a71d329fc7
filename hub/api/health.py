"""Is this process alive, and can it do its work."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request

from hub import shown
from hub.api.access import Bearer, Reading, get_hub, reading
from hub.clock import rfc3339
from hub.errors import HubError, StoreUnavailable
from hub.events import Json
from hub.plugins import PluginInfo
from hub.process import Hub
from hub.store import revisions

# Whoever asks whether this process is well does not wait long for the answer.
_PATIENCE_S = 2.0
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": shown.Health}, 503: {"model": shown.Health}}

probes = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


@probes.get("/health/live", responses=_ANSWERS)
async def live(request: Request) -> Response:
    """This process answers, and its pump looks for work; else 503 and the reason: restart it."""
    silence = get_hub(request).vitals.silence()
    if silence is not None:
        return JSONResponse({"status": "dead", "reason": silence}, 503)
    return JSONResponse({"status": "ok"})


@probes.get("/health/ready", responses=_ANSWERS)
async def ready(request: Request) -> Response:
    """Deliveries are taken: the database answers and has the schema this release needs, or the spool keeps them.

    Else 503 and the reason. `degraded`, with its reasons, is ready still: nothing is lost, something is slower. `spool` says how much waits there: records, bytes, and the start of the oldest file;
    `turned_away` how many deliveries were answered 503 since the start.
    """
    hub = get_hub(request)
    waiting = _waiting(hub)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await revisions.require_ready_or_memory(hub.store)
    except (StoreUnavailable, TimeoutError) as error:
        reason = str(error) or f"the database did not answer within {_PATIENCE_S:.0f} s"
        if hub.ingest.accepts:
            return JSONResponse({"status": "spooling", "reason": reason, **waiting})
        return JSONResponse({"status": "unavailable", "reason": reason, **waiting}, 503, {"Retry-After": "5"})
    except HubError as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, 503, {"Retry-After": "5"})
    worries = await hub.vitals.worries()
    if worries:
        return JSONResponse({"status": "degraded", "reasons": worries, **waiting})
    return JSONResponse({"status": "ok", **waiting})


def _waiting(hub: Hub) -> dict[str, Json]:
    counted: dict[str, Json] = {"turned_away": hub.ingest.turned_away}
    if hub.ingest.spool is None:
        return counted
    depth = hub.ingest.spool.depth
    since = rfc3339(depth.oldest_ms) if depth.oldest_ms is not None else None
    return counted | {"spool": {"records": depth.records, "bytes": depth.bytes, "oldest": since}}


@probes.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, bearer: Bearer) -> Response:
    """Everything in Prometheus' text format, for a caller with any API key, or for all with HUB_METRICS_OPEN."""
    hub = get_hub(request)
    if not hub.settings.metrics_open:
        await reading(request, bearer)
    return Response(await hub.vitals.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/api/v1/vitals")
async def vitals(hub: Reading) -> shown.Vitals:
    """How the hub is doing, as `hub top` shows it."""
    return await hub.vitals.show()


@router.get("/api/v1/plugins")
async def plugins(hub: Reading) -> list[PluginInfo]:
    """The loaded plugins and what they offer."""
    return hub.plugins.infos
