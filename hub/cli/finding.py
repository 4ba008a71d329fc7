"""A recipe as people name it: a file, or the name of one that the hub has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import current_settings, database_file, with_hub
from hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hub.process import Hub
    from hub.purposes import Purpose

TEST = ".test.yaml"

NameOrFile = Annotated[str, typer.Argument(metavar="NAME|FILE")]


@dataclass(frozen=True)
class Found:
    """A recipe's text and the purposes it may name; `file` None: the hub's own."""

    source: str
    file: str | None
    purposes: Mapping[str, Purpose]


def is_file(name: str) -> bool:
    """Whether a file is meant: names of recipes have neither a dot nor a slash."""
    return "/" in name or "." in name


def there_is_a_hub() -> bool:
    """Whether a database was made, so that asking it makes sense."""
    file = database_file(current_settings())
    return file is None or file.exists()


def read_file(name: str) -> tuple[str, dict[str, Purpose] | None]:
    """A recipe file's text, and the purposes beside it if there are any. Raises ConfigError."""
    from hub.documents import text_of
    from hub.library import PURPOSES_FILE
    from hub.purposes import load_purposes

    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; `hub recipes list` shows the recipes that the hub has")
    beside = path.parent / PURPOSES_FILE
    purposes = load_purposes(text_of(beside), file=str(beside)) if beside.is_file() else None
    return text_of(path), purposes


async def find(hub: Hub, name: str) -> Found:
    """A recipe by name or file, with the hub's purposes where no others lie beside it. Raises ConfigError, RecipeErrors."""
    known = await hub.library.purposes()
    if not is_file(name):
        return Found(await hub.library.source(name), None, known)
    source, purposes = read_file(name)
    return Found(source, name, {**known, **(purposes or {})})


def find_without_hub(name: str) -> Found:
    """As `find`; a file needs no database. Raises ConfigError, RecipeErrors, StoreError."""
    if not is_file(name) or there_is_a_hub():
        return with_hub(lambda hub: find(hub, name))
    source, purposes = read_file(name)
    return Found(source, name, purposes or {})


def without_tests(paths: Iterable[Path]) -> list[Path]:
    """What a shell's `*.yaml` matches holds recipe tests, too, which are no recipes."""
    return [path for path in paths if not path.name.endswith(TEST)]
