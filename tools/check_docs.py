"""Checks that the documentation says what is true; `make check` runs it. Prints FILE:LINE: what is wrong, and exits 1.

Generated pages are fresh, links lead somewhere, recipes in ```yaml blocks are valid, and what stands in code marks exists:
commands with their options, paths of the REST API, settings, targets of `make`, files, tests.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, only its own folder is there

from tools.make_docs import command_tree, left_over, pages  # noqa: E402

# What a plugin's README answers for, in these words.
CHECKLIST = ("verified webhook", "dedupe", "error map", "idempotency", "rate limit", "sandbox", "consent")
_FENCE = re.compile(r"^\s*```(.*)$")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?:hub|plugins|tests|tools|docs|recipes|bench)/[\w./-]*[\w/]")
_COMMAND = re.compile(r"(?:^|(?<=[\s(;&|]))(?:\.venv/bin/)?hub ((?:[a-z-]|\"[^\"]*\"|[^\s`|;&>#\"])[^`|;&>#\n]*)")
_ROUTE = re.compile(r"(?<![\w.-])/(?:api/v1|health|webhooks)(?:/[\w{}.:-]+)*")
_VARIABLE = re.compile(r"\bHUB_[A-Z_]*[A-Z]\b")
_MAKE = re.compile(r"(?:^|&& |; )make ([\w-]+)")
_TEST = re.compile(r"\btest_\w+")
# Read by the tests, the command line or its shell; not settings of the hub.
_OTHER_VARIABLES = {"HUB_DEBUG", "HUB_API_KEY", "HUB_TEST_DATABASE_URL", "HUB_TEST_REDIS_URL", "HUB_TEST_WAITING"}


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence (`yaml recipe`), its text, and the line it begins on."""

    info: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """A Markdown file, taken apart."""

    path: Path
    blocks: tuple[Block, ...]
    prose: tuple[tuple[int, str], ...]

    @property
    def code(self) -> Iterator[tuple[int, str]]:
        """What is marked as code and not a program: (line, text)."""
        for number, text in self.prose:
            for found in _CODE.finditer(text):
                yield number, found[1]
        for block in self.blocks:
            if block.info.split(" ")[0] in {"", "sh", "text"}:
                for offset, text in enumerate(block.text.splitlines(), 1):
                    yield block.line + offset, text


def read(path: Path) -> Page:
    """A page's fenced blocks and its other lines."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    inside: list[str] | None = None
    info, start = "", 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is not None and fence:
            blocks.append(Block(info, "\n".join(inside) + "\n", start))
            inside = None
        elif inside is not None:
            inside.append(line)
        elif fence:
            inside, info, start = [], fence[1].strip(), number
        else:
            prose.append((number, line))
    return Page(path, tuple(blocks), tuple(prose))


def all_pages() -> list[Page]:
    """Every page of the documentation: the repository's, docs/ and the plugins' READMEs."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
    return [read(path) for path in sorted(found)]


Problem = tuple[Path, int, str]


# -- the checks --------------------------------------------------------------------------------------------------------


def stale(_: Page | None = None) -> Iterator[Problem]:
    """Generated pages that no longer say what the code says."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, 1, "this page is generated and out of date; run `python tools/make_docs.py`"
    for path in left_over():
        yield path, 1, "there is no such connector in plugins; run `python tools/make_docs.py`"


def broken_links(page: Page) -> Iterator[Problem]:
    """Relative links to files or headings that are not there."""
    for number, text in page.prose:
        for target in _LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.path.parent / name).resolve() if name else page.path
            if not file.exists():
                yield page.path, number, f"the link {target} leads nowhere"
            elif anchor and file.suffix == ".md" and anchor not in _anchors(file):
                yield page.path, number, f"the link {target} names a heading that {file.name} does not have"


@cache
def _anchors(file: Path) -> frozenset[str]:
    headings = [text.lstrip("#").strip() for _, text in read(file).prose if text.startswith("#")]
    return frozenset(re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings)


def wrong_recipes(page: Page) -> Iterator[Problem]:
    """Marked yaml blocks (`yaml recipe`, `yaml steps`, …) that the hub would refuse."""
    from hub.errors import HubError, RecipeErrors

    purposes: dict[str, Any] = {}
    for block in page.blocks:
        check = _RECIPE_KINDS.get(block.info)
        if check is None:
            continue
        try:
            check(block.text, purposes)
        except RecipeErrors as errors:
            for error in errors.errors:
                yield page.path, block.line, f"{block.info}: {error.reason} (at {error.path})"
        except HubError as error:
            yield page.path, block.line, str(error)


_ON = "on: {event: shopify.checkout_abandoned}"
_FIRST_STEP = '{do: sms.send, as: reminder, purpose: cart, with: {to: "{{ contact.phone }}", body: Hello}}'


def _check_recipe(text: str, purposes: dict[str, Any]) -> None:
    from hub.recipes import load

    load(text, catalogue(), purposes=purposes or None)


def _check_steps(text: str, purposes: dict[str, Any]) -> None:
    """Steps, put into a recipe."""
    steps = "\n".join(f"  {line}" for line in text.splitlines())
    _check_recipe(f"recipe: example\n{_ON}\nsteps:\n{steps}\n", purposes)


def _check_top(text: str, purposes: dict[str, Any]) -> None:
    """What stands at the top of a recipe, with a recipe around it."""
    start = "" if text.startswith("on:") else f"{_ON}\n"
    _check_recipe(f"recipe: example\n{start}{text}\nsteps:\n  - {_FIRST_STEP}\n", purposes)


def _check_lines(text: str, purposes: dict[str, Any]) -> None:
    """Alternatives for the top of a recipe, one a line."""
    for line in text.splitlines():
        _check_top(line, purposes)


def _check_conditions(text: str, purposes: dict[str, Any]) -> None:
    """Conditions, one a line."""
    for line in text.splitlines():
        _check_steps(f"- if: {line}\n  then: [{{wait: 1h}}]", purposes)


def _check_purposes(text: str, purposes: dict[str, Any]) -> None:
    from hub.purposes import load_purposes

    purposes |= load_purposes(text)


def _check_test(text: str, _: dict[str, Any]) -> None:
    from pydantic import ValidationError

    from hub.documents import read as read_yaml
    from hub.errors import ConfigError
    from hub.rehearsal import TestFile

    try:
        TestFile.model_validate(read_yaml(text).value)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{e['loc']}: {e['msg']}" for e in error.errors())) from error


_RECIPE_KINDS: dict[str, Callable[[str, dict[str, Any]], None]] = {
    "yaml recipe": _check_recipe,
    "yaml steps": _check_steps,
    "yaml top": _check_top,
    "yaml lines": _check_lines,
    "yaml conditions": _check_conditions,
    "yaml purposes": _check_purposes,
    "yaml test": _check_test,
}


@cache
def catalogue() -> Any:
    """What the installed plugins offer."""
    from hub.plugins import load_plugins

    return load_plugins().catalogue


def unknown_commands(page: Page) -> Iterator[Problem]:
    """Commands, and options of commands, that `hub` does not have."""
    for number, text in page.code:
        for found in _COMMAND.finditer(text):
            problem = _wrong_command(found[1])
            if problem:
                yield page.path, number, problem


def _wrong_command(line: str) -> str | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    command, path = _tree(), ["hub"]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    if hasattr(command, "commands") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        return f"there is no command `{' '.join(path)} {words[0]}`"
    known = {name for one in (command, _tree()) for p in one.params for name in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option != "--" and option not in known:
            return f"`{' '.join(path)}` has no option {option}"
    return None


@cache
def _tree() -> Any:
    return command_tree()


def unknown_routes(page: Page) -> Iterator[Problem]:
    """Paths of the REST API that it does not have."""
    lines = [*page.prose, *((b.line + n, text) for b in page.blocks for n, text in enumerate(b.text.splitlines(), 1))]
    for number, text in lines:
        for path in _ROUTE.findall(text):
            if not any(route.fullmatch(path) for route in _routes()):
                yield page.path, number, f"the API has no path {path}"


@cache
def _routes() -> tuple[re.Pattern[str], ...]:
    from hub.api.app import make_app

    # Only its routes are looked at; no request is made.
    app = make_app(cast("Any", None))
    paths = {*app.openapi()["paths"], str(app.openapi_url), "/webhooks/{connector}/{key}", "/webhooks", "/api/v1"}
    return tuple(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))) for path in paths)


def unknown_settings(page: Page) -> Iterator[Problem]:
    """Environment variables that mean nothing to the hub."""
    from hub.settings import Settings

    known = {f"HUB_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    for number, text in page.code:
        for name in _VARIABLE.findall(text):
            if name not in known:
                yield page.path, number, f"there is no setting {name}"


def missing_files(page: Page) -> Iterator[Problem]:
    """Files of the repository, and tests, that are named and not there. A vendor's own field may be named like a test.

    A page that shows a whole file names it behind the fence (`python hub_acme/triggers.py`), and may speak of it.
    """
    shown = {block.info.partition(" ")[2] for block in page.blocks}
    for number, text in page.prose:
        for found in _CODE.finditer(text):
            name = found[1]
            if name in shown:
                continue
            if _PATH.fullmatch(name) and not (ROOT / name).exists() and not (page.path.parent / name).exists():
                yield page.path, number, f"there is no file {name}"
            if _TEST.fullmatch(name) and name not in _tests() | _fields():
                yield page.path, number, f"there is no test {name}"


@cache
def _tests() -> frozenset[str]:
    files = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/*/tests/*.py")]
    return frozenset(
        name
        for file in files
        for name in [*re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8")), file.stem]
        if name.startswith("test_")
    )


@cache
def _fields() -> frozenset[str]:
    connectors = catalogue().connectors.values()
    return frozenset(f.name for c in connectors for f in [*c.fields, *(one for kind in c.auth for one in kind.fields)])


def missing_checklist(page: Page) -> Iterator[Problem]:
    """Points of the checklist that a plugin's README does not answer with done, or exempt and why."""
    if page.path.parent.parent.name != "plugins":
        return
    rows = dict(re.findall(r"^\| *([\w ]+?) *\| *(.+?) *\|$", "\n".join(text for _, text in page.prose), re.M))
    for point in CHECKLIST:
        if not re.match(r"done|exempt.{10}", rows.get(point, "")):
            yield page.path, len(page.prose), f"the checklist does not say `done` or `exempt: why` for {point}"


def unknown_targets(page: Page) -> Iterator[Problem]:
    """Targets of `make` that the Makefile does not have."""
    for number, text in page.code:
        for found in _MAKE.findall(text):
            if found not in _targets():
                yield page.path, number, f"the Makefile has no target {found}"


@cache
def _targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


CHECKS: tuple[Callable[[Page], Iterable[Problem]], ...] = (
    broken_links,
    wrong_recipes,
    unknown_commands,
    unknown_routes,
    unknown_settings,
    unknown_targets,
    missing_files,
    missing_checklist,
)


def problems() -> list[str]:
    """Everything that is wrong, as FILE:LINE: what."""
    found = [*stale(), *(problem for page in all_pages() for check in CHECKS for problem in check(page))]
    return [f"{path.relative_to(ROOT)}:{line}: {what}" for path, line, what in found]


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = problems()
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
