"""Commands for plugins and those who write them: what is installed, a new one, and one call of an action."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import run
from hub.cli.output import AsJson, note, print_error, print_json, say, show_list, show_table
from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.cli.trying import Trial
    from hub.events import Json

plugins = typer.Typer(
    help="Installed plugins and what they offer; a new one; trying an action.", invoke_without_command=True
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(plugins, name="plugins", rich_help_panel="Operate")


@plugins.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """Installed plugins, what they offer, and what their connectors lack."""
    if context.invoked_subcommand is not None:
        return
    from hub.plugins import load_plugins

    loaded = load_plugins(quarantine=True)
    unusable = loaded.catalogue.unusable
    connectors = loaded.catalogue.connectors.values()
    if as_json:
        lacks = {one.name: dict(one.lacks) for one in connectors if one.lacks}
        print_json({"plugins": [vars(info) for info in loaded.infos], "unusable": dict(unusable), "lacks": lacks})
        return
    columns = {"name": "plugin", "version": "version", "triggers": "triggers", "actions": "actions"}
    rows = [vars(info) for info in loaded.infos]
    show_list(rows, columns, as_json=False, empty="no plugins; install one, such as `pip install tetik-hub-shopify`")
    lacking = [
        {"connector": one.title, "capability": capability, "what": what}
        for one in connectors
        for capability, what in one.lacks.items()
    ]
    if lacking:
        show_table(lacking, {"connector": "connector", "capability": "lacks", "what": "what to know"})
    for problem in unusable.values():
        print_error(problem)


# -- a new one ---------------------------------------------------------------------------------------------------------


class AuthKind(StrEnum):
    """How a vendor's accounts are authorised."""

    TOKEN = "token"  # noqa: S105  (a kind of auth)
    CLIENT_CREDENTIALS = "client_credentials"
    OAUTH2 = "oauth2"


class WebhookKind(StrEnum):
    """How a vendor's calls are recognised."""

    HMAC = "hmac"
    NONE = "none"


@plugins.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The connector's name, such as acme.")],
    auth: Annotated[AuthKind | None, typer.Option(help="How accounts are authorised; token unless given.")] = None,
    webhook: Annotated[
        WebhookKind | None, typer.Option(help="How the vendor's calls are signed; hmac unless given.")
    ] = None,
    poll: Annotated[
        bool | None, typer.Option("--poll/--no-poll", help="Whether the vendor is asked for what happened.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="PATH", help="The folder to make; tetik-hub-NAME unless given.")
    ] = None,
) -> None:
    """Write the package of a new connector, with a sandbox and tests that pass. In a terminal it asks for what is not given."""
    from hub.plugins import load_plugins
    from hub.scaffold import NewPlugin, check_name, write

    check_name(name, load_plugins(quarantine=True))
    asking = sys.stdin.isatty()
    if auth is None:
        given = typer.prompt("How are accounts authorised?", default="token", type=AuthKind) if asking else "token"
        auth = AuthKind(given)
    if webhook is None:
        signed = typer.confirm("Does the vendor send webhooks signed by an HMAC?", default=True) if asking else True
        webhook = WebhookKind.HMAC if signed else WebhookKind.NONE
    if poll is None:
        poll = asking and typer.confirm("Is the vendor asked for what happened?", default=False)
    wanted = NewPlugin(name=name, auth=auth.value, webhook=webhook is WebhookKind.HMAC, poll=poll)
    folder = folder or Path(f"tetik-hub-{name.replace('_', '-')}")
    made = write(wanted, folder)
    say(f"wrote {len(made)} files into {folder}; next:")
    say(*(f"  {command}" for command in wanted.next_commands(folder)))


# -- trying ------------------------------------------------------------------------------------------------------------


@plugins.command("try")
def try_(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="Such as acme.create_ticket.")],
    connection: Annotated[str, typer.Option(help="A connection in sandbox mode.")],
    given: Annotated[str, typer.Option("--input", metavar="FILE", help="Its input as JSON; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Make one call of an action on a sandbox, and show what a run would make of the answer; exit code 1 when it fails."""
    from hub.cli.trying import try_action

    trial = run(try_action(action, connection, lambda: _read_input(given)))
    if as_json:
        print_json(vars(trial))
    else:
        _show(trial)
    if trial.then not in {"done", "skipped"}:
        raise typer.Exit(1)


def _read_input(given: str) -> Json:
    import json

    try:
        text = sys.stdin.read() if given == "-" else Path(given).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{given} cannot be read: {error.strerror}; give a file that holds the input as JSON, or -"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError("the input is no text in UTF-8; write it as a JSON object") from None
    try:
        return json.loads(text)
    except ValueError as error:
        where = "standard input" if given == "-" else given
        raise ConfigError(f"{where} is no JSON: {error}; write the input as an object") from error


def _show(trial: Trial) -> None:
    import json

    if trial.own_sandbox:
        note("no sandbox answers, so one was started for this call; it knows nothing of what happened in another")
    say(f"would      {trial.would}")
    if trial.then == "done":
        say(f"answer     {json.dumps(trial.answer, ensure_ascii=False)}", style="green")
    else:
        say(f"{trial.then:<10} {trial.because}", style="yellow" if trial.then == "skipped" else "red")
    say(f"took       {trial.duration_ms} ms")
    rows = [{**call, "status": call["status"] or "no whole answer"} for call in trial.calls]
    if rows:
        show_table(rows, {"method": "method", "path": "path", "status": "status"}, title="Calls to the vendor")
    else:
        say("calls      none")
