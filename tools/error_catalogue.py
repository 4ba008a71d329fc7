"""Finds the sentences that people are told when something is wrong, in the code that says them; for docs/errors.md."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Where people meet a message: the parts of the package that say it. The first that fits counts.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("cli/running", "cli/serve", "process", "oneprocess", "tracing", "spool", "segments", "worker"),
    "Settings": ("settings", "cli/entry"),
    "Recipes": (
        "recipes", "steps", "conditions", "documents", "text", "library", "choosing", "purposes", "shapes", "program", "engine",
        "events", "rehearsal", "playing", "simulation", "plans", "previews", "drafting", "outline", "samples",
        "cli/recipes", "cli/writing", "cli/simulating", "cli/planning", "cli/previewing",
    ),
    "Connections": ("connections", "backfills", "vault", "rewrap", "pepper", "cli/connect", "cli/apps", "cli/fields"),
    "Plugins": ("plugins", "guests", "scaffold", "connector", "catalogue", "hookspecs", "cli/plugins", "cli/trying"),
    "Database": ("store", "cli/database"),
    "Webhooks": ("ingest", "api/webhooks"),
    "REST API": ("api", "apikeys"),
    "Calls to vendors": (
        "http", "reach", "fresh", "runs", "batches", "errands", "sources", "subscribing", "forgetting", "limits", "breaker",
        "deadline",
    ),
    "Commands": ("cli", "pauses", "spending", "retries", "replays", "retention", "erasing", "merging", "timetravel", "clock"),
}  # fmt: skip
# Nobody who runs a hub reads these: an author's own tests, the demo, and failures that tests ask for.
_OTHERS = ("testing", "demo", "seams")
# What collects an error instead of raising it.
_REPORTERS = {"report": "RecipeError", "_report": "RecipeError", "refused": "RecipeError"}
# Not of the hub's own tree: wrong usage, and a refused request.
_FOREIGN = {
    "BadParameter": "Wrong usage: correct the command; `--help` behind it says how it is used.",
    "HTTPException": "Correct the request.",
}
# After a colon, what to do begins so.
_TOLD = re.compile(r": (?=(?:set|start|begin|give|say|register|pip install|upgrade) )")
# In a message they stand for what may not be there.
_SUGGESTS = "nearest"


@dataclass(frozen=True)
class Message:
    """A sentence as it is said, with … where something of the case is filled in; `mend` is what to do about it."""

    section: str
    error: str
    text: str
    mend: str


def error_classes() -> dict[str, type[Exception]]:
    """The hub's own errors by name, in the order of their source."""
    from hub import errors
    from hub.text import TextError

    found = {
        name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, errors.HubError)
    }
    return found | {"TextError": TextError}


def said(error: type[Exception]) -> tuple[str, str]:
    """What happened and what to do: the first sentence of a docstring's first paragraph, and the others."""
    paragraph = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
    first, _, rest = paragraph.partition(". ")
    return first.rstrip("."), rest


def messages() -> list[Message]:
    """Every message, by section and then as it stands in the code; the same one once. Raises SystemExit for code of no section."""
    found: dict[tuple[str, str], Message] = {}
    for file in sorted((ROOT / "hub").rglob("*.py")):
        part = file.relative_to(ROOT / "hub").with_suffix("").as_posix()
        for error, text in _in_file(file):
            message = Message(_section(part), error, *_parted(error, text))
            if part.split("/")[0] not in _OTHERS:
                found.setdefault((message.section, message.text), message)
    order = list(SECTIONS)
    return sorted(found.values(), key=lambda message: order.index(message.section))


def _section(part: str) -> str:
    for section, parts in SECTIONS.items():
        if any(part == one or part.startswith(f"{one}/") for one in parts):
            return section
    if part.split("/")[0] in _OTHERS:
        return ""
    raise SystemExit(f"hub/{part}.py tells people of errors: name its section in tools/error_catalogue.py")


def _in_file(file: Path) -> Iterator[tuple[str, str]]:
    known = {*error_classes(), *_FOREIGN}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            error = _REPORTERS.get(name, name)
            if error in known:
                text = next((text for argument in node.args if (text := _text(argument)) and " " in text.strip()), "")
                if text:
                    yield error, text


def _text(node: ast.expr) -> str:
    """A text as it will read, … for what is filled in; empty for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""


def _filled(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == _SUGGESTS:
        return "; did you mean …?"
    if isinstance(value, ast.IfExp):
        return "…" if _text(value.body) != "s" else "(s)"
    return "…"


def _parted(error: str, text: str) -> tuple[str, str]:
    """What happened, and what to do: of the message where it says so, else of its kind of error."""
    text = re.sub(r"\s+", " ", text).strip()
    what, sign, mend = text.partition("; ")
    if not sign and (found := _TOLD.search(text)):
        what, mend = text[: found.start()], text[found.end() :]
    if not mend:
        mend = _FOREIGN[error] if error in _FOREIGN else said(error_classes()[error])[1]
    return what, mend
