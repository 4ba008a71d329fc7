"""What every request of the REST API is held to before its route sees it: its size, its query's names, its characters."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.problems import operation_of, problem
from hub.catalogue import nearest

MAX_BODY_BYTES = 1 << 20
_PREFIX = "/api/"
_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; send less at a time"
_CLOSE = {"Connection": "close"}


class Sized:
    """Middleware: a body of more than `MAX_BODY_BYTES` is answered 413, at once when its length says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            await problem(413, _TOO_LARGE, headers=_CLOSE)(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > MAX_BODY_BYTES:
                raise HTTPException(413, _TOO_LARGE, _CLOSE)
            return message

        await self._app(scope, counted, send)


async def check_query(request: Request) -> None:
    """A misspelt name in the query would be ignored and everything answered: refuse it, with the nearest right one.

    PostgreSQL stores no NUL character, so nothing has a name with one.
    """
    known = [p["name"] for p in operation_of(request).get("parameters", ()) if p["in"] == "query"]
    wrong: list[Any] = [
        {"type": "unknown", "loc": ("query", name), "msg": f"there is no parameter {name}{nearest(name, known)}"}
        for name in request.query_params
        if name not in known
    ]
    given = [("query", *pair) for pair in request.query_params.multi_items()]
    given += [("path", name, str(value)) for name, value in request.path_params.items()]
    wrong += [
        {"type": "nul", "loc": (where, name), "msg": "it holds a NUL character"}
        for where, name, value in given
        if "\0" in value
    ]
    if wrong:
        raise RequestValidationError(wrong)
