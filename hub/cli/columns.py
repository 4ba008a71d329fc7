"""How wide the columns of a table are, and where a cell goes on in the next line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
_TIMES = ("at", "minute")
# What people copy: never broken over lines.
_WHOLE = ("id", "name", "webhook_url")
# A column of words no longer than this takes so little room that breaking them gains nothing.
_SHORT = 12
_SPACES = re.compile(r"[^ ]*(?: +|$)")
# What is longer than this and no word, such as a token in an event's data, is broken anywhere.
_LONG = 40
# Behind these a line may end, but for days and hours; behind an underscore only where nothing else helps, as it joins what
# is one name.
_BREAKS = re.compile(r"\d{4}-\d\d-\d\d *|\d\d:\d\d:\d\d *|[^ ./,:;@=-]*(?:[ ./,:;@=-]+|$)")
_MORE_BREAKS = re.compile(r"\d{4}-\d\d-\d\d *|\d\d:\d\d:\d\d *|[^ ./,:;@=_-]*(?:[ ./,:;@=_-]+|$)")


def is_time(key: str) -> bool:
    """Whether a column of this key holds instants."""
    return key in _TIMES or key.endswith("_at")


def layout(
    columns: Mapping[str, str], cells: Mapping[str, Sequence[str]], width: int
) -> tuple[dict[str, int], dict[str, re.Pattern[str]]]:
    """The width of each column and where its cells are broken, so that all fit if they can.

    What gives way first: long texts, between words; then times, between day and hour; then long texts, within addresses and
    dotted names; then short words; then the column with the longest name, at underscores. Ids, names and webhook addresses
    never do.
    """
    texts = {key: [*cells[key], name] for key, name in columns.items()}
    full = {key: max(map(cell_len, texts[key])) for key in columns}
    brief = {key for key in columns if all(cell_len(cell) <= _SHORT for cell in cells[key])}
    times = {key for key in columns if is_time(key)}
    room = width - GAP * (len(columns) - 1)
    ways = (
        (brief | times, _SPACES),
        (brief, _SPACES),
        (brief | times, _BREAKS),
        (brief, _BREAKS),
        (set[str](), _BREAKS),
    )
    for kept, where in ways:
        least = {key: full[key] if key in kept or key in _WHOLE else _longest(texts[key], where) for key in columns}
        if sum(least.values()) <= room:
            break
    breaks = dict.fromkeys(columns, where)
    for key in sorted(columns.keys() - set(_WHOLE), key=lambda key: -least[key]):
        if sum(least.values()) <= room:
            break
        breaks[key] = _MORE_BREAKS
        least[key] = _longest(texts[key], _MORE_BREAKS)
    return _shared_out(least, full, room - sum(least.values())), breaks


def _longest(texts: Sequence[str], breaks: re.Pattern[str]) -> int:
    pieces = (piece.rstrip() for text in texts for piece in breaks.findall(text))
    return min(max(map(cell_len, pieces), default=0), _LONG)


def _shared_out(least: Mapping[str, int], full: Mapping[str, int], spare: int) -> dict[str, int]:
    """The room that is left goes to whoever would need the most lines."""
    widths = dict(least)
    for _ in range(spare):
        needy = [key for key in widths if widths[key] < full[key]]
        if not needy:
            break
        widths[max(needy, key=lambda key: full[key] / max(1, widths[key]))] += 1
    return widths


def wrapped(text: str, width: int, breaks: re.Pattern[str]) -> list[str]:
    """A cell's lines, each as long as fits; only a piece that is longer than the column is broken anywhere."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in breaks.findall(paragraph):
            if line and cell_len(line) + cell_len(piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            while cell_len(piece.rstrip()) > width > 1:
                head = set_cell_size(piece, width).rstrip()
                lines.append(head)
                piece = piece[len(head) :]
            line += piece
        lines.append(line.rstrip())
    return lines
