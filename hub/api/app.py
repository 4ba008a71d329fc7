"""The application: its routes, and what holds for all of them."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

import hub as package
from hub.api import (
    caps,
    clock,
    connections,
    erasing,
    guard,
    health,
    inspect,
    merging,
    oauth,
    pauses,
    problems,
    recipes,
    retries,
    webhooks,
)
from hub.api.door import Door
from hub.process import Hub


def make_app(hub: Hub) -> FastAPI:
    """The HTTP side of a hub whose services are running."""
    app = FastAPI(
        title="Tetik Hub",
        version=package.__version__,
        summary="When this happens to this person, check, wait, branch, act, on any channel.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.hub, app.state.door = hub, Door()
    webhooks.add_to(app)
    app.include_router(health.probes)
    app.include_router(oauth.pages)
    for module in (health, connections, oauth, recipes, inspect, erasing, merging, pauses, retries, caps, clock):
        app.include_router(module.router, dependencies=[Depends(guard.check_query)])
    app.add_middleware(guard.Sized)
    problems.add_to(app)
    app.openapi = lambda: problems.document(app)  # type: ignore[method-assign]  # FastAPI's own way to replace it
    return app


def make_probes(hub: Hub) -> FastAPI:
    """Health and metrics alone: what a worker answers."""
    app = FastAPI(title="Tetik Hub", version=package.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub, app.state.door = hub, Door()
    app.include_router(health.probes)
    problems.add_to(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
