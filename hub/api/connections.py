"""Apps and connections. Credentials go in and never come out, but for the last four characters of long ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body, Listing, Name, Page
from hub.clock import DAY_MS, parse_since_ms, rfc3339
from hub.connections import App, Connection
from hub.errors import ConfigError
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
    """New credentials for a connection of the same account; what of an app is to change."""

    fields: dict[str, str]


class NewSettings(Body):
    """Other settings for a connection; those that are not named stay."""

    settings: dict[str, str] = Field(min_length=1)


class Past(Body):
    """How far back to read a connection's past, and of which event types."""

    since: str = Field("24mo", description="24mo, 2y or 90d ago, or a date such as 2024-11-22")
    only: list[str] = Field(default_factory=list, description="Event types; all that tell their past when empty")
    again: bool = Field(False, description="Also what was read so far back already")


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
    kept_ms = hub.clock.now_ms() - hub.settings.keep_events_days * DAY_MS
    async with hub.store.read() as c:
        return await views.list_connections(c, hub.settings.address, kept_ms=kept_ms)


async def in_full(hub: Hub, name: str) -> shown.ConnectionInFull:
    """A connection with what may be told of its secrets. Raises NotThere."""
    connection = await hub.connections.by_name(name)
    return {**await view(hub, name), "secrets": await _secrets(hub, connection)}


async def app_in_full(hub: Hub, name: str) -> shown.AppInFull:
    """An app with what may be told of its secrets. Raises NotThere."""
    app = await hub.connections.app_by_name(name)
    return {**_app_view(hub, app), "settings": dict(app.settings), "secrets": await _secrets(hub, app)}


async def _secrets(hub: Hub, owner: Connection | App) -> list[shown.StoredSecret]:
    return [
        {"name": one.name, "set": one.is_set, "ends_with": one.ends_with} for one in await hub.connections.hints(owner)
    ]


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
        "warnings": list(account.warnings),
    }


@router.get("/connections")
async def list_connections(hub: Reading) -> list[shown.Connection]:
    """Every connection, by name."""
    return await views_of(hub)


@router.get("/connections/{name}")
async def show_connection(hub: Reading, name: str) -> shown.ConnectionInFull:
    """One connection: also which of its secrets are set, and how they end."""
    return await in_full(hub, name)


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


@router.patch("/connections/{name}")
async def change_settings(hub: Writing, name: str, new: NewSettings) -> shown.Connection:
    """Change settings that are no secret, such as the version of the vendor's API."""
    changed = await hub.connections.change(name, new.settings)
    return await view(hub, changed.name)


@router.get("/connections/{name}/choices")
async def list_offered(hub: Reading, name: str) -> dict[str, list[str]]:
    """What can be chosen over this connection, each with the fields of actions that take it."""
    return await hub.choosing.offered(name)


@router.get("/connections/{name}/choices/{choices}")
async def list_choices(
    hub: Reading,
    name: str,
    choices: str,
    search: Annotated[str, Query(max_length=200, description="Labels that hold this")] = "",
    within: Annotated[
        list[Annotated[str, Query(max_length=200)]] | None,
        Query(max_length=5, description="What they depend on: FIELD=ID, as often as needed"),
    ] = None,
    cursor: Annotated[str | None, Query(max_length=2000, description="`next` of the page before")] = None,
) -> Page[shown.Choice]:
    """What the vendor has of lists, templates, owners and the like, as it pages it; up to five minutes old."""
    given = dict(_pair(one) for one in within or ())
    asked = Listing(f"choices {name} {choices}", search=search, **{f"within {k}": v for k, v in given.items()})
    page = await hub.choosing.page(name, choices, search=search, cursor=asked.after(cursor), within=given)
    items: list[shown.Choice] = [{"id": one.id, "label": one.label, "hint": one.hint} for one in page.items]
    return Page(items=items, next=None if page.cursor is None else asked.cursor(page.cursor))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"{text!r} says not what of what; write within=FIELD=ID")
    return name, value


@router.get("/connections/{name}/backfill")
async def show_backfill(hub: Reading, name: str) -> list[shown.Backfill]:
    """How far the past of each event type was read."""
    return await hub.backfills.status(name)


@router.post("/connections/{name}/backfill", status_code=202)
async def begin_backfill(hub: Writing, name: str, past: Past) -> list[shown.Backfill]:
    """Have a connection's past read, beside everything else: it starts, wakes and ends no run."""
    try:
        since_ms = parse_since_ms(past.since, hub.clock.now_ms())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return await hub.backfills.begin(name, since_ms=since_ms, only=past.only, again=past.again)


@router.delete("/connections/{name}/backfill")
async def stop_backfill(hub: Writing, name: str) -> list[shown.Backfill]:
    """Give up reading; what was stored stays."""
    await hub.backfills.stop(name)
    return await hub.backfills.status(name)


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


@router.get("/apps/{name}")
async def show_app(hub: Reading, name: str) -> shown.AppInFull:
    """One app: also its settings, which of its secrets are set, and how they end."""
    return await app_in_full(hub, name)


@router.post("/apps", status_code=201)
async def add_app(hub: Writing, new: NewApp) -> shown.App:
    """Register an app of ours."""
    return _app_view(hub, await hub.connections.add_app(new.connector, new.name, new.fields))


@router.patch("/apps/{name}")
async def set_app(hub: Writing, name: str, new: NewFields) -> shown.App:
    """Change secrets or settings of an app, for all of its connections at once; fields that are left out stay."""
    return _app_view(hub, await hub.connections.set_app(name, new.fields))


@router.delete("/apps/{name}")
async def remove_app(hub: Writing, name: str) -> shown.RemovedApp:
    """Forget an app and its secrets; refused while connections belong to it."""
    gone = await hub.connections.remove_app(name)
    return {"id": gone.id, "name": gone.name}


def _app_view(hub: Hub, app: App) -> shown.App:
    return {
        "id": app.id,
        "name": app.name,
        "connector": app.connector,
        "webhook_url": hub.connections.inbound_url(app),
        "callback_url": hub.authorising.callback_of(app),
    }
