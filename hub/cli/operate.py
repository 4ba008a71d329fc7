"""Commands for whoever runs the hub: settings, keys, clock, and `hub doctor`."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import (
    api_key,
    current_settings,
    local_url,
    open_existing_store,
    read,
    run,
    unknown_variables,
)
from hub.cli.output import AsJson, note, print_json, progress, say, show_list, without_password
from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.events import Json
    from hub.settings import Settings
    from hub.store.session import Connection

_PANEL = "Operate"
# Stops of a long jump may each wait for work in hand.
_ADVANCE_LIMIT_S = 3600

keys = typer.Typer(help="Encryption keys.", no_args_is_help=True)
api_keys = typer.Typer(help="Keys of callers of the REST API.", no_args_is_help=True)
clock = typer.Typer(help="Hub time.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (doctor, settings):
        app.command(rich_help_panel=_PANEL)(command)
    groups = {"keys": keys, "api-keys": api_keys, "clock": clock}
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=_PANEL)


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as wrong, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a set-up and say what to mend; exit code 1 when something is wrong."""
    from hub.cli.checkup import examine
    from hub.cli.findings import State

    findings = run(examine())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        styles = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "bold red"}
        for finding in findings:
            say(f"{finding.state.value:<8} {finding.check}: {finding.message}", style=styles[finding.state])
            say(*([f"         mend: {finding.mend}"] if finding.mend else []))
    failing = {State.WRONG, State.WARNING} if strict else {State.WRONG}
    if any(finding.state in failing for finding in findings):
        raise typer.Exit(1)


# -- settings ----------------------------------------------------------------------------------------------------------


def settings(as_json: AsJson = False) -> None:
    """Every setting with its value, where that comes from, its default, and what it means. Secrets are masked."""
    from hub.settings import load_settings

    rows = _described(load_settings())
    columns = {"name": "setting", "value": "value", "source": "from", "default": "default", "description": "meaning"}
    show_list(rows, columns, as_json=as_json, empty="no settings")
    for sentence in unknown_variables():
        note(sentence)


def _described(found: Settings) -> list[dict[str, Json]]:
    environment = {name.upper() for name in os.environ}
    rows: list[dict[str, Json]] = []
    for name, field in type(found).model_fields.items():
        variable = f"HUB_{name.upper()}"
        given = ".env" if name in found.model_fields_set else "default"
        rows.append(
            {
                "name": variable,
                "value": _masked(name, getattr(found, name)),
                "source": "environment" if variable in environment else given,
                "default": _masked(name, field.get_default(call_default_factory=True)),
                "description": field.description,
            }
        )
    return rows


def _masked(name: str, value: Json) -> Json:
    """A setting's value for people: keys counted, passwords in URLs starred out."""
    if name == "keys":
        return f"{len(value)} set, not shown" if value else None
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_password(str(value))


# -- keys --------------------------------------------------------------------------------------------------------------


class Scope(StrEnum):
    """What a caller of the API may do."""

    READ = "read"
    WRITE = "write"


ApiKeyName = Annotated[str, typer.Argument(metavar="NAME", help="Who holds the key.")]


@keys.command("generate")
def generate_key(as_json: AsJson = False) -> None:
    """Print a new encryption key for HUB_KEYS: put it first, keep the old ones after it, and run `hub keys rotate`."""
    from hub.vault import generate_key

    made = generate_key()
    if as_json:
        print_json({"key": made})
    else:
        print(made)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """The id of each configured key and of each that the database knows, and how many credentials it seals."""

    async def find(c: Connection) -> list[dict[str, Json]]:
        from hub.store import connections
        from hub.vault import make_vault

        known, sealed = make_vault(current_settings()).key_ids, await connections.sealed_by_key(c)
        uses = {key: "seals and opens" if n == 0 else "opens" for n, key in enumerate(known)}
        uses |= {key: "missing in HUB_KEYS" for key in sorted(sealed) if key not in uses}
        return [{"key": key, "use": use, "credentials": sealed.get(key, 0)} for key, use in uses.items()]

    show_list(read(find), {"key": "key", "use": "use", "credentials": "credentials"}, as_json=as_json, empty="no keys")


@keys.command("rotate")
def rotate_keys(as_json: AsJson = False) -> None:
    """Seal all credentials with the first key, while the hub runs; older keys can be removed afterwards."""

    async def rotate() -> tuple[int, list[str]]:
        from hub.rewrap import rewrap
        from hub.vault import make_vault

        vault = make_vault(current_settings())
        async with open_existing_store() as store:
            with progress("looking for credentials of older keys") as tell:
                done = await rewrap(
                    store, vault, progress=lambda done, all_: tell(f"sealed again: {done:,} of {all_:,} credentials")
                )
            return done, vault.key_ids

    done, (first, *older) = run(rotate())
    if as_json:
        print_json({"sealed": done, "key": first, "not_needed": older})
        return
    say(f"{done} credentials sealed again with key {first}; all of them are now")
    if older:
        say(
            f"the database needs no other key: {', '.join(older)} can leave HUB_KEYS once no delivery waits in the spool"
        )


@api_keys.command("create")
def create_api_key(
    name: ApiKeyName, scope: Annotated[Scope, typer.Option(help="What its holder may do.")], as_json: AsJson = False
) -> None:
    """Make an API key and print it; it is not shown again."""

    async def create() -> str:
        from hub import apikeys
        from hub.clock import Clock

        async with open_existing_store() as store:
            async with store.read() as c:
                if await c.first("select name from api_key where name = :name", name=name):
                    raise ConfigError(f"there is an API key {name} already; revoke it first, or choose another name")
            return await apikeys.create_api_key(store, name, scope.value, Clock().now_ms())

    key = run(create())
    if as_json:
        print_json({"name": name, "scope": scope.value, "key": key})
    else:
        print(key)


@api_keys.command("list")
def list_api_keys(as_json: AsJson = False) -> None:
    """Every API key's name and scope; the keys themselves are not stored."""

    async def find(c: Connection) -> list[dict[str, Json]]:
        from hub.clock import rfc3339

        rows = await c.all("select name, scope, created_at from api_key order by name")
        return [{**row, "created_at": rfc3339(row["created_at"])} for row in rows]

    columns = {"name": "name", "scope": "scope", "created_at": "made (UTC)"}
    show_list(read(find), columns, as_json=as_json, empty="no API keys; make one with `hub api-keys create`")


@api_keys.command("revoke")
def revoke_api_key(name: ApiKeyName, as_json: AsJson = False) -> None:
    """Make an API key useless from now on."""

    async def revoke() -> None:
        from hub.catalogue import nearest
        from hub.errors import NotThere

        async with open_existing_store() as store, store.write() as c:
            if not await c.run("delete from api_key where name = :name", name=name):
                known = [row["name"] for row in await c.all("select name from api_key")]
                raise NotThere(f"there is no API key {name}{nearest(name, known)}; `hub api-keys list` shows them")

    run(revoke())
    if as_json:
        print_json({"name": name, "revoked": True})
        return
    say(f"the API key {name} no longer opens anything")


# -- clock -------------------------------------------------------------------------------------------------------------


@clock.command("show")
def show_clock(as_json: AsJson = False) -> None:
    """Hub time, and how far ahead of real time it is."""

    async def find() -> dict[str, Json]:
        from hub.clock import Clock, rfc3339
        from hub.timetravel import HubTime

        found, development = Clock(), current_settings().development
        async with open_existing_store() as store:
            await HubTime(store, found, development=development).sync()
        return {"now": rfc3339(found.now_ms()), "offset_ms": found.offset_ms, "development": development}

    shown = run(find())
    if as_json:
        print_json(shown)
        return
    from hub.clock import format_duration

    ahead = format_duration(shown["offset_ms"]) if shown["offset_ms"] else "nothing"
    say(f"hub time is {shown['now']}, ahead of real time by {ahead}")


@clock.command("advance")
def advance_clock(
    by: Annotated[str, typer.Argument(metavar="DURATION", help="Such as 24h or 3d.")], as_json: AsJson = False
) -> None:
    """Move hub time forward, stopping wherever something is due. Needs a running hub in development mode."""
    from hub.clock import parse_duration_ms

    try:
        parse_duration_ms(by)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    moved = run(_advance(by))
    if as_json:
        print_json(moved)
    else:
        say(f"hub time is {moved['now']}; something was due at {moved['stops']} instants on the way")


async def _advance(by: str) -> Json:
    """Ask the running hub to move its clock. Raises ConfigError with its answer when it does not."""
    import aiohttp

    settings = current_settings()
    url = f"{local_url(settings)}/api/v1/clock/advance"
    headers = {"Authorization": f"Bearer {api_key(settings)}"}
    limit = aiohttp.ClientTimeout(total=_ADVANCE_LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, headers=headers) as session,
            session.post(url, json={"by": by}) as answer,
        ):
            body = await answer.json(content_type=None)
            if answer.status == 200:
                return body
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise ConfigError(f"no hub answers at {local_url(settings)}; start it with `hub up`") from error
    detail = body.get("detail") if isinstance(body, dict) else None
    raise ConfigError(f"the hub did not move its clock: {detail or f'it answered {answer.status}'}")
