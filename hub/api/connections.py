"""Apps and connections. Credentials go in and never come out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body, Name
from hub.clock import rfc3339
from hub.connections import App
from hub.process import Hub
from hub.store import views

router = APIRouter(prefix="/api/v1", tags=["connections"])


class NewConnection(Body):
    """An account to connect. In sandbox mode secrets are generated and none is to be given."""

    connector: str
    name: Name
    fields: dict[str, str] = Field(default_factory=dict, description="The connector's fields, secret ones too")
    sandbox: bool = False
    auth: str | None = None
    app: str | None = None


class NewFields(Body):
    """New credentials for a connection of the same account."""

    fields: dict[str, str]


class NewApp(Body):
    """A registration of ours at a vendor: the webhook secrets that serve all of its connections."""

    connector: str
    name: Name
    fields: dict[str, str]


async def view(hub: Hub, name: str) -> shown.Connection:
    """A connection without its secrets."""
    return next(one for one in await views_of(hub) if one["name"] == name)


async def views_of(hub: Hub) -> list[shown.Connection]:
    """Every connection by name, without their secrets."""
    async with hub.store.read() as c:
        return await views.list_connections(c, hub.settings.address)


async def tested(hub: Hub, name: str) -> shown.Tested:
    """What a test of a connection tells: the account in the vendor's words, what it lacks, how long it lasts."""
    account = await hub.connections.test(name)
    connection = await hub.connections.by_name(name)
    missing = await hub.library.missing_scopes(name)
    stands = (await view(hub, name))["subscriptions"]
    expires = connection.token_expires_at_ms
    return {
        "id": account.id,
        "title": account.title,
        "zone": account.zone,
        "currency": account.currency,
        "scopes": None if connection.scopes is None else sorted(connection.scopes),
        "missing_scopes": [{"scope": scope, "recipes": recipes} for scope, recipes in missing.items()],
        "token_expires_at": None if expires is None else rfc3339(expires),
        "subscriptions": stands,
    }


@router.get("/connections")
async def list_connections(hub: Reading) -> list[shown.Connection]:
    """Every connection, by name."""
    return await views_of(hub)


@router.post("/connections", status_code=201)
async def add_connection(hub: Writing, new: NewConnection) -> shown.Connection:
    """Connect an account."""
    added = await hub.connections.add(
        new.connector, new.name, new.fields, sandbox=new.sandbox, auth=new.auth, app=new.app
    )
    return await view(hub, added.name)


@router.post("/connections/{name}/test")
async def test_connection(hub: Writing, name: str) -> shown.Tested:
    """Ask the vendor whose account this is; also which scopes the recipes in use miss, and when the token ends."""
    return await tested(hub, name)


@router.get("/connections/{name}/subscriptions")
async def show_subscriptions(hub: Reading, name: str) -> shown.Subscriptions:
    """Where the vendor was told to call: what is wanted, what is there and what was mended, as of the last look."""
    async with hub.store.read() as c:
        return await views.show_subscriptions(c, name)


@router.post("/connections/{name}/reauthorise")
async def reauthorise(hub: Writing, name: str, new: NewFields) -> shown.Connection:
    """Replace the credentials; runs that waited for them go on."""
    changed = await hub.connections.reauthorise(name, new.fields)
    hub.ring()
    return await view(hub, changed.name)


@router.delete("/connections/{name}")
async def remove_connection(
    hub: Writing,
    name: str,
    force: Annotated[bool, Query(description="Also when published recipes use it; their calls wait then")] = False,
) -> shown.Removed:
    """Forget an account and its credentials. Its events and runs stay; runs that call it wait for one of its name."""
    if not force:
        await hub.library.require_unused(name)
    removed = await hub.connections.remove(name)
    return {
        "id": removed.connection.id,
        "name": removed.connection.name,
        "revoked": removed.revoked,
        "unsubscribed": removed.unsubscribed,
        "problem": removed.problem,
    }


@router.get("/apps")
async def list_apps(hub: Reading) -> list[shown.App]:
    """Every app, by name."""
    return [_app_view(hub, app) for app in await hub.connections.apps()]


@router.post("/apps", status_code=201)
async def add_app(hub: Writing, new: NewApp) -> shown.App:
    """Register an app of ours."""
    return _app_view(hub, await hub.connections.add_app(new.connector, new.name, new.fields))


def _app_view(hub: Hub, app: App) -> shown.App:
    return {
        "id": app.id,
        "name": app.name,
        "connector": app.connector,
        "webhook_url": hub.connections.inbound_url(app),
        "callback_url": hub.authorising.callback_of(app),
    }
