"""The command `hub`: its groups of commands, and the rim where errors become one message and an exit code.

What takes time to import is imported inside the commands, so that `hub --help` answers at once.
"""

from __future__ import annotations

import gc
import logging
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import hub
from hub.cli import (
    apps,
    caps,
    connect,
    database,
    erasing,
    inspect,
    merging,
    operate,
    pauses,
    plugins,
    recipes,
    retries,
    serve,
    top,
)
from hub.cli.exits import in_words
from hub.cli.output import note, print_error
from hub.errors import HubError, StoreUnavailable
from hub.misfits import unprefixed

_CHOICE = re.compile(r"'(.*)' is not one of ('.*')\.", re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'")


class _Rim(TyperGroup):
    """Turns every error into one message and an exit code; a traceback comes with --debug only."""

    # The context's type lives in click or inside typer, depending on typer's version.
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HubError as error:
            if ctx.params.get("debug"):
                raise
            print_error(error)
            raise typer.Exit(_exit_code(error)) from None
        except typer.Abort:
            note("")
            print_error("the question was not answered, so nothing was done; `--help` tells the options")
            raise typer.Exit(1) from None
        except Exception as error:
            # Usage errors and exits know their own code; a reader that went away (`| head`) is no error.
            known = isinstance(error, BrokenPipeError) or hasattr(error, "exit_code")
            if hasattr(error, "message"):
                error.message = _in_our_words(str(error.message))
            if known or ctx.params.get("debug"):
                raise
            if isinstance(error, OSError) and error.filename is not None:
                print_error(
                    f"{error.filename}: {error.strerror}; name another, or see that it is there and you may write there"
                )
                raise typer.Exit(1) from None
            if isinstance(error, UnicodeEncodeError):
                print_error(
                    "what was given holds bytes that are no UTF-8, as no name, id or address here does; type it anew"
                )
                raise typer.Exit(2) from None
            # Further lines of a driver's message can hold what was to be stored.
            reason = str(error).partition("\n")[0]
            print_error(
                f"the hub itself failed ({type(error).__name__}: {reason}); run the command again as `hub --debug …` "
                "and report what it prints"
            )
            raise typer.Exit(1) from None


def _in_our_words(message: str) -> str:
    """What the parser of command lines says of a wrong value, with the nearest right one where there is a choice."""
    from hub.catalogue import nearest

    message = unprefixed(message)
    choice = _CHOICE.fullmatch(message)
    if choice is None:
        return message
    words = _QUOTED.findall(choice[2])
    return f"{choice[1]} is none of {', '.join(words)}{nearest(choice[1], words)}"


def _exit_code(error: HubError) -> int:
    from hub.errors import NotThere

    return 3 if isinstance(error, NotThere) else 4 if isinstance(error, StoreUnavailable) else 1


app = typer.Typer(
    cls=_Rim,
    name="hub",
    help="Tetik Hub: when this happens to this person, check, wait, branch, act, on any channel.",
    epilog=in_words(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tetik-hub {hub.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", envvar="HUB_DEBUG", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    # Commands answer in their own words; processes that serve set up real logs over this.
    logging.basicConfig(handlers=[logging.StreamHandler() if debug else logging.NullHandler()])


serve.add_to(app)
connect.add_to(app)
apps.add_to(app)
recipes.add_to(app)
inspect.add_to(app)
erasing.add_to(app)
merging.add_to(app)
top.add_to(app)
operate.add_to(app)
plugins.add_to(app)
database.add_to(app)
pauses.add_to(app)
retries.add_to(app)
caps.add_to(app)


# What a command loads stays to its end: looking for garbage among it took a fifth of a short one's processor time.
_GARBAGE = 100_000


def main() -> None:
    """The entry point of the script `hub`."""
    gc.set_threshold(_GARBAGE, 10, 10)
    try:
        app()
    finally:
        # Nor on the way out.
        gc.freeze()
