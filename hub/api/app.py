"""The application: routes, API keys, and every error as RFC 9457 problem details."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import hub as package
from hub.api import caps, clock, connections, health, inspect, oauth, pauses, recipes, retries, webhooks
from hub.errors import ConfigError, ConnectorError, HubError, RecipeErrors, StoreUnavailable
from hub.process import Hub
from hub.store.views import NotThere

_log = logging.getLogger(__name__)
_PROBLEM = "application/problem+json"


def make_app(hub: Hub) -> FastAPI:
    """The HTTP side of a hub whose services are running."""
    app = FastAPI(title="Tetik Hub", version=package.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.hub = hub
    webhooks.add_to(app)
    app.include_router(health.probes)
    app.include_router(oauth.pages)
    for module in (health, connections, oauth, recipes, inspect, pauses, retries, caps, clock):
        app.include_router(module.router)
    return _with_problems(app)


def make_probes(hub: Hub) -> FastAPI:
    """Health and metrics alone: what a worker answers."""
    app = FastAPI(title="Tetik Hub", version=package.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.include_router(health.probes)
    return _with_problems(app)


def _with_problems(app: FastAPI) -> FastAPI:
    app.add_exception_handler(HubError, _on_hub_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


def problem(status: int, detail: str, **more: object) -> JSONResponse:
    """An error as `application/problem+json`: `title` and `status` of HTTP, `detail` what to do about it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=_PROBLEM)


async def _on_hub_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, StoreUnavailable):
        answer = problem(503, str(error))
        answer.headers["Retry-After"] = "5"
        return answer
    if isinstance(error, NotThere):
        return problem(404, str(error))
    if isinstance(error, RecipeErrors):
        places = [{"file": e.file, "line": e.line, "path": e.path, "detail": e.reason} for e in error.errors]
        return problem(422, "the recipe is wrong", errors=places)
    if isinstance(error, ConfigError):
        return problem(422, str(error))
    if isinstance(error, ConnectorError):
        return problem(502, str(error), vendor_status=error.status, vendor_code=error.code)
    return problem(500, str(error))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError), "registered for this error only"
    places = [{"path": "/".join(map(str, e["loc"])), "detail": e["msg"]} for e in error.errors()]
    return problem(422, "the request does not fit", errors=places)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), "registered for this error only"
    answer = problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    _log.error(
        "a request failed",
        exc_info=error,
        extra={
            "what": "request_failed",
            "method": request.method,
            "route": getattr(request.scope.get("route"), "path", ""),
        },
    )
    return problem(500, "the hub failed; its log says where")
