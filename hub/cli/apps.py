"""Commands for apps: our registrations at vendors, each serving many connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.fields import ConnectorName, FromEnv, Given, NewName, remark_on_secrets, show_secrets, values_of
from hub.cli.output import AsJson, print_json, say, show_list, show_record, show_table

if TYPE_CHECKING:
    from hub import shown
    from hub.connections import App
    from hub.events import Json
    from hub.process import Hub

AppName = Annotated[str, typer.Argument(metavar="NAME", help="An app; `hub apps list` shows them.")]

group = typer.Typer(help="Our registrations at vendors, each serving many connections.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(group, name="apps", rich_help_panel="Connect")


@group.command("add")
def add_app(
    connector: ConnectorName, name: NewName, given: Given = None, from_env: FromEnv = None, as_json: AsJson = False
) -> None:
    """Register an app of ours: what verifies the webhooks of its connections, and by what they are authorised."""
    values = values_of(given, from_env)

    async def add(hub: Hub) -> dict[str, Json]:
        remark_on_secrets(hub.connections.connector(connector), given)
        return _app_view(hub, await hub.connections.add_app(connector, name, values))

    added = with_hub(add)
    if as_json:
        print_json(added)
    else:
        say(f"registered the app {name}; its webhooks go to {added['webhook_url']}")
        if added["callback_url"]:
            say(f"give {connector} this redirect address: {added['callback_url']}")


@group.command("list")
def list_apps(as_json: AsJson = False) -> None:
    """Every app with its webhook address."""

    async def all_views(hub: Hub) -> list[dict[str, Json]]:
        return [_app_view(hub, app) for app in await hub.connections.apps()]

    rows = with_hub(all_views)
    columns = {"name": "name", "connector": "connector"}
    show_list(rows, columns, as_json=as_json, empty="no apps yet; add one with `hub apps add`")
    if rows and not as_json:
        show_table(rows, {"name": "name", "webhook_url": "webhook address"})


@group.command("show")
def show_app(name: AppName, as_json: AsJson = False) -> None:
    """One app: its addresses and settings, which of its secrets are set, and how they end."""

    async def find(hub: Hub) -> shown.AppInFull:
        from hub.api.connections import app_in_full

        return await app_in_full(hub, name)

    found = with_hub(find)
    if as_json:
        print_json(found)
        return
    titles = {"name": "name", "connector": "connector", "webhook_url": "webhook address", "settings": "settings"}
    show_record(found, {**titles, "callback_url": "redirect address"})
    show_secrets(found["secrets"])


@group.command("set")
def set_app(name: AppName, given: Given = None, from_env: FromEnv = None, as_json: AsJson = False) -> None:
    """Change secrets or settings of an app, for all of its connections at once; what is not given stays as it is."""
    values = values_of(given, from_env)

    async def change(hub: Hub) -> dict[str, Json]:
        app = await hub.connections.app_by_name(name)
        remark_on_secrets(hub.connections.connector(app.connector), given)
        return _app_view(hub, await hub.connections.set_app(name, values))

    changed = with_hub(change)
    if as_json:
        print_json(changed)
    else:
        say(f"changed {', '.join(values)} of the app {name}, in every process within a second")


@group.command("remove")
def remove_app(name: AppName, as_json: AsJson = False) -> None:
    """Forget an app and its secrets; refused while connections belong to it."""
    gone = with_hub(lambda hub: hub.connections.remove_app(name))
    if as_json:
        print_json({"id": gone.id, "name": gone.name})
    else:
        say(f"removed the app {name}; delete it at {gone.connector} as well")


def _app_view(hub: Hub, app: App) -> dict[str, Json]:
    return {
        "id": app.id,
        "name": app.name,
        "connector": app.connector,
        "webhook_url": hub.connections.inbound_url(app),
        "callback_url": hub.authorising.callback_of(app),
    }
