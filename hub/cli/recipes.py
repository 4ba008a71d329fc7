"""Commands for recipes: check, save, publish, pause, look at, test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import run, with_hub
from hub.cli.output import AsJson, note, print_error, print_json, say, show_list
from hub.errors import ConfigError, RecipeError, RecipeErrors

if TYPE_CHECKING:
    from hub.events import Json
    from hub.library import Change
    from hub.process import Hub
    from hub.purposes import Purpose
    from hub.rehearsal import TestReport

_TEST = ".test.yaml"

Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]

recipes = typer.Typer(help="Recipes: check, publish, pause, test.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(recipes, name="recipes", rich_help_panel="Automate")


@recipes.command("validate")
def validate(paths: Paths, as_json: AsJson = False) -> None:
    """Check recipe files without a database; every mistake is shown as FILE:LINE."""
    from hub.library import load_files
    from hub.plugins import load_plugins

    catalogue = load_plugins(quarantine=True).catalogue
    errors: tuple[RecipeError, ...] = ()
    try:
        _, found = load_files(_without_tests(paths), catalogue)
    except RecipeErrors as error:
        errors, found = error.errors, {}
    if as_json:
        print_json(
            {
                "recipes": sorted(found),
                "errors": [{"file": e.file, "line": e.line, "path": e.path, "detail": e.reason} for e in errors],
            }
        )
    elif errors:
        print_error(RecipeErrors(errors))
    else:
        say(f"{_counted(len(found), 'recipe')} checked, nothing wrong: {', '.join(sorted(found)) or 'none found'}")
    if errors:
        raise typer.Exit(1)


@recipes.command("apply")
def apply(
    paths: Paths,
    publish: Annotated[bool, typer.Option("--publish", help="Make them live at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save recipe files as drafts, purposes first. If anything is wrong, nothing is saved."""

    async def apply_all(hub: Hub) -> list[Change]:
        from hub.library import PURPOSES_FILE, recipe_files

        sources = {path: _read(path) for path in recipe_files(_without_tests(paths))}
        await _check_all(hub, sources)
        changes = []
        for path, source in sources.items():
            if path.name == PURPOSES_FILE:
                await hub.library.apply_purposes(source, file=str(path))
            else:
                changes.append(await hub.library.apply(source, file=str(path), publish=publish))
        hub.ring()
        return changes

    changes = with_hub(apply_all)
    if as_json:
        print_json([vars(change) for change in changes])
        return
    for change in changes:
        say(_changed(change, saved=not publish))
    if not changes:
        note("there was no recipe in what was given")


async def _check_all(hub: Hub, sources: dict[Path, str]) -> None:
    """Raise RecipeErrors with everything that is wrong in any of the files."""
    from hub.library import PURPOSES_FILE
    from hub.purposes import load_purposes

    purposes: dict[str, Purpose] = {}
    errors: list[RecipeError] = []
    for path, source in sources.items():
        try:
            if path.name == PURPOSES_FILE:
                purposes |= load_purposes(source, file=str(path))
            else:
                await hub.library.check(source, file=str(path), more_purposes=purposes)
        except RecipeErrors as error:
            errors += error.errors
    if errors:
        raise RecipeErrors(errors)


@recipes.command("publish")
def publish(name: Name, as_json: AsJson = False) -> None:
    """Make a recipe's draft live, or let a paused recipe go on."""
    _report(with_hub(lambda hub: hub.library.publish(name)), as_json=as_json)


@recipes.command("pause")
def pause(name: Name, as_json: AsJson = False) -> None:
    """Start no new runs of a recipe; those inside go on."""
    _report(with_hub(lambda hub: hub.library.pause(name)), as_json=as_json)


@recipes.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """Every recipe: state, live version, whether there is a newer draft."""

    async def rows(hub: Hub) -> list[dict[str, Json]]:
        from hub.clock import rfc3339

        return [
            {
                "name": row["name"],
                "state": row["state"],
                "version": row["version"],
                "draft": row["draft"] is not None,
                "updated_at": rfc3339(row["updated_at"]),
            }
            for row in await hub.library.all()
        ]

    columns = {
        "name": "recipe",
        "state": "state",
        "version": "version",
        "draft": "newer draft",
        "updated_at": "changed (UTC)",
    }
    show_list(with_hub(rows), columns, as_json=as_json, empty="no recipes yet; add them with `hub recipes apply`")


@recipes.command("show")
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="A published version instead of the newest text.")] = None,
    as_json: AsJson = False,
) -> None:
    """A recipe's text as written, of its draft if there is one."""

    async def find(hub: Hub) -> dict[str, Json]:
        from hub.clock import rfc3339
        from hub.store.views import NotThere

        rows = await hub.library.versions(name)
        sources = {row["version"]: str(row["source"]) for row in rows}
        if version is not None and version not in sources:
            known = ", ".join(map(str, sources)) or "none is published yet"
            raise NotThere(f"the recipe {name} has no version {version}; versions: {known}")
        return {
            "name": name,
            "source": await hub.library.source(name) if version is None else sources[version],
            "versions": [
                {"version": row["version"], "published_at": rfc3339(row["published_at"]), "inside": row["inside"]}
                for row in rows
            ],
        }

    found = with_hub(find)
    if as_json:
        print_json(found)
        return
    print(found["source"].rstrip("\n"))
    for one in found["versions"]:
        inside = _counted(one["inside"], "run")
        note(f"version {one['version']} was published at {one['published_at']}, {inside} inside")


@recipes.command("test")
def run_tests(
    paths: Paths,
    trace: Annotated[bool, typer.Option("--trace", help="Show every step of passed cases, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rehearse recipe tests (*.test.yaml) on a clock of their own; nothing leaves the machine."""

    async def rehearse() -> list[TestReport]:
        from hub.plugins import load_plugins
        from hub.rehearsal import run_test_file

        plugins = load_plugins(quarantine=True)
        return [await run_test_file(file, plugins) for file in _test_files(paths)]

    reports = run(rehearse())
    cases = [(report.file, case) for report in reports for case in report.cases]
    failed = sum(not case.passed for _, case in cases)
    if as_json:
        print_json([{"file": file, "passed": case.passed, **vars(case)} for file, case in cases])
    else:
        for file, case in cases:
            say(
                f"{'passed' if case.passed else 'FAILED'}  {file}: {case.name}", style="green" if case.passed else "red"
            )
            say(*(f"        {problem}" for problem in case.problems))
            if trace or not case.passed:
                say(*(f"        | {line}" for line in case.trace), style="dim")
        say(f"{_counted(len(cases), 'case')}, {failed} failed")
    if failed:
        raise typer.Exit(1)


@recipes.command("schema")
def schema() -> None:
    """The JSON Schema of a recipe file, for editors."""
    from hub.recipes import json_schema

    print_json(json_schema())


def _report(change: Change, *, as_json: bool) -> None:
    if as_json:
        print_json(vars(change))
    else:
        say(_changed(change))


def _changed(change: Change, *, saved: bool = False) -> str:
    """What was done to a recipe, in one line."""
    if saved:
        live = f"version {change.version} stays {change.state}; " if change.version else ""
        return f"{change.name}: draft saved; {live}`hub recipes publish {change.name}` makes it live"
    again = ", as it was already" if change.unchanged else ""
    return f"{change.name}: {change.state}, version {change.version}{again}"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _without_tests(paths: Iterable[Path]) -> list[Path]:
    """What a shell's `*.yaml` matches holds recipe tests, too, which are no recipes."""
    return [path for path in paths if not path.name.endswith(_TEST)]


def _test_files(paths: Iterable[Path]) -> list[Path]:
    """The test files among files and folders. Raises ConfigError when there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {path}; give the path of one that is there")
        found += sorted(path.rglob(f"*{_TEST}")) if path.is_dir() else [path]
    if not found:
        raise ConfigError(f"there is no recipe test in {', '.join(map(str, paths))}; they are named *{_TEST}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeErrors([RecipeError(f"the file cannot be read: {error}", file=str(path))]) from error
