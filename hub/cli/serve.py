"""Commands that run processes: the embedded hub, the distributed pair, the sandboxes, the demo."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import output
from hub.cli.entry import run, unknown_variables

if TYPE_CHECKING:
    from hub.settings import Settings

Host = Annotated[str | None, typer.Option(help="The address to listen on, instead of HUB_HOST.")]
Port = Annotated[int | None, typer.Option(help="The port to listen on, instead of HUB_PORT; 0 takes a free one.")]

_PANEL = "Run"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (up, api, worker, sandbox, demo):
        app.command(rich_help_panel=_PANEL)(command)


def up(
    host: Host = None,
    port: Port = None,
    no_sandbox: Annotated[bool, typer.Option("--no-sandbox", help="Do not start the vendors' sandboxes.")] = False,
) -> None:
    """Run the whole hub in one process, with one SQLite file."""
    from hub.cli import running

    run(running.up(_serving_settings(host, port), with_sandboxes=not no_sandbox))


def api(host: Host = None, port: Port = None) -> None:
    """Run the HTTP side of a distributed hub: webhooks and REST API."""
    from hub.cli import running

    run(running.api(_serving_settings(host, port)))


def worker() -> None:
    """Run one worker of a distributed hub; start as many as you like."""
    from hub.cli import running

    run(running.worker(_serving_settings(None, None)))


def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 8001,
) -> None:
    """Run the sandboxes of all installed connectors; point HUB_SANDBOX_URL at them.

    Give it the hub's HUB_DEVELOPMENT, HUB_DATA_DIR and HUB_DATABASE_URL, and it goes by hub time, also when the clock is
    advanced. Without HUB_DEVELOPMENT=true, or where there is no such database, it goes by this machine's clock.
    """
    from hub.cli import running

    run(running.sandbox(_serving_settings(None, None), host, port))


def demo(
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write what happened as JSON.")] = None,
) -> None:
    """Play a day of events through the example recipes on sandboxes and show what happened to whom."""
    from hub.demo import run_demo

    run(run_demo(output.console(), report))


def _serving_settings(host: str | None, port: int | None) -> Settings:
    """The settings of a process that serves, its logs set up."""
    from hub.logs import setup_logging
    from hub.settings import load_settings

    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    # Somebody is watching: JSON only if it was asked for.
    watched = sys.stderr.isatty() and "log_json" not in settings.model_fields_set
    setup_logging(settings.log_level, json_lines=settings.log_json and not watched)
    for sentence in unknown_variables():
        logging.getLogger(__name__).warning(sentence, extra={"what": "setting_unknown"})
    return settings
