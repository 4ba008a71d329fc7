"""`/webhooks/{connector}/{key}`: reads the call within its limits and hands the raw bytes to `hub.ingest`."""

from __future__ import annotations

from math import ceil

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub import seams
from hub.errors import StoreUnavailable
from hub.ingest import MAX_BODY_BYTES, Refused
from hub.process import Hub

# Unknown address and bad signature answer the same, so that nobody can probe for addresses.
_REFUSED = 401


class _TooLarge(Exception):
    """The body is larger than the hub takes."""

    def __init__(self, size: int) -> None:
        self.size = size


def add_to(app: FastAPI) -> None:
    """A plain route: vendors' calls need no parsing by the framework, and every millisecond counts here."""
    app.router.routes.append(Route("/webhooks/{connector}/{key}", _receive, methods=["GET", "POST", "HEAD"]))


async def _receive(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    ingest, door = hub.ingest, request.app.state.door
    connector, key = request.path_params["connector"], request.path_params["key"]
    caller = request.client.host if request.client else ""
    wait_s = door.shut(caller) or door.call(f"{connector}/{key}", hub.settings.webhooks_per_s)
    if wait_s is not None:
        ingest.refuse_flood(connector, key)
        return Response(status_code=429, headers={"Retry-After": str(ceil(wait_s)), "Connection": "close"})
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    try:
        body = await _read(request, headers)
    except _TooLarge as large:
        ingest.refuse_large(connector, key, headers, large.size)
        return Response(status_code=413, headers={"Connection": "close"})
    except ClientDisconnect:
        return Response(status_code=400)
    try:
        reply = await ingest.receive(
            connector,
            key,
            method=request.method,
            query=request.scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
        )
    except Refused:
        door.wrong(caller)
        return Response(status_code=_REFUSED)
    except StoreUnavailable:
        return Response(status_code=503, headers={"Retry-After": "5"})
    return _Answer(reply.body, reply.status, media_type=reply.content_type if reply.body else None)


class _Answer(Response):
    """The answer to a call that was stored."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        seams.reach("ingest.answered")


async def _read(request: Request, headers: dict[str, str]) -> bytes:
    """The raw body. Raises _TooLarge before reading when the length says so, else as soon as it is passed."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _TooLarge(int(declared))
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _TooLarge(size)
        chunks.append(chunk)
    return b"".join(chunks)
