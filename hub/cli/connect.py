"""Commands for connections: accounts at vendors, from connecting one to removing it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import connected
from hub.cli.entry import current_settings, hub_clock, local_url, open_existing_store, read, run, with_hub
from hub.cli.fields import (
    ConnectorName,
    FromEnv,
    Given,
    NewName,
    ask_secrets,
    remark_on_secrets,
    show_secrets,
    values_of,
)
from hub.cli.output import AsJson, note, print_json, say, show_list, show_record, show_table

if TYPE_CHECKING:
    from hub import shown
    from hub.connections import Removed
    from hub.connections.authorising import Begun
    from hub.connector import Connector
    from hub.events import Json
    from hub.process import Hub

Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="Ask for this much only; as often as needed.", metavar="SCOPE")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the address for the browser, and do not wait for it.")]

connections = typer.Typer(help="Accounts at vendors.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    connected.add_to(connections)
    app.add_typer(connections, name="connections", rich_help_panel="Connect")


@connections.command("add")
def add_connection(
    connector: ConnectorName,
    name: NewName,
    given: Given = None,
    from_env: FromEnv = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Lead it to the vendor's sandbox; secrets are generated.")
    ] = False,
    auth: Annotated[str | None, typer.Option(help="The kind of authorisation, where there are several.")] = None,
    app: Annotated[str | None, typer.Option(help="The app it belongs to.")] = None,
    scopes: Scopes = None,
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Authorise it in the browser in the sandbox, too, where a token is generated."),
    ] = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Connect an account. Secrets that are missing are asked for.

    With an app whose accounts are authorised in the browser, it prints the address to open there and waits for the answer.
    """
    values = values_of(given, from_env)

    async def add(hub: Hub) -> dict[str, Json]:
        from hub.api.connections import view
        from hub.connections import kind_of
        from hub.connector import OAuth2

        found = hub.connections.connector(connector)
        remark_on_secrets(found, given)
        kind = kind_of(found, values, auth=auth, app=app is not None)
        if browser or (isinstance(kind, OAuth2) and not sandbox and "access_token" not in values):
            if app is None:
                raise typer.BadParameter(
                    f"an account of {connector} is authorised for an app of yours: register one with `hub apps add` and name "
                    "it here",
                    param_hint="--app",
                )
            begun = await hub.authorising.begin(
                connector, name, values, app=app, auth=auth, sandbox=sandbox, scopes=scopes
            )
            return await _in_browser(hub, begun, name, no_wait=no_wait, as_json=as_json)
        inherited = found.webhook.secrets if found.webhook and app else ()
        wanted = [f for f in (*found.fields, *kind.fields) if f.name not in inherited]
        values.update(ask_secrets(wanted, values) if not sandbox else {})
        connection = await hub.connections.add(connector, name, values, sandbox=sandbox, auth=auth, app=app)
        shown = {**await view(hub, connection.name), "ways_in": _ways_in(hub, found, sandbox=sandbox)}
        return {**shown, "testable": found.whoami is not None}

    added = with_hub(add)
    testable = added.pop("testable", False)
    if as_json:
        print_json(added)
        return
    if "url" in added:
        return
    say(f"connected {added['name']}: account {added['account']}, mode {added['mode']}")
    if added["webhook_url"]:
        say(f"webhooks of {connector} go to {added['webhook_url']}")
    if added["ways_in"]:
        say("that is an address of this machine alone, since HUB_PUBLIC_URL is not set; events can come in so:")
        show_table(added["ways_in"], {"name": "way", "how": "how"})
    if testable:
        say(f"check it with `hub connections test {name}`")


@connections.command("list")
def list_connections(as_json: AsJson = False) -> None:
    """Every connection: its account, mode, health and webhook address."""
    from hub.clock import DAY_MS
    from hub.store import views

    settings = current_settings()

    async def look() -> list[shown.Connection]:
        async with open_existing_store() as store:
            kept_ms = (await hub_clock(store)).now_ms() - settings.keep_events_days * DAY_MS
            async with store.read() as c:
                return await views.list_connections(c, settings.address, kept_ms=kept_ms)

    rows = run(look())
    columns = {"name": "name", "connector": "connector", "account": "account", "mode": "mode", "health": "health"}
    show_list(rows, columns, as_json=as_json, empty="no connections yet; add one with `hub connections add`")
    if as_json:
        return
    if ill := [row for row in rows if row["health_reason"]]:
        show_table(ill, {"name": "name", "health_reason": "why it is not well"})
    if rows:
        show_table(rows, {"name": "name", "webhook_url": "webhook address"})
        known = [
            {"name": row["name"], "event": type_, "since_at": since}
            for row in rows
            for type_, since in row["known_since"].items()
        ]
        if known:
            show_table(known, {"name": "name", "event": "event", "since_at": "known since (UTC)"})
        if subscribing := [row for row in rows if row["subscriptions"] is not None]:
            show_table(subscribing, {"name": "name", "subscriptions": "subscriptions"})


@connections.command("show")
def show_connection(name: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """One connection: its settings and health, which secrets are set, and since when what happened there is known."""

    async def find(hub: Hub) -> shown.ConnectionInFull:
        from hub.api.connections import in_full

        return await in_full(hub, name)

    found = with_hub(find)
    if as_json:
        print_json(found)
        return
    titles = {"name": "name", "connector": "connector", "account": "account", "mode": "mode", "auth": "authorised by"}
    more = {
        "health": "health",
        "health_reason": "why",
        "settings": "settings",
        "webhook_url": "webhook address",
        "connected_at": "connected (UTC)",
    }
    show_record(found, {**titles, **more})
    show_secrets(found["secrets"])
    rows = [{"event": type_, "known_at": since} for type_, since in found["known_since"].items()]
    if rows:
        title = "Known since (of other events: since it is connected)"
        show_table(rows, {"event": "event", "known_at": "since (UTC)"}, title=title)


@connections.command("test")
def check_connection(name: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Ask the vendor whose account it is; also what the recipes in use miss, and how long its token is good."""

    async def ask(hub: Hub) -> tuple[shown.Tested, bool]:
        from hub.api.connections import tested

        return await tested(hub, name), (await hub.connections.by_name(name)).app_id is not None

    account, of_app = with_hub(ask)
    if as_json:
        print_json(account)
        return
    say(f"{name} works", style="green")
    columns = {"id": "account", "title": "title", "zone": "time zone", "currency": "currency"}
    show_record(account, columns | ({"token_expires_at": "token good until"} if account["token_expires_at"] else {}))
    if account["subscriptions"] is not None:
        say(f"subscriptions: {account['subscriptions']}; `hub connections subscriptions {name}` shows them")
    for warning in account["warnings"]:
        say(warning, style="yellow")
    for lack in account["missing_scopes"]:
        say(
            f"the scope {lack['scope']} is missing, which {', '.join(lack['recipes'])} needs; "
            + (
                f"grant it with `hub connections reauthorise {name} --scope …`"
                if of_app
                else "grant it to the token at the vendor, and test again"
            ),
            style="yellow",
        )


@connections.command("subscriptions")
def show_subscriptions(name: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Where the vendor was told to call: what is wanted, what is there, what was mended, as of the last look."""
    from hub.store import views

    found = read(lambda c: views.show_subscriptions(c, name))
    if as_json:
        print_json(found)
        return
    columns = {"connection": "connection", "address": "address", "looked_at": "looked at", "next_at": "again at"}
    show_record(found, columns | ({"problem": "problem"} if found["problem"] else {}))
    held = {one["topic"]: one for one in found["there"]}
    rows = [
        {
            "topic": topic,
            "state": "there" if topic in held else "missing",
            **held.get(topic, {"id": "", "expires_at": ""}),
        }
        for topic in found["wanted"]
    ]
    shown_ = {"topic": "topic", "state": "state", "id": "id"}
    shown_ |= {"expires_at": "expires"} if any(row["expires_at"] for row in rows) else {}
    show_list(rows, shown_, as_json=False, empty="nothing is wanted: no published recipe listens to this connection")
    if found["mended"]:
        show_table(found["mended"], {"at": "at", "deed": "what was done", "topic": "topic", "why": "why"})


@connections.command("reauthorise")
def reauthorise(
    name: Annotated[str, typer.Argument()],
    given: Given = None,
    from_env: FromEnv = None,
    scopes: Scopes = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Replace the credentials of a connection, in the browser where they came from there; runs that waited for them go on."""
    values = values_of(given, from_env)

    async def replace(hub: Hub) -> dict[str, Json]:
        from hub.api.connections import view
        from hub.connections import auth_of
        from hub.connector import OAuth2

        connection = await hub.connections.by_name(name)
        found = hub.connections.connector(connection.connector)
        remark_on_secrets(found, given)
        kind = auth_of(found, connection.auth)
        if not values and isinstance(kind, OAuth2):
            begun = await hub.authorising.begin_again(name, scopes=scopes)
            return await _in_browser(hub, begun, name, no_wait=no_wait, as_json=as_json)
        if not values and not connection.sandbox:
            values.update(ask_secrets((*found.fields, *kind.fields), values))
            if not values:
                raise typer.BadParameter("give the new credentials with --set or --secret-from-env")
        changed = await hub.connections.reauthorise(name, values)
        hub.ring()
        return {**await view(hub, changed.name)}

    changed = with_hub(replace)
    if as_json:
        print_json(changed)
    elif "url" not in changed:
        say(f"{name} has new credentials; what waited for them goes on")


@connections.command("remove")
def remove(
    name: Annotated[str, typer.Argument()],
    force: Annotated[
        bool, typer.Option("--force", help="Also when published recipes use it; what they call waits then.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forget an account and its credentials; its events and runs stay."""

    async def forget(hub: Hub) -> Removed:
        if not force:
            await hub.library.require_unused(name)
        return await hub.connections.remove(name)

    removed = with_hub(forget)
    gone = removed.connection
    if as_json:
        told = {"revoked": removed.revoked, "unsubscribed": removed.unsubscribed, "problem": removed.problem}
        print_json({"id": gone.id, "name": gone.name, **told})
        return
    if removed.unsubscribed:
        say(f"deleted {removed.unsubscribed} subscriptions of {name} at {gone.connector}")
    if removed.problem:
        note(f"not all could be given back: {removed.problem}")
    if removed.revoked:
        say(f"removed {name}; {gone.connector} took its token back")
        return
    say(f"removed {name}; its credentials are deleted here, so revoke them at {gone.connector} as well")


async def _in_browser(hub: Hub, begun: Begun, name: str, *, no_wait: bool, as_json: bool) -> dict[str, Json]:
    """Say where to go, and wait until somebody did. Raises ConfigError with what went wrong there."""
    from hub.errors import ConfigError

    shown: dict[str, Json] = {"id": begun.id, "url": begun.url, "scopes": list(begun.scopes)}
    if as_json:
        return shown
    say("open this address within ten minutes, in the browser of somebody who may authorise the account:")
    print(begun.url)
    connector = begun.url_back.rpartition("/")[2]
    note(
        f"{connector} must know {begun.url_back} as the app's redirect address, and `hub up` or `hub api` must answer there"
    )
    if not hub.settings.public_url:
        note(
            "HUB_PUBLIC_URL is not set, so these are addresses of this machine alone; where the vendor refuses them, set it "
            "to your own address or that of a tunnel to it"
        )
    while not no_wait:
        found = await hub.authorising.outcome(begun.id)
        if found and found.state == "connected":
            say(f"connected {name}; check it with `hub connections test {name}`", style="green")
            break
        if found is None or found.state != "waiting":
            raise ConfigError(f"{name} was not connected: {found.detail if found else 'it was taken back'}")
        await asyncio.sleep(1)
    return shown


def _ways_in(hub: Hub, connector: Connector, *, sandbox: bool) -> list[dict[str, str]]:
    """How events can come in while no public address is set; none where the vendor needs no address, or has one."""
    if sandbox or connector.webhook is None or hub.settings.public_url:
        return []
    from hub.clock import format_duration

    ways = [
        {
            "name": "your own address",
            "how": f"put a proxy or a tunnel of yours in front of {local_url(hub.settings)}, set HUB_PUBLIC_URL to its https "
            f"address, start the hub again, and give {connector.title} the address that `hub connections list` shows then",
        }
    ]
    if connector.polls:
        asked = ", ".join(f"{name} every {format_duration(p.every_s * 1000)}" for name, p in connector.polls.items())
        ways.append(
            {
                "name": "asking",
                "how": f"nothing to do: the hub asks {connector.title} by itself for {asked}, and only that",
            }
        )
    ways.append(
        {
            "name": "sandbox",
            "how": f"to try recipes out: `hub connections add {connector.name} NAME --sandbox`; `hub up` runs the sandbox, "
            "whose webhooks need no address",
        }
    )
    return ways
