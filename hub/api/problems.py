"""Every error as RFC 9457 problem details, and the same in the OpenAPI document."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hub.catalogue import nearest
from hub.errors import ConfigError, ConnectorError, HubError, NotThere, RecipeError, RecipeErrors, StoreUnavailable
from hub.events import Json
from hub.misfits import unprefixed

_log = logging.getLogger(__name__)

_QUOTED = re.compile(r"'([^']*)'")
_MEDIA_TYPE = "application/problem+json"
_ANY = {
    401: "No API key was sent, or one that is not known",
    404: "There is no such thing",
    422: "Something in the request is wrong; `errors` says where",
    429: "Too many calls with a wrong API key; come back after the seconds of `Retry-After`",
    503: "The database cannot be reached now; try again after the seconds of `Retry-After`",
}
# What the framework says without a word of what to do.
_WHAT_THEN = {
    404: "there is nothing at this address; /api/v1/openapi.json tells what there is",
    405: "this address does not take this method; the header Allow says which it takes",
}
_ASKING = {502: "The vendor refused or failed; `vendor_status` and `vendor_code` are its own"}
_CHANGING = {
    400: "The body cannot be read",
    403: "The API key may only read",
    413: "The body is larger than the hub takes",
    **_ASKING,
}


# What a message tells people to type, as what a program can call instead. The first fits first.
_FOR_PROGRAMS = tuple(
    (re.compile(typed), call)
    for typed, call in (
        # Where the message names both.
        (r"`hub [^`]+` or (?=(?:GET|POST) /api/v1/)", ""),
        (r"`hub (runs|events|contacts|recipes|connections|apps|caps) list`", r"GET /api/v1/\1"),
        (r"`hub runs list --status (\w+)`", r"GET /api/v1/runs?status=\1"),
        (r"`hub (pauses|deliveries)`", r"GET /api/v1/\1"),
        (r"`hub deliveries --refused`", "GET /api/v1/refusals"),
        (r"`hub (runs|events|contacts|recipes|connections|apps) show ([\w-]+)`", r"GET /api/v1/\1/\2"),
        (r"`hub (runs|events|contacts|recipes) show`", r"GET /api/v1/\1/…"),
        (r"`hub connections remove`", "DELETE /api/v1/connections/…"),
        (r"`hub connections reauthorise ([\w-]+)`", r"POST /api/v1/connections/\1/reauthorise"),
        (r"`hub plugins`", "GET /api/v1/plugins"),
        (r"`hub apps add`", "POST /api/v1/apps"),
        (r"`hub apps set ([\w-]+)`", r"PATCH /api/v1/apps/\1"),
    )
)


class Place(BaseModel):
    """One thing that is wrong, and where."""

    detail: str
    path: str | None = Field(None, description="Where in the request or the recipe")
    file: str | None = None
    line: int | None = None

    @classmethod
    def of(cls, error: RecipeError) -> Place:
        """A place in a recipe."""
        return cls(file=error.file, line=error.line, path=error.path, detail=error.reason)


class Problem(BaseModel):
    """What went wrong, and what to do about it (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Place] | None = None
    vendor_status: int | None = None
    vendor_code: str | None = None


def add_to(app: FastAPI) -> None:
    """Answer every error of this application as a problem."""
    app.add_exception_handler(HubError, _on_hub_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """An error as `application/problem+json`: `title` and `status` of HTTP, `detail` what to do about it."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=for_programs(detail), **more)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, _MEDIA_TYPE)


def for_programs(detail: str) -> str:
    """A message in which commands are named as the calls that do the same, where there are such."""
    for typed, call in _FOR_PROGRAMS:
        detail = typed.sub(call, detail)
    return detail


def document(app: FastAPI) -> dict[str, Json]:
    """The application's OpenAPI document, in which each operation can answer with a problem."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
            openapi_version=app.openapi_version,
        )
        schemas = made["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        problems = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problems.pop("$defs") | {"Problem": problems}
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                if path.startswith("/api/") or "security" in operation:
                    # The only look for which somebody else is asked.
                    asking = _ASKING if path.endswith("/{choices}") else {}
                    _document(operation, _ANY | (_CHANGING if method != "get" else asking))
        app.openapi_schema = made
    return app.openapi_schema


def _document(operation: dict[str, Any], problems: Mapping[int, str]) -> None:
    shape = {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, about in problems.items():
        operation["responses"][str(status)] = {"description": about, "content": shape}
    for parameter in operation.get("parameters", ()):
        # A query has no null: what is not asked for is left out.
        among = [one for one in parameter["schema"].pop("anyOf", ()) if one != {"type": "null"}]
        parameter["schema"] |= among[0] if len(among) == 1 else {"anyOf": among} if among else {}


async def _on_hub_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, StoreUnavailable):
        return problem(503, str(error), headers={"Retry-After": "5"})
    if isinstance(error, NotThere):
        return problem(404, str(error))
    if isinstance(error, RecipeErrors):
        return problem(422, "the recipe is wrong", errors=[Place.of(one) for one in error.errors])
    if isinstance(error, ConfigError):
        return problem(422, str(error))
    if isinstance(error, ConnectorError):
        return problem(502, str(error), vendor_status=error.status, vendor_code=error.code)
    return problem(500, str(error))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError), "registered for this error only"
    return problem(422, "the request does not fit", errors=[_place(request, e) for e in error.errors()])


def _place(request: Request, error: dict[str, Any]) -> Place:
    # Never the input itself: it may be a credential.
    loc, detail = error["loc"], unprefixed(error["msg"])
    if error["type"] == "extra_forbidden":
        known = _fields(request) if len(loc) == 2 else ()
        detail = f"there is no field {loc[-1]}{nearest(str(loc[-1]), known)}"
    elif error["type"] == "literal_error":
        # The nearest right word is one of ours; what was given is not repeated.
        detail += nearest(str(error["input"]), _QUOTED.findall(error["ctx"]["expected"]))
    return Place(path="/".join(map(str, loc)), detail=detail)


def _fields(request: Request) -> Iterable[str]:
    """The names in the body that the request's operation takes."""
    operation = operation_of(request)
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    schemas = document(request.app)["components"]["schemas"]
    return list(schemas.get(reference.rpartition("/")[2], {}).get("properties", ()))


def operation_of(request: Request) -> dict[str, Any]:
    """What the OpenAPI document says about the operation that is asked for; empty when nothing."""
    path = getattr(request.scope.get("route"), "path_format", "")
    return dict(document(request.app)["paths"].get(path, {}).get(request.method.lower(), {}))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), "registered for this error only"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of one of the path's routes only.
        path = getattr(request.scope.get("route"), "path_format", "")
        operations = document(request.app)["paths"].get(path, {})
        headers["Allow"] = ", ".join(sorted(method.upper() for method in operations)) or headers.get("Allow", "")
    told = _WHAT_THEN.get(error.status_code) if error.detail == HTTPStatus(error.status_code).phrase else None
    return problem(error.status_code, told or str(error.detail), headers=headers)


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
