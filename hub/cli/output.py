"""How commands answer: tables and records for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub.cli.columns import GAP, is_time, layout, wrapped
from hub.errors import HubError, RecipeErrors

if TYPE_CHECKING:
    from hub.events import Json
    from hub.outline import Line

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _an_id(value: str | None) -> str | None:
    if value is not None and not _ID.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no id; give the last one of the page before, as it stands there")
    return value


Before = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Go on after this id: the last one of the page before.", callback=_an_id),
]

# What a pipe or a file gets, which have no width of their own.
_WIDTH = 100
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@|(?<=[?&])(password)=[^&]*")


def console(*, error: bool = False) -> Console:
    """Where text for people goes. Data is never read as markup."""
    stream = sys.stderr if error else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )


def say(*lines: str, style: str = "") -> None:
    """Lines of text for people."""
    out = console()
    for line in lines:
        out.print(Text(plain(line), style=style), soft_wrap=True)


def note(line: str) -> None:
    """A remark beside the answer, on standard error, so that pipes get the answer only."""
    console(error=True).print(Text(plain(line), style="dim"), soft_wrap=True)


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """What a long command is at, in one line on standard error, where somebody looks at it; gone when it is done."""
    with console(error=True).status(first) as shown:
        yield lambda now: shown.update(plain(now))


def counted(number: int, thing: str) -> str:
    """`1 recipe`, `2 recipes`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def confirm(question: str, *, yes: bool, why: str = "this cannot be taken back") -> None:
    """Ask before something that has lasting effects; without a terminal only `--yes` does it."""
    if yes:
        return
    if not sys.stdin.isatty():
        print_error(f"{why}, and there is no terminal to ask; add --yes to do it")
        raise typer.Exit(2)
    typer.confirm(question, abort=True)


def print_json(value: Json) -> None:
    """A value as indented JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_error(error: HubError | str) -> None:
    """An error in red on standard error; of several places of a recipe each on its own line as FILE:LINE."""
    err = console(error=True)
    lines = _places(error) if isinstance(error, RecipeErrors) else str(error).splitlines() or [""]
    for line in lines:
        err.print(Text.assemble(("error:", "bold red"), " ", plain(line)), soft_wrap=True)


def _places(error: RecipeErrors) -> list[str]:
    """Each place that is wrong, as editors and terminals make it clickable: `FILE:LINE: what (at PATH)`."""
    return [
        f"{e.file or 'recipe'}:{e.line or 1}: {e.reason}{f' (at {e.path})' if e.path else ''}" for e in error.errors
    ]


def show_list(
    rows: Sequence[Mapping[str, Json]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    empty: str,
    limit: int | None = None,
) -> None:
    """A list as JSON or as a table with `columns` (key to title); says `empty` when there is nothing.

    A list as long as `limit` ends with how to go on.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        note(empty)
        return
    show_table(rows, columns)
    if limit is not None and len(rows) == limit and "id" in rows[-1]:
        note(f"there may be more: add --before {rows[-1]['id']}")


def show_table(rows: Sequence[Mapping[str, Json]], columns: Mapping[str, str], *, title: str = "") -> None:
    """Rows under column titles, after an empty line and `title` where one is given.

    Words are never broken, ids, names and addresses stay in one line. What cannot be narrow enough is wider than the
    terminal rather than cut off.
    """
    out = console()
    if title:
        out.print(Text(f"\n{title}", style="bold"))
    cells = {key: [plain(_words(key, row.get(key))) for row in rows] for key in columns}
    widths, breaks = layout(columns, cells, out.width)
    out.width = max(out.width, sum(widths.values()) + GAP * (len(widths) - 1))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold cyan")
    for key, name in columns.items():
        table.add_column("\n".join(wrapped(name, widths[key], breaks[key])), width=widths[key], no_wrap=True)
    for n in range(len(rows)):
        table.add_row(*(Text("\n".join(wrapped(cells[key][n], widths[key], breaks[key]))) for key in columns))
    out.print(table)


def show_record(record: Mapping[str, Json], titles: Mapping[str, str]) -> None:
    """The fields of one thing that have a value, each on a line under its title."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for key, title in titles.items():
        if record.get(key) not in (None, "", [], {}):
            table.add_row(title, _cell(key, record[key]))
    console().print(table)


def show_tree(line: Line) -> None:
    """A recipe's tree, each step with its id."""
    from rich.tree import Tree

    def grow(tree: Tree, line: Line) -> None:
        for one in line.under:
            label = Text(plain(one.text))
            if one.id is not None:
                label.append(f"  [{one.id}]", style="dim")
            grow(tree.add(label), one)

    whole = Tree(Text(plain(line.text), style="bold"), guide_style="dim")
    grow(whole, line)
    console().print(whole)


def plain(text: str) -> str:
    """Text that cannot steer a terminal: what vendors send may hold control characters."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def without_password(url: str) -> str:
    """A URL with its passwords starred out."""
    return _PASSWORD.sub(lambda m: f"{m[2]}=***" if m[2] else f"{m[1]}:***@", url)


def _cell(key: str, value: Json) -> Text:
    return Text(plain(_words(key, value)))


def _words(key: str, value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_words("", item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_words('', item)}" for name, item in value.items())
    if is_time(key):
        return f"{datetime.fromisoformat(str(value)):%Y-%m-%d %H:%M:%S}"
    return str(value)
