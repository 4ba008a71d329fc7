"""Who may call the REST API: bearers of a key, hashed in the store, with the scope `read` or `write`."""

from __future__ import annotations

from math import ceil
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.api.door import Door
from hub.apikeys import key_of
from hub.process import Hub

_bearer = HTTPBearer(auto_error=False, description="An API key: `hub api-keys create`")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def get_hub(request: Request) -> Hub:
    """The hub of this process."""
    hub: Hub = request.app.state.hub
    return hub


async def _scope(request: Request, bearer: HTTPAuthorizationCredentials | None) -> str:
    door: Door = request.app.state.door
    address = request.client.host if request.client else ""
    if (wait_s := door.shut(address)) is not None:
        raise HTTPException(429, "too many calls with a wrong API key; wait", {"Retry-After": str(ceil(wait_s))})
    if bearer is None:
        raise HTTPException(401, "send an API key: Authorization: Bearer hub_…", {"WWW-Authenticate": "Bearer"})
    found = await key_of(get_hub(request).store, bearer.credentials)
    if found is None:
        door.wrong(address)
        raise HTTPException(
            401, "this API key is not known; make one with `hub api-keys create`", {"WWW-Authenticate": "Bearer"}
        )
    request.state.caller, scope = found
    return scope


async def reading(request: Request, bearer: Bearer) -> Hub:
    """The hub, for a caller with any key."""
    await _scope(request, bearer)
    return get_hub(request)


async def writing(request: Request, bearer: Bearer) -> Hub:
    """The hub, for a caller whose key may change things."""
    if await _scope(request, bearer) != "write":
        raise HTTPException(403, "this API key may only read; make one with `--scope write`")
    return get_hub(request)


def caller(request: Request) -> str:
    """Who calls: the name of the API key. Ask after `Reading` or `Writing`."""
    return str(request.state.caller)


Reading = Annotated[Hub, Depends(reading)]
Writing = Annotated[Hub, Depends(writing)]
