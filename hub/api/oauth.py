"""Authorising accounts in the browser: what programs begin by the API, and the two addresses that the browser goes to."""

from __future__ import annotations

import secrets
from html import escape
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Cookie, Request
from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body, Name
from hub.clock import rfc3339
from hub.connections.authorising import LASTS_MS, AuthorisingError, Begun
from hub.errors import NotThere
from hub.process import Hub

router = APIRouter(prefix="/api/v1", tags=["connections"])
# For browsers: no API key, nothing for a client to be generated from.
pages = APIRouter(prefix="/oauth", include_in_schema=False)

_COOKIE = "hub_authorising"
Session = Annotated[str | None, Cookie(alias=_COOKIE)]


class NewAuthorisation(Body):
    """An account that somebody is to authorise in the browser, for an app of ours."""

    connector: str
    name: Name
    app: str
    fields: dict[str, str] = Field(
        default_factory=dict, description="What must be known before, such as a shop's domain"
    )
    auth: str | None = None
    sandbox: bool = False
    scopes: list[str] | None = Field(None, description="What to ask for; all that the connector can use when left out")


class Scopes(Body):
    """What to ask for; what was granted before when left out."""

    scopes: list[str] | None = None


@router.post("/authorisations", status_code=201)
async def begin(hub: Writing, new: NewAuthorisation) -> shown.Authorisation:
    """Begin to connect an account; whoever may authorise it opens `url` in a browser within ten minutes."""
    begun = await hub.authorising.begin(
        new.connector, new.name, new.fields, app=new.app, auth=new.auth, sandbox=new.sandbox, scopes=new.scopes
    )
    return _view(begun)


@router.post("/connections/{name}/authorise", status_code=201)
async def begin_again(hub: Writing, name: str, asked: Scopes) -> shown.Authorisation:
    """Begin to authorise the account of a connection again."""
    return _view(await hub.authorising.begin_again(name, scopes=asked.scopes))


@router.get("/authorisations/{id}")
async def outcome(hub: Reading, id: str) -> shown.Authorised:
    """How it stands: `waiting`, `connected` (`detail` is the connection's name), `failed` (why), `expired`."""
    found = await hub.authorising.outcome(id)
    if found is None:
        raise NotThere(
            f"there is no authorisation {id}, or it ended more than a day ago; begin again by POST /api/v1/authorisations"
        )
    return {"id": id, "state": found.state, "detail": found.detail}


def _view(begun: Begun) -> shown.Authorisation:
    return {
        "id": begun.id,
        "url": begun.url,
        "scopes": list(begun.scopes),
        "expires_at": rfc3339(begun.expires_at_ms),
        "callback_url": begun.url_back,
    }


@pages.get("/begin/{ticket}")
async def to_the_vendor(request: Request, ticket: str, session: Session = None) -> Response:
    """Ties the authorisation to this browser and sends it on to the vendor."""
    hub: Hub = request.app.state.hub
    session = session or secrets.token_urlsafe(32)
    try:
        url = await hub.authorising.open(ticket, session)
    except AuthorisingError as error:
        return _page("Not connected", str(error), status=400)
    answer, ours = RedirectResponse(url, 303), urlsplit(hub.settings.address)
    answer.set_cookie(
        _COOKIE,
        session,
        max_age=LASTS_MS // 1000,
        path=f"{ours.path.rstrip('/')}/oauth",
        httponly=True,
        # Sent along when the vendor leads the browser back, by nobody else's forms and scripts.
        samesite="lax",
        secure=ours.scheme == "https",
    )
    return _guarded(answer)


@pages.get("/callback/{connector}")
async def from_the_vendor(request: Request, connector: str, session: Session = None) -> Response:
    """The vendor's answer, brought by the browser that was sent to it."""
    hub: Hub = request.app.state.hub
    try:
        done = await hub.authorising.finish(connector, request.query_params.multi_items(), session)
    except AuthorisingError as error:
        return _page("Not connected", str(error), status=400)
    hub.ring()
    name, account = done.connection.name, done.connection.account
    said = f"{done.title} ({account}) is connected as {name}. You can close this page."
    if done.missing:
        said += f" It was not allowed everything: {', '.join(done.missing)} is missing."
    return _page("Connected", said)


def _page(title: str, text: str, *, status: int = 200) -> Response:
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body><main><h1>{escape(title)}</h1><p>{escape(text)}</p></main></body></html>"
    )
    return _guarded(HTMLResponse(body, status))


def _guarded(answer: Response) -> Response:
    # The address holds what must reach nobody else: a ticket, a state, a code.
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return answer
