"""The fields of connections and apps on the command line: given, asked for, and secrets shown without their value."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import note, show_table

if TYPE_CHECKING:
    from hub import shown
    from hub.connector import Connector, Field

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no name; use small letters, digits and -, at most 63")
    return value


ConnectorName = Annotated[str, typer.Argument(metavar="CONNECTOR", help="Such as shopify; `hub plugins` lists them.")]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="What recipes call it.", callback=_name)]
Given = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field's value; FIELD=- reads a line from standard input."),
]
FromEnv = Annotated[
    list[str] | None,
    typer.Option("--secret-from-env", metavar="FIELD=VAR", help="Take a field from an environment variable."),
]


def values_of(given: Sequence[str] | None, from_env: Sequence[str] | None) -> dict[str, str]:
    """The values of `--set` and `--secret-from-env` by field."""
    values = {}
    for name, value in _pairs("--set", given):
        values[name] = sys.stdin.readline().rstrip("\r\n") if value == "-" else value
    for name, variable in _pairs("--secret-from-env", from_env):
        if variable not in os.environ:
            raise typer.BadParameter(
                f"the environment variable {variable} is not set; set it, or name another one",
                param_hint="--secret-from-env",
            )
        values[name] = os.environ[variable]
    return values


def pair(text: str, form: str, option: str | None = None) -> tuple[str, str]:
    """A name and its value, either side of the `=`. Raises BadParameter with the form to write it in."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        # What was typed may be a secret, so it is not repeated.
        raise typer.BadParameter(f"write {form}", param_hint=option)
    return name, value


def _pairs(option: str, given: Sequence[str] | None) -> list[tuple[str, str]]:
    form = f"{option} FIELD={'VAR' if option == '--secret-from-env' else 'VALUE'}"
    return [pair(one, form, option) for one in given or ()]


def ask_secrets(fields: Iterable[Field], given: Mapping[str, str]) -> dict[str, str]:
    """Ask for required secrets that were not given, without echo, if somebody is there to answer."""
    if not sys.stdin.isatty():
        return {}
    missing = [f for f in fields if f.secret and f.required and f.name not in given]
    return {f.name: typer.prompt(f"{f.title} ({f.name})", hide_input=True) for f in missing}


def remark_on_secrets(connector: Connector, given: Sequence[str] | None) -> None:
    """Say so when a secret was given where the shell keeps it."""
    from hub.connections import app_fields

    fields = app_fields(connector)
    fields |= {f.name: f for kind in connector.auth for f in (*connector.fields, *kind.fields)}
    shown = [name for name, value in _pairs("--set", given) if value != "-" and name in fields and fields[name].secret]
    if shown:
        note(
            f"{', '.join(shown)} stood on the command line, where your shell keeps it; "
            "next time use --secret-from-env FIELD=VAR or --set FIELD=-"
        )


def show_secrets(secrets: Sequence[shown.StoredSecret]) -> None:
    """A table of what there is of secrets; nothing where there can be none."""
    rows = [{"name": one["name"], "state": _state_of(one)} for one in secrets]
    if rows:
        show_table(rows, {"name": "secret", "state": "state"}, title="Secrets")


def _state_of(secret: shown.StoredSecret) -> str:
    if not secret["set"]:
        return "not set"
    return f"set, ends with {secret['ends_with']}" if secret["ends_with"] else "set"
